package frame

import "encoding/binary"

// Link heads a frame of a link, followed by records. A frame without records and with Seq 0 asks for an
// acknowledgement.
type Link struct {
	Version  uint8  // of the encoding, the pair's; 0 stands for MinVersion
	From, To uint64 // incarnations of sender and receiver
	Epoch    uint64 // of the pair
	Seq      uint64 // 1 for the first frame of the epoch
	Table    uint64 // the sender's table sequence, which the receiver must have reached before it applies the records
}

// HeadSize is the length of a frame without records.
const HeadSize = 4 + 5*8

// AppendLink begins a frame. Records follow with AppendRecord.
func AppendLink(dst []byte, h Link) []byte {
	dst, mark := begin(dst, h.Version, KindFrame)
	dst = u64(u64(u64(u64(u64(dst, h.From), h.To), h.Epoch), h.Seq), h.Table)
	return end(dst, mark)
}

// ParseLink reads a frame. All its records are well-formed when it returns no error.
func ParseLink(b []byte) (Link, Records, error) {
	if len(b) > MaxFrame {
		return Link{}, nil, ErrMalformed
	}
	r, body, err := split(b, KindFrame)
	if err != nil {
		return Link{}, nil, err
	}
	h := Link{Version: b[0], From: r.u64(), To: r.u64(), Epoch: r.u64(), Seq: r.u64(), Table: r.u64()}
	if r.bad {
		return Link{}, nil, ErrMalformed
	}
	for rest := (reader{b: body}); len(rest.b) > 0; {
		rest.byte()
		if rest.bytes(MaxFrame); rest.bad {
			return Link{}, nil, ErrMalformed
		}
	}
	return h, Records(body), nil
}

// RecordKind says what a record is. Receivers pass over kinds that they do not know.
type RecordKind uint8

// The kinds of records.
const (
	Part       RecordKind = 1 + iota // a piece of a record that is too long for one frame
	Delta                            // changes of the sender's rows, a Batch
	WantRows                         // asks for all rows of the receiver of this record, a Snapshot header
	_                                // free
	RowsChunk                        // rows of a snapshot, a Batch
	RowsEnd                          // a Snapshot header
	ChannelMsg                       // name of a channel, and what the user sent
	WantDead                         // asks for the rows of a dead incarnation, an Estate
	DeadChunk                        // some of them, a Batch
	DeadEnd                          // an Estate
)

// Records are encoded records, one after another.
type Records []byte

// AppendRecord appends a record.
func AppendRecord(dst []byte, k RecordKind, body []byte) []byte {
	return appendBytes(append(dst, byte(k)), body)
}

// RecordSize is how many bytes a record with a body of n bytes takes.
func RecordSize(n int) int {
	size := 2 + n
	for v := uint64(n); v >= 0x80; v >>= 7 {
		size++
	}
	return size
}

// Next takes the first record off. It must not be called on empty Records.
func (rs *Records) Next() (k RecordKind, body []byte) {
	r := reader{b: *rs}
	k = RecordKind(r.byte())
	body = r.bytes(MaxFrame)
	*rs = r.b
	return k, body
}

// Piece is a part of a long record.
type Piece struct {
	Kind  RecordKind // of the whole
	Total uint64     // length of the whole body
	Start uint64     // where in it the piece belongs
	Data  []byte
}

// AppendPiece encodes a piece as the body of a Part.
func AppendPiece(dst []byte, p Piece) []byte {
	dst = append(dst, byte(p.Kind))
	dst = binary.AppendUvarint(dst, p.Total)
	dst = binary.AppendUvarint(dst, p.Start)
	return append(dst, p.Data...)
}

// ParsePiece reads the body of a Part.
func ParsePiece(b []byte) (Piece, error) {
	r := reader{b: b}
	p := Piece{Kind: RecordKind(r.byte()), Total: r.uvarint(), Start: r.uvarint()}
	p.Data = r.b
	if r.bad || p.Kind == Part || p.Total > MaxRecord || p.Start > p.Total || uint64(len(p.Data)) > p.Total-p.Start || len(p.Data) == 0 {
		return Piece{}, ErrMalformed
	}
	return p, nil
}

// Ack answers frames.
type Ack struct {
	Version  uint8  // as in Link
	From, To uint64 // incarnations of the one who acknowledges and of the sender of the frames
	Epoch    uint64
	Applied  uint64 // all frames up to this one are applied
	Received uint64 // all frames up to this one have arrived
	Gap      bool   // later ones have arrived, too
}

// AppendAck encodes an acknowledgement.
func AppendAck(dst []byte, a Ack) []byte {
	dst, mark := begin(dst, a.Version, KindAck)
	dst = u64(u64(u64(u64(u64(dst, a.From), a.To), a.Epoch), a.Applied), a.Received)
	var flags byte
	if a.Gap {
		flags = 1
	}
	return end(append(dst, flags), mark)
}

// ParseAck reads an acknowledgement.
func ParseAck(b []byte) (Ack, error) {
	r, _, err := split(b, KindAck)
	if err != nil {
		return Ack{}, err
	}
	a := Ack{Version: b[0], From: r.u64(), To: r.u64(), Epoch: r.u64(), Applied: r.u64(), Received: r.u64()}
	a.Gap = r.byte()&1 != 0
	if r.bad || a.Applied > a.Received {
		return Ack{}, ErrMalformed
	}
	return a, nil
}
