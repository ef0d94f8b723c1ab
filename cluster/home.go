package cluster

import "github.com/starling-im/starling/cluster/internal/journal"

// Home returns the member that is responsible for a key, by this node's view: the ready member that ranks first for
// the key. When members come or go, only the keys change home that must. Views differ for a while after such a change,
// and in a partition: what must have one home at a time says so in a row of a table.
func (n *Node) Home(key string) Member { return home(n.view.Load().ready, key, 1)[0] }

// Homes returns the first members of the ranking for a key, at most count: the home, and who would follow it.
func (n *Node) Homes(key string, count int) []Member {
	return home(n.view.Load().ready, key, count)
}

// home ranks by rendezvous hashing. Without ready members it returns a zero one.
func home(ready []Member, key string, count int) []Member {
	if len(ready) == 0 {
		return []Member{{}}
	}
	type ranked struct {
		m Member
		h uint64
	}
	best := make([]ranked, 0, count+1)
	for _, m := range ready {
		r := ranked{m, journal.Sum(m.ID, key, 0, nil)}
		i := len(best)
		best = append(best, r)
		for ; i > 0 && (best[i-1].h < r.h || best[i-1].h == r.h && best[i-1].m.ID > m.ID); i-- {
			best[i] = best[i-1]
		}
		best[i] = r
		best = best[:min(len(best), max(count, 1))]
	}
	out := make([]Member, len(best))
	for i, r := range best {
		out[i] = r.m
	}
	return out
}
