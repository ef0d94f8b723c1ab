package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/starling-im/starling/internal/client"
	"github.com/starling-im/starling/internal/load"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// The rows of pages, in milliseconds.
const (
	pageFirst  row = "first page"
	pageMiddle row = "middle page"
	pageLast   row = "last page"
)

// archivist is the user who has many messages, and pageTries how often each page of pageSize is read.
const (
	archivist = 1_000_000
	pageTries = 20
	pageSize  = 50
)

// How many messages are in the archive of which pages are read. What is not in an SQL database has to be
// sent message by message, which bounds the number.
const (
	ourMessages   = 1_000_000
	peerMessages  = 100_000
	fileMessages  = 10_000
	tableMessages = 1_000 // Mnesia reads all messages of a user to add one
)

// many is a number of messages, and how they get into an archive: they are sent, so many at once ahead of what has come, or
// one is, and the database copies it: a second apart, the one that is there as the newest. In copies, {N} is their number
// and n counts from 1.
type many struct {
	messages, ahead int
	driver          string
	source          func(b *bench, folder string) string
	copies          []string
}

// counting is the part of each statement that counts.
const counting = `WITH RECURSIVE step(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM step WHERE n < {N} - 1) `

// inFolder is a database of SQLite.
func inFolder(name string) func(*bench, string) string {
	return func(_ *bench, folder string) string {
		return "file:" + filepath.Join(folder, name) + "?_pragma=busy_timeout(5000)"
	}
}

// fillings tells how the archives of each server are filled.
func fillings() map[string]*many {
	return map[string]*many{
		sqliteName:   {messages: ourMessages, ahead: 500},
		postgresName: {messages: ourMessages, ahead: 500},
		erlSQLName: {peerMessages, 1, "sqlite", inFolder("ejabberd.db"), []string{
			`INSERT INTO archive (username, timestamp, peer, bare_peer, xml, txt, kind, nick) ` + counting + `
				SELECT username, timestamp - ({N} - n) * 1000000, peer, bare_peer, xml, txt, kind, nick
				FROM step CROSS JOIN (SELECT * FROM archive WHERE username = 'bench1000000')`,
		}},
		luaSQLName: {peerMessages, 1, "sqlite", inFolder("prosody.db"), []string{
			`UPDATE prosodyarchive SET sort_id = sort_id + {N} WHERE "user" = 'bench1000000'`,
			`INSERT INTO prosodyarchive (sort_id, host, "user", store, "key", "when", "with", type, value) ` + counting + `
				SELECT sort_id - ({N} - n), host, "user", store, lower(hex(randomblob(16))), "when" - ({N} - n), "with", type, value
				FROM step CROSS JOIN (SELECT * FROM prosodyarchive WHERE "user" = 'bench1000000')`,
		}},
		filesName:  {messages: fileMessages, ahead: 1},
		mnesiaName: {messages: tableMessages, ahead: 1},
	}
}

// pages measures how long it takes to read pages of a long archive.
func (b *bench) pages(ctx context.Context) error {
	how := fillings()
	for _, k := range b.keepers {
		if m := how[k.name]; m != nil {
			if err := b.pagesOf(ctx, k.on, m); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
	}
	return nil
}

func (b *bench) pagesOf(ctx context.Context, c *contestant, m *many) (err error) {
	began := time.Now()
	middle, err := b.fill(ctx, c, m)
	if err != nil {
		return err
	}
	b.filled[c.name] = m.messages
	fmt.Fprintf(os.Stderr, "%s: an archive of %d messages was filled in %v\n", c.name, m.messages, time.Since(began).Round(time.Second))
	in, err := c.start(ctx, b.dir, b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.stop()) }()
	if err := load.Rest(ctx, in.cmd.Process.Pid); err != nil {
		return err
	}
	return b.readPages(ctx, c.name, in, middle)
}

// fill fills the archive of the archivist on a server that is started for it, and returns when half of it came.
func (b *bench) fill(ctx context.Context, c *contestant, m *many) (middle time.Time, err error) {
	in, err := c.start(ctx, b.dir, b.dir)
	if err != nil {
		return middle, err
	}
	byWire := m.messages
	if m.copies != nil {
		byWire = 1
	}
	middle, err = send(ctx, in, byWire, m.ahead)
	if err := errors.Join(err, in.stop()); err != nil || m.copies == nil {
		return middle, err
	}
	return time.Now().Add(-time.Duration(m.messages/2) * time.Second), b.multiply(ctx, c, m)
}

// send has a user send messages to the archivist, who is there, and returns when half of them had come.
func send(ctx context.Context, in *instance, messages, ahead int) (middle time.Time, err error) {
	cfg, err := account(in.addr, archivist)
	if err != nil {
		return middle, err
	}
	if err := client.Register(ctx, cfg); err != nil {
		return middle, err
	}
	from, err := account(in.addr, 0)
	if err != nil {
		return middle, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	to, err := client.Dial(ctx, cfg)
	if err != nil {
		return middle, err
	}
	defer to.Drop()
	if err := to.Raw(ctx, []byte("<presence/>")); err != nil {
		return middle, err
	}
	c, err := client.Dial(ctx, from)
	if err != nil {
		return middle, err
	}
	defer c.Drop()
	text := func(n int) string {
		return fmt.Sprintf("%d: Wherefore art thou, Romeo? Deny thy father & refuse thy name", n)
	}
	for sent, come := 0, 0; come < messages; come++ {
		for ; sent < messages && sent < come+ahead; sent++ {
			m := xml.New(xml.NSClient, "message", "type", "chat", "to", cfg.JID.Bare().String(), "id", c.ID()).
				With(xml.New(xml.NSClient, "body").WithText(text(sent)))
			if err := c.Send(ctx, m); err != nil {
				return middle, err
			}
		}
		if err := await(ctx, to, func(e *xml.Element) bool { return e.Child(xml.NSClient, "body").Text() == text(come) }); err != nil {
			return middle, err
		}
		if come == messages/2 {
			middle = time.Now()
		}
	}
	return middle, nil
}

// multiply copies the archivist's only message in the database of a server that has stopped.
func (b *bench) multiply(ctx context.Context, c *contestant, m *many) (err error) {
	db, err := sql.Open(m.driver, m.source(b, c.folder(b.dir)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	for _, statement := range m.copies {
		if _, err := tx.ExecContext(ctx, strings.ReplaceAll(statement, "{N}", strconv.Itoa(m.messages))); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return tx.Commit()
}

// readPages reads the first page, one from the middle and the last, again and again.
func (b *bench) readPages(ctx context.Context, name string, in *instance, middle time.Time) error {
	c, err := b.reader(ctx, in.addr, archivist)
	if err != nil {
		return err
	}
	defer c.Drop()
	half, err := readPage(ctx, c, datetime.Format(middle), "", "", 1)
	if err != nil {
		return err
	}
	for _, which := range []struct {
		row           row
		direction, id string
	}{{pageFirst, "", ""}, {pageMiddle, "after", half.first}, {pageLast, "before", ""}} {
		for try := range pageTries + 1 {
			p, err := readPage(ctx, c, "", which.direction, which.id, pageSize)
			if err != nil {
				return fmt.Errorf("%s: %w", which.row, err)
			}
			if len(p.messages) != pageSize || p.complete {
				return fmt.Errorf("%s has %d messages, and all are said to be read: %t", which.row, len(p.messages), p.complete)
			}
			if try > 0 { // the first is for the caches
				b.add(which.row, name, float64(p.took.Microseconds())/1000)
			}
		}
	}
	return nil
}
