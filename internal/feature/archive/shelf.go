package archive

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// Bounds of rounds. On SQLite a commit costs by the rows and pages that it touches, and a message belongs to two archives. So
// what comes is first entered in a journal, one row for many messages, and acknowledged; here it waits for its place until
// there is so much that what belongs together shares a row, or until somebody wants to read it. After a
// crash the journal tells what has no place yet; what has one stays as it is, since its id is there already.
const (
	fileRows    = 32768 // so many rows begin a round, in which all that waits gets its place
	fileBytes   = 32 << 20
	fileAfter   = 2 * time.Second // a row that waits for so long begins one, too
	sliceRows   = 2048            // of a round in one commit: acknowledgements wait for it
	entryBytes  = 48 << 10        // of messages in one row of the journal
	journalPage = 16              // rows of the journal that are read at once
)

// shelf is what is in the journal and has no place yet. The writer's loop has it.
type shelf struct {
	rows   map[string][]*row // by owner, in the order in which they came
	count  int
	bytes  int
	since  time.Time // when the first came that is in no round
	writer int64     // of entries of the journal, unlike that of a server which has left some
	number int64     // of the last entry
	gone   int64     // of the last entry that was removed
	found  []slot    // entries that others have left
	filing bool      // a round is under way
	round  []turn    // owners whose turn comes in it
	upTo   int64     // entries that it makes dispensable
	text   []byte    // an entry in the making
	packer packer
}

// turn is how many rows of an owner a round is about.
type turn struct {
	owner string
	rows  int
}

// slot is where in the journal an entry is.
type slot struct{ writer, number int64 }

func newShelf() *shelf { return &shelf{rows: map[string][]*row{}, writer: drawn()} }

// put takes rows that are in the journal.
func (s *shelf) put(rows []*row) {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	for _, r := range rows {
		r.shelved, r.unsure = true, false
		s.rows[r.owner] = append(s.rows[r.owner], r)
		s.count++
		s.bytes += r.size()
	}
}

// take is the oldest rows of an owner, at most so many.
func (s *shelf) take(owner string, most int) []*row {
	rows := s.rows[owner]
	if len(rows) > most {
		s.rows[owner] = rows[most:]
		rows = rows[:most:most]
	} else {
		delete(s.rows, owner)
	}
	s.count -= len(rows)
	for _, r := range rows {
		r.shelved = false
		s.bytes -= r.size()
	}
	return rows
}

// due is when the next round begins; zero when nothing waits.
func (s *shelf) due() time.Time {
	switch {
	case s.filing || s.count >= fileRows || s.bytes >= fileBytes:
		return time.Now()
	case s.since.IsZero():
		return time.Time{}
	}
	return s.since.Add(fileAfter)
}

// begin begins a round, unless there is one.
func (s *shelf) begin() {
	if s.filing || s.empty() {
		return
	}
	s.filing, s.upTo, s.since = true, s.number, time.Time{}
	for owner, rows := range s.rows {
		s.round = append(s.round, turn{owner, len(rows)})
	}
	slices.SortFunc(s.round, func(a, b turn) int { return cmp.Compare(a.owner, b.owner) })
}

// empty tells whether nothing is in the journal that is this shelf's.
func (s *shelf) empty() bool { return s.number == s.gone && len(s.found) == 0 }

// slice is the next part of the round; nothing when it is over.
func (s *shelf) slice() (rows []*row) {
	for len(s.round) > 0 && len(rows) < sliceRows {
		next := &s.round[0]
		n := min(next.rows, sliceRows-len(rows))
		rows = append(rows, s.take(next.owner, n)...)
		if next.rows -= n; next.rows == 0 {
			s.round = s.round[1:]
		}
	}
	return rows
}

// crowded tells whether more comes than gets its place.
func (s *shelf) crowded() bool { return s.count > 2*fileRows || s.bytes > 2*fileBytes }

// enter writes rows to the journal.
func (s *shelf) enter(tx *store.Tx, rows []*row) (number int64, err error) {
	number = s.number
	for i := 0; i < len(rows); {
		s.text = append(s.text[:0], plain)
		for first := i; i < len(rows) && len(s.text) < entryBytes; i++ {
			var before *row
			if i > first {
				before = rows[i-1]
			}
			s.text = rows[i].entry(s.text, before)
		}
		number++
		if _, err := tx.Exec(`INSERT INTO archive_journal (writer, number, entries) VALUES ($1, $2, $3)`, s.writer, number, s.packer.pack(s.text)); err != nil {
			return 0, err
		}
	}
	return number, nil
}

// entry appends a row as the journal has it. The same text as before is not written again: a message stands there for its
// sender and for its recipient.
func (r *row) entry(b []byte, before *row) []byte {
	same := before != nil && before.stanza == r.stanza
	b = append(b, r.id[:]...)
	b = binary.AppendVarint(b, r.stamp)
	for _, text := range []string{r.owner, r.peer.String(), r.retracts} {
		b = appendText(b, text)
	}
	if same {
		return append(b, 0) // no stanza is empty
	}
	return appendText(b, r.stanza)
}

var errEntry = errors.New("an entry of the journal is broken")

