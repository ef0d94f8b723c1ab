package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"errors"
	"fmt"
)

// Bounds on what goes into keys. RFC 5802 §5.1: at least 4,096 iterations. Choice: the upper bounds keep a hostile or
// mistaken value from occupying a processor for more than seconds.
const (
	MinIterations = 4096
	MaxIterations = 10_000_000
	minSalt       = 8
	maxSalt       = 256
)

// Keys is what is stored of a password for one hash function: enough to check it, not enough to log in with
// (RFC 5802 §3).
type Keys struct {
	Iterations int
	Salt       []byte
	Stored     []byte // H(HMAC(SaltedPassword, "Client Key"))
	Server     []byte // HMAC(SaltedPassword, "Server Key")
}

// DeriveKeys prepares the password with PreparePassword and derives its keys. The salt must have 8 to 256 bytes, and
// iterations be within MinIterations and MaxIterations. It takes as long as a login by PLAIN should.
func DeriveKeys(h Hash, password string, salt []byte, iterations int) (Keys, error) {
	clientKey, serverKey, err := derive(h, password, salt, iterations)
	if err != nil {
		return Keys{}, err
	}
	return Keys{Iterations: iterations, Salt: salt, Stored: digest(h, clientKey), Server: serverKey}, nil
}

// KeysOf computes the keys of a SaltedPassword (RFC 5802 §3), which has as many bytes as the hash.
func KeysOf(h Hash, salted, salt []byte, iterations int) Keys {
	return Keys{Iterations: iterations, Salt: salt, Stored: digest(h, mac(h, salted, "Client Key")), Server: mac(h, salted, "Server Key")}
}

// Salted computes the SaltedPassword of a password.
func Salted(h Hash, password string, salt []byte, iterations int) ([]byte, error) {
	if iterations < MinIterations || iterations > MaxIterations {
		return nil, fmt.Errorf("derive keys: %d iterations are out of bounds", iterations)
	}
	if len(salt) < minSalt || len(salt) > maxSalt {
		return nil, fmt.Errorf("derive keys: a salt of %d bytes is out of bounds", len(salt))
	}
	password, err := PreparePassword(password)
	if err != nil {
		return nil, err
	}
	salted, err := pbkdf2.Key(h.New(), password, salt, iterations, h.Size())
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	return salted, nil
}

// derive computes ClientKey and ServerKey (RFC 5802 §3).
func derive(h Hash, password string, salt []byte, iterations int) (clientKey, serverKey []byte, err error) {
	salted, err := Salted(h, password, salt, iterations)
	if err != nil {
		return nil, nil, err
	}
	return mac(h, salted, "Client Key"), mac(h, salted, "Server Key"), nil
}

// check tells whether the keys can be of use in an exchange.
func (k Keys) check(h Hash) error {
	if k.Iterations < 1 || len(k.Salt) == 0 || len(k.Stored) != h.Size() || len(k.Server) != h.Size() {
		return errors.New("stored keys are not of the shape that " + h.Name() + " needs")
	}
	return nil
}

func mac(h Hash, key []byte, message string) []byte {
	m := hmac.New(h.New(), key)
	m.Write([]byte(message))
	return m.Sum(nil)
}

func digest(h Hash, b []byte) []byte {
	d := h.New()()
	d.Write(b)
	return d.Sum(nil)
}
