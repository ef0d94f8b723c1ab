package natsbus

import (
	"bytes"
	"cmp"
	"fmt"
	"time"
)

// keepKeys takes the join tokens from their file again when that has changed. A file that reads the same twice is not
// being written any more. Connections that exist stay; new ones are made with the new tokens.
func (s *embedded) keepKeys() {
	tick := time.NewTicker(cmp.Or(s.conf.Rekey, defaultRekey))
	defer tick.Stop()
	told := newSparseness(sayAgain)
	used, last := s.conf.Token, s.conf.Token
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		text, err := s.conf.Reread()
		if err == nil && !bytes.Equal(text, last) {
			last = text
			continue
		}
		if err == nil && bytes.Equal(text, used) {
			continue
		}
		if err == nil {
			used = text
			err = s.rekey(text)
		}
		if err == nil {
			s.log.Info("join tokens changed")
		} else if n, ok := told.say(err.Error()); ok {
			s.log.Error("join tokens stay as they were", "err", err, "repeated", n)
		}
	}
}

// rekey makes new connections use the tokens of the text.
func (s *embedded) rekey(text []byte) error {
	keys, err := newKeyring(text, s.self.Cluster)
	if err != nil {
		return err
	}
	config, err := keys.tls(time.Now())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.base.Cluster.TLSConfig
	s.base.Cluster.TLSConfig = config
	s.conf.Clients.secure(s.base)
	if err := s.apply(); err != nil {
		s.base.Cluster.TLSConfig = old
		s.conf.Clients.secure(s.base)
		return fmt.Errorf("give the cluster's server new keys: %w", err)
	}
	s.keys.Store(keys)
	return nil
}
