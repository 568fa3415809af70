package declared

import (
	"encoding/json"
	"fmt"
	"strings"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/projections"
	"banyan/projections/effects"
	"banyan/projections/state"
)

// effect is a mail or a call.
type effect struct {
	node      document.Node
	called    string
	types     map[string]bool // of events; nil for all, or for windows and timers
	when      *formula
	fromStart bool
	kind      string
	texts     map[string]*template // by field
	headers   []member
	body      []member // of json
	method    string
	late      bool
}

type member struct {
	name string
	text *template
	*formula
}

func (e *effect) name() string        { return "effect " + e.called }
func (e *effect) at() document.Node   { return e.node }
func (e *effect) skips(t string) bool { return e.types != nil && !e.types[t] }

// effectWork is an effect that is made already; nil payload is one that needs
// rows first.
type effectWork struct{ payload json.RawMessage }

func (e *effect) prepare(s *scope) (any, bool, error) {
	if s.e.Tombstone {
		return nil, false, nil
	}
	if e.late {
		e.foresee(s)
		return &effectWork{}, true, nil
	}
	payload, err := e.payload(s)
	if err != nil || payload == nil {
		return nil, false, err
	}
	return &effectWork{payload}, false, nil
}

func (e *effect) foresee(s *scope) {
	s.foresee(e.when)
	all := append([]member{}, e.headers...)
	for _, t := range e.texts {
		all = append(all, member{text: t})
	}
	for _, m := range append(all, e.body...) {
		if m.text == nil {
			s.foresee(m.formula)
			continue
		}
		for _, p := range m.text.pieces {
			s.foresee(p.value)
		}
	}
}

func (e *effect) wants(any, func(string, state.Key)) {}

func (e *effect) apply(tx *projections.Tx, s *scope, work any) error {
	if payload := work.(*effectWork).payload; payload != nil {
		tx.Effect(projections.Effect{Name: e.called, Kind: e.kind, Payload: payload, FromStart: e.fromStart})
		return nil
	}
	return e.promise(tx, s)
}

// promise makes the effect and promises it, unless its condition says no.
func (e *effect) promise(tx *projections.Tx, s *scope) error {
	payload, err := e.payload(s)
	if err != nil {
		return fmt.Errorf("effect %s: %w", e.called, err)
	}
	if payload != nil {
		tx.Effect(projections.Effect{Name: e.called, Kind: e.kind, Payload: payload, FromStart: e.fromStart})
	}
	return nil
}

