package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Entry is a message to be kept.
type Entry struct {
	Owner, Peer jid.JID
	N           int // tells it from others
	Time        time.Time
	Text        string
}

func (e *Entry) row() *row {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(e.Owner.String()), uint64(e.N)))
	r := &row{task: insert, owner: e.Owner.String(), stamp: store.Micros(e.Time), peer: e.Peer, stanza: e.Text}
	copy(r.id[:], sum[:])
	return r
}

// ID is the id under which the entry is kept.
func (e *Entry) ID() string { return e.row().id.String() }

// Commit writes entries in one transaction.
func (a *Archive) Commit(ctx context.Context, all []Entry) error {
	rows := make([]*row, len(all))
	for i := range all {
		rows[i] = all[i].row()
	}
	return a.DB.WriteLocking(ctx, func(tx *store.Tx) error { return a.commit(tx, rows) })
}

// Add queues an entry. What it returns is closed when the entry is committed, and so is all before it.
func (a *Archive) Add(e *Entry) <-chan struct{} {
	r := e.row()
	r.done = make(chan struct{})
	a.writer.add(r)
	return r.done
}

// Flush waits for the writer.
func (a *Archive) Flush(ctx context.Context) error { return a.writer.flush(ctx, "") }

// Journal is how many entries are in the journal.
func (a *Archive) Journal(ctx context.Context) int {
	return a.number(ctx, `SELECT COUNT(*) FROM archive_journal`)
}

// Rows is how many messages are in their places.
func (a *Archive) Rows(ctx context.Context) int {
	return a.number(ctx, `SELECT COUNT(*) FROM archive_id`)
}

func (a *Archive) number(ctx context.Context, query string) (n int) {
	err := a.DB.Read(ctx, func(tx *store.Tx) error { return tx.Row(query).Scan(&n) })
	if err != nil {
		panic(err)
	}
	return n
}

// Again queues an entry that comes back unread.
func (a *Archive) Again(e *Entry) {
	r := e.row()
	r.task = remark
	a.writer.add(r)
}

// Admit asks for room in the queue.
func (a *Archive) Admit(ctx context.Context) bool { return a.writer.admit(ctx) }

// Purge removes what is old or too much, now.
func (a *Archive) Purge(ctx context.Context) error { return a.purgeAll(ctx) }

// MaxQueue is how many rows may wait.
const MaxQueue = maxQueue

// Query reads the page that a <query/> asks for.
func (a *Archive) Query(ctx context.Context, owner jid.JID, query string) (ids []string, complete bool, err error) {
	q, err := xml.Parse([]byte(query), NS)
	if err != nil {
		return nil, false, err
	}
	f, err := a.filter(owner, &q)
	if err != nil {
		return nil, false, err
	}
	p, err := a.page(ctx, owner, f)
	if err != nil {
		return nil, false, err
	}
	for i := range p.messages {
		if _, err := p.messages[i].result(owner, owner, "q"); err != nil {
			return nil, false, err
		}
		ids = append(ids, p.messages[i].id.String())
	}
	return ids, p.complete, nil
}

// Cut removes the oldest messages, as far as one, that included.
func (a *Archive) Cut(ctx context.Context, owner jid.JID, last string) error {
	made, _ := parseID(last)
	upTo := int64(0)
	err := a.DB.Read(ctx, func(tx *store.Tx) error {
		r, err := a.reader(tx, owner.String())
		if err == nil {
			upTo, err = r.locate(made)
		}
		return err
	})
	for n := 1; err == nil && n > 0; {
		n, err = a.cut(ctx, owner.String(), upTo)
	}
	return err
}

// Leftovers is how many rows of an index are about messages that are gone, or missing for those that are there.
func (a *Archive) Leftovers(ctx context.Context, owner jid.JID) (n int) {
	peers := map[[2]int64]bool{} // that are not in the index
	err := a.DB.Read(ctx, func(tx *store.Tx) error {
		r, err := a.reader(tx, owner.String())
		if err != nil {
			return err
		}
		positions := map[id]int64{}
		if err := r.between(0, farthest, false, func(k *kept) bool {
			positions[k.id] = k.position
			peers[[2]int64{peerOf(k.bare()), span(k.position)}] = true
			return true
		}); err != nil {
			return err
		}
		n = len(positions)
		if err := tx.Each(func(scan store.Scan) error {
			var raw []byte
			var position int64
			err := scan(&raw, &position)
			if positions[id(raw)] == position {
				n--
			} else {
				n++
			}
			return err
		}, `SELECT id, position FROM archive_id WHERE owner = $1`, r.number); err != nil {
			return err
		}
		return tx.Each(func(scan store.Scan) error {
			var p [2]int64
			err := scan(&p[0], &p[1])
			delete(peers, p)
			return err
		}, `SELECT peer, span FROM archive_peer WHERE owner = $1`, r.number)
	})
	n += len(peers)
	if err != nil {
		panic(err)
	}
	return n
}
