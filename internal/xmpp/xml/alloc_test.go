//go:build !race

package xml_test

import (
	"reflect"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/xml"
)

// TestScanAllocations holds the hot path to its budget. (Under the race detector pools drop items at random.)
func TestScanAllocations(t *testing.T) {
	custom := `<message to='a@b.test'><x xmlns='urn:example:unknown'/><y:z xmlns:y='urn:example:other' y:a='1' y:b='2'/></message>`
	for _, c := range append(samples, struct{ name, stanza string }{"unknown namespaces", custom}) {
		t.Run(c.name, func(t *testing.T) {
			buf := []byte(c.stanza)
			lim := xml.DefaultLimits()
			var st xml.Stream
			st.Open(xml.NSClient)
			scratch := make([]byte, 0, 64)
			read := func(chunk int) {
				s := xml.AcquireScanner()
				for end := 0; ; {
					end = min(end+chunk, len(buf))
					ev, _, err := s.Next(&st, &lim, buf[:end])
					if err != nil {
						t.Fatal(err)
					}
					if ev == xml.FirstLevel {
						break
					}
				}
				it := s.Item()
				it.Attr("to").AppendValue(scratch)
				it.Child("urn:xmpp:receipts", "request")
				s.Release()
			}
			if n := testing.AllocsPerRun(100, func() { read(len(buf)) }); n != 0 {
				t.Errorf("%v allocations for a whole stanza", n)
			}
			if n := testing.AllocsPerRun(10, func() { read(16) }); n != 0 {
				t.Errorf("%v allocations for a stanza in pieces", n)
			}
		})
	}
}

// TestHeaderAllocations checks that usual streams share what their headers declare.
func TestHeaderAllocations(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		most      float64
	}{
		{"client", `<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.test' version='1.0'>`, 0},
		{"server", `<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:server' xmlns:db='jabber:server:dialback'>`, 0},
		{"prefix-free", `<stream xmlns='http://etherx.jabber.org/streams' to='a.test' version='1.0'>`, 0},
		{"unusual", `<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:x='urn:x'>`, 8},
	} {
		doc := []byte(c.doc)
		var st xml.Stream
		n := testing.AllocsPerRun(100, func() {
			st.Reset()
			s := xml.AcquireScanner()
			if ev, _, err := s.Next(&st, nil, doc); ev != xml.Header {
				t.Fatal(ev, err)
			}
			s.Release()
		})
		if n > c.most {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if n := reflect.TypeFor[xml.Stream]().Size(); n > 64 {
		t.Errorf("a Stream has %d bytes", n)
	}
}

// TestElementAllocations holds tree building and writing to theirs.
func TestElementAllocations(t *testing.T) {
	for _, c := range samples {
		var st xml.Stream
		st.Open(xml.NSClient)
		s := xml.AcquireScanner()
		if ev, _, err := s.Next(&st, nil, []byte(c.stanza)); ev != xml.FirstLevel {
			t.Fatal(ev, err)
		}
		if n := testing.AllocsPerRun(100, func() { s.Item().Element() }); n > 24 {
			t.Errorf("%s: %v allocations for a tree", c.name, n)
		}
		e := s.Item().Element()
		buf := make([]byte, 0, 2*len(c.stanza))
		if n := testing.AllocsPerRun(100, func() { e.Append(buf, xml.NSClient) }); n > 1 {
			t.Errorf("%s: %v allocations for writing", c.name, n)
		}
		s.Release()
	}
}
