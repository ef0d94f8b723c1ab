package tidy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "rewrite doc/deps.txt")

// root is the repository, seen from this package.
const root = "../.."

// TestRepository holds every rule against the repository itself.
func TestRepository(t *testing.T) {
	tree, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root, depsPath), tree.dependencies(), 0o644); err != nil {
			t.Fatal(err)
		}
		if tree, err = Load(os.DirFS(root)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) {
			for _, p := range c.Run(tree) {
				t.Error(p)
			}
		})
	}
}

// trial is a small tree and what one check has to say about it.
type trial struct {
	name  string
	files map[string]string // by path; go.mod is added
	want  []string          // parts of the problems, in order; none when the tree is right
}

func judge(t *testing.T, check func(*Tree) []Problem, trials []trial) {
	t.Helper()
	for _, c := range trials {
		t.Run(c.name, func(t *testing.T) {
			fsys := fstest.MapFS{"go.mod": {Data: []byte("module starling.test/s\n")}}
			for path, text := range c.files {
				fsys[path] = &fstest.MapFile{Data: []byte(text)}
			}
			tree, err := Load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			got := check(tree)
			for i, p := range got {
				if i >= len(c.want) || !strings.Contains(p.String(), c.want[i]) {
					t.Errorf("problem %d: %s", i, p)
				}
			}
			if len(got) < len(c.want) {
				t.Errorf("nothing says %q", c.want[len(got):])
			}
		})
	}
}

// imports is a file of package name that imports folders of the module.
func imports(name string, dirs ...string) string {
	text := "package " + name + "\n"
	for _, d := range dirs {
		text += "import \"starling.test/s/" + d + "\"\n"
	}
	return text
}

func TestLayers(t *testing.T) {
	feature := func(name, needs string, dirs ...string) string {
		return imports(name, dirs...) + "var Module = module.Def[Config]{Name: \"" + name + "\", Needs: []string{" + needs + "}}\n"
	}
	judge(t, checkLayers, []trial{
		{"downwards", map[string]string{"internal/c2s/a.go": imports("c2s", "internal/router", "internal/xmpp/jid", "cluster")}, nil},
		{"upwards", map[string]string{"internal/store/a.go": imports("store", "internal/account")}, []string{"a.go:2: imports internal/account: layer 2 may not import layer 3"}},
		{"sideways", map[string]string{"internal/router/a.go": imports("router", "internal/fleet")}, []string{"layer 5 may not import layer 5"}},
		{"within a tree", map[string]string{"internal/xmpp/stanza/a.go": imports("stanza", "internal/xmpp/xml")}, nil},
		{"a test package is exempt", map[string]string{"internal/store/a_test.go": imports("store_test", "internal/server")}, nil},
		{"a test inside the package is not", map[string]string{"internal/store/a_test.go": imports("store", "internal/server")}, []string{"layer 2 may not import"}},
		{"no layer", map[string]string{"internal/nest/a.go": imports("nest")}, []string{"internal/nest: this package has no layer"}},
		{"import of what has no layer", map[string]string{"internal/server/a.go": imports("server", "internal/nest")}, []string{"imports internal/nest: it has no layer"}},
		{"below what is no tree", map[string]string{"internal/store/cache/a.go": imports("cache")}, []string{"internal/store/cache: this package has no layer"}},
		{"public imports internal", map[string]string{"cluster/a.go": imports("cluster", "internal/config")}, []string{"import nothing from internal"}},
		{"sessions on cluster", map[string]string{"httpsession/a.go": imports("httpsession", "cluster")}, nil},
		{"cluster on sessions", map[string]string{"cluster/a.go": imports("cluster", "httpsession")}, []string{"layer 2 may not import layer 2"}},
		{"the program", map[string]string{"cmd/starling/a.go": imports("main", "internal/server", "internal/load")}, nil},
		{"the program on test servers", map[string]string{"cmd/starling/a.go": imports("main", "internal/xmpptest")}, []string{"only tests import it"}},
		{"feature on router", map[string]string{"internal/feature/muc/a.go": imports("muc", "internal/router")}, []string{"never through router"}},
		{"feature on what it needs", map[string]string{
			"internal/feature/muc/a.go":   feature("muc", `"disco"`, "internal/feature/disco/form"),
			"internal/feature/disco/a.go": feature("disco", ""),
		}, nil},
		{"feature on what it does not list", map[string]string{
			"internal/feature/muc/a.go":   feature("muc", "", "internal/feature/disco"),
			"internal/feature/disco/a.go": feature("disco", ""),
		}, []string{"muc/a.go:2: imports internal/feature/disco: a feature imports another only if"}},
		{"inside one feature", map[string]string{"internal/feature/muc/a.go": imports("muc", "internal/feature/muc/room")}, nil},
		{"the list of features", map[string]string{"internal/feature/all.go": imports("feature", "internal/feature/muc", "internal/feature/disco")}, nil},
	})
}

