//go:build !wirenext

package frame

// MaxVersion is the newest encoding spoken here.
const MaxVersion = 1

// OpVersion is the first version with the present fields of operations.
const OpVersion = 1

// More is what an operation has beyond the fields of the first version: nothing yet.
type More struct{}

// MoreOf returns what is added to the operation of a row with this share of the digest.
func MoreOf(uint64) More { return More{} }

func (More) size(uint8) int                    { return 0 }
func (More) append(dst []byte, _ uint8) []byte { return dst }
func (*More) read(*reader)                     {}
