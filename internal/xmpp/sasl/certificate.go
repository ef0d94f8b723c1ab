package sasl

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"unicode/utf8"
)

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidXMPPAddr       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5} // RFC 6120 §13.7.1.4
)

var errXMPPAddr = errors.New("XmppAddr is not a UTF8String")

// XMPPAddrs returns the addresses that a certificate holds as XmppAddr in its subjectAltName, as they are written
// there: package jid has yet to prepare them. No other name of the certificate counts as an address. A
// subjectAltName or XmppAddr that is not encoded well is an error, not skipped.
func XMPPAddrs(cert *x509.Certificate) ([]string, error) {
	var addrs []string
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
			return nil, errors.New("read subjectAltName: not a sequence of names")
		}
		for _, name := range names {
			addr, ok, err := xmppAddr(name)
			if err != nil {
				return nil, fmt.Errorf("read subjectAltName: %w", err)
			}
			if ok {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs, nil
}

// xmppAddr reads a GeneralName; ok is false if it is something else than an XmppAddr.
//
//	otherName [0] IMPLICIT SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }
func xmppAddr(name asn1.RawValue) (addr string, ok bool, err error) {
	if name.Class != asn1.ClassContextSpecific || name.Tag != 0 || !name.IsCompound {
		return "", false, nil
	}
	var id asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(name.Bytes, &id)
	if err != nil {
		return "", false, err
	}
	if !id.Equal(oidXMPPAddr) {
		return "", false, nil
	}
	var wrapper, value asn1.RawValue
	if rest, err = asn1.Unmarshal(rest, &wrapper); err != nil || len(rest) > 0 ||
		wrapper.Class != asn1.ClassContextSpecific || wrapper.Tag != 0 || !wrapper.IsCompound {
		return "", false, errXMPPAddr
	}
	if rest, err = asn1.Unmarshal(wrapper.Bytes, &value); err != nil || len(rest) > 0 ||
		value.Class != asn1.ClassUniversal || value.Tag != asn1.TagUTF8String || value.IsCompound ||
		!utf8.Valid(value.Bytes) {
		return "", false, errXMPPAddr
	}
	return string(value.Bytes), true, nil
}
