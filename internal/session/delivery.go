package session

// NewDelivery makes the only way of a message that its storage has: it stays there until done tells whether the client
// got it, and is not sent on if not. It is not told of a message that the session did not take. done does not wait.
func NewDelivery(done func(received bool)) *Fork { return &Fork{done: done} }

// Stored tells whether the fork is the way of a message that its storage has.
func (k *Fork) Stored() bool { return k != nil && k.done != nil }

// Feeder is an Out whose client can be given in portions what has waited for it.
type Feeder interface {
	// Portion is how many messages its client may be given, and how many bytes, before it is known to have got any.
	Portion() (messages, bytes int)
	// Postpone has messages that come from now on wait behind all of NewDelivery, until it is told false.
	Postpone(on bool)
}
