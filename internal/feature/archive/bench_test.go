package archive_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/load"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
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
		Owner: owner, N: n, Time: time.Unix(1_600_000_000+int64(n), 0),
		Peer: jid.MustParse(fmt.Sprintf("friend%d@b.test/phone", n%100)), Text: fmt.Sprintf(text, fmt.Sprint("number ", n)),
	}
}

// meter measures the processor time of the whole process.
type meter struct{ begun int64 }

func processor() int64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return used.Utime.Nano() + used.Stime.Nano()
}

func start(b *testing.B) meter {
	runtime.GC()
	b.ResetTimer()
	return meter{processor()}
}

func (m meter) stop(b *testing.B, messages int) {
	b.StopTimer()
	b.ReportMetric(float64(processor()-m.begun)/float64(messages), "cpu-ns/message")
}

// crowd is users who write to each other at random.
type crowd struct {
	users []jid.JID
	texts []string
	n     int
}

func newCrowd(texts ...string) *crowd {
	c := &crowd{users: make([]jid.JID, 200), texts: texts}
	for i := range c.users {
		c.users[i] = jid.MustParse(fmt.Sprintf("user%d@a.test/phone", i))
	}
	return c
}

// same is one message for all.
var same = fmt.Sprintf(text, strings.Repeat("x", 80))

// speech is messages each of which says something else, of so many bytes.
func speech(length int) (texts []string) {
	for n := range uint32(8192) {
		texts = append(texts, fmt.Sprintf(text, load.Words(0, n, length)))
	}
	return texts
}

// say is messages, each as it is kept for both parties.
func (c *crowd) say(messages int) (all []archive.Entry) {
	for range messages {
		one, two := c.users[rand.IntN(len(c.users))], c.users[rand.IntN(len(c.users))]
		e := archive.Entry{Owner: one.Bare(), Peer: two, From: one, N: c.n, Time: time.Now(), Text: c.texts[c.n%len(c.texts)]}
		all = append(all, e)
		e.Owner, e.Peer = two.Bare(), one
		all = append(all, e)
		c.n++
	}
	return all
}

var batches = []int{8, 64, 512, 2048}

// BenchmarkKeep is what it costs to keep a message for both parties, from the queue to its place in both archives. So many
// messages come at once, and the next ones when these are acknowledged: the same text each time, or words of so many bytes.
func BenchmarkKeep(b *testing.B) {
	dialects(b, func(b *testing.B, d store.Dialect) {
		for _, messages := range batches {
			b.Run(fmt.Sprint("batch=", messages), func(b *testing.B) { keep(b, d, messages, newCrowd(same)) })
		}
		for _, length := range []int{100, 300} {
			b.Run(fmt.Sprint("words=", length), func(b *testing.B) { keep(b, d, 512, newCrowd(speech(length)...)) })
		}
	})
}

func keep(b *testing.B, d store.Dialect, messages int, c *crowd) {
	a := archiveOn(b, d)
	m, n := start(b), 0
	for ; n < b.N; n += messages {
		var last <-chan struct{}
		for _, e := range c.say(messages) {
			last = a.Add(&e)
		}
		<-last
	}
	if err := a.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	m.stop(b, n)
}

// BenchmarkCommit is the same without the journal: each batch goes to its place at once.
func BenchmarkCommit(b *testing.B) {
	dialects(b, func(b *testing.B, d store.Dialect) {
		for _, messages := range batches {
			b.Run(fmt.Sprint("batch=", messages), func(b *testing.B) {
				a, c := archiveOn(b, d), newCrowd(same)
				m, n := start(b), 0
				for ; n < b.N; n += messages {
					if err := a.Commit(b.Context(), c.say(messages)); err != nil {
						b.Fatal(err)
					}
				}
				m.stop(b, n)
			})
		}
	})
}

// BenchmarkFloor is what the same bytes cost in one table that has no index, two rows a message, with nothing but the
// database under it.
func BenchmarkFloor(b *testing.B) {
	for _, messages := range batches {
		b.Run(fmt.Sprint("batch=", messages), func(b *testing.B) {
			db, c := storetest.Open(b, store.SQLite), newCrowd(same)
			insert := func(all []archive.Entry) error {
				return db.Write(b.Context(), func(tx *store.Tx) error {
					for _, e := range all {
						if _, err := tx.Exec(`INSERT INTO bare VALUES ($1, $2, $3, $4, $5, $6, $7)`,
							1<<40, e.N, make([]byte, 16), e.Time.UnixMicro(), 1<<60, e.Peer.Resource(), e.Text); err != nil {
							return err
						}
					}
					return nil
				})
			}
			if err := db.Write(b.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(`CREATE TABLE bare (owner BIGINT, position BIGINT, id BYTEA, stamp BIGINT, peer BIGINT, resource TEXT, stanza TEXT)`)
				return err
			}); err != nil {
				b.Fatal(err)
			}
			m, n := start(b), 0
			for ; n < b.N; n += messages {
				if err := insert(c.say(messages)); err != nil {
					b.Fatal(err)
				}
			}
			m.stop(b, n)
		})
	}
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
	pages := func(a *archive.Archive) map[string]string {
		return map[string]string{
			"first":             set(""),
			"middle":            set("<after>" + a.ID(&middle) + "</after>"),
			"middle backwards":  set("<before>" + a.ID(&middle) + "</before>"),
			"last":              set("<before/>"),
			"from a time":       form("start", halfway) + set(""),
			"up to a time":      form("end", halfway) + set("<before/>"),
			"with one":          form("with", "friend7@b.test") + set("<before/>"),
			"with a resource":   form("with", "friend7@b.test/phone") + set(""),
			"with from a time":  form("with", "friend7@b.test", "start", halfway) + set(""),
			"with a stranger":   form("with", "nobody@b.test", "start", halfway) + set(""),
			"with, middle":      form("with", "friend0@b.test") + set("<after>"+a.ID(&middle)+"</after>"),
			"number with one":   form("with", "friend7@b.test") + "<set xmlns='" + rsm.NS + "'><max>0</max></set>",
			"between two known": form("after-id", a.ID(&middle)) + set(""),
		}
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
		for name, query := range pages(a) {
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
