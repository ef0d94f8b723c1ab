package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// from connects by TLS from an address of this machine and opens a stream.
func from(t *testing.T, tg *target, ip string) *peer {
	t.Helper()
	p := over(t, dialFrom(t, tg, "tls", ip))
	p.send(open)
	p.until("</stream:features>")
	return p
}

// guess tries a password and returns the answer.
func guess(t *testing.T, p *peer, user, with string) string {
	t.Helper()
	p.send(plain("", user, with))
	got := p.until(">")
	if strings.HasPrefix(got, "<failure") {
		got += p.until("</failure>")
	}
	return got
}

func TestAttack09_PasswordStorage(t *testing.T) {
	tg := attack(t, "auth.iterations=10000", "registration.open=true", "registration.free_loopback=true")
	tg.account(t, "romeo@localhost")
	cfg := tg.config("juliet@localhost")
	if err := client.Register(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if got := guess(t, secured(t, tg.Server), "juliet", password); !strings.HasPrefix(got, "<success") {
		t.Fatalf("log-in: %s", got)
	}
	t.Run("keys", func(t *testing.T) { // XEP-0438 §6.2
		keys, salts := 0, map[string]bool{}
		err := tg.Core().DB.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Each(func(scan store.Scan) error {
				var (
					hash                 string
					iterations           int
					salt, stored, server []byte
				)
				if err := scan(&hash, &iterations, &salt, &stored, &server); err != nil {
					return err
				}
				if iterations < 10_000 || len(salt) < 16 || len(stored) < 20 || salts[string(salt)] {
					t.Errorf("%s: %d iterations, salt %x (seen before: %v), key of %d bytes", hash, iterations, salt, salts[string(salt)], len(stored))
				}
				salts[string(salt)] = true
				keys++
				return nil
			}, `SELECT hash, iterations, salt, stored, server FROM account_keys`)
		})
		if err != nil || keys != 6 {
			t.Errorf("%d keys, %v", keys, err)
		}
	})
	t.Run("nothing else", func(t *testing.T) {
		searched := 0
		err := filepath.WalkDir(tg.data, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			searched += len(b)
			for _, form := range []string{password, base64.StdEncoding.EncodeToString([]byte(password)), "thou"} {
				if bytes.Contains(b, []byte(form)) {
					t.Errorf("%s holds the password as %q", path, form)
				}
			}
			return err
		})
		if err != nil || searched < 10_000 {
			t.Errorf("%d bytes searched, %v", searched, err)
		}
		if strings.Contains(tg.log.String(), "thou") {
			t.Error("the log holds the password")
		}
	})
}

// Time is not measured: what costs it is counted.
func TestAttack10_Timing(t *testing.T) {
	tg := attack(t, "auth.failures=1000")
	tg.account(t, "romeo@localhost")
	hashes := func() float64 { return tg.metric(t, "starling_account_hash_seconds") }
	t.Run("PLAIN", func(t *testing.T) {
		var answers []string
		for _, user := range []string{"romeo", "nobody"} {
			p := secured(t, tg.Server)
			before := hashes()
			answers = append(answers, guess(t, p, user, "wrong"))
			if n := hashes() - before; n != 1 {
				t.Errorf("%v hashes for %s", n, user)
			}
		}
		if answers[0] != answers[1] {
			t.Errorf("answers differ: %q", answers)
		}
	})
	for _, h := range []string{"SHA-1", "SHA-256", "SHA-512"} {
		t.Run(h, func(t *testing.T) {
			salt := regexp.MustCompile(`s=([^,]*),i=(\d+)`)
			before := hashes()
			var salts, answers []string
			for _, user := range []string{"romeo", "nobody", "nobody", "NOBODY"} {
				p := secured(t, tg.Server)
				p.send(auth("SCRAM-"+h, "n,,n="+user+",r=abcdefgh"))
				challenge := strings.TrimSuffix(strings.SplitN(p.until("</challenge>"), ">", 2)[1], "</challenge>")
				text, err := base64.StdEncoding.DecodeString(challenge)
				if err != nil {
					t.Fatal(err)
				}
				m := salt.FindStringSubmatch(string(text))
				if m == nil {
					t.Fatalf("challenge %s", text)
				}
				salts = append(salts, m[1])
				nonce := strings.TrimPrefix(strings.SplitN(string(text), ",", 2)[0], "r=")
				p.send(response("c=biws,r=" + nonce + ",p=" + base64.StdEncoding.EncodeToString(make([]byte, 20))))
				answers = append(answers, m[2]+p.until("</failure>"))
			}
			if len(salts[0]) != len(salts[1]) || salts[1] != salts[2] || salts[2] != salts[3] || salts[0] == salts[1] {
				t.Errorf("salts tell who exists: %q", salts)
			}
			if answers[0] != answers[1] {
				t.Errorf("answers differ: %q", answers)
			}
			if n := hashes() - before; n != 0 {
				t.Errorf("%v hashes", n)
			}
		})
	}
}

