package frame

import "encoding/binary"

// Named is a message of a topic, a call, or a record of a channel: a name and what the user wrote.
type Named struct {
	From string // ID of the sender
	Inc  uint64 // its incarnation
	Seq  uint64 // of the message among the sender's on this topic
	Name string
	Body []byte
}

// AppendNamed encodes a message of the kind.
func AppendNamed(dst []byte, k Kind, n Named) []byte {
	dst, mark := begin(dst, MinVersion, k)
	dst = binary.AppendUvarint(u64(appendBytes(dst, n.From), n.Inc), n.Seq)
	dst = end(appendBytes(dst, n.Name), mark)
	return append(dst, n.Body...)
}

// ParseNamed reads a message of the kind.
func ParseNamed(b []byte, k Kind) (Named, error) {
	r, body, err := split(b, k)
	if err != nil {
		return Named{}, err
	}
	n := Named{From: r.string(MaxName), Inc: r.u64(), Seq: r.uvarint(), Name: r.string(MaxName), Body: body}
	return n, r.err()
}

// Outcome is how a call ended.
type Outcome uint8

// The outcomes of a call.
const (
	Done     Outcome = 1 + iota // the body is the result
	Failed                      // the body says what the handler returned
	Panicked                    // the body says what the handler panicked with
	Unknown                     // no such task there
	Refused                     // the request could not be read
)

// Answer ends a call.
type Answer struct {
	Outcome Outcome
	Body    []byte
}

// AppendAnswer encodes an answer.
func AppendAnswer(dst []byte, a Answer) []byte {
	dst, mark := begin(dst, MinVersion, KindAnswer)
	dst = end(append(dst, byte(a.Outcome)), mark)
	return append(dst, a.Body...)
}

// ParseAnswer reads an answer.
func ParseAnswer(b []byte) (Answer, error) {
	r, body, err := split(b, KindAnswer)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Outcome: Outcome(r.byte()), Body: body}
	return a, r.err()
}

// AppendChannel encodes the body of a ChannelMsg.
func AppendChannel(dst []byte, name string, body []byte) []byte {
	return append(appendBytes(dst, name), body...)
}

// ParseChannel reads the body of a ChannelMsg.
func ParseChannel(b []byte) (name string, body []byte, err error) {
	r := reader{b: b}
	name = r.string(MaxName)
	return name, r.b, r.err()
}
