package settings_test

import (
	"errors"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/settings"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/store/storetest"
)

func TestSettings(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		if err := db.Migrate(t.Context(), settings.Migrations()); err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		s := settings.New(db, func() time.Time { return now })
		want := func(step, node, decidedFor, value string) {
			t.Helper()
			d, err := s.Lookup(t.Context(), node, "cluster.enabled")
			if value == "" {
				if !errors.Is(err, store.ErrNotFound) {
					t.Errorf("%s: %s has %+v, %v", step, node, d, err)
				}
				return
			}
			if err != nil || d.Node != decidedFor || d.Value != value || !d.Changed.Equal(now) {
				t.Errorf("%s: %s has %+v, %v; want %q of %q", step, node, d, err, value, decidedFor)
			}
		}
		decide := func(node, value string) {
			t.Helper()
			now = now.Add(time.Minute)
			if err := s.Decide(t.Context(), node, "cluster.enabled", value); err != nil {
				t.Fatal(err)
			}
		}
		want("at first", "a", "", "")
		decide("a", "off")
		want("for one", "a", "a", "off")
		want("for one", "b", "", "")
		decide("a", "on")
		want("changed", "a", "a", "on")
		decide(settings.AllNodes, "off")
		want("for all", "a", "", "off")
		want("for all", "b", "", "off")
		decide("b", "on")
		want("one of them otherwise", "b", "b", "on")
		if err := s.Decide(t.Context(), "b", "other", "x"); err != nil {
			t.Fatal(err)
		}
		decide(settings.AllNodes, "on")
		want("for all again", "b", "", "on")
		if d, err := s.Lookup(t.Context(), "b", "other"); err != nil || d.Value != "x" {
			t.Errorf("another setting: %+v, %v", d, err)
		}
	})
}
