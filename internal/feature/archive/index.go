package archive

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/store"
)

// stretch is a row of the index of ids: those messages in a run that came from one session of a sender. What comes from
// somebody comes in the order in which it was sent, so a run has few, and the numbers of the next one are greater.
type stretch struct {
	owner, session, position int64
	first, last              int64
}

// stretches are those of a run. tidy tells whether the messages stand there in the order of their numbers, each once.
func (s ids) stretches(p placed) (found []stretch, tidy bool) {
	tidy = true
	for k := range p.run {
		o := s.origin(p.run[k].id)
		at := slices.IndexFunc(found, func(f stretch) bool { return f.session == o.session })
		if at < 0 {
			found = append(found, stretch{p.owner, o.session, p.run[0].position, o.n, o.n})
			continue
		}
		f := &found[at]
		tidy = tidy && o.n > f.last
		f.first, f.last = min(f.first, o.n), max(f.last, o.n)
	}
	return found, tidy
}

// index is the index of ids of runs, those of an owner in their order, and the owners of which something may be there
// already.
func (a *Archive) index(tx *store.Tx, all []placed, wide int) (index []stretch, doubtful map[int64]bool, err error) {
	type party struct{ owner, session int64 }
	doubtful = map[int64]bool{}
	last := map[party]int64{}
	var begin []stretch // the first of each session of each owner
	for _, p := range all {
		found, tidy := a.ids.stretches(p)
		for _, s := range found {
			of := party{s.owner, s.session}
			before, again := last[of]
			if !again {
				begin = append(begin, s)
			}
			if !tidy || again && s.first <= before {
				doubtful[s.owner] = true
			}
			last[of] = max(before, s.last)
		}
		index = append(index, found...)
	}
	err = chunks(len(begin), wide, 3, overtaken, func(i int, args []any) []any {
		return append(args, begin[i].owner, begin[i].session, begin[i].first)
	}, func(query string, args []any) error {
		return tx.Each(func(scan store.Scan) error {
			var owner int64
			err := scan(&owner)
			doubtful[owner] = true
			return err
		}, query, args...)
	})
	return index, doubtful, err
}

// overtaken finds out for n sessions of which something with a greater number than a given one is there.
func overtaken(n int) string {
	var b strings.Builder
	b.WriteString("SELECT column1 FROM (VALUES (CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS BIGINT))")
	for i := 3; i < 3*n; i += 3 {
		b.WriteString(", ($" + strconv.Itoa(i+1) + ", $" + strconv.Itoa(i+2) + ", $" + strconv.Itoa(i+3) + ")")
	}
	b.WriteString(`) AS new WHERE column3 <= (SELECT last FROM archive_id WHERE owner = column1 AND session = column2
		ORDER BY first DESC, position DESC LIMIT 1)`)
	return b.String()
}

// fresh are the rows that are not there, once each. Owners who are not doubtful have none that is.
func (a *Archive) fresh(tx *store.Tx, rows []*row, doubtful map[int64]bool) (all []*row, err error) {
	type message struct {
		owner int64
		id    id
	}
	seen := map[message]bool{}
	for _, r := range rows {
		if doubtful[r.number] {
			m := message{r.number, r.id}
			if seen[m] {
				continue
			}
			seen[m] = true
			owner := &reader{Archive: a, tx: tx, name: r.owner, number: r.number}
			_, _, err := owner.locate(r.id)
			if err == nil {
				continue
			}
			if !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
		}
		all = append(all, r)
	}
	return all, nil
}

// insertIndex enters stretches that come after all that are there.
func insertIndex(tx *store.Tx, all []stretch, wide int) error {
	return chunks(len(all), wide, 5, func(n int) string {
		return `INSERT INTO archive_id (owner, session, first, position, last) VALUES ` + values(n, 5)
	}, func(i int, args []any) []any {
		return append(args, all[i].owner, all[i].session, all[i].first, all[i].position, all[i].last)
	}, exec(tx))
}

// squeeze enters a stretch wherever it belongs.
func squeeze(tx *store.Tx, s stretch) error {
	var before int64
	err := tx.Row(`SELECT last FROM archive_id WHERE owner = $1 AND session = $2 AND first <= $3 ORDER BY first DESC, position DESC LIMIT 1`,
		s.owner, s.session, s.first).Scan(&before)
	switch {
	case err == nil:
		s.last = max(s.last, before)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	_, err = tx.Exec(`UPDATE archive_id SET last = $1 WHERE owner = $2 AND session = $3 AND first >= $4 AND last < $5`,
		s.last, s.owner, s.session, s.first, s.last)
	if err != nil {
		return err
	}
	return insertIndex(tx, []stretch{s}, 1)
}

// locate finds the message of an id: the run and where it is there; store.ErrNotFound if there is none.
func (r *reader) locate(i id) (run []kept, at int, err error) {
	if r.none {
		return nil, 0, store.ErrNotFound
	}
	o := r.ids.origin(i)
	var places []int64
	err = r.tx.Each(func(scan store.Scan) error {
		var position int64
		err := scan(&position)
		places = append(places, position)
		return err
	}, `SELECT position FROM archive_id WHERE owner = $1 AND session = $2 AND first <= $3 AND last >= $4 ORDER BY first DESC, position DESC`,
		r.number, o.session, o.n, o.n)
	if err != nil {
		return nil, 0, err
	}
	for _, position := range places {
		found, err := r.some(position, position, true, 1)
		if err != nil {
			return nil, 0, err
		}
		if len(found) == 0 {
			continue
		}
		if at := slices.IndexFunc(found[0], func(k kept) bool { return k.id == i }); at >= 0 {
			return found[0], at, nil
		}
	}
	return nil, 0, store.ErrNotFound
}

// rewrite puts what a change makes of a run in its place.
func (r *reader) rewrite(run []kept, change func([]kept) []kept) error {
	if _, err := r.tx.Exec(`DELETE FROM archive WHERE owner = $1 AND position = $2`, r.number, run[0].position); err != nil {
		return err
	}
	before, _ := r.ids.stretches(placed{r.number, run})
	for _, s := range before {
		_, err := r.tx.Exec(`DELETE FROM archive_id WHERE owner = $1 AND session = $2 AND first = $3 AND position = $4`,
			s.owner, s.session, s.first, s.position)
		if err != nil {
			return err
		}
	}
	if run = change(run); len(run) == 0 {
		return nil
	}
	_, err := r.tx.Exec(`INSERT INTO archive (owner, position, stamp, messages) VALUES ($1, $2, $3, $4)`,
		r.number, run[0].position, run[0].stamp, new(encoder).encode(run))
	after, _ := r.ids.stretches(placed{r.number, run})
	for i := 0; err == nil && i < len(after); i++ {
		err = squeeze(r.tx, after[i])
	}
	return err
}
