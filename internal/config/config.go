// Package config reads the server's settings from a TOML file, the environment and the command line.
//
// Settings are Go structs that carry their defaults and, in tags, their names and documentation; doc/config.md and the
// commented file of `starling quickstart` are made from them. Where several sources name a setting, the stronger one
// counts: flag, --set key=value, environment, file, default. A variable of the environment is named
// STARLING_ and the key in upper case, with two underscores between levels: STARLING_LISTEN__C2S sets listen.c2s.
//
// Every key that nothing knows, every value of a wrong type or out of bounds is a Problem with its place and what to do;
// Load reports all of them at once. A loaded Config is never changed: a reload makes a new one and swaps the pointer.
//
// Tags of a field: toml (its key), doc (its meaning), and optionally min, max (numbers, sizes, durations) and oneof
// (texts, separated by commas). A field may be a bool, a number, a string, Secret, URL, Size, time.Duration, a type that
// implements encoding.TextUnmarshaler, a struct of these, or a list of any of them. A struct or value with a method
// Validate() error is checked by it after all sources are read; see Invalid.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

const (
	envPrefix    = "STARLING_"
	envFile      = "STARLING_CONFIG" // names the file itself and is read by the command line, not here
	envTests     = "STARLING_TEST_"  // begins the names of what the project's own tests are told
	maxFileBytes = 1 << 20
)

// Section is the part of the settings that belongs to a feature: the table [name] with the key enabled and the fields
// of the struct Defaults.
type Section struct {
	Name     string // the table's name
	Doc      string // one sentence
	Enabled  bool   // whether the feature is on when nothing is set
	Defaults any    // a struct value; nil if the feature has no settings
}

// Sources says where settings are read from. Only what is set is read.
type Sources struct {
	File      string            // name of the TOML file
	FileBytes []byte            // its content; if nil and File is not empty, the file is read
	Env       []string          // as os.Environ returns it; only names that begin with STARLING_ count
	Set       []string          // "key=value", from --set
	Flags     map[string]string // key to value, from flags of their own
}

// Config is a complete set of settings. It is never changed after Load; who holds one must not change it, either.
type Config struct {
	Core
	sections []*section // sorted by name
	sources  map[string]Source
}

// section is a feature's part of a Config.
type section struct {
	Section
	enabled bool
	value   reflect.Value // a copy of Defaults, addressable
}

// Load reads all sources and returns the settings, or an *Error with every problem. It panics if a section cannot be
// described in TOML or two have the same name, which are mistakes of the program.
func Load(src Sources, sections ...Section) (*Config, error) {
	c := newConfig(sections)
	l := &loader{root: c.root(), sources: c.sources}
	clean := l.readFile(src)
	l.readEnv(src.Env)
	l.readSet(src.Set)
	l.readFlags(src.Flags)
	if clean {
		c.prepareDomains(l.failFinal)
		l.validate(l.root, c.enabledKeys())
	}
	if len(l.problems) > 0 {
		sortProblems(l.problems)
		return nil, &Error{Problems: l.problems}
	}
	return c, nil
}

// newConfig returns the defaults.
func newConfig(sections []Section) *Config {
	c := &Config{Core: defaults(), sources: make(map[string]Source)}
	for _, s := range sections {
		if s.Defaults == nil {
			s.Defaults = struct{}{}
		}
		v := reflect.New(reflect.TypeOf(s.Defaults)).Elem()
		v.Set(deepCopy(reflect.ValueOf(s.Defaults)))
		c.sections = append(c.sections, &section{Section: s, enabled: s.Enabled, value: v})
	}
	slices.SortFunc(c.sections, func(a, b *section) int { return strings.Compare(a.Name, b.Name) })
	return c
}

