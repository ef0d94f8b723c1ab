// Package tidy holds the style guide as a test: `go test ./internal/tidy` reads every file of the repository and
// fails with path, line and what to do instead.
//
// What it holds: the table of layers and the imports between them; sizes of functions, files and packages; no init
// functions, no package state, no blank imports, no sleeping tests; who may build stanza and stream errors; that each
// cited section of an RFC or XEP exists (specs.txt, made by `make specs`) and that a feature names the version of a XEP
// that was read; that a dependency has its decision; that each trap that servers fall into has its test; formatting, and words that do not belong in a committed file.
// The pages that the program writes about itself (doc/xeps.md, doc/config.md, doc/hooks.md) are compared where they
// are made, not here.
//
// A check is a function over a Tree, so its tests run on small trees in memory: each is shown to fail.
package tidy

import "fmt"

// Problem is one place that breaks a rule.
type Problem struct {
	Path string // slash-separated, from the repository's root
	Line int    // counted from 1; 0 when the whole file or folder is meant
	Text string // what is wrong and what to do about it
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Text)
}

// Check is one rule.
type Check struct {
	Name string
	Run  func(t *Tree) []Problem
}

// Checks lists every rule.
func Checks() []Check {
	return []Check{
		{"layers", checkLayers},
		{"sizes", checkSizes},
		{"format", checkFormat},
		{"names", checkNames},
		{"state", checkState},
		{"imports", checkImports},
		{"sleeps", checkSleeps},
		{"errors", checkErrorBuilders},
		{"citations", checkCitations},
		{"versions", checkVersions},
		{"dependencies", checkDependencies},
		{"words", checkWords},
		{"traps", checkTraps},
	}
}
