package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/store"
)

// operateTimeout is how long a request waits for what it has begun: less than it may take itself.
const operateTimeout = 20 * time.Second

// Cluster is what operators may do about a node's place in its cluster. All methods may be called from any goroutine;
// their errors are an *Error where the caller can do something about them.
type Cluster struct{ members *membership.Membership }

// NewCluster returns the service for a server.
func NewCluster(m *membership.Membership) *Cluster { return &Cluster{m} }

// Status tells what the node is doing, and who its members are.
func (c *Cluster) Status(context.Context) (membership.Status, error) { return c.members.Status(), nil }

// Tables lists the replicated tables.
func (c *Cluster) Tables(context.Context) ([]membership.Table, error) { return c.members.Tables(), nil }

// Links lists the links to the members.
func (c *Cluster) Links(context.Context) ([]membership.Link, error) { return c.members.Links(), nil }

// Events lists the latest events, oldest first.
func (c *Cluster) Events(context.Context) ([]membership.Event, error) {
	return c.members.Events(), nil
}

// Join puts this node, or all of them, into the cluster, which is kept. It returns the status after that; the state is
// joining if it takes longer than 20 seconds, and failed with the reason when it cannot be. The error is NotConfigured
// or Unavailable.
func (c *Cluster) Join(ctx context.Context, all bool) (membership.Status, error) {
	return c.operate(ctx, func(ctx context.Context) error { return c.members.Join(ctx, all) })
}

// Leave takes this node, or all of them, out of the cluster, which is kept. It returns the status after that; the state is
// draining if it takes longer than 20 seconds. The error is NotConfigured or Unavailable.
func (c *Cluster) Leave(ctx context.Context, all bool) (membership.Status, error) {
	return c.operate(ctx, func(ctx context.Context) error { return c.members.Leave(ctx, all) })
}

// Drain ends the sessions of this node and keeps clients away until it joins or is started again. It returns the status
// after that; the state is draining if it takes longer than 20 seconds. The error is Unavailable.
func (c *Cluster) Drain(ctx context.Context) (membership.Status, error) {
	return c.operate(ctx, c.members.Drain)
}

// operate does something and returns what has become of it.
func (c *Cluster) operate(ctx context.Context, do func(context.Context) error) (membership.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, operateTimeout)
	defer cancel()
	err := do(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = nil // it goes on
	case errors.Is(err, membership.ErrNotConfigured):
		err = fault(NotConfigured, err, "no cluster is configured on this node: make a join token with `starling cluster token --out FILE`, "+
			"name it in cluster.token_file, and start the server again")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, membership.ErrStopping):
		err = fault(Unavailable, err, "the server cannot do this now, try again later: %v", err)
	}
	return c.members.Status(), err
}

// Bodies of requests and answers about the cluster.
type (
	wholeBody struct {
		All bool `json:"all"`
	}
	tablesBody struct {
		Tables []membership.Table `json:"tables"`
	}
	linksBody struct {
		Links []membership.Link `json:"links"`
	}
	eventsBody struct {
		Events []membership.Event `json:"events"`
	}
)

// handleCluster adds the requests about the cluster.
func (h *handler) handleCluster(mux *http.ServeMux, c *Cluster) {
	mux.HandleFunc("GET /v1/cluster", h.answer(http.StatusOK, func(r *http.Request) (any, error) { return c.Status(r.Context()) }))
	mux.HandleFunc("GET /v1/cluster/tables", h.answer(http.StatusOK, func(r *http.Request) (any, error) {
		all, err := c.Tables(r.Context())
		return tablesBody{all}, err
	}))
	mux.HandleFunc("GET /v1/cluster/links", h.answer(http.StatusOK, func(r *http.Request) (any, error) {
		all, err := c.Links(r.Context())
		return linksBody{all}, err
	}))
	mux.HandleFunc("GET /v1/cluster/events", h.answer(http.StatusOK, func(r *http.Request) (any, error) {
		all, err := c.Events(r.Context())
		return eventsBody{all}, err
	}))
	whole := func(do func(context.Context, bool) (membership.Status, error)) http.HandlerFunc {
		return h.answer(http.StatusOK, func(r *http.Request) (any, error) {
			var body wholeBody
			if err := decode(r, &body); err != nil {
				return nil, err
			}
			return do(r.Context(), body.All)
		})
	}
	mux.HandleFunc("POST /v1/cluster/join", whole(c.Join))
	mux.HandleFunc("POST /v1/cluster/leave", whole(c.Leave))
	mux.HandleFunc("POST /v1/cluster/drain", h.answer(http.StatusOK, func(r *http.Request) (any, error) { return c.Drain(r.Context()) }))
}

// ClusterClient speaks to the Handler of a server on this machine. Its methods are those of Cluster, and so are their
// errors; others say that the server could not be reached.
type ClusterClient struct{ c *Client }

// Cluster returns the part of the client that concerns the cluster.
func (c *Client) Cluster() *ClusterClient { return &ClusterClient{c} }

// Status is Cluster.Status.
func (c *ClusterClient) Status(ctx context.Context) (s membership.Status, err error) {
	err = c.c.call(ctx, http.MethodGet, "/v1/cluster", nil, &s)
	return s, err
}

// Tables is Cluster.Tables.
func (c *ClusterClient) Tables(ctx context.Context) ([]membership.Table, error) {
	var answer tablesBody
	err := c.c.call(ctx, http.MethodGet, "/v1/cluster/tables", nil, &answer)
	return answer.Tables, err
}

// Links is Cluster.Links.
func (c *ClusterClient) Links(ctx context.Context) ([]membership.Link, error) {
	var answer linksBody
	err := c.c.call(ctx, http.MethodGet, "/v1/cluster/links", nil, &answer)
	return answer.Links, err
}

// Events is Cluster.Events.
func (c *ClusterClient) Events(ctx context.Context) ([]membership.Event, error) {
	var answer eventsBody
	err := c.c.call(ctx, http.MethodGet, "/v1/cluster/events", nil, &answer)
	return answer.Events, err
}

// Join is Cluster.Join.
func (c *ClusterClient) Join(ctx context.Context, all bool) (s membership.Status, err error) {
	err = c.c.call(ctx, http.MethodPost, "/v1/cluster/join", wholeBody{all}, &s)
	return s, err
}

// Leave is Cluster.Leave.
func (c *ClusterClient) Leave(ctx context.Context, all bool) (s membership.Status, err error) {
	err = c.c.call(ctx, http.MethodPost, "/v1/cluster/leave", wholeBody{all}, &s)
	return s, err
}

// Drain is Cluster.Drain.
func (c *ClusterClient) Drain(ctx context.Context) (s membership.Status, err error) {
	err = c.c.call(ctx, http.MethodPost, "/v1/cluster/drain", nil, &s)
	return s, err
}
