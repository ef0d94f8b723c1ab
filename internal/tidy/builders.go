package tidy

import (
	"go/ast"
	"go/token"
	"path"
	"strings"
)

// Where the two kinds of errors are built, and who else knows their namespaces.
const (
	replyFile  = "internal/router/reply.go"    // builds stanza errors
	stanzaDir  = "internal/xmpp/stanza"        // names their conditions
	streamDir  = "internal/xmpp/stream"        // builds stream errors
	internFile = "internal/xmpp/xml/intern.go" // lists every namespace there is
	stanzasNS  = "urn:ietf:params:xml:ns:xmpp-sta" + "nzas"
	streamsNS  = "urn:ietf:params:xml:ns:xmpp-str" + "eams"
)

// checkErrorBuilders keeps the namespaces of stanza and stream errors, and calls that are given the stanza type
// "error", where these errors are built. Comparing a type with stanza.Error is everybody's right.
func checkErrorBuilders(t *Tree) []Problem {
	var ps []Problem
	for f := range t.goFiles() {
		if f.Test || f.Path == internFile {
			continue
		}
		dir := path.Dir(f.Path)
		router := f.Path == replyFile || dir == stanzaDir
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				switch s := stringOf(n); {
				case n.Kind != token.STRING:
				case strings.Contains(s, stanzasNS) && !router:
					ps = append(ps, t.at(f, n.Pos(), "only %s builds stanza errors: return one from stanza.Err", replyFile))
				case strings.Contains(s, streamsNS) && dir != streamDir:
					ps = append(ps, t.at(f, n.Pos(), "only %s/errors.go builds stream errors: return one from stream.Err", streamDir))
				}
			case *ast.CallExpr:
				for _, arg := range n.Args {
					if isSelector(arg, "stanza", "Error") && !router {
						ps = append(ps, t.at(f, arg.Pos(), "only %s builds stanzas of type error: return stanza.Err", replyFile))
					}
				}
			}
			return true
		})
	}
	return ps
}
