// Package frame encodes what nodes send each other. The encoding is written by hand, starts with a version, and gives
// every part its length, so that a reader skips what a later version added. Readers bound everything before they
// allocate and never panic.
package frame

import (
	"encoding/binary"
	"errors"
)

// MinVersion is the oldest encoding spoken here: the one before MaxVersion, if there is one. Two nodes write to each
// other in the lower of their highest versions. What goes to all nodes is written in MinVersion. A beacon can be read
// whatever its version: it says whether two nodes have one in common.
const MinVersion = max(1, MaxVersion-1)

// Bounds, in bytes unless said otherwise.
const (
	MaxFrame  = 768 << 10 // a link frame with all that is in it
	MaxRecord = 16 << 20  // a record, which may be spread over several frames
	MaxName   = 255       // a name of a node, table, topic, task or channel
	MaxKey    = 8 << 10   // the key of a row
	MaxPeers  = 512       // peers in a beacon
	MaxTopics = 256       // topics in a beacon
	MaxDead   = 64        // copies of dead members' rows in a beacon
)

// Kind is what a message is.
type Kind uint8

// The kinds of messages.
const (
	KindFrame Kind = 1 + iota
	KindAck
	KindBeacon
	KindTopic
	KindCall
	KindAnswer
)

// Errors of the readers.
var (
	ErrMalformed = errors.New("malformed message")
	ErrVersion   = errors.New("message of an unknown version")
)

// begin opens a message: version, kind, length of the header. end closes it. Version 0 stands for MinVersion.
func begin(dst []byte, version uint8, k Kind) (out []byte, mark int) {
	dst = append(dst, max(version, MinVersion), byte(k), 0, 0)
	return dst, len(dst)
}

func end(dst []byte, mark int) []byte {
	binary.BigEndian.PutUint16(dst[mark-2:], uint16(len(dst)-mark))
	return dst
}

// split checks a message's kind, and divides header and body.
func split(b []byte, k Kind) (header reader, body []byte, err error) {
	if len(b) < 4 {
		return reader{}, nil, ErrMalformed
	}
	if (b[0] < MinVersion || b[0] > MaxVersion) && k != KindBeacon {
		return reader{}, nil, ErrVersion
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if Kind(b[1]) != k || len(b)-4 < n {
		return reader{}, nil, ErrMalformed
	}
	return reader{b: b[4 : 4+n]}, b[4+n:], nil
}

// reader takes values off a slice. After the first failure it yields zero values.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) err() error {
	if r.bad {
		return ErrMalformed
	}
	return nil
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() byte {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) u64() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(most int) []byte {
	n := r.uvarint()
	if n > uint64(most) || n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) string(most int) string { return string(r.bytes(most)) }

func appendBytes[T ~string | ~[]byte](dst []byte, v T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
}

var u64 = binary.BigEndian.AppendUint64
