package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"

	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/module"
)

// point is one hook point and who listens there.
type point struct {
	name, event, doc string
	listeners        []hook.Listing
}

// readPoints reads the fields of module.Hooks with their comments.
func readPoints(file string) ([]point, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("read the comments of the hooks: %w", err)
	}
	var points []point
	ast.Inspect(parsed, func(n ast.Node) bool {
		t, ok := n.(*ast.TypeSpec)
		if !ok || t.Name.Name != "Hooks" {
			return true
		}
		s, ok := t.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, f := range s.Fields.List {
			for _, name := range f.Names {
				if !name.IsExported() {
					continue // what Hooks keeps for itself
				}
				points = append(points, point{name: name.Name, event: eventOf(f.Type), doc: strings.Join(strings.Fields(f.Doc.Text()), " ")})
			}
		}
		return false
	})
	return points, nil
}

// eventOf names E in hook.Point[E].
func eventOf(t ast.Expr) string {
	if generic, ok := t.(*ast.IndexExpr); ok {
		if id, ok := generic.Index.(*ast.Ident); ok {
			return id.Name
		}
	}
	return ""
}

// listen notes who listens at each point of a running server.
func listen(h *module.Hooks, points []point) {
	all := reflect.ValueOf(h).Elem()
	for i := range points {
		field := all.FieldByName(points[i].name)
		if p, ok := field.Addr().Interface().(interface{ Listeners() []hook.Listing }); ok {
			points[i].listeners = p.Listeners()
		}
	}
}

const hooksIntro = `# Hooks

Generated from the source; do not edit. These are the points where features take part in the way of a stanza and in
what happens to sessions and accounts. At each point the stages run in the order *check* (may refuse), *amend* (may
change), *record* (keeps), *copy* (sends further copies); within a stage the order means nothing. The list has every
feature, also those that are off by default.
`

// hooksPage returns doc/hooks.md.
func hooksPage(points []point) []byte {
	var b bytes.Buffer
	b.WriteString(hooksIntro)
	for _, p := range points {
		fmt.Fprintf(&b, "\n## %s\n\n`hook.Point[%s]`: %s\n\n", p.name, p.event, p.doc)
		if len(p.listeners) == 0 {
			b.WriteString("Nobody listens yet.\n")
			continue
		}
		b.WriteString("| stage | feature |\n|---|---|\n")
		for _, l := range p.listeners {
			fmt.Fprintf(&b, "| %s | %s |\n", l.Stage, l.Name)
		}
	}
	return b.Bytes()
}