func TestAttack11_Randomness(t *testing.T) {
	tg := attack(t)
	tg.account(t, "romeo@localhost")
	distinct := func(t *testing.T, bits float64, perChar float64, all []string) {
		t.Helper()
		seen := map[string]bool{}
		for _, s := range all {
			if seen[s] || float64(len(s))*perChar < bits {
				t.Errorf("%q: seen before, or less than %v bits", s, bits)
			}
			seen[s] = true
			if strings.HasPrefix(s, all[0][:6]) && s != all[0] {
				t.Errorf("%q begins as %q does", s, all[0])
			}
		}
	}
	id := regexp.MustCompile(` id='([^']*)'`)
	t.Run("streams", func(t *testing.T) { // RFC 6120 §4.7.3
		var ids []string
		for range 50 {
			p := connected(t, tg.Server)
			p.send(open)
			ids = append(ids, id.FindStringSubmatch(p.until("</stream:features>"))[1])
			p.Close()
		}
		distinct(t, 128, 6, ids)
	})
	t.Run("resources", func(t *testing.T) {
		var names []string
		for range 15 {
			u := tg.login(t, "romeo@localhost")
			names = append(names, u.JID().Resource())
			u.Drop()
		}
		distinct(t, 80, 5, names)
	})
	t.Run("nonces", func(t *testing.T) {
		var nonces []string
		p := secured(t, tg.Server)
		for range 50 {
			p.send(auth("SCRAM-SHA-1", "n,,n=romeo,r=mine"))
			text, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.SplitN(p.until("</challenge>"), ">", 2)[1], "</challenge>"))
			if err != nil {
				t.Fatal(err)
			}
			nonces = append(nonces, strings.TrimPrefix(strings.SplitN(string(text), ",", 2)[0], "r=mine"))
		}
		distinct(t, 128, 6, nonces)
	})
}

