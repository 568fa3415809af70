package translate

import (
	"fmt"

	"banyan/event"
)

func (w *work) newEvent(x *aggTx, p *part, typ string, version int) *pending {
	id := event.ID{Source: w.e.Source, Aggregate: x.a.ref.Aggregate, Key: x.a.ref.Key,
		Position: event.Position{Generation: w.meta.generation, LSN: uint64(w.meta.commit), Ordinal: p.c.ordinal}}
	return &pending{p: p, id: id, text: id.String(), typ: typ, version: version}
}

// event makes the event of a rule (nil for a removal without one) for an
// anchor, or parks the aggregate where a value has no exact form. The
// environment of the rule must be set.
func (w *work) event(x *aggTx, p *part, r *rule, typ, by string) {
	e := w.newEvent(x, p, typ, 1)
	dst := append(make([]byte, 0, 512), '{')
	if r != nil {
		e.version = r.version
		var err error
		if r.occurredAt != nil {
			dst = append(dst, `"occurredAt":`...)
			if dst, err = w.e.run.appendJSON(dst, r.occurredAt); err != nil {
				x.park(fmt.Sprintf("%s.occurred_at: %s", by, err), unfit)
				return
			}
			dst = append(dst, ',')
		}
		for _, f := range r.fields {
			dst = append(dst, f.label...)
			if dst, err = w.e.run.appendJSON(dst, f.value); err != nil {
				x.park(fmt.Sprintf("%s: %s", by, err), unfit)
				return
			}
			dst = append(dst, ',')
		}
	}
	e.data = dst
	told := false
	if x.a.exists() {
		told = w.appendStates(x, e)
	} else {
		told = w.appendLast(x, e)
	}
	if !told {
		return
	}
	if limit := w.e.MaxEvent; limit > 0 && len(e.data) > limit {
		x.park(fmt.Sprintf("the event %s has %d bytes, more than a record of its topic may have (%d)", typ, len(e.data), limit), "name fewer columns in its state, or raise the limit; then release")
		return
	}
	p.decide(used, by, e.text)
	x.events = append(x.events, e)
}

const unfit = "repair the rule (a larger scale, another column) or discard it"

// appendStates ends an event's data with the state that the aggregate has at
// the end of the transaction.
func (w *work) appendStates(x *aggTx, e *pending) bool {
	if x.state == nil {
		dst, err := appendState(append([]byte(nil), `"state":`...), x.a.u, x.a.tables)
		if err != nil {
			x.park(err.Error(), unfit)
			return false
		}
		x.state = append(appendChanged(append(dst, `,"changed":`...), x.a.u, x.start, x.a.tables), '}')
	}
	e.data = append(e.data, x.state...)
	return true
}

// appendLast ends a removal's data with the state at the begin of the
// transaction, the last one that anybody saw.
func (w *work) appendLast(x *aggTx, e *pending) bool {
	e.data = append(e.data, `"state":null,"last":`...)
	if len(x.start[0]) == 0 {
		e.data = append(e.data, `null,"changed":[]}`...)
		return true
	}
	dst, err := appendState(e.data, x.a.u, x.start)
	if err != nil {
		x.park(err.Error(), unfit)
		return false
	}
	e.data = append(dst, `,"changed":[]}`...)
	return true
}

// finish makes the event that is stored.
func (w *work) finish(x *aggTx, e *pending) event.Event {
	position := e.id.Position
	if w.meta.position != nil {
		position = *w.meta.position
	}
	return event.Event{ID: e.id, Type: e.typ, Version: e.version, Topic: x.a.u.topic, Time: w.meta.at, Position: position,
		Rules: w.e.Rules.Version, Cause: e.cause, Data: e.data}
}
