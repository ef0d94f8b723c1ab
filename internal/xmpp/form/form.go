// Package form builds, reads and checks data forms (XEP-0004), with the context that
// XEP-0068 gives them and the datatypes of XEP-0122 that forms of this server need:
// of the methods of validation it knows basic, open and range.
package form

import (
	"fmt"
	"slices"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of forms and of the datatypes of their fields.
const (
	NS         = "jabber:x:data"
	NSValidate = "http://jabber.org/protocol/xdata-validate"
)

// Types of a form (XEP-0004 §3.1).
const (
	TypeForm   = "form"
	TypeSubmit = "submit"
	TypeCancel = "cancel"
	TypeResult = "result"
)

// TypeField is the name of the field that says what the others mean (XEP-0068 §3.1).
const TypeField = "FORM_TYPE"

// What Parse takes at most of one form.
const (
	MaxFields = 512    // in the form itself, in its head of a table, and in one row of it
	MaxValues = 10_000 // values and options, in all
	MaxItems  = 10_000 // rows of a table
)

// Form is a data form. It is built once and then only read.
type Form struct {
	Type         string
	Title        string
	Instructions []string
	Fields       []Field
	Reported     []Field   // the head of a table of results (XEP-0004 §3.4)
	Items        [][]Field // its rows
}

// Error says what is wrong with a form, in words for whoever sent it.
type Error struct {
	Field string // its name, empty when it is about the form as a whole
	Text  string
}

// Error names the field.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Text
	}
	return fmt.Sprintf("field %q: %s", e.Field, e.Text)
}

// New makes a form of the type with a hidden field that holds its context
// (XEP-0068 §3.1), unless that is empty.
func New(typ, context string, fields ...Field) Form {
	f := Form{Type: typ, Fields: fields}
	if context != "" {
		f.Fields = append([]Field{Hidden(TypeField, context)}, fields...)
	}
	return f
}

// Table makes a form of type result that holds rows (XEP-0004 §3.4). Without a
// context, columns are all that is above the rows.
func Table(context string, columns []Field, rows [][]Field) Form {
	f := New(TypeResult, context)
	f.Reported, f.Items = columns, rows
	return f
}

// Titled returns f with a title and instructions for who fills it in.
func (f Form) Titled(title string, instructions ...string) Form {
	f.Title, f.Instructions = title, instructions
	return f
}

// Field is the field of that name, nil if there is none.
func (f *Form) Field(name string) *Field {
	i := slices.IndexFunc(f.Fields, func(x Field) bool { return x.Name == name })
	if i < 0 || name == "" {
		return nil
	}
	return &f.Fields[i]
}

// Context is what the form's fields mean, empty if it does not say. What is not hidden
// does not count (XEP-0068 §4.3), save in a submission, where a field needs no type
// (XEP-0068 §5).
func (f *Form) Context() string {
	t := f.Field(TypeField)
	if t == nil || len(t.Values) == 0 || t.Type != KindHidden && (f.Type != TypeSubmit || t.Type != "") {
		return ""
	}
	return t.Values[0]
}

// Element is the form as it is sent.
func (f Form) Element() xml.Element {
	e := xml.New(NS, "x", "type", f.Type)
	if f.Title != "" {
		e = e.With(xml.New(NS, "title").WithText(f.Title))
	}
	for _, text := range f.Instructions {
		e.Nodes = append(e.Nodes, node(xml.New(NS, "instructions").WithText(text)))
	}
	e.Nodes = appendFields(e.Nodes, f.Fields)
	if f.Reported != nil {
		e.Nodes = append(e.Nodes, node(xml.Element{Space: NS, Local: "reported", Nodes: appendFields(nil, f.Reported)}))
	}
	for _, row := range f.Items {
		e.Nodes = append(e.Nodes, node(xml.Element{Space: NS, Local: "item", Nodes: appendFields(nil, row)}))
	}
	return e
}

func node(e xml.Element) xml.Node { return xml.Node{Element: &e} }

func appendFields(nodes []xml.Node, fields []Field) []xml.Node {
	for i := range fields {
		nodes = append(nodes, node(fields[i].element()))
	}
	return nodes
}
