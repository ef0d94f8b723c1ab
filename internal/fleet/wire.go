package fleet

import (
	"encoding/binary"
	"errors"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// The records of the channel. The first byte of each is its kind, which is another one for each layout. Numbers are
// varints, strings have their length before them.
const (
	legsRecord    = 0x11 // ledger, incarnation of the recipient, number of the first leg; then legs
	receiptRecord = 0x12 // ledger, incarnation of who writes it; then receipts
	nudgeRecord   = 0x13 // bare JID
	endRecord     = 0x14 // full JID, uid, condition, text
	forgetRecord  = 0x15 // name of a cache, owner
	emptyRecord   = 0x16 // all caches
	newsRecord    = 0x17 // bare JID, audience, stanza
)

// A leg on the wire is its flags, lane, flight, recipient, and the stanza unless it is that of the leg before.
const (
	sameText = 0x04
	verbMask = 0x03
)

var errRecord = errors.New("record cannot be read")

func appendHead(dst []byte, kind byte, index, inc, first uint64) []byte {
	dst = append(dst, kind)
	dst = binary.AppendUvarint(dst, index)
	dst = binary.BigEndian.AppendUint64(dst, inc)
	return binary.AppendUvarint(dst, first)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendLeg(dst []byte, g *leg, before *stanza.Stanza) []byte {
	flags := byte(g.verb)
	if g.st == before {
		flags |= sameText
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, g.lane.id)
	dst = binary.AppendUvarint(dst, g.lane.flight)
	dst = appendString(dst, g.lane.key.to.String())
	if g.st != before {
		dst = appendString(dst, g.st.String())
	}
	return dst
}

// reader reads what was appended. After the first error all that it returns is empty.
type reader struct {
	s   string
	bad bool
}

func (r *reader) fail() {
	r.bad, r.s = true, ""
}

func (r *reader) byte() byte {
	if len(r.s) == 0 {
		r.fail()
		return 0
	}
	b := r.s[0]
	r.s = r.s[1:]
	return b
}

func (r *reader) uvarint() (v uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := r.byte()
		if r.bad || shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *reader) u64() (v uint64) {
	for range 8 {
		v = v<<8 | uint64(r.byte())
	}
	if r.bad {
		return 0
	}
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.s)) {
		r.fail()
		return ""
	}
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

// uid reads a UID.
func (r *reader) uid() (u session.UID) {
	if len(r.s) < len(u) {
		r.fail()
		return u
	}
	r.s = r.s[copy(u[:], r.s):]
	return u
}

// arrival is a leg as the recipient's node reads it.
type arrival struct {
	number, lane, flight uint64
	verb                 verb
	to, text             string
}

// legs reads legs one after another.
type legs struct {
	reader
	index, inc uint64
	number     uint64 // of the next one
	text       string
}

func readLegs(rest string) (r legs, err error) {
	r.s = rest
	r.index, r.inc, r.number = r.uvarint(), r.u64(), r.uvarint()
	if r.bad || r.index >= hands || r.number == 0 {
		return r, errRecord
	}
	return r, nil
}

// next reads a leg. It reports whether there is one; bad then says whether the record was in order.
func (r *legs) next() (a arrival, ok bool) {
	if len(r.s) == 0 {
		return a, false
	}
	flags := r.byte()
	a = arrival{number: r.number, verb: verb(flags & verbMask), lane: r.uvarint(), flight: r.uvarint(), to: r.string()}
	if flags&sameText == 0 {
		r.text = r.string()
	}
	a.text = r.text
	if r.bad || a.verb >= verbs || flags > sameText|verbMask || a.text == "" || a.to == "" {
		r.fail()
		return a, false
	}
	r.number++
	return a, true
}

// fate is what became of a leg at the recipient's node.
type fate uint8

const (
	settled  fate = iota
	turned        // not taken: the session is not here, or an earlier leg of the flight was not taken
	rejected      // not wanted
	fates
)

// receipt writes fates in the order of the legs: runs of one fate, each with its length and that.
type receipt struct {
	b    []byte
	fate fate
	run  uint64
}

func (r *receipt) add(f fate) {
	if r.run > 0 && f != r.fate {
		r.flush()
	}
	r.fate = f
	r.run++
}

func (r *receipt) flush() {
	if r.run > 0 {
		r.b = binary.AppendUvarint(r.b, r.run<<2|uint64(r.fate))
		r.run = 0
	}
}

// receipts reads what receipt has written.
type receipts struct {
	reader
	index, inc uint64
	number     uint64
}

func readReceipts(rest string) (r receipts, err error) {
	r.s = rest
	r.index, r.inc, r.number = r.uvarint(), r.u64(), r.uvarint()
	if r.bad || r.index >= hands || r.number == 0 {
		return r, errRecord
	}
	return r, nil
}

func (r *receipts) next() (first, last uint64, f fate, ok bool) {
	if len(r.s) == 0 {
		return 0, 0, 0, false
	}
	v := r.uvarint()
	first, f = r.number, fate(v&3)
	r.number += v >> 2
	if r.bad || f >= fates || v>>2 == 0 || r.number < first {
		r.fail()
		return 0, 0, 0, false
	}
	return first, r.number - 1, f, true
}
