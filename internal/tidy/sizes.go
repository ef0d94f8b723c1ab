package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
)

// The limits, in lines. Tests may be longer, since a table of cases is read row by row. Generated files have none.
const (
	maxFunc     = 100
	maxFile     = 700
	maxTestFunc = 200
	maxTestFile = 1000
	maxPackage  = 4000 // without tests
)

func checkSizes(t *Tree) []Problem {
	var ps []Problem
	for _, p := range t.Packages {
		total := 0
		for _, f := range p.Files {
			if f.Generated {
				continue
			}
			file, function := maxFile, maxFunc
			if f.Test {
				file, function = maxTestFile, maxTestFunc
			}
			n := bytes.Count(f.Src, []byte("\n"))
			if !f.Test {
				total += n
			}
			if n > file {
				ps = append(ps, Problem{f.Path, 0, fmt.Sprintf("%d lines, at most %d: split it by idea", n, file)})
			}
			for _, decl := range f.AST.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				n := t.Fset.Position(fn.End()).Line - t.Fset.Position(fn.Pos()).Line + 1
				if n > function {
					ps = append(ps, t.at(f, fn.Pos(), "%s has %d lines, at most %d: split it by idea", fn.Name.Name, n, function))
				}
			}
		}
		if total > maxPackage {
			ps = append(ps, Problem{p.Dir, 0, fmt.Sprintf("package %s has %d lines, at most %d", p.Name, total, maxPackage)})
		}
	}
	return ps
}
