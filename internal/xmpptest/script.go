package xmpptest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/starling-im/starling/internal/xmpp/jid"
)

// verb is what a step does.
type verb string

const (
	makeAccount verb = "account"
	logIn       verb = "client"
	bindOnly    verb = "client!"
	authOnly    verb = "login"
	connect     verb = "raw"
	befriend    verb = "friends"
	skip        verb = "skip"
	closeStream verb = "close"
	drop        verb = "drop"
	cut         verb = "cut"
	send        verb = ">"
	expect      verb = "<"
	startTLS    verb = "starttls"
	closed      verb = "closed"
)

// step is one line of a script.
type step struct {
	line int
	verb verb
	who  string // name of a client; empty for makeAccount
	arg  string // JID, other client's name, text to send, "tls", or what is expected
	how  how    // of an expectation
}

// how tells the kinds of expectation apart.
type how string

const (
	anywhere how = ""
	first    how = "first"
	exactly  how = "exactly"
	never    how = "no"
	nothing  how = "nothing"
)

// script is what a file says.
type script struct {
	name   string
	set    []string
	single string // why it is for one node only; empty if it is not
	steps  []step
}

// spreads tells whether the script is worth playing on a cluster: whether it makes clients that can be on different nodes.
func (s *script) spreads() bool {
	clients := 0
	for _, st := range s.steps {
		switch st.verb {
		case logIn, bindOnly, authOnly, connect:
			clients++
		}
	}
	return s.single == "" && clients > 1
}

// statement is a line with its continuations.
type statement struct {
	line int
	text string
}

// parser reads a script.
type parser struct {
	script
	names map[string]verb // how each client was made
}

// parse reads a script. The error names the line.
func parse(name, src string) (*script, error) {
	p := &parser{script: script{name: name}, names: map[string]verb{}}
	all, err := statements(src)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	for _, s := range all {
		if err := p.statement(s); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, s.line, err)
		}
	}
	return &p.script, nil
}

// statements joins lines that belong together, and leaves out those that say nothing.
func statements(src string) ([]statement, error) {
	var all []statement
	number := 0
	for line := range strings.Lines(src) {
		number++
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#':
		case line[0] != ' ' && line[0] != '\t':
			all = append(all, statement{number, text})
		case len(all) == 0:
			return nil, fmt.Errorf("%d: nothing goes on here", number)
		default:
			last := &all[len(all)-1]
			if text[0] != '<' {
				last.text += " "
			}
			last.text += text
		}
	}
	return all, nil
}

var name = regexp.MustCompile(`^[a-z][a-z0-9]*$`)

func (p *parser) statement(s statement) error {
	word, rest := split(s.text)
	st := step{line: s.line, verb: verb(word)}
	switch st.verb {
	case "set":
		if len(p.steps) > 0 {
			return fmt.Errorf("settings come before all else")
		}
		p.set = append(p.set, rest)
		return nil
	case "single":
		if len(p.steps) > 0 || p.single != "" || rest == "" {
			return fmt.Errorf("single comes once, before all else, and says why")
		}
		p.single = rest
		return nil
	case makeAccount:
		st.arg = rest
		if j, err := jid.Parse(rest); err != nil || !j.IsBare() || j.Local() == "" {
			return fmt.Errorf("%q is not the address of an account", rest)
		}
	case logIn, bindOnly, authOnly, connect:
		st.who, st.arg = split(rest)
		if err := p.introduce(&st); err != nil {
			return err
		}
	case befriend:
		st.who, st.arg = split(rest)
		if p.names[st.who] != logIn || p.names[st.arg] != logIn || st.who == st.arg {
			return fmt.Errorf("friends are two that logged in by client")
		}
	case skip, closeStream, drop, cut:
		st.who = rest
		if err := p.known(&st); err != nil {
			return err
		}
	default:
		st.who = word
		if err := p.known(&st); err != nil {
			return err
		}
		if err := p.talk(&st, rest); err != nil {
			return err
		}
	}
	p.steps = append(p.steps, st)
	return nil
}

