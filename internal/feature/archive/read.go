package archive

import (
	"errors"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// reader reads the archive of one owner.
type reader struct {
	*Archive
	tx     *store.Tx
	name   string
	number int64 // of the owner
	none   bool  // nothing was ever kept for the owner
	looked int   // messages that were looked at
}

func (a *Archive) reader(tx *store.Tx, owner string) (*reader, error) {
	r := &reader{Archive: a, tx: tx, name: owner}
	err := tx.Row(`SELECT number FROM archive_owner WHERE owner = $1`, owner).Scan(&r.number)
	if errors.Is(err, store.ErrNotFound) {
		r.none, err = true, nil
	}
	return r, err
}

// lock is a reader in whose transaction nobody else changes the archive.
func (a *Archive) lock(tx *store.Tx, owner string) (*reader, error) {
	if _, err := tx.Exec(`UPDATE archive_owner SET last = last WHERE owner = $1`, owner); err != nil {
		return nil, err
	}
	return a.reader(tx, owner)
}

// Rows that are read at once: few at first, since one may be a whole page, or one message.
const (
	firstRuns = 4
	moreRuns  = 64
)

// between gives the messages whose positions are from low to high to fn, or from high to low, until it returns false.
func (r *reader) between(low, high int64, backward bool, fn func(*kept) bool) error {
	if r.none {
		return nil
	}
	for limit := firstRuns; low <= high; limit = moreRuns {
		runs, err := r.some(low, high, backward, limit)
		if err != nil {
			return err
		}
		for _, run := range runs {
			if !give(run, low, high, backward, fn) {
				return nil
			}
		}
		if len(runs) < limit {
			return nil
		}
		last := runs[len(runs)-1]
		if backward {
			high = last[0].position - 1
		} else {
			low = last[len(last)-1].position + 1
		}
	}
	return nil
}

// give gives those of a run that are between two positions to fn, until it returns false.
func give(run []kept, low, high int64, backward bool, fn func(*kept) bool) bool {
	for i := range run {
		if backward {
			i = len(run) - 1 - i
		}
		if k := &run[i]; k.raw != "" && k.position >= low && k.position <= high && !fn(k) {
			return false
		}
	}
	return true
}

// some reads runs. The end at which the reading ends is not part of the statement: of a range with two ends PostgreSQL
// thinks that it is short, as long as it has no statistics, and sorts it.
func (r *reader) some(low, high int64, backward bool, limit int) (found [][]kept, err error) {
	query, from := `SELECT position, stamp, messages FROM archive WHERE owner = $1 AND position <= $2 ORDER BY position DESC LIMIT $3`, high
	if !backward {
		query, from = `SELECT position, stamp, messages FROM archive WHERE owner = $1 AND position >=
			(SELECT COALESCE(MAX(position), 0) FROM archive WHERE owner = $1 AND position <= $2) ORDER BY position LIMIT $3`, low
	}
	err = r.tx.Each(func(scan store.Scan) error {
		var position, stamp int64
		var b []byte
		if err := scan(&position, &stamp, &b); err != nil {
			return err
		}
		run, err := decode(position, stamp, b)
		if err != nil {
			r.Log.Error("kept messages are broken", "owner", r.name, "position", position, "err", err)
			run = []kept{{position: position, stamp: stamp}} // nothing
		}
		r.looked += len(run)
		found = append(found, run)
		return nil
	}, query, r.number, from, limit)
	return found, err
}

// spansAtOnce is how many spans are looked up at once in which there is something of a peer.
const spansAtOnce = 256

// of is between for what is from one peer, or to it.
func (r *reader) of(peer jid.JID, low, high int64, backward bool, fn func(*kept) bool) error {
	wanted, enough := peerOf(peer.Bare().String()), false
	for !r.none && !enough && low <= high {
		spans, err := r.spans(wanted, low, high, backward)
		if err != nil {
			return err
		}
		for _, s := range spans {
			from, to := max(low, s<<spanBits), min(high, (s+1)<<spanBits-1)
			err := r.between(from, to, backward, func(k *kept) bool {
				enough = k.with(peer) && !fn(k)
				return !enough
			})
			if err != nil || enough {
				return err
			}
		}
		if len(spans) < spansAtOnce {
			return nil
		}
		if last := spans[len(spans)-1]; backward {
			high = last<<spanBits - 1
		} else {
			low = (last + 1) << spanBits
		}
	}
	return nil
}

// spans are those of a peer.
func (r *reader) spans(peer, low, high int64, backward bool) (found []int64, err error) {
	query := `SELECT span FROM archive_peer WHERE owner = $1 AND peer = $2 AND span >= $3 AND span <= $4 ORDER BY span LIMIT $5`
	if backward {
		query = `SELECT span FROM archive_peer WHERE owner = $1 AND peer = $2 AND span >= $3 AND span <= $4 ORDER BY span DESC LIMIT $5`
	}
	err = r.tx.Each(func(scan store.Scan) error {
		var s int64
		err := scan(&s)
		found = append(found, s)
		return err
	}, query, r.number, peer, span(low), span(high), spansAtOnce)
	return found, err
}

// farthest is past all positions.
const farthest = int64(1) << 62

// end is the first message, or the last; nil when there is none.
func (r *reader) end(last bool) (*kept, error) {
	at := int64(0)
	if last {
		at = farthest
	}
	found, err := r.some(at, at, last, 1)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if run := found[0]; last {
		return &run[len(run)-1], nil
	}
	return &found[0][0], nil
}

// ends are the positions of the first and the last message; zero when there is none.
func (r *reader) ends() (first, last int64, err error) {
	for _, end := range []struct {
		last bool
		into *int64
	}{{false, &first}, {true, &last}} {
		k, err := r.end(end.last)
		if err != nil || k == nil {
			return 0, 0, err
		}
		*end.into = k.position
	}
	return first, last, nil
}

// since is the position of the first message whose stamp is not before a time, one behind the last when all are. It looks
// at a few runs only, halving the distance each time; stamps grow with positions but for slack.
func (r *reader) since(first, last, stamp int64) (int64, error) {
	low, high := first, last+1 // the first run that does not begin before is between
	for low < high {
		middle := low + (high-low)/2
		var found, then int64
		err := r.tx.Row(`SELECT position, stamp FROM archive WHERE owner = $1 AND position >= $2 ORDER BY position LIMIT 1`, r.number, middle).
			Scan(&found, &then)
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
	before, err := r.some(low-1, low-1, true, 1)
	if err != nil || len(before) == 0 {
		return low, err
	}
	for _, k := range before[0] {
		if k.stamp >= stamp {
			return k.position, nil
		}
	}
	return low, nil
}
