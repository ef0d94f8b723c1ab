package tidy

import (
	"bytes"
	"go/ast"
	"go/format"
	"path"
	"slices"
	"strings"
)

func checkFormat(t *Tree) []Problem {
	var ps []Problem
	for _, f := range t.Files {
		switch {
		case f.ParseErr != nil:
			ps = append(ps, Problem{f.Path, 0, "does not parse: " + f.ParseErr.Error()})
		case f.AST != nil:
			if out, err := format.Source(f.Src); err != nil || !bytes.Equal(out, f.Src) {
				ps = append(ps, Problem{f.Path, 0, "is not formatted: run make fmt"})
			}
		}
	}
	return ps
}

// maxMethods bounds an interface: it states what one caller needs.
const maxMethods = 5

func checkNames(t *Tree) []Problem {
	var ps []Problem
	for _, p := range t.Packages {
		name := strings.TrimSuffix(p.Name, "_test")
		vague := []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "shared"}
		if slices.Contains(vague, name) || slices.Contains(vague, path.Base(p.Dir)) {
			ps = append(ps, Problem{p.Dir, 0, "the name " + name + " says nothing: name the package after what it is about"})
		}
		for _, f := range p.Files {
			ps = append(ps, t.methods(f)...)
		}
		if !p.External() && !documented(p) {
			ps = append(ps, Problem{p.Dir, 0, "package " + p.Name + " has no comment that says what it is"})
		}
	}
	return ps
}

func (t *Tree) methods(f *File) []Problem {
	var ps []Problem
	ast.Inspect(f.AST, func(n ast.Node) bool {
		if it, ok := n.(*ast.InterfaceType); ok && it.Methods.NumFields() > maxMethods {
			ps = append(ps, t.at(f, it.Pos(), "an interface of %d methods, at most %d: ask for less", it.Methods.NumFields(), maxMethods))
		}
		return true
	})
	return ps
}

func documented(p *Package) bool {
	return slices.ContainsFunc(p.Files, func(f *File) bool { return f.AST.Doc.Text() != "" })
}
