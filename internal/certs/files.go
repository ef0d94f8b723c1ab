package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// stamp is what tells a changed pair of files from the one that was read before: another file under the name (also
// behind symbolic links), another size or another time.
type stamp struct{ cert, key os.FileInfo }

func stampOf(f Files) stamp {
	cert, _ := os.Stat(f.Cert) // nil if there is none; reading it says why
	key, _ := os.Stat(f.Key)
	return stamp{cert, key}
}

func (s stamp) same(t stamp) bool { return sameFile(s.cert, t.cert) && sameFile(s.key, t.key) }

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// load reads the files of a pair. On an error it returns the pair as it was, save that its stamp says that this state
// of the files has been seen.
func load(p pair) (pair, error) {
	p.stamp = stampOf(p.Files) // before reading: what changes meanwhile is read again
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return p, fmt.Errorf("load certificate %s with key %s: %w", p.Cert, p.Key, err)
	}
	p.cert = &cert
	return p, nil
}

// LoadPool reads the certificates of authorities from a PEM file.
func LoadPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("load certificates of authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("load certificates of authorities: " + file + " holds none")
	}
	return pool, nil
}
