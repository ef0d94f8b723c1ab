package tidy

import (
	"errors"
	"go/ast"
	"go/token"
	"go/types"
)

// checkState refuses init functions, and package variables that change after their declaration. It resolves names with
// go/types but loads no imports, so a method of another package that changes its receiver goes unseen, save for the
// types of sync and sync/atomic, which exist for nothing else.
func checkState(t *Tree) []Problem {
	var ps []Problem
	for _, p := range t.Packages {
		s := scan{tree: t, excepted: map[types.Object]bool{}}
		s.check(p)
		ps = append(ps, s.problems...)
	}
	return ps
}

// scan is the look at one package.
type scan struct {
	tree     *Tree
	file     *File
	info     types.Info
	scope    *types.Scope
	excepted map[types.Object]bool // variables that hold a sync.Pool or an embed.FS
	problems []Problem
}

// noImports is an importer that has nothing; the checker goes on without.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) {
	return nil, errors.New("imports are not loaded")
}

func (s *scan) check(p *Package) {
	s.info = types.Info{
		Defs:       map[*ast.Ident]types.Object{},
		Uses:       map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}, DisableUnusedImportCheck: true}
	var files []*ast.File
	for _, f := range p.Files {
		files = append(files, f.AST)
	}
	pkg, _ := conf.Check(p.Dir, s.tree.Fset, files, &s.info) // fails for want of the imports; what it found is enough
	s.scope = pkg.Scope()
	pooled := pooledTypes(files)
	for _, s.file = range p.Files {
		s.declarations(pooled)
	}
	for _, s.file = range p.Files {
		ast.Inspect(s.file.AST, s.visit)
	}
}

// declarations looks at what stands at the top of a file: init functions, and variables of types made to change.
func (s *scan) declarations(pooled map[string]bool) {
	for _, d := range s.file.AST.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == "init" && d.Recv == nil {
				s.problem(d, "an init function runs unasked: let the caller call")
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				spec := spec.(*ast.ValueSpec)
				excepted := mentions(spec, "sync", "Pool") || mentions(spec.Type, "embed", "FS") || mentionsType(spec, pooled)
				for _, name := range spec.Names {
					s.excepted[s.info.Defs[name]] = excepted
				}
				if !excepted && changing(spec) {
					s.problem(spec, "%s is shared state: keep it in a value that its users are given", spec.Names[0].Name)
				}
			}
		}
	}
}

func (s *scan) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			for _, e := range n.Lhs {
				s.changed(e)
			}
		}
	case *ast.IncDecStmt:
		s.changed(n.X)
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			s.changed(n.Key)
			s.changed(n.Value)
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			if name := s.variable(n.X); name != "" {
				s.problem(n, "the address of package variable %s lets others change it: copy it first", name)
			}
		}
	case *ast.CallExpr:
		s.call(n)
	}
	return true
}

// call looks for built-in functions that change their first argument, and for methods with a pointer receiver, called
// on a variable that is no pointer.
func (s *scan) call(c *ast.CallExpr) {
	switch fun := c.Fun.(type) {
	case *ast.Ident:
		_, builtin := s.info.Uses[fun].(*types.Builtin)
		if builtin && len(c.Args) > 0 && (fun.Name == "delete" || fun.Name == "clear" || fun.Name == "copy") {
			s.changed(c.Args[0])
		}
	case *ast.SelectorExpr:
		sel := s.info.Selections[fun]
		if sel == nil || sel.Kind() != types.MethodVal {
			return
		}
		recv := sel.Obj().(*types.Func).Signature().Recv().Type()
		_, wantsPointer := types.Unalias(recv).(*types.Pointer)
		_, isPointer := sel.Recv().Underlying().(*types.Pointer)
		if wantsPointer && !isPointer {
			if name := s.variable(fun.X); name != "" {
				s.problem(c, "method %s may change package variable %s", fun.Sel.Name, name)
			}
		}
	}
}

func (s *scan) changed(e ast.Expr) {
	if name := s.variable(e); name != "" {
		s.problem(e, "changes package variable %s: keep it in a value that its users are given", name)
	}
}

// variable names the package variable at the root of an expression such as v.field[i], "" when there is none or it
// is excepted.
func (s *scan) variable(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok {
				if _, foreign := s.info.Uses[id].(*types.PkgName); foreign {
					return id.Name + "." + x.Sel.Name
				}
			}
			e = x.X
		case *ast.Ident:
			v, ok := s.info.Uses[x].(*types.Var)
			if !ok || v.Parent() != s.scope || s.excepted[v] {
				return ""
			}
			return x.Name
		default:
			return ""
		}
	}
}

func (s *scan) problem(n ast.Node, format string, args ...any) {
	s.problems = append(s.problems, s.tree.at(s.file, n.Pos(), format, args...))
}

// pooledTypes lists the types of the package that hold a sync.Pool.
func pooledTypes(files []*ast.File) map[string]bool {
	pooled := map[string]bool{}
	for _, f := range files {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.TYPE {
				for _, spec := range d.Specs {
					if spec := spec.(*ast.TypeSpec); mentions(spec.Type, "sync", "Pool") {
						pooled[spec.Name.Name] = true
					}
				}
			}
		}
	}
	return pooled
}

// changing says whether the variable is declared with a type of sync or sync/atomic, whose only use is to change.
func changing(spec *ast.ValueSpec) bool {
	found := false
	look := func(e ast.Expr) {
		if sel, ok := e.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
				found = true
			}
		}
	}
	typ := spec.Type
	if ix, ok := typ.(*ast.IndexExpr); ok { // atomic.Pointer[T]
		typ = ix.X
	}
	look(typ)
	for _, v := range spec.Values {
		if u, ok := v.(*ast.UnaryExpr); ok {
			v = u.X
		}
		if lit, ok := v.(*ast.CompositeLit); ok {
			look(lit.Type)
		}
	}
	return found
}

// mentions says whether pkg.name occurs below n.
func mentions(n ast.Node, pkg, name string) bool {
	return contains(n, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		return ok && isSelector(e, pkg, name)
	})
}

// mentionsType says whether one of the named types occurs below n.
func mentionsType(n ast.Node, names map[string]bool) bool {
	return contains(n, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		return ok && names[id.Name]
	})
}

func contains(n ast.Node, want func(ast.Node) bool) (found bool) {
	if n == nil {
		return false
	}
	ast.Inspect(n, func(n ast.Node) bool {
		found = found || n != nil && want(n)
		return !found
	})
	return found
}
