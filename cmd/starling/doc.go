package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/starling-im/starling/internal/config"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/server"
)

// docCommand writes the pages that follow from the source.
type docCommand struct {
	Dir    string `default:"doc" help:"Folder to write to."`
	Source string `default:"." help:"Root of the source."`
}

// Run is called by the parser.
func (d *docCommand) Run(c *console) error {
	pages, err := generate(c, d.Source)
	if err != nil {
		return err
	}
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(d.Dir, p.name), p.text, 0o644); err != nil {
			return fmt.Errorf("write the documentation: %w", err)
		}
	}
	return nil
}

// page is one generated file.
type page struct {
	name string
	text []byte
}

// generate makes all pages. Titles of specifications and comments of hooks are read from the source.
func generate(ctx context.Context, source string) ([]page, error) {
	titles, err := readTitles(filepath.Join(source, "internal/tidy/specs.txt"))
	if err != nil {
		return nil, err
	}
	points, err := readPoints(filepath.Join(source, "internal/module/hooks.go"))
	if err != nil {
		return nil, err
	}
	var specs []specLine
	err = withEverything(ctx, func(srv *server.Server) {
		specs = specLines(srv.Features().Running(), titles)
		listen(srv.Core().Hooks, points)
	})
	if err != nil {
		return nil, err
	}
	return []page{
		{"config.md", config.Reference(server.Sections()...)},
		{"xeps.md", specsPage(specs)},
		{"hooks.md", hooksPage(points)},
		{"starling.doap", doap(specs)},
	}, nil
}

// withEverything runs fn on a server with all its features, in a folder that is removed afterwards.
func withEverything(ctx context.Context, fn func(*server.Server)) (err error) {
	dir, err := os.MkdirTemp("", "starling-doc")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	set := []string{"data=" + dir, "registration.open=true"}
	for _, s := range server.Sections() {
		set = append(set, s.Name+".enabled=true")
	}
	cfg, err := config.Load(config.Sources{Set: set}, server.Sections()...)
	if err != nil {
		return err
	}
	srv, err := server.New(ctx, cfg, slog.New(slog.DiscardHandler), version())
	if err != nil {
		return err
	}
	fn(srv)
	return stop(srv)
}

// specLine is one line of the list of specifications.
type specLine struct {
	module.Spec
	title  string
	folder string // where it is obeyed, from the root
}

// id is how a specification is cited.
func (s *specLine) id() string {
	if s.XEP != 0 {
		return fmt.Sprintf("XEP-%04d", s.XEP)
	}
	return fmt.Sprintf("RFC %d", s.RFC)
}

// link is where its text is.
func (s *specLine) link() string {
	if s.XEP != 0 {
		return fmt.Sprintf("https://xmpp.org/extensions/xep-%04d.html", s.XEP)
	}
	return fmt.Sprintf("https://www.rfc-editor.org/rfc/rfc%d.html", s.RFC)
}
