package stream_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

const (
	header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.test' version='1.0'>"
	chat   = "<message to='juliet@a.test' type='chat'><body>Wherefore art thou?</body></message>"
)

// read feeds a document in chunks, from a buffer that is overwritten after each, and
// tells what came and how it ended.
func read(r *stream.Reader, doc string, chunk int) (events []string, err error) {
	buf := make([]byte, chunk)
	for len(doc) > 0 {
		n := copy(buf, doc)
		doc = doc[n:]
		if err := r.Feed(buf[:n]); err != nil {
			return events, err
		}
		for {
			ev, it, err := r.Next()
			if err != nil {
				return events, err
			}
			if ev == xml.NeedMore {
				break
			}
			events = append(events, fmt.Sprintf("%d %s", ev, it.Raw))
			if ev == xml.Footer {
				break
			}
		}
		if err := r.Keep(); err != nil {
			return events, err
		}
		for i := range buf {
			buf[i] = '<' // the caller's bytes are not looked at after Keep
		}
	}
	return events, nil
}

func TestReaderInPieces(t *testing.T) {
	long := "<message><body>" + strings.Repeat("0123456789abcdef", 3000) + "</body></message>"
	for name, doc := range map[string]string{
		"stanzas":       header + chat + " \n" + chat + "<presence/></stream:stream>",
		"empty":         header + "</stream:stream>",
		"long":          header + chat + long + chat,
		"not finished":  header + chat + "<message><bo",
		"outside ASCII": header + "<message><body>ключ \U0001F600</body></message>",
		"broken":        header + chat + "<message></presence>",
		"restricted":    header + "<!-- -->",
	} {
		t.Run(name, func(t *testing.T) {
			var r stream.Reader
			want, wantErr := read(&r, doc, len(doc))
			r.Release()
			for _, chunk := range []int{1, 2, 3, 7, 64, 1000, 1024, 16 << 10} {
				var budget stream.Budget
				r := stream.Reader{Budget: &budget}
				got, err := read(&r, doc, chunk)
				if !slices.Equal(got, want) || !reflect.DeepEqual(err, wantErr) {
					t.Errorf("in pieces of %d: %d events, %v; whole: %d events, %v", chunk, len(got), err, len(want), wantErr)
				}
				r.Release()
				if n := budget.Used(); n != 0 {
					t.Errorf("in pieces of %d: %d bytes not given back", chunk, n)
				}
			}
		})
	}
}

// An idle reader holds nothing, and one that waits no more than twice what it waits with.
func TestReaderBudget(t *testing.T) {
	for _, tc := range []struct {
		name string
		feed []string
		want int64
	}{
		{"header only", []string{header}, 0},
		{"whole stanzas", []string{header, chat, chat + chat}, 0},
		{"one byte", []string{header, "<"}, 1 << 10},
		{"white space", []string{header, "  \n"}, 0},
		{"a rest behind a long read", []string{header + "<mess", "age/>" + strings.Repeat(" ", 15000) + "<"}, 1 << 10},
		{"grows", []string{header + "<message>", strings.Repeat("x", 5000)}, 8 << 10},
		{"grows beyond one read", []string{header + "<message>", strings.Repeat("x", 15000), strings.Repeat("x", 15000), strings.Repeat("x", 15000)}, 64 << 10},
		{"shrinks", []string{header + "<message>", strings.Repeat("x", 15000), "</message><"}, 1 << 10},
		{"ends", []string{header + "<message>", strings.Repeat("x", 15000), "</message>"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var budget stream.Budget
			r := stream.Reader{Budget: &budget}
			for _, b := range tc.feed {
				if _, err := read(&r, b, len(b)); err != nil {
					t.Fatal(err)
				}
			}
			if got := budget.Used(); got != tc.want {
				t.Errorf("%d bytes held, want %d", got, tc.want)
			}
			r.Release()
			if got := budget.Used(); got != 0 {
				t.Errorf("%d bytes held after Release", got)
			}
		})
	}
}

