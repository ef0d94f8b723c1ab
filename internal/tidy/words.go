package tidy

import (
	"path"
	"regexp"
	"strings"
)

// unwanted is what no committed file may hold. The patterns are written so that they do not match themselves.
var unwanted = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`\b(?:TO[D]O|FIX[M]E|X[X]X)\b`), "finish it now, or write down what is left where users look"},
	{regexp.MustCompile(`(?:^|[^\w.~-])/w[o]rk/|/tmp/p[l]an|(?:^|[^\w.~-])/ro[o]t/`), "a path of one machine: take it out"},
	{regexp.MustCompile(`--(?:extra-)?index-u[r]l|^registr[y]\s*=|--registr[y][ =]`), "a package registry of one machine: take it out"},
}

// resolved finds where a lock file of npm says that a package came from.
var resolved = regexp.MustCompile(`"resolved": *"(?:git\+)?https?://([^/"]+)`)

func checkWords(t *Tree) []Problem {
	var ps []Problem
	for _, f := range t.Files {
		lock := path.Base(f.Path) == "package-lock.json"
		n := 0
		for text := range strings.Lines(string(f.Src)) {
			n++
			for _, u := range unwanted {
				if found := u.pattern.FindString(text); found != "" {
					ps = append(ps, Problem{f.Path, n, strings.TrimSpace(found) + ": " + u.why})
				}
			}
			if m := resolved.FindStringSubmatch(text); lock && m != nil && m[1] != "registry.npmjs.org" {
				ps = append(ps, Problem{f.Path, n, m[1] + ": lock packages to registry.npmjs.org"})
			}
		}
	}
	return ps
}
