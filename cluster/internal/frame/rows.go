package frame

import "encoding/binary"

// Op is a change of one row, or a row of a snapshot.
type Op struct {
	Delete bool
	Seq    uint64 // of the owner's change
	Stamp  uint64 // of the row
	TTL    uint64 // milliseconds that the row outlives its owner, 0 for a row that dies with it
	Table  string
	Key    string
	Value  []byte
	More   More // what later versions added
}

// Batch is a run of changes of one owner: those after Prev, up to and including Last. After them the owner had Rows
// rows with the digest Digest. Rows of a snapshot leave the numbers 0.
type Batch struct {
	Prev, Last, Rows, Digest uint64
	Ops                      Ops
}

// Ops are encoded operations, one after another.
type Ops []byte

// The fields of an operation's flags.
const opDelete = 1

// AppendOp appends an operation, as a version has it. Its readers pass over what comes after the fields that they know.
func AppendOp(dst []byte, op *Op, version uint8) []byte {
	var flags byte
	if op.Delete {
		flags |= opDelete
	}
	var fixed [1 + 3*binary.MaxVarintLen64]byte
	head := append(fixed[:0], flags)
	head = binary.AppendUvarint(head, op.Seq)
	head = binary.AppendUvarint(head, op.Stamp)
	head = binary.AppendUvarint(head, op.TTL)
	n := len(head) + blobSize(len(op.Table)) + blobSize(len(op.Key)) + blobSize(len(op.Value)) + op.More.size(version)
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = append(dst, head...)
	dst = appendBytes(appendBytes(appendBytes(dst, op.Table), op.Key), op.Value)
	return op.More.append(dst, version)
}

// Rewrite appends operations as an older version has them.
func (o Ops) Rewrite(dst []byte, version uint8) []byte {
	for len(o) > 0 {
		op := o.Next()
		dst = AppendOp(dst, &op, version)
	}
	return dst
}

func blobSize(n int) int { return RecordSize(n) - 1 }

// AppendBatch encodes a batch.
func AppendBatch(dst []byte, b Batch) []byte {
	for _, v := range []uint64{b.Prev, b.Last, b.Rows} {
		dst = binary.AppendUvarint(dst, v)
	}
	return append(u64(dst, b.Digest), b.Ops...)
}

// ParseBatch reads a batch. All its operations are well-formed when it returns no error.
func ParseBatch(b []byte) (Batch, error) {
	r := reader{b: b}
	out := Batch{Prev: r.uvarint(), Last: r.uvarint(), Rows: r.uvarint(), Digest: r.u64()}
	if r.bad || out.Prev > out.Last {
		return Batch{}, ErrMalformed
	}
	out.Ops = Ops(r.b)
	for rest := out.Ops; len(rest) > 0; {
		var op Op
		if _, _, ok := rest.next(&op); !ok {
			return Batch{}, ErrMalformed
		}
	}
	return out, nil
}

// Next takes the first operation off. It must not be called on empty Ops.
func (o *Ops) Next() Op {
	var op Op
	o.Read(&op)
	return op
}

// Read is Next for a loop: when the table is the one that op had before, it is not allocated anew.
func (o *Ops) Read(op *Op) {
	table, key, _ := o.next(op)
	if op.Table != string(table) {
		op.Table = string(table)
	}
	op.Key = string(key)
}

// next reads all but table and key, which it returns.
func (o *Ops) next(op *Op) (table, key []byte, ok bool) {
	r := reader{b: *o}
	f := reader{b: r.bytes(MaxRecord)}
	*o = r.b
	op.Delete = f.byte()&opDelete != 0
	op.Seq, op.Stamp, op.TTL = f.uvarint(), f.uvarint(), f.uvarint()
	table, key = f.bytes(MaxName), f.bytes(MaxKey)
	op.Value = f.bytes(MaxRecord)
	op.More.read(&f)
	return table, key, !r.bad && !f.bad
}

// Snapshot heads the records that ask for, begin and end a snapshot.
type Snapshot struct {
	ID           uint64 // chosen by the one who asks
	Seq          uint64 // the owner's table sequence
	Rows, Digest uint64
}

// AppendSnapshot encodes a snapshot header.
func AppendSnapshot(dst []byte, s Snapshot) []byte {
	return u64(u64(u64(u64(dst, s.ID), s.Seq), s.Rows), s.Digest)
}

// ParseSnapshot reads a snapshot header.
func ParseSnapshot(b []byte) (Snapshot, error) {
	r := reader{b: b}
	s := Snapshot{r.u64(), r.u64(), r.u64(), r.u64()}
	return s, r.err()
}

// Estate heads the records about the rows of a dead incarnation.
type Estate struct {
	ID        uint64 // chosen by the one who asks
	Owner     string
	Inc       uint64
	Seq, Torn uint64 // as in Copy
	Age       uint64 // milliseconds since the one who answers declared it dead
}

// AppendEstate encodes an estate header.
func AppendEstate(dst []byte, e Estate) []byte {
	dst = u64(appendBytes(u64(dst, e.ID), e.Owner), e.Inc)
	return binary.AppendUvarint(u64(binary.AppendUvarint(dst, e.Seq), e.Torn), e.Age)
}

// ParseEstate reads an estate header.
func ParseEstate(b []byte) (Estate, error) {
	r := reader{b: b}
	e := Estate{ID: r.u64(), Owner: r.string(MaxName), Inc: r.u64(), Seq: r.uvarint(), Torn: r.u64(), Age: r.uvarint()}
	return e, r.err()
}
