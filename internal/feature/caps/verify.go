package caps

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"hash"
	"slices"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const nsInfo = "http://jabber.org/protocol/disco#info"

// maxString is the longest string S that is looked at, in bytes.
const maxString = 16 << 10

// Identity says what an entity is (XEP-0030 §3.1).
type Identity struct{ Category, Type string }

// Info is what an entity can do. It does not change.
type Info struct {
	Identities []Identity
	Features   []string // sorted
}

// Has tells whether the entity supports a feature.
func (i *Info) Has(feature string) bool {
	if i == nil {
		return false
	}
	_, ok := slices.BinarySearch(i.Features, feature)
	return ok
}

// Wants tells whether the entity asks for events of a node (XEP-0163 §4.3.2).
func (i *Info) Wants(node string) bool { return i.Has(node + "+notify") }

// algorithm is the hash function of a name in the registry; nil when it is not supported.
func algorithm(name string) func() hash.Hash {
	switch name {
	case "sha-1": // XEP-0115 §9.1: mandatory
		return sha1.New
	case "sha-256":
		return sha256.New
	case "sha-512":
		return sha512.New
	}
	return nil
}

// verification is the string 'ver' for a string S: XEP-0115 §5.1 rule 9.
func verification(h func() hash.Hash, s string) string {
	d := h()
	d.Write([]byte(s))
	return base64.StdEncoding.EncodeToString(d.Sum(nil))
}

var errIllFormed = errors.New("ill-formed")

// factors gathers the lines of which a string S is made; the first error stays.
type factors struct {
	b   strings.Builder
	err error
}

// add appends a factor. XEP-0115 §5.4: what holds the separator could be taken for
// several factors, so it is ill-formed.
func (f *factors) add(s string) {
	if strings.Contains(s, "<") || f.b.Len()+len(s) > maxString {
		f.err = errIllFormed
		return
	}
	f.b.WriteString(s)
	f.b.WriteByte('<')
}

// addAll appends factors in order; one that is there twice is ill-formed (XEP-0115 §5.4 rule 3).
func (f *factors) addAll(all []string) {
	slices.Sort(all)
	for i, s := range all {
		if i > 0 && s == all[i-1] {
			f.err = errIllFormed
		}
		f.add(s)
	}
}

// digest reads an answer to a disco#info request: what it says, and the string S of it
// (XEP-0115 §5.1). The error says that S cannot be relied on.
func digest(q *xml.Element) (*Info, string, error) {
	info, f := &Info{}, &factors{}
	var identities []string
	for e := range q.Elements() {
		switch {
		case e.Space != nsInfo:
		case e.Local == "identity":
			info.Identities = append(info.Identities, Identity{e.Attr("category"), e.Attr("type")})
			identities = append(identities, e.Attr("category")+"/"+e.Attr("type")+"/"+e.Attr("xml:lang")+"/"+e.Attr("name"))
		case e.Local == "feature":
			info.Features = append(info.Features, e.Attr("var"))
		}
	}
	f.addAll(identities)
	f.addAll(info.Features)
	forms := f.forms(q)
	slices.SortStableFunc(forms, func(a, b form.Form) int { return strings.Compare(a.Context(), b.Context()) })
	for i := range forms {
		if i > 0 && forms[i].Context() == forms[i-1].Context() { // XEP-0115 §5.4 rule 3
			f.err = errIllFormed
		}
		f.addForm(&forms[i])
	}
	return info, f.b.String(), f.err
}

// forms are those that count: XEP-0115 §5.4 rule 3.
func (f *factors) forms(q *xml.Element) (all []form.Form) {
	for e := range q.Elements() {
		if e.Space != form.NS || e.Local != "x" {
			continue
		}
		one, err := form.Parse(e)
		if err != nil {
			f.err = errIllFormed
			return nil
		}
		if one.Context() == "" {
			continue // the field is missing, or not hidden
		}
		if values := one.Field(form.TypeField).Values; slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
			f.err = errIllFormed
		}
		all = append(all, one)
	}
	return all
}

// addForm is XEP-0115 §5.1 rule 7.
func (f *factors) addForm(one *form.Form) {
	f.add(one.Context())
	fields := slices.Clone(one.Fields)
	slices.SortStableFunc(fields, func(a, b form.Field) int { return strings.Compare(a.Name, b.Name) })
	for _, field := range fields {
		if field.Name == form.TypeField {
			continue
		}
		f.add(field.Name)
		values := slices.Clone(field.Values)
		slices.Sort(values)
		for _, v := range values {
			f.add(v)
		}
	}
}
