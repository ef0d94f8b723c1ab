package administration

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/feature/adhoc"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// maxList is the most accounts that a list shows.
const maxList = 2000

// group is a kind of accounts that can be counted and listed.
type group struct {
	count, list string // node of the command
	number      string // field of the count
	jids        string // field of the list
	name        string
	// find returns at most limit accounts of a domain, and how many there are.
	find func(ctx context.Context, domain string, limit int) ([]jid.JID, int, error)
}

// listCommands count and list accounts of the domain that is asked: XEP-0133 §4.13 to §4.22.
func (a *Administration) listCommands(c *adhoc.Commands) {
	for _, g := range []group{
		{"get-registered-users-num", "get-registered-users-list", "registeredusersnum", "registereduserjids", "registered users", a.registered},
		{"get-disabled-users-num", "get-disabled-users-list", "disabledusersnum", "disableduserjids", "disabled users", a.disabled},
		{"get-online-users-num", "get-online-users-list", "onlineusersnum", "onlineuserjids", "users who are online", a.online(nil)},
		{"get-active-users-num", "get-active-users", "activeusersnum", "activeuserjids", "users who are active", a.online(active)},
		// XEP-0133 §8.2 knows no field for idle users; example 74 uses that of active ones.
		{"get-idle-users-num", "get-idle-users", "idleusersnum", "activeuserjids", "users who are idle", a.online(idle)},
	} {
		a.command(c, g.count, "Count "+g.name, g.showCount)
		a.ask(c, g.list, "List "+g.name, g.showList,
			form.Choice("max_items", "How many to show at most", "", limits()...))
	}
}

// limits are the options of XEP-0133 §4.18.
func limits() []form.Option {
	var all []form.Option
	for _, n := range []string{"25", "50", "75", "100", "150", "200"} {
		all = append(all, form.Option{Label: n, Value: n})
	}
	return append(all, form.Option{Label: "As many as possible", Value: "none"})
}

func (g group) showCount(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	_, n, err := g.find(ctx, c.Entity.Domain(), 0)
	if err != nil {
		return adhoc.Reply{}, err
	}
	return result(form.Text(g.number, "The number of "+g.name, strconv.Itoa(n))), nil
}

func (g group) showList(ctx context.Context, c *adhoc.Call) (adhoc.Reply, error) {
	list, n, err := g.find(ctx, c.Entity.Domain(), c.Values.Int("max_items", maxList))
	if err != nil {
		return adhoc.Reply{}, err
	}
	reply := result(form.JIDs(g.jids, "The list of "+g.name, list...))
	if len(list) < n {
		reply.Note = "These are " + strconv.Itoa(len(list)) + " of " + strconv.Itoa(n) + " " + g.name + "."
	}
	return reply, nil
}

func (a *Administration) registered(ctx context.Context, domain string, limit int) (list []jid.JID, n int, err error) {
	if n, err = a.Accounts.Count(ctx, domain); err != nil || limit == 0 {
		return nil, n, err
	}
	all, err := a.Accounts.List(ctx, domain, jid.JID{}, limit)
	for _, one := range all {
		list = append(list, one.JID)
	}
	return list, n, err
}

func (a *Administration) disabled(ctx context.Context, domain string, limit int) (list []jid.JID, n int, err error) {
	if n, err = a.Accounts.CountDisabled(ctx, domain); err != nil || limit == 0 {
		return nil, n, err
	}
	list, err = a.Accounts.ListDisabled(ctx, domain, limit)
	return list, n, err
}

// online finds accounts with a session by what their sessions are like: XEP-0133 §4.15.
func (a *Administration) online(like func([]*session.Session) bool) func(context.Context, string, int) ([]jid.JID, int, error) {
	return func(_ context.Context, domain string, limit int) ([]jid.JID, int, error) {
		seen := map[jid.JID]struct{}{}
		a.Sessions.Everywhere(func(s *session.Session) {
			if s.Bare.Domain() != domain || s.Anonymous {
				return
			}
			if _, known := seen[s.Bare]; !known && (like == nil || like(a.Sessions.Account(s.Bare))) {
				seen[s.Bare] = struct{}{}
			}
		})
		list := make([]jid.JID, 0, len(seen))
		for j := range seen {
			list = append(list, j)
		}
		slices.SortFunc(list, func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) })
		return list[:min(limit, len(list))], len(list), nil
	}
}

// active tells whether one of the resources is used. Choice: one that is available and
// does not say that its user is away (XEP-0133 §4.16 leaves it open).
func active(all []*session.Session) bool {
	return slices.ContainsFunc(all, func(s *session.Session) bool {
		st := s.State()
		if !st.Available() {
			return false
		}
		show := st.Presence.Child(xml.NSClient, "show")
		text := strings.TrimSpace(show.Text())
		return text != "away" && text != "xa"
	})
}

func idle(all []*session.Session) bool { return !active(all) }
