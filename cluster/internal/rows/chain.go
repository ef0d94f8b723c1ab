package rows

import "slices"

// better says which of two rows with one key is shown.
func (r *Row[V]) better(o *Row[V]) bool {
	switch {
	case r.bad != o.bad:
		return o.bad
	case r.Orphan != o.Orphan:
		return o.Orphan
	case r.Stamp != o.Stamp:
		return r.Stamp > o.Stamp
	}
	return r.Owner.ID < o.Owner.ID
}

// insert puts a row among those of its key, in the place of an earlier one of its owner, which it returns. Orphans
// that it follows go. It is called with mu held.
func (t *Set[V]) insert(r *Row[V]) (old *Row[V]) {
	shown := t.rows[r.Key]
	var kept []*Row[V]
	for q := shown; q != nil; q = q.next {
		switch {
		case q.Owner == r.Owner:
			old = q
		case q.Orphan && !r.Orphan && q.Stamp <= r.Stamp:
		default:
			kept = append(kept, q)
		}
	}
	if len(kept) == 0 {
		r.next = nil
		t.show(r.Key, shown, r)
		return old
	}
	t.chain(r.Key, shown, append(kept, r))
	return old
}

// extract takes the owner's row of a key out. It is called with mu held.
func (t *Set[V]) extract(o *Owner, key string) (old *Row[V]) {
	shown := t.rows[key]
	if shown == nil || shown.next == nil && shown.Owner != o {
		return nil
	}
	var kept []*Row[V]
	for q := shown; q != nil; q = q.next {
		if q.Owner == o {
			old = q
		} else {
			kept = append(kept, q)
		}
	}
	if old != nil {
		t.chain(key, shown, kept)
	}
	return old
}

// chain makes rows those of the key.
func (t *Set[V]) chain(key string, shown *Row[V], rows []*Row[V]) {
	slices.SortFunc(rows, func(a, b *Row[V]) int {
		if a.better(b) {
			return -1
		}
		return 1
	})
	for i, r := range rows {
		r.next = nil
		if i+1 < len(rows) {
			r.next = rows[i+1]
		}
	}
	if len(rows) == 0 {
		t.show(key, shown, nil)
	} else {
		t.show(key, shown, rows[0])
	}
}

// show makes a row the one that its key shows, and tells index and watchers.
func (t *Set[V]) show(key string, was, is *Row[V]) {
	if is == nil {
		delete(t.rows, key)
	} else {
		t.rows[is.Key] = is
	}
	if was == is {
		return
	}
	if t.opts.Terms != nil {
		if was != nil {
			t.unindex(was)
		}
		if is != nil && !is.bad {
			for _, term := range t.opts.Terms(key, is.Value) {
				t.index[term] = append(t.index[term], key)
			}
		}
	}
	if t.opts.Observe != nil {
		t.opts.Observe(was, is)
	}
	if t.opts.Changed != nil {
		t.opts.Changed(key, was, is)
	}
}

func (t *Set[V]) unindex(r *Row[V]) {
	if r.bad {
		return
	}
	for _, term := range t.opts.Terms(r.Key, r.Value) {
		keys := t.index[term]
		if i := slices.Index(keys, r.Key); i >= 0 {
			keys = slices.Delete(keys, i, i+1)
		}
		if len(keys) == 0 {
			delete(t.index, term)
		} else {
			t.index[term] = keys
		}
	}
}
