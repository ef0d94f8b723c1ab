package form_test

import (
	"reflect"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// FuzzParse checks that a form is written as it was read, and that no submission
// upsets the form that it claims to answer.
func FuzzParse(f *testing.F) {
	f.Add(bot().Element().String())
	f.Add(`<x xmlns='jabber:x:data' type='submit'><field var='public'><value>1</value></field><field var='age'><value>7</value></field></x>`)
	f.Add(`<x xmlns='jabber:x:data' type='result'><reported><field var='a'/></reported><item><field var='a'><value/></field></item></x>`)
	f.Fuzz(func(t *testing.T, s string) {
		e, err := xml.Parse([]byte(s), "")
		if err != nil {
			return
		}
		one, err := form.Parse(&e)
		if err != nil {
			return
		}
		written := one.Element()
		two, err := form.Parse(&written)
		if err != nil || !reflect.DeepEqual(one, two) {
			t.Fatalf("%s\nread as %+v\nthen as %+v, %v", s, one, two, err)
		}
		asked := bot()
		if values, err := asked.Accept(&one); err == nil && !values.Has("public") {
			t.Errorf("%s: accepted without what is required", s)
		}
		one.Type = form.TypeForm
		one.Accept(&two)
	})
}
