package session

import "sync/atomic"

// Held counts who still has to answer for one stanza of a client: the archive until it is committed, another node until
// it has the stanza. When nobody has to any more, the stanza may be acknowledged (XEP-0198 §4). Methods of a nil Held do
// nothing, for clients that are not acknowledged to.
type Held struct {
	left atomic.Int32
	done func()
	lost func()
}

// Hold begins to hold a stanza. done is called once, on any goroutine, after the last Settle.
func Hold(done func()) *Held {
	h := &Held{done: done}
	h.left.Store(1)
	return h
}

// OnLoss has lost called when somebody says Lose.
func (h *Held) OnLoss(lost func()) *Held {
	h.lost = lost
	return h
}

// Again begins to hold another stanza with what has held one until its last Settle.
func (h *Held) Again() { h.left.Store(1) }

// More adds one who answers. It is called before the ones who are there have settled.
func (h *Held) More() *Held {
	if h != nil {
		h.left.Add(1)
	}
	return h
}

// Settle takes one off.
func (h *Held) Settle() {
	if h != nil && h.left.Add(-1) == 0 {
		h.done()
	}
}

// Lose says that one of those who have to answer never will, so that the stanza is never acknowledged.
func (h *Held) Lose() {
	if h != nil && h.lost != nil {
		h.lost()
	}
}
