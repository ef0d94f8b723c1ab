package archive

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Bounds of runs. A row of the database costs much more than its bytes, so what comes together for an owner shares one.
const (
	spanBits  = 6         // a run stays within 1<<spanBits positions
	runBytes  = 64 << 10  // of texts, after which another run begins
	packFrom  = 1 << 10   // shorter runs are not worth compressing
	maxPacked = 256 << 20 // bytes of a run; more was not written here
)

// How the messages of a run are written.
const (
	plain  = 0
	packed = 1 // compressed, as S2 does
)

var errRun = errors.New("a run of messages is broken")

// kept is a message of the archive.
type kept struct {
	position, stamp int64
	id              id
	peer            string // the JID of whom it is from, or to
	raw             string
}

// span is where a position is, as the index of peers has it.
func span(position int64) int64 { return position >> spanBits }

// divide divides messages of one owner, in their order, into what is to be one row each.
func divide(owner int64, all []kept) (runs []placed) {
	for len(all) > 0 {
		n, size := 1, len(all[0].raw)
		for n < len(all) && span(all[n].position) == span(all[0].position) && size+len(all[n].raw) <= runBytes {
			size += len(all[n].raw)
			n++
		}
		runs = append(runs, placed{owner, all[:n]})
		all = all[n:]
	}
	return runs
}

// encoder writes runs. It keeps what it has allocated for the next one.
type encoder struct {
	text []byte
	packer
}

// encode writes a run. What is the same for all is not written twice, since they are compressed together.
func (e *encoder) encode(run []kept) []byte {
	b := append(e.text[:0], plain)
	for i := range run {
		k := &run[i]
		b = binary.AppendUvarint(b, uint64(k.position-run[0].position))
		b = append(b, k.id[:]...)
		b = binary.AppendVarint(b, k.stamp-run[0].stamp)
		for _, text := range []string{k.peer, k.raw} {
			b = appendText(b, text)
		}
	}
	e.text = b
	return slices.Clone(e.pack(b))
}

// appendText writes a text behind its length.
func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// packer compresses, into a place of its own.
type packer struct{ room []byte }

// pack compresses what stands behind a byte that says plain, if that makes it shorter. What it returns is valid until the
// next time.
func (p *packer) pack(b []byte) []byte {
	if len(b) < packFrom {
		return b
	}
	if most := 1 + s2.MaxEncodedLen(len(b)); most > len(p.room) {
		p.room = make([]byte, most)
	}
	p.room[0] = packed
	if n := 1 + len(s2.Encode(p.room[1:], b[1:])); n < len(b) {
		return p.room[:n]
	}
	return b
}

// unpack is what was packed, without the first byte; an error if it is none.
func unpack(b []byte) ([]byte, error) {
	switch {
	case len(b) == 0 || b[0] > packed:
		return nil, errRun
	case b[0] == plain:
		return b[1:], nil
	}
	if n, err := s2.DecodedLen(b[1:]); err != nil || n > maxPacked {
		return nil, errRun
	}
	whole, err := s2.Decode(nil, b[1:])
	if err != nil {
		return nil, errRun
	}
	return whole, nil
}

// decode reads what an encoder has written.
func decode(position, stamp int64, b []byte) ([]kept, error) {
	b, err := unpack(b)
	if err != nil {
		return nil, err
	}
	in := scanner{text: string(b)}
	var run []kept
	for in.text != "" && !in.broken {
		k := kept{position: position + int64(in.number())}
		copy(k.id[:], in.bytes(len(k.id)))
		k.stamp = stamp + in.signed()
		k.peer, k.raw = in.field(), in.field()
		run = append(run, k)
	}
	if in.broken || len(run) == 0 || run[0].position != position || span(run[len(run)-1].position) != span(position) {
		return nil, errRun
	}
	return run, nil
}

// scanner reads what was written as numbers and texts, one after the other.
type scanner struct {
	text   string
	broken bool
}

// bytes are the next n.
func (f *scanner) bytes(n int) string {
	if n < 0 || n > len(f.text) {
		f.broken, f.text, n = true, "", 0
	}
	value := f.text[:n]
	f.text = f.text[n:]
	return value
}

// number reads what binary.AppendUvarint has written.
func (f *scanner) number() uint64 {
	n, used := binary.Uvarint([]byte(f.text[:min(len(f.text), binary.MaxVarintLen64)]))
	f.bytes(used)
	if used <= 0 {
		f.broken = true
	}
	return n
}

// signed reads what binary.AppendVarint has written.
func (f *scanner) signed() int64 {
	n := f.number()
	return int64(n>>1) ^ -int64(n&1)
}

// field reads a text whose length stands before it.
func (f *scanner) field() string {
	n := f.number()
	if n > uint64(len(f.text)) {
		f.broken, f.text = true, ""
		return ""
	}
	return f.bytes(int(n))
}

// bare is the peer's bare JID.
func (k *kept) bare() string {
	bare, _, _ := strings.Cut(k.peer, "/")
	return bare
}

// with tells whether a message is from, or to, a JID, or any of its resources if it is bare: XEP-0313 §4.1.1.
func (k *kept) with(peer jid.JID) bool {
	rest, found := strings.CutPrefix(k.peer, peer.String())
	return found && (rest == "" || peer.IsBare() && rest[0] == '/')
}
