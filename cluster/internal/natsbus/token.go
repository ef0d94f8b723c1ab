package natsbus

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	tokenBytes = 32
	maxTokens  = 16
	nodeName   = "starling-cluster-node" // in every certificate: peers are known by their key, not by their host
	remedyFile = "make one token with 256 random bits and give all nodes of the cluster the same token file"
)

// NewToken makes a join token: 256 random bits in base64url, 43 characters. Whoever holds it can join the cluster.
func NewToken() string {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// CheckToken looks whether the text of a token file can be used. The error is a *bus.Failure.
func CheckToken(text []byte) error {
	_, err := parseTokens(text)
	return err
}

// keyring is what the join tokens of a cluster yield. The first token signs, all of them are trusted, so that a token
// is changed without stopping the cluster: add the new one at the end everywhere, put it first everywhere, remove the
// old one everywhere. Between two of these steps each node must have taken the one before, by reading its file anew or
// by a restart.
type keyring struct {
	signer  authority
	trusted *x509.CertPool
	mac     [][]byte // keys that sign announcements; the first one is ours
}

type authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

// newKeyring reads the text of a token file: a token a line, empty lines and lines that begin with '#' do not count.
func newKeyring(text []byte, cluster string) (*keyring, error) {
	tokens, err := parseTokens(text)
	if err != nil {
		return nil, err
	}
	k := &keyring{trusted: x509.NewCertPool()}
	for i, token := range tokens {
		ca, err := newAuthority(token, cluster)
		if err != nil {
			return nil, err
		}
		mac, err := hkdf.Key(sha256.New, token, []byte(cluster), "starling cluster announcement 1", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive a key from the join token: %w", err)
		}
		if i == 0 {
			k.signer = ca
		}
		k.trusted.AddCert(ca.cert)
		k.mac = append(k.mac, mac)
	}
	return k, nil
}

func parseTokens(text []byte) ([][]byte, error) {
	var tokens [][]byte
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		token, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimRight(line, "=")))
		if err != nil || len(token) != tokenBytes {
			return nil, &bus.Failure{Reason: fmt.Sprintf("line %d of the token file is not a join token", n), Remedy: remedyFile}
		}
		tokens = append(tokens, token)
	}
	switch err := lines.Err(); {
	case err != nil:
		return nil, &bus.Failure{Reason: "the token file is not a list of join tokens", Remedy: remedyFile, Err: err}
	case len(tokens) == 0:
		return nil, &bus.Failure{Reason: "there is no join token", Remedy: remedyFile}
	case len(tokens) > maxTokens:
		return nil, &bus.Failure{
			Reason: fmt.Sprintf("the token file holds %d tokens, more than %d", len(tokens), maxTokens),
			Remedy: "remove those that no node signs with any more",
		}
	}
	return tokens, nil
}

// newAuthority derives the certificate authority of a token. It is the same on every node.
func newAuthority(token []byte, cluster string) (authority, error) {
	seed, err := hkdf.Key(sha256.New, token, []byte(cluster), "starling cluster authority 1", ed25519.SeedSize)
	if err != nil {
		return authority{}, fmt.Errorf("derive a key from the join token: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	public := key.Public().(ed25519.PublicKey)
	id := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "starling cluster " + cluster},
		SubjectKeyId:          id[:20],
		NotBefore:             time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	cert, err := sign(template, template, public, key)
	return authority{key, cert}, err
}

func sign(template, parent *x509.Certificate, public ed25519.PublicKey, key ed25519.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate from the join token: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate from the join token: %w", err)
	}
	return cert, nil
}

// leaf mints a certificate.
func (k *keyring) leaf(now time.Time) (tls.Certificate, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a serial number: %w", err)
	}
	cert, err := sign(&x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: nodeName},
		DNSNames:     []string{nodeName},
		NotBefore:    now.Add(-24 * time.Hour), // clocks differ
		NotAfter:     now.AddDate(10, 0, 0),    // a token ends by rotation, not by time
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, k.signer.cert, public, k.signer.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// tls returns the configuration for both ends of connections between nodes: mutual, TLS 1.3 only, nobody trusted but
// holders of a token. Sessions are not resumed, so that a removed token lets nobody in any more.
func (k *keyring) tls(now time.Time) (*tls.Config, error) {
	leaf, err := k.leaf(now)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{leaf},
		ServerName:             nodeName,
		RootCAs:                k.trusted,
		ClientCAs:              k.trusted,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true,
	}, nil
}