func TestSizes(t *testing.T) {
	function := func(lines int) string { return "func f() {\n" + strings.Repeat("\n", lines-2) + "}\n" }
	judge(t, checkSizes, []trial{
		{"function at the limit", map[string]string{"a.go": "package a\n" + function(maxFunc)}, nil},
		{"function past it", map[string]string{"a.go": "package a\n" + function(maxFunc+1)}, []string{"a.go:2: f has 101 lines, at most 100"}},
		{"test function past it", map[string]string{"a_test.go": "package a\n" + function(maxTestFunc+1)}, []string{"at most 200"}},
		{"file at the limit", map[string]string{"a.go": "package a\n" + strings.Repeat("\n", maxFile-1)}, nil},
		{"file past it", map[string]string{"a.go": "package a\n" + strings.Repeat("\n", maxFile)}, []string{"a.go: 701 lines, at most 700"}},
		{"test file past it", map[string]string{"a_test.go": "package a\n" + strings.Repeat("\n", maxTestFile)}, []string{"at most 1000"}},
		{"generated", map[string]string{"a.go": "// Code generated by x. DO NOT EDIT.\n\npackage a\n" + strings.Repeat("\n", 2*maxFile)}, nil},
		{"package past it", map[string]string{
			"x/a.go": "package x\n" + strings.Repeat("\n", 699), "x/b.go": "package x\n" + strings.Repeat("\n", 699),
			"x/c.go": "package x\n" + strings.Repeat("\n", 699), "x/d.go": "package x\n" + strings.Repeat("\n", 699),
			"x/e.go": "package x\n" + strings.Repeat("\n", 699), "x/f.go": "package x\n" + strings.Repeat("\n", 500),
			"x/a_test.go": "package x\n" + strings.Repeat("\n", 699),
		}, []string{"x: package x has 4001 lines"}},
	})
}

func TestFormat(t *testing.T) {
	judge(t, checkFormat, []trial{
		{"formatted", map[string]string{"a.go": "package a\n\nvar x = 1\n"}, nil},
		{"not formatted", map[string]string{"a.go": "package a\nvar x  = 1\n"}, []string{"a.go: is not formatted"}},
		{"not Go", map[string]string{"a.go": "package"}, []string{"a.go: does not parse"}},
		{"ignored", map[string]string{".gitignore": "/bin/\n*.out\n", "bin/a.go": "package", "x.out/a.go": "package"}, nil},
		{"ignored at the root only", map[string]string{".gitignore": "/bin/\n", "x/bin/a.go": "package"}, []string{"x/bin/a.go"}},
	})
}

