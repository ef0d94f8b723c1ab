package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/datetime"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/rsm"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Fields of the form that narrows a query: XEP-0313 §4.1.
const (
	fieldWith      = "with"
	fieldStart     = "start"
	fieldEnd       = "end"
	fieldBefore    = "before-id"
	fieldAfter     = "after-id"
	fieldIDs       = "ids"
	fieldGroupchat = "include-groupchat"
)

// maxIDs is how many messages may be asked for by their ids at once.
const maxIDs = 250

// fields is the form: XEP-0313 §4.1.5. Whether rooms are included makes no difference, since none are.
func fields() form.Form {
	ids := form.Field{Name: fieldIDs, Type: form.KindListMulti, Validate: form.Validation{Datatype: "xs:string", Open: true}}
	return form.New(form.TypeForm, NS,
		form.JID(fieldWith, "", jid.JID{}),
		form.Text(fieldStart, "", ""),
		form.Text(fieldEnd, "", ""),
		form.Text(fieldBefore, "", ""),
		form.Text(fieldAfter, "", ""),
		ids,
		form.Bool(fieldGroupchat, "", false),
	)
}

// form tells clients what they can ask for.
func (a *Archive) form(_ context.Context, iq *stanza.Stanza) (xml.Element, error) {
	if _, err := a.owner(iq); err != nil {
		return xml.None, err
	}
	f := fields()
	for i := range f.Fields { // empty values would be taken for filters
		if f.Fields[i].Type != form.KindHidden {
			f.Fields[i].Values = nil
		}
	}
	return xml.New(NS, "query").With(f.Element()), nil
}

// owner is whose archive is asked: nobody's but the sender's (XEP-0313 §8.1).
func (a *Archive) owner(iq *stanza.Stanza) (jid.JID, error) {
	owner := iq.From.Bare()
	if !iq.To.IsZero() && iq.To != owner {
		return jid.JID{}, stanza.Err(stanza.Forbidden, "this archive is for its owner")
	}
	if s := a.Sessions.Find(iq.From); s != nil && s.Anonymous {
		return jid.JID{}, stanza.Err(stanza.NotAllowed, "a guest has no archive")
	}
	return owner, nil
}

// query sends a page of the archive and then says which it was: XEP-0313 §4.
func (a *Archive) query(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := a.owner(iq)
	if err != nil {
		return xml.None, err
	}
	ask := iq.Payload()
	f, err := a.filter(owner, &ask)
	if err != nil {
		return xml.None, err
	}
	p, err := a.page(ctx, owner, f)
	if err != nil {
		return xml.None, unavailable(err)
	}
	a.metrics.queries.Inc()
	s := a.Sessions.Find(iq.From)
	if s == nil {
		return xml.None, stanza.Err(stanza.ItemNotFound, "nobody is there to read it")
	}
	order := p.messages
	if ask.Child(NS, "flip-page") != nil { // XEP-0313 §4.3.4
		order = slices.Clone(order)
		slices.Reverse(order)
	}
	for i := range order {
		st, err := order[i].result(owner, iq.From, ask.Attr("queryid"))
		if err != nil {
			a.Log.Error("kept message is broken", "owner", owner.String(), "position", order[i].position, "err", err)
			continue
		}
		if !a.Router.Deliver(ctx, s, st) {
			return xml.None, stanza.Err(stanza.RecipientUnavailable, "")
		}
	}
	if f.catchesUp() {
		CatchUp(s, p.newest)
	}
	return p.fin(), nil
}

// CatchUp notes that a client reads its archive by itself, as far as it goes now: what stands there is not delivered to it
// as a message that waited (XEP-0313 §6.1.1).
func CatchUp(s *session.Session, position int64) {
	if s.State().CaughtUp < position {
		s.Update(func(state *session.State) { state.CaughtUp = max(state.CaughtUp, position) })
	}
}

// unavailable tells clients to try again when the database is away.
func unavailable(err error) error {
	if errors.Is(err, store.ErrUnavailable) {
		return stanza.Err(stanza.ResourceConstraint, "the archive cannot be read just now").Because(err)
	}
	return err
}

// filter is what a query asks for.
type filter struct {
	with          jid.JID
	start, end    int64 // microseconds; 0: open
	before, after id
	hasBefore     bool
	hasAfter      bool
	ids           []id
	positions     []int64 // theirs, once they are looked up
	page          rsm.Request
	max           int
}

