// Package jid implements XMPP addresses (RFC 7622): parsing, preparation and comparison.
//
// A JID is prepared once, where it enters the server. From then on it is a plain comparable value: two addresses
// are the same if == says so, and a JID serves as a map key. An address that is prepared already and is all ASCII,
// which nearly every address is, costs no allocation: the JID points into the string that was parsed. Whoever keeps
// a JID for long keeps that string, at most 3,071 bytes, in memory.
//
// The localpart follows the UsernameCaseMapped profile and the resourcepart the OpaqueString profile of PRECIS
// (RFC 8265); the domainpart follows IDNA2008 and is kept with U-labels.
package jid

import "strings"

// maxPart is the longest part of an address, in bytes (RFC 7622 §3.1).
const maxPart = 1023

// JID is an address: localpart, domainpart and resourcepart, of which only the domainpart must be there. The zero
// value is no address at all. A JID is immutable.
type JID struct {
	s      string // as String returns it
	local  uint16 // length of the localpart; 0 if there is none
	domain uint16 // end of the domainpart in s
}

// Parse splits an address and prepares its parts. The error wraps ErrInvalid and names the part at fault.
func Parse(s string) (JID, error) {
	// RFC 7622 §3.1: separators are matched before any mapping, which may produce them from other code points.
	bare, resource, hasResource := strings.Cut(s, "/")
	if hasResource && resource == "" {
		return JID{}, fault("resourcepart", "is empty")
	}
	// RFC 7622 §3.2: the first '/' is looked for before the first '@'.
	local, domain, hasLocal := strings.Cut(bare, "@")
	if !hasLocal {
		local, domain = "", bare
	} else if local == "" {
		return JID{}, fault("localpart", "is empty")
	}
	return assemble(s, local, domain, resource)
}

// New makes an address of its parts, preparing each. An empty localpart or resourcepart means that there is none.
// The error wraps ErrInvalid and names the part at fault.
func New(local, domain, resource string) (JID, error) {
	return assemble("", local, domain, resource)
}

// MustParse is Parse for addresses known to be valid; it panics on others.
func MustParse(s string) JID {
	j, err := Parse(s)
	if err != nil {
		panic("jid: " + err.Error() + ": " + s)
	}
	return j
}

// assemble prepares the parts and joins them, reusing whole if it is what they join to.
func assemble(whole, local, domain, resource string) (JID, error) {
	var err error
	if local != "" {
		if local, err = Localpart(local); err != nil {
			return JID{}, err
		}
	}
	if domain, err = Domainpart(domain); err != nil {
		return JID{}, err
	}
	if resource != "" {
		if resource, err = Resourcepart(resource); err != nil {
			return JID{}, err
		}
	}
	j := JID{s: whole, local: uint16(len(local)), domain: uint16(len(domain))}
	if local != "" {
		j.domain += j.local + 1
	}
	if !j.joins(local, domain, resource) {
		j.s = join(local, domain, resource)
	}
	return j, nil
}

// joins reports whether j.s consists of exactly these parts.
func (j JID) joins(local, domain, resource string) bool {
	size := int(j.domain)
	if resource != "" {
		size += 1 + len(resource)
	}
	return len(j.s) == size && j.Local() == local && j.Domain() == domain && j.Resource() == resource
}

func join(local, domain, resource string) string {
	switch {
	case local == "" && resource == "":
		return domain
	case local == "":
		return domain + "/" + resource
	case resource == "":
		return local + "@" + domain
	}
	return local + "@" + domain + "/" + resource
}

// String returns the address in the form local@domain/resource, and "" for the zero JID.
func (j JID) String() string { return j.s }

// Local returns the localpart, "" if there is none.
func (j JID) Local() string { return j.s[:j.local] }

// Domain returns the domainpart.
func (j JID) Domain() string { return j.s[j.start():j.domain] }

// Resource returns the resourcepart, "" if there is none.
func (j JID) Resource() string {
	if j.IsBare() {
		return ""
	}
	return j.s[j.domain+1:]
}

// start is where the domainpart begins.
func (j JID) start() uint16 {
	if j.local == 0 {
		return 0
	}
	return j.local + 1
}

// Bare returns the address without its resourcepart.
func (j JID) Bare() JID { return JID{s: j.s[:j.domain], local: j.local, domain: j.domain} }

// Host returns the address of the domain alone.
func (j JID) Host() JID { return JID{s: j.Domain(), domain: j.domain - j.start()} }

// WithResource returns the bare address with resourcepart r, which is prepared and must not be empty. The error
// wraps ErrInvalid.
func (j JID) WithResource(r string) (JID, error) {
	r, err := Resourcepart(r)
	if err != nil {
		return JID{}, err
	}
	if j.IsZero() {
		return JID{}, fault("domainpart", "is empty")
	}
	j.s = j.s[:j.domain] + "/" + r
	return j, nil
}

// IsZero reports whether j is the zero value, which is no address.
func (j JID) IsZero() bool { return j.s == "" }

// IsBare reports whether j has no resourcepart.
func (j JID) IsBare() bool { return int(j.domain) == len(j.s) }

// IsFull reports whether j has a resourcepart.
func (j JID) IsFull() bool { return int(j.domain) < len(j.s) }

// IsHost reports whether j is a domain alone: neither localpart nor resourcepart. The zero value is not.
func (j JID) IsHost() bool { return j.s != "" && j.local == 0 && j.IsBare() }
