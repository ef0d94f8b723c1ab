package membership

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/internal/store"
)

// All nodes of a cluster must work on one database. A node writes a random text into its own before it joins, and asks
// those that were members before whether they can read it. Where that fails it is the node that came later which goes:
// the others are a server already.

const proofTime = 3 * time.Second // in which a member should answer

// proof is what a node shows of its database.
type proof struct {
	Node string `json:"node"`
	Text string `json:"text"`
}

// verdict is what a member says to it.
type verdict struct {
	Same   bool   `json:"same"`           // it can read the proof
	SQLite bool   `json:"sqlite"`         // its database is a file
	Boot   string `json:"boot,omitempty"` // of its machine; empty where that is not known
}

// bootID names this start of this machine's kernel: what runs under another one must not open the same SQLite file,
// which it could reach by a network file system only. It is the same in all containers of a machine.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// unshareable says why no cluster can stand on this database; nil if one can.
func (m *Membership) unshareable() *cluster.Failure {
	return Unshareable(m.o.DB.Dialect(), m.o.Config.AllowSharedSQLite)
}

// Unshareable says why no cluster can stand on a database of this kind; nil if one can.
func Unshareable(d store.Dialect, allowSQLite bool) *cluster.Failure {
	if d != store.SQLite || allowSQLite {
		return nil
	}
	return &cluster.Failure{
		Reason: "the database is an SQLite file, which the nodes of a cluster cannot share",
		Remedy: "give all nodes the same PostgreSQL with database.url, or, to try a cluster out with all nodes on one machine, " +
			"the same file and cluster.allow_shared_sqlite (--allow-shared-sqlite)",
	}
}

// prove writes a fresh proof into the database.
func (m *Membership) prove(ctx context.Context) error {
	m.mu.Lock()
	m.secret = rand.Text()
	text := m.secret
	m.mu.Unlock()
	clear(m.verified)
	err := m.o.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO nodes (node, proof, proved_at) VALUES ($1, $2, $3)
			ON CONFLICT (node) DO UPDATE SET proof = excluded.proof, proved_at = excluded.proved_at`, m.Name(), text, store.Micros(m.o.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("write into the database that this node uses it: %w", err)
	}
	return nil
}

// judge tells another node whether its proof is in this node's database.
func (m *Membership) judge(ctx context.Context, _ cluster.Member, p proof) (verdict, error) {
	v := verdict{SQLite: m.o.DB.Dialect() == store.SQLite, Boot: m.boot}
	var text string
	err := m.o.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT proof FROM nodes WHERE node = $1`, p.Node).Scan(&text)
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return v, fmt.Errorf("look for the proof of %s: %w", p.Node, err)
	}
	v.Same = err == nil && text == p.Text
	return v, nil
}

// verify shows the proof to all members that were there before and have not seen it. Who does not answer is asked again
// later.
func (m *Membership) verify(ctx context.Context) error {
	m.mu.Lock()
	p := proof{Node: m.Name(), Text: m.secret}
	m.mu.Unlock()
	self, members := m.node.Self(), m.node.Members()
	verdicts := make([]*verdict, len(members))
	m.unverified = false
	asked := 0 // and not answered
	var wg sync.WaitGroup
	for i, other := range members {
		if other.ID == self.ID || m.verified[other.ID] == other.Incarnation {
			continue
		}
		first, known := m.before(other.ID, self.ID)
		if !known || !first {
			m.unverified = m.unverified || !known
			continue
		}
		asked++
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, proofTime)
			defer cancel()
			v, err := m.shared.Call(ctx, other.ID, p)
			if err != nil {
				m.o.Log.Debug("a member has not said yet whether it works on the same database", slog.String("member", other.Name), slog.Any("err", err))
				return
			}
			verdicts[i] = &v
		})
	}
	wg.Wait()
	for i, v := range verdicts {
		if v == nil {
			continue
		}
		asked--
		if f := m.refused(members[i].Name, v); f != nil {
			return m.fail(ctx, f)
		}
		m.verified[members[i].ID] = members[i].Incarnation
	}
	m.unverified = m.unverified || asked > 0
	return nil
}

// before tells whether a member began to join before another one. It is not known as long as its row is not here.
func (m *Membership) before(id, other string) (first, known bool) {
	a, _, known := m.nodes.Get(id)
	b, _, _ := m.nodes.Get(other)
	return a.Joined < b.Joined || a.Joined == b.Joined && id < other, known
}

// refused says why this node cannot be in one cluster with a member; nil if it can.
func (m *Membership) refused(member string, v *verdict) *cluster.Failure {
	switch {
	case !v.Same:
		return &cluster.Failure{
			Reason: fmt.Sprintf("node %s works on another database", member),
			Remedy: "give all nodes of the cluster the same database.url, and join again",
		}
	case v.SQLite && v.Boot != m.boot:
		return &cluster.Failure{
			Reason: fmt.Sprintf("node %s works on the same SQLite file from another machine, which damages it", member),
			Remedy: "run all nodes on one machine, or give them the same PostgreSQL with database.url",
		}
	}
	return nil
}
