package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tree is a repository, read and parsed.
type Tree struct {
	Module   string     // module path of go.mod
	Files    []*File    // every text file that may be committed, by path
	Packages []*Package // by folder, then name
	Fset     *token.FileSet
}

// File is one text file.
type File struct {
	Path      string
	Src       []byte
	AST       *ast.File // nil unless it is Go and parses
	ParseErr  error     // why AST is nil although the name ends in .go
	Generated bool      // carries the "Code generated" line
	Test      bool      // name ends in _test.go
}

// Package is the Go files of one folder that share a package clause.
type Package struct {
	Dir   string // "." for the root
	Name  string
	Files []*File
}

// External says whether p is a test package (`package x_test`).
func (p *Package) External() bool {
	return strings.HasSuffix(p.Name, "_test") && p.Files[0].Test
}

// Load reads the tree at the root of fsys, except what the root's .gitignore leaves out. Files that are not UTF-8
// text are left out too.
func Load(fsys fs.FS) (*Tree, error) {
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, fmt.Errorf("read go.mod: %w", err)
	}
	t := &Tree{Module: modulePath(mod), Fset: token.NewFileSet()}
	ignore, err := readIgnore(fsys)
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p != "." && (d.Name() == ".git" || ignore.match(p, d.IsDir())):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		return t.add(fsys, p)
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	t.group()
	return t, nil
}

func (t *Tree) add(fsys fs.FS, p string) error {
	src, err := fs.ReadFile(fsys, p)
	if err != nil {
		return err
	}
	if !utf8.Valid(src) || bytes.IndexByte(src, 0) >= 0 {
		return nil
	}
	f := &File{Path: p, Src: src}
	if path.Ext(p) == ".go" {
		f.Test = strings.HasSuffix(p, "_test.go")
		f.AST, f.ParseErr = parser.ParseFile(t.Fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
		if f.ParseErr != nil {
			f.AST = nil
		} else {
			f.Generated = ast.IsGenerated(f.AST)
		}
	}
	t.Files = append(t.Files, f)
	return nil
}

func (t *Tree) group() {
	byKey := map[string]*Package{}
	for f := range t.goFiles() {
		dir, name := path.Dir(f.Path), f.AST.Name.Name
		key := dir + " " + name
		p := byKey[key]
		if p == nil {
			p = &Package{Dir: dir, Name: name}
			byKey[key] = p
			t.Packages = append(t.Packages, p)
		}
		p.Files = append(p.Files, f)
	}
	slices.SortFunc(t.Packages, func(a, b *Package) int {
		return strings.Compare(a.Dir+" "+a.Name, b.Dir+" "+b.Name)
	})
}

// goFiles yields the Go files that parse.
func (t *Tree) goFiles() func(yield func(*File) bool) {
	return func(yield func(*File) bool) {
		for _, f := range t.Files {
			if f.AST != nil && !yield(f) {
				return
			}
		}
	}
}

// file returns the file at path p, or nil.
func (t *Tree) file(p string) *File {
	for _, f := range t.Files {
		if f.Path == p {
			return f
		}
	}
	return nil
}

// at is a Problem at a node of a Go file.
func (t *Tree) at(f *File, pos token.Pos, format string, args ...any) Problem {
	return Problem{f.Path, t.Fset.Position(pos).Line, fmt.Sprintf(format, args...)}
}

func modulePath(gomod []byte) string {
	for line := range strings.Lines(string(gomod)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// ignores holds the patterns of a .gitignore, of the kinds that this repository uses: a leading slash ties a pattern
// to the root, a trailing one to folders, * matches within a name.
type ignores []string

func readIgnore(fsys fs.FS) (ignores, error) {
	b, err := fs.ReadFile(fsys, ".gitignore")
	if err != nil {
		return nil, nil // a tree without one leaves nothing out
	}
	var ig ignores
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if _, err := path.Match(line, ""); err != nil || line[0] == '!' || strings.Contains(line, "**") {
			return nil, fmt.Errorf(".gitignore: pattern %q is of a kind that tidy does not read", line)
		}
		ig = append(ig, line)
	}
	return ig, nil
}

func (ig ignores) match(p string, dir bool) bool {
	for _, pattern := range ig {
		pattern, dirOnly := strings.CutSuffix(pattern, "/")
		if dirOnly && !dir {
			continue
		}
		name := path.Base(p)
		if strings.Contains(pattern, "/") {
			pattern, name = strings.TrimPrefix(pattern, "/"), p
		}
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}
