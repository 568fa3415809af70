package translate

import (
	"cmp"
	"slices"
	"strings"

	"banyan/event"
	"banyan/wal"
)

// settle decides what became of every change of a transaction, and adds all
// that follows from it to the step.
func (s *session) settle(w *work) error {
	if err := w.stop(); err != nil {
		return err
	}
	w.tellExtras()
	orphaned := w.unclaimed()
	w.addCauses(nil)
	s.addEvents(w)
	entries, err := s.parkAll(w, w.changes)
	if err != nil {
		return err
	}
	for _, c := range orphaned {
		entry, err := w.parkChange(c)
		if err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	s.step.Parked = append(s.step.Parked, entries...)
	for i := range entries {
		s.bytes += len(entries[i].Body)
	}
	for _, c := range w.changes {
		c.decide()
		s.count(c.t.name, c.outcome)
	}
	if len(w.changes) == 0 {
		return nil
	}
	return s.addTrace(w, len(w.changes))
}

// stop gives the error of `unknown: stop`.
func (w *work) stop() error {
	if w.e.Rules.Config.Unknown != "stop" {
		return nil
	}
	for _, x := range w.order {
		if x.reason == "" || len(x.parts) == 0 {
			continue
		}
		c := x.parts[0].c
		return &UnknownError{LSN: w.meta.commit, Table: c.t.name, Op: c.op, Aggregate: x.a.ref.Aggregate, Key: x.a.ref.Key, Reason: x.reason, WayOut: x.detail}
	}
	return nil
}

// tellExtras marks the changes of tables without an aggregate that events have
// taken with them.
func (w *work) tellExtras() {
	for _, x := range w.order {
		if x.stuck() {
			continue
		}
		for _, c := range x.extra {
			if c.outcome < absorbed && len(x.events) > 0 {
				c.outcome, c.by = absorbed, x.events[0].p.by
			}
		}
	}
}

// unclaimed finds the changes that no aggregate sees and no event has taken.
// One that a parked aggregate of the transaction may take later waits with it;
// the rest is returned.
func (w *work) unclaimed() (rest []*change) {
	for _, c := range w.changes {
		if len(c.t.roles) > 0 || c.outcome != undecided || len(c.parts) > 0 {
			continue
		}
		if g := c.t.ignored; g != nil {
			c.outcome, c.by = ignored, c.t.ignoredBy.name+".ignore: "+g.reason
			continue
		}
		if x := w.claimant(c); x != nil {
			c.claimed = true
			x.extra = append(x.extra, c)
			c.outcome = parked
			continue
		}
		rest = append(rest, c)
	}
	return rest
}

func (w *work) claimant(c *change) *aggTx {
	for _, x := range w.order {
		if !x.stuck() {
			continue
		}
		for _, r := range x.a.u.rules {
			if slices.Contains(r.absorb, c.t) {
				return x
			}
		}
	}
	return nil
}

// addCauses links events to those whose transaction part they are. edges are
// those found elsewhere, by ordinal.
func (w *work) addCauses(edges map[int64]string) {
	if edges == nil {
		edges = map[int64]string{}
	}
	w.edges(func(c *change, id string) {
		if old, ok := edges[c.ordinal]; !ok || id < old {
			edges[c.ordinal] = id
		}
	})
	for _, x := range w.order {
		for _, e := range x.events {
			if id, ok := edges[e.p.c.ordinal]; ok && e.cause == "" && id != e.text {
				e.cause = id
			}
		}
	}
}

// edges gives every reached change whose events are caused by an event.
func (w *work) edges(add func(c *change, id string)) {
	for _, x := range w.order {
		if x.stuck() {
			continue
		}
		for _, e := range x.events {
			for _, c := range e.caused {
				add(c, e.text)
			}
		}
	}
}

// addEvents adds the events, links and new states of what is not parked.
func (s *session) addEvents(w *work) {
	type made struct {
		x *aggTx
		e *pending
	}
	var all []made
	for _, x := range w.order {
		if x.stuck() {
			s.step.Links = append(s.step.Links, x.parkedLinks()...)
			continue
		}
		slices.SortStableFunc(x.events, func(a, b *pending) int { return cmp.Compare(a.p.c.ordinal, b.p.c.ordinal) })
		for _, e := range x.events {
			all = append(all, made{x, e})
			x.a.event = e.text
		}
		s.step.Links = append(s.step.Links, lastLinks(x.links)...)
		if slices.Contains(x.owned, true) || len(x.events) > 0 {
			x.a.dirty = true
			if len(x.start[0]) == 0 && x.a.exists() {
				x.a.snapshot = s.e.Snapshot
			}
		}
	}
	slices.SortStableFunc(all, func(a, b made) int {
		return cmp.Or(cmp.Compare(a.e.p.c.ordinal, b.e.p.c.ordinal), strings.Compare(a.x.a.ref.Aggregate, b.x.a.ref.Aggregate))
	})
	for _, m := range all {
		e := w.finish(m.x, m.e)
		s.bytes += len(e.Data) + 256
		s.step.Events = append(s.step.Events, e)
	}
}

// parkedLinks are those of rows that have come to a parked aggregate: what
// happens to them later must find the same chain. None is taken away before the
// chain is released.
func (x *aggTx) parkedLinks() []event.Link {
	var out []event.Link
	for _, l := range x.links {
		if !l.Gone {
			out = append(out, l)
		}
	}
	for _, p := range x.parts {
		if p.t.parent == nil || p.lost != "" || p.op == wal.Delete {
			continue
		}
		if key, ok := p.t.captureKey(p.c.new); ok {
			out = append(out, event.Link{RowRef: event.RowRef{Table: p.t.table.name, Key: key}, Ref: x.a.ref})
		}
	}
	return lastLinks(out)
}

// lastLinks keeps the last word on each row.
func lastLinks(links []event.Link) []event.Link {
	if len(links) < 2 {
		return links
	}
	last := make(map[event.RowRef]int, len(links))
	for i, l := range links {
		last[l.RowRef] = i
	}
	if len(last) == len(links) {
		return links
	}
	out := make([]event.Link, 0, len(last))
	for i, l := range links {
		if last[l.RowRef] == i {
			out = append(out, l)
		}
	}
	return out
}

// decide takes the weightiest outcome of the parts.
func (c *change) decide() {
	for _, p := range c.parts {
		o := p.outcome
		if p.x.stuck() {
			o = parked
		}
		if o > c.outcome {
			c.outcome = o
		}
	}
	if c.outcome == undecided {
		c.outcome = ignored
		c.by = byNothing
	}
}

func (s *session) count(table string, o outcome) {
	if s.step.Counts == nil {
		s.step.Counts = map[string]event.Counts{}
	}
	n := s.step.Counts[table]
	n.Changes++
	switch o {
	case parked:
		n.Parked++
	case used:
		n.Used++
	case absorbed:
		n.Absorbed++
	default:
		n.Ignored++
	}
	s.step.Counts[table] = n
}
