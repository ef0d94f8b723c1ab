package blocking

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Bounds of what is kept of one report.
const (
	maxReason  = 256  // bytes
	maxNote    = 4096 // bytes
	maxStanzas = 50
	maxID      = 256 // bytes
)

// Report is what a user had to say about somebody who was blocked (XEP-0377 §4).
type Report struct {
	From, About jid.JID
	Received    time.Time
	Reason      string // such as "urn:xmpp:reporting:spam"
	Note        string
	Stanzas     []StanzaID // messages that are meant (XEP-0377 §6)
	Origin      bool       // may be forwarded to the domain of who is reported (XEP-0377 §5)
	Others      bool       // may be forwarded to third parties (XEP-0377 §5)
}

// StanzaID names a message in an archive (XEP-0359 §3).
type StanzaID struct {
	By string `json:"by"`
	ID string `json:"id"`
}

// keepReports stores the reports that came with a block. A report that says nothing,
// or is one too many, does not keep the block from being done (XEP-0377 §6).
func (b *Blocking) keepReports(ctx context.Context, owner jid.JID, ask xml.Element) error {
	var all []Report
	for item := range ask.Elements() {
		e := item.Child(nsReport, "report")
		about, err := jid.Parse(item.Attr("jid"))
		if item.Space == NS && e != nil && err == nil && e.Attr("reason") != "" { // XEP-0377 §4
			all = append(all, parseReport(owner, about, e))
		}
	}
	all = all[max(len(all)-b.cfg.MaxReports, 0):]
	if len(all) == 0 {
		return nil
	}
	now := b.Now()
	err := b.DB.Write(ctx, func(tx *store.Tx) error {
		var last int64
		err := tx.Row(`SELECT COALESCE(MAX(position), 0) FROM blocking_reports WHERE owner = $1`, owner.String()).Scan(&last)
		if err != nil {
			return err
		}
		for i := range all {
			last++
			if err := all[i].insert(tx, last, now); err != nil {
				return err
			}
		}
		_, err = tx.Exec(`DELETE FROM blocking_reports WHERE owner = $1 AND position <= $2`, owner.String(), last-int64(b.cfg.MaxReports))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep reports of %s: %w", owner, err)
	}
	for _, r := range all {
		b.reports.Inc()
		b.Log.LogAttrs(ctx, slog.LevelInfo, "abuse was reported", slog.String("by", owner.String()),
			slog.String("about", r.About.String()), slog.String("reason", r.Reason))
	}
	return nil
}

func parseReport(owner, about jid.JID, e *xml.Element) Report {
	r := Report{From: owner, About: about, Reason: cut(e.Attr("reason"), maxReason),
		Origin: e.Child(nsReport, "report-origin") != nil, Others: e.Child(nsReport, "third-party") != nil}
	var texts []string
	for c := range e.Elements() {
		switch {
		case c.Space == nsReport && c.Local == "text":
			texts = append(texts, strings.TrimSpace(c.Text()))
		case c.Space == nsStanzas && c.Local == "stanza-id" && len(r.Stanzas) < maxStanzas:
			r.Stanzas = append(r.Stanzas, StanzaID{cut(c.Attr("by"), maxID), cut(c.Attr("id"), maxID)})
		}
	}
	r.Note = cut(strings.Join(texts, "\n"), maxNote)
	return r
}

// cut shortens text to at most that many bytes of whole characters.
func cut(s string, bytes int) string {
	if len(s) <= bytes {
		return s
	}
	for bytes > 0 && !utf8.RuneStart(s[bytes]) {
		bytes--
	}
	return s[:bytes]
}

func (r *Report) insert(tx *store.Tx, position int64, now time.Time) error {
	stanzas, err := json.Marshal(r.Stanzas)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO blocking_reports (owner, position, received, blocked, reason, note, stanzas, origin, others)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, r.From.String(), position, store.Micros(now), r.About.String(),
		r.Reason, r.Note, string(stanzas), bit(r.Origin), bit(r.Others))
	return err
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Reports lists at most limit reports that came before a time, the newest first.
func (b *Blocking) Reports(ctx context.Context, before time.Time, limit int) ([]Report, error) {
	var all []Report
	err := b.DB.Read(ctx, func(tx *store.Tx) error {
		all = nil
		return tx.Each(func(scan store.Scan) error {
			var (
				r                        Report
				from, about, stanzas     string
				received, origin, others int64
			)
			if err := scan(&from, &received, &about, &r.Reason, &r.Note, &stanzas, &origin, &others); err != nil {
				return err
			}
			var err error
			if r.From, err = jid.Parse(from); err != nil {
				return err
			}
			if r.About, err = jid.Parse(about); err != nil {
				return err
			}
			r.Received, r.Origin, r.Others = store.Time(received), origin != 0, others != 0
			all = append(all, r)
			return json.Unmarshal([]byte(stanzas), &all[len(all)-1].Stanzas)
		}, `SELECT owner, received, blocked, reason, note, stanzas, origin, others FROM blocking_reports
			WHERE received < $1 ORDER BY received DESC, owner, position LIMIT $2`, store.Micros(before), limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list reports: %w", err)
	}
	return all, nil
}
