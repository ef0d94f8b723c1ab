package form

import (
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Kind is the type of a field (XEP-0004 §3.3).
type Kind string

// The kinds of fields. A field whose kind is empty has that of the field of the same
// name in the form that it answers.
const (
	KindBoolean     Kind = "boolean"
	KindFixed       Kind = "fixed"
	KindHidden      Kind = "hidden"
	KindJIDMulti    Kind = "jid-multi"
	KindJIDSingle   Kind = "jid-single"
	KindListMulti   Kind = "list-multi"
	KindListSingle  Kind = "list-single"
	KindTextMulti   Kind = "text-multi"
	KindTextPrivate Kind = "text-private"
	KindTextSingle  Kind = "text-single"
)

func (k Kind) known() bool {
	switch k {
	case KindBoolean, KindFixed, KindHidden, KindJIDMulti, KindJIDSingle,
		KindListMulti, KindListSingle, KindTextMulti, KindTextPrivate, KindTextSingle:
		return true
	}
	return false
}

// multiple tells whether fields of the kind may have several values (XEP-0004 §3.2).
func (k Kind) multiple() bool {
	return k == KindListMulti || k == KindJIDMulti || k == KindTextMulti || k == KindHidden
}

// list tells whether fields of the kind have options.
func (k Kind) list() bool { return k == KindListMulti || k == KindListSingle }

// Field is one field of a form (XEP-0004 §3.2).
type Field struct {
	Name     string // the attribute var; only fixed fields may have none
	Type     Kind
	Label    string
	Desc     string
	Required bool
	Values   []string
	Options  []Option
	Validate Validation
}

// Option is one of those that a list offers.
type Option struct{ Label, Value string }

// Validation says what values may look like beyond the field's kind (XEP-0122 §3).
type Validation struct {
	Datatype string // such as xs:integer; empty for none
	Open     bool   // values beside the options are welcome (XEP-0122 §3.2.2)
	Min, Max string // least and greatest value (XEP-0122 §3.2.3); empty for no bound
}

// Text asks for a line of text.
func Text(name, label, value string) Field {
	return Field{Name: name, Type: KindTextSingle, Label: label, Values: given(value)}
}

// Lines asks for text of several lines, one value for each (XEP-0004 §3.3).
func Lines(name, label, text string) Field {
	f := Field{Name: name, Type: KindTextMulti, Label: label}
	if text != "" {
		f.Values = strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	}
	return f
}

// Password asks for a line that is not shown.
func Password(name, label, value string) Field {
	return Field{Name: name, Type: KindTextPrivate, Label: label, Values: given(value)}
}

// Bool asks yes or no.
func Bool(name, label string, value bool) Field {
	return Field{Name: name, Type: KindBoolean, Label: label, Values: []string{boolText(value)}}
}

func boolText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// Number asks for a whole number from least to greatest.
func Number(name, label string, value, least, greatest int) Field {
	return Field{Name: name, Type: KindTextSingle, Label: label, Values: []string{strconv.Itoa(value)},
		Validate: Validation{Datatype: "xs:integer", Min: strconv.Itoa(least), Max: strconv.Itoa(greatest)}}
}

// Choice asks for one of the options.
func Choice(name, label, value string, options ...Option) Field {
	return Field{Name: name, Type: KindListSingle, Label: label, Values: given(value), Options: options}
}

// Choices asks for any of the options.
func Choices(name, label string, values []string, options ...Option) Field {
	return Field{Name: name, Type: KindListMulti, Label: label, Values: values, Options: options}
}

// JID asks for an address; the zero JID is none yet.
func JID(name, label string, value jid.JID) Field {
	return Field{Name: name, Type: KindJIDSingle, Label: label, Values: given(value.String())}
}

// JIDs asks for any number of addresses.
func JIDs(name, label string, values ...jid.JID) Field {
	f := Field{Name: name, Type: KindJIDMulti, Label: label}
	for _, v := range values {
		f.Values = append(f.Values, v.String())
	}
	return f
}

// Hidden carries values that come back with the submission.
func Hidden(name string, values ...string) Field {
	return Field{Name: name, Type: KindHidden, Values: values}
}

// Fixed is text that is shown between fields.
func Fixed(text string) Field { return Field{Type: KindFixed, Values: []string{text}} }

// Value is a field whose kind is clear from the context, for submissions and results.
func Value(name string, values ...string) Field { return Field{Name: name, Values: values} }

// Must returns f as a field that has to be filled in.
func (f Field) Must() Field {
	f.Required = true
	return f
}

// Explained returns f with a description.
func (f Field) Explained(desc string) Field {
	f.Desc = desc
	return f
}

// given is the list of one value, none when it is empty.
func given(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func (f *Field) element() xml.Element {
	e := xml.New(NS, "field", "var", f.Name, "type", string(f.Type), "label", f.Label)
	if f.Desc != "" {
		e.Nodes = append(e.Nodes, node(xml.New(NS, "desc").WithText(f.Desc)))
	}
	if f.Required {
		e.Nodes = append(e.Nodes, node(xml.New(NS, "required")))
	}
	if v := f.Validate.element(); !v.IsNone() {
		e.Nodes = append(e.Nodes, node(v))
	}
	for _, v := range f.Values {
		e.Nodes = append(e.Nodes, node(xml.New(NS, "value").WithText(v)))
	}
	for _, o := range f.Options {
		e.Nodes = append(e.Nodes, node(xml.New(NS, "option", "label", o.Label).With(xml.New(NS, "value").WithText(o.Value))))
	}
	return e
}

func (v Validation) element() xml.Element {
	if v == (Validation{}) {
		return xml.None
	}
	e := xml.New(NSValidate, "validate", "datatype", v.Datatype)
	switch {
	case v.Min != "" || v.Max != "":
		return e.With(xml.New(NSValidate, "range", "min", v.Min, "max", v.Max))
	case v.Open:
		return e.With(xml.New(NSValidate, "open"))
	}
	return e.With(xml.New(NSValidate, "basic"))
}
