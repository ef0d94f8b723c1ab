// Package bus is the seam between the cluster and the engine that carries its messages. A Bus is one node's door to
// the engine: subjects, two lanes, requests. It promises little, so that engines are easy to write: a message arrives
// at most once, or not at all, and what one node sends on one lane to one subscription stays in order. Everything
// that must arrive goes through package link.
package bus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
)

// Lane is a path of its own through the engine: messages of different lanes do not queue behind each other, and
// nothing is promised about their order.
type Lane uint8

// The lanes.
const (
	Control Lane = iota // beacons, requests, acknowledgements, topics: small and urgent
	Data                // frames of links
)

// Lanes is how many lanes there are.
const Lanes = 2

// String names the lane.
func (l Lane) String() string {
	switch l {
	case Control:
		return "control"
	case Data:
		return "data"
	}
	return "unknown"
}

// Message is what a subscription receives.
type Message struct {
	Subject string
	Data    []byte // read only; the receiver may keep it
}

// Bus is a node's connection to the others. All methods may be called by several goroutines at a time. Subjects are
// tokens joined by dots; a token consists of lower-case letters, digits, '-' and '_', and "*" stands for any one
// token in Subscribe and Respond. A node receives what it publishes itself, like everybody else who subscribed.
type Bus interface {
	Publisher
	Requester
	Witness
	// Close lets what was published leave, at most until the context ends, and frees everything: no call of a
	// subscription or responder runs once it has returned. Only the first call does anything.
	Close(ctx context.Context) error
}

// Publisher sends to whoever listens.
type Publisher interface {
	// Publish sends data to the present subscribers of a subject. It never waits for a peer, and an error means that
	// the message was not sent: ErrTooBig, ErrClosed. That it returns nil promises nothing. data may be reused
	// when Publish returns.
	Publish(lane Lane, subject string, data []byte) error
	// Subscribe calls fn for each message of the lane on the subject. Calls for one subscription come one at a time,
	// and messages of one sender in the order sent. fn must not block: the engine may drop what it cannot
	// deliver. After cancel has returned no further call starts; cancel does not wait for a running one. Messages
	// that others send before the subscription has spread to them are lost.
	Subscribe(lane Lane, subject string, fn func(Message)) (cancel func(), err error)
	// MaxPayload is the longest data, in bytes, that Publish and Request accept. It is at least 1 MiB.
	MaxPayload() int
}

// Requester asks one node and gets an answer.
type Requester interface {
	// Request sends data to one responder of the subject and waits for the answer until the context ends, whose
	// error it then returns. When nobody responds to the subject it returns ErrNoResponders at once.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Respond answers requests on the subject. fn may block and is called for several requests at a time, on a bounded
	// number of goroutines; its context ends with the bus, and with cancel. data may be kept.
	Respond(subject string, fn func(ctx context.Context, data []byte) []byte) (cancel func(), err error)
}

// Witness tells what the engine sees by itself.
type Witness interface {
	// Hints tells of connections to peers. It may be nil, hints may be lost, and none of them is proof.
	Hints() <-chan Hint
	// Faults tells what the engine found after it was opened and a person must put right, for example that every peer
	// refuses the token. It may be nil.
	Faults() <-chan *Failure
}

// Hint says that the engine's connection to a peer ended, or was made.
type Hint struct {
	Peer string // Identity.ID of the peer
	Up   bool
}

// Identity is how a node presents itself to its engine.
type Identity struct {
	ID          string // random, a subject token; the same as long as the process lives
	Name        string // given by the operator, for people and logs
	Cluster     string // a subject token; nodes of different clusters never meet
	Incarnation uint64
}

// Engine opens buses. A node that stands alone opens none.
type Engine interface {
	// Open connects to the engine, or starts its own. It returns a *Failure for what a person must put right, and any
	// other error for what may pass by itself. The context bounds the opening only.
	Open(ctx context.Context, self Identity, log *slog.Logger) (Bus, error)
}

// Addresser is a Bus that knows at which address peers reach this node.
type Addresser interface {
	Address() string // host:port
}

// Failure is an error that only a person can mend, in words for that person.
type Failure struct {
	Reason string // what is wrong: "address already in use"
	Remedy string // what to do about it
	Err    error  // the cause, if there is one
}

// Error returns reason and remedy.
func (f *Failure) Error() string {
	if f.Remedy == "" {
		return f.Reason
	}
	return f.Reason + ": " + f.Remedy
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Errors of a Bus.
var (
	ErrNoResponders = errors.New("nobody responds to the subject")
	ErrTooBig       = errors.New("message longer than the engine carries")
	ErrClosed       = errors.New("bus is closed")
)

// Match says whether a subject fits a pattern, which may contain "*" tokens.
func Match(pattern, subject string) bool {
	for {
		p, restP, moreP := strings.Cut(pattern, ".")
		s, restS, moreS := strings.Cut(subject, ".")
		if p != s && (p != "*" || s == "") || moreP != moreS {
			return false
		}
		if !moreP {
			return true
		}
		pattern, subject = restP, restS
	}
}

// Token says whether s may stand between the dots of a subject.
func Token(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
