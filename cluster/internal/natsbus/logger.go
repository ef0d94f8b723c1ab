package natsbus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/starling-im/starling/cluster/internal/bus"
)

const (
	refusalsEvery = 10 * time.Minute // between two log lines about refused connections of one address
	formatSplit   = " - rid:"        // what follows a connection's address in the server's formats
	handshake     = "handshake error"
)

// logger is the ear of an embedded server: what it says of its own life goes to the debug log, refused connections
// are named once, and what it would end the process for becomes a failure.
type logger struct {
	log     *slog.Logger
	fatal   chan error               // the first fatal error
	routes  chan struct{}            // something happened to the connections between nodes
	refused func(to string, e error) // hears of each failed handshake
	sparse  *sparseness              // of other complaints
	probes  *sparseness              // of refused connections
}

func newLogger(log *slog.Logger) *logger {
	return &logger{
		log: log, fatal: make(chan error, 1), routes: make(chan struct{}, 1), refused: func(string, error) {},
		sparse: newSparseness(sayAgain), probes: newSparseness(refusalsEvery),
	}
}

// Noticef hears of connections between nodes, among other things.
func (l *logger) Noticef(format string, args ...any) {
	if strings.Contains(format, formatSplit) {
		select {
		case l.routes <- struct{}{}:
		default:
		}
	}
	l.log.Debug("cluster server", "says", text(format, args))
}

// Warnf hears complaints. One is beside the point: the passwords of the server exist in memory only.
func (l *logger) Warnf(format string, args ...any) {
	if !strings.HasPrefix(format, "Plaintext passwords") {
		l.complain(text(format, args))
	}
}

// Errorf hears of failed handshakes, and of other complaints.
func (l *logger) Errorf(format string, args ...any) {
	address, rest, ok := strings.Cut(format, formatSplit)
	switch {
	case ok && strings.Contains(rest, handshake):
		l.refuse(address, firstError(args))
	case ok && strings.Contains(rest, "handshake timeout"): // also said by the error that follows
	default:
		l.complain(text(format, args))
	}
}

// Fatalf hears what the server cannot go on with, such as a port in use. It must not end the process.
func (l *logger) Fatalf(format string, args ...any) {
	err := firstError(args)
	if err == nil {
		err = errors.New(text(format, args))
	} else {
		err = fmt.Errorf("%s: %w", text(format, args), err)
	}
	select {
	case l.fatal <- err:
	default:
	}
}

// Debugf and Tracef are not switched on.
func (l *logger) Debugf(string, ...any) {}

// Tracef is not switched on.
func (l *logger) Tracef(string, ...any) {}

func (l *logger) complain(what string) {
	if n, ok := l.sparse.say(what); ok {
		l.log.Warn("cluster server complains", "says", what, "repeated", n)
	}
}

// refuse tells of a connection that came to nothing in its handshake: the first of an address, then rarely.
func (l *logger) refuse(address string, err error) {
	l.refused(address, err)
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		host = address
	}
	reason := refusal(err)
	if n, ok := l.probes.say(host + " " + reason); ok {
		l.log.Warn("cluster connection refused", "address", address, "reason", reason, "err", err, "repeated", n)
	}
}

func text(format string, args []any) string { return strings.TrimSpace(fmt.Sprintf(format, args...)) }

func firstError(args []any) error {
	for _, a := range args {
		if err, ok := a.(error); ok {
			return err
		}
	}
	return nil
}

// Why a handshake fails.
const (
	otherToken  = "its certificate is of another join token or another cluster"
	notBelieved = "it does not accept this node's certificate: it has another join token or is of another cluster"
	otherClock  = "its clock and this node's differ by more than a day"
	noTLS       = "it does not speak TLS"
	noHandshake = "it does not complete a handshake"
	badTLS      = "it speaks another kind of TLS, or shows no certificate"
)

// refusal says in words why a handshake failed.
func refusal(err error) string {
	var (
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		op       *net.OpError
		timeout  net.Error
		isRemote = errors.As(err, &op) && op.Op == "remote error"
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return otherClock
	case errors.As(err, &verify):
		return otherToken
	case errors.As(err, &record):
		return noTLS
	case isRemote && strings.Contains(err.Error(), "certificate"):
		return notBelieved
	case isRemote:
		return badTLS
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return noHandshake
	}
	return badTLS
}

// tokenFailure is what a person must know when a node that should be a peer refuses this one, or is refused; nil if
// the handshake failed for another reason.
func tokenFailure(address string, err error) *bus.Failure {
	switch reason := refusal(err); reason {
	case otherToken, notBelieved:
		return &bus.Failure{
			Reason: fmt.Sprintf("no connection to %s: %s", address, reason),
			Remedy: "give all nodes of the cluster the same token file and the same cluster name",
			Err:    err,
		}
	case otherClock:
		return &bus.Failure{
			Reason: fmt.Sprintf("no connection to %s: %s", address, reason), Remedy: "set the clocks", Err: err,
		}
	}
	return nil
}

// listenFailure is what a person must know when the server cannot listen.
func listenFailure(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &bus.Failure{
			Reason: fmt.Sprintf("address %s is in use", address),
			Remedy: "stop the program that uses it, or let the cluster listen on another port", Err: err,
		}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &bus.Failure{
			Reason: fmt.Sprintf("address %s is not one of this machine", address),
			Remedy: "let the cluster listen on an address of this machine", Err: err,
		}
	case errors.Is(err, syscall.EACCES):
		return &bus.Failure{
			Reason: fmt.Sprintf("this user may not listen on %s", address),
			Remedy: "let the cluster listen on a port above 1023", Err: err,
		}
	}
	return fmt.Errorf("start the cluster's server on %s: %w", address, err)
}
