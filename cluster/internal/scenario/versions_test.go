package scenario_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// laterTask is a task that only the build for the next version knows.
const laterTask = "later"

// nextBuild builds this test as the next version would be: with the build tag wirenext.
func nextBuild(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "next")
	args := []string{"test", "-c", "-tags=wirenext", "-o", path}
	if raced {
		args = append(args, "-race")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("build the next version: %v\n%s", err, out)
	}
	return path
}

// TestVersions upgrades a cluster of three from this version to the next, node by node, and back again. At each step
// rows, records and calls pass between all, whichever is the newer one, and a task that only the newer ones know is
// unknown to the older ones.
func TestVersions(t *testing.T) {
	t.Parallel()
	binaries := [2]string{os.Args[0], nextBuild(t)}
	w := newWorld(t, "a", "b", "c")
	ns := w.join("a", "b", "c")
	build := [3]int{}
	check := func() {
		t.Helper()
		t.Logf("builds %v", build)
		for _, n := range ns {
			n.put(n.name, fmt.Sprint(build))
		}
		w.whole(ns...)
		for i, n := range ns {
			if got := n.content(); len(got) != 3 || slices.ContainsFunc(slices.Collect(maps.Values(got)), func(v string) bool { return v != fmt.Sprint(build) }) {
				t.Errorf("builds %v: %s has the rows %v", build, n.name, got)
			}
			for k, o := range ns {
				w.talk(n, o, build[k] == 1)
				if v := n.view(); v.Malformed > 0 || v.Repairs > 0 {
					t.Errorf("builds %v: %s could not read %d messages, repaired %d times", build, n.name, v.Malformed, v.Repairs)
				}
				if m := n.view().Members; k < len(m) {
					for _, p := range m {
						if want := uint8(1 + build[slices.IndexFunc(ns, func(x *node) bool { return x.name == p.Name })]); p.Versions[1] != want {
							t.Errorf("builds %v: %s sees %s speak version %d, want %d", build, n.name, p.Name, p.Versions[1], want)
						}
					}
				}
			}
			if i > 0 && n.count(0, "member died", ns[0].name) > 0 {
				t.Errorf("builds %v: %s was taken for dead:\n%s", build, ns[0].name, n.tale())
			}
		}
	}
	check()
	for _, to := range []int{1, 0} {
		for i, n := range ns {
			n.ask("close", struct{}{}, nil)
			n.Kill()
			w.binary, build[i] = binaries[to], to
			ns[i] = w.start(n.name)
			w.joinAll(ns)
			check()
		}
	}
}

// talk lets one node send records to another one and call it.
func (w *world) talk(from, to *node, newer bool) {
	w.t.Helper()
	const count = 200
	if from != to {
		before := len(to.applied(from.name))
		from.ask("send", parcel{To: to.name, Count: count, Size: 1000}, nil)
		w.until("records are applied", func() bool { return len(to.applied(from.name)) == before+count })
	}
	var answer string
	if from.ask("call", call{"greet", to.name, "hi"}, &answer); answer != to.name+" greets "+from.name+": hi" {
		w.t.Errorf("%s calls %s: %q", from.name, to.name, answer)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	err := from.Ask(ctx, "call", call{laterTask, to.name, "hi"}, &answer)
	switch {
	case newer && (err != nil || answer != "later, "+from.name+": hi"):
		w.t.Errorf("%s calls the newer %s: %q, %v", from.name, to.name, answer, err)
	case !newer && (err == nil || err.Error() != unknownTask):
		w.t.Errorf("%s calls the older %s: %q, %v", from.name, to.name, answer, err)
	}
}
