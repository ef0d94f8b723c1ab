package cluster_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/starling-im/starling/cluster"
	"github.com/starling-im/starling/cluster/internal/mem"
)

// TestModel lets nodes write rows and send records while faults drawn at random befall them, heals everything, and
// holds the outcome against what the nodes did. SEED runs one schedule, SEEDS sets how many run.
func TestModel(t *testing.T) {
	first, count := 0, 40
	if testing.Short() || raced {
		count = 12
	}
	if v, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil {
		count = v
	}
	if v, err := strconv.Atoi(os.Getenv("SEED")); err == nil {
		first, count = v, 1
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			o := mem.Options{Seed: uint64(seed), Loss: rng.Float64() * 0.1, Duplicate: rng.Float64() * 0.1, MaxDelay: time.Duration(rng.IntN(30)) * time.Millisecond, Hints: rng.IntN(2) == 0}
			bubble(t, o, func(w *world) { (&model{w: w, rng: rng, loss: o}).run(t) })
		})
	}
}

// model is one schedule.
type model struct {
	w     *world
	rng   *rand.Rand
	loss  mem.Options
	actor []*actor
	work  sync.WaitGroup
	stop  chan struct{}
}

// actor is a node with what it did, and what it got.
type actor struct {
	*node
	chn  *cluster.Channel
	dead bool

	mu       sync.Mutex // guards what follows
	sent     uint64
	accepted map[string]map[uint64]bool // by receiver's id: record numbers that Send took
	got      map[string][]uint64        // by sender's id: what was applied
	back     map[string]map[uint64]bool // by receiver's id: handed back
}

func (m *model) start(name string) *actor {
	a := &actor{node: m.w.start(name), accepted: map[string]map[uint64]bool{}, got: map[string][]uint64{}, back: map[string]map[uint64]bool{}}
	a.chn = a.Channel("c", func(from cluster.Member, b []byte) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got[from.ID] = append(a.got[from.ID], binary.BigEndian.Uint64(b))
	}, func(to cluster.Member, records [][]byte) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, b := range records {
			mark(a.back, to.ID, binary.BigEndian.Uint64(b))
		}
	})
	go func() { _ = a.Join(context.Background()) }()
	m.actor = append(m.actor, a)
	return a
}

func mark(m map[string]map[uint64]bool, id string, n uint64) {
	if m[id] == nil {
		m[id] = map[uint64]bool{}
	}
	m[id][n] = true
}

