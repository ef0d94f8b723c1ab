package form

import (
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Find reads the form that is a child of e, which may be nil. The form is nil when
// there is none.
func Find(e *xml.Element) (*Form, error) {
	x := e.Child(NS, "x")
	if x == nil {
		return nil, nil
	}
	f, err := Parse(x)
	if err != nil {
		return nil, err
	}
	return &f, nil
}

// Parse reads a form. The error is an *Error.
func Parse(e *xml.Element) (Form, error) {
	f := Form{Type: e.Attr("type")}
	switch {
	case e == nil || e.Space != NS || e.Local != "x":
		return Form{}, &Error{"", "not a data form"}
	case f.Type != TypeForm && f.Type != TypeSubmit && f.Type != TypeCancel && f.Type != TypeResult:
		return Form{}, &Error{"", "a form of no known type"}
	}
	p := parser{typ: f.Type}
	for c := range e.Elements() {
		if c.Space != NS {
			continue
		}
		switch c.Local {
		case "title":
			f.Title = c.Text()
		case "instructions":
			f.Instructions = append(f.Instructions, c.Text())
		case "field":
			f.Fields = p.field(f.Fields, c)
		case "reported":
			if f.Reported != nil { // XEP-0004 §3.4
				p.fail("", "a table with two heads")
			}
			f.Reported = p.fields(c)
		case "item":
			// XEP-0004 §3.4: older software puts rows before the head of the table.
			f.Items = append(f.Items, p.fields(c))
		}
		if len(f.Instructions) > MaxFields || len(f.Items) > MaxItems {
			p.fail("", "too long a form")
		}
		if p.err != nil {
			return Form{}, p.err
		}
	}
	return f, nil
}

// parser keeps the first error, and counts.
type parser struct {
	typ    string // of the form
	values int    // values and options so far
	err    error
}

func (p *parser) fail(field, text string) {
	if p.err == nil {
		p.err = &Error{field, text}
	}
}

// fields reads a head or row of a table.
func (p *parser) fields(e *xml.Element) []Field {
	fields := []Field{} // not nil: an empty head is a head
	for c := range e.Elements() {
		if c.Space == NS && c.Local == "field" && p.err == nil {
			fields = p.field(fields, c)
		}
	}
	return fields
}

// field reads one field and adds it to those before.
func (p *parser) field(before []Field, e *xml.Element) []Field {
	f := Field{Name: e.Attr("var"), Type: Kind(e.Attr("type")), Label: e.Attr("label")}
	if f.Type == "" && p.typ == TypeForm || f.Type != "" && !f.Type.known() {
		f.Type = KindTextSingle // XEP-0004 §3.2, §3.3
	}
	switch {
	case f.Name != "" || f.Type == KindFixed:
	case p.typ == TypeSubmit:
		// Choice: clients send back what they were shown, fixed fields without their type
		// among them; a field that names nothing is one that is not understood (XEP-0004 §3.1).
		return before
	default: // XEP-0004 §3.2
		p.fail("", "a field without a name")
		return nil
	}
	if len(before) == MaxFields {
		p.fail("", "too many fields")
		return nil
	}
	for i := range before {
		if f.Name != "" && before[i].Name == f.Name {
			p.fail(f.Name, "is there twice")
			return nil
		}
	}
	p.content(&f, e)
	return append(before, f)
}

// content reads what is inside a field.
func (p *parser) content(f *Field, e *xml.Element) {
	for c := range e.Elements() {
		switch {
		case c.Space == NSValidate && c.Local == "validate":
			f.Validate = parseValidation(c)
		case c.Space != NS:
		case c.Local == "desc":
			f.Desc = c.Text()
		case c.Local == "required":
			f.Required = true
		case c.Local == "value":
			f.Values = append(f.Values, c.Text())
			p.values++
		case c.Local == "option" && (f.Type == "" || f.Type.list()): // XEP-0004 §3.2: others have none
			v := c.Child(NS, "value")
			if v == nil {
				p.fail(f.Name, "an option without a value")
				return
			}
			f.Options = append(f.Options, Option{c.Attr("label"), v.Text()})
			p.values++
		}
		if p.values > MaxValues {
			p.fail(f.Name, "too many values")
			return
		}
	}
	if f.Type != "" && !f.Type.multiple() && len(f.Values) > 1 { // XEP-0004 §3.2
		p.fail(f.Name, "has more than one value")
	}
}

func parseValidation(e *xml.Element) Validation {
	v := Validation{Datatype: e.Attr("datatype"), Open: e.Child(NSValidate, "open") != nil}
	if r := e.Child(NSValidate, "range"); r != nil {
		v.Min, v.Max = r.Attr("min"), r.Attr("max")
		v.Open = v.Open && v.Min == "" && v.Max == ""
	}
	if v.Datatype == "" {
		v.Datatype = "xs:string" // XEP-0122 §3.1
	}
	return v
}
