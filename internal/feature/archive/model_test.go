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
		for seed := range uint64(6) {
			t.Run(fmt.Sprint(d, "/seed ", seed), func(t *testing.T) {
				t.Parallel()
				m := &model{T: t, archive: archiveOn(t, d), random: rand.New(rand.NewPCG(seed, 0)), owner: jid.MustParse("juliet@a.test")}
				for range 120 {
					switch m.random.IntN(13) {
					case 0:
						m.again()
					case 1:
						m.cut()
					case 2, 3:
						m.add(1+m.random.IntN(150), false)
					case 4:
						m.add(1, false)
					case 5:
						m.add(1+m.random.IntN(40), true)
					case 6, 7, 8:
						m.repeat()
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

// add adds messages, in one portion or in several; mixed: not in the order in which they were sent, and some of them, or of
// those that are there, twice.
func (m *model) add(n int, mixed bool) {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = m.next + i
	}
	m.next += n
	if mixed {
		m.random.Shuffle(n, func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
	}
	var last <-chan struct{}
	for _, n := range numbers {
		e := entry(m.owner, n)
		e.Peer = jid.MustParse(fmt.Sprintf("friend%d@b.test/phone%d", m.random.IntN(6), m.random.IntN(2)))
		if len(m.all) > 0 && m.all[len(m.all)-1].Time.After(e.Time) {
			e.Time = m.all[len(m.all)-1].Time
		}
		m.all = append(m.all, e)
		last = m.archive.Add(&e)
		if mixed && m.random.IntN(3) == 0 {
			again, _ := m.some()
			last = m.archive.Add(&m.all[again])
		}
		if m.random.IntN(20) == 0 {
			m.flush(last)
		}
	}
	m.flush(last)
}

// repeat adds a message that is there, one of the newest as a rule.
func (m *model) repeat() {
	if len(m.all) == 0 {
		return
	}
	n, _ := m.some()
	if newest := min(len(m.all), 20); m.random.IntN(3) > 0 {
		n = len(m.all) - 1 - m.random.IntN(newest)
	}
	m.flush(m.archive.Add(&m.all[n]))
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
	return n, m.archive.ID(&m.all[n])
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
		place[m.archive.ID(&m.all[i])] = i
	}
	if maybe() {
		n, id := m.some()
		field("after-id", id)
		keep(func(e *archive.Entry) bool { return place[m.archive.ID(e)] > n })
	}
	page := ""
	backward := maybe()
	if backward {
		page = "<before/>"
		if maybe() {
			n, id := m.some()
			page = "<before>" + id + "</before>"
			keep(func(e *archive.Entry) bool { return place[m.archive.ID(e)] < n })
		}
	} else if maybe() {
		n, id := m.some()
		page = "<after>" + id + "</after>"
		keep(func(e *archive.Entry) bool { return place[m.archive.ID(e)] > n })
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
		ids = append(ids, m.archive.ID(&want[i]))
	}
	if !slices.Equal(got, ids) {
		m.Fatalf("%s in %d messages: got %d, want %d\n%s\n%s", query, len(m.all), len(got), len(ids), strings.Join(got, " "), strings.Join(ids, " "))
	}
}

// TestAgain: a message that comes again stays what it was, whatever came in between, and in whatever order.
func TestAgain(t *testing.T) {
	t.Parallel()
	upTo := func(n int, more ...int) (all []int) {
		for i := range n {
			all = append(all, i)
		}
		return append(all, more...)
	}
	for _, c := range []struct {
		name    string
		commits [][]int // numbers of the messages of one session
	}{
		{"the last", [][]int{{1, 2, 3}, {3}}},
		{"the last, with the next", [][]int{{1, 2, 3}, {3, 4}}},
		{"one before", [][]int{{1, 2, 3}, {4}, {2}}},
		{"in one commit", [][]int{{1, 1, 2, 1}}},
		{"in one commit, in another run", [][]int{upTo(100, 3, 99)}},
		{"in one commit, alone in another run", [][]int{upTo(63, 3)}},
		{"of a run around another", [][]int{{4, 100}, {50}, {100}}},
		{"of a run that began before another", [][]int{{20, 22}, {12, 30}, {30}, {12}}},
		{"of a run that began before two others", [][]int{{20, 22}, {30}, {12, 40}, {40}, {35}, {35}, {30}}},
		{"from the end to the beginning", [][]int{{9}, {8}, {7}, {9}, {8}, {7}}},
	} {
		for _, d := range []store.Dialect{store.SQLite, store.Postgres} {
			t.Run(c.name+"/"+d.String(), func(t *testing.T) {
				t.Parallel()
				a := archiveOn(t, d, "archive.max_page=1000")
				owner := jid.MustParse("juliet@a.test")
				var want []string
				for _, numbers := range c.commits {
					var batch []archive.Entry
					for _, n := range numbers {
						e := entry(owner, n)
						e.From = jid.MustParse("romeo@b.test/o")
						batch = append(batch, e)
						if made := a.ID(&e); !slices.Contains(want, made) {
							want = append(want, made)
						}
					}
					if err := a.Commit(t.Context(), batch); err != nil {
						t.Fatal(err)
					}
				}
				got, _, err := a.Query(t.Context(), owner, "<query xmlns='"+archive.NS+"'><set xmlns='"+rsm.NS+"'><max>1000</max></set></query>")
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%d messages, %v; want %d", len(got), err, len(want))
				}
				if n := a.Leftovers(t.Context(), owner); n != 0 {
					t.Errorf("%d rows of the indexes are missing or left over", n)
				}
				for _, made := range want {
					if _, _, err := a.Query(t.Context(), owner, "<query xmlns='"+archive.NS+"'><set xmlns='"+rsm.NS+"'><after>"+made+"</after></set></query>"); err != nil {
						t.Errorf("%s: %v", made, err)
					}
				}
			})
		}
	}
}

// TestCount: results are counted as long as they are few, and among few.
func TestCount(t *testing.T) {
	t.Parallel()
	a, owner := archiveOn(t, store.SQLite), jid.MustParse("juliet@a.test")
	peers := []jid.JID{jid.MustParse("often@b.test"), jid.MustParse("seldom@b.test"), jid.MustParse("once@b.test")}
	var batch []archive.Entry
	for n := range archive.MaxLooked + 100 {
		e := archive.Entry{Owner: owner, N: n, Time: time.Unix(1_600_000_000, 0), Peer: peers[0], Text: "<message/>"}
		switch {
		case n == 0:
			e.Peer = peers[2]
		case n%50 == 0:
			e.Peer = peers[1]
		}
		batch = append(batch, e)
	}
	if err := a.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{-1, -1, 1} { // too many; few among too many; one
		query := "<query xmlns='" + archive.NS + "'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + archive.NS +
			"</value></field><field var='with'><value>" + peers[i].String() + "</value></field></x><set xmlns='" + rsm.NS + "'><max>0</max></set></query>"
		if n, err := a.Count(t.Context(), owner, query); err != nil || n != want {
			t.Errorf("%s: %d, %v; want %d", peers[i], n, err, want)
		}
	}
}
