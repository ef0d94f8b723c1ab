package rows

// Listed is rows of a table: how many, and what appends one of them as an operation.
type Listed struct {
	Count  int
	Append func(dst []byte, i int) ([]byte, error)
}

// List lists the rows of an owner as they are now, to be encoded in a version.
func (s *Store) List(o *Owner, version uint8) (lists []Listed) {
	for _, t := range s.all() {
		count, appendRow := t.collect(o, version)
		lists = append(lists, Listed{count, appendRow})
	}
	return lists
}

// ListOwn lists the rows of this node. The journal must be locked.
func (s *Store) ListOwn(version uint8) []Listed { return s.List(s.self, version) }
