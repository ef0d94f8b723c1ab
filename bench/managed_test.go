package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

const nsSM = "urn:xmpp:sm:3"

// manage enables stream management on a connection that reads by itself.
func manage(tb testing.TB, write func([]byte) (int, error), read io.Reader) {
	tb.Helper()
	if _, err := write([]byte("<enable xmlns='" + nsSM + "' resume='true'/>")); err != nil {
		tb.Fatal(err)
	}
	b := make([]byte, 4096)
	for got := []byte(nil); !bytes.Contains(got, []byte("<enabled ")); {
		n, err := read.Read(b)
		if err != nil {
			tb.Fatal(err)
		}
		got = append(got, b[:n]...)
	}
}

// BenchmarkManaged is BenchmarkRoute between two clients with stream management: the sender asks for an acknowledgement
// with each batch, and the receiver gives one when it is asked.
func BenchmarkManaged(b *testing.B) {
	for _, batch := range []int{1, 8} {
		b.Run(fmt.Sprintf("plaintext/%d", batch), func(b *testing.B) {
			p := newPair(b, client.None, batch)
			manage(b, p.from.Write, p.from)
			manage(b, p.to.Write, p.to)
			p.out = append(p.out, "<r xmlns='"+nsSM+"'/>"...)
			go io.Copy(io.Discard, p.from)
			received := 0
			answer := func() {
				received += batch
				if bytes.Contains(p.seen, []byte("<r xmlns=")) {
					fmt.Fprintf(p.to, "<a xmlns='"+nsSM+"' h='%d'/>", received)
				}
			}
			b.ReportAllocs()
			for done := 0; b.Loop(); done++ {
				if done%batch == 0 {
					p.turn(b)
					answer()
				}
			}
		})
	}
}

// BenchmarkResumeStorm has 2,000 clients lose their connections at once, and come back.
func BenchmarkResumeStorm(b *testing.B) {
	const sessions, atOnce = 2000, 50
	s := newServer(b, "limits.pre_auth_per_address=5000", "limits.connections_per_address=0")
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	config := func(i int) client.Config {
		return client.Config{
			Addr: s.Addresses()["c2s"][0], TLS: client.None, Password: password, Mechanism: "PLAIN",
			JID: jid.MustParse(fmt.Sprintf("user%d@localhost/bench", i)),
		}
	}
	all := make([]*client.Managed, sessions)
	each := func(do func(i int) error) {
		var group sync.WaitGroup
		for from := range atOnce {
			group.Go(func() {
				for i := from; i < sessions; i += atOnce {
					if err := do(i); err != nil {
						b.Error(i, err)
						return
					}
				}
			})
		}
		group.Wait()
	}
	each(func(i int) error {
		cfg := config(i)
		if err := s.Core().Accounts.Create(ctx, cfg.JID.Bare(), password); err != nil {
			return err
		}
		c, err := client.Dial(ctx, cfg)
		if err != nil {
			return err
		}
		all[i], err = client.Enable(ctx, c, true)
		return err
	})
	for b.Loop() {
		for _, m := range all {
			m.Drop()
		}
		each(func(i int) error {
			c, err := client.LogIn(ctx, config(i))
			if err != nil {
				return err
			}
			return all[i].Resume(ctx, c)
		})
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*sessions), "µs/session")
}