// filter reads a query: XEP-0313 §4.1.
func (a *Archive) filter(owner jid.JID, q *xml.Element) (*filter, error) {
	if q.Attr("node") != "" { // XEP-0313 §6.1.3
		return nil, stanza.Err(stanza.ItemNotFound, "an account has one archive")
	}
	f := &filter{}
	var err error
	if f.page, err = rsm.Find(q); err != nil {
		return nil, stanza.Err(stanza.BadRequest, err.Error()).Because(err)
	}
	if f.page.Index >= 0 { // XEP-0059 §2.6
		return nil, stanza.Err(stanza.FeatureNotImplemented, "pages are asked for by ids")
	}
	f.max = a.cfg.Page
	if f.page.Max >= 0 {
		f.max = min(f.page.Max, a.cfg.MaxPage)
	}
	submitted, err := form.Find(q)
	if err == nil && submitted != nil {
		err = f.narrow(submitted)
	}
	var failure *stanza.Failure
	if err != nil && !errors.As(err, &failure) {
		return nil, stanza.Err(stanza.BadRequest, err.Error()).Because(err)
	}
	return f, err
}

// catchesUp tells whether whoever asks so goes on until there is nothing new.
func (f *filter) catchesUp() bool {
	return f.page.Max != 0 && f.with.IsZero() && f.end == 0 && !f.hasBefore && len(f.ids) == 0
}

// narrow reads the form.
func (f *filter) narrow(submitted *form.Form) error {
	ask := fields()
	for i := range submitted.Fields {
		if name := submitted.Fields[i].Name; name != form.TypeField && ask.Field(name) == nil { // XEP-0313 §4.1.5
			return stanza.Err(stanza.FeatureNotImplemented, "no such field: "+name)
		}
	}
	values, err := ask.Accept(submitted)
	if err != nil {
		return err
	}
	f.with = values.JID(fieldWith)
	for name, into := range map[string]*int64{fieldStart: &f.start, fieldEnd: &f.end} {
		if text := values.Text(name); text != "" { // XEP-0313 §4.1.2
			at, err := datetime.Parse(text)
			if err != nil {
				return err
			}
			*into = store.Micros(at)
		}
	}
	if text := values.Text(fieldAfter); text != "" {
		f.hasAfter = true
		if f.after, err = known(text); err != nil {
			return err
		}
	}
	if text := values.Text(fieldBefore); text != "" {
		f.hasBefore = true
		if f.before, err = known(text); err != nil {
			return err
		}
	}
	if len(values[fieldIDs]) > maxIDs {
		return stanza.Err(stanza.PolicyViolation, "too many ids")
	}
	for _, text := range values[fieldIDs] {
		i, err := known(text)
		if err != nil {
			return err
		}
		f.ids = append(f.ids, i)
	}
	return nil
}

// known reads an id; what is none is the id of nothing: XEP-0313 §4.1.3, §4.3.2.
func known(text string) (id, error) {
	i, ok := parseID(text)
	if !ok {
		return i, errUnknown()
	}
	return i, nil
}

func errUnknown() error { return stanza.Err(stanza.ItemNotFound, "the archive has no such id") }

// metadata tells where the archive begins and ends: XEP-0313 §5.
func (a *Archive) metadata(ctx context.Context, iq *stanza.Stanza) (xml.Element, error) {
	owner, err := a.owner(iq)
	if err != nil {
		return xml.None, err
	}
	e, _, err := a.Metadata(ctx, owner)
	return e, unavailable(err)
}

// Metadata is the answer to a client that plans how to read the archive (XEP-0313 §5), and the position where it ends now.
func (a *Archive) Metadata(ctx context.Context, owner jid.JID) (xml.Element, int64, error) {
	e := xml.New(NS, "metadata")
	if err := a.flush(ctx, owner); err != nil {
		return e, 0, err
	}
	var last int64
	err := a.DB.Read(ctx, func(tx *store.Tx) error {
		e, last = xml.New(NS, "metadata"), 0
		r, err := a.reader(tx, owner.String())
		if err != nil {
			return err
		}
		for _, end := range []struct {
			name string
			last bool
		}{{"start", false}, {"end", true}} {
			k, err := r.end(end.last)
			if err != nil || k == nil {
				return err
			}
			last = k.position
			e = e.With(xml.New(NS, end.name, "id", k.id.String(), "timestamp", datetime.Format(store.Time(k.stamp))))
		}
		return nil
	})
	if err != nil {
		return e, 0, fmt.Errorf("read the ends of the archive of %s: %w", owner, err)
	}
	return e, last, nil
}
