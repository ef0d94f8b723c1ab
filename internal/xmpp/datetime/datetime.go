// Package datetime writes and reads points in time as XMPP does (XEP-0082).
package datetime

import (
	"errors"
	"fmt"
	"time"
)

// ErrInvalid is wrapped by the errors of Parse.
var ErrInvalid = errors.New("not a date and time of XEP-0082")

// Format writes a point in time as a DateTime in UTC with milliseconds (XEP-0082 §3.2, §6).
func Format(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// FormatSeconds is Format without fractions of a second.
func FormatSeconds(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// maxLength bounds what Parse looks at, in bytes; fractions may be of any length (XEP-0082 §2.1).
const maxLength = 64

// Parse reads a DateTime of any time zone, which it must name (XEP-0082 §3.2). The
// result is in UTC; fractions beyond nanoseconds are cut off.
func Parse(s string) (time.Time, error) {
	// time.Parse takes a comma for the point and one digit for the hour, which the profile does not.
	if len(s) > maxLength || len(s) < len("2006-01-02T15:04:05Z") || s[13] != ':' || s[19] == ',' {
		return time.Time{}, fmt.Errorf("%.64q: %w", s, ErrInvalid)
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: %w", s, ErrInvalid)
	}
	return t.UTC(), nil
}
