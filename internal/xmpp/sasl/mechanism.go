package sasl

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"
	"strings"
)

// Names of mechanisms. Those of SCRAM come from Hash.Name, with PlusSuffix where they bind to the channel.
const (
	Plain      = "PLAIN"
	External   = "EXTERNAL"
	Anonymous  = "ANONYMOUS"
	PlusSuffix = "-PLUS"
)

// Hash is the hash function of a SCRAM mechanism.
type Hash uint8

// The hash functions, weakest first. The zero Hash is none.
const (
	SHA1 Hash = iota + 1
	SHA256
	SHA512
)

// New returns the constructor of the hash function. It panics for a Hash that is not one of the constants.
func (h Hash) New() func() hash.Hash {
	switch h {
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	case SHA512:
		return sha512.New
	}
	panic("sasl: no such hash")
}

// Size returns the length of a hash in bytes.
func (h Hash) Size() int { return h.New()().Size() }

// Name returns the mechanism without channel binding, such as "SCRAM-SHA-256".
func (h Hash) Name() string {
	switch h {
	case SHA1:
		return "SCRAM-SHA-1"
	case SHA256:
		return "SCRAM-SHA-256"
	case SHA512:
		return "SCRAM-SHA-512"
	}
	return ""
}

// ParseScram tells which hash a mechanism uses and whether it binds to the channel; ok is false if it is no SCRAM
// mechanism known here. Names are compared as they are, in capitals.
func ParseScram(mechanism string) (h Hash, plus, ok bool) {
	base, plus := strings.CutSuffix(mechanism, PlusSuffix)
	for h := SHA1; h <= SHA512; h++ {
		if h.Name() == base {
			return h, plus, true
		}
	}
	return 0, false, false
}

// strength lists the mechanisms, strongest first. RFC 6120 §6.3.4: EXTERNAL comes first. Choice: binding to the
// channel counts for more than the hash.
var strength = []string{
	External,
	"SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS",
	"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1",
	Plain,
	Anonymous,
}

// Mechanisms returns the given mechanisms in the order in which to offer them, strongest first. Unknown names and
// repetitions are left out.
func Mechanisms(available ...string) []string {
	var offered []string
	for _, m := range strength {
		if slices.Contains(available, m) {
			offered = append(offered, m)
		}
	}
	return offered
}