func TestNames(t *testing.T) {
	judge(t, checkNames, []trial{
		{"good", map[string]string{"roost/a.go": "// Package roost is where birds sleep.\npackage roost\ntype I interface{ A(); B(); C(); D(); E() }"}, nil},
		{"package", map[string]string{"util/a.go": "// Package util helps.\npackage util"}, []string{"the name util says nothing"}},
		{"package with another folder", map[string]string{"x/a.go": "// Package helpers helps.\npackage helpers"}, []string{"the name helpers"}},
		{"wide interface", map[string]string{"x/a.go": "// Package x is.\npackage x\ntype I interface{ A(); B(); C(); D(); E(); F() }"}, []string{"a.go:3: an interface of 6 methods"}},
		{"no comment", map[string]string{"x/a.go": "package x"}, []string{"x: package x has no comment"}},
		{"a test package needs none", map[string]string{"x/a_test.go": "package x_test"}, nil},
	})
}

func TestState(t *testing.T) {
	in := func(body string) map[string]string {
		return map[string]string{
			"x/a.go": "package x\nimport (\"embed\"; \"net/http\"; \"sync\"; \"sync/atomic\")\n" + body,
			"x/b.go": "package x\nvar other int\nvar table = map[string]int{}\nvar conf = struct{ n int }{}\n" +
				"type counter struct{ n int }\nfunc (c *counter) add() {}\nfunc (c counter) get() int { return 0 }\n" +
				"type pools struct{ small sync.Pool }\nfunc (p *pools) take() {}\n",
		}
	}
	judge(t, checkState, []trial{
		{"init", in("func init() {}"), []string{"a.go:3: an init function"}},
		{"a method named init", in("type t int\nfunc (t) init() {}"), nil},
		{"assignment", in("func f() { other = 1 }"), []string{"a.go:3: changes package variable other"}},
		{"increment", in("func f() { other++ }"), []string{"changes package variable other"}},
		{"element", in("func f() { table[`a`] = 1 }"), []string{"changes package variable table"}},
		{"field", in("func f() { conf.n += 1 }"), []string{"changes package variable conf"}},
		{"delete", in("func f() { delete(table, `a`) }"), []string{"changes package variable table"}},
		{"range", in("func f() { for other = range 3 {} }"), []string{"changes package variable other"}},
		{"address", in("func f() *int { return &other }"), []string{"the address of package variable other"}},
		{"pointer method", in("var c counter\nfunc f() { c.add() }"), []string{"method add may change package variable c"}},
		{"value method", in("var c counter\nfunc f() { c.get() }"), nil},
		{"another package's", in("func f() { http.DefaultClient = nil }"), []string{"changes package variable http.DefaultClient"}},
		{"mutex", in("var mu sync.Mutex"), []string{"mu is shared state"}},
		{"atomic pointer", in("var p atomic.Pointer[int]"), []string{"p is shared state"}},
		{"value made of an atomic", in("var p = &atomic.Int64{}"), []string{"p is shared state"}},
		{"pool", in("var p = sync.Pool{}\nfunc f() { g(&p); p.New = nil }"), nil},
		{"pools", in("var p pools\nvar q [3]pools\nfunc f() { p.take(); q[1].take() }"), nil},
		{"embedded files", in("var e embed.FS\nfunc f() { g(&e) }"), nil},
		{"local of the same name", in("func f(table map[string]int) { other := 1; other++; table[`a`] = other; g(&other) }"), nil},
		{"local of the same name later", in("func f() { other++; other := 1; other++ }"), []string{"a.go:3"}},
		{"constant once", in("var name = sync.OnceValue(func() string { return `a` })"), nil},
		{"reading", in("func f() int { x := table; return x[`a`] + other + len(conf.n) }"), nil},
	})
}

