package load

import (
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Microsecond)
	}
	q := h.quantiles()
	for _, c := range []struct {
		name      string
		got, want float64
	}{{"p50", q.P50, 500}, {"p90", q.P90, 900}, {"p99", q.P99, 990}, {"p99.9", q.P999, 999}, {"max", q.Max, 1000}} {
		if math.Abs(c.got-c.want) > c.want/64 {
			t.Errorf("%s is %.1f µs, want %.0f", c.name, c.got, c.want)
		}
	}
	if q.Count != 1000 {
		t.Errorf("count %d", q.Count)
	}
}

// TestBuckets goes through the numbers in which a bucket could end: each belongs to the bucket that claims it.
func TestBuckets(t *testing.T) {
	for shift := range 62 {
		for _, n := range []uint64{1 << shift, 1<<shift - 1, 1<<shift + 1, 3 << shift} {
			i := bucket(n)
			if n > upper(i) || i > 0 && n <= upper(i-1) {
				t.Errorf("%d is in bucket %d, which ends at %d after one that ends at %d", n, i, upper(i), upper(i-1))
			}
		}
	}
}

func TestProcesses(t *testing.T) {
	pid := os.Getpid()
	child := exec.Command("sh", "-c", "read line; exit") // a shell that waits to be told
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	all, err := tree(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, found := all[child.Process.Pid]; !found {
		t.Errorf("process %d is not found below %d", child.Process.Pid, pid)
	}
	memory, err := residentMemory([]int{pid})
	if err != nil || memory < 1<<20 {
		t.Errorf("%d bytes of memory, %v", memory, err)
	}
	before, err := usedBy([]int{pid})
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 10*tick; { // busy until some ticks have passed
		_ = strings.Repeat("x", 1000)
	}
	after, err := usedBy([]int{pid, child.Process.Pid, pid})
	if used := after.minus(before); err != nil || used.user+used.system <= 0 {
		t.Errorf("no processor time was used: %v, %v", used, err)
	}
	if _, err := usedBy([]int{pid, -1}); err == nil {
		t.Error("processor time of no process")
	}
}

// TestPartnersApart: the two of each pair are on different nodes, and all nodes have sessions.
func TestPartnersApart(t *testing.T) {
	for _, nodes := range []int{2, 3, 4, 5} {
		c := Config{Addrs: strings.Split("abcde", "")[:nodes]}
		seen := map[string]bool{}
		for n := range 20 {
			seen[c.addr(n)] = true
			if c.addr(n) == c.addr(n^1) {
				t.Errorf("%d nodes: sessions %d and %d are both on %s", nodes, n, n^1, c.addr(n))
			}
		}
		if len(seen) != nodes {
			t.Errorf("of %d nodes only %v have sessions", nodes, seen)
		}
	}
}
