package testnet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Handler answers a question. What it returns is sent as JSON.
type Handler func(args json.RawMessage) (result any, err error)

// Handle makes a Handler of a function with an argument of its own type.
func Handle[Args any](fn func(Args) (any, error)) Handler {
	return func(b json.RawMessage) (any, error) {
		var args Args
		if err := json.Unmarshal(b, &args); err != nil {
			return nil, fmt.Errorf("arguments: %w", err)
		}
		return fn(args)
	}
}

// Server is the other end of a Program: it runs in that process.
type Server struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

// NewServer returns a server that writes to out.
func NewServer(out io.Writer) *Server { return &Server{out: out} }

// Serve answers the questions that come from in until that ends, each on a goroutine of its own.
func (s *Server) Serve(in io.Reader, handlers map[string]Handler) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longest)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return fmt.Errorf("question %q: %w", lines.Bytes(), err)
		}
		go s.answer(q, handlers[q.What])
	}
	return lines.Err()
}

func (s *Server) answer(q question, h Handler) {
	l := line{Number: q.Number}
	if h == nil {
		l.Error = "unknown question " + q.What
		s.write(l)
		return
	}
	result, err := h(q.Args)
	if err == nil {
		l.Result, err = json.Marshal(result)
	}
	if err != nil {
		l.Error, l.Result = err.Error(), nil
	}
	s.write(l)
}

// Tell tells news.
func (s *Server) Tell(news any) error {
	b, err := json.Marshal(news)
	if err != nil {
		return fmt.Errorf("news: %w", err)
	}
	s.write(line{News: b})
	return nil
}

func (s *Server) write(l line) {
	b, _ := json.Marshal(l) // its parts are JSON already
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.out.Write(append(b, '\n')) // whoever asked is gone if this fails
}
