package bus_test

import (
	"errors"
	"io"
	"testing"

	"github.com/starling-im/starling/cluster/internal/bus"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		name, pattern, subject string
		want                   bool
	}{
		{"equal", "a.b", "a.b", true},
		{"one token", "a", "a", true},
		{"star", "a.*.c", "a.b.c", true},
		{"star at the end", "a.*", "a.b", true},
		{"star is one token only", "a.*", "a.b.c", false},
		{"star is not nothing", "a.*", "a.", false},
		{"subject shorter", "a.b", "a", false},
		{"subject longer", "a", "a.b", false},
		{"other token", "a.b", "a.c", false},
		{"star in the subject is no wildcard", "a.b", "a.*", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := bus.Match(c.pattern, c.subject); got != c.want {
				t.Errorf("Match(%q, %q) = %v", c.pattern, c.subject, got)
			}
		})
	}
}

func TestToken(t *testing.T) {
	for s, want := range map[string]bool{"a": true, "a-1_z": true, "": false, "A": false, "a.b": false, "*": false, "ä": false} {
		if got := bus.Token(s); got != want {
			t.Errorf("Token(%q) = %v", s, got)
		}
	}
}

func TestFailure(t *testing.T) {
	var err error = &bus.Failure{Reason: "port in use", Remedy: "choose another", Err: io.EOF}
	if got := err.Error(); got != "port in use: choose another" {
		t.Errorf("Error() = %q", got)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is hidden")
	}
}
