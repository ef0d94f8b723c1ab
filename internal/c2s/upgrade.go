package c2s

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/sasl"
	"github.com/starling-im/starling/internal/xmpp/stream"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Namespaces of upgrades (XEP-0480).
const (
	nsUpgrade      = "urn:xmpp:sasl:upgrade:0"
	nsScramUpgrade = "urn:xmpp:scram-upgrade:0"
	taskPrefix     = "UPGR-"
)

// upgrade is a task in which a client gives the server the keys of its password for another hash function (XEP-0480 §3).
type upgrade struct {
	hash  sasl.Hash
	salt  []byte
	count int // of iterations
}

// upgrades are those that are offered: to all clients alike, so that they say nothing of an account. Choice: not to SHA-1,
// which is no step up.
func (c *conn) upgrades() []sasl.Hash {
	var all []sasl.Hash
	for _, h := range []sasl.Hash{sasl.SHA512, sasl.SHA256} {
		if slices.Contains(c.talks.offered, h.Name()) || slices.Contains(c.talks.offered, h.Name()+sasl.PlusSuffix) {
			all = append(all, h)
		}
	}
	return all
}

// requestedUpgrades are those that <authenticate/> asks for (XEP-0480 §2.2).
func requestedUpgrades(e *xml.Element) []sasl.Hash {
	var all []sasl.Hash
	for child := range e.Elements() {
		if child.Space != nsUpgrade || child.Local != "upgrade" {
			continue
		}
		name, ok := strings.CutPrefix(child.Text(), taskPrefix)
		if h, plus, known := sasl.ParseScram(name); ok && known && !plus && !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return all
}

// planUpgrades finds out which of the upgrades that a client asks for its account needs. Passwords that are set here have
// the keys of all hash functions, so these are accounts that came from elsewhere. Only who has proven to know the password
// may say what its keys are: not who has a token, or a certificate.
func (c *conn) planUpgrades() {
	w := c.talks.wants
	if _, _, scram := sasl.ParseScram(c.talks.mechanism); !scram || len(w.requested) == 0 {
		return
	}
	missing := c.talks.attempt.Missing()
	for _, h := range w.requested {
		if slices.Contains(missing, h) && slices.Contains(c.upgrades(), h) {
			w.tasks = append(w.tasks, h)
		}
	}
}

// nextTask has the client begin the next task (XEP-0388 §2.6.3). out are the data of the mechanism, with the first.
func (c *conn) nextTask(out []byte) {
	e := xml.New(nsSASL2, "continue")
	if out != nil {
		e = e.With(xml.New(nsSASL2, "additional-data").WithText(encode2(out)))
	}
	name := taskPrefix + c.talks.wants.tasks[0].Name()
	c.sendElement(e.With(xml.New(nsSASL2, "tasks").With(xml.New(nsSASL2, "task").WithText(name))))
}

// upgrade handles the client's part of a task: <next/>, then its keys in <task-data/>.
func (c *conn) upgrade(e *xml.Element) error {
	w := c.talks.wants
	switch {
	case w.pending.IsZero():
		return c.refuse(&sasl.Failure{Condition: sasl.MalformedRequest, Text: "no task is under way"})
	case e.Local == "next" && w.task == nil && e.Attr("task") == taskPrefix+w.tasks[0].Name():
		u := &upgrade{hash: w.tasks[0], salt: make([]byte, 16), count: c.srv.core.Accounts.Iterations()}
		_, _ = rand.Read(u.salt) // never fails
		w.task = u
		salt := xml.New(nsScramUpgrade, "salt", "iterations", strconv.Itoa(u.count)).WithText(sasl.Encode(u.salt))
		c.sendElement(xml.New(nsSASL2, "task-data").With(salt))
		return nil
	case e.Local == "task-data" && w.task != nil:
		salted, err := decode2(e.Child(nsScramUpgrade, "hash"))
		if err != nil || len(salted) != w.task.hash.Size() {
			return c.refuse(&sasl.Failure{Condition: sasl.MalformedRequest, Err: err})
		}
		c.async(func(ctx context.Context) error { return c.upgraded(ctx, salted) })
		return nil
	}
	return stream.Err(stream.PolicyViolation, "not what the task asks for") // XEP-0388 §2.4
}

// upgraded stores the keys, and goes on.
func (c *conn) upgraded(ctx context.Context, salted []byte) error {
	w := c.talks.wants
	u, user := w.task, w.pending
	keys := sasl.KeysOf(u.hash, salted, u.salt, u.count)
	if err := c.talks.attempt.AddKeys(ctx, user, u.hash, keys); err != nil {
		return c.refuse(err)
	}
	w.task, w.tasks = nil, w.tasks[1:]
	if len(w.tasks) > 0 {
		c.nextTask(nil)
		return nil
	}
	return c.succeed(ctx, user, nil)
}
