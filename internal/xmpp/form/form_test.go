package form_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// bot is the form of the example in XEP-0004 §5.1, with what else a form may hold.
func bot() form.Form {
	return form.New(form.TypeForm, "jabber:bot",
		form.Fixed("Section 1: Bot Info"),
		form.Text("botname", "The name of your bot", ""),
		form.Lines("description", "Helpful description of your bot", "one\r\ntwo"),
		form.Bool("public", "Public bot?", true).Must(),
		form.Password("password", "Password for special access", ""),
		form.Choices("features", "What features will the bot support?", []string{"news", "search"},
			form.Option{"Contests", "contests"}, form.Option{"News", "news"}, form.Option{"Search", "search"}),
		form.Choice("maxsubs", "Maximum number of subscribers", "20",
			form.Option{"20", "20"}, form.Option{"None", "none"}),
		form.JIDs("invitelist", "People to invite").Explained("Tell all your friends about your new bot!"),
		form.JID("owner", "Owner", jid.MustParse("romeo@a.test")),
		form.Number("age", "Age", 3, 1, 99),
		form.Hidden("token", "a", "b"),
	).Titled("Bot Configuration", "Fill out this form to configure your new bot!")
}

func parse(t testing.TB, s string) form.Form {
	t.Helper()
	e, err := xml.Parse([]byte(s), form.NS)
	if err != nil {
		t.Fatal(err)
	}
	f, err := form.Parse(&e)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestElement(t *testing.T) {
	const want = `<x xmlns='jabber:x:data' type='form'><title>Bot Configuration</title>` +
		`<instructions>Fill out this form to configure your new bot!</instructions>` +
		`<field var='FORM_TYPE' type='hidden'><value>jabber:bot</value></field>` +
		`<field type='fixed'><value>Section 1: Bot Info</value></field>` +
		`<field var='botname' type='text-single' label='The name of your bot'/>` +
		`<field var='description' type='text-multi' label='Helpful description of your bot'><value>one</value><value>two</value></field>` +
		`<field var='public' type='boolean' label='Public bot?'><required/><value>1</value></field>` +
		`<field var='password' type='text-private' label='Password for special access'/>` +
		`<field var='features' type='list-multi' label='What features will the bot support?'><value>news</value><value>search</value>` +
		`<option label='Contests'><value>contests</value></option><option label='News'><value>news</value></option><option label='Search'><value>search</value></option></field>` +
		`<field var='maxsubs' type='list-single' label='Maximum number of subscribers'><value>20</value>` +
		`<option label='20'><value>20</value></option><option label='None'><value>none</value></option></field>` +
		`<field var='invitelist' type='jid-multi' label='People to invite'><desc>Tell all your friends about your new bot!</desc></field>` +
		`<field var='owner' type='jid-single' label='Owner'><value>romeo@a.test</value></field>` +
		`<field var='age' type='text-single' label='Age'><validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:integer'>` +
		`<range min='1' max='99'/></validate><value>3</value></field>` +
		`<field var='token' type='hidden'><value>a</value><value>b</value></field></x>`
	if got := bot().Element().String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := parse(t, want); !reflect.DeepEqual(got, bot()) {
		t.Errorf("parsed as %+v\nwant %+v", got, bot())
	}
}

func TestTable(t *testing.T) {
	f := form.Table("jabber:iq:search", []form.Field{{Name: "jid", Type: form.KindJIDSingle, Label: "Address"}},
		[][]form.Field{{form.Value("jid", "romeo@a.test")}, {form.Value("jid", "juliet@a.test")}})
	const want = `<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>jabber:iq:search</value></field>` +
		`<reported><field var='jid' type='jid-single' label='Address'/></reported>` +
		`<item><field var='jid'><value>romeo@a.test</value></field></item><item><field var='jid'><value>juliet@a.test</value></field></item></x>`
	if got := f.Element().String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := parse(t, want); !reflect.DeepEqual(got, f) {
		t.Errorf("parsed as %+v\nwant %+v", got, f)
	}
}

func TestParse(t *testing.T) {
	fields := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "<field var='f%d'/>", i)
		}
		return b.String()
	}
	for _, c := range []struct{ name, in, want string }{
		{"cancel", `<x type='cancel'/>`, ""},
		{"no type", `<x/>`, "a form of no known type"},
		{"unknown type", `<x type='error'/>`, "a form of no known type"},
		{"another element", `<y type='form'/>`, "not a data form"},
		{"another namespace", `<x xmlns='urn:x' type='form'/>`, "not a data form"},
		{"nameless field", `<x type='form'><field type='boolean'/></x>`, "a field without a name"},
		{"nameless field of a submission", `<x type='submit'><field type='fixed'><value>x</value></field><field><value>y</value></field></x>`, ""},
		{"same name twice", `<x type='submit'><field var='a'/><field var='a'/></x>`, `field "a": is there twice`},
		{"same name in two rows", `<x type='result'><reported><field var='a'/></reported><item><field var='a'/></item><item><field var='a'/></item></x>`, ""},
		{"same name twice in a row", `<x type='result'><item><field var='a'/><field var='a'/></item></x>`, `field "a": is there twice`},
		{"two heads", `<x type='result'><reported/><reported/></x>`, "a table with two heads"},
		{"two values in a line", `<x type='submit'><field var='a' type='text-single'><value/><value/></field></x>`, `field "a": has more than one value`},
		{"two values of no known kind", `<x type='submit'><field var='a'><value/><value/></field></x>`, ""},
		{"option without a value", `<x type='form'><field var='a' type='list-single'><option/></field></x>`, `field "a": an option without a value`},
		{"many fields", `<x type='form'>` + fields(form.MaxFields) + `</x>`, ""},
		{"too many fields", `<x type='form'>` + fields(form.MaxFields+1) + `</x>`, "too many fields"},
		{"too many fields in a row", `<x type='result'><item>` + fields(form.MaxFields+1) + `</item></x>`, "too many fields"},
		{"many values", `<x type='form'><field var='a' type='text-multi'>` + strings.Repeat("<value/>", 100) + `</field></x>`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := xml.Parse([]byte(c.in), form.NS)
			if err != nil {
				t.Fatal(err)
			}
			_, err = form.Parse(&e)
			var problem *form.Error
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.As(err, &problem) || problem.Error() != c.want):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if _, err := form.Parse(nil); err == nil {
		t.Error("nothing was taken as a form")
	}
}

