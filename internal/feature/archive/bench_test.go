package archive_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/rsm"
	"github.com/starling-im/starling/internal/xmpptest"
)

// archiveOn is the archive of a server of its own.
func archiveOn(t testing.TB, d store.Dialect, set ...string) *archive.Archive {
	t.Helper()
	s := xmpptest.Start(t, xmpptest.Options{Set: append(set, xmpptest.On(t, d), "log.level=error")})
	return s.Features().Provided("archive").(*archive.Archive)
}

func dialects(b *testing.B, fn func(b *testing.B, d store.Dialect)) {
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		b.Run(d.String(), func(b *testing.B) { fn(b, d) })
	}
}

const text = "<message from='romeo@b.test/orchard' to='juliet@a.test' type='chat' id='abcdefgh-1234-5678'><body>%s</body>" +
	"<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/></message>"

// entry is the n-th message of an archive, one a second, with one of a hundred people.
func entry(owner jid.JID, n int) archive.Entry {
	return archive.Entry{
		Owner: owner, N: n, Time: time.Unix(1_600_000_000+int64(n), 0), Message: fmt.Sprint("m", n),
		Peer: jid.MustParse(fmt.Sprintf("friend%d@b.test/phone", n%100)), Text: fmt.Sprintf(text, fmt.Sprint("number ", n)),
	}
}

// BenchmarkCommit is what it costs to keep a message for both parties, in batches as they come under load: the users
// write to each other at random.
func BenchmarkCommit(b *testing.B) {
	dialects(b, func(b *testing.B, d store.Dialect) {
		for _, messages := range []int{8, 128, 2048} {
			b.Run(fmt.Sprint("batch=", messages), func(b *testing.B) {
				a := archiveOn(b, d)
				users := make([]jid.JID, 200)
				for i := range users {
					users[i] = jid.MustParse(fmt.Sprintf("user%d@a.test/phone", i))
				}
				body := fmt.Sprintf(text, strings.Repeat("x", 80))
				var from, to syscall.Rusage
				syscall.Getrusage(syscall.RUSAGE_SELF, &from)
				b.ResetTimer()
				n := 0
				for n < b.N {
					var batch []archive.Entry
					for range messages {
						one, two := users[n%200], users[(n*7+1)%200]
						e := archive.Entry{Owner: one.Bare(), Peer: two, N: n, Time: time.Now(), Message: "m", Text: body}
						batch = append(batch, e)
						e.Owner, e.Peer = two.Bare(), one
						batch = append(batch, e)
						n++
					}
					if err := a.Commit(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				syscall.Getrusage(syscall.RUSAGE_SELF, &to)
				cpu := to.Utime.Nano() + to.Stime.Nano() - from.Utime.Nano() - from.Stime.Nano()
				b.ReportMetric(float64(cpu)/float64(n), "cpu-ns/message")
			})
		}
	})
}

// million is how many messages the archive has whose pages are read; fewer with -short.
const million = 1_000_000

// BenchmarkPage is what it costs to read a page of a long archive.
func BenchmarkPage(b *testing.B) {
	owner := jid.MustParse("juliet@a.test")
	form := func(fields ...string) string {
		x := "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + archive.NS + "</value></field>"
		for i := 0; i < len(fields); i += 2 {
			x += "<field var='" + fields[i] + "'><value>" + fields[i+1] + "</value></field>"
		}
		return x + "</x>"
	}
	set := func(inner string) string { return "<set xmlns='" + rsm.NS + "'><max>50</max>" + inner + "</set>" }
	middle := entry(owner, million/2)
	halfway := middle.Time.UTC().Format(time.RFC3339)
	pages := map[string]string{
		"first":             set(""),
		"middle":            set("<after>" + middle.ID() + "</after>"),
		"middle backwards":  set("<before>" + middle.ID() + "</before>"),
		"last":              set("<before/>"),
		"from a time":       form("start", halfway) + set(""),
		"up to a time":      form("end", halfway) + set("<before/>"),
		"with one":          form("with", "friend7@b.test") + set("<before/>"),
		"with a resource":   form("with", "friend7@b.test/phone") + set(""),
		"with from a time":  form("with", "friend7@b.test", "start", halfway) + set(""),
		"with a stranger":   form("with", "nobody@b.test", "start", halfway) + set(""),
		"with, middle":      form("with", "friend0@b.test") + set("<after>"+middle.ID()+"</after>"),
		"number with one":   form("with", "friend7@b.test") + "<set xmlns='" + rsm.NS + "'><max>0</max></set>",
		"between two known": form("after-id", middle.ID()) + set(""),
	}
	dialects(b, func(b *testing.B, d store.Dialect) {
		a := archiveOn(b, d)
		for n := 0; n < million; {
			var batch []archive.Entry
			for range 8192 {
				batch = append(batch, entry(owner, n))
				n++
			}
			if err := a.Commit(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		for name, query := range pages {
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					if _, _, err := a.Query(b.Context(), owner, "<query xmlns='"+archive.NS+"'>"+query+"</query>"); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	})
}