func TestImports(t *testing.T) {
	judge(t, checkImports, []trial{
		{"driver in store", map[string]string{"internal/store/a.go": `package store; import _ "modernc.org/sqlite"`}, nil},
		{"driver elsewhere", map[string]string{"internal/server/a.go": `package server; import _ "modernc.org/sqlite"`}, []string{"blank import of modernc.org/sqlite"}},
		{"something else in store", map[string]string{"internal/store/a.go": `package store; import _ "net/http/pprof"`}, []string{"blank import of net/http/pprof"}},
		{"unsafe", map[string]string{"internal/xmpp/xml/a.go": `package xml; import "unsafe"`}, []string{"unsafe is for"}},
		{"unsafe where allowed", map[string]string{"internal/transport/release_tls.go": `package transport; import "unsafe"`}, nil},
		{"random", map[string]string{"internal/router/a.go": `package router; import "math/rand/v2"`}, []string{"can be predicted"}},
		{"random in a test", map[string]string{"internal/router/a_test.go": `package router; import "math/rand"`}, nil},
		{"random for load", map[string]string{"internal/load/a.go": `package load; import "math/rand"`}, nil},
	})
}

func TestSleeps(t *testing.T) {
	judge(t, checkSleeps, []trial{
		{"sleep", map[string]string{"a_test.go": "package a\nfunc f() { time.Sleep(1) }"}, []string{"a_test.go:2: a test that sleeps"}},
		{"fake clock", map[string]string{"a_test.go": "package a\nfunc f() { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }"}, nil},
		{"after the fake clock", map[string]string{"a_test.go": "package a\nfunc f() { synctest.Test(t, g); time.Sleep(1) }"}, []string{"sleeps"}},
		{"no test", map[string]string{"a.go": "package a\nfunc f() { time.Sleep(1) }"}, nil},
	})
}

func TestErrorBuilders(t *testing.T) {
	stanza, stream := "package x\nconst ns = `"+stanzasNS+"`", "package x\nvar b = \"<a xmlns='"+streamsNS+"'/>\""
	judge(t, checkErrorBuilders, []trial{
		{"stanza errors in the router", map[string]string{"internal/router/reply.go": stanza}, nil},
		{"stanza errors beside it", map[string]string{"internal/router/route.go": stanza}, []string{"route.go:2: only internal/router/reply.go"}},
		{"their names", map[string]string{"internal/xmpp/stanza/error.go": stanza}, nil},
		{"the list of namespaces", map[string]string{"internal/xmpp/xml/intern.go": stanza + "\nconst b = `" + streamsNS + "`"}, nil},
		{"stanza of type error", map[string]string{"internal/c2s/a.go": "package c2s\nvar s = stanza.New(stanza.IQ, stanza.Error)"}, []string{"only internal/router/reply.go builds stanzas of type error"}},
		{"comparison with it", map[string]string{"internal/c2s/a.go": "package c2s\nfunc f(st *stanza.Stanza) bool { return st.Type == stanza.Error }"}, nil},
		{"stream errors", map[string]string{"internal/xmpp/stream/errors.go": stream}, nil},
		{"stream errors in a door", map[string]string{"internal/c2s/a.go": stream}, []string{"a.go:2: only internal/xmpp/stream/errors.go"}},
		{"tests", map[string]string{"internal/c2s/a_test.go": stream + "\n" + "const ns = `" + stanzasNS + "`"}, nil},
	})
}

const smallIndex = "# comment\nRFC 6120\t\tCore\t1 4 4.9 4.9.3 4.9.3.1 A A.5\nXEP-0045\t1.35.5\tMulti-User Chat\t1 10 10.9\n"

