package scenario_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/starling-im/starling/cluster"
)

// TestTaskFailsNowAndThen: callers see errors for the calls that failed and for no others, and each call is run once,
// though the callee joins and leaves another node meanwhile.
func TestTaskFailsNowAndThen(t *testing.T) {
	t.Parallel()
	const callers, calls = 5, 100
	w := newWorld(t, "a", "b", "c")
	ns := w.join("a", "b")
	a, b, c := ns[0], ns[1], w.start("c")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	for k := range callers {
		all.Go(func() {
			for i := range calls {
				request := fmt.Sprint("call ", k, i)
				if (i*7+k)%3 == 0 {
					request = "fail " + request
				}
				var answer string
				err := a.Ask(ctx, "call", call{"greet", "b", request}, &answer)
				switch failing := strings.HasPrefix(request, "fail"); {
				case failing && (err == nil || !strings.Contains(err.Error(), request)):
					t.Errorf("%s: %q, %v", request, answer, err)
				case !failing && (err != nil || answer != "b greets a: "+request):
					t.Errorf("%s: %q, %v", request, answer, err)
				}
			}
		})
	}
	c.join()
	c.leave()
	all.Wait()
	if runs := b.view().Runs; runs != callers*calls {
		t.Errorf("%d calls were run %d times", callers*calls, runs)
	}
}

// TestNamesTwice: a table, topic, task or channel that there is already is refused, another name is not.
func TestNamesTwice(t *testing.T) {
	n, err := cluster.Start(t.Context(), cluster.Config{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	for what, make := range map[string]func(name string){
		"table":   func(name string) { cluster.NewTable(n, name, cluster.Text()) },
		"topic":   func(name string) { cluster.NewTopic(n, name, cluster.Text()) },
		"channel": func(name string) { n.Channel(name, nil, nil) },
		"task": func(name string) {
			cluster.NewTask(n, name, cluster.Text(), cluster.Text(), func(context.Context, cluster.Member, string) (string, error) { return "", nil })
		},
	} {
		refused := func(name string) (yes bool) {
			defer func() { yes = recover() != nil }()
			make(name)
			return false
		}
		if refused("x") || refused("y") || !refused("x") {
			t.Errorf("%s: not refused the second time only", what)
		}
	}
}
