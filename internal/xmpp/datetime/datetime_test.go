package datetime_test

import (
	"errors"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/xmpp/datetime"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"UTC", "1969-07-21T02:56:15Z", "1969-07-21T02:56:15.000Z"},
		{"Houston", "1969-07-20T21:56:15-05:00", "1969-07-21T02:56:15.000Z"},
		{"east of Greenwich", "2024-03-01T00:30:00+05:30", "2024-02-29T19:00:00.000Z"},
		{"fractions", "2024-03-01T00:30:00.123456789Z", "2024-03-01T00:30:00.123Z"},
		{"many digits", "2024-03-01T00:30:00.1234567890123Z", "2024-03-01T00:30:00.123Z"},
		{"no time zone", "1969-07-21T02:56:15", ""},
		{"only a date", "1776-07-04", ""},
		{"legacy", "20020910T17:58:35", ""},
		{"comma", "1969-07-21T02:56:15,5Z", ""},
		{"short hour", "1969-07-21T2:56:15.1Z", ""},
		{"no such day", "2023-02-29T00:00:00Z", ""},
		{"space", "1969-07-21 02:56:15Z", ""},
		{"small letters", "1969-07-21t02:56:15z", ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := datetime.Parse(c.in)
			if c.want == "" {
				if !errors.Is(err, datetime.ErrInvalid) {
					t.Fatalf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || datetime.Format(got) != c.want {
				t.Errorf("got %v, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestFormat(t *testing.T) {
	at := time.Date(2024, 3, 1, 12, 0, 5, 678e6, time.FixedZone("", 3600))
	if got, want := datetime.Format(at), "2024-03-01T11:00:05.678Z"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := datetime.FormatSeconds(at), "2024-03-01T11:00:05Z"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1969-07-21T02:56:15Z")
	f.Add("1969-07-20T21:56:15.5-05:00")
	f.Fuzz(func(t *testing.T, s string) {
		at, err := datetime.Parse(s)
		if err != nil || at.Year() < 0 || at.Year() > 9999 {
			return
		}
		again, err := datetime.Parse(datetime.Format(at))
		if err != nil || !again.Equal(at.Truncate(time.Millisecond)) {
			t.Errorf("%q: %v became %v, %v", s, at, again, err)
		}
	})
}
