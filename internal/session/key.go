package session

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"github.com/starling-im/starling/internal/xmpp/stanza"
)

// nsDelay is the namespace of what says when a stanza was sent (XEP-0203 §2).
const nsDelay = "urn:xmpp:delay"

// Key names a stanza wherever it goes: every copy has the key of what its sender sent, and so has the stanza when its
// sender sends it again because it was not acknowledged.
type Key struct {
	Seed [16]byte // of the sender's session
	N    uint64   // Flow.N
	Hash uint64   // of the text without what says when it was sent
}

// Key is the key of what is in hand. What the server sends by itself gets a new one each time. f may be nil.
func (f *Flow) Key(st *stanza.Stanza) Key {
	var k Key
	if f == nil || f.Session == nil {
		_, _ = rand.Read(k.Seed[:]) // never fails
	} else {
		k.Seed, k.N = f.Session.Seed, f.N
	}
	if st.Has(nsDelay, "delay") {
		st = st.Without(func(c stanza.Child) bool { return c.Space == nsDelay && c.Local == "delay" })
	}
	k.Hash = hash(st.String())
	return k
}

// hash mixes a text into 64 bits, the same on every machine. It need not withstand those who look for two texts of one
// hash: they would have to be the same stanza of the same session.
func hash(s string) uint64 {
	const k0, k1 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
	h := uint64(len(s))
	mix := func(word uint64) {
		hi, lo := bits.Mul64(h^word^k0, k1)
		h = bits.RotateLeft64(h, 29) ^ hi ^ lo
	}
	var tail [8]byte
	for ; len(s) >= 8; s = s[8:] {
		copy(tail[:], s)
		mix(binary.LittleEndian.Uint64(tail[:]))
	}
	tail = [8]byte{}
	copy(tail[:], s)
	mix(binary.LittleEndian.Uint64(tail[:]))
	mix(k1)
	return h
}