func TestReaderBudgetIsShared(t *testing.T) {
	budget := stream.Budget{Max: 2 << 10}
	readers := [3]stream.Reader{{Budget: &budget}, {Budget: &budget}, {Budget: &budget}}
	refused := func(err error) bool {
		var e *stream.Error
		return errors.As(err, &e) && e.Condition == stream.PolicyViolation
	}
	for i := range readers {
		_, err := read(&readers[i], header+"<a>", len(header)+3)
		if got, want := refused(err), i == 2; got != want {
			t.Errorf("reader %d: %v", i, err)
		}
	}
	if _, err := read(&readers[0], strings.Repeat("x", 3000), 3000); !refused(err) {
		t.Errorf("growth beyond the budget: %v", err)
	}
	readers[0].Release()
	if got := budget.Used(); got != 1<<10 {
		t.Errorf("%d bytes held by one reader", got)
	}
	readers[2].Restart()
	if _, err := read(&readers[2], header+"<a>", len(header)+3); err != nil {
		t.Errorf("with what another has given back: %v", err)
	}
	readers[1].Release()
	readers[2].Release()
	if got := budget.Used(); got != 0 {
		t.Errorf("%d bytes held at the end", got)
	}
}

func TestReaderDiscardAndRestart(t *testing.T) {
	var r stream.Reader
	feed := func(s string) (events []xml.Event) {
		t.Helper()
		if err := r.Feed([]byte(s)); err != nil {
			t.Fatal(err)
		}
		for {
			ev, it, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if ev == xml.NeedMore {
				break
			}
			events = append(events, ev)
			switch string(it.Local) {
			case "starttls":
				r.Discard()
				r.Restart()
			case "auth":
				r.Restart()
			}
		}
		if err := r.Keep(); err != nil {
			t.Fatal(err)
		}
		return events
	}
	// RFC 6120 §5.4.3.3: what came with <starttls/> is gone.
	if got := feed(header + "<starttls/><evil/><evil"); !slices.Equal(got, []xml.Event{xml.Header, xml.FirstLevel}) {
		t.Errorf("up to starttls: %v", got)
	}
	// RFC 6120 §6.4.6: what came with <auth/> belongs to the new stream.
	if got := feed(header + "<auth/>" + header + "<iq/>"); !slices.Equal(got, []xml.Event{xml.Header, xml.FirstLevel, xml.Header, xml.FirstLevel}) {
		t.Errorf("after it: %v", got)
	}
}

func TestReaderLimits(t *testing.T) {
	lim := xml.PreAuthLimits()
	for name, doc := range map[string]string{
		"bytes":    header + "<a>" + strings.Repeat("x", lim.Bytes),
		"elements": header + "<a>" + strings.Repeat("<b/>", lim.Elements),
		"depth":    header + strings.Repeat("<b>", lim.Depth+1),
		"header":   header[:len(header)-1] + strings.Repeat(" ", lim.Bytes) + ">",
	} {
		for _, chunk := range []int{1, 100, len(doc)} {
			t.Run(fmt.Sprintf("%s in pieces of %d", name, chunk), func(t *testing.T) {
				var budget stream.Budget
				r := stream.Reader{Limits: &lim, Budget: &budget}
				_, err := read(&r, doc, chunk)
				if e := stream.AsError(err); e.Condition != stream.PolicyViolation || e.App.Local != xml.StanzaTooBig {
					t.Errorf("ended with %v", err)
				}
				if got := budget.Used(); got > 32<<10 {
					t.Errorf("%d bytes held for it", got)
				}
				r.Release()
			})
		}
	}
}

func BenchmarkReaderPieces(b *testing.B) {
	doc := []byte(strings.Repeat(chat, 200))
	var r stream.Reader
	r.Feed([]byte(header))
	r.Next()
	r.Keep()
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		for rest := doc; len(rest) > 0; {
			n := min(len(rest), 1448)
			r.Feed(rest[:n])
			for {
				if ev, _, err := r.Next(); err != nil || ev == xml.NeedMore {
					break
				}
			}
			r.Keep()
			rest = rest[n:]
		}
	}
}