// entries reads what entry has written.
func entries(text string) (rows []*row, err error) {
	in := scanner{text: text}
	for in.text != "" {
		r := &row{task: insert}
		copy(r.id[:], in.bytes(len(r.id)))
		r.stamp = in.signed()
		r.owner = in.field()
		peer := in.field()
		r.retracts, r.stanza = in.field(), in.field()
		if in.broken {
			return nil, errEntry
		}
		if r.stanza == "" && len(rows) > 0 {
			r.stanza = rows[len(rows)-1].stanza
		}
		if r.peer, err = jid.Parse(peer); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// aside stands in the journal for the writer of what was acknowledged, and then refused its place: it is tried again when
// the server starts.
const aside = 0

// leave enters such a row once more, since its entry is removed with the others of its round.
func (s *shelf) leave(ctx context.Context, w *writer, r *row) {
	s.text = r.entry(append(s.text[:0], plain), nil)
	err := w.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO archive_journal (writer, number, entries)
			VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM archive_journal WHERE writer = $1), $2)`, aside, s.text)
		return err
	})
	if err != nil {
		w.log.Error("an acknowledged message is lost", "owner", r.owner, "id", r.id.String(), "err", err)
	}
}

// restore reads what the journal has from before the server's start; false: the server stops.
func (w *writer) restore(ctx context.Context) bool {
	last := slot{}
	for wait := firstPause; w.shelf != nil; {
		rows, found, err := w.entered(ctx, last)
		if err != nil {
			w.log.Warn("the journal of messages cannot be read", "err", err)
			if pause(ctx, wait); ctx.Err() != nil {
				return false
			}
			wait = min(2*wait, longPause)
			continue
		}
		if len(found) == 0 {
			break
		}
		last = found[len(found)-1]
		w.mu.Lock()
		for _, r := range rows {
			r.told, r.queued = true, time.Now()
			w.pending[r.owner]++
		}
		w.mu.Unlock()
		w.shelf.found = append(w.shelf.found, found...)
		w.shelf.put(rows)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = true
	return true
}

// entered reads some of the journal, behind a place.
func (w *writer) entered(ctx context.Context, last slot) (rows []*row, found []slot, err error) {
	err = w.db.Read(ctx, func(tx *store.Tx) error {
		rows, found = nil, nil
		return tx.Each(func(scan store.Scan) error {
			var at slot
			var raw []byte
			if err := scan(&at.writer, &at.number, &raw); err != nil {
				return err
			}
			var entered []*row
			raw, err := unpack(raw)
			if err == nil {
				entered, err = entries(string(raw))
			}
			if err != nil {
				w.log.Error("messages in the journal are broken", "writer", at.writer, "entry", at.number, "err", err)
			}
			rows, found = append(rows, entered...), append(found, at)
			return nil
		}, `SELECT writer, number, entries FROM archive_journal WHERE writer > $1 OR writer = $1 AND number > $2
			ORDER BY writer, number LIMIT $3`, last.writer, last.number, journalPage)
	})
	return rows, found, err
}

// clear empties the journal of what has its place, at the end of a round. What it fails to remove stays until the server
// starts again.
func (w *writer) clear(ctx context.Context) {
	err := w.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM archive_journal WHERE writer = $1 AND number <= $2`, w.shelf.writer, w.shelf.upTo)
		for _, at := range w.shelf.found {
			if err == nil {
				_, err = tx.Exec(`DELETE FROM archive_journal WHERE writer = $1 AND number = $2`, at.writer, at.number)
			}
		}
		return err
	})
	if err != nil {
		w.log.Warn("the journal is not emptied", "err", err)
	}
	w.shelf.gone, w.shelf.found, w.shelf.filing = w.shelf.upTo, nil, false
}

// file gives rows their places that wait for them: all when asked to, else one part of the round that is due.
func (w *writer) file(ctx context.Context, all bool) bool {
	if w.shelf == nil {
		return true
	}
	if due := w.shelf.due(); !all && (due.IsZero() || time.Now().Before(due)) {
		return true
	}
	for {
		w.shelf.begin()
		if !w.write(ctx, w.shelf.slice(), false) {
			return false
		}
		if len(w.shelf.round) == 0 && w.shelf.filing {
			w.clear(context.WithoutCancel(ctx))
		}
		if all && w.shelf.empty() || !all && !w.shelf.crowded() {
			return true
		}
	}
}

// filing tells whether a round is under way.
func (w *writer) filing() bool { return w.shelf != nil && w.shelf.filing }

// divide divides a batch into what has to have its place when it is acknowledged, what waits for its owner's clients
// with all that is that owner's, and the rest.
func (w *writer) divide(batch []*row) (direct, rest []*row) {
	if !w.journal {
		return batch, nil
	}
	var owners map[string]bool
	for _, r := range batch {
		if r.task != insert {
			if owners == nil {
				owners = map[string]bool{}
			}
			if !owners[r.owner] {
				owners[r.owner] = true
				direct = append(direct, w.shelf.take(r.owner, math.MaxInt)...)
			}
		}
	}
	if owners == nil {
		return nil, batch
	}
	for _, r := range batch {
		if owners[r.owner] {
			direct = append(direct, r)
		} else {
			rest = append(rest, r)
		}
	}
	return direct, rest
}
