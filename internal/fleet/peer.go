package fleet

import "github.com/starling-im/starling/internal/xmpp/stanza"

// peer is a node to which legs are sent, in one incarnation, as one ledger sees it.
type peer struct {
	id     string // Member.ID
	inc    uint64
	index  uint64 // of the ledger
	number uint64 // of the last leg
	first  uint64 // number of legs[head]
	legs   []*leg // unsettled ones by number, and nil
	head   int
	open   int // unsettled
	dead   bool

	record  []byte         // being written
	last    *stanza.Stanza // in it
	full    [][]byte
	bytes   int // in full
	spare   []byte
	pushing bool // somebody hands records to the link
	blocked bool // a goroutine waits for room in the link
	dirty   bool // to be looked at by the flush
}

func newPeer(id string, inc, index uint64) *peer {
	return &peer{id: id, inc: inc, index: index, first: 1}
}

// maxRecord is the length from which a record takes no further leg.
const maxRecord = 48 << 10

// add numbers a leg and writes it.
func (p *peer) add(g *leg) {
	p.number++
	g.number = p.number
	p.open++
	p.legs = append(p.legs, g)
	if len(p.record) >= maxRecord {
		p.close()
	}
	if p.record == nil {
		p.record = appendHead(p.spare[:0], legsRecord, p.index, p.inc, p.number)
		p.spare = nil
	}
	p.record = appendLeg(p.record, g, p.last)
	p.last = g.st
}

func (p *peer) close() {
	p.full = append(p.full, p.record)
	p.bytes += len(p.record)
	p.record, p.last = nil, nil
}

// next takes the next record to be sent, nil when there is none.
func (p *peer) next() []byte {
	if len(p.full) == 0 {
		r := p.record
		p.record, p.last = nil, nil
		return r
	}
	r := p.full[0]
	p.full[0] = nil
	p.full = p.full[1:]
	p.bytes -= len(r)
	return r
}

// restore puts back what was taken and not sent.
func (p *peer) restore(r []byte) {
	p.full = append([][]byte{r}, p.full...)
	p.bytes += len(r)
}

// recycle keeps the memory of a record that was sent.
func (p *peer) recycle(r []byte) {
	if cap(r) <= 2*maxRecord {
		p.spare = r[:0]
	}
}

func (p *peer) unsent() int { return p.bytes + len(p.record) }

func (p *peer) drop() {
	p.record, p.last, p.full, p.bytes = nil, nil, nil, 0
}

// look is the unsettled leg of a number, nil when there is none.
func (p *peer) look(n uint64) *leg {
	if n < p.first || n > p.number {
		return nil
	}
	return p.legs[p.head+int(n-p.first)]
}

// take is look, and forgets the number.
func (p *peer) take(n uint64) *leg {
	g := p.look(n)
	if g == nil {
		return nil
	}
	p.open--
	p.legs[p.head+int(n-p.first)] = nil
	for p.head < len(p.legs) && p.legs[p.head] == nil {
		p.head++
		p.first++
	}
	switch {
	case p.head == len(p.legs):
		if cap(p.legs) > 1024 {
			p.legs = nil
		}
		p.legs, p.head = p.legs[:0], 0
	case p.head > 64 && p.head > len(p.legs)/2:
		n := copy(p.legs, p.legs[p.head:])
		clear(p.legs[n:])
		p.legs, p.head = p.legs[:n], 0
	}
	return g
}
