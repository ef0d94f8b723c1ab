package proxied

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/pires/go-proxyproto"
)

const (
	signature = 12      // bytes that tell the version, fewer than the shortest header has
	fixedV2   = 16      // bytes of version 2 before what its length counts
	maxV2     = 4 << 10 // addresses take 36 of them; the rest is for what balancers add
	maxV1     = 107     // the longest line
)

var errNoHeader = errors.New("no PROXY header where one must be: the balancer must send it, or is named in listen.proxy_protocol_from by mistake")

// read takes one header from r, and nothing after it. The client is nil if the connection is the balancer's own (LOCAL, as
// in health checks). Choice: so it is, too, where the header names a client that does not use TCP (UNKNOWN, Unix sockets,
// datagrams).
func read(r io.Reader) (client *net.TCPAddr, err error) {
	head := make([]byte, signature, maxV1)
	if n, err := io.ReadFull(r, head); err != nil {
		if n > 0 && !plausible(head[:n]) {
			return nil, errNoHeader
		}
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, proxyproto.SIGV1):
		head, err = line(r, head)
	case bytes.Equal(head, proxyproto.SIGV2):
		head, err = counted(r, head)
	default:
		return nil, errNoHeader
	}
	if err != nil {
		return nil, fmt.Errorf("read the PROXY header: %w", err)
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, fmt.Errorf("read the PROXY header: %w", err)
	}
	if h.Command.IsLocal() {
		return nil, nil
	}
	client, _, ok := h.TCPAddrs()
	if !ok {
		return nil, nil
	}
	return client, nil
}

// plausible tells whether a header may begin so.
func plausible(b []byte) bool {
	return bytes.HasPrefix(proxyproto.SIGV1, b[:min(len(b), len(proxyproto.SIGV1))]) || bytes.HasPrefix(proxyproto.SIGV2, b)
}

// line reads the rest of a header of version 1, byte by byte: its end cannot be known before.
func line(r io.Reader, head []byte) ([]byte, error) {
	for head[len(head)-1] != '\n' {
		n := len(head)
		if n == maxV1 {
			return nil, errors.New("the line is too long")
		}
		head = head[:n+1]
		if _, err := io.ReadFull(r, head[n:]); err != nil {
			return nil, unfinished(err)
		}
	}
	return head, nil
}

// counted reads the rest of a header of version 2, which tells its length.
func counted(r io.Reader, head []byte) ([]byte, error) {
	head = head[:fixedV2]
	if _, err := io.ReadFull(r, head[signature:]); err != nil {
		return nil, unfinished(err)
	}
	length := int(head[14])<<8 | int(head[15])
	if fixedV2+length > maxV2 {
		return nil, fmt.Errorf("%d bytes are too many", length)
	}
	head = append(head, make([]byte, length)...)
	_, err := io.ReadFull(r, head[fixedV2:])
	return head, unfinished(err)
}

// unfinished is an error in the middle of a header.
func unfinished(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
