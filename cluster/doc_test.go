package cluster

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// internals is the page about this package.
const internals = "../doc/cluster-internals.md"

// TestMetricsAreDocumented: the page lists exactly the metrics that there are.
func TestMetricsAreDocumented(t *testing.T) {
	var want strings.Builder
	line := func(name, labels, help string) {
		fmt.Fprintf(&want, "| `cluster_%s` | %s | %s |\n", name, labels, help)
	}
	for _, v := range values {
		line(v.name, strings.Join(v.labels, ", "), v.help)
	}
	line("task_call_seconds", "task, outcome", "Time that calls of tasks took, by how they ended.")
	line("task_run_seconds", "task", "Time that tasks ran on this node.")
	page, err := os.ReadFile(internals)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), want.String()) || strings.Count(string(page), "| `cluster_") != strings.Count(want.String(), "\n") {
		t.Errorf("the table of metrics in %s should be:\n%s", internals, want.String())
	}
}

// TestInternalsAreThere: the files and tests that the page names exist.
func TestInternalsAreThere(t *testing.T) {
	page, err := os.ReadFile(internals)
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	err = fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(name)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, matrix, _ := strings.Cut(string(page), "## What the old systems had")
	for _, m := range regexp.MustCompile("`(Test\\w+|course)`").FindAllStringSubmatch(matrix, -1) {
		if !strings.Contains(tests.String(), "func "+m[1]+"(") {
			t.Errorf("no test %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`"([a-z][^"]+)"`).FindAllStringSubmatch(matrix, -1) {
		if !strings.Contains(tests.String(), "{\""+m[1]+"\", ") {
			t.Errorf("no behaviour %q", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`([a-z_/]+\\.go|internal/[a-z]+)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Errorf("no file %s", m[1])
		}
	}
}
