package tidy

import (
	"path"
	"strconv"
	"strings"
)

// Layers of the packages that are not part of the numbered core.
const (
	testLayer = 8 // imported by tests only
	topLayer  = 9 // programs, benchmarks and the tests of the whole: may import anything
)

// row gives a folder its layer. A package imports only packages of smaller layers.
type row struct {
	dir   string
	layer int
	tree  bool // the folders below belong to it too, and import each other as the compiler allows
}

// layers is the table: a package under the root that it does not name fails the test.
var layers = []row{
	{"internal/xmpp", 0, true},
	{"internal/config", 1, false},
	{"internal/telemetry", 1, false},
	{"internal/hook", 1, false},
	{"internal/serial", 1, false},
	{"internal/cache", 1, false},
	{"internal/client", 1, false},
	{"internal/proxied", 1, false},
	{"internal/store", 2, false},
	{"internal/transport", 2, false},
	{"internal/certs", 2, false},
	{"cluster", 2, true},
	{"httpsession", 2, false},
	{"internal/session", 3, false},
	{"internal/account", 3, false},
	{"internal/settings", 3, false},
	{"internal/module", 4, false},
	{"internal/router", 5, false},
	{"internal/fleet", 5, false},
	{"internal/membership", 5, false},
	{"internal/admin", 6, false},
	{"internal/c2s", 6, false},
	{"internal/s2s", 6, false},
	{"internal/component", 6, false},
	{featureDir, 6, true},
	{"internal/server", 7, false},
	{"internal/load", 7, false},
	{"internal/testnet", testLayer, false},
	{"internal/xmpptest", testLayer, false},
	{"internal/store/storetest", testLayer, true},
	{"internal/tidy", testLayer, true},
	{"cmd/starling", topLayer, false},
	{"bench", topLayer, true},
	{"examples", topLayer, true},
	{"test", topLayer, true},
}

const featureDir = "internal/feature"

// rowOf finds the row of a folder: the longest that fits.
func rowOf(dir string) (found row, ok bool) {
	for _, r := range layers {
		if (dir == r.dir || r.tree && within(dir, r.dir)) && len(r.dir) >= len(found.dir) {
			found, ok = r, true
		}
	}
	return found, ok
}

// within says whether dir lies below parent.
func within(dir, parent string) bool {
	return strings.HasPrefix(dir, parent+"/")
}

// feature returns the folder of the feature that dir belongs to, "" for anything else.
func feature(dir string) string {
	if !within(dir, featureDir) {
		return ""
	}
	name, _, _ := strings.Cut(dir[len(featureDir)+1:], "/")
	return path.Join(featureDir, name)
}

func checkLayers(t *Tree) []Problem {
	var ps []Problem
	needs := t.needs()
	for _, p := range t.Packages {
		from, ok := rowOf(p.Dir)
		if !ok {
			ps = append(ps, Problem{p.Dir, 0, "this package has no layer: add its folder to the table in internal/tidy/layers.go"})
			continue
		}
		if p.External() {
			continue
		}
		for _, f := range p.Files {
			for _, imp := range f.AST.Imports {
				name, _ := strconv.Unquote(imp.Path.Value)
				to, ours := strings.CutPrefix(name, t.Module+"/")
				if !ours {
					continue
				}
				if why := refuse(from, p.Dir, to, f.Test, needs); why != "" {
					ps = append(ps, t.at(f, imp.Pos(), "imports %s: %s", to, why))
				}
			}
		}
	}
	return ps
}

// refuse says why a package of row from, in folder dir, may not import folder to; "" when it may.
func refuse(from row, dir, to string, test bool, needs map[string][]string) string {
	target, ok := rowOf(to)
	switch {
	case !ok:
		return "it has no layer: add its folder to the table in internal/tidy/layers.go"
	case (from.dir == "cluster" || from.dir == "httpsession") && within(to, "internal"):
		return "the public packages import nothing from internal"
	case from.dir == "httpsession" && target.dir == "cluster":
		return ""
	case target.layer == testLayer && test, from.layer == testLayer && target.dir == "internal/store/storetest":
		return ""
	case target.layer == testLayer && from.layer != testLayer:
		return "only tests import it"
	case from.layer == topLayer:
		return ""
	case from.dir == target.dir && from.tree:
		return refuseFeature(dir, to, needs)
	case target.layer >= from.layer:
		return "layer " + strconv.Itoa(from.layer) + " may not import layer " + strconv.Itoa(target.layer) + ", only smaller ones"
	case from.dir == featureDir && dir != featureDir && (target.dir == "internal/router" || target.dir == "internal/fleet"):
		return "a feature acts through module.Host, never through router or fleet"
	}
	return ""
}

// refuseFeature judges imports between two folders of one tree. Only features are restricted: to what they list.
func refuseFeature(dir, to string, needs map[string][]string) string {
	mine, other := feature(dir), feature(to)
	if mine == "" || mine == other { // another tree, the list of all features, or the same feature
		return ""
	}
	for _, need := range needs[mine] {
		if need == other {
			return ""
		}
	}
	return "a feature imports another only if its Def lists it in Needs"
}

// needs maps the folder of each feature to the folders of the features that its Defs list in Needs.
func (t *Tree) needs() map[string][]string {
	folder := map[string]string{} // by the feature's name
	defs := t.defs()
	for _, d := range defs {
		if dir := feature(path.Dir(d.file.Path)); dir != "" {
			folder[d.name] = dir
		}
	}
	needs := map[string][]string{}
	for _, d := range defs {
		dir := feature(path.Dir(d.file.Path))
		for _, name := range d.needs {
			needs[dir] = append(needs[dir], folder[name])
		}
	}
	return needs
}
