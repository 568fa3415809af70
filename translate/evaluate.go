package translate

import (
	"fmt"
	"slices"

	"banyan/event"
	"banyan/wal"
)

// pending is an event before it is known that nothing parks it.
type pending struct {
	p       *part
	id      event.ID
	text    string // of the id
	typ     string
	version int
	data    []byte
	cause   string
	caused  []*change // reached changes whose events this one causes
}

// The names of what is decided without a rule of the file; docs/rules.md tells
// them.
const (
	byGone      = "implicit: the row came and went within the transaction"
	byReplaced  = "implicit: the row was replaced within the transaction"
	byRemoval   = "implicit: told by the removal of its row"
	byUnchanged = "implicit: no kept column changed"
	byNothing   = "implicit: there was nothing to truncate"
)

func (p *part) decide(o outcome, by, id string) {
	if p.outcome == undecided {
		p.outcome, p.by, p.event = o, by, id
	}
}

// evaluate finds the events of one aggregate, or the reason why it parks.
func (w *work) evaluate(x *aggTx) {
	if x.a.parked || x.reason != "" {
		return
	}
	x.settle()
	before, after := len(x.start[0]) > 0, x.a.exists()
	switch {
	case !before && !after:
		for i, rows := range x.a.tables {
			if len(rows) > 0 {
				x.park(fmt.Sprintf("a row of %s whose parent row the store does not have", x.a.u.tables[i].table.name), unknownState)
				return
			}
		}
		for _, p := range x.parts {
			p.decide(absorbed, byGone, "")
		}
	case before && !after:
		w.removal(x)
	default:
		w.claims(x)
	}
}

// line is what happened to one row in the transaction.
type line struct {
	parts   []*part
	existed bool
	gone    *part
}

type lineKey struct {
	table int
	key   string
}

// settle decides what came and went, or was deleted and inserted again.
func (x *aggTx) settle() {
	if !slices.ContainsFunc(x.parts, func(p *part) bool { return p.op == wal.Delete }) {
		return
	}
	lines := map[lineKey]*line{}
	var done []*line
	for _, p := range x.parts {
		r := p.old
		if r == nil {
			r = p.new
		}
		if r == nil {
			p.decide(ignored, byNothing, "")
			continue
		}
		k := lineKey{p.t.index, r.key}
		l := lines[k]
		if l == nil {
			_, found := p.t.search(x.start[p.t.index], r.vals)
			l = &line{existed: found}
			lines[k] = l
		}
		switch {
		case p.kind == rekeyOut:
			*l = line{}
		case p.kind == rekeyIn:
			if l.gone != nil {
				l.close(byReplaced)
			}
			*l = line{existed: l.existed}
		case p.op == wal.Insert:
			l.insert(p)
		case p.op == wal.Delete:
			l.parts, l.gone = append(l.parts, p), p
		default:
			l.parts = append(l.parts, p)
			if p.new.key != p.old.key {
				delete(lines, k)
				k.key = p.new.key
				if other := lines[k]; other != nil {
					done = append(done, other)
				}
				lines[k] = l
			}
		}
	}
	for _, l := range lines {
		done = append(done, l)
	}
	for _, l := range done {
		l.finish()
	}
}

func (l *line) insert(p *part) {
	switch {
	case l.gone == nil:
	case l.existed:
		p.op, p.old = wal.Update, l.gone.old
		l.gone.decide(absorbed, byReplaced, "")
	default:
		l.close(byGone)
	}
	l.gone = nil
	l.parts = append(l.parts, p)
}

func (l *line) close(by string) {
	for _, p := range l.parts {
		p.decide(absorbed, by, "")
	}
	l.parts = nil
}

func (l *line) finish() {
	if l.gone == nil {
		return
	}
	if !l.existed {
		l.close(byGone)
		return
	}
	for _, p := range l.parts {
		if p != l.gone {
			p.decide(absorbed, byRemoval, "")
		}
	}
}

// removal tells that the aggregate is gone: by one event, into which all else
// that happened to it in the transaction goes.
func (w *work) removal(x *aggTx) {
	var last *part
	for _, p := range x.parts {
		if p.t.parent == nil && p.op == wal.Delete && p.outcome == undecided {
			last = p
		}
	}
	if last == nil {
		x.park("the aggregate is gone and no change says how", unknownState)
		return
	}
	if last.kind == rekeyOut {
		w.rekeyedTo(x, last)
	} else if !w.match(x, last) && x.reason == "" {
		if last.c.op == wal.Truncate {
			w.event(x, last, nil, x.a.u.removed, "implicit: truncate")
		} else {
			x.unknown(last)
		}
	}
	if x.reason != "" {
		return
	}
	for _, p := range x.parts {
		p.decide(absorbed, last.by, last.event)
	}
	for i, t := range x.a.u.tables {
		if i == 0 {
			continue
		}
		for _, r := range x.a.tables[i] {
			x.links = append(x.links, event.Link{RowRef: event.RowRef{Table: t.table.name, Key: r.key}, Ref: x.a.ref, Gone: true})
		}
		x.a.tables[i] = nil
	}
	x.a.size = 0
}

// claims walks the changes of an aggregate that goes on living: those of its
// root first, then those of its children, each in order. The first matching
// rule makes an event, which takes what it absorbs. What is left is ignored by
// a rule, or is unknown.
func (w *work) claims(x *aggTx) {
	for _, root := range [2]bool{true, false} {
		for _, p := range x.parts {
			if (p.t.parent == nil) != root || p.outcome != undecided {
				continue
			}
			switch {
			case p.kind == rekeyOut:
				w.rekeyedTo(x, p)
			case p.kind == rekeyIn && !p.born():
				w.arrived(x, p)
			default:
				w.match(x, p)
			}
			if x.reason != "" {
				return
			}
		}
	}
	for _, p := range x.parts {
		if p.outcome != undecided {
			continue
		}
		if p.op == wal.Update && sameRow(p.old.vals, p.new.vals) {
			p.decide(ignored, byUnchanged, "")
		} else if g := x.a.u.ignore(p); g != nil {
			p.decide(ignored, fmt.Sprintf("%s.ignore[%d]: %s", x.a.u.name, g.index, g.reason), "")
		} else {
			x.unknown(p)
			return
		}
	}
}

