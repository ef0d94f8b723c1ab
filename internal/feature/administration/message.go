package administration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/starling-im/starling/internal/feature/adhoc"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// batch is how many sessions get an announcement before what was appended is written.
const batch = 100

// motd is a message of the day; the zero one is none.
type motd struct {
	at   int64 // tells it from others
	body string
}

// messageCommands speak to all users of the domain that is asked: XEP-0133 §4.23 to §4.26.
func (a *Administration) messageCommands(c *adhoc.Commands) {
	a.ask(c, "announce", "Send an announcement to users who are online", a.announce,
		form.Lines("announcement", "The announcement", "").Must())
	a.ask(c, "set-motd", "Set the message of the day", a.setMOTD,
		form.Lines("motd", "The message of the day", "").Must())
	a.command(c, "edit-motd", "Edit the message of the day", func(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
		now, err := a.motds.Load(ctx, c.Entity, a.readMOTD)
		if err != nil {
			return adhoc.Reply{}, err
		}
		f := form.New(form.TypeForm, NS, form.Lines("motd", "The message of the day", now.body).Must()).Titled("Edit the message of the day")
		return adhoc.Reply{Form: &f, Next: a.setMOTD}, nil
	})
	a.command(c, "delete-motd", "Delete the message of the day", a.deleteMOTD)
}

// announce is XEP-0133 §4.23. It goes on after the administrator has the answer.
func (a *Administration) announce(_ context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	domain, text := c.Entity, c.Values.Text("announcement")
	a.Go("announcement", func(ctx context.Context) {
		a.toAll(ctx, domain, func(ctx context.Context, s *session.Session) { a.say(ctx, s, text) })
	})
	return adhoc.Reply{}, nil
}

// toAll does something for every available session of a domain, and writes what it
// leads to in batches.
func (a *Administration) toAll(ctx context.Context, domain jid.JID, do func(context.Context, *session.Session)) {
	var all []*session.Session
	a.Sessions.Everywhere(func(s *session.Session) {
		if s.JID.Host() == domain && s.State().Available() {
			all = append(all, s)
		}
	})
	for len(all) > 0 && ctx.Err() == nil {
		some := all[:min(batch, len(all))]
		all = all[len(some):]
		session.Within(ctx, func(ctx context.Context, _ *session.Flow) {
			for _, s := range some {
				do(ctx, s)
			}
		})
	}
}

// say sends text to a session. Choice: as a headline, which is never stored and needs no answer.
func (a *Administration) say(ctx context.Context, s *session.Session, text string) {
	st := stanza.New(stanza.Message, stanza.Headline, stream.NewID(), s.JID, xml.New(xml.NSClient, "body").WithText(text))
	a.Router.Deliver(ctx, s, st.WithFrom(s.JID.Host()))
}

// setMOTD is XEP-0133 §4.24, §4.25.
func (a *Administration) setMOTD(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	domain, m := c.Entity, &motd{at: store.Micros(a.Now()), body: c.Values.Text("motd")}
	err := a.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO administration_motd (owner, at, body) VALUES ($1, $2, $3)
			ON CONFLICT (owner) DO UPDATE SET at = excluded.at, body = excluded.body`, domain.String(), m.at, m.body)
		return err
	})
	if err != nil {
		return adhoc.Reply{}, fmt.Errorf("set message of the day: %w", err)
	}
	a.motds.Put(domain, m)
	a.Go("message of the day", func(ctx context.Context) {
		a.toAll(ctx, domain, func(ctx context.Context, s *session.Session) {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			if err := a.show(ctx, s, m); err != nil {
				a.Log.Error("message of the day not sent", "user", s.JID.String(), "err", err)
			}
		})
	})
	return adhoc.Reply{}, nil
}

// deleteMOTD is XEP-0133 §4.26.
func (a *Administration) deleteMOTD(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	err := a.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM administration_motd WHERE owner = $1`, c.Entity.String())
		return err
	})
	a.motds.Drop(c.Entity)
	return adhoc.Reply{}, err
}

func (a *Administration) readMOTD(ctx context.Context, domain jid.JID) (*motd, error) {
	m := &motd{}
	err := a.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT at, body FROM administration_motd WHERE owner = $1`, domain.String()).Scan(&m.at, &m.body)
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("read message of the day: %w", err)
	}
	return m, nil
}

// greet shows the message of the day to who comes.
func (a *Administration) greet(ctx context.Context, e *module.Passage) error {
	m, err := a.motds.Load(ctx, e.Session.JID.Host(), a.readMOTD)
	if err != nil || m.at == 0 {
		return err
	}
	return a.show(ctx, e.Session, m)
}

// show sends the message of the day to a session whose user has not got it yet.
// Choice: guests get it each time.
func (a *Administration) show(ctx context.Context, s *session.Session, m *motd) error {
	if !s.Anonymous {
		fresh, err := a.see(ctx, s.Bare, m)
		if err != nil || !fresh {
			return err
		}
	}
	a.say(ctx, s, m.body)
	return nil
}

// see notes that a user gets a message of the day. It reports whether it is the first time.
func (a *Administration) see(ctx context.Context, who jid.JID, m *motd) (fresh bool, err error) {
	var last int64
	err = a.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT at FROM administration_motd_seen WHERE owner = $1`, who.String()).Scan(&last)
	})
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return false, err
	case last >= m.at:
		return false, nil
	}
	err = a.DB.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`INSERT INTO administration_motd_seen (owner, at) VALUES ($1, $2)
			ON CONFLICT (owner) DO UPDATE SET at = excluded.at WHERE administration_motd_seen.at < excluded.at`, who.String(), m.at)
		fresh = n > 0
		return err
	})
	return fresh, err
}