// root returns the top level of the settings as a field.
func (c *Config) root() field {
	root := field{value: reflect.ValueOf(&c.Core).Elem()}
	for _, s := range c.sections {
		root.extra = append(root.extra, field{
			key: s.Name, name: s.Name, doc: s.Doc, value: s.value,
			extra: []field{{
				key: s.Name + ".enabled", name: "enabled", doc: "Whether this feature runs.",
				value: reflect.ValueOf(&s.enabled).Elem(),
			}},
		})
	}
	return root
}

// enabledKeys tells, for every section of a feature, whether the feature is on.
func (c *Config) enabledKeys() map[string]bool {
	on := make(map[string]bool, len(c.sections))
	for _, s := range c.sections {
		on[s.Name] = s.enabled
	}
	return on
}

// section returns the named section; it panics if Load was not given it.
func (c *Config) section(name string) *section {
	for _, s := range c.sections {
		if s.Name == name {
			return s
		}
	}
	panic("config: no section " + name)
}

// Module returns the settings of a feature: a value of the type of its Section.Defaults. The name must be one that
// Load was given.
func (c *Config) Module(name string) any { return c.section(name).value.Interface() }

// Enabled reports whether a feature runs. The name must be one that Load was given.
func (c *Config) Enabled(name string) bool { return c.section(name).enabled }

// readFile reads the TOML file and reports whether it could be read and understood as TOML.
func (l *loader) readFile(src Sources) bool {
	l.name, l.lines = src.File, nil
	data := src.FileBytes
	if data == nil && src.File != "" {
		info, err := os.Stat(src.File)
		if err == nil && info.Size() <= maxFileBytes {
			data, err = os.ReadFile(src.File)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			l.fail("", "no such file", "make one with `starling quickstart`, or name another")
			return false
		case err != nil:
			l.fail("", "cannot be read: "+err.Error(), "check its permissions")
			return false
		case info.Size() > maxFileBytes:
			l.fail("", "is longer than 1 MiB", "name the right file")
			return false
		}
	}
	table := make(map[string]any)
	if err := toml.Unmarshal(data, &table); err != nil {
		line, text := 0, err.Error()
		if de, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ = de.Position()
		}
		l.lines = map[string]int{"": line}
		l.fail("", "not TOML: "+strings.TrimPrefix(text, "toml: "), "correct this line; texts need quotes, as in name = \"text\"")
		return false
	}
	l.lines = lineNumbers(data)
	l.table(l.root, table)
	return true
}

// readEnv reads the variables that begin with STARLING_.
func (l *loader) readEnv(env []string) {
	l.env = true
	defer func() { l.env = false }()
	env = slices.Sorted(slices.Values(env)) // the order of problems must not depend on the order of the environment
	for _, pair := range env {
		name, text, _ := strings.Cut(pair, "=")
		suffix, ok := strings.CutPrefix(name, envPrefix)
		if !ok || name == envFile || strings.HasPrefix(name, envTests) || isServiceLink(suffix) {
			continue
		}
		l.name, l.lines = "environment "+name, nil
		l.text(strings.ToLower(strings.ReplaceAll(suffix, "__", ".")), text)
	}
}

// isServiceLink reports whether a variable is one that Kubernetes and Docker set in every container to tell where a
// service called "starling" is. They are not settings.
func isServiceLink(suffix string) bool {
	return suffix == "PORT" || strings.HasPrefix(suffix, "PORT_") || strings.HasPrefix(suffix, "SERVICE_")
}

func (l *loader) readSet(set []string) {
	for _, pair := range set {
		l.name, l.lines = "--set", nil
		key, text, ok := strings.Cut(pair, "=")
		if !ok {
			l.fail("", fmt.Sprintf("%q has no value", pair), "write --set key=value")
			continue
		}
		l.text(strings.TrimSpace(key), text)
	}
}

func (l *loader) readFlags(flags map[string]string) {
	keys := make([]string, 0, len(flags))
	for key := range flags {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		l.name, l.lines = "flag", nil
		l.text(key, flags[key])
	}
}
