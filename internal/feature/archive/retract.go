package archive

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	maxRetractions = 10_000 // that wait
	lookBack       = 20_000 // messages of the conversation among which the retracted one is looked for, the newest
	nsRooms        = "http://jabber.org/protocol/muc#user"
)

// retracted is the id of the message that one retracts, as its sender gave it; empty when it retracts none (XEP-0424 §3).
func retracted(st *stanza.Stanza) string {
	if !st.Has(NSRetract, "retract") {
		return ""
	}
	e := st.Child(NSRetract, "retract")
	return e.Attr("id")
}

// retractor puts tombstones in the place of messages that were retracted (XEP-0424 §4), after the retraction is committed.
// It looks for them by itself, so that nobody waits for that. Choice: a tombstone that the server's end prevents is not
// made later; the retraction is in the archive, which is what clients need.
type retractor struct {
	archive *Archive
	wake    chan struct{}

	mu      sync.Mutex // guards all below
	queue   []*row
	busy    bool
	changed chan struct{} // closed when there is nothing to do; nil when nobody waits for that
}

func newRetractor(a *Archive) *retractor { return &retractor{archive: a, wake: make(chan struct{}, 1)} }

func (t *retractor) add(r *row) {
	t.mu.Lock()
	if len(t.queue) < maxRetractions {
		t.queue = append(t.queue, r)
	}
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// flush waits until there is nothing to do.
func (t *retractor) flush(ctx context.Context) {
	t.mu.Lock()
	if len(t.queue) == 0 && !t.busy {
		t.mu.Unlock()
		return
	}
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	changed := t.changed
	t.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

// next is what is to be done; nil when nothing is.
func (t *retractor) next() *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy = len(t.queue) > 0; !t.busy {
		t.queue = nil
		if t.changed != nil {
			close(t.changed)
			t.changed = nil
		}
		return nil
	}
	r := t.queue[0]
	t.queue = t.queue[1:]
	return r
}

func (t *retractor) loop(ctx context.Context) {
	for {
		for r := t.next(); r != nil && ctx.Err() == nil; r = t.next() {
			if err := t.archive.bury(ctx, r); err != nil {
				t.archive.Log.Warn("no tombstone for a retracted message", "owner", r.owner, "err", err)
			}
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
			return
		}
	}
}

// bury finds the message that a retraction is about and replaces it.
func (a *Archive) bury(ctx context.Context, r *row) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	retraction, err := stanza.Decode(r.stanza)
	if err != nil {
		return err
	}
	var grave *kept
	err = a.DB.Read(ctx, func(tx *store.Tx) error {
		archive, err := a.reader(tx, r.owner)
		if err == nil {
			grave, err = archive.grave(retraction, r)
		}
		return err
	})
	if err != nil || grave == nil {
		return err
	}
	err = a.DB.WriteLocking(ctx, func(tx *store.Tx) error {
		archive, err := a.lock(tx, r.owner)
		if err != nil {
			return err
		}
		run, at, err := archive.locate(grave.id)
		if err != nil {
			return err
		}
		return archive.rewrite(run, func(run []kept) []kept {
			run[at].raw = grave.raw
			return run
		})
	})
	switch {
	case err == nil:
		a.metrics.tombstones.Inc()
	case errors.Is(err, store.ErrNotFound): // it was removed in between
		err = nil
	}
	return err
}

// grave is what takes the place of the message that a retraction is about, which is looked for among the newest of the
// conversation; nil when there is none.
func (r *reader) grave(retraction *stanza.Stanza, by *row) (found *kept, err error) {
	seen := 0
	err = r.of(by.peer.Bare(), 0, farthest, true, func(k *kept) bool {
		seen++
		if mayHold(k.raw, by.retracts) {
			if st, err := stanza.Decode(k.raw); err == nil && st.ID == by.retracts && mayRetract(retraction, st) {
				found = &kept{id: k.id, raw: tombstone(st, retraction, by.stamp).String()}
			}
		}
		return found == nil && seen < lookBack
	})
	return found, err
}

// mayHold tells, at little cost, that a stanza does not have an id.
func mayHold(raw, id string) bool {
	return strings.Contains(raw, id) || strings.ContainsAny(id, "&<>'\" ") || strings.Contains(raw, "&#")
}

// mayRetract tells whether a retraction is by the author of a message: XEP-0424 §5. In rooms everybody has the room's bare JID.
func mayRetract(retraction, st *stanza.Stanza) bool {
	if st.Has(NSRetract, "retract") || st.Has(NSRetract, "retracted") {
		return false
	}
	if st.HasSpace(nsRooms) || retraction.HasSpace(nsRooms) {
		return st.From == retraction.From
	}
	return st.From.Bare() == retraction.From.Bare()
}

// tombstone is what is left of a message: XEP-0424 §4.
func tombstone(st, retraction *stanza.Stanza, stamp int64) *stanza.Stanza {
	return st.Without(func(stanza.Child) bool { return true }).With(xml.New(NSRetract, "retracted",
		"id", retraction.ID, "stamp", datetime.Format(store.Time(stamp))))
}
