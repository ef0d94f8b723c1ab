package sasl

import (
	"crypto/hmac"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrDowngrade says that the mechanisms or types of channel binding which the client saw are not what the server
// offered (XEP-0474 §6.2).
var ErrDowngrade = errors.New("sasl: the offer was changed on the way")

// ErrServer says that the server has not proven that it knows the account.
var ErrServer = errors.New("sasl: the server's signature is wrong")

// ClientConfig is what the client side of an exchange depends on.
type ClientConfig struct {
	Username string
	Password string // or the token, for the mechanisms of tokens
	Authzid  string // identity to act as; normally empty
	// Binding is used by mechanisms that bind to the channel; for others its Type, if not empty, says that the client
	// could have.
	Binding Binding
	// Offered and BindingTypes are what the server advertised. With Offered empty nothing is compared.
	Offered      []string
	BindingTypes []string
}

// Client is the client side of one exchange. It uses the mechanism it is given; choosing is left to its user.
type Client struct {
	mechanism string
	cfg       *ClientConfig
	nonce     string // own part; tests have their own

	steps     int
	header    string // gs2-header
	bare      string
	signature []byte // what the server has to send
	done      bool
}

// NewClient begins an exchange. The error tells of an unknown mechanism, or a missing binding for one that binds.
func NewClient(mechanism string, cfg *ClientConfig) (*Client, error) {
	c := &Client{mechanism: mechanism, cfg: cfg}
	if _, plus, ok := ParseScram(mechanism); ok {
		if plus && len(cfg.Binding.Data) == 0 {
			return nil, fmt.Errorf("sasl: %s without data of the channel", mechanism)
		}
		c.nonce = newNonce()
		return c, nil
	}
	if binding, ok := ParseHT(mechanism); ok {
		if binding != "" && (cfg.Binding.Type != binding || len(cfg.Binding.Data) == 0) {
			return nil, fmt.Errorf("sasl: %s without data of the channel", mechanism)
		}
		return c, nil
	}
	if !slices.Contains(strength, mechanism) {
		return nil, fmt.Errorf("sasl: unknown mechanism %q", mechanism)
	}
	return c, nil
}

// Step returns the client's next message. The first call, with nil, makes the initial response; each later one takes
// a challenge, the last the additional data of success. An error means that the server is not to be trusted, or
// reported one.
func (c *Client) Step(in []byte) (out []byte, err error) {
	h, _, isScram := ParseScram(c.mechanism)
	c.steps++
	switch {
	case c.done:
		return nil, errors.New("sasl: a message after the end of the exchange")
	case strings.HasPrefix(c.mechanism, "HT-"):
		return c.token(in)
	case !isScram:
		c.done = true
		return c.only(), nil
	case c.steps == 1:
		return c.begin(), nil
	case c.steps == 2:
		return c.prove(h, in)
	}
	return []byte{}, c.verify(in)
}

// Done reports whether the client has nothing more to say or check. Success before that is not one: the server has
// not proven itself (RFC 5802 §5).
func (c *Client) Done() bool { return c.done }

// only returns the one message of mechanisms that have one.
func (c *Client) only() []byte {
	switch c.mechanism {
	case Plain:
		return []byte(c.cfg.Authzid + "\x00" + c.cfg.Username + "\x00" + c.cfg.Password)
	case External:
		return append([]byte{}, c.cfg.Authzid...)
	}
	return nil // XEP-0175 §3: no trace
}

// begin makes the client-first-message.
func (c *Client) begin() []byte {
	_, plus, _ := ParseScram(c.mechanism)
	flag := "n"
	switch {
	case plus:
		flag = "p=" + c.cfg.Binding.Type
	case c.cfg.Binding.Type != "" && !slices.ContainsFunc(c.cfg.Offered, isPlus):
		flag = "y"
	}
	c.header = flag + ","
	if c.cfg.Authzid != "" {
		c.header += "a=" + escapeName(c.cfg.Authzid)
	}
	c.header += ","
	c.bare = "n=" + escapeName(c.cfg.Username) + ",r=" + c.nonce
	return []byte(c.header + c.bare)
}

// prove makes the client-final-message.
func (c *Client) prove(h Hash, in []byte) ([]byte, error) {
	m, err := parseServerFirst(in)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(m.nonce, c.nonce) || len(m.nonce) == len(c.nonce) {
		return nil, errors.New("sasl: the server's nonce does not continue the client's")
	}
	if m.downgrade != "" && len(c.cfg.Offered) > 0 && m.downgrade != downgradeHash(h, c.cfg.Offered, c.cfg.BindingTypes) {
		return nil, ErrDowngrade
	}
	clientKey, serverKey, err := derive(h, c.cfg.Password, m.salt, m.iterations)
	if err != nil {
		return nil, err
	}
	binding := []byte(c.header)
	if strings.HasPrefix(c.header, "p=") {
		binding = append(binding, c.cfg.Binding.Data...)
	}
	final := "c=" + encode64(binding) + ",r=" + m.nonce
	authMessage := c.bare + "," + string(in) + "," + final
	c.signature = mac(h, serverKey, authMessage)
	proof := mac(h, digest(h, clientKey), authMessage)
	subtle.XORBytes(proof, proof, clientKey)
	return []byte(final + ",p=" + encode64(proof)), nil
}

// verify checks the server-final-message.
func (c *Client) verify(in []byte) error {
	signature, reported, err := parseServerFinal(in)
	switch {
	case err != nil:
		return err
	case reported != "":
		return fmt.Errorf("sasl: the server reports %q", reported)
	case !hmac.Equal(signature, c.signature):
		return ErrServer
	}
	c.done = true
	return nil
}
