package account_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/starling-im/starling/internal/account"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

func TestThrottle(t *testing.T) {
	type step struct {
		do   string // "fail", "succeed", "ok", "refused", "wait"
		addr string
		user string // or, for wait, a duration
		n    int    // times; 0 = once
	}
	cases := []struct {
		name  string
		steps []step
	}{
		{"nine failures are endured", []step{{"fail", "192.0.2.1", "romeo", 9}, {"ok", "192.0.2.1", "romeo", 0}}},
		{"an address, whatever the accounts", []step{
			{"fail", "192.0.2.1", "romeo", 5}, {"fail", "192.0.2.1", "juliet", 5},
			{"refused", "192.0.2.1", "nurse", 0}, {"refused", "192.0.2.1", "", 0}, {"ok", "192.0.2.2", "romeo", 0}}},
		{"an account, whatever the addresses", []step{
			{"fail", "192.0.2.1", "romeo", 5}, {"fail", "192.0.2.2", "romeo", 5},
			{"refused", "192.0.2.3", "romeo", 0}, {"ok", "192.0.2.3", "juliet", 0}, {"ok", "192.0.2.3", "", 0}}},
		{"until the window has passed since the first failure", []step{
			{"fail", "192.0.2.1", "romeo", 5}, {"wait", "", "4m", 0}, {"fail", "192.0.2.1", "romeo", 5},
			{"refused", "192.0.2.1", "romeo", 0}, {"wait", "", "59s", 0}, {"refused", "192.0.2.1", "romeo", 0},
			{"wait", "", "1s", 0}, {"ok", "192.0.2.1", "romeo", 0}, {"fail", "192.0.2.1", "romeo", 9}, {"ok", "192.0.2.1", "romeo", 0}}},
		{"one /64 is one address", []step{
			{"fail", "2001:db8::1", "romeo", 5}, {"fail", "2001:db8::2:3", "juliet", 5},
			{"refused", "2001:db8::ffff", "nurse", 0}, {"ok", "2001:db8:0:1::1", "nurse", 0}}},
		{"IPv4 in IPv6", []step{{"fail", "::ffff:192.0.2.1", "", 10}, {"refused", "192.0.2.1", "", 0}, {"ok", "::ffff:192.0.2.2", "", 0}}},
		{"zones", []step{{"fail", "fe80::1%eth0", "", 10}, {"refused", "fe80::2%eth1", "", 0}}},
		{"success clears the account, not the address", []step{
			{"fail", "192.0.2.1", "romeo", 10}, {"succeed", "192.0.2.9", "romeo", 0},
			{"ok", "192.0.2.2", "romeo", 0}, {"refused", "192.0.2.1", "romeo", 0}}},
		{"an owner's address is not locked out by others", []step{
			{"succeed", "192.0.2.9", "romeo", 0}, {"fail", "192.0.2.1", "romeo", 9}, {"fail", "192.0.2.2", "romeo", 9},
			{"refused", "192.0.2.3", "romeo", 0}, {"ok", "192.0.2.9", "romeo", 0},
			{"fail", "192.0.2.9", "romeo", 10}, {"refused", "192.0.2.9", "romeo", 0}}},
		{"a success that names nobody", []step{{"succeed", "192.0.2.1", "", 0}, {"ok", "192.0.2.1", "", 0}}},
		{"no address", []step{{"fail", "", "romeo", 10}, {"refused", "", "romeo", 0}, {"ok", "", "juliet", 0}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			clock := newClock()
			throttle := account.New(nil, account.Options{Clock: clock.Now}).Throttle()
			for i, s := range c.steps {
				var addr netip.Addr
				var user jid.JID
				if s.addr != "" {
					addr = netip.MustParseAddr(s.addr)
				}
				if s.user != "" && s.do != "wait" {
					user = jid.MustParse(s.user + "@a.test/phone")
				}
				for range max(1, s.n) {
					switch s.do {
					case "fail":
						throttle.Failed(addr, user)
					case "succeed":
						throttle.Succeeded(addr, user)
					case "wait":
						d, err := time.ParseDuration(s.user)
						if err != nil {
							t.Fatal(err)
						}
						clock.advance(d)
					default:
						err := throttle.Allow(addr, user)
						if s.do == "ok" && err != nil || s.do == "refused" && !errors.Is(err, account.ErrThrottled) {
							t.Errorf("step %d: Allow(%s, %s) = %v, want %s", i, s.addr, s.user, err, s.do)
						}
					}
				}
			}
		})
	}
}

// A flood from everywhere makes the throttle forget the oldest, not grow.
func TestThrottleIsBounded(t *testing.T) {
	throttle := account.New(nil, account.Options{Throttle: account.Limits{Failures: 1, Entries: 3}}).Throttle()
	for i := range 5 {
		throttle.Failed(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)), jid.JID{})
	}
	for i := range 5 {
		err := throttle.Allow(netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)), jid.JID{})
		if refused := err != nil; refused != (i >= 2) {
			t.Errorf("address %d: %v", i, err)
		}
	}
}

func TestThrottleOff(t *testing.T) {
	throttle := account.New(nil, account.Options{Throttle: account.Limits{Failures: -1}}).Throttle()
	for range 1000 {
		throttle.Failed(netip.MustParseAddr("192.0.2.1"), romeo)
	}
	if err := throttle.Allow(netip.MustParseAddr("192.0.2.1"), romeo); err != nil {
		t.Error(err)
	}
}
