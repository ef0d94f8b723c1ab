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
	inserts := rows[:0:0]
	for _, r := range rows {
		if r.task == insert {
			inserts = append(inserts, r)
		}
	}
	if err := insertRows(tx, inserts, wide); err != nil {
		return err
	}
	for _, r := range rows {
		if r.task == remark {
			// It is read where it comes back to. The text tells when it was sent.
			_, err := tx.Exec(`UPDATE archive SET position = $1, stamp = $2, stanza = $3 WHERE owner = $4 AND id = $5`,
				r.position, r.stamp, r.stanza, r.number, r.id[:])
			if err != nil {
				return err
			}
		}
		if r.task != insert {
			if err := offline.Mark(tx, r.owner, r.id[:], r.stamp); err != nil {
				return err
			}
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

// numberOf is the number of the owner that is the statement's first parameter; of one who has none nothing is there.
const numberOf = `(SELECT number FROM archive_owner WHERE owner = $1)`

// peerOf is what stands for a peer in the database.
func peerOf(peer jid.JID) int64 {
	sum := sha256.Sum256([]byte(peer.Bare().String()))
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

// insertRows enters messages. One that is there already stays as it is.
func insertRows(tx *store.Tx, rows []*row, wide int) error {
	return chunks(len(rows), wide, 8, func(n int) string {
		return `INSERT INTO archive (owner, position, id, stamp, peer, resource, message, stanza) VALUES ` + values(n, 8) + `
			ON CONFLICT (owner, id) DO NOTHING`
	}, func(i int, args []any) []any {
		r := rows[i]
		return append(args, r.number, r.position, r.id[:], r.stamp, peerOf(r.peer), r.peer.Resource(), r.message, r.stanza)
	}, func(query string, args []any) error {
		_, err := tx.Exec(query, args...)
		return err
	})
}

// Rows in one statement. SQLite's driver looks for each parameter among all of the statement's; for PostgreSQL a statement
// is a way there and back.
const (
	fewRows  = 1
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

// forget deletes an owner's archive. Positions are not given twice, so the owner's row stays.
func (a *Archive) forget(ctx context.Context, owner jid.JID) error {
	var newest int64
	err := a.DB.Read(ctx, func(tx *store.Tx) (err error) {
		_, newest, err = ends(tx, owner.String())
		return err
	})
	for n := newest; err == nil && n > 0; {
		n, err = a.cut(ctx, owner.String(), newest)
	}
	if err != nil {
		return fmt.Errorf("delete archive of %s: %w", owner, err)
	}
	if p, err := a.prefs.Load(ctx, owner, a.readPrefs); err != nil || p == a.unset {
		return err
	}
	return a.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM archive_prefs WHERE owner = $1`, owner.String())
		return err
	})
}

// cutAtOnce is how many messages are deleted in one transaction, for which others have to wait.
const cutAtOnce = 1000

// cut deletes an owner's oldest messages, up to a position, a number of them at a time. It returns how many it has
// deleted; none when nothing is left to do.
func (a *Archive) cut(ctx context.Context, owner string, upTo int64) (n int64, err error) {
	err = a.DB.Write(ctx, func(tx *store.Tx) error {
		var last int64
		err := tx.Row(`SELECT COALESCE(MAX(position), 0) FROM (SELECT position FROM archive
			WHERE owner = `+numberOf+` AND position <= $2 ORDER BY position LIMIT $3) AS oldest`, owner, upTo, cutAtOnce).Scan(&last)
		if err != nil || last == 0 {
			n = 0
			return err
		}
		n, err = tx.Exec(`DELETE FROM archive WHERE owner = `+numberOf+` AND position <= $2`, owner, last)
		return err
	})
	return n, err
}

// at is the first message of an owner at a position or behind it.
func at(tx *store.Tx, owner string, position int64) (found, stamp int64, err error) {
	err = tx.Row(`SELECT position, stamp FROM archive WHERE owner = `+numberOf+` AND position >= $2 ORDER BY position LIMIT 1`, owner, position).
		Scan(&found, &stamp)
	return found, stamp, err
}

// ends are the positions of the first and the last message of an owner; zero when there is none.
func ends(tx *store.Tx, owner string) (first, last int64, err error) {
	for query, into := range map[string]*int64{
		`SELECT position FROM archive WHERE owner = ` + numberOf + ` ORDER BY position LIMIT 1`:      &first,
		`SELECT position FROM archive WHERE owner = ` + numberOf + ` ORDER BY position DESC LIMIT 1`: &last,
	} {
		if err := tx.Row(query, owner).Scan(into); err != nil && !errors.Is(err, store.ErrNotFound) {
			return 0, 0, err
		}
	}
	return first, last, nil
}

// since is the position of the first message whose stamp is not before a time, one behind the last when all are. It looks
// at a few messages only, halving the distance each time; stamps grow with positions but for slack.
func since(tx *store.Tx, owner string, first, last, stamp int64) (int64, error) {
	low, high := first, last+1 // the answer is between
	for low < high {
		middle := low + (high-low)/2
		found, then, err := at(tx, owner, middle)
		switch {
		case errors.Is(err, store.ErrNotFound):
			high = middle
		case err != nil:
			return 0, err
		case then < stamp:
			low = found + 1
		default:
			high = middle
		}
	}
	return low, nil
}
