package tidy

import (
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The places that may do what nobody else may.
const (
	driverDir = "internal/store"             // blank imports, of database drivers
	unsafeFor = "internal/transport/release" // beginning of the names of the files that may use unsafe
)

// drivers lists the imports that exist only for their side effect: registering with database/sql.
var drivers = []string{"modernc.org/sqlite", "github.com/jackc/pgx/v5/stdlib"}

func checkImports(t *Tree) []Problem {
	var ps []Problem
	for f := range t.goFiles() {
		dir := path.Dir(f.Path)
		for _, imp := range f.AST.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			switch {
			case imp.Name != nil && imp.Name.Name == "_" && !(dir == driverDir && slices.Contains(drivers, name)):
				ps = append(ps, t.at(f, imp.Pos(), "blank import of %s: only store does this, for database drivers", name))
			case name == "unsafe" && !strings.HasPrefix(f.Path, unsafeFor):
				ps = append(ps, t.at(f, imp.Pos(), "unsafe is for %s*.go only", unsafeFor))
			case (name == "math/rand" || name == "math/rand/v2") && !f.Test && !predictable(dir):
				ps = append(ps, t.at(f, imp.Pos(), "%s can be predicted: use crypto/rand", name))
			}
		}
	}
	return ps
}

// predictable says where cheap random numbers cannot hurt: in what makes load, and in the engine for tests, whose
// accidents come again from the same seed.
func predictable(dir string) bool {
	return dir == "internal/load" || dir == "cluster/internal/mem" || dir == "bench" || within(dir, "bench")
}

// checkSleeps refuses time.Sleep in tests, except in synctest.Test, where it only moves the fake clock: lexically
// inside the call, or in a function that helps the tests of a file which uses synctest.
func checkSleeps(t *Tree) []Problem {
	var ps []Problem
	for f := range t.goFiles() {
		if !f.Test {
			continue
		}
		fake := slices.ContainsFunc(f.AST.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fake && !isTest(fn.Name.Name) {
				continue
			}
			ps = append(ps, t.sleeps(f, d)...)
		}
	}
	return ps
}

func isTest(name string) bool {
	return strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") || strings.HasPrefix(name, "Benchmark")
}

func (t *Tree) sleeps(f *File, d ast.Decl) []Problem {
	var ps []Problem
	var bubbles []ast.Node
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if isSelector(n.Fun, "synctest", "Test") {
				bubbles = append(bubbles, n)
			}
		case *ast.SelectorExpr:
			inBubble := slices.ContainsFunc(bubbles, func(b ast.Node) bool { return b.Pos() <= n.Pos() && n.End() <= b.End() })
			if isSelector(n, "time", "Sleep") && !inBubble {
				ps = append(ps, t.at(f, n.Pos(), "a test that sleeps is slow or wrong: wait for the event, or use testing/synctest"))
			}
		}
		return true
	})
	return ps
}
