package server

import (
	"github.com/starling-im/starling/internal/c2s"
	"github.com/starling-im/starling/internal/feature/csi"
	"github.com/starling-im/starling/internal/feature/streammanagement"
)

// management is what the door does about stream management: nothing when the feature does not run.
func (s *Server) management() c2s.Management {
	cfg, on := s.set.Provided(streammanagement.Module.Name).(streammanagement.Config)
	m := c2s.Management{
		On: on, Max: cfg.Max, Stanzas: cfg.Queue, Bytes: int(cfg.QueueBytes), AckTimeout: cfg.AckTimeout,
		SettlePause: cfg.SettlePause, SettleTimeout: cfg.SettleTimeout,
		Detached: cfg.PerAccount, Location: cfg.Location,
	}
	if s.cfg.Cluster.Configured() {
		m.Hint = s.node.Self().ID
	}
	return m
}

// indication is what the door does about clients that are inactive.
func (s *Server) indication() c2s.Indication {
	cfg, on := s.set.Provided(csi.Module.Name).(csi.Config)
	return c2s.Indication{On: on, Stanzas: max(1, cfg.Queue), HoldPresence: cfg.Presence, HoldEvents: cfg.Events, DropChatStates: cfg.ChatStates}
}