func TestParseBoundsValues(t *testing.T) {
	e := xml.New(form.NS, "x", "type", "form")
	for i := range 100 {
		f := xml.New(form.NS, "field", "var", fmt.Sprint(i), "type", "text-multi")
		for range form.MaxValues/100 + 1 {
			f = f.With(xml.New(form.NS, "value"))
		}
		e = e.With(f)
	}
	if _, err := form.Parse(&e); err == nil {
		t.Error("a form without bounds was taken")
	}
}

func TestKinds(t *testing.T) {
	f := parse(t, `<x type='form'><field var='a'/><field var='b' type='color'/><field var='c' type='boolean'><option><value>x</value></option></field></x>`)
	for name, want := range map[string]form.Kind{"a": form.KindTextSingle, "b": form.KindTextSingle, "c": form.KindBoolean} {
		if got := f.Field(name); got.Type != want || got.Options != nil {
			t.Errorf("%s is %+v", name, got)
		}
	}
	if f := parse(t, `<x type='submit'><field var='a'/></x>`); f.Field("a").Type != "" {
		t.Error("a field of a submission was given a kind")
	}
	if f.Field("d") != nil || f.Field("") != nil {
		t.Error("a field that is not there was found")
	}
}

func TestContext(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"hidden in a form", `<x type='form'><field var='FORM_TYPE' type='hidden'><value>urn:x</value></field></x>`, "urn:x"},
		{"not hidden in a form", `<x type='form'><field var='FORM_TYPE' type='text-single'><value>urn:x</value></field></x>`, ""},
		{"no kind in a form", `<x type='form'><field var='FORM_TYPE'><value>urn:x</value></field></x>`, ""},
		{"no kind in a result", `<x type='result'><field var='FORM_TYPE'><value>urn:x</value></field></x>`, ""},
		{"no kind in a submission", `<x type='submit'><field var='FORM_TYPE'><value>urn:x</value></field></x>`, "urn:x"},
		{"no value", `<x type='submit'><field var='FORM_TYPE'/></x>`, ""},
		{"none", `<x type='submit'/>`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := parse(t, c.in)
			if got := f.Context(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	q, _ := xml.Parse([]byte(`<query xmlns='urn:q'><a/><x xmlns='jabber:x:data' type='cancel'/></query>`), "")
	if f, err := form.Find(&q); err != nil || f == nil || f.Type != form.TypeCancel {
		t.Errorf("got %+v, %v", f, err)
	}
	q, _ = xml.Parse([]byte(`<query xmlns='urn:q'><x type='cancel'/></query>`), "")
	if f, err := form.Find(&q); err != nil || f != nil {
		t.Errorf("got %+v, %v", f, err)
	}
	q, _ = xml.Parse([]byte(`<query xmlns='urn:q'><x xmlns='jabber:x:data'/></query>`), "")
	if f, err := form.Find(&q); err == nil {
		t.Errorf("got %+v", f)
	}
	if f, err := form.Find(nil); err != nil || f != nil {
		t.Errorf("got %+v, %v", f, err)
	}
}
