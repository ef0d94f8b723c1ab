package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/load"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of what the archive is asked with.
const (
	nsMAM     = "urn:xmpp:mam:2"
	nsRSM     = "http://jabber.org/protocol/rsm"
	nsData    = "jabber:x:data"
	nsForward = "urn:xmpp:forward:0"
)

// A look into the archives is at the newest messages of so many users, and is repeated until all are there.
const (
	sampledUsers  = 10
	archivePause  = 250 * time.Millisecond
	archiveWithin = 30 * time.Second
)

// tally is how many messages were looked for in a server's archives, and found.
type tally struct{ looked, found int }

// checkArchive looks into the archives of some users for the messages of a run, both those that they sent and those that they got:
// the newest ones must be these and no others. sent is what each session has sent.
func (b *bench) checkArchive(ctx context.Context, name string, in *instance, sent []uint32) error {
	t := b.archived[name]
	if t == nil {
		t = &tally{}
		b.archived[name] = t
	}
	for i := range sampledUsers {
		n := i * len(sent) / sampledUsers
		want := map[uint32]uint32{uint32(n): sent[n], uint32(n ^ 1): sent[n^1]}
		all := int(sent[n] + sent[n^1])
		got, err := b.lookFor(ctx, in, n, want, all)
		if err != nil {
			return fmt.Errorf("%s, archive of user %d: %w", name, n, err)
		}
		t.looked += all
		t.found += got
	}
	fmt.Fprintf(os.Stderr, "%s: found in the archives %d of %d\n", name, t.found, t.looked)
	return nil
}

// lookFor looks until all are there, or for as long as an archive may be behind.
func (b *bench) lookFor(ctx context.Context, in *instance, user int, want map[uint32]uint32, all int) (found int, err error) {
	c, err := b.reader(ctx, in.addr, user)
	if err != nil {
		return 0, err
	}
	defer c.Drop()
	for end := time.Now().Add(archiveWithin); ; {
		if found, err = newest(ctx, c, want, all); err != nil || found == all || time.Now().After(end) {
			return found, err
		}
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-time.After(archivePause):
		}
	}
}

// reader logs in somebody who reads an archive.
func (b *bench) reader(ctx context.Context, addr string, user int) (*client.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cfg, err := account(addr, user)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, cfg)
}

// account is for one of the users of the load.
func account(addr string, user int) (client.Config, error) {
	who, err := jid.New("bench"+strconv.Itoa(user), "localhost", "reader")
	return client.Config{Addr: addr, TLS: client.None, JID: who, Password: "bench-password", Mechanism: "PLAIN"}, err
}

// newest counts, among the newest n messages of an archive, those that are wanted, each once.
func newest(ctx context.Context, c *client.Conn, want map[uint32]uint32, n int) (found int, err error) {
	type message struct{ sender, number uint32 }
	seen := map[message]bool{}
	before := ""
	for got := 0; got < n; {
		p, err := readPage(ctx, c, "", "before", before, min(250, n-got))
		if err != nil {
			return 0, err
		}
		for _, text := range p.messages {
			sender, number, ok := load.Marked(text)
			if m := (message{sender, number}); ok && number < want[sender] && !seen[m] {
				seen[m] = true
			}
		}
		if got += len(p.messages); len(p.messages) == 0 || p.first == "" || p.complete {
			break
		}
		before = p.first
	}
	return len(seen), nil
}

// page is a page of an archive.
type page struct {
	messages []string // their bodies
	first    string   // the id of the first
	complete bool
	took     time.Duration // from the request until the last byte of the answer was read
}

// readPage reads a page of at most so many messages, XEP-0313 §4: from a time on if one is given, and after or before
// an id if a direction is given.
func readPage(ctx context.Context, c *client.Conn, start, direction, id string, most int) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	set := xml.New(nsRSM, "set").With(xml.New(nsRSM, "max").WithText(strconv.Itoa(most)))
	if direction != "" {
		set = set.With(xml.New(nsRSM, direction).WithText(id))
	}
	query := xml.New(nsMAM, "query", "queryid", "q")
	if start != "" {
		field := func(name, value string) xml.Element {
			return xml.New(nsData, "field", "var", name).With(xml.New(nsData, "value").WithText(value))
		}
		query = query.With(xml.New(nsData, "x", "type", "submit").With(field("FORM_TYPE", nsMAM), field("start", start)))
	}
	iq := xml.New(xml.NSClient, "iq", "type", "set", "id", c.ID()).With(query.With(set))
	p, began := &page{}, time.Now()
	if err := c.Send(ctx, iq); err != nil {
		return nil, err
	}
	for {
		e, err := c.Next(ctx)
		if err != nil {
			return nil, err
		}
		if result := e.Child(nsMAM, "result"); result != nil {
			message := result.Child(nsForward, "forwarded").Child(xml.NSClient, "message")
			p.messages = append(p.messages, message.Child(xml.NSClient, "body").Text())
			continue
		}
		if e.Local != "iq" || e.Attr("id") != iq.Attr("id") {
			continue
		}
		if e.Attr("type") != "result" {
			return nil, fmt.Errorf("the archive answers %s", e)
		}
		fin := e.Child(nsMAM, "fin")
		p.complete = fin.Attr("complete") == "true"
		p.first = fin.Child(nsRSM, "set").Child(nsRSM, "first").Text()
		p.took = time.Since(began)
		return p, nil
	}
}
