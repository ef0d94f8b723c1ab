package archive

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/starling-im/starling/internal/feature/offline"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// markWait is how long the way of a message for somebody who is away waits for its commit, so that whoever comes next
// finds it. A database that is slower, or away, holds nobody up: only the acknowledgement waits.
const markWait = 2 * time.Second

// Mark notes that a message which the archive keeps waits for its owner; kept is false for one that it does not keep
// (offline.Archive).
func (a *Archive) Mark(ctx context.Context, st *stanza.Stanza) (kept bool) {
	owner := st.To.Bare()
	made, ok := ownID(st, owner)
	if !ok {
		return false
	}
	r := &row{
		task: mark, owner: owner.String(), id: made, stamp: store.Micros(a.Now()), peer: st.From,
		held: hold(session.FlowOf(ctx)), done: make(chan struct{}),
	}
	if st.Has(nsDelay, "delay") && a.delayedHere(st) {
		// It was in the queue of a session that is over.
		r.task = remark
		r.stanza = st.Without(func(c stanza.Child) bool { return c.Space == NSStanzaID && c.Local == "stanza-id" }).String()
	}
	away := a.writer.isAway()
	a.writer.add(r)
	if away {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, markWait)
	defer cancel()
	select {
	case <-r.done:
		return !r.refused
	case <-ctx.Done():
		return true
	}
}

// ownID is the id that a stanza has in its recipient's archive. What others have claimed was taken off when it came.
func ownID(st *stanza.Stanza, owner jid.JID) (made id, ok bool) {
	if !st.Has(NSStanzaID, "stanza-id") {
		return made, false
	}
	for _, e := range st.Elements() {
		if e.Space == NSStanzaID && e.Local == "stanza-id" && e.Attr("by") == owner.String() {
			return parseID(e.Attr("id"))
		}
	}
	return made, false
}

// delayedHere tells whether the server itself has stamped a stanza.
func (a *Archive) delayedHere(st *stanza.Stanza) bool {
	e := st.Child(nsDelay, "delay")
	from, err := jid.Parse(e.Attr("from"))
	return err == nil && from.IsHost() && a.Local(from)
}

// Settle gives what waits for its place in an archive, on any node, its place (offline.Archive).
func (a *Archive) Settle(ctx context.Context, owner jid.JID) error { return a.flush(ctx, owner) }

// Waiting reads messages that wait for their owner, by their ids (offline.Archive).
func (a *Archive) Waiting(tx *store.Tx, owner jid.JID, ids [][]byte) ([]offline.Message, error) {
	all := make([]offline.Message, len(ids))
	r, err := a.reader(tx, owner.String())
	if err != nil {
		return nil, err
	}
	var run []kept // the one that was read last: what waits stands together
	for i, raw := range ids {
		at := slices.IndexFunc(run, func(k kept) bool { return k.id == id(raw) })
		if at < 0 {
			found, where, err := r.locate(id(raw))
			if errors.Is(err, store.ErrNotFound) {
				continue // removed since
			}
			if err != nil {
				return nil, err
			}
			run, at = found, where
		}
		position, text, stamp := run[at].position, run[at].raw, run[at].stamp
		st, err := stanza.Decode(text)
		if err != nil {
			a.Log.Error("kept message is broken", "owner", owner.String(), "position", position, "err", err)
			continue
		}
		made := id(raw)
		st = st.With(stanzaID(made.String(), owner))
		if !st.Has(nsDelay, "delay") || !a.delayedHere(st) { // XEP-0203 §2: one and only one
			st = st.With(xml.New(nsDelay, "delay", "from", owner.Domain(), "stamp", datetime.Format(store.Time(stamp))))
		}
		all[i] = offline.Message{Stanza: st, Position: position}
	}
	return all, nil
}
