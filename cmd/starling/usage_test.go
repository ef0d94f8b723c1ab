package main

import (
	"runtime"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	bad := write(t, dir, "bad.toml", "domains = [\"a.test\"]\n\n[limits]\nstanza_byte = 20_000\n")
	worse := write(t, dir, "worse.toml", "domains = a.test\n")
	for _, c := range []struct {
		name string
		code int
		want []string
		args []string
	}{
		{"nothing", 0, []string{"Usage: starling", "serve", "user add"}, nil},
		{"help", 0, []string{"--listen-c2s", "STARLING_LISTEN__C2S"}, []string{"serve", "--help"}},
		{"unknown command", 2, []string{"unexpected argument fly", "starling --help"}, []string{"fly"}},
		{"unknown flag", 2, []string{"--fly", "starling user add --help"}, []string{"user", "add", "--fly"}},
		{"no address", 2, []string{"<jid>"}, []string{"user", "add"}},
		{"unknown key", 2, []string{"bad.toml:4: limits.stanza_byte: ", "stanza_bytes", "("}, []string{"serve", "--config", bad}},
		{"not TOML", 2, []string{"worse.toml:1: "}, []string{"serve", "--config", worse}},
		{"no such file", 2, []string{"none.toml: no such file"}, []string{"serve", "--config", "none.toml"}},
		{"unknown key in --set", 2, []string{"--set: no.such: "}, []string{"serve", "--set", "no.such=1"}},
		{"bad flag", 2, []string{"flag: listen.c2s: "}, []string{"check", "--listen-c2s", "here"}},
		{"several problems", 2, []string{"--set: x: ", "--set: y: "}, []string{"user", "list", "--set", "x=1", "--set", "y=2"}},
		{"bad domain", 2, []string{`"a b" is not a domain`}, []string{"quickstart", "a b"}},
		{"bad address", 2, []string{"name@domain"}, []string{"user", "del", "a.test"}},
		{"two passwords", 2, []string{"--password", "--generate"}, []string{"user", "add", "a@a.test", "--password=x", "--generate"}},
		{"no data folder", 2, []string{"no data folder ./starling-data", "--data"}, []string{"user", "list"}},
		{"version", 0, []string{"starling ", "commit ", runtime.Version()}, []string{"version"}},
	} {
		t.Run(c.name, func(t *testing.T) { starling(t, dir, c.args...).want(t, c.code, c.want...) })
	}
}

func TestConfigFromEnvironment(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "other.toml", "domains = [\"file.test\"]\n")
	cmd := program(t, dir, "check", "--effective", "--set", "listen.tls=127.0.0.1:2", "--listen-https=127.0.0.1:3", "--database=postgres://u:hunter2@h/d")
	cmd.Env = append(cmd.Env, "STARLING_CONFIG="+file, "STARLING_LISTEN__C2S=127.0.0.1:1")
	r := finish(t, cmd)
	r.want(t, exitOK)
	for key, want := range map[string]string{
		"domains":      `["file.test"] ` + file + ":1",
		"listen.c2s":   `["127.0.0.1:1"] environment STARLING_LISTEN__C2S`,
		"listen.tls":   `["127.0.0.1:2"] --set`,
		"listen.https": `["127.0.0.1:3"] flag`,
		"log.level":    `"info" default`,
	} {
		found := false
		for line := range strings.Lines(r.out) {
			found = found || strings.Join(strings.Fields(line), " ") == key+" "+want
		}
		if !found {
			t.Errorf("%s %s is missing: %s", key, want, r.out)
		}
	}
	if strings.Contains(r.out, "hunter2") {
		t.Errorf("shows a password: %s", r.out)
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"": "''", "/var/lib/x-1.2": "/var/lib/x-1.2", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
