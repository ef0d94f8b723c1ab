package module

import (
	"github.com/starling-im/starling/internal/hook"
	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Hooks are the points where features take part. An error from a handler of a
// stanza is returned to its sender; hook.ErrHandled ends the stanza's way silently.
type Hooks struct {
	// FromClient sees every stanza of a client before it is routed.
	FromClient hook.Point[Passage]
	// OwnPresence sees presence without 'to' (RFC 6121 §4.2, §4.4, §4.5).
	OwnPresence hook.Point[Passage]
	// PresenceOut sees presence that a client sends to somebody (RFC 6121 §3, §4.6).
	PresenceOut hook.Point[Passage]
	// PresenceIn sees presence for a local account before it is delivered.
	PresenceIn hook.Point[Passage]
	// ToAccount sees every other stanza for a local account before it is delivered.
	ToAccount hook.Point[Passage]
	// Gate decides whether an iq may reach a resource (RFC 6121 §8.5.3.1).
	Gate hook.Point[Passage]
	// Undelivered sees messages that no resource could take and that may be kept
	// (RFC 6121 §8.5.2.2.1). hook.ErrHandled: kept, else the sender gets an error.
	Undelivered hook.Point[Passage]
	// Reachable tells of a session that takes messages for its account: once right
	// before it does, so that what waited comes first, and once right after, so that
	// nothing falls between.
	Reachable hook.Point[Passage]
	// Ended tells of a session that is no longer in the table.
	Ended hook.Point[Passage]
	// Deleted tells of an account that is being deleted, before it is gone.
	Deleted hook.Point[AccountEvent]
	// Features adds stream features (RFC 6120 §4.3.2).
	Features hook.Point[FeatureEvent]
}

// Passage is a stanza on its way, or an event of a session.
type Passage struct {
	Session *session.Session // the sender's, or the one the event is about; nil when it is not of this server
	Stanza  *stanza.Stanza   // handlers of stage Amend may replace it; nil for events
}

// AccountEvent is about one account.
type AccountEvent struct{ Account jid.JID }

// FeatureEvent collects what <stream:features/> offers.
type FeatureEvent struct {
	Stranger      Stranger
	Authenticated bool
	Add           []xml.Element
}
