package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// certificate writes a certificate that an unknown authority signed, and its key.
func certificate(t *testing.T, dir string, until time.Time, names ...string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, dir, names[0]+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		write(t, dir, names[0]+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	pair := func(cert, key string) string {
		return `--set=tls.certificates=[{cert="` + cert + `",key="` + key + `"}]`
	}
	good := pair(certificate(t, dir, tomorrow(), "a.test", "*.wild.test"))
	old := pair(certificate(t, dir, time.Now().Add(-24*time.Hour), "old.test"))
	young := pair(certificate(t, dir, time.Now().Add(72*time.Hour), "young.test"))
	_, other := certificate(t, dir, tomorrow(), "other.test")
	busy := taken(t)
	for _, c := range []struct {
		name string
		code int
		want []string
		args []string
	}{
		{"defaults", 0, []string{"serve makes it", "localhost gets a self-signed", "ok       listen.c2s", "All is well."}, nil},
		{"good certificate", 0, []string{"a.test.crt is valid until", "ends in 0 days", "clients may not trust"}, []string{good, "--domain=a.test", "--domain=x.wild.test"}},
		{"name that it lacks", 1, []string{"none is for b.test", "There is a problem."}, []string{good, "--domain=b.test"}},
		{"wildcard for two labels", 1, []string{"none is for x.y.wild.test"}, []string{good, "--domain=x.y.wild.test"}},
		{"old certificate", 1, []string{"old.test.crt ended on"}, []string{old, "--domain=old.test"}},
		{"young certificate", 1, []string{"young.test.crt begins only on"}, []string{young, "--domain=young.test"}},
		{"key of another", 1, []string{"tls.certificates[0]", "belong together"}, []string{pair(dir+"/a.test.crt", other), "--domain=a.test"}},
		{"no such certificate", 1, []string{"no such file"}, []string{pair("none.crt", "none.key"), "--domain=a.test"}},
		{"no authorities", 1, []string{"tls.client_ca", "no such file"}, []string{"--set=tls.client_ca=none.pem"}},
		{"taken port", 1, []string{"listen.c2s: cannot listen on " + busy, "another program"}, []string{"--listen-c2s=" + busy}},
		{"closed door", 0, []string{"listen.tls: is off"}, []string{"--listen-tls="}},
		{"data is a file", 1, []string{"problem  data: other.test.key cannot be used: it is not a folder"}, []string{"--data=other.test.key"}},
		{"data below a file", 1, []string{"problem  data: "}, []string{"--data=other.test.key/x/y"}},
		{"database away", 1, []string{"postgres://u:xxxxx@", "is it running"}, []string{"--database=postgres://u:hunter2@" + closed(t) + "/d"}},
		{"database nowhere", 1, []string{"starling.db cannot be made"}, []string{"--database=sqlite:none/starling.db"}},
		{"two problems", 1, []string{"There are 2 problems."}, []string{"--listen-c2s=" + busy, "--listen-tls=" + busy}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := starling(t, dir, slices.Concat([]string{"check"}, anyPort(), c.args)...)
			r.want(t, c.code, c.want...)
			if strings.Contains(r.out+r.err, "hunter2") {
				t.Error("shows a password")
			}
		})
	}
}

func TestCheckWhileServing(t *testing.T) {
	dir := t.TempDir()
	n := serve(t, dir)
	r := starling(t, dir, "check", "--listen-c2s="+n.info.Addresses["c2s"])
	r.want(t, exitOK, "ok       server: runs", "in use by the running server")
	n.stop()
	starling(t, dir, append([]string{"check"}, anyPort()...)...).want(t, exitOK, "starling.db answers", "listen.c2s")
}

func TestQuickstart(t *testing.T) {
	dir := t.TempDir()
	starling(t, dir, "quickstart", "Bücher.example").want(t, exitOK, "bücher.example",
		"_xmpp-client._tcp.xn--bcher-kva.example.   IN SRV   0 5 5222 xmpp.xn--bcher-kva.example.", "_xmpps-client._tcp", "make no records for _xmpp-server",
		"starling check\n", "user add name@bücher.example")
	starling(t, dir, "quickstart", "other.example").want(t, exitUsage, "starling.toml exists already", "--force")
	starling(t, dir, "quickstart", "other.example", "--force", "--out", "a b.toml").want(t, exitOK, "check --config 'a b.toml'")
	starling(t, dir, "quickstart", "localhost", "--out=local.toml").want(t, exitOK, "needs no records")
	starling(t, dir, "quickstart", "127.0.0.1", "--out=ip.toml").want(t, exitOK, "needs no records")
	starling(t, dir, "quickstart", "a.test", "--out=none/x.toml").want(t, exitFailed, "write the settings")

	starling(t, dir, append([]string{"check"}, anyPort()...)...).want(t, exitOK, "starling.toml can be read", "bücher.example gets a self-signed")
	n := serve(t, dir)
	n.out.await(t, "admin@bücher.example")
	n.stop()

	starling(t, dir, "quickstart", "a.test", "--force").want(t, exitOK)
	n = serve(t, dir)
	if name := nameShown(t, n.info.Addresses["tls"]); name != "a.test" {
		t.Errorf("the certificate is for %s", name)
	}
	n.stop()
}
