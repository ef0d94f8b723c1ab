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

// Bounds of rounds. On SQLite a commit costs by the pages that it touches, and a message belongs in four places of each of
// two archives. So what comes is first entered in a journal, one row for many messages, and acknowledged; here it waits for
// its place until there is so much that what belongs together shares pages, or until somebody wants to read it. After a
// crash the journal tells what has no place yet; what has one stays as it is, since its id is there already.
const (
	fileRows    = 16384 // so many rows begin a round, in which all that waits gets its place
	fileBytes   = 16 << 20
	fileAfter   = 2 * time.Second // a row that waits for so long begins one, too
	sliceRows   = 512             // of a round in one commit: acknowledgements wait for it
	entryBytes  = 48 << 10        // of messages in one row of the journal
	journalPage = 16              // rows of the journal that are read at once
)

// shelf is what is in the journal and has no place yet. The writer's loop has it.
type shelf struct {
	rows   map[string][]*row // by owner, in the order in which they came
	count  int
	bytes  int
	since  time.Time // when the first came that is in no round
	number int64     // of the last entry of the journal
	gone   int64     // of the last entry that was removed
	round  []turn    // owners whose turn comes
	upTo   int64     // entries of the journal that the round makes dispensable; 0 outside of rounds
	text   []byte    // an entry in the making
}

// turn is how many rows of an owner a round is about.
type turn struct {
	owner string
	rows  int
}

func newShelf() *shelf { return &shelf{rows: map[string][]*row{}} }

// put takes rows that are in the journal, up to the entry of a number.
func (s *shelf) put(rows []*row, number int64) {
	s.number = number
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
	case s.upTo != 0 || s.count >= fileRows || s.bytes >= fileBytes:
		return time.Now()
	case s.since.IsZero():
		return time.Time{}
	}
	return s.since.Add(fileAfter)
}

// begin begins a round, unless there is one.
func (s *shelf) begin() {
	if s.upTo != 0 || s.number == s.gone {
		return
	}
	s.upTo, s.since = s.number, time.Time{}
	for owner, rows := range s.rows {
		s.round = append(s.round, turn{owner, len(rows)})
	}
	slices.SortFunc(s.round, func(a, b turn) int { return cmp.Compare(a.owner, b.owner) })
}

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
		s.text = s.text[:0]
		for first := i; i < len(rows) && len(s.text) < entryBytes; i++ {
			var before *row
			if i > first {
				before = rows[i-1]
			}
			s.text = rows[i].entry(s.text, before)
		}
		number++
		if _, err := tx.Exec(`INSERT INTO archive_journal (number, entries) VALUES ($1, $2)`, number, s.text); err != nil {
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
	for _, text := range []string{r.owner, r.peer.String(), r.message, r.retracts} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	if same {
		return append(b, 0) // no stanza is empty
	}
	return append(binary.AppendUvarint(b, uint64(len(r.stanza))), r.stanza...)
}

var errEntry = errors.New("an entry of the journal is broken")

// entries reads what entry has written.
func entries(text string) (rows []*row, err error) {
	field := func() string {
		n, used := uvarint(text)
		if used <= 0 || n > uint64(len(text)-used) {
			err, text = errEntry, ""
			return ""
		}
		value := text[used : used+int(n)]
		text = text[used+int(n):]
		return value
	}
	for text != "" {
		r := &row{task: insert}
		if len(text) < len(r.id) {
			return nil, errEntry
		}
		text = text[copy(r.id[:], text):]
		stamp, used := binary.Varint([]byte(text[:min(len(text), binary.MaxVarintLen64)]))
		if used <= 0 {
			return nil, errEntry
		}
		r.stamp, text = stamp, text[used:]
		r.owner = field()
		peer := field()
		r.message, r.retracts, r.stanza = field(), field(), field()
		if r.stanza == "" && len(rows) > 0 {
			r.stanza = rows[len(rows)-1].stanza
		}
		if err != nil {
			return nil, err
		}
		if r.peer, err = jid.Parse(peer); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func uvarint(text string) (uint64, int) {
	return binary.Uvarint([]byte(text[:min(len(text), binary.MaxVarintLen64)]))
}

// restore reads what the journal has from before the server's start; false: the server stops.
func (w *writer) restore(ctx context.Context) bool {
	for wait := firstPause; w.shelf != nil; wait = min(2*wait, longPause) {
		rows, number, err := w.entered(ctx)
		if err == nil && number == w.shelf.number {
			break
		}
		if err != nil {
			w.log.Warn("the journal of messages cannot be read", "err", err)
			if pause(ctx, wait); ctx.Err() != nil {
				return false
			}
			continue
		}
		w.mu.Lock()
		for _, r := range rows {
			r.told, r.queued = true, time.Now()
			w.pending[r.owner]++
		}
		w.mu.Unlock()
		w.shelf.put(rows, number)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = true
	return true
}

// entered reads some of the journal, behind what the shelf has.
func (w *writer) entered(ctx context.Context) (rows []*row, number int64, err error) {
	err = w.db.Read(ctx, func(tx *store.Tx) error {
		rows, number = nil, w.shelf.number
		return tx.Each(func(scan store.Scan) error {
			var raw []byte
			if err := scan(&number, &raw); err != nil {
				return err
			}
			found, err := entries(string(raw))
			if err != nil {
				w.log.Error("messages in the journal are broken", "entry", number, "err", err)
			}
			rows = append(rows, found...)
			return nil
		}, `SELECT number, entries FROM archive_journal WHERE number > $1 ORDER BY number LIMIT $2`, number, journalPage)
	})
	return rows, number, err
}

// clear empties the journal of what has its place. What it fails to remove stays for the end of the next round.
func (w *writer) clear(ctx context.Context) {
	err := w.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM archive_journal WHERE number <= $1`, w.shelf.upTo)
		return err
	})
	if err != nil {
		w.log.Warn("the journal is not emptied", "err", err)
	}
	w.shelf.gone, w.shelf.upTo = w.shelf.upTo, 0
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
		if len(w.shelf.round) == 0 && w.shelf.upTo != 0 {
			w.clear(context.WithoutCancel(ctx))
		}
		if all && w.shelf.number == w.shelf.gone || !all && !w.shelf.crowded() {
			return true
		}
	}
}

// filing tells whether a round is under way.
func (w *writer) filing() bool { return w.shelf != nil && w.shelf.upTo != 0 }

// divide divides a batch into what has to have its place when it is acknowledged, what waits for its owner's clients
// with all that is that owner's, and the rest.
func (w *writer) divide(batch []*row) (direct, rest []*row) {
	if w.shelf == nil {
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