func TestAttack27_Guessing(t *testing.T) {
	const wait = "<temporary-auth-failure/>"
	t.Run("from one address", func(t *testing.T) {
		tg := attack(t, "auth.failures=4", "auth.failure_window=1h")
		tg.account(t, "romeo@localhost", "juliet@localhost")
		for i := range 4 { // on several connections, of several users
			if got := guess(t, from(t, tg, "127.0.0.2"), fmt.Sprint("user", i), "x"); !strings.Contains(got, "<not-authorized/>") {
				t.Errorf("guess %d: %s", i, got)
			}
		}
		if got := guess(t, from(t, tg, "127.0.0.2"), "romeo", password); !strings.Contains(got, wait) {
			t.Errorf("after too many: %s", got)
		}
		if got := guess(t, from(t, tg, "127.0.0.3"), "romeo", password); !strings.HasPrefix(got, "<success") {
			t.Errorf("from another address: %s", got)
		}
	})
	t.Run("of one account", func(t *testing.T) {
		tg := attack(t, "auth.failures=4", "auth.failure_window=1h")
		tg.account(t, "romeo@localhost", "juliet@localhost")
		if got := guess(t, from(t, tg, "127.0.0.1"), "romeo", password); !strings.HasPrefix(got, "<success") {
			t.Fatalf("the owner, before: %s", got)
		}
		for i := range 4 {
			guess(t, from(t, tg, fmt.Sprint("127.0.1.", i+1)), []string{"romeo", "Romeo", "ROMEO", "ｒｏｍｅｏ"}[i], "x")
			guess(t, from(t, tg, fmt.Sprint("127.0.2.", i+1)), "nobody", "x")
		}
		for _, user := range []string{"romeo", "nobody"} { // whether there is an account does not show
			if got := guess(t, from(t, tg, "127.0.3.1"), user, password); !strings.Contains(got, wait) {
				t.Errorf("one more guess at %s: %s", user, got)
			}
		}
		if got := guess(t, from(t, tg, "127.0.0.1"), "romeo", password); !strings.HasPrefix(got, "<success") {
			t.Errorf("the owner, where he was before: %s", got)
		}
		if got := guess(t, from(t, tg, "127.0.3.1"), "juliet", password); !strings.HasPrefix(got, "<success") {
			t.Errorf("another user: %s", got)
		}
	})
	t.Run("with SCRAM", func(t *testing.T) {
		tg := attack(t, "auth.failures=2", "auth.failure_window=1h")
		tg.account(t, "romeo@localhost")
		for range 2 {
			exchange(t, from(t, tg, "127.0.0.2"), "SCRAM-SHA-256-PLUS", []byte("wrong"))
		}
		p := from(t, tg, "127.0.0.2")
		p.send(auth("SCRAM-SHA-256", "n,,n=romeo,r=abcdefgh"))
		if got := p.until("</failure>"); !strings.Contains(got, wait) {
			t.Errorf("one more: %s", got)
		}
	})
}

func TestAttack27_Registration(t *testing.T) {
	tg := attack(t, "registration.open=true", "registration.per_hour=3")
	register := func(ip, name string) string {
		p := from(t, tg, ip)
		p.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>" + name + "</username><password>" + password + "</password></query></iq>")
		got := p.until(">")
		if !strings.HasSuffix(got, "/>") {
			got += p.until("</iq>")
		}
		return got
	}
	var made sync.Map
	var all sync.WaitGroup
	for i := range 12 { // all at once
		all.Go(func() {
			if got := register("127.0.0.2", fmt.Sprint("user", i)); strings.Contains(got, "type='result'") {
				made.Store(i, true)
			} else if !strings.Contains(got, "<resource-constraint ") {
				t.Errorf("answered %s", got)
			}
		})
	}
	all.Wait()
	n := 0
	made.Range(func(_, _ any) bool { n++; return true })
	if n != 3 {
		t.Errorf("%d accounts were made from one address", n)
	}
	if got := register("127.0.0.3", "romeo"); !strings.Contains(got, "type='result'") {
		t.Errorf("from another address: %s", got)
	}
	for range 5 { // what is refused is not counted
		for _, name := range []string{"romeo", "Romeo", "ROMEO"} {
			if got := register("127.0.0.3", name); !strings.Contains(got, "<conflict ") {
				t.Errorf("%s again: %s", name, got)
			}
		}
	}
	if got := register("127.0.0.3", "juliet"); !strings.Contains(got, "type='result'") {
		t.Errorf("a second one: %s", got)
	}
	if known, err := tg.Core().Accounts.Exists(context.Background(), jid.MustParse("juliet@localhost")); err != nil || !known {
		t.Errorf("it is there: %v, %v", known, err)
	}
}

// dialFrom connects from another address of this machine.
func dialFrom(t *testing.T, tg *target, door, ip string) *peer {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.DialContext(t.Context(), "tcp", tg.Addresses()[door][0])
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c)
}
