package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/starling-im/starling/internal/membership"
	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	maxBodyBytes   = 64 << 10         // of a request
	requestTimeout = 30 * time.Second // from its header to the end of the answer
)

// Bodies of requests and answers about accounts.
type (
	accountBody struct {
		JID      string `json:"jid"`
		Password string `json:"password"`
	}
	passwordBody struct {
		Password string `json:"password"`
	}
	domainsBody struct {
		Domains []string `json:"domains"`
	}
	usersBody struct {
		Users []User `json:"users"`
	}
	errorBody struct {
		Error *Error `json:"error"`
	}
)

// Handler offers Users and Cluster over HTTP, to whoever can reach it: there is no log-in. It belongs on a Unix socket with mode
// 0600. Bodies are JSON of at most 64 KiB; each request has 30 seconds.
//
//	GET    /v1/domains                         → {"domains": […]}
//	GET    /v1/users?domain=D&after=J&limit=N  → {"users": [{"jid", "created", "disabled"}, …]}
//	POST   /v1/users {"jid", "password"}       → 201 {"jid", "password"}
//	PUT    /v1/users/J/password {"password"}   → {"jid", "password"}
//	DELETE /v1/users/J                         → {}
//	GET    /v1/cluster                         → membership.Status
//	GET    /v1/cluster/tables                  → {"tables": […]}, each a membership.Table
//	GET    /v1/cluster/links                   → {"links": […]}, each a membership.Link
//	GET    /v1/cluster/events                  → {"events": [{"time", "text"}, …]}
//	POST   /v1/cluster/join {"all"}            → membership.Status
//	POST   /v1/cluster/leave {"all"}           → membership.Status
//	POST   /v1/cluster/drain                   → membership.Status
//
// An empty password asks for one that is made up. Whatever fails is answered with {"error": {"code", "text"}}.
func Handler(core *module.Core, members *membership.Membership, log *slog.Logger) http.Handler {
	h := &handler{users: NewUsers(core), log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/domains", h.answer(http.StatusOK, h.domains))
	mux.HandleFunc("GET /v1/users", h.answer(http.StatusOK, h.list))
	mux.HandleFunc("POST /v1/users", h.answer(http.StatusCreated, h.add))
	mux.HandleFunc("PUT /v1/users/{account}/password", h.answer(http.StatusOK, h.setPassword))
	mux.HandleFunc("DELETE /v1/users/{account}", h.answer(http.StatusOK, h.remove))
	h.handleCluster(mux, NewCluster(members))
	mux.HandleFunc("/", h.answer(http.StatusOK, func(r *http.Request) (any, error) {
		return nil, fault(BadRequest, nil, "there is no %s %s", r.Method, r.URL.Path)
	}))
	return mux
}

type handler struct {
	users *Users
	log   *slog.Logger
}

// answer wraps a request's function: bounds and deadlines before it, JSON after it.
func (h *handler) answer(status int, fn func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		limit := time.Now().Add(requestTimeout)
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(limit) // a recorder in a test has none
		_ = control.SetWriteDeadline(limit)
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)

		code := status
		body, err := fn(r.WithContext(ctx))
		if err != nil {
			e := h.visible(r, err)
			code, body = statusOf(e.Code), errorBody{e}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(body) // an error means that the client has gone
	}
}

// visible returns what the client may see of an error; the log sees the rest.
func (h *handler) visible(r *http.Request, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fault(Unavailable, err, "the server did not manage this in time")
	}
	h.log.LogAttrs(r.Context(), slog.LevelError, "request of an operator failed",
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("err", err))
	return fault(Internal, err, "the server failed; its log says why")
}

func statusOf(c Code) int {
	switch c {
	case Exists, Reserved:
		return http.StatusConflict
	case NotFound:
		return http.StatusNotFound
	case Unavailable:
		return http.StatusServiceUnavailable
	case Internal:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func (h *handler) domains(r *http.Request) (any, error) {
	names, err := h.users.Domains(r.Context())
	return domainsBody{names}, err
}

func (h *handler) list(r *http.Request) (any, error) {
	q := r.URL.Query()
	var after jid.JID
	if s := q.Get("after"); s != "" {
		var err error
		if after, err = ParseAccount(s); err != nil {
			return nil, err
		}
	}
	limit := 0
	if s := q.Get("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil {
			return nil, fault(BadRequest, err, "limit=%q is not a number", s)
		}
	}
	users, err := h.users.List(r.Context(), q.Get("domain"), after, limit)
	return usersBody{users}, err
}

func (h *handler) add(r *http.Request) (any, error) {
	var body accountBody
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	who, err := ParseAccount(body.JID)
	if err != nil {
		return nil, err
	}
	password, err := h.users.Add(r.Context(), who, body.Password)
	return accountBody{who.String(), password}, err
}

func (h *handler) setPassword(r *http.Request) (any, error) {
	var body passwordBody
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	who, err := ParseAccount(r.PathValue("account"))
	if err != nil {
		return nil, err
	}
	password, err := h.users.SetPassword(r.Context(), who, body.Password)
	return accountBody{who.String(), password}, err
}

func (h *handler) remove(r *http.Request) (any, error) {
	who, err := ParseAccount(r.PathValue("account"))
	if err != nil {
		return nil, err
	}
	return struct{}{}, h.users.Delete(r.Context(), who)
}

// decode reads the one JSON value that is the body of a request.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return fault(BadRequest, err, "the request cannot be read: %v", err)
	}
	return nil
}
