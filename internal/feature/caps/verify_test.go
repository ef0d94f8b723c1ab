package caps

import (
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// complexInfo is the example of XEP-0115 §5.3; simpleInfo that of XEP-0115 §5.2.
const (
	simpleInfo = `<identity category='client' name='Exodus 0.9.1' type='pc'/><feature var='http://jabber.org/protocol/caps'/>
		<feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>`
	complexInfo = `<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/><identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>
		<feature var='http://jabber.org/protocol/muc'/><feature var='http://jabber.org/protocol/disco#info'/>
		<feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/caps'/>
		<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
		<field var='os'><value>Mac</value></field><field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>
		<field var='os_version'><value>10.5.1</value></field><field var='software'><value>Psi</value></field>
		<field var='software_version'><value>0.11</value></field></x>`
	form1 = `<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>a</value></field><field var='b'><value>c</value></field></x>`
)

func TestDigest(t *testing.T) {
	for _, c := range []struct {
		name, info string
		ver        string // by SHA-1; "" for ill-formed
	}{
		{"simple", simpleInfo, "QgayPKawpkPSDYmwT/WM94uAlu0="},
		{"complex", complexInfo, "q07IKJEyjvHSyhy//CH0CxmKi8w="},
		{"a form of no type is ignored", simpleInfo + `<x xmlns='jabber:x:data' type='result'><field var='os'><value>Mac</value></field></x>`, "QgayPKawpkPSDYmwT/WM94uAlu0="},
		{"a type that is not hidden is none", simpleInfo + `<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE'><value>a</value></field></x>`, "QgayPKawpkPSDYmwT/WM94uAlu0="},
		{"what is not known is ignored", simpleInfo + `<feature xmlns='other' var='x'/>`, "QgayPKawpkPSDYmwT/WM94uAlu0="},
		{"a feature twice", simpleInfo + `<feature var='http://jabber.org/protocol/muc'/>`, ""},
		{"an identity twice", simpleInfo + `<identity category='client' name='Exodus 0.9.1' type='pc'/>`, ""},
		{"a form twice", simpleInfo + form1 + form1, ""},
		{"a form of two types", simpleInfo + `<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>a</value><value>b</value></field></x>`, ""},
		{"a separator inside", `<identity category='client' type='pc' name='Exodus 0.9.1&lt;http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>`, ""},
		{"too long", strings.Repeat(`<feature xmlns='`+nsInfo+`' var='`+strings.Repeat("x", 2000)+`'/>`, 9), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := xml.Parse([]byte("<query xmlns='"+nsInfo+"'>"+c.info+"</query>"), "")
			if err != nil {
				t.Fatal(err)
			}
			info, s, err := digest(&q)
			if (err != nil) != (c.ver == "") {
				t.Fatalf("error is %v", err)
			}
			if err != nil {
				return
			}
			if got := verification(algorithm("sha-1"), s); got != c.ver {
				t.Errorf("ver is %s of %q", got, s)
			}
			if !info.Has("http://jabber.org/protocol/muc") || info.Has("http://jabber.org/protocol/mu") {
				t.Errorf("features are %q", info.Features)
			}
		})
	}
}

func TestWants(t *testing.T) {
	info := &Info{Features: []string{"a", "urn:xmpp:avatar:metadata+notify", "z"}}
	if !info.Wants("urn:xmpp:avatar:metadata") || info.Wants("a") || (*Info)(nil).Wants("a") {
		t.Error("wishes are not told apart")
	}
}
