package frame

import "encoding/binary"

// Status is what a node thinks of a peer.
type Status uint8

// The states of a peer.
const (
	Heard Status = 1 + iota // its beacons arrive
	Alive                   // and it has shown that it hears this node
	Dead                    // declared dead in the incarnation named
)

// Peer is what a node tells in its beacon about another one.
type Peer struct {
	ID     string
	Inc    uint64
	Status Status
	Epoch  uint64 // of the pair's links
	Echo   uint64 // the last beacon of the peer that the node has heard
}

// Copy is how far the node's copy of a dead incarnation's rows has come. Torn is 0 if it is whole; otherwise it
// differs between copies that may differ.
type Copy struct {
	ID             string
	Inc, Seq, Torn uint64
}

// TopicSeq is how many messages a node has published on a topic.
type TopicSeq struct{ Topic, Seq uint64 } // Topic is the hash of the name

// Beacon is what a node says about itself all the time.
type Beacon struct {
	ID, Name, Address   string
	Inc, Start, Now     uint64 // incarnation; stamps of the start of the node and of this beacon
	Seq                 uint64 // counts the beacons of the incarnation
	State               uint8
	MinVer, MaxVer      uint8  // wire versions that the node speaks
	Table, Rows, Digest uint64 // sequence, number and digest of the node's own rows
	Peers               []Peer
	Topics              []TopicSeq
	Dead                []Copy
}

// The fields of a beacon. Numbers are never used again for another meaning.
const (
	fieldID = 1 + iota
	fieldName
	fieldAddress
	fieldNumbers
	fieldState
	fieldTable
	fieldPeers
	fieldTopics
	fieldDead
)

// AppendBeacon encodes a beacon. What is beyond the bounds is left out.
func AppendBeacon(dst []byte, b *Beacon) []byte {
	dst, mark := begin(dst, MinVersion, KindBeacon)
	dst = end(dst, mark)
	field := func(n byte, body []byte) { dst = appendBytes(append(dst, n), body) }
	field(fieldID, []byte(b.ID))
	field(fieldName, []byte(b.Name))
	field(fieldAddress, []byte(b.Address))
	field(fieldNumbers, u64(u64(u64(u64(nil, b.Inc), b.Start), b.Now), b.Seq))
	field(fieldState, []byte{b.State, b.MinVer, b.MaxVer})
	field(fieldTable, u64(u64(u64(nil, b.Table), b.Rows), b.Digest))
	var list []byte
	for _, p := range b.Peers[:min(len(b.Peers), MaxPeers)] {
		one := u64(appendBytes(nil, p.ID), p.Inc)
		one = binary.AppendUvarint(append(one, byte(p.Status)), p.Epoch)
		list = appendBytes(list, binary.AppendUvarint(one, p.Echo))
	}
	field(fieldPeers, list)
	list = nil
	for _, t := range b.Topics[:min(len(b.Topics), MaxTopics)] {
		list = binary.AppendUvarint(u64(list, t.Topic), t.Seq)
	}
	field(fieldTopics, list)
	list = nil
	for _, c := range b.Dead[:min(len(b.Dead), MaxDead)] {
		one := binary.AppendUvarint(u64(appendBytes(nil, c.ID), c.Inc), c.Seq)
		list = appendBytes(list, u64(one, c.Torn))
	}
	field(fieldDead, list)
	return dst
}

// ParseBeacon reads a beacon.
func ParseBeacon(msg []byte) (*Beacon, error) {
	_, body, err := split(msg, KindBeacon)
	if err != nil {
		return nil, err
	}
	b := &Beacon{}
	for r := (reader{b: body}); len(r.b) > 0; {
		n := r.byte()
		f := reader{b: r.bytes(MaxFrame)}
		if b.field(n, &f); r.bad || f.bad {
			return nil, ErrMalformed
		}
	}
	if b.ID == "" || b.Inc == 0 || len(b.ID) > MaxName || len(b.Name) > MaxName || len(b.Address) > MaxName {
		return nil, ErrMalformed
	}
	return b, nil
}

func (b *Beacon) field(n byte, f *reader) {
	switch n {
	case fieldID:
		b.ID = string(f.b)
	case fieldName:
		b.Name = string(f.b)
	case fieldAddress:
		b.Address = string(f.b)
	case fieldNumbers:
		b.Inc, b.Start, b.Now, b.Seq = f.u64(), f.u64(), f.u64(), f.u64()
	case fieldState:
		b.State, b.MinVer, b.MaxVer = f.byte(), f.byte(), f.byte()
	case fieldTable:
		b.Table, b.Rows, b.Digest = f.u64(), f.u64(), f.u64()
	case fieldPeers:
		for len(f.b) > 0 && len(b.Peers) < MaxPeers {
			one := reader{b: f.bytes(MaxFrame)}
			b.Peers = append(b.Peers, Peer{one.string(MaxName), one.u64(), Status(one.byte()), one.uvarint(), one.uvarint()})
			f.bad = f.bad || one.bad
		}
	case fieldTopics:
		for len(f.b) > 0 && len(b.Topics) < MaxTopics {
			b.Topics = append(b.Topics, TopicSeq{f.u64(), f.uvarint()})
		}
	case fieldDead:
		for len(f.b) > 0 && len(b.Dead) < MaxDead {
			one := reader{b: f.bytes(MaxFrame)}
			b.Dead = append(b.Dead, Copy{one.string(MaxName), one.u64(), one.uvarint(), one.u64()})
			f.bad = f.bad || one.bad
		}
	}
}
