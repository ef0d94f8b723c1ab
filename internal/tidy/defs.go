package tidy

import (
	"go/ast"
	"go/token"
	"strconv"
)

// def is what the source of a feature's `module.Def[…]{…}` says, as far as literals say it.
type def struct {
	file  *File
	name  string
	needs []string
}

// spec is a literal with the key XEP or RFC: one line of a Def's Specs, or of the server's own list.
type spec struct {
	file    *File
	pos     token.Pos
	xep     int
	rfc     int
	version string
	vague   bool // a value that is not a literal: cannot be checked
}

// defs finds the declarations of the features outside tests.
func (t *Tree) defs() []def {
	var ds []def
	t.literals(func(f *File, lit *ast.CompositeLit) {
		if isDef(lit.Type) {
			d := def{file: f, name: stringOf(field(lit, "Name"))}
			if list, ok := field(lit, "Needs").(*ast.CompositeLit); ok {
				for _, e := range list.Elts {
					d.needs = append(d.needs, stringOf(e))
				}
			}
			ds = append(ds, d)
		}
	})
	return ds
}

// specs finds every literal of module.Spec that names a XEP or an RFC, outside tests.
func (t *Tree) specs() []spec {
	var ss []spec
	t.literals(func(f *File, lit *ast.CompositeLit) {
		xep, rfc := field(lit, "XEP"), field(lit, "RFC")
		ident, _ := lit.Type.(*ast.Ident)
		named := lit.Type == nil || isSelector(lit.Type, "module", "Spec") || ident != nil && ident.Name == "Spec"
		if xep == nil && rfc == nil || !named {
			return
		}
		s := spec{file: f, pos: lit.Pos()}
		var ok bool
		if xep != nil {
			s.xep, ok = intOf(xep)
			s.vague = s.vague || !ok
		}
		if rfc != nil {
			s.rfc, ok = intOf(rfc)
			s.vague = s.vague || !ok
		}
		if v := field(lit, "Version"); v != nil {
			s.version = stringOf(v)
			s.vague = s.vague || s.version == ""
		}
		ss = append(ss, s)
	})
	return ss
}

// literals visits the composite literals of every Go file that is not a test.
func (t *Tree) literals(visit func(f *File, lit *ast.CompositeLit)) {
	for f := range t.goFiles() {
		if f.Test {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok {
				visit(f, lit)
			}
			return true
		})
	}
}

// isDef recognises module.Def and module.Def[Config].
func isDef(typ ast.Expr) bool {
	if ix, ok := typ.(*ast.IndexExpr); ok {
		typ = ix.X
	}
	return isSelector(typ, "module", "Def")
}

// isSelector recognises the expression pkg.name.
func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg && sel.Sel.Name == name
}

// field returns the value of a keyed field, nil when the literal does not set it.
func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

func stringOf(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		s, _ := strconv.Unquote(lit.Value)
		return s
	}
	return ""
}

func intOf(e ast.Expr) (int, bool) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.INT {
		n, err := strconv.ParseInt(lit.Value, 10, 32) // a leading zero is a number in a list of XEPs, not octal
		return int(n), err == nil
	}
	return 0, false
}
