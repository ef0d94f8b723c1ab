package sasl

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

var (
	channel    = Binding{Type: TLSExporterType, Data: []byte("what both ends know")}
	everything = []string{"SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", Plain}
)

// exchanges are held between client and server, against a server that offers everything and binds to channel.
var exchanges = []struct {
	name      string
	mechanism string
	client    ClientConfig
	server    func(*ServerConfig)
	want      error // nil: success; a Failure: its condition and text; else errors.Is
}{
	{name: "sha-1", mechanism: "SCRAM-SHA-1"},
	{name: "sha-256", mechanism: "SCRAM-SHA-256"},
	{name: "sha-512", mechanism: "SCRAM-SHA-512"},
	{name: "sha-1 bound", mechanism: "SCRAM-SHA-1-PLUS", client: ClientConfig{Binding: channel}},
	{name: "sha-256 bound", mechanism: "SCRAM-SHA-256-PLUS", client: ClientConfig{Binding: channel}},
	{name: "sha-512 bound", mechanism: "SCRAM-SHA-512-PLUS", client: ClientConfig{Binding: channel}},
	{name: "plain", mechanism: Plain},
	{name: "capitals in the name", mechanism: "SCRAM-SHA-256", client: ClientConfig{Username: "USER"}},
	{name: "own authzid", mechanism: "SCRAM-SHA-256", client: ClientConfig{Authzid: "user@example.org"}},
	{name: "own authzid, plain", mechanism: Plain, client: ClientConfig{Authzid: "User@Example.org"}},
	{name: "second type of binding", mechanism: "SCRAM-SHA-1-PLUS",
		client: ClientConfig{Binding: Binding{Type: TLSServerEndPointType, Data: []byte("hash")}}},
	{name: "client could bind, server could not", mechanism: "SCRAM-SHA-1",
		client: ClientConfig{Binding: channel, Offered: []string{"SCRAM-SHA-1"}},
		server: func(cfg *ServerConfig) { cfg.Offered, cfg.Bindings = []string{"SCRAM-SHA-1"}, nil }},

	{name: "wrong password", mechanism: "SCRAM-SHA-256", client: ClientConfig{Password: "pen"}, want: fail(NotAuthorized, "")},
	{name: "wrong password, plain", mechanism: Plain, client: ClientConfig{Password: "pen"}, want: fail(NotAuthorized, "")},
	{name: "unknown user", mechanism: "SCRAM-SHA-256", client: ClientConfig{Username: "nobody"}, want: fail(NotAuthorized, "")},
	{name: "unknown user, plain", mechanism: Plain, client: ClientConfig{Username: "nobody"}, want: fail(NotAuthorized, "")},
	{name: "no localpart", mechanism: "SCRAM-SHA-256", client: ClientConfig{Username: "user@example.org"}, want: fail(NotAuthorized, "")},
	{name: "no localpart, plain", mechanism: Plain, client: ClientConfig{Username: "a b"}, want: fail(NotAuthorized, "")},
	{name: "password no one can have", mechanism: Plain, client: ClientConfig{Password: "\x07"}, want: fail(NotAuthorized, "")},
	{name: "foreign authzid", mechanism: "SCRAM-SHA-256", client: ClientConfig{Authzid: "other@example.org"}, want: fail(InvalidAuthzid, "")},
	{name: "foreign authzid, plain", mechanism: Plain, client: ClientConfig{Authzid: "other@example.org"}, want: fail(InvalidAuthzid, "")},
	{name: "authzid of another domain", mechanism: Plain, client: ClientConfig{Authzid: "user@example.net"}, want: fail(InvalidAuthzid, "")},
	{name: "full authzid", mechanism: Plain, client: ClientConfig{Authzid: "user@example.org/r"}, want: fail(InvalidAuthzid, "")},
	{name: "authzid without domain", mechanism: Plain, client: ClientConfig{Authzid: "user"}, want: fail(InvalidAuthzid, "")},
	{name: "authzid of the domain", mechanism: Plain, client: ClientConfig{Authzid: "example.org"}, want: fail(InvalidAuthzid, "")},
	{name: "malformed authzid", mechanism: "SCRAM-SHA-1", client: ClientConfig{Authzid: "@,="}, want: fail(InvalidAuthzid, "")},
	{name: "foreign authzid and wrong password", mechanism: Plain,
		client: ClientConfig{Authzid: "other@example.org", Password: "pen"}, want: fail(NotAuthorized, "")},
	{name: "other channel", mechanism: "SCRAM-SHA-256-PLUS",
		client: ClientConfig{Binding: Binding{Type: TLSExporterType, Data: []byte("what the man in the middle knows")}},
		want:   fail(NotAuthorized, "channel-bindings-dont-match")},
	{name: "longer channel data", mechanism: "SCRAM-SHA-256-PLUS",
		client: ClientConfig{Binding: Binding{Type: TLSExporterType, Data: append(bytes.Clone(channel.Data), 0)}},
		want:   fail(NotAuthorized, "channel-bindings-dont-match")},
	{name: "unknown type of binding", mechanism: "SCRAM-SHA-256-PLUS",
		client: ClientConfig{Binding: Binding{Type: "tls-unique", Data: []byte("x")}},
		want:   fail(NotAuthorized, "unsupported-channel-binding-type")},
	{name: "binding without data", mechanism: "SCRAM-SHA-256-PLUS",
		client: ClientConfig{Binding: channel},
		server: func(cfg *ServerConfig) { cfg.Bindings = []Binding{{Type: TLSExporterType}} },
		want:   fail(NotAuthorized, "unsupported-channel-binding-type")},
	{name: "bound mechanisms hidden from the client", mechanism: "SCRAM-SHA-256",
		client: ClientConfig{Binding: channel, Offered: []string{"SCRAM-SHA-256"}},
		want:   fail(NotAuthorized, "server-does-support-channel-binding")},
	{name: "a mechanism hidden from a client that cannot bind", mechanism: "SCRAM-SHA-1",
		client: ClientConfig{Offered: []string{"SCRAM-SHA-1"}}, want: ErrDowngrade},
	{name: "types of binding hidden from the client", mechanism: "SCRAM-SHA-1",
		client: ClientConfig{Offered: everything}, want: ErrDowngrade},
	{name: "accounts not to be had", mechanism: "SCRAM-SHA-256",
		server: func(cfg *ServerConfig) { cfg.Credentials = &accounts{err: errors.New("database away")} },
		want:   fail(TemporaryAuthFailure, "")},
	{name: "accounts not to be had, plain", mechanism: Plain,
		server: func(cfg *ServerConfig) { cfg.Credentials = &accounts{err: context.DeadlineExceeded} },
		want:   fail(TemporaryAuthFailure, "")},
	{name: "account disabled", mechanism: Plain,
		server: func(cfg *ServerConfig) { cfg.Credentials = &accounts{err: fail(AccountDisabled, "call us")} },
		want:   fail(AccountDisabled, "call us")},
}

func TestExchange(t *testing.T) {
	for _, c := range exchanges {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(everything...)
			cfg.Bindings = []Binding{channel, {Type: TLSServerEndPointType, Data: []byte("hash")}}
			if c.server != nil {
				c.server(cfg)
			}
			if c.client.Username == "" {
				c.client.Username = "user"
			}
			if c.client.Password == "" {
				c.client.Password = "pencil"
			}
			if c.client.Offered == nil {
				c.client.Offered, c.client.BindingTypes = cfg.Offered, BindingTypes(cfg.Bindings)
			}
			client, err := NewClient(c.mechanism, &c.client)
			if err != nil {
				t.Fatal(err)
			}
			server, err := NewServer(c.mechanism, cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = run(t, client, server)
			if want, ok := c.want.(*Failure); ok {
				checkFailure(t, err, want.Condition, want.Text)
			} else if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if authenticated := server.Username() != ""; authenticated != (c.want == nil) {
				t.Errorf("authenticated as %q", server.Username())
			}
			if c.want == nil && (server.Username() != "user" || !client.Done()) {
				t.Errorf("authenticated as %q, client done: %v", server.Username(), client.Done())
			}
		})
	}
}
