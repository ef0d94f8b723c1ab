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

// AppendOp appends an operation.
func AppendOp(dst []byte, op *Op) []byte {
	var flags byte
	if op.Delete {
		flags |= opDelete
	}
	var fixed [1 + 3*binary.MaxVarintLen64]byte
	head := append(fixed[:0], flags)
	head = binary.AppendUvarint(head, op.Seq)
	head = binary.AppendUvarint(head, op.Stamp)
	head = binary.AppendUvarint(head, op.TTL)
	n := len(head) + blobSize(len(op.Table)) + blobSize(len(op.Key)) + blobSize(len(op.Value))
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = append(dst, head...)
	return appendBytes(appendBytes(appendBytes(dst, op.Table), op.Key), op.Value)
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
		if _, err := rest.next(); err != nil {
			return Batch{}, err
		}
	}
	return out, nil
}

// Next takes the first operation off. It must not be called on empty Ops.
func (o *Ops) Next() Op {
	op, _ := o.next()
	return op
}

func (o *Ops) next() (Op, error) {
	r := reader{b: *o}
	f := reader{b: r.bytes(MaxRecord)}
	*o = r.b
	flags := f.byte()
	op := Op{Delete: flags&opDelete != 0, Seq: f.uvarint(), Stamp: f.uvarint(), TTL: f.uvarint()}
	op.Table, op.Key = f.string(MaxName), f.string(MaxKey)
	op.Value = f.bytes(MaxRecord)
	if r.bad || f.bad {
		return Op{}, ErrMalformed
	}
	return op, nil
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
