//go:build !starling_nounsafe

package transport

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestFindFields(t *testing.T) {
	type swapped struct {
		rawInput bytes.Reader
		input    bytes.Reader
		hand     bytes.Buffer
	}
	type fewer struct{ rawInput, hand bytes.Buffer }
	type inner struct{ hand bytes.Buffer }
	type embedded struct {
		rawInput bytes.Buffer
		input    bytes.Reader
		inner
	}
	this := reflect.TypeFor[tls.Conn]()
	for _, c := range []struct {
		name, version string
		typ           reflect.Type
		want          string
	}{
		{"this one", runtime.Version(), this, ""},
		{"minor version without patch", releaseGo, this, ""},
		{"next minor version", "go1.27.1", this, "go1.27.1"},
		{"longer number", releaseGo + "0", this, releaseGo + "0"},
		{"development", "devel go1.27-abc", this, "devel"},
		{"other type", releaseGo, reflect.TypeFor[swapped](), "rawInput"},
		{"field gone", releaseGo, reflect.TypeFor[fewer](), "input"},
		{"field moved", releaseGo, reflect.TypeFor[embedded](), "hand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := findFields(c.typ, c.version).err
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
	if err := ReleasesBuffers(); err != nil && strings.HasPrefix(runtime.Version(), releaseGo) {
		t.Error(err)
	}
}

// TestRelease looks for buffers in a connection that is idle.
func TestRelease(t *testing.T) {
	if tlsFields.err != nil {
		t.Skip(tlsFields.err)
	}
	for _, l := range layers[1:] {
		t.Run(l.name, func(t *testing.T) {
			noLeaks(t)
			own, idle := newOwner(), make(chan struct{}, 1)
			var conn *Conn
			check := func() {
				s := conn.secured
				rawInput, input, hand := tlsFields.of(s.conn)
				if rawInput.Cap() != 0 || input.Size() != 0 || hand.Cap() != 0 || s.lent != nil {
					t.Errorf("kept: rawInput %d, input %d, hand %d, lent %v", rawInput.Cap(), input.Size(), hand.Cap(), s.lent != nil)
				}
			}
			own.flush = func() {
				check()
				idle <- struct{}{}
			}
			_, c, _ := l.open(t, &Options{}, func(c *Conn) Handler { conn = c; return own })
			<-idle // after the handshake
			c.Write(make([]byte, 100))
			<-idle
			go func() {
				for range idle {
				}
			}()
			c.Write(make([]byte, 100<<10))
			c.Close()
			own.end(t)
			close(idle)
		})
	}
}
