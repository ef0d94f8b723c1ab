package form_test

import (
	"reflect"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/form"
)

func TestAccept(t *testing.T) {
	const public = `<field var='public'><value>true</value></field>`
	for _, c := range []struct {
		name, in string
		want     form.Values // beside public
		err      string
	}{
		{"as in the example", `<field var='FORM_TYPE' type='hidden'><value>jabber:bot</value></field>
			<field var='botname' type='text-single'><value>The Jabber Google Bot</value></field>
			<field var='description'><value>This bot</value><value/><value>is cool</value></field>
			<field var='features'><value>news</value><value>search</value></field>
			<field var='maxsubs'><value>none</value></field>
			<field var='invitelist'><value>Juliet@Capulet.com</value><value>juliet@capulet.com</value><value>benvolio@montague.net</value></field>` + public,
			form.Values{"botname": {"The Jabber Google Bot"}, "description": {"This bot", "", "is cool"}, "features": {"news", "search"},
				"maxsubs": {"none"}, "invitelist": {"juliet@capulet.com", "benvolio@montague.net"}}, ""},
		{"only what is required", public, form.Values{}, ""},
		{"unknown fields", `<field var='x'><value>1</value><value>2</value></field>` + public, form.Values{}, ""},
		{"fixed field", `<field type='fixed'><value>Section 1: Bot Info</value></field>` + public, form.Values{}, ""},
		{"another context", `<field var='FORM_TYPE'><value>jabber:rob</value></field>` + public, nil, `field "FORM_TYPE": this is another form`},
		{"required is missing", `<field var='botname'><value>x</value></field>`, nil, `field "public": has to be filled in`},
		{"not a boolean", `<field var='public'><value>yes</value></field>`, nil, `field "public": is neither true nor false`},
		{"two values", `<field var='botname'><value>x</value><value>y</value></field>` + public, nil, `field "botname": has more than one value`},
		{"two lines", "<field var='botname'><value>x\ny</value></field>" + public, nil, `field "botname": has more than one line`},
		{"empty line", `<field var='botname'><value/></field>` + public, form.Values{"botname": {""}}, ""},
		{"no value", `<field var='botname'/>` + public, form.Values{"botname": {""}}, ""},
		{"not an option", `<field var='maxsubs'><value>5</value></field>` + public, nil, `field "maxsubs": is not one of the options`},
		{"not one of many options", `<field var='features'><value>news</value><value>x</value></field>` + public, nil, `field "features": is not one of the options`},
		{"no option", `<field var='maxsubs'><value/></field><field var='features'/>` + public, form.Values{"features": {}}, ""},
		{"not an address", `<field var='owner'><value>@</value></field>` + public, nil, `field "owner": is not an address`},
		{"empty addresses", `<field var='owner'><value/></field><field var='invitelist'><value/></field>` + public,
			form.Values{"owner": {}, "invitelist": {}}, ""},
		{"number", `<field var='age'><value>99</value></field>` + public, form.Values{"age": {"99"}}, ""},
		{"no number", `<field var='age'><value>x</value></field>` + public, nil, `field "age": is not a whole number, or out of range`},
		{"empty number", `<field var='age'><value/></field>` + public, form.Values{}, ""},
		{"number out of range", `<field var='age'><value>100</value></field>` + public, nil, `field "age": is out of range, which is from 1 to 99`},
		{"hidden values", `<field var='token'><value/><value>c</value></field>` + public, form.Values{"token": {"", "c"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, submitted := bot(), parse(t, `<x type='submit'>`+c.in+`</x>`)
			got, err := f.Accept(&submitted)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, %v, want %s", got, err, c.err)
				}
				return
			}
			c.want["public"] = []string{"1"}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
	f, cancelled := bot(), parse(t, `<x type='cancel'/>`)
	if _, err := f.Accept(&cancelled); err == nil {
		t.Error("a cancelled form was accepted")
	}
	unticked := parse(t, `<x type='submit'><field var='public'/></x>`)
	if got, err := f.Accept(&unticked); err != nil || got.Bool("public") || !got.Has("public") {
		t.Errorf("no value for a boolean is %v, %v", got, err)
	}
}

func TestDatatypes(t *testing.T) {
	for _, c := range []struct {
		name     string
		v        form.Validation
		ok, fail []string
	}{
		{"text", form.Validation{Datatype: "xs:string"}, []string{"x", "1"}, nil},
		{"unknown", form.Validation{Datatype: "x:color"}, []string{"x", "1"}, nil},
		{"integer", form.Validation{Datatype: "xs:integer", Min: "-5"}, []string{"-5", "+7", "0"}, []string{"-6", "1.5", "x", "0x1", "9223372036854775808"}},
		{"up to", form.Validation{Datatype: "xs:long", Max: "5"}, []string{"-6", "5"}, []string{"6"}},
		{"byte", form.Validation{Datatype: "xs:byte"}, []string{"-128", "127"}, []string{"-129", "128"}},
		{"short", form.Validation{Datatype: "xs:short"}, []string{"32767"}, []string{"32768"}},
		{"int", form.Validation{Datatype: "xs:int"}, []string{"-2147483648"}, []string{"2147483648"}},
		{"not negative", form.Validation{Datatype: "xs:nonNegativeInteger"}, []string{"0"}, []string{"-1"}},
		{"point in time", form.Validation{Datatype: "xs:dateTime", Min: "2003-10-05T00:00:00-07:00", Max: "2003-10-24T23:59:59-07:00"},
			[]string{"2003-10-06T11:22:00-07:00", "2003-10-05T07:00:00Z"}, []string{"2003-10-05T06:59:59Z", "2003-10-26T00:00:00Z", "2003-10-06", "x"}},
		{"date", form.Validation{Datatype: "xs:date", Min: "2003-10-05"}, []string{"2003-10-05"}, []string{"2003-10-04", "2003-02-30", "5"}},
		{"URI", form.Validation{Datatype: "xs:anyURI"}, []string{"xmpp:a@b", "http://x/"}, []string{"x y", "x", "%"}},
		{"boolean", form.Validation{Datatype: "xs:boolean"}, []string{"0", "1", "true", "false"}, []string{"yes", "TRUE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			field := form.Text("x", "", "")
			field.Validate = c.v
			f := form.New(form.TypeForm, "", field)
			try := func(value string) error {
				submitted := form.New(form.TypeSubmit, "", form.Value("x", value))
				_, err := f.Accept(&submitted)
				return err
			}
			for _, v := range c.ok {
				if err := try(v); err != nil {
					t.Errorf("%q: %v", v, err)
				}
			}
			for _, v := range c.fail {
				if err := try(v); err == nil {
					t.Errorf("%q was accepted", v)
				}
			}
		})
	}
}

func TestOpenList(t *testing.T) {
	list := form.Choice("kind", "", "", form.Option{Value: "holiday"})
	list.Validate = form.Validation{Datatype: "xs:string", Open: true}
	f := form.New(form.TypeForm, "", list)
	submitted := form.New(form.TypeSubmit, "", form.Value("kind", "party"))
	if got, err := f.Accept(&submitted); err != nil || got.Text("kind") != "party" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestValues(t *testing.T) {
	v := form.Values{"lines": {"a", "b"}, "yes": {"1"}, "no": {"0"}, "n": {"7"}, "j": {"a@b", "c@d"}, "none": {}}
	if v.Text("lines") != "a\nb" || v.Text("x") != "" || !v.Bool("yes") || v.Bool("no") || v.Bool("x") ||
		v.Int("n", 1) != 7 || v.Int("x", 1) != 1 || v.JID("j").Local() != "a" || len(v.JIDs("j")) != 2 ||
		!v.JID("none").IsZero() || !v.Has("none") || v.Has("x") {
		t.Error("values are not read as they are")
	}
}
