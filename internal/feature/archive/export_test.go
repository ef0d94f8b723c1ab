package archive

import (
	"context"
	"time"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Entry is a message to be kept.
type Entry struct {
	Owner, Peer jid.JID
	From        jid.JID // whose session has sent it; the zero JID: the peer's
	N           int     // which of those that it has sent
	Time        time.Time
	Text        string
}

func (a *Archive) row(e *Entry) *row {
	from := e.From
	if from.IsZero() {
		from = e.Peer
	}
	key := session.Key{N: uint64(e.N + 1), Hash: uint64(e.N)}
	copy(key.Seed[:], from.String())
	return &row{task: insert, owner: e.Owner.String(), id: a.ids.of(key, e.Owner), stamp: store.Micros(e.Time), peer: e.Peer, stanza: e.Text}
}

// ID is the id under which an entry is kept.
func (a *Archive) ID(e *Entry) string { return a.row(e).id.String() }

// Commit writes entries in one transaction.
func (a *Archive) Commit(ctx context.Context, all []Entry) error {
	rows := make([]*row, len(all))
	for i := range all {
		rows[i] = a.row(&all[i])
	}
	return a.DB.WriteLocking(ctx, func(tx *store.Tx) error { return a.commit(tx, rows) })
}

// Add queues an entry. What it returns is closed when the entry is committed, and so is all before it.
func (a *Archive) Add(e *Entry) <-chan struct{} {
	r := a.row(e)
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
	r := a.row(e)
	r.task = remark
	a.writer.add(r)
}

// Admit asks for room in the queue.
func (a *Archive) Admit(ctx context.Context) bool { return a.writer.admit(ctx) }

// Purge removes what is old or too much, now.
func (a *Archive) Purge(ctx context.Context) error { return a.purgeAll(ctx) }

// MaxQueue is how many rows may wait.
const MaxQueue = maxQueue

func (a *Archive) ask(ctx context.Context, owner jid.JID, query string) (*page, error) {
	q, err := xml.Parse([]byte(query), NS)
	if err != nil {
		return nil, err
	}
	f, err := a.filter(owner, &q)
	if err != nil {
		return nil, err
	}
	return a.page(ctx, owner, f)
}

// Count is the number of results of a <query/>; -1 when it is not counted.
func (a *Archive) Count(ctx context.Context, owner jid.JID, query string) (int, error) {
	p, err := a.ask(ctx, owner, query)
	if err != nil {
		return 0, err
	}
	return p.count, nil
}

// MaxLooked is among how many messages results are counted.
const MaxLooked = maxLooked

// Query reads the page that a <query/> asks for.
func (a *Archive) Query(ctx context.Context, owner jid.JID, query string) (ids []string, complete bool, err error) {
	p, err := a.ask(ctx, owner, query)
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
			upTo, err = r.known(made)
		}
		return err
	})
	if err == nil {
		_, err = a.cutAll(ctx, owner.String(), upTo)
	}
	return err
}

// Leftovers is how many rows of the indexes are about messages that are gone, or missing for those that are there.
func (a *Archive) Leftovers(ctx context.Context, owner jid.JID) (n int) {
	stretches := map[stretch]int64{} // that should be there, and their last
	peers := map[[2]int64]bool{}
	err := a.DB.Read(ctx, func(tx *store.Tx) error {
		r, err := a.reader(tx, owner.String())
		if err != nil {
			return err
		}
		runs, err := r.some(0, 0, false, 1_000_000)
		if err != nil {
			return err
		}
		for _, run := range runs {
			found, _ := a.ids.stretches(placed{r.number, run})
			for _, s := range found {
				last := s.last
				s.last = 0
				stretches[s] = last
			}
			for i := range run {
				peers[[2]int64{peerOf(run[i].bare()), span(run[i].position)}] = true
			}
		}
		if err := tx.Each(func(scan store.Scan) error {
			s := stretch{owner: r.number}
			var last int64
			err := scan(&s.session, &s.first, &s.position, &last)
			if want, ok := stretches[s]; !ok || last < want {
				n++
			}
			delete(stretches, s)
			return err
		}, `SELECT session, first, position, last FROM archive_id WHERE owner = $1`, r.number); err != nil {
			return err
		}
		return tx.Each(func(scan store.Scan) error {
			var p [2]int64
			err := scan(&p[0], &p[1])
			delete(peers, p)
			return err
		}, `SELECT peer, span FROM archive_peer WHERE owner = $1`, r.number)
	})
	if err != nil {
		panic(err)
	}
	return n + len(stretches) + len(peers)
}