// act writes and sends until the model stops.
func (m *model) act(a *actor, rng *rand.Rand) {
	for i := uint64(1); ; i++ {
		select {
		case <-m.stop:
			return
		case <-time.After(time.Duration(rng.IntN(60)) * time.Millisecond):
		}
		key := fmt.Sprintf("%s/%d", a.name, rng.IntN(20))
		if rng.IntN(3) == 0 {
			a.rows.Delete(key)
		} else {
			_ = a.rows.Put(key, fmt.Sprint([]string{"v", "keep"}[rng.IntN(2)], i))
		}
		for _, to := range a.Members() {
			if to.ID == a.Self().ID {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			body := binary.BigEndian.AppendUint64(nil, i)
			a.mu.Lock() // a hand-back must not come before the record is noted
			mark(a.accepted, to.ID, i)
			a.mu.Unlock()
			if err := a.chn.Send(ctx, to.ID, append(body, make([]byte, rng.IntN(500))...)); err != nil {
				a.mu.Lock()
				delete(a.accepted[to.ID], i)
				a.mu.Unlock()
			}
			cancel()
		}
	}
}

func (m *model) begin(a *actor) {
	rng := rand.New(rand.NewPCG(m.rng.Uint64(), 2))
	m.work.Go(func() { m.act(a, rng) })
}

func (m *model) pick() *actor {
	for {
		if a := m.actor[m.rng.IntN(len(m.actor))]; !a.dead {
			return a
		}
	}
}

func (m *model) living() (list []*actor) {
	for _, a := range m.actor {
		if !a.dead {
			list = append(list, a)
		}
	}
	return list
}

// fault lets something go wrong, for a while.
func (m *model) fault() {
	a, b := m.pick(), m.pick()
	d := time.Duration(m.rng.IntN(6000)) * time.Millisecond
	switch m.rng.IntN(7) {
	case 0: // a side of the cluster is cut off
		var left, right []string
		for _, x := range m.living() {
			if m.rng.IntN(2) == 0 {
				left = append(left, x.name)
			} else {
				right = append(right, x.name)
			}
		}
		m.w.e.Partition(left, right)
	case 1:
		if a != b {
			m.w.e.Cut(a.name, b.name)
		}
	case 2:
		if a != b {
			m.w.e.Hold(a.name, b.name)
		}
	case 3:
		m.w.e.Pause(a.name)
	case 4: // killed, and started anew, maybe at once
		m.w.kill(a.name)
		a.dead = true
		m.w.pass(time.Duration(m.rng.IntN(4000)) * time.Millisecond)
		m.begin(m.start(a.name))
	case 5: // left, and joined again
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = a.Leave(ctx)
		cancel()
		m.w.pass(d)
		go func() { _ = a.Join(context.Background()) }()
	case 6:
		m.w.e.Set(mem.Options{Loss: 0.3, Duplicate: 0.2, MaxDelay: 50 * time.Millisecond, Hints: m.loss.Hints})
	}
	m.w.pass(d)
	m.w.e.Resume(a.name)
	m.w.e.HealAll()
	m.w.e.Set(m.loss)
	m.w.pass(time.Duration(m.rng.IntN(4000)) * time.Millisecond)
}

func (m *model) run(t *testing.T) {
	m.stop = make(chan struct{})
	for _, name := range []string{"a", "b", "c", "d"}[:2+m.rng.IntN(3)] {
		m.begin(m.start(name))
	}
	m.w.pass(2 * time.Second)
	for range 6 {
		m.fault()
	}
	close(m.stop)
	m.work.Wait()
	m.w.e.Set(mem.Options{MaxDelay: m.loss.MaxDelay, Hints: m.loss.Hints})
	alive := m.living()
	var nodes []*node
	for _, a := range alive {
		nodes = append(nodes, a.node)
	}
	took := m.w.until("healed", func() bool {
		for _, n := range nodes {
			if n.State() != cluster.Ready || len(n.Members()) != len(nodes) || n.Senior().ID != nodes[0].Senior().ID {
				return false
			}
			for _, p := range n.Status().Peers {
				if p.Stanza.Unacked > 0 {
					return false
				}
			}
		}
		return equal(nodes...)
	})
	took += m.w.until("all have the same orphans", func() bool { return same(nodes...) })
	if took > 20*time.Second { // orphans live longer; a lost answer is asked for again after 8 s
		t.Errorf("healing took %v", took)
	}
	m.w.pass(31 * time.Second) // until the last ones have expired
	m.checkRows(t, alive)
	for _, from := range alive {
		for _, to := range alive {
			if from != to {
				checkRecords(t, from, to)
			}
		}
	}
}

// checkRows: every node sees what each living one says that it has, and nothing else.
func (m *model) checkRows(t *testing.T, alive []*actor) {
	t.Helper()
	want := map[string]string{}
	for _, a := range alive {
		for r := range a.rows.Owned() {
			want[r.Key] = r.Value
		}
	}
	for _, a := range alive {
		got := a.content()
		for key, v := range want {
			if got[key] != v {
				t.Errorf("%s sees %s = %q, want %q", a.name, key, got[key], v)
			}
		}
		for key := range got {
			if _, ok := want[key]; !ok {
				t.Errorf("%s sees %s, which nobody has", a.name, key)
			}
		}
	}
}

// checkRecords: records arrive in the order sent, none twice, and each that was accepted arrived or came back.
func checkRecords(t *testing.T, from, to *actor) {
	t.Helper()
	to.mu.Lock()
	got := to.got[from.Self().ID]
	to.mu.Unlock()
	seen := map[uint64]bool{}
	last := uint64(0)
	for _, n := range got {
		if n <= last {
			t.Errorf("%s got %d of %s after %d", to.name, n, from.name, last)
		}
		last = n
		seen[n] = true
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	for n := range from.accepted[to.Self().ID] {
		if !seen[n] && !from.back[to.Self().ID][n] {
			t.Errorf("record %d from %s to %s is lost", n, from.name, to.name)
		}
	}
}
