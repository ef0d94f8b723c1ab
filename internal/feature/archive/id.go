package archive

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/starling-im/starling/internal/session"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

// id names a message in the archive of its owner. It is made of the stanza's key, so it is known before the commit, and
// equal on every node and when the stanza is sent again. It tells nobody anything (XEP-0359 §6) but the server, which
// alone can read it: which stanza it was of which session, as the index has it.
type id [aes.BlockSize]byte

// origin is what an id is made of.
type origin struct {
	session int64 // a hash of the sender's session and of the owner
	n       int64 // of the stanza in the session
}

// The bytes of an origin in an id. The rest is a hash of the text.
const (
	sessionBytes = 6
	numberBytes  = 5
)

// ids makes ids, and reads them.
type ids struct{ block cipher.Block }

// of is the id of a stanza for an owner.
func (s ids) of(k session.Key, owner jid.JID) (made id) {
	b := make([]byte, 0, 128)
	b = append(b, k.Seed[:]...)
	if k.N == 0 { // it is none of those that its session has sent, which have numbers
		b = binary.BigEndian.AppendUint64(b, k.Hash)
	}
	b = append(b, owner.String()...)
	sum := sha256.Sum256(b)
	copy(made[:sessionBytes], sum[:])
	put(made[sessionBytes:sessionBytes+numberBytes], k.N)
	put(made[sessionBytes+numberBytes:], k.Hash)
	s.block.Encrypt(made[:], made[:])
	return made
}

// origin is what of has made an id of.
func (s ids) origin(i id) origin {
	s.block.Decrypt(i[:], i[:])
	return origin{get(i[:sessionBytes]), get(i[sessionBytes : sessionBytes+numberBytes])}
}

// put writes the last digits of a number.
func put(b []byte, n uint64) {
	for i := range b {
		b[len(b)-1-i] = byte(n >> (8 * i))
	}
}

func get(b []byte) (n int64) {
	for _, c := range b {
		n = n<<8 | int64(c)
	}
	return n
}

// readSecret reads the secret of ids, which the first server on a database draws.
func readSecret(ctx context.Context, db *store.DB) (made ids, err error) {
	proposed := make([]byte, 16)
	_, _ = rand.Read(proposed) // never fails
	var secret []byte
	read := func(tx *store.Tx) error {
		return tx.Row(`SELECT secret FROM archive_secret WHERE number = 1`).Scan(&secret)
	}
	if err = db.Read(ctx, read); errors.Is(err, store.ErrNotFound) {
		err = db.Write(ctx, func(tx *store.Tx) error {
			if _, err := tx.Exec(`INSERT INTO archive_secret (number, secret) VALUES (1, $1) ON CONFLICT (number) DO NOTHING`, proposed); err != nil {
				return err
			}
			return read(tx)
		})
	}
	if err != nil {
		return made, err
	}
	made.block, err = aes.NewCipher(secret)
	return made, err
}

// String is the id as clients know it.
func (i id) String() string { return base64.RawURLEncoding.EncodeToString(i[:]) }

// parseID reads what String has written. What it has not written is the id of nothing.
func parseID(s string) (i id, ok bool) {
	if len(s) != base64.RawURLEncoding.EncodedLen(len(i)) {
		return i, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(i[:], []byte(s))
	return i, err == nil && n == len(i)
}