func TestCitations(t *testing.T) {
	comment := func(text string) map[string]string {
		return map[string]string{IndexPath: smallIndex, "a.go": "package a\n\n" + text + "\n"}
	}
	judge(t, checkCitations, []trial{
		{"right", comment("// RFC 6120 §4.9.3.1, §4.9 and §A.5; XEP-0045 §10.9."), nil},
		{"no such section", comment("// As RFC 6120 §4.9.4 says."), []string{"a.go:3: RFC 6120 has no §4.9.4"}},
		{"no such section of a XEP", comment("// XEP-0045 §11"), []string{"XEP-0045 1.35.5 has no §11"}},
		{"second of two", comment("// RFC 6120 §4.9, §5"), []string{"has no §5"}},
		{"broken over lines", comment("// See RFC 6120\n// §4.9 and, by XEP-0045\n// §3, the rest."), []string{"a.go:5: XEP-0045 1.35.5 has no §3"}},
		{"block comment", comment("/*\n * RFC 6120\n * §9\n */"), []string{"a.go:5: RFC 6120 has no §9"}},
		{"unknown document", comment("// RFC 1 is none; RFC 9999 §1 is not there."), []string{"RFC 9999 §1: RFC 9999 is not in"}},
		{"unknown document alone", comment("// RFC 9999 may be named."), nil},
		{"section of nothing", comment("// The rule of §4.9 holds."), []string{"§4.9 of what?"}},
		{"section far from its document", comment("// RFC 6120 rules, see §4.9."), []string{"§4.9 of what?"}},
		{"in words", comment("// RFC 6120, section 4.9"), []string{"cite as"}},
		{"in words, turned round", comment("// section 4.9 of RFC 6120"), []string{"cite as"}},
		{"no space", comment("// RFC6120 §4.9"), []string{`"RFC6120": write`, "of what?"}},
		{"short number", comment("// XEP-45"), []string{`"XEP-45": write`}},
		{"string", comment("var s = `RFC 6120 §99`"), nil},
		{"script", map[string]string{IndexPath: smallIndex, "x/testdata/a.script": "# RFC 6120 §4.9: fine.\n# XEP-0045 §2\nclient a b\n"}, []string{"a.script:2: XEP-0045 1.35.5 has no §2"}},
		{"page", map[string]string{IndexPath: smallIndex, "doc/a.md": "# A page\n\nSee §2 here, or RFC 6120 §8.\n"}, []string{"a.md:3: RFC 6120 has no §8"}},
		{"no index", map[string]string{"a.go": "package a"}, []string{"is missing: run make specs"}},
		{"broken index", map[string]string{IndexPath: "RFC 6120 1 2\n"}, []string{"line 1 has 1 columns"}},
	})
}

func TestVersions(t *testing.T) {
	specs := func(comment, list string) map[string]string {
		return map[string]string{
			IndexPath:                   smallIndex,
			"internal/feature/muc/a.go": "// Package muc has rooms" + comment + ".\npackage muc\nvar Module = module.Def[C]{Specs: []module.Spec{" + list + "}}",
		}
	}
	judge(t, checkVersions, []trial{
		{"right", specs(" (XEP-0045, RFC\n// 6120)", `{XEP: 45, Version: "1.35.5"}, {RFC: 6120}`), nil},
		{"another version", specs(" (XEP-0045)", `{XEP: 45, Version: "1.34"}`), []string{`a.go:3: XEP-0045: version "1.34" is named, version "1.35.5" was read`}},
		{"no version", specs(" (XEP-0045)", `{XEP: 0045}`), []string{`version "" is named`}},
		{"unknown", specs(" (XEP-0046)", `{XEP: 46, Version: "1"}`), []string{"XEP-0046 is not in"}},
		{"unknown RFC", specs("", `{RFC: 1}`), []string{"RFC 1 is not in"}},
		{"not cited", specs("", `{XEP: 45, Version: "1.35.5"}`), []string{"XEP-0045 is declared, but no comment"}},
		{"another type", specs("", `}, x: row{XEP: number`), nil},
		{"computed", specs("", `{XEP: number, Version: "1"}`), []string{"write number and version as literals"}},
	})
}

