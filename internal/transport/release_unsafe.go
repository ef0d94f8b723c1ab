//go:build !starling_nounsafe

package transport

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"unsafe"
)

// A tls.Conn keeps the buffer of the largest record that it ever received, and that of the ClientHello: 4 KiB and more
// for each idle connection, a third of its memory (golang/go#43563). Here they are lent before crypto/tls reads and
// taken back when it has used up what it was given. This needs to know three unexported fields of tls.Conn as of this
// minor version of Go:
//
//	rawInput bytes.Buffer // records as they arrive
//	input    bytes.Reader // the plaintext of the last one, within rawInput
//	hand     bytes.Buffer // handshake messages
//
// They are touched only by the driver, in between its own calls of tls.Conn.Read. Where they are not what they are
// expected to be, nothing is lent or taken.
const releaseGo = "go1.26"

// fields holds the offsets of the three fields in a tls.Conn.
type fields struct {
	rawInput, input, hand uintptr
	err                   error
}

var tlsFields = findFields(reflect.TypeFor[tls.Conn](), runtime.Version())

// ReleasesBuffers returns nil if idle TLS connections give their buffers back, else why they do not.
func ReleasesBuffers() error { return tlsFields.err }

// findFields looks the fields up in t, which is tls.Conn as the given version of Go has it.
func findFields(t reflect.Type, version string) fields {
	var f fields
	if version != releaseGo && !strings.HasPrefix(version, releaseGo+".") {
		f.err = fmt.Errorf("TLS buffers are kept: known is %s, this is %s", releaseGo, version)
		return f
	}
	for _, want := range []struct {
		name   string
		typ    reflect.Type
		offset *uintptr
	}{
		{"rawInput", reflect.TypeFor[bytes.Buffer](), &f.rawInput},
		{"input", reflect.TypeFor[bytes.Reader](), &f.input},
		{"hand", reflect.TypeFor[bytes.Buffer](), &f.hand},
	} {
		field, ok := t.FieldByName(want.name)
		if !ok || field.Type != want.typ || len(field.Index) != 1 {
			f.err = fmt.Errorf("TLS buffers are kept: %s has no field %s of type %s", t, want.name, want.typ)
			return f
		}
		*want.offset = field.Offset
	}
	return f
}

// of returns the fields of one connection.
func (f fields) of(c *tls.Conn) (rawInput *bytes.Buffer, input *bytes.Reader, hand *bytes.Buffer) {
	p := unsafe.Pointer(c)
	return (*bytes.Buffer)(unsafe.Add(p, f.rawInput)),
		(*bytes.Reader)(unsafe.Add(p, f.input)),
		(*bytes.Buffer)(unsafe.Add(p, f.hand))
}

// lend gives crypto/tls a pooled buffer to put records in.
func (s *secured) lend() {
	if tlsFields.err != nil || s.lent != nil {
		return
	}
	rawInput, input, _ := tlsFields.of(s.conn)
	if input.Len() != 0 || rawInput.Len() > rawSize/2 {
		return
	}
	s.lent = rawBuffers.Get().(*rawBuffer)
	input.Reset(nil) // it may point into rawInput
	*rawInput = *bytes.NewBuffer(append(s.lent[:0], rawInput.Bytes()...))
}

// release takes the buffers back when crypto/tls has used up what it was given. The beginning of a record stays, in
// memory of its own: otherwise one byte would be enough to hold a pooled buffer.
func (s *secured) release() {
	if tlsFields.err != nil {
		return
	}
	rawInput, input, hand := tlsFields.of(s.conn)
	if input.Len() != 0 || rawInput.Len() > rawKept {
		return
	}
	input.Reset(nil)
	if rest := rawInput.Bytes(); len(rest) == 0 {
		*rawInput = bytes.Buffer{}
	} else {
		*rawInput = *bytes.NewBuffer(bytes.Clone(rest))
	}
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
	if s.lent != nil { // also if a record outgrew it: nothing points to it any more
		rawBuffers.Put(s.lent)
		s.lent = nil
	}
}