// payload is nil where the condition does not hold.
func (e *effect) payload(s *scope) (json.RawMessage, error) {
	if e.when != nil {
		if holds, err := e.when.Truth(s); err != nil || !holds {
			return nil, err
		}
	}
	texts := map[string]string{}
	for _, name := range sortedNames(e.texts) {
		text, err := e.texts[name].text(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		texts[name] = text
	}
	var what any
	if e.kind == effects.KindMail {
		mail := effects.Mail{From: texts["from"], Subject: texts["subject"], Body: texts["body"]}
		for _, to := range strings.Split(texts["to"], ",") {
			if to = strings.TrimSpace(to); to != "" {
				mail.To = append(mail.To, to)
			}
		}
		what = mail
	} else {
		call, err := e.call(s, texts)
		if err != nil {
			return nil, err
		}
		what = call
	}
	payload, err := json.Marshal(what)
	if err != nil {
		return nil, fmt.Errorf("write the %s: %w", e.kind, err)
	}
	return payload, effects.Check(e.kind, payload)
}

func (e *effect) call(s *scope, texts map[string]string) (effects.Call, error) {
	call := effects.Call{Method: e.method, URL: texts["url"], Body: texts["body"]}
	for _, h := range e.headers {
		text, err := h.text.text(s)
		if err != nil {
			return call, fmt.Errorf("headers.%s: %w", h.name, err)
		}
		if call.Headers == nil {
			call.Headers = map[string]string{}
		}
		call.Headers[h.name] = text
	}
	if e.body == nil {
		return call, nil
	}
	object := map[string]any{}
	for _, m := range e.body {
		v, err := m.Eval(s)
		if err != nil {
			return call, fmt.Errorf("json.%s: %w", m.name, err)
		}
		object[m.name] = v
	}
	b, err := expression.AppendJSON(nil, object)
	if err != nil {
		return call, fmt.Errorf("json: %w", err)
	}
	call.Body = string(b)
	if call.Headers["Content-Type"] == "" {
		if call.Headers == nil {
			call.Headers = map[string]string{}
		}
		call.Headers["Content-Type"] = "application/json"
	}
	return call, nil
}

// compileEffects comes last: effects name windows and timers.
func (c *compiler) compileEffects() {
	entries, _ := c.root.Get("effects").Entries()
	for _, e := range entries {
		on := e.Get("on")
		window, timer := on.Get("window"), on.Get("timer")
		_, isList := on.List()
		switch {
		case isList && e.Get("from").Null():
			e.Fault("from is missing: the topic whose events it is promised on")
		case isList:
			topic := e.Get("from").Text()
			x := vocabulary{env: c.stream(topic).env, names: ofEvents}
			one := c.compileEffect(e, x)
			one.types = c.typesOf(on, topic)
			c.stream(topic).steps = append(c.stream(topic).steps, one)
		case window.Null() == timer.Null():
			on.Fault("want either window, with at, or timer")
		case !timer.Null():
			d := c.p.timers[timer.Text()]
			if d == nil {
				timer.Fault("there is no such timer; %s", expression.DidYouMean(timer.Text(), sortedNames(c.p.timers)))
				continue
			}
			d.effects = append(d.effects, c.compileEffect(e, c.ofTimers()))
		default:
			c.windowEffect(e, window, on.Get("at"))
		}
	}
}

func (c *compiler) windowEffect(e document.Entry, name, at document.Node) {
	w := c.windows[name.Text()]
	if w == nil {
		name.Fault("there is no such window; %s", expression.DidYouMean(name.Text(), sortedNames(c.windows)))
		return
	}
	one := c.compileEffect(e, w.words)
	if at.Text() == "close" {
		w.atClose = append(w.atClose, one)
		return
	}
	if w.having == nil {
		name.Fault("has no having, so nothing becomes true early; add it, or say at: close")
	} else if w.onClose {
		name.Fault("asks its condition at the end (alert: close); say at: close")
	}
	w.atEarly = append(w.atEarly, one)
}

func (c *compiler) compileEffect(e document.Entry, x vocabulary) *effect {
	one := &effect{node: e.Node, called: e.Key, fromStart: e.Get("since").Text() == "start", texts: map[string]*template{}}
	c.p.spec.Effects = true
	if when := e.Get("when"); !when.Null() {
		if one.when = c.formula(x, when, when.Text(), expression.Bool); one.when != nil {
			one.late = one.when.late
		}
	}
	mail, call := e.Get("mail"), e.Get("http")
	if mail.Null() == call.Null() {
		e.Fault("want either mail or http")
		return one
	}
	text := func(from document.Node, fields ...string) {
		for _, name := range fields {
			if v := from.Get(name); !v.Null() {
				one.texts[name] = c.template(x, v)
				one.late = one.late || one.texts[name].late
			}
		}
	}
	if one.kind = effects.KindMail; call.Null() {
		text(mail, "to", "from", "subject", "body")
		return one
	}
	one.kind, one.method = effects.KindHTTP, call.Get("method").Text()
	text(call, "url", "body")
	headers, _ := call.Get("headers").Entries()
	for _, h := range headers {
		t := c.template(x, h.Node)
		one.headers = append(one.headers, member{name: h.Key, text: t})
		one.late = one.late || t.late
	}
	members, _ := call.Get("json").Entries()
	for _, m := range members {
		if f := c.formula(x, m.Node, m.Text(), expression.Any); f != nil {
			one.body = append(one.body, member{name: m.Key, formula: f})
			one.late = one.late || f.late
		}
	}
	if !call.Get("json").Null() && !call.Get("body").Null() {
		call.Get("body").Fault("stands beside json; want one of them")
	}
	return one
}
