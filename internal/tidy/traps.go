package tidy

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// lastTrap counts the known mistakes of servers that are each a test by its number: a script trap-NN-….script, or a
// function TestTrapNN_….
const lastTrap = 46

// later tells the traps of what does not exist yet: rooms, personal eventing, upload, other servers.
func later(trap int) bool {
	return 29 <= trap && trap <= 36 || 41 <= trap && trap <= 43 || trap == 45
}

var (
	trapScript   = regexp.MustCompile(`^trap-([0-9]{2})-[a-z0-9-]+\.script$`)
	trapFunction = regexp.MustCompile(`^TestTrap([0-9]{2})_`)
)

// checkTraps wants a test for each trap that is not skipped, and scripts to be played.
func checkTraps(t *Tree) []Problem {
	seen, folders, playing := map[int]bool{}, map[string]string{}, map[string]bool{}
	var ps []Problem
	for _, f := range t.Files {
		dir, name := path.Split(f.Path)
		if m := trapScript.FindStringSubmatch(name); m != nil {
			n, _ := strconv.Atoi(m[1])
			seen[n] = true
			folders[path.Dir(path.Clean(dir))] = f.Path
		}
		if f.Test && f.AST != nil {
			if strings.Contains(string(f.Src), "xmpptest.Scripts(t)") {
				playing[path.Clean(dir)] = true
			}
			ps = append(ps, t.trapFunctions(f, seen)...)
		}
	}
	for folder, script := range folders {
		if !playing[folder] {
			ps = append(ps, Problem{script, 0, "no test of " + folder + " calls xmpptest.Scripts(t), so this is never played"})
		}
	}
	if len(seen) == 0 {
		return ps // a tree without tests of this kind
	}
	for n := 1; n <= lastTrap; n++ {
		if !seen[n] && !later(n) {
			ps = append(ps, Problem{"internal", 0, fmt.Sprintf("trap %d has no test: write trap-%02d-….script or TestTrap%02d_…", n, n, n)})
		}
	}
	return ps
}

// trapFunctions notes the traps that a file's functions test, and refuses those that skip.
func (t *Tree) trapFunctions(f *File, seen map[int]bool) []Problem {
	var ps []Problem
	for _, d := range f.AST.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		m := trapFunction.FindStringSubmatch(fn.Name.Name)
		if m == nil {
			continue
		}
		n, _ := strconv.Atoi(m[1])
		seen[n] = true
		ast.Inspect(fn, func(node ast.Node) bool {
			if s, ok := node.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Skip") {
				ps = append(ps, t.at(f, s.Pos(), "the test of a trap is never skipped"))
			}
			return true
		})
	}
	return ps
}
