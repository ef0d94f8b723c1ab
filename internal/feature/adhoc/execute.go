package adhoc

import (
	"context"
	"errors"

	"github.com/starling-im/starling/internal/module"
	"github.com/starling-im/starling/internal/xmpp/form"
	"github.com/starling-im/starling/internal/xmpp/stanza"
	"github.com/starling-im/starling/internal/xmpp/xml"
)

// Values of the attributes 'action' and 'status' (XEP-0050 §4.1).
const (
	actExecute  = "execute"
	actCancel   = "cancel"
	actPrev     = "prev"
	actNext     = "next"
	actComplete = "complete"

	executing = "executing"
	completed = "completed"
	canceled  = "canceled"
)

// fault is one of the errors of XEP-0050 §4.4.
func fault(c stanza.Condition, app, text string) *stanza.Failure {
	return stanza.Err(c, text).With(xml.New(NS, app))
}

// execute does what a client asks of a command: XEP-0050 §2.4.
func (c *Commands) execute(ctx context.Context, t module.Target, iq *stanza.Stanza) (xml.Element, error) {
	ask, call := iq.Payload(), &Call{Asker: iq.From, Entity: iq.To}
	if call.Entity.IsZero() {
		call.Entity = iq.From.Bare()
	}
	action, id := ask.Attr("action"), ask.Attr("sessionid")
	switch action {
	case "":
		action = actExecute
	case actExecute, actCancel, actPrev, actNext, actComplete:
	default:
		return xml.None, fault(stanza.BadRequest, "malformed-action", "")
	}
	if ask.Attr("node") == "" { // XEP-0050 §4.1
		return xml.None, stanza.Err(stanza.BadRequest, "a command needs a node")
	}
	cmd := c.find(t, ask.Attr("node"))
	switch {
	case cmd == nil:
		return xml.None, stanza.Err(stanza.ItemNotFound, "no such command")
	case !cmd.allows(call):
		return xml.None, stanza.Err(stanza.Forbidden, "")
	case id == "" && action != actExecute:
		return xml.None, fault(stanza.BadRequest, "bad-action", "the command is not under way")
	case id == "":
		return c.begin(ctx, cmd, call)
	}
	var answer xml.Element
	err := c.sessions.within(ctx, id, cmd, call, func(s *dialogue) (err error) {
		answer, err = c.proceed(ctx, s, call, action, &ask)
		return err
	})
	return answer, err
}

// begin runs the first stage.
func (c *Commands) begin(ctx context.Context, cmd *Command, call *Call) (xml.Element, error) {
	reply, err := cmd.Run(ctx, call)
	if err != nil {
		return xml.None, err
	}
	s := newDialogue(cmd, call)
	s.stages = append(s.stages, reply)
	if reply.Next != nil {
		if err := c.sessions.enter(s); err != nil {
			return xml.None, err
		}
	}
	return s.show(), nil
}

// proceed takes the next step, or goes back, or ends the command.
func (c *Commands) proceed(ctx context.Context, s *dialogue, call *Call, action string, ask *xml.Element) (xml.Element, error) {
	now := s.stages[len(s.stages)-1]
	switch {
	case action == actCancel: // XEP-0050 §2.4.3
		c.sessions.remove(s)
		return s.head(canceled), nil
	case action == actPrev && len(s.stages) > 1:
		s.stages = s.stages[:len(s.stages)-1]
		return s.show(), nil
	case action == actPrev, action == actNext && !now.More, action == actComplete && now.More:
		return xml.None, fault(stanza.BadRequest, "bad-action", "")
	}
	var err error
	if call.Values, err = submitted(now.Form, ask); err != nil {
		return xml.None, err
	}
	reply, err := now.Next(ctx, call)
	if err != nil {
		return xml.None, err
	}
	s.stages = append(s.stages, reply)
	if reply.Next == nil {
		c.sessions.remove(s)
	}
	return s.show(), nil
}

// submitted checks what was filled in against the form that was shown.
func submitted(shown *form.Form, ask *xml.Element) (form.Values, error) {
	if shown == nil {
		return nil, nil
	}
	given, err := form.Find(ask)
	if err == nil && given == nil {
		err = errors.New("the form is missing")
	}
	if err != nil {
		return nil, fault(stanza.BadRequest, "bad-payload", err.Error())
	}
	if given.Type == form.TypeCancel { // XEP-0050 §3.5.1
		given.Type = form.TypeSubmit
	}
	values, err := shown.Accept(given)
	if err != nil {
		return nil, fault(stanza.BadRequest, "bad-payload", err.Error())
	}
	return values, nil
}

// show renders the stage that the dialogue is at: XEP-0050 §2.4.2, §3.4.
func (s *dialogue) show() xml.Element {
	reply := &s.stages[len(s.stages)-1]
	status := completed
	if reply.Next != nil {
		status = executing
	}
	e := s.head(status)
	if reply.Next != nil {
		e = e.With(s.actions(reply))
	}
	if reply.Note != "" || reply.Failed {
		kind := "info"
		if reply.Failed {
			kind = "error"
		}
		e = e.With(xml.New(NS, "note", "type", kind).WithText(reply.Note))
	}
	if reply.Form != nil {
		e = e.With(reply.Form.Element())
	}
	return e.With(reply.Payload...)
}

func (s *dialogue) actions(reply *Reply) xml.Element {
	ahead := actComplete
	if reply.More {
		ahead = actNext
	}
	e := xml.New(NS, "actions", "execute", ahead)
	if len(s.stages) > 1 {
		e = e.With(xml.New(NS, actPrev))
	}
	return e.With(xml.New(NS, ahead))
}

func (s *dialogue) head(status string) xml.Element {
	// XEP-0050 §3.7: the language of the texts.
	return xml.New(NS, "command", "node", s.cmd.Node, "sessionid", s.id, "status", status, "xml:lang", "en")
}