// split takes the first word off.
func split(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// introduce checks the line that makes a client.
func (p *parser) introduce(st *step) error {
	switch {
	case !name.MatchString(st.who) || slices.Contains(reserved(), st.who):
		return fmt.Errorf("%q cannot be the name of a client", st.who)
	case st.verb == connect && st.arg != "" && st.arg != "tls":
		return fmt.Errorf("raw takes a name and nothing, or tls")
	case st.verb != connect:
		if j, err := jid.Parse(st.arg); err != nil || (st.verb == logIn || st.verb == authOnly) && !j.IsFull() {
			return fmt.Errorf("%q is not an address to log in to", st.arg)
		}
	}
	p.names[st.who] = st.verb
	return nil
}

// reserved are the words that cannot be names of clients.
func reserved() []string {
	return []string{"set", "single", string(makeAccount), string(logIn), string(authOnly), string(connect), string(befriend),
		string(skip), string(closeStream), string(drop), string(cut), "open", "any", "none"}
}

func (p *parser) known(st *step) error {
	switch made, ok := p.names[st.who]; {
	case !ok:
		return fmt.Errorf("%q is neither a word of scripts nor a client", st.who)
	case made == connect && st.verb == skip:
		return fmt.Errorf("%s is raw: only clients can know when all has come", st.who)
	}
	return nil
}

// talk reads what stands after a client's name.
func (p *parser) talk(st *step, rest string) error {
	op, rest := split(rest)
	st.verb, st.arg = verb(op), rest
	raw := p.names[st.who] == connect
	switch st.verb {
	case send:
		if _, err := unescape(rest); err != nil || rest == "" {
			return fmt.Errorf("cannot send %q: %v", rest, err)
		}
	case expect:
		return p.expectation(st, raw)
	case startTLS:
		if !raw || rest != "" {
			return fmt.Errorf("only raw clients negotiate TLS by themselves")
		}
	case closed:
		if rest != "" {
			return fmt.Errorf("what is %q?", rest)
		}
	default:
		return fmt.Errorf("%s does what? %q is none of > < starttls closed", st.who, op)
	}
	return nil
}

func (p *parser) expectation(st *step, raw bool) error {
	if word, rest := split(st.arg); slices.Contains([]how{first, exactly, never, nothing}, how(word)) {
		st.how, st.arg = how(word), rest
	}
	if raw && (st.how == never || st.how == nothing) {
		return fmt.Errorf("%s is raw: only clients can know when all has come", st.who)
	}
	if st.how == nothing {
		if st.arg != "" {
			return fmt.Errorf("nothing is nothing, not %q", st.arg)
		}
		return nil
	}
	_, err := compile(st.arg)
	return err
}

// String writes the script as parse reads it, one statement a line.
func (s *script) String() string {
	var b strings.Builder
	for _, kv := range s.set {
		fmt.Fprintf(&b, "set %s\n", kv)
	}
	if s.single != "" {
		fmt.Fprintf(&b, "single %s\n", s.single)
	}
	for _, st := range s.steps {
		b.WriteString(st.String() + "\n")
	}
	return b.String()
}

// String writes the step as a line.
func (st step) String() string {
	var words []string
	switch st.verb {
	case makeAccount:
		words = []string{string(st.verb), st.arg}
	case send, startTLS, closed:
		words = []string{st.who, string(st.verb), st.arg}
	case expect:
		words = []string{st.who, string(st.verb), string(st.how), st.arg}
	default:
		words = []string{string(st.verb), st.who, st.arg}
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// unescape resolves \n, \r, \t, \\ and \xFF.
func unescape(s string) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			return b.String() + s, nil
		}
		b.WriteString(s[:i])
		c, _, rest, err := strconv.UnquoteChar(s[i:], 0)
		if err != nil || !strings.ContainsRune(`nrt\x`, rune(s[i+1])) {
			return "", fmt.Errorf("bad escape in %.10q", s[i:])
		}
		b.WriteByte(byte(c))
		s = rest
	}
}
