package journal

import "math/bits"

// Tally is how many rows there are, and the exclusive or of their sums.
type Tally struct{ Rows, Digest uint64 }

// Add counts a row.
func (t *Tally) Add(sum uint64) { t.Rows++; t.Digest ^= sum }

// Remove counts a row no more.
func (t *Tally) Remove(sum uint64) { t.Rows--; t.Digest ^= sum }

// Sum is the share of a row in digests. It is the same on all nodes.
func Sum(table, key string, seq uint64, value []byte) uint64 {
	h := mix(uint64(len(table))^prime1, uint64(len(key))^seq^prime2)
	h = sum(sum(h, table), key)
	return mix(sum(h, value)^seq, uint64(len(value))^prime1)
}

const (
	prime1 = 0xa0761d6478bd642f
	prime2 = 0xe7037ed1a0b428db
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// sum takes in eight bytes at a time.
func sum[T string | []byte](h uint64, s T) uint64 {
	for len(s) >= 8 {
		h = mix(h^word(s), prime2)
		s = s[8:]
	}
	var tail uint64
	for i := range len(s) {
		tail |= uint64(s[i]) << (8 * i)
	}
	return mix(h^tail^prime1, prime2)
}

func word[T string | []byte](s T) uint64 {
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
