package archive

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/feature/offline"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// settle finds out about rows whose owner's wishes could not be read when they came. What cannot be found out now is kept.
func (a *Archive) settle(ctx context.Context, batch []*row) []*row {
	if !slices.ContainsFunc(batch, func(r *row) bool { return r.unsure }) {
		return batch
	}
	return slices.DeleteFunc(slices.Clone(batch), func(r *row) bool {
		if !r.unsure {
			return false
		}
		owner, err := jid.Parse(r.owner)
		if err != nil {
			return true
		}
		wanted, err := a.decide(ctx, owner, r.peer)
		return err == nil && !wanted
	})
}

// committed passes on what is to be done about rows that are in the database.
func (a *Archive) committed(rows []*row) {
	for _, r := range rows {
		if r.retracts != "" {
			a.retract.add(r)
		}
		if r.task != insert {
			a.offline.Stored(r.owner)
		}
	}
}

// commit writes rows, those of an owner in their order. Owners are sorted, so that transactions of several nodes that
// lock the same ones do so in the same order.
func (a *Archive) commit(tx *store.Tx, batch []*row) error {
	rows := slices.Clone(batch)
	slices.SortStableFunc(rows, func(a, b *row) int { return cmp.Compare(a.owner, b.owner) })
	wide := manyRows
	if a.DB.Dialect() == store.SQLite {
		wide = fewRows
	}
	if err := place(tx, rows, wide); err != nil {
		return err
	}
	var inserts, moves, marks []*row
	for _, r := range rows {
		switch r.task {
		case insert:
			inserts = append(inserts, r)
		case remark:
			moves = append(moves, r)
			marks = append(marks, r)
		case mark:
			marks = append(marks, r)
		}
	}
	if err := a.insertRows(tx, inserts, wide); err != nil {
		return err
	}
	for _, r := range moves {
		if err := a.move(tx, r); err != nil {
			return err
		}
	}
	for _, r := range marks {
		if err := offline.Mark(tx, r.owner, r.id[:], r.stamp); err != nil {
			return err
		}
	}
	return nil
}

// drawn is a random number for an owner, which SQLite writes in six bytes.
func drawn() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.BigEndian.Uint64(b[:]) >> 17)
}

// peerOf is what stands for a peer, a bare JID, in the database.
func peerOf(peer string) int64 {
	sum := sha256.Sum256([]byte(peer))
	return int64(binary.BigEndian.Uint64(sum[:]) >> 1)
}

// latest bounds by how far a clock may have been wrong and still move the stamps of later messages.
const latest = int64(3600_000_000)

// place gives the rows their positions, and with it locks their owners' rows: whoever commits later for an owner gets
// later positions. Stamps grow with positions, as far as the clocks of the nodes differ by little, so that a time stands
// for a place.
func place(tx *store.Tx, rows []*row, wide int) error {
	type owner struct {
		name        string
		from, to    int // rows
		need        int64
		number      int64
		last, stamp int64
	}
	var owners []owner
	for i, r := range rows {
		if len(owners) == 0 || owners[len(owners)-1].name != r.owner {
			owners = append(owners, owner{name: r.owner, from: i})
		}
		o := &owners[len(owners)-1]
		o.to, o.stamp = i+1, max(o.stamp, r.stamp)
		if r.task != mark {
			o.need++
		}
	}
	err := chunks(len(owners), wide, 4, func(n int) string {
		return `INSERT INTO archive_owner (owner, number, last, stamp) VALUES ` + values(n, 4) + `
			ON CONFLICT (owner) DO UPDATE SET last = archive_owner.last + excluded.last,
				stamp = CASE WHEN excluded.stamp > archive_owner.stamp THEN excluded.stamp ELSE archive_owner.stamp END
			RETURNING owner, number, last, stamp`
	}, func(i int, args []any) []any {
		// A number that somebody has is a conflict: then the commit is tried again.
		return append(args, owners[i].name, drawn(), owners[i].need, owners[i].stamp)
	}, func(query string, args []any) error {
		return tx.Each(func(scan store.Scan) error {
			var name string
			var number, last, stamp int64
			if err := scan(&name, &number, &last, &stamp); err != nil {
				return err
			}
			i, found := slices.BinarySearchFunc(owners, name, func(o owner, name string) int { return cmp.Compare(o.name, name) })
			if !found {
				return fmt.Errorf("the row of %s came back unasked for", name)
			}
			owners[i].number, owners[i].last, owners[i].stamp = number, last, stamp
			return nil
		}, query, args...)
	})
	if err != nil {
		return err
	}
	for i := range owners {
		o := &owners[i]
		next := o.last - o.need
		for _, r := range rows[o.from:o.to] {
			r.number = o.number
			if r.task == mark {
				continue
			}
			next++
			r.position = next
		}
		raise(rows[o.from:o.to], o.stamp)
	}
	return nil
}

