package vcard

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/store"
	"github.com/starling-im/starling/internal/xmpp/jid"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// load is the card of an account, None when it has none.
func (v *VCards) load(ctx context.Context, owner jid.JID) (xml.Element, error) {
	var text string
	err := v.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT card FROM vcard WHERE owner = $1`, owner.String()).Scan(&text)
	})
	if errors.Is(err, store.ErrNotFound) {
		return xml.None, nil
	}
	if err != nil {
		return xml.None, fmt.Errorf("load vCard of %s: %w", owner, err)
	}
	card, err := xml.Parse([]byte(text), "")
	if err != nil {
		return xml.None, fmt.Errorf("vCard of %s: %w", owner, err)
	}
	return card, nil
}

// readPhoto reads what presence tells of an account's picture.
func (v *VCards) readPhoto(ctx context.Context, owner jid.JID) (p photo, err error) {
	err = v.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row(`SELECT photo FROM vcard WHERE owner = $1`, owner.String()).Scan(&p.hash)
	})
	if errors.Is(err, store.ErrNotFound) {
		return photo{}, nil
	}
	p.card = true
	return p, err
}

// save replaces the card of an account.
func (v *VCards) save(ctx context.Context, owner jid.JID, card xml.Element) error {
	text := card.String()
	if len(text) > int(v.cfg.MaxBytes) {
		return stanza.Err(stanza.NotAcceptable, "the vCard is too long")
	}
	hash := photoHash(&card)
	who, listed := person(owner, &card)
	err := v.change(ctx, owner, func(tx *store.Tx) error {
		// First the card: its row keeps another change of it waiting.
		_, err := tx.Exec(`INSERT INTO vcard (owner, photo, card) VALUES ($1, $2, $3)
			ON CONFLICT (owner) DO UPDATE SET photo = excluded.photo, card = excluded.card`, owner.String(), hash, text)
		if err != nil {
			return err
		}
		if err := delist(tx, owner); err != nil || !listed {
			return err
		}
		_, err = tx.Exec(`INSERT INTO vcard_directory (owner, domain, given, family, nickname, email,
				given_key, family_key, nickname_key, email_key)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			owner.String(), owner.Domain(), who.Given, who.Family, who.Nickname, who.Email,
			key(who.Given), key(who.Family), key(who.Nickname), key(who.Email))
		return err
	})
	if err != nil {
		return fmt.Errorf("save vCard of %s: %w", owner, err)
	}
	return nil
}

// change runs a change of an account's card.
func (v *VCards) change(ctx context.Context, owner jid.JID, fn func(tx *store.Tx) error) error {
	err := v.DB.Write(ctx, fn)
	v.photos.Drop(owner) // whatever err says: the commit may have taken place all the same
	return err
}

func delist(tx *store.Tx, owner jid.JID) error {
	_, err := tx.Exec(`DELETE FROM vcard_directory WHERE owner = $1`, owner.String())
	return err
}

// deleted forgets the card of an account.
func (v *VCards) deleted(ctx context.Context, e *module.AccountEvent) error {
	return v.change(ctx, e.Account, func(tx *store.Tx) error {
		if _, err := tx.Exec(`DELETE FROM vcard WHERE owner = $1`, e.Account.String()); err != nil {
			return err
		}
		return delist(tx, e.Account)
	})
}

// Find lists at most limit people of a domain, by address, whose names begin with those
// of like, without regard to case. What is empty there does not matter; if all is, nobody is found.
func (v *VCards) Find(ctx context.Context, domain string, like Person, limit int) ([]Person, error) {
	where := []string{"domain = $1"}
	args := []any{domain}
	columns := [4]string{"given_key", "family_key", "nickname_key", "email_key"}
	for i, text := range like.fields() {
		least := key(text)
		if len(least) == 0 {
			continue
		}
		greatest := append(key(text), 0xff) // is in no UTF-8
		args = append(args, least, greatest)
		where = append(where, fmt.Sprintf("%[1]s >= $%[2]d AND %[1]s < $%[3]d", columns[i], len(args)-1, len(args)))
	}
	if len(where) == 1 {
		return nil, nil
	}
	args = append(args, limit)
	query := fmt.Sprintf(`SELECT owner, given, family, nickname, email FROM vcard_directory
		WHERE %s ORDER BY owner LIMIT $%d`, strings.Join(where, " AND "), len(args))
	var found []Person
	err := v.DB.Read(ctx, func(tx *store.Tx) error {
		found = found[:0]
		return tx.Each(func(scan store.Scan) error {
			var owner string
			var p Person
			if err := scan(&owner, &p.Given, &p.Family, &p.Nickname, &p.Email); err != nil {
				return err
			}
			j, err := jid.Parse(owner)
			p.Owner = j
			found = append(found, p)
			return err
		}, query, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("search the directory of %s: %w", domain, err)
	}
	return found, nil
}
