package module

import (
	"net/netip"

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
	// Bounced tells of a stanza of a client that was returned to it, after the client was told.
	Bounced hook.Point[BounceEvent]
	// Reachable tells of a session that takes messages for its account: once right
	// before it does, so that what waited comes first, and once right after, so that
	// nothing falls between.
	Reachable hook.Point[Passage]
	// Ended tells of a session that is no longer in the table.
	Ended hook.Point[Passage]
	// Lost tells of an available session of another node that is over without that its node could tell anybody. Of all
	// nodes one is told.
	Lost hook.Point[Passage]
	// Appeared tells of an available session of another node whose presence the users of this node may have missed: the
	// two nodes did not see each other when it was sent.
	Appeared hook.Point[Passage]
	// Crossed tells of an available session of this node and one of another that do not know of each other: they became
	// available at the same moment, so that neither node knew the other's session when it told of its own.
	Crossed hook.Point[Passage]
	// Settle has features commit what they hold of an account: another node reads it next.
	Settle hook.Point[AccountEvent]
	// Deleted tells of an account that is being deleted, before it is gone.
	Deleted hook.Point[AccountEvent]
	// Features adds stream features (RFC 6120 §4.3.2).
	Features hook.Point[FeatureEvent]
	// Bind has features begin what a client asks for while it is bound (XEP-0386 §3.2): in order of stages, so that what
	// is told of the archive (Record) is told once the client gets what comes later (Amend).
	Bind hook.Point[BindEvent]
	// LogIn tells of a client that has proven to be the holder of an account, before it
	// is told so itself.
	LogIn hook.Point[LogInEvent]
	// Share decides whether an account shows a contact what it shares with contacts, such
	// as presence, where no client sends the stanza. hook.ErrHandled: it does not.
	Share hook.Point[ShareEvent]
	// Info collects what is told about an entity or one of its nodes (XEP-0030 §3.1).
	Info hook.Point[InfoEvent]
	// Items collects what belongs to an entity or one of its nodes (XEP-0030 §4.1).
	Items hook.Point[ItemsEvent]

	quick []QuickFunc
}

// Readiness is how far the handlers of a feature can deal with a message of one
// sender and recipient from memory.
type Readiness uint8

// From the least ready to the most.
const (
	Wait  Readiness = iota // they may have to read from storage: a worker routes the message
	Ready                  // all that they need is in memory
	Idle                   // they have nothing to do; Passage.Idle reminds them
)

// QuickFunc tells how ready the handlers of a feature are.
type QuickFunc func(from, to jid.JID) Readiness

// AddQuick registers a condition for routing without a worker. It is for features
// whose handlers see every message and may have to read from storage.
func (h *Hooks) AddQuick(fn QuickFunc) { h.quick = append(h.quick, fn) }

// Quick is the readiness of the least ready feature.
func (h *Hooks) Quick(from, to jid.JID) Readiness {
	least := Idle
	for _, fn := range h.quick {
		if least = min(least, fn(from, to)); least == Wait {
			break
		}
	}
	return least
}

// Passage is a stanza on its way, or an event of a session. Handlers do not keep it.
type Passage struct {
	Session *session.Session // the sender's, or the one the event is about; nil when it is not of this server
	Stanza  *stanza.Stanza   // handlers of stages Amend and Record may replace it; nil for events
	Kept    string           // id in the archive of the account whose hooks these are (XEP-0313 §3.5); empty when it is not there
	Idle    bool             // every QuickFunc has said Idle for this message
	Here    bool             // of Lost: only the users of this node are to be told
	Other   *session.Session // of Crossed: the one of another node
}

// BounceEvent is a stanza that came back.
type BounceEvent struct {
	Session *session.Session // the sender's
	Stanza  *stanza.Stanza   // as it was sent
	Reply   *stanza.Stanza   // the error
}

// AccountEvent is about one account.
type AccountEvent struct{ Account jid.JID }

// FeatureEvent collects what <stream:features/> offers.
type FeatureEvent struct {
	Stranger      Stranger
	Authenticated bool
	Add           []xml.Element
	Inline        []string // before authentication, and always the same: what a client may ask for while it is bound (XEP-0386 §3.1)
}

// BindEvent is a client that is bound together with its log-in, and has not been told yet (XEP-0386).
type BindEvent struct {
	Session *session.Session
	Request *xml.Element  // <bind/>
	Add     []xml.Element // to <bound/>
}

// LogInEvent is a proven identity.
type LogInEvent struct {
	Account   jid.JID // bare
	Anonymous bool    // exists only as long as its session (XEP-0175)
	Addr      netip.Addr
	Mechanism string
}

// ShareEvent is about what Owner shows to Contact.
type ShareEvent struct{ Owner, Contact jid.JID }

// InfoEvent collects the answer to a disco#info request (XEP-0030 §3.1). Whoever knows
// the node says so and adds to the answer; an entity itself, whose node is empty, is
// known already.
type InfoEvent struct {
	Target     Target
	Asker      jid.JID
	Entity     jid.JID // the domain, or the bare JID of the account, that is asked about
	Node       string
	Known      bool
	Identities []xml.Element
	Features   []string
	Forms      []xml.Element // XEP-0128 §2
}

// ItemsEvent collects the answer to a disco#items request (XEP-0030 §4.1), likewise.
type ItemsEvent struct {
	Target Target
	Asker  jid.JID
	Entity jid.JID
	Node   string
	Known  bool
	Items  []xml.Element
}
