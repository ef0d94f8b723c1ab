package server_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

const opening = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"

// behind connects as a load balancer does for a client.
func behind(t *testing.T, tg *target, door, client string) *peer {
	t.Helper()
	p := dial(t, tg.Server, door)
	family := "TCP4"
	if strings.Contains(client, ":") {
		family = "TCP6"
	}
	p.send(fmt.Sprintf("PROXY %s %s %[2]s 40000 5222\r\n", family, client))
	return p
}

// Limits, throttles and logs know the client, not the load balancer.
func TestBehindBalancer(t *testing.T) {
	tg := attack(t, "listen.proxy_protocol_from=127.0.0.0/8", "limits.pre_auth_per_address=2", "auth.failures=1")
	tg.account(t, "romeo@localhost")
	for range 2 {
		p := behind(t, tg, "c2s", "192.0.2.7")
		p.send(opening)
		p.until("</stream:features>")
	}
	third := behind(t, tg, "c2s", "192.0.2.7")
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("a third one of this client is served")
	}
	if log := tg.log.String(); !strings.Contains(log, `"addr":"192.0.2.7:40000","limit":"pre_auth_per_address"`) {
		t.Errorf("log: %s", log)
	}

	for _, guess := range []struct{ client, user, want string }{
		{"192.0.2.8", "romeo", "not-authorized"},
		{"192.0.2.8", "juliet", "temporary-auth-failure"},
		{"2001:db8::8", "paris", "not-authorized"},
	} {
		p := newPeer(t, tls.Client(behind(t, tg, "tls", guess.client).Conn, insecure()))
		p.send(opening)
		p.until("</stream:features>")
		p.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" +
			base64.StdEncoding.EncodeToString([]byte("\x00"+guess.user+"\x00wrong")) + "</auth>")
		if got := p.until("</failure>"); !strings.Contains(got, guess.want) {
			t.Errorf("%s as %s: %s", guess.client, guess.user, got)
		}
	}

	// HTTPS takes the header, too; the door for operators never does.
	page := &http.Client{Transport: &http.Transport{TLSClientConfig: insecure(), Dial: func(string, string) (net.Conn, error) {
		return behind(t, tg, "https", "192.0.2.9").Conn, nil
	}}}
	defer page.CloseIdleConnections()
	for url, c := range map[string]*http.Client{
		"https://localhost/": page, "http://" + tg.Addresses()["admin"][0] + "/healthz": http.DefaultClient,
	} {
		r, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, r.Status)
		}
	}
}

// Who is not in the list cannot pretend to be somebody else.
func TestPretender(t *testing.T) {
	tg := attack(t, "listen.proxy_protocol_from=192.0.2.1")
	p := behind(t, tg, "c2s", "192.0.2.7")
	p.until("not-well-formed")
	if len(tg.log.about(p.LocalAddr())) == 0 {
		t.Errorf("log: %s", tg.log)
	}
}
