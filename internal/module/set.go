package module

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/store"
)

// Set is the running features.
type Set struct {
	running   []Info
	iq        map[iqKey]IQFunc
	strangers map[iqKey]StrangerFunc
	provided  map[string]any
}

type iqKey struct {
	target       Target
	typ          string
	space, local string
}

func (k iqKey) String() string {
	return fmt.Sprintf("%s %s {%s}%s", k.target, k.typ, k.space, k.local)
}

// Sections are the configuration sections of features.
func Sections(all []Module) []config.Section {
	var sections []config.Section
	for _, m := range all {
		i := m.Info()
		sections = append(sections, config.Section{Name: i.Name, Doc: i.Doc, Defaults: i.Defaults, Enabled: !i.Off})
	}
	return sections
}

// Start migrates and starts the features that the configuration enables, those
// that are needed before those that need them.
func Start(ctx context.Context, all []Module, cfg *config.Config, core *Core, log *slog.Logger) (*Set, error) {
	order, err := arrange(all, cfg.Enabled)
	if err != nil {
		return nil, err
	}
	s := &Set{iq: map[iqKey]IQFunc{}, strangers: map[iqKey]StrangerFunc{}, provided: map[string]any{}}
	var migrations []store.Migrations
	for _, m := range order {
		if i := m.Info(); i.Schema != nil {
			migrations = append(migrations, store.Migrations{Module: i.Name, FS: i.Schema})
		}
		s.running = append(s.running, m.Info())
	}
	if err := core.DB.Migrate(ctx, migrations...); err != nil {
		return nil, err
	}
	for _, m := range order {
		name := m.Info().Name
		h := &Host{Core: core, Name: name, Log: log.With("feature", name), set: s}
		if err := m.start(h, cfg.Module(name)); err != nil {
			return nil, fmt.Errorf("start feature %s: %w", name, err)
		}
	}
	return s, nil
}

// arrange sorts the enabled modules so that each stands after what it needs.
func arrange(all []Module, enabled func(string) bool) ([]Module, error) {
	byName := map[string]Module{}
	for _, m := range all {
		byName[m.Info().Name] = m
	}
	var order []Module
	placed := map[string]bool{}
	var place func(m Module, path []string) error
	place = func(m Module, path []string) error {
		name := m.Info().Name
		if slices.Contains(path, name) {
			return fmt.Errorf("features need each other in a circle: %s", strings.Join(append(path, name), " → "))
		}
		if placed[name] {
			return nil
		}
		for _, need := range m.Info().Needs {
			n, ok := byName[need]
			if !ok || !enabled(need) {
				return fmt.Errorf("feature %s needs %s, which is not enabled: set %s.enabled = true or %s.enabled = false", name, need, need, name)
			}
			if err := place(n, append(path, name)); err != nil {
				return err
			}
		}
		placed[name] = true
		order = append(order, m)
		return nil
	}
	for _, m := range all {
		if enabled(m.Info().Name) {
			if err := place(m, nil); err != nil {
				return nil, err
			}
		}
	}
	return order, nil
}

// Handler finds who answers an iq; nil when nobody does.
func (s *Set) Handler(t Target, typ string, space, local string) IQFunc {
	return s.iq[iqKey{t, typ, space, local}]
}

// StrangerHandler finds who answers an iq before authentication; nil when nobody does.
func (s *Set) StrangerHandler(typ string, space, local string) StrangerFunc {
	return s.strangers[iqKey{0, typ, space, local}]
}

// Provided is what a running feature lends to others (Host.Provide), nil when it lends nothing.
func (s *Set) Provided(name string) any { return s.provided[name] }

// Running lists the features in the order of their start.
func (s *Set) Running() []Info { return s.running }
