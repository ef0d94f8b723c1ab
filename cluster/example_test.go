package cluster_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/starling-im/starling/cluster"
)

// quiet is a node that stands alone and logs nothing.
func quiet(name string) *cluster.Node {
	n, err := cluster.Start(context.Background(), cluster.Config{Name: name, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return n
}

// pair is two members of a cluster that see each other. What they send is encrypted, with keys that derive from the
// token; in earnest they run on two machines, and the token comes from a file.
func pair() (one, two *cluster.Node) {
	token, ctx := cluster.NewToken(), context.Background()
	start := func(name string, peers ...string) (*cluster.Node, *cluster.Subscription[cluster.Event]) {
		n, err := cluster.Start(ctx, cluster.Config{
			Name: name, Cluster: "example", Token: token, Listen: "127.0.0.1:0", Peers: peers, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			panic(err)
		}
		events := n.Events(64)
		if err := n.Join(ctx); err != nil { // waits until the tables of the others are here
			panic(err)
		}
		return n, events
	}
	one, events := start("one")
	defer events.Close()
	two, more := start("two", one.Self().Address)
	defer more.Close()
	for len(one.Members()) < 2 {
		<-events.C
	}
	for len(two.Members()) < 2 {
		<-more.C
	}
	return one, two
}

// A node works alone until it joins.
func ExampleStart() {
	ctx := context.Background()
	n, err := cluster.Start(ctx, cluster.Config{
		Name:    "one",
		Cluster: "example",
		Token:   cluster.NewToken(), // the same on all nodes
		Listen:  "127.0.0.1:0",
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	defer n.Close()
	fmt.Println(n.State())
	if err := n.Join(ctx); err != nil {
		panic(err)
	}
	fmt.Println(n.State(), len(n.Members()), n.Senior().Name)
	// Output:
	// standalone
	// ready 1 one
}

func ExampleTable() {
	n := quiet("one")
	defer n.Close()
	users := cluster.NewTable(n, "users", cluster.JSON[map[string]int](), cluster.Indexed(func(key string, _ map[string]int) []string {
		account, _, _ := strings.Cut(key, "/")
		return []string{account}
	}))
	_ = users.Put("juliet/balcony", map[string]int{"priority": 5})
	_ = users.Put("juliet/chamber", map[string]int{"priority": 1})
	v, _, ok := users.Get("juliet/balcony")
	fmt.Println(v["priority"], ok, len(users.Lookup("juliet")))
	// Output: 5 true 2
}

func ExampleTable_Watch() {
	n := quiet("one")
	defer n.Close()
	t := cluster.NewTable(n, "settings", cluster.Text())
	changes := t.Watch(16)
	defer changes.Close()
	_ = t.Put("log", "debug")
	c := <-changes.C
	fmt.Println(c.Key, c.New.Value)
	// Output: log debug
}

func ExampleTopic() {
	n := quiet("one")
	defer n.Close()
	topic := cluster.NewTopic(n, "roster changed", cluster.Text())
	done := make(chan bool)
	cancel := topic.Subscribe(func(from cluster.Member, user string) {
		fmt.Println("forget", user)
		close(done)
	}, func() {
		fmt.Println("forget everything")
	})
	defer cancel()
	_ = topic.Publish("juliet")
	<-done
	// Output: forget juliet
}

func ExampleTask() {
	n := quiet("one")
	defer n.Close()
	greet := cluster.NewTask(n, "greet", cluster.Text(), cluster.Text(), func(_ context.Context, from cluster.Member, name string) (string, error) {
		return "hello " + name + ", says " + from.Name, nil
	})
	for _, r := range greet.CallAll(context.Background(), "world") {
		fmt.Println(r.Member.Name, r.Value, r.Err)
	}
	// Output: one hello world, says one <nil>
}

func ExampleNode_Events() {
	n := quiet("one")
	events := n.Events(16)
	_ = n.Close()
	for e := range events.C {
		fmt.Println(e)
	}
	// Output: state changed: left (as asked)
}

func ExampleNode_Home() {
	n := quiet("one")
	defer n.Close()
	if n.Home("room@example.org").ID == n.Self().ID {
		fmt.Println("this node opens the room")
	}
	// Output: this node opens the room
}

// What a node wrote before it joined is there for the others, too.
func ExampleNode_Join() {
	one, two := pair()
	defer one.Close()
	defer two.Close()
	here, there := cluster.NewTable(one, "board", cluster.Text()), cluster.NewTable(two, "board", cluster.Text())
	changes := there.Watch(16)
	_ = here.Put("romeo", "in the orchard")
	c := <-changes.C
	owner, _ := two.Member(c.New.Owner)
	fmt.Println(c.Key, c.New.Value, "says", owner.Name)
	// Output: romeo in the orchard says one
}

// A node that leaves keeps its own rows, and goes on alone.
func ExampleNode_Leave() {
	one, two := pair()
	defer one.Close()
	defer two.Close()
	events := one.Events(64)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := two.Leave(ctx); err != nil {
		panic(err)
	}
	for e := range events.C {
		if e.Kind == cluster.MemberLeft {
			fmt.Println(e.Member.Name, "left:", e.Reason)
			break
		}
	}
	fmt.Println(two.State(), len(two.Members()))
	// Output:
	// two left: goodbye
	// standalone 1
}

// Records to one node arrive in the order sent. Those of which it is not known that they were applied when that node dies
// come back to the sender, which is free to give them to another node.
func ExampleChannel() {
	one, two := pair()
	defer one.Close()
	defer two.Close()
	done := make(chan bool)
	two.Channel("mail", func(from cluster.Member, record []byte) {
		fmt.Printf("%s from %s\n", record, from.Name)
		if string(record) == "third" {
			close(done)
		}
	}, nil)
	var again [][]byte
	mail := one.Channel("mail", nil, func(to cluster.Member, records [][]byte) {
		again = append(again, records...) // it went, and may have missed these
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // how long to wait while the window is full
	defer cancel()
	for _, record := range []string{"first", "second", "third"} {
		if err := mail.Send(ctx, two.Self().ID, []byte(record)); err != nil {
			panic(err)
		}
	}
	<-done
	// Output:
	// first from one
	// second from one
	// third from one
}

// A caller can tell a task that failed from one that the other node does not have, and from a node that is gone.
func ExampleTask_Call() {
	n := quiet("one")
	defer n.Close()
	divide := cluster.NewTask(n, "divide 100", cluster.JSON[int](), cluster.JSON[int](), func(_ context.Context, _ cluster.Member, by int) (int, error) {
		return 100 / by, nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	fmt.Println(divide.Call(ctx, n.Self().ID, 5))
	_, err := divide.Call(ctx, n.Self().ID, 0)
	if remote := new(cluster.RemoteError); errors.As(err, &remote) {
		fmt.Println(remote.Panicked, remote.Text)
	}
	_, err = divide.Call(ctx, "nobody", 5)
	fmt.Println(errors.Is(err, cluster.ErrGone))
	// Output:
	// 20 <nil>
	// true runtime error: integer divide by zero
	// true
}

// Rows of a node that died can wait for somebody to take over.
func ExampleResumable() {
	n := quiet("one")
	defer n.Close()
	sessions := cluster.NewTable(n, "sessions", cluster.Text(), cluster.Resumable(func(state string) time.Duration {
		if state == "may resume" {
			return time.Minute
		}
		return 0 // vanishes with its node
	}))
	_ = sessions.Put("juliet", "may resume")
	r, _ := sessions.Row("juliet")
	fmt.Println(r.Value, r.Orphan)
	// Output: may resume false
}

// point is a value with a codec of its own.
type point struct{ X, Y uint32 }

type points struct{}

func (points) Append(dst []byte, p point) ([]byte, error) {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, p.X), p.Y), nil
}

func (points) Decode(b []byte) (point, error) {
	if len(b) != 8 {
		return point{}, errors.New("a point has 8 bytes")
	}
	return point{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}

// A codec of one's own is smaller and faster than JSON.
func ExampleCodec() {
	n := quiet("one")
	defer n.Close()
	places := cluster.NewTable(n, "places", points{})
	_ = places.Put("well", point{3, 4})
	p, _, _ := places.Get("well")
	fmt.Println(p.X, p.Y)
	// Output: 3 4
}
