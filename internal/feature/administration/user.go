package administration

import (
	"context"
	"strconv"

	"github.com/starling-im/starling/internal/feature/adhoc"
	"github.com/starling-im/starling/internal/feature/roster"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// userCommands tell about single accounts: XEP-0133 §4.8 to §4.10.
func (a *Administration) userCommands(c *adhoc.Commands) {
	a.ask(c, "get-user-roster", "Show rosters of users", a.showRosters,
		form.JIDs("accountjids", "The accounts").Must())
	a.ask(c, "get-user-lastlogin", "Show when users last logged in", a.showLogins,
		form.JIDs("accountjids", "The accounts").Must())
	a.ask(c, "user-stats", "Show statistics of a user", a.showStatistics,
		form.JID("accountjid", "The account", jid.JID{}).Must())
}

// showRosters is XEP-0133 §4.8. Choice: of several accounts, the rosters stand in the
// order of the addresses.
func (a *Administration) showRosters(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	all, err := a.several(ctx, c)
	if err != nil {
		return adhoc.Reply{}, err
	}
	f := form.New(form.TypeResult, NS, form.JIDs("accountjids", "", all...)).Element()
	for _, who := range all {
		l, err := a.roster.List(ctx, who)
		if err != nil {
			return adhoc.Reply{}, err
		}
		f = f.With(l.Element())
	}
	return adhoc.Reply{Payload: []xml.Element{f}}, nil
}

// showLogins is XEP-0133 §4.9. Choice: of several accounts, the times stand in the
// order of the addresses, with an empty one for who has never logged in.
func (a *Administration) showLogins(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	all, err := a.several(ctx, c)
	if err != nil {
		return adhoc.Reply{}, err
	}
	times := form.Value("lastlogin")
	for _, who := range all {
		at, err := a.LastLogin(ctx, who)
		if err != nil {
			return adhoc.Reply{}, err
		}
		text := ""
		if !at.IsZero() {
			text = datetime.Format(at)
		}
		times.Values = append(times.Values, text)
	}
	times.Type = form.KindTextMulti
	return result(form.JIDs("accountjids", "", all...), times), nil
}

// showStatistics is XEP-0133 §4.10.
func (a *Administration) showStatistics(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	who, err := a.one(ctx, c)
	if err != nil {
		return adhoc.Reply{}, err
	}
	l, err := a.roster.List(ctx, who)
	if err != nil {
		return adhoc.Reply{}, err
	}
	resources := form.Field{Name: "onlineresources", Type: form.KindTextMulti, Label: "Resources that are connected"}
	for _, s := range a.Sessions.Account(who) {
		resources.Values = append(resources.Values, s.JID.Resource())
	}
	return result(form.JID("accountjid", "", who),
		form.Text("rostersize", "Contacts", strconv.Itoa(contacts(l))), resources), nil
}

func contacts(l *roster.List) (n int) {
	for i := range l.Items {
		if l.Items[i].Listed {
			n++
		}
	}
	return n
}