func TestDependencies(t *testing.T) {
	mod := "module m\n\nrequire (\n\ta.test/one v1.0.0\n\ta.test/two v2.0.0 // indirect\n)\n\nrequire a.test/three v0.3.0\n"
	listed := "a.test/one v1.0.0\na.test/three v0.3.0\n"
	judge(t, checkDependencies, []trial{
		{"right", map[string]string{"go.mod": mod, depsPath: listed, "doc/decisions/001-a.md": "`a.test/one` for this, `a.test/three` for that"}, nil},
		{"list is old", map[string]string{"go.mod": mod, depsPath: "a.test/one v0.9.0\n", "doc/decisions/001-a.md": "`a.test/one` `a.test/three`"}, []string{"doc/deps.txt: differs"}},
		{"no list", map[string]string{}, []string{"doc/deps.txt: differs"}},
		{"no decision", map[string]string{"go.mod": mod, depsPath: listed, "doc/decisions/001-a.md": "`a.test/one`", "doc/b.md": "`a.test/three`"}, []string{"a.test/three is not named in doc/decisions"}},
	})
}

func TestWords(t *testing.T) {
	judge(t, checkWords, []trial{
		{"clean", map[string]string{"a.go": "package a // TODOS XXXL framework/network https://a.test/works/"}, nil},
		{"unfinished", map[string]string{"a.go": "package a\n\n// TO" + "DO: more"}, []string{"a.go:3: TO"}},
		{"unfinished page", map[string]string{"doc/a.md": "FIX" + "ME"}, []string{"a.md:1"}},
		{"marked", map[string]string{"a.js": "// XX" + "X"}, []string{"a.js:1"}},
		{"path", map[string]string{"Makefile": "SPECS=/wo" + "rk/specs"}, []string{"a path of one machine"}},
		{"path at the start", map[string]string{"a.txt": "/wo" + "rk/specs"}, []string{"a path of one machine"}},
		{"lock of npm", map[string]string{"t/package-lock.json": `"resolved": "https://registry.npmjs.org/a/-/a-1.tgz"`}, nil},
		{"lock of a mirror", map[string]string{"t/package-lock.json": `"resolved": "http://mirror.test:80/a-1.tgz"`}, []string{"mirror.test:80: lock packages"}},
		{"mirror named", map[string]string{"run": "pip install --index" + "-url=http://mirror.test a"}, []string{"a package registry of one machine"}},
		{"not text", map[string]string{"a.bin": "TO" + "DO\x00"}, nil},
	})
}

func TestIndexRoundTrip(t *testing.T) {
	ix, err := ParseIndex([]byte(smallIndex))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := ix.Write(&out); err != nil {
		t.Fatal(err)
	}
	_, want, _ := strings.Cut(smallIndex, "\n")
	if _, got, _ := strings.Cut(out.String(), "\n"); got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
}

func TestTraps(t *testing.T) {
	all := func(change func(map[string]string)) map[string]string {
		files := map[string]string{"x/a_test.go": "package x_test\nfunc TestScripts(t *testing.T) { xmpptest.Scripts(t) }\n"}
		for n := 1; n < lastTrap; n++ {
			files[fmt.Sprintf("x/testdata/trap-%02d-name.script", n)] = "# a trap\n"
		}
		files["y/b_test.go"] = fmt.Sprintf("package y\nfunc TestTrap%02d_Name(t *testing.T) {}\n", lastTrap)
		change(files)
		return files
	}
	judge(t, checkTraps, []trial{
		{"none at all", map[string]string{"a.go": "package a"}, nil},
		{"complete", all(func(map[string]string) {}), nil},
		{"one is missing", all(func(f map[string]string) { delete(f, "x/testdata/trap-07-name.script") }), []string{"trap 7 has no test"}},
		{"one is skipped", all(func(f map[string]string) {
			f["y/b_test.go"] = fmt.Sprintf("package y\nfunc TestTrap%02d_Name(t *testing.T) { t.Skip() }\n", lastTrap)
		}), []string{"b_test.go:2: the test of a trap is never skipped"}},
		{"scripts that nobody plays", all(func(f map[string]string) { f["z/testdata/trap-01-name.script"] = "# a trap\n" }), []string{"no test of z calls"}},
	})
}
