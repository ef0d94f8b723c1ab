package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

const (
	dialTimeout    = 2 * time.Second
	clientTimeout  = requestTimeout + 5*time.Second
	maxAnswerBytes = 4 << 20 // MaxList accounts with the longest names
)

// Client speaks to the Handler of a server on this machine. Its methods are those of Users, and so are their errors;
// others say that the server could not be reached: errors.Is(err, syscall.ECONNREFUSED) where none runs any more.
type Client struct{ http http.Client }

// Dial returns a client for the server at a Unix socket. It connects when a method is called.
func Dial(socket string) *Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	return &Client{http.Client{
		Timeout: clientTimeout,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			DisableKeepAlives: true, // a command asks once or twice and is gone
		},
	}}
}

// Domains lists the domains that are served, the default one first.
func (c *Client) Domains(ctx context.Context) ([]string, error) {
	var answer domainsBody
	err := c.call(ctx, http.MethodGet, "/v1/domains", nil, &answer)
	return answer.Domains, err
}

// Add is Users.Add.
func (c *Client) Add(ctx context.Context, who jid.JID, password string) (string, error) {
	var answer accountBody
	err := c.call(ctx, http.MethodPost, "/v1/users", accountBody{who.String(), password}, &answer)
	return answer.Password, err
}

// SetPassword is Users.SetPassword.
func (c *Client) SetPassword(ctx context.Context, who jid.JID, password string) (string, error) {
	var answer accountBody
	err := c.call(ctx, http.MethodPut, userPath(who)+"/password", passwordBody{password}, &answer)
	return answer.Password, err
}

// Delete is Users.Delete.
func (c *Client) Delete(ctx context.Context, who jid.JID) error {
	return c.call(ctx, http.MethodDelete, userPath(who), nil, &struct{}{})
}

// List is Users.List.
func (c *Client) List(ctx context.Context, domain string, after jid.JID, limit int) ([]User, error) {
	query := url.Values{"domain": {domain}, "after": {after.String()}, "limit": {strconv.Itoa(limit)}}
	var answer usersBody
	err := c.call(ctx, http.MethodGet, "/v1/users?"+query.Encode(), nil, &answer)
	return answer.Users, err
}

func userPath(who jid.JID) string { return "/v1/users/" + url.PathEscape(who.String()) }

// call makes one request. Its answer goes into answer, or becomes an *Error.
func (c *Client) call(ctx context.Context, method, path string, request, answer any) error {
	var body io.Reader
	if request != nil {
		text, err := json.Marshal(request)
		if err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://starling"+path, body)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	response, err := c.http.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the made-up URL
		}
		return fmt.Errorf("ask the running server: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		var failed errorBody
		if json.Unmarshal(text, &failed) != nil || failed.Error == nil {
			return fmt.Errorf("the server answers %s", response.Status)
		}
		failed.Error.Code = cmp.Or(failed.Error.Code, Internal)
		return failed.Error
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}
