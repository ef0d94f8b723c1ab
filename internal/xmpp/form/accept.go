package form

import (
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Values are the fields of a submission that the form asked for, checked and in one
// notation: booleans are 0 or 1, addresses are prepared.
type Values map[string][]string

// Accept checks a submission against the form that it answers. What the form did not
// ask for is ignored (XEP-0004 §3.1), as is what it shows only. A field that need not
// be filled in and is left out, or is left empty where an empty value means nothing,
// is not among the Values. The error is an *Error.
//
// Choice: a submission without a context is taken as one of the form's own
// (XEP-0068 §4.1), since clients leave it out.
func (f *Form) Accept(submitted *Form) (Values, error) {
	switch context := submitted.Context(); {
	case submitted.Type != TypeSubmit:
		return nil, &Error{"", "not a submission"}
	case context != "" && context != f.Context(): // XEP-0068 §3.6: compared as strings
		return nil, &Error{TypeField, "this is another form"}
	}
	values := Values{}
	for i := range f.Fields {
		ask := &f.Fields[i]
		if ask.Name == "" || ask.Name == TypeField || ask.Type == KindFixed {
			continue
		}
		if got := submitted.Field(ask.Name); got != nil {
			checked, err := ask.check(got.Values)
			if err != nil {
				return nil, err
			}
			if checked != nil {
				values[ask.Name] = checked
			}
		}
		if ask.Required && strings.Join(values[ask.Name], "") == "" { // XEP-0004 §3.2
			return nil, &Error{ask.Name, "has to be filled in"}
		}
	}
	return values, nil
}

// check holds what was submitted against the field. It returns nil when that amounts
// to nothing.
func (f *Field) check(got []string) ([]string, error) {
	if !f.Type.multiple() && len(got) > 1 { // XEP-0004 §3.2
		return nil, &Error{f.Name, "has more than one value"}
	}
	checked := make([]string, 0, len(got))
	for _, v := range got {
		v, err := f.one(v)
		switch {
		case err != nil:
			return nil, err
		case v == "" && !f.emptyCounts():
		case f.Type == KindJIDMulti && slices.Contains(checked, v): // XEP-0004 §3.3: duplicates are ignored
		default:
			checked = append(checked, v)
		}
	}
	if len(checked) > 0 || f.Type.multiple() || f.Type == KindJIDSingle {
		return checked, nil
	}
	switch {
	case f.Type == KindBoolean:
		return []string{"0"}, nil // XEP-0004 §3.3: the default
	case f.emptyCounts():
		return []string{""}, nil
	}
	return nil, nil
}

// emptyCounts tells whether an empty value says something.
func (f *Field) emptyCounts() bool {
	switch f.Type {
	case KindJIDSingle, KindJIDMulti, KindBoolean:
		return false
	case KindListSingle, KindListMulti:
		return f.offers("")
	}
	return f.Validate.Datatype == "" || f.Validate.Datatype == "xs:string"
}

func (f *Field) offers(value string) bool {
	return slices.ContainsFunc(f.Options, func(o Option) bool { return o.Value == value })
}

// one checks a single value.
func (f *Field) one(v string) (string, error) {
	if v == "" && f.Type != KindHidden {
		return "", nil
	}
	switch f.Type {
	case KindBoolean:
		switch v {
		case "0", "false":
			return "0", nil
		case "1", "true":
			return "1", nil
		}
		return "", &Error{f.Name, "is neither true nor false"}
	case KindJIDSingle, KindJIDMulti:
		j, err := jid.Parse(v)
		if err != nil {
			return "", &Error{f.Name, "is not an address"}
		}
		return j.String(), nil
	case KindListSingle, KindListMulti:
		// XEP-0122 §3.2: with a range, a list is open.
		if !f.Validate.Open && f.Validate.Min == "" && f.Validate.Max == "" && !f.offers(v) {
			return "", &Error{f.Name, "is not one of the options"}
		}
		if f.offers(v) {
			return v, nil
		}
	case KindTextSingle, KindTextPrivate:
		if strings.ContainsAny(v, "\r\n") { // XEP-0004 §3.3
			return "", &Error{f.Name, "has more than one line"}
		}
	}
	if why := f.Validate.check(v); why != "" {
		return "", &Error{f.Name, why}
	}
	return v, nil
}

// Has tells whether the field was submitted.
func (v Values) Has(name string) bool {
	_, ok := v[name]
	return ok
}

// Text is the field's value, the lines of one with several joined; empty when it was not submitted.
func (v Values) Text(name string) string { return strings.Join(v[name], "\n") }

// Bool is the value of a boolean field; false when it was not submitted.
func (v Values) Bool(name string) bool { return v.Text(name) == "1" }

// Int is the value of a Number; otherwise when it was not submitted.
func (v Values) Int(name string, otherwise int) int {
	n, err := strconv.Atoi(v.Text(name))
	if err != nil {
		return otherwise
	}
	return n
}

// JID is the value of a field that holds one address; zero when it was not submitted, or empty.
func (v Values) JID(name string) jid.JID {
	if all := v.JIDs(name); len(all) > 0 {
		return all[0]
	}
	return jid.JID{}
}

// JIDs are the values of a field that holds addresses.
func (v Values) JIDs(name string) []jid.JID {
	var all []jid.JID
	for _, s := range v[name] {
		if j, err := jid.Parse(s); err == nil {
			all = append(all, j)
		}
	}
	return all
}
