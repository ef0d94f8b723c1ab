//go:build wirenext

package frame

// MaxVersion is the newest encoding spoken by the build that stands for the next version in tests.
const MaxVersion = 2

// OpVersion is the first version with the present fields of operations.
const OpVersion = 2

// Greeting is a record that version 2 adds: a text, which a node sends once to each member that speaks version 2.
const Greeting RecordKind = 64

// More is what an operation has beyond the fields of the first version.
type More struct{ Sum uint64 } // the row's share of the digest

// MoreOf returns what is added to the operation of a row with this share of the digest.
func MoreOf(sum uint64) More { return More{sum} }

func (m More) size(version uint8) int {
	if version < 2 {
		return 0
	}
	return 8
}

func (m More) append(dst []byte, version uint8) []byte {
	if version < 2 {
		return dst
	}
	return u64(dst, m.Sum)
}

func (m *More) read(f *reader) {
	m.Sum = 0
	if len(f.b) > 0 { // written by version 2
		m.Sum = f.u64()
	}
}
