package topic

import (
	"maps"
	"testing"
)

// TestStats: what was said, heard and not handled yet can be read, and a message is at no moment heard but neither
// waiting nor handled.
func TestStats(t *testing.T) {
	var set Set[string]
	a := set.Add("a")
	handling, proceed := make(chan string), make(chan struct{})
	l, cancel := a.Subscribe(func(from string, body []byte) {
		handling <- from + ":" + string(body)
		<-proceed
	}, nil)
	check := func(published uint64, heard map[string]uint64, waiting int) {
		t.Helper()
		all := set.Stats()
		if len(all) != 1 || all[0].Name != "a" || all[0].Published != published || !maps.Equal(all[0].Heard, heard) || all[0].Waiting != waiting {
			t.Errorf("got %+v; awaited %d published, %v heard, %d waiting", all, published, heard, waiting)
		}
	}
	check(0, nil, 0)
	a.Receive("x", 1, 1, "X", []byte("one"))
	a.Receive("x", 1, 1, "X", []byte("doubled"))
	check(0, map[string]uint64{"x": 1}, 1)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(done)
	}()
	if got := <-handling; got != "X:one" {
		t.Errorf("got %s", got)
	}
	check(0, map[string]uint64{"x": 1}, 1)
	if err := a.Publish("me", []byte("two"), func(uint64) error { return nil }); err != nil {
		t.Fatal(err)
	}
	check(1, map[string]uint64{"x": 1}, 2)
	proceed <- struct{}{}
	if got := <-handling; got != "me:two" {
		t.Errorf("got %s", got)
	}
	check(1, map[string]uint64{"x": 1}, 1)
	cancel()
	proceed <- struct{}{}
	close(done)
	<-ended
	check(1, map[string]uint64{"x": 1}, 0)
}
