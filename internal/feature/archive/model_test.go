package archive_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/feature/archive"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/rsm"
)

// model is what an archive should have.
type model struct {
	*testing.T
	archive *archive.Archive
	random  *rand.Rand
	owner   jid.JID
	all     []archive.Entry
	next    int
}

// TestModel: whatever is added, moved to the end and removed, in whatever portions, every query finds what a list would.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(d, "/seed ", seed), func(t *testing.T) {
				t.Parallel()
				m := &model{T: t, archive: archiveOn(t, d), random: rand.New(rand.NewPCG(seed, 0)), owner: jid.MustParse("juliet@a.test")}
				for range 60 {
					switch m.random.IntN(8) {
					case 0:
						m.again()
					case 1:
						m.cut()
					case 2, 3:
						m.add(1 + m.random.IntN(150))
					case 4:
						m.add(1)
					default:
						m.ask()
					}
				}
				if n := m.archive.Leftovers(t.Context(), m.owner); n != 0 {
					t.Errorf("%d rows of the indexes are missing or left over", n)
				}
			})
		}
	}
}

// add adds messages, in one portion or in several.
func (m *model) add(n int) {
	var last <-chan struct{}
	for range n {
		e := entry(m.owner, m.next)
		e.Peer = jid.MustParse(fmt.Sprintf("friend%d@b.test/phone%d", m.random.IntN(6), m.random.IntN(2)))
		m.next++
		m.all = append(m.all, e)
		if last = m.archive.Add(&e); m.random.IntN(20) == 0 {
			m.flush(last)
		}
	}
	m.flush(last)
}

// flush gives what was added its place.
func (m *model) flush(last <-chan struct{}) {
	<-last
	if err := m.archive.Flush(m.Context()); err != nil {
		m.Fatal(err)
	}
}

func (m *model) some() (n int, id string) {
	n = m.random.IntN(len(m.all))
	return n, m.all[n].ID()
}

// again moves a message to the end.
func (m *model) again() {
	if len(m.all) == 0 {
		return
	}
	n, _ := m.some()
	e := m.all[n]
	e.Time = m.all[len(m.all)-1].Time
	m.archive.Again(&e)
	m.all = append(slices.Delete(m.all, n, n+1), e)
	if err := m.archive.Flush(m.Context()); err != nil {
		m.Fatal(err)
	}
}

// cut removes some of the oldest messages.
func (m *model) cut() {
	if len(m.all) == 0 {
		return
	}
	n, id := m.some()
	if err := m.archive.Cut(m.Context(), m.owner, id); err != nil {
		m.Fatal(err)
	}
	m.all = m.all[n+1:]
}

// ask asks for a page, with some of the filters.
func (m *model) ask() {
	m.Helper()
	if len(m.all) == 0 {
		return
	}
	fields, want := "", slices.Clone(m.all)
	field := func(name, value string) { fields += "<field var='" + name + "'><value>" + value + "</value></field>" }
	keep := func(wanted func(e *archive.Entry) bool) {
		want = slices.DeleteFunc(want, func(e archive.Entry) bool { return !wanted(&e) })
	}
	maybe := func() bool { return m.random.IntN(3) == 0 }
	if maybe() {
		peer := jid.MustParse(fmt.Sprintf("friend%d@b.test", m.random.IntN(7)))
		field("with", peer.String())
		keep(func(e *archive.Entry) bool { return e.Peer.Bare() == peer })
	} else if maybe() {
		peer := m.all[m.random.IntN(len(m.all))].Peer
		field("with", peer.String())
		keep(func(e *archive.Entry) bool { return e.Peer == peer })
	}
	if maybe() {
		from := m.all[m.random.IntN(len(m.all))].Time
		field("start", from.UTC().Format(time.RFC3339))
		keep(func(e *archive.Entry) bool { return !e.Time.Before(from) })
	}
	if maybe() {
		to := m.all[m.random.IntN(len(m.all))].Time
		field("end", to.UTC().Format(time.RFC3339))
		keep(func(e *archive.Entry) bool { return !e.Time.After(to) })
	}
	place := map[string]int{}
	for i := range m.all {
		place[m.all[i].ID()] = i
	}
	if maybe() {
		n, id := m.some()
		field("after-id", id)
		keep(func(e *archive.Entry) bool { return place[e.ID()] > n })
	}
	page := ""
	backward := maybe()
	if backward {
		page = "<before/>"
		if maybe() {
			n, id := m.some()
			page = "<before>" + id + "</before>"
			keep(func(e *archive.Entry) bool { return place[e.ID()] < n })
		}
	} else if maybe() {
		n, id := m.some()
		page = "<after>" + id + "</after>"
		keep(func(e *archive.Entry) bool { return place[e.ID()] > n })
	}
	most := 1 + m.random.IntN(80)
	query := fmt.Sprintf("<query xmlns='%s'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s</value></field>%s</x>"+
		"<set xmlns='%s'><max>%d</max>%s</set></query>", archive.NS, archive.NS, fields, rsm.NS, most, page)
	complete := len(want) <= most
	if !complete && backward {
		want = want[len(want)-most:]
	} else if !complete {
		want = want[:most]
	}
	got, whole, err := m.archive.Query(m.Context(), m.owner, query)
	if err != nil || whole != complete {
		m.Fatalf("%s: %v, complete is %v", query, err, whole)
	}
	var ids []string
	for i := range want {
		ids = append(ids, want[i].ID())
	}
	if !slices.Equal(got, ids) {
		m.Fatalf("%s in %d messages: got %d, want %d\n%s\n%s", query, len(m.all), len(got), len(ids), strings.Join(got, " "), strings.Join(ids, " "))
	}
}