// raise makes the stamps of an owner's rows grow. If the owner's latest stamp is later than all of them, it was there before.
func raise(rows []*row, known int64) {
	highest := int64(0)
	for _, r := range rows {
		highest = max(highest, r.stamp)
	}
	floor := int64(0)
	if known > highest && known-highest < latest {
		floor = known
	}
	for _, r := range rows {
		r.stamp = max(r.stamp, floor)
		floor = r.stamp
	}
}

// insertRows enters messages, those of an owner in their order. One that is there already stays as it is.
func (a *Archive) insertRows(tx *store.Tx, rows []*row, wide int) error {
	all := runsOf(rows)
	index, doubtful, err := a.index(tx, all, wide)
	if err != nil {
		return err
	}
	if len(doubtful) > 0 {
		if rows, err = a.fresh(tx, rows, doubtful); err != nil {
			return err
		}
		all, index = runsOf(rows), nil
		for _, p := range all {
			found, _ := a.ids.stretches(p)
			for _, s := range found {
				if !doubtful[s.owner] {
					index = append(index, s)
				} else if err := squeeze(tx, s); err != nil {
					return err
				}
			}
		}
	}
	if err := insertIndex(tx, index, wide); err != nil {
		return err
	}
	return insertRuns(tx, all, wide)
}

// runsOf is what is to be one row each.
func runsOf(rows []*row) (all []placed) {
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].number == rows[0].number {
			n++
		}
		messages := make([]kept, n)
		for i, r := range rows[:n] {
			messages[i] = kept{r.position, r.stamp, r.id, r.peer.String(), r.stanza}
		}
		all = append(all, divide(rows[0].number, messages)...)
		rows = rows[n:]
	}
	return all
}

// placed is a run of an owner.
type placed struct {
	owner int64
	run   []kept
}

// insertRuns enters runs, and where their peers are found.
func insertRuns(tx *store.Tx, all []placed, wide int) error {
	var e encoder
	err := chunks(len(all), wide, 4, func(n int) string {
		return `INSERT INTO archive (owner, position, stamp, messages) VALUES ` + values(n, 4)
	}, func(i int, args []any) []any {
		first := &all[i].run[0]
		return append(args, all[i].owner, first.position, first.stamp, e.encode(all[i].run))
	}, exec(tx))
	if err != nil {
		return err
	}
	type place struct{ owner, peer, span int64 }
	var peers []place
	for i := range all {
		last := ""
		for k := range all[i].run {
			if peer := all[i].run[k].bare(); peer != last {
				last = peer
				peers = append(peers, place{all[i].owner, peerOf(peer), span(all[i].run[k].position)})
			}
		}
	}
	slices.SortFunc(peers, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.peer, b.peer), cmp.Compare(a.span, b.span))
	})
	peers = slices.Compact(peers)
	return chunks(len(peers), wide, 3, func(n int) string {
		return `INSERT INTO archive_peer (owner, peer, span) VALUES ` + values(n, 3) + ` ON CONFLICT (owner, peer, span) DO NOTHING`
	}, func(i int, args []any) []any {
		return append(args, peers[i].owner, peers[i].peer, peers[i].span)
	}, exec(tx))
}

// move moves a message that comes back unread to the end, where it is read next. The text tells when it was sent.
func (a *Archive) move(tx *store.Tx, moved *row) error {
	r := &reader{Archive: a, tx: tx, name: moved.owner, number: moved.number}
	run, at, err := r.locate(moved.id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = r.rewrite(run, func(run []kept) []kept { return slices.Delete(run, at, at+1) })
	}
	if err != nil {
		return err
	}
	all := runsOf([]*row{moved})
	found, _ := a.ids.stretches(all[0])
	if err := squeeze(tx, found[0]); err != nil {
		return err
	}
	return insertRuns(tx, all, 1)
}

// Rows in one statement. For PostgreSQL a statement is a way there and back; on SQLite larger ones gain little.
const (
	fewRows  = 4
	manyRows = 64
)

// chunks runs a statement for n rows, at most wide at a time, in few sizes, since each is a statement to prepare.
func chunks(n, wide, columns int, query func(rows int) string, arg func(i int, args []any) []any, run func(query string, args []any) error) error {
	args := make([]any, 0, min(n, wide)*columns)
	text, rows := "", 0
	for done := 0; done < n; {
		size := wide
		for size > n-done {
			size /= 4
		}
		if size != rows {
			text, rows = query(size), size
		}
		args = args[:0]
		for i := range size {
			args = arg(done+i, args)
		}
		if err := run(text, args); err != nil {
			return err
		}
		done += size
	}
	return nil
}

// exec is chunks' way of running a statement that returns nothing.
func exec(tx *store.Tx) func(query string, args []any) error {
	return func(query string, args []any) error {
		_, err := tx.Exec(query, args...)
		return err
	}
}

// values is a list of n rows of parameters.
func values(n, columns int) string {
	var b strings.Builder
	for i := range n {
		for c := range columns {
			switch {
			case c > 0:
				b.WriteString(", $")
			case i > 0:
				b.WriteString("), ($")
			default:
				b.WriteString("($")
			}
			b.WriteString(strconv.Itoa(i*columns + c + 1))
		}
	}
	return b.String() + ")"
}
