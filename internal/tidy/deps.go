package tidy

import (
	"bytes"
	"path"
	"strings"
)

// Files of the rule that a dependency is chosen, not caught.
const (
	depsPath     = "doc/deps.txt"
	decisionsDir = "doc/decisions"
)

// dependencies lists the modules that go.mod requires directly, one `path version` a line: the text of doc/deps.txt.
func (t *Tree) dependencies() []byte {
	var out bytes.Buffer
	in := false
	for text := range strings.Lines(string(t.file("go.mod").Src)) {
		text = strings.TrimSpace(text)
		single, isSingle := strings.CutPrefix(text, "require ")
		switch {
		case text == "require (":
			in = true
			continue
		case text == ")":
			in = false
			continue
		case isSingle:
			text = single
		case !in:
			continue
		}
		if col := strings.Fields(text); len(col) == 2 { // a third column says "// indirect"
			out.WriteString(col[0] + " " + col[1] + "\n")
		}
	}
	return out.Bytes()
}

func checkDependencies(t *Tree) []Problem {
	var ps []Problem
	deps := t.dependencies()
	if f := t.file(depsPath); f == nil || !bytes.Equal(f.Src, deps) {
		ps = append(ps, Problem{depsPath, 0, "differs from go.mod: run go test ./internal/tidy -update"})
	}
	for text := range strings.Lines(string(deps)) {
		name, _, _ := strings.Cut(text, " ")
		if !t.decided(name) {
			ps = append(ps, Problem{"go.mod", 0, name + " is not named in " + decisionsDir + ": say there why it is needed"})
		}
	}
	return ps
}

// decided says whether a decision names the module, between back quotes.
func (t *Tree) decided(module string) bool {
	for _, f := range t.Files {
		if path.Dir(f.Path) == decisionsDir && path.Ext(f.Path) == ".md" && bytes.Contains(f.Src, []byte("`"+module+"`")) {
			return true
		}
	}
	return false
}