func (u *unit) ignore(p *part) *ignore {
	for _, g := range u.ignores {
		if g.table != p.t || g.op != p.op || p.old == nil || p.new == nil {
			continue
		}
		fits := true
		for i := range p.new.vals {
			if p.old.vals[i] != p.new.vals[i] && !g.only[i] {
				fits = false
				break
			}
		}
		if fits {
			return g
		}
	}
	return nil
}

// unknown parks the aggregate for a change that no rule knows.
func (x *aggTx) unknown(p *part) {
	what := fmt.Sprintf("%s of %s", p.op, p.t.table.name)
	if p.op == wal.Update && p.old != nil && p.new != nil {
		var names []string
		for i := range p.new.vals {
			if p.old.vals[i] != p.new.vals[i] {
				names = append(names, p.t.cols[i].name)
			}
		}
		what += fmt.Sprintf(" (%v)", names)
	}
	x.park("no rule knows this "+what, "add an event or an ignore for it to "+x.a.u.name+" in banyan.yaml, start again, then release; or discard it")
}

// match finds the first rule that fits the change and makes its event.
func (w *work) match(x *aggTx, p *part) bool {
	if p.op == wal.Update && sameRow(p.old.vals, p.new.vals) {
		return false
	}
	for _, r := range x.a.u.rules {
		if r.table != p.t || r.op != p.op {
			continue
		}
		reached := w.setEnv(x, p, r)
		ok, err := w.e.run.truth(r.when)
		if err != nil {
			x.park(fmt.Sprintf("%s.when: %s", r.name, err), "repair the rule or the row, then release")
			return false
		}
		if !ok {
			continue
		}
		w.event(x, p, r, r.typ, r.name)
		if x.reason != "" {
			return false
		}
		w.absorb(x, p, r, reached)
		return true
	}
	return false
}

// setEnv gives the expressions of a rule their names, and returns the reached
// changes by reach.
func (w *work) setEnv(x *aggTx, p *part, r *rule) [][]*change {
	env := w.e.run.env
	tables := x.a.tables
	if !x.a.exists() {
		tables = x.start
	}
	if w.envFor != p {
		// The same for all rules of a change; names that reach gives stay, and no
		// other rule can name them.
		w.envFor = p
		clear(env)
		env["op"], env["key"] = p.op.String(), x.a.ref.Key
		if p.new != nil {
			env["new"] = &rowValue{t: p.t.types, vals: p.new.vals}
		}
		if p.old != nil {
			env["old"] = &rowValue{t: p.t.types, vals: p.old.vals}
		}
		if root := x.a.root(); root != nil {
			if x.value == nil {
				x.value = x.a.u.root().value(root.vals, tables)
			}
			env["state"] = x.value
		}
	}
	var out [][]*change
	for _, rc := range r.reach {
		list := w.reach(x, p, rc, tables)
		rows := make([]any, len(list))
		for i, c := range list {
			vals := c.new
			if vals == nil {
				vals = c.old
			}
			rows[i] = &rowValue{t: c.t.types, vals: vals}
		}
		env[rc.name] = rows
		out = append(out, list)
	}
	return out
}

// reachKeys gives the keys that a rule looks up.
func reachKeys(x *aggTx, p *part, rc *reach, tables [][]*arow) []string {
	parts := make([]string, len(rc.paths))
	fill := func(vals row, only bool) bool {
		for i, path := range rc.paths {
			from := vals
			switch {
			case path.child != nil && only:
			case path.from == "new" && p.new != nil:
				from = p.new.vals
			case path.from == "old" && p.old != nil:
				from = p.old.vals
			case path.from == "state" && len(tables[0]) > 0:
				from = tables[0][0].vals
			default:
				return false
			}
			if from[path.col].kind != valText {
				return false
			}
			parts[i] = from[path.col].s
		}
		return true
	}
	child := rc.paths[0].child
	if child == nil {
		if fill(nil, false) {
			return []string{event.JoinKey(parts...)}
		}
		return nil
	}
	var out []string
	seen := map[string]bool{}
	for _, r := range tables[child.index] {
		if fill(r.vals, true) {
			if k := event.JoinKey(parts...); !seen[k] {
				seen[k] = true
				out = append(out, k)
			}
		}
	}
	return out
}

func (w *work) reach(x *aggTx, p *part, rc *reach, tables [][]*arow) []*change {
	var out []*change
	for _, k := range reachKeys(x, p, rc, tables) {
		out = append(out, w.reached(rc.index, k)...)
	}
	slices.SortFunc(out, func(a, b *change) int { return a.seq - b.seq })
	return slices.CompactFunc(out, func(a, b *change) bool { return a.seq == b.seq })
}

// absorb marks what a rule's event takes with it.
func (w *work) absorb(x *aggTx, p *part, r *rule, reached [][]*change) {
	e := x.events[len(x.events)-1]
	for _, q := range x.parts {
		if q != p && slices.Contains(r.absorb, q.t.table) {
			q.decide(absorbed, p.by, e.text)
		}
	}
	for i, rc := range r.reach {
		if rc.cause {
			e.caused = append(e.caused, reached[i]...)
		}
		if slices.Contains(r.absorb, rc.index.table) {
			x.extra = append(x.extra, reached[i]...)
		}
	}
}
