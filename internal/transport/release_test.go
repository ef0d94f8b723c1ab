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

// TestRelease looks for buffers in a connection that waits: one that has nothing left over holds none, one in the middle
// of a record holds that part.
func TestRelease(t *testing.T) {
	if tlsFields.err != nil {
		t.Skip(tlsFields.err)
	}
	noLeaks(t)
	own, waits := newOwner(), make(chan [2]int) // bytes left over, size of their buffer
	var conn *Conn
	own.flush = func() {
		rawInput, input, hand := tlsFields.of(conn.secured.conn)
		if input.Size() != 0 || hand.Cap() != 0 {
			t.Errorf("kept: input %d, hand %d", input.Size(), hand.Cap())
		}
		left := rawInput.Len()
		if lent := conn.secured.lent != nil; lent != (left > rawKept) {
			t.Errorf("%d bytes left over, buffer lent: %v", left, lent)
		}
		waits <- [2]int{left, rawInput.Cap()}
	}
	_, f, _ := forge(t, &Options{}, func(c *Conn) Handler { conn = c; return own })
	<-waits // after the handshake
	for i, size := range []int{1, 1000, 5000, 16 << 10, 16<<10 - 1, 100} {
		record, held := f.record(applicationData, make([]byte, size)), [2]int{}
		for _, part := range [][]byte{record[:3], record[3 : len(record)-1], record[len(record)-1:]} {
			for len(part) > 0 { // as much as one read takes
				n := min(len(part), 8<<10)
				f.nc.Write(part[:n])
				part = part[n:]
				held = <-waits
			}
		}
		if held != [2]int{} {
			t.Errorf("record %d: %d bytes left over, buffer of %d", i, held[0], held[1])
		}
	}
	record := f.record(applicationData, make([]byte, 100))
	f.nc.Write(record[:1])
	if held := <-waits; held[0] != 1 || held[1] > 64 {
		t.Errorf("%d bytes left over, buffer of %d", held[0], held[1])
	}
	go func() {
		for range waits {
		}
	}()
	f.nc.Close()
	own.end(t)
	close(waits)
}
