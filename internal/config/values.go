package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const hidden = "(hidden)"

// Secret is a setting that is never shown: every way of printing, logging or marshalling it writes "(hidden)", or
// nothing if it is empty.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "(hidden)", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format implements fmt.Formatter, so that no verb shows the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URL is an address that may hold a password. Printing, logging or marshalling it hides that part.
type URL string

// Reveal returns the address with its password.
func (u URL) Reveal() string { return string(u) }

// String returns the address without its password.
func (u URL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return hidden // what cannot be read may hold a password anywhere
	}
	query, secret := parsed.Query(), false
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, "xxxxx")
			secret = true
		}
	}
	if secret {
		parsed.RawQuery = query.Encode()
	}
	if _, ok := parsed.User.Password(); !ok && !secret {
		return string(u)
	}
	return parsed.Redacted()
}

// Format implements fmt.Formatter, so that no verb shows the password.
func (u URL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// LogValue implements slog.LogValuer.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText implements encoding.TextMarshaler.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Size is a number of bytes, never negative. In the file it is a number or a text such as "256 KiB" or "10 kB".
type Size int64

// sizeUnits lists the units of sizes; kilo is 1000 and kibi is 1024. Where two are equally short, the first is written.
func sizeUnits() []struct {
	name  string
	bytes int64
} {
	return []struct {
		name  string
		bytes int64
	}{
		{"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1},
	}
}

var errSize = errors.New("not a size")

// ParseSize reads a whole number with an optional unit: B, kB, KiB, MB, MiB, GB or GiB.
func ParseSize(s string) (Size, error) {
	end := 0
	for end < len(s) && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	if err != nil {
		return 0, errSize
	}
	unit := strings.TrimSpace(s[end:])
	if unit == "" {
		return Size(n), nil
	}
	for _, u := range sizeUnits() {
		if strings.EqualFold(unit, u.name) {
			if n > math.MaxInt64/u.bytes {
				return 0, errSize
			}
			return Size(n * u.bytes), nil
		}
	}
	return 0, errSize
}

// String writes the size with the unit that makes the number smallest and whole.
func (s Size) String() string {
	best, name := int64(s), "B"
	if s == 0 {
		return "0"
	}
	for _, u := range sizeUnits() {
		if n := int64(s) / u.bytes; n*u.bytes == int64(s) && n < best {
			best, name = n, u.name
		}
	}
	return strconv.FormatInt(best, 10) + " " + name
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

const day = 24 * time.Hour

// parseDuration reads what time.ParseDuration reads, and days in front: "30s", "1h30m", "7d", "1d12h".
func parseDuration(s string) (time.Duration, error) {
	var days time.Duration
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, err
		}
		days, s = time.Duration(n)*day, after
		if s == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, err
	}
	if d < 0 || d > math.MaxInt64-days {
		return 0, errors.New("out of range")
	}
	return days + d, nil
}

// formatDuration writes a duration as parseDuration reads it, without the zero parts that time.Duration writes.
func formatDuration(d time.Duration) string {
	if d >= day && d%day == 0 && d/day <= math.MaxUint16 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
