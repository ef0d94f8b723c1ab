package cluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

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
