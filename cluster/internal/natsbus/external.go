package natsbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	externalPing    = time.Second // a server that is silent for two of these is left for another one
	externalTimeout = 3 * time.Second
)

// External is an engine on NATS servers that the operator runs. They need no JetStream; the account needs publish and
// subscribe permission for "v1.<cluster>.>".
type External struct {
	URLs string      // one or more, separated by commas: tls://user:password@host:port; nats:// on loopback only
	TLS  *tls.Config // nil: the certificate authorities of the system
}

// Open connects to a server. Failures: URLs that are none or not encrypted, a server without TLS or with a certificate
// that is not trusted, credentials refused, a server that takes too short messages. A server that cannot be reached
// is an error that may pass.
func (e *External) Open(ctx context.Context, self bus.Identity, log *slog.Logger) (bus.Bus, error) {
	plain, err := e.check()
	if err != nil {
		return nil, err
	}
	b := newBus(log)
	suffixes := [bus.Lanes]string{bus.Control: ".c", bus.Data: ".d"}
	for i := range b.lanes {
		conn, err := nats.Connect(e.URLs, e.options(ctx, b, self, bus.Lane(i), plain)...)
		if err != nil {
			b.stop()
			b.disconnect(ctx)
			return nil, externalFailure(err)
		}
		b.lanes[i] = lane{conn, suffixes[i]}
		if b.maxPayload == 0 || b.maxPayload > int(conn.MaxPayload()) {
			b.maxPayload = int(conn.MaxPayload())
		}
	}
	if b.maxPayload < leastPayload {
		b.stop()
		b.disconnect(ctx)
		return nil, &bus.Failure{
			Reason: fmt.Sprintf("the NATS server takes messages of %d bytes, less than %d", b.maxPayload, leastPayload),
			Remedy: "set max_payload to 1MB or more in the configuration of the NATS server",
		}
	}
	return b, nil
}

func (e *External) options(ctx context.Context, b *natsBus, self bus.Identity, l bus.Lane, plain bool) []nats.Option {
	timeout := externalTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(deadline)), time.Millisecond)
	}
	options := append(b.options(self.Name+" "+l.String()),
		nats.Timeout(timeout),
		nats.SetCustomDialer(&dialer{net.Dialer{Timeout: timeout}, ctx, b.ctx}),
		nats.PingInterval(externalPing), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(externalTimeout), nats.ReconnectOnFlusherError(),
		nats.CustomInboxPrefix("v1."+self.Cluster+"._inbox."+self.ID),
	)
	if plain {
		return append(options, nats.IgnoreDiscoveredServers()) // which may not be on loopback
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.TLS != nil {
		config = e.TLS.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	return append(options, nats.Secure(config))
}

// dialer ends with the opening, while that lasts, and later with the bus.
type dialer struct {
	net.Dialer
	opening, bus context.Context
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(d.bus)
	defer cancel()
	if d.opening.Err() == nil {
		defer context.AfterFunc(d.opening, cancel)()
	}
	return d.DialContext(ctx, network, address)
}

// check reads the URLs, and says whether the connection is plain, which it may be on loopback only.
func (e *External) check() (plain bool, err error) {
	encrypted := false
	for text := range strings.SplitSeq(e.URLs, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Hostname() == "" || u.Scheme != "tls" && u.Scheme != "nats" {
			return false, &bus.Failure{ // the text may hold a password
				Reason: "an address of NATS servers is not one", Remedy: "write tls://host:port, several separated by commas",
			}
		}
		if u.Scheme == "tls" {
			encrypted = true
			continue
		}
		if !isLoopback(u.Hostname()) {
			return false, &bus.Failure{
				Reason: fmt.Sprintf("the connection to the NATS server %s would not be encrypted", u.Host),
				Remedy: "let the server offer TLS and write tls:// in place of nats://",
			}
		}
		plain = true
	}
	if plain && encrypted {
		return false, &bus.Failure{
			Reason: "some addresses of NATS servers are encrypted and some are not", Remedy: "write tls:// for all of them",
		}
	}
	return plain, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// externalFailure says what a person can do about an error, if anything.
func externalFailure(err error) error {
	var (
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		remote    *net.OpError
	)
	switch {
	case errors.Is(err, nats.ErrSecureConnWanted):
		return &bus.Failure{
			Reason: "the NATS server offers no TLS", Remedy: "configure a certificate on the NATS server", Err: err,
		}
	case errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &verify):
		return &bus.Failure{
			Reason: "the certificate of the NATS server is not trusted: " + err.Error(),
			Remedy: "configure the certificate authority of the NATS server, and connect by a name in its certificate", Err: err,
		}
	case errors.As(err, &remote) && remote.Op == "remote error", errors.Is(err, nats.ErrTLS): // or the connection just ends
		return &bus.Failure{
			Reason: "the NATS server does not accept this node's certificate: " + err.Error(),
			Remedy: "configure a client certificate that the NATS server trusts", Err: err,
		}
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrNkeysNotSupported):
		return authFailure(err)
	}
	return fmt.Errorf("connect to NATS: %w", err)
}

// authFailure says that the server lets this node not in, or not do what it must.
func authFailure(err error) *bus.Failure {
	if errors.Is(err, nats.ErrPermissionViolation) {
		return &bus.Failure{
			Reason: "the NATS server forbids subjects that the cluster uses: " + err.Error(),
			Remedy: "allow the account of this node to publish and subscribe to v1.<cluster>.>", Err: err,
		}
	}
	return &bus.Failure{
		Reason: "the NATS server refuses the credentials of this node",
		Remedy: "write the right user and password into the address of the NATS server", Err: err,
	}
}
