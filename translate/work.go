package translate

import (
	"fmt"
	"slices"
	"time"

	"banyan/event"
	"banyan/wal"
)

// txMeta is what all changes of a transaction share.
type txMeta struct {
	xid         uint32
	commit, end wal.LSN
	at          time.Time
	generation  int
	// position is set for a release: where its events stand instead.
	position *event.Position
}

// part is what a change means to one aggregate.
type part struct {
	c        *change
	x        *aggTx
	t        *utable
	op       wal.Op
	routed   wal.Op // op before rows that were replaced are taken together
	kind     partKind
	mate     *part
	maybe    bool
	lost     string
	old, new *arow // as far as the aggregate knows; set when applied
	carried  []carried
	outcome  outcome
	by       string // rule that decided: Order.events[2] OrderPaid
	event    string // id of the event it anchors, or that absorbs it
}

// carried are rows below a moved child, which move with it.
type carried struct {
	t *utable
	r *arow
}

// aggTx is one aggregate during one transaction.
type aggTx struct {
	a      *agg
	start  [][]*arow // at the begin of the transaction
	owned  []bool    // tables whose slice is the transaction's own copy
	parts  []*part
	size   int // of the parts' rows
	reason string
	detail string
	links  []event.Link
	events []*pending
	value  *rowValue // the root's row at the end, for expressions
	state  []byte    // the end of every event's data: state and changed
	// extra are changes of tables without an aggregate that wait with this one.
	extra []*change
}

func (x *aggTx) park(reason, detail string) {
	if x.reason == "" {
		x.reason, x.detail = reason, detail
	}
}

// work is one transaction, or one bucket of a large one, while it is translated.
type work struct {
	e       *Engine
	meta    txMeta
	changes []*change
	aggs    map[event.Ref]*aggTx
	order   []*aggTx
	links   *linkMap
	get     func(event.Ref) (*agg, error)
	// reached gives the changes whose rows have these values in the columns of
	// the index.
	reached func(x *reachIndex, key string) []*change
	// moved remembers where rows below a moved child went, by their table and key.
	moved map[event.RowRef]*aggTx
	// carried are rows that have left with the child above them, in a release.
	carried map[event.RowRef]bool
	// only limits a release to one aggregate.
	only   *event.Ref
	envFor *part // whose rows the expressions' environment has
}

func (w *work) agg(u *unit, ref event.Ref) (*aggTx, error) {
	if x := w.aggs[ref]; x != nil {
		return x, nil
	}
	a, err := w.get(ref)
	if err != nil {
		return nil, err
	}
	x := &aggTx{a: a, start: slices.Clone(a.tables), owned: make([]bool, len(a.tables))}
	w.aggs[ref] = x
	w.order = append(w.order, x)
	return x, nil
}

// own makes the table's slice of rows one that may be changed.
func (x *aggTx) own(t *utable) []*arow {
	if !x.owned[t.index] {
		rows := x.a.tables[t.index]
		x.a.tables[t.index] = append(make([]*arow, 0, len(rows)+4), rows...)
		x.owned[t.index] = true
	}
	return x.a.tables[t.index]
}

func (x *aggTx) add(t *utable, r *arow) bool {
	rows := x.own(t)
	i, found := t.search(rows, r.vals)
	if found {
		return false
	}
	x.a.tables[t.index] = slices.Insert(rows, i, r)
	x.a.size += r.size
	return true
}

func (x *aggTx) remove(t *utable, keyed row) *arow {
	i, found := t.search(x.a.tables[t.index], keyed)
	if !found {
		return nil
	}
	rows := x.own(t)
	r := rows[i]
	x.a.tables[t.index] = slices.Delete(rows, i, i+1)
	x.a.size -= r.size
	return r
}

// addTargets makes the parts of a change and applies them.
func (w *work) addTargets(c *change, targets []target) error {
	if len(w.moved) > 0 {
		targets = w.redirect(c, targets)
	}
	parts := make([]part, len(targets))
	for i := range targets {
		g := &targets[i]
		if w.only != nil && g.ref != *w.only {
			continue
		}
		if by := w.e.absorbs(g, &w.meta); by != "" {
			if c.outcome < absorbed {
				c.outcome, c.by = absorbed, by
			}
			continue
		}
		x, err := w.agg(g.t.u, g.ref)
		if err != nil {
			return err
		}
		p := &parts[i]
		*p = part{c: c, x: x, t: g.t, op: g.op, routed: g.op, kind: g.kind, maybe: g.maybe, lost: g.lost}
		if g.mate >= 0 && g.mate < i && parts[g.mate].c != nil {
			p.mate = &parts[g.mate]
			p.mate.mate = p
		}
		x.parts = append(x.parts, p)
		c.parts = append(c.parts, p)
		w.apply(p)
	}
	return nil
}

// redirect corrects targets that were found before a row went along with the
// child above it: then its link still named the aggregate it had left. Once the
// row itself has changed, its link is right again.
func (w *work) redirect(c *change, targets []target) []target {
	var out []target
	for i := 0; i < len(targets); i++ {
		g := targets[i]
		key, ok := g.t.captureKey(c.old)
		if !ok {
			key, _ = g.t.captureKey(c.new)
		}
		row := event.RowRef{Table: g.t.table.name, Key: key}
		x := w.moved[row]
		if g.t.parent == nil || c.op == wal.Insert || x == nil || x.a.u != g.t.u {
			if g.mate >= 0 {
				g.mate += len(out) - i
			}
			out = append(out, g)
			continue
		}
		delete(w.moved, row)
		to := g.ref
		if g.kind == moveOut {
			i++
			to = targets[i].ref
		}
		from, n := x.a.ref, len(out)
		switch {
		case c.op == wal.Delete || g.kind == plain && g.op == wal.Delete:
			g.ref = from
			out = append(out, g)
		case from == to:
			out = append(out, target{t: g.t, op: wal.Update, ref: to, mate: -1})
		default:
			out = append(out, target{t: g.t, op: wal.Delete, kind: moveOut, ref: from, mate: n + 1},
				target{t: g.t, op: wal.Insert, kind: moveIn, ref: to, mate: n})
		}
	}
	return out
}

// image is the kept part of the change's two row images.
func (p *part) image() (old, new row) {
	if p.c.old != nil {
		old = p.t.kept(p.c.old)
	}
	if p.c.new != nil {
		new = p.t.kept(p.c.new)
	}
	return old, new
}

// apply changes the aggregate's rows. What does not fit parks the aggregate;
// the parts after it are only collected.
func (w *work) apply(p *part) {
	x := p.x
	old, new := p.image()
	for _, r := range []row{old, new} {
		for i := range r {
			x.size += len(r[i].s)
		}
	}
	if x.a.parked {
		return
	}
	if p.lost != "" {
		x.park(p.lost, "discard it; if the row belongs to an aggregate, snapshot that aggregate again")
	}
	if x.size > maxAggregate {
		x.park(fmt.Sprintf("the transaction changes more than %d MiB of the aggregate", maxAggregate>>20), "discard it: the aggregate is recorded anew from the database")
	}
	if x.reason != "" {
		return
	}
	if p.op == wal.Truncate {
		w.truncate(p)
		return
	}
	if p.op != wal.Insert {
		if !w.takeOut(p, old, new) {
			return
		}
	}
	if p.op != wal.Delete {
		w.putIn(p, new)
	}
	if x.a.size > maxAggregate {
		x.park(fmt.Sprintf("the aggregate is larger than %d MiB", maxAggregate>>20), "split it: fewer children, or fewer columns in its state; then release")
	}
}

const unknownState = "snapshot the aggregate again (discard does so for this key)"

// takeOut finds the row that was there; for deletes and key changes it leaves.
func (w *work) takeOut(p *part, old, new row) bool {
	keyed := old
	if keyed == nil || !p.t.keyKnown(keyed) {
		keyed = new
	}
	x := p.x
	if p.op == wal.Update {
		i, found := p.t.search(x.a.tables[p.t.index], keyed)
		if !found {
			if w.elsewhere(p, keyed) {
				p.op = wal.Insert // it has come here since
				return true
			}
			x.park(fmt.Sprintf("update of a row of %s that the store does not have", p.t.table.name), unknownState)
			return false
		}
		p.old = x.a.tables[p.t.index][i]
		return true
	}
	r := x.remove(p.t, keyed)
	if r == nil {
		if w.elsewhere(p, keyed) {
			p.decide(absorbed, "implicit: the row belongs to another aggregate by now", "")
			return false
		}
		x.park(fmt.Sprintf("delete of a row of %s that the store does not have", p.t.table.name), unknownState)
		return false
	}
	p.old = r
	if p.kind == moveOut {
		p.carried = x.carry(p.t, r.vals)
		if w.only != nil {
			for _, c := range p.carried {
				if w.carried == nil {
					w.carried = map[event.RowRef]bool{}
				}
				w.carried[event.RowRef{Table: c.t.table.name, Key: c.r.key}] = true
			}
		}
	}
	if p.t.parent != nil {
		x.links = append(x.links, event.Link{RowRef: event.RowRef{Table: p.t.table.name, Key: r.key}, Ref: x.a.ref, Gone: true})
	}
	return true
}

// elsewhere says whether a row that is not there may be another aggregate's by
// now: it moved while some of them were parked.
func (w *work) elsewhere(p *part, keyed row) bool {
	return p.maybe || w.carried[event.RowRef{Table: p.t.table.name, Key: p.t.keyOf(keyed)}]
}

// carry takes the rows below a row out with it.
func (x *aggTx) carry(t *utable, above row) []carried {
	var out []carried
	for _, child := range t.children {
		for _, r := range slices.Clone(x.a.tables[child.index]) {
			if child.belongs(r.vals, above) {
				x.remove(child, r.vals)
				x.links = append(x.links, event.Link{RowRef: event.RowRef{Table: child.table.name, Key: r.key}, Ref: x.a.ref, Gone: true})
				out = append(append(out, carried{child, r}), x.carry(child, r.vals)...)
			}
		}
	}
	return out
}

// putIn completes the new row from the old one and puts it in its place.
func (w *work) putIn(p *part, new row) {
	x, was := p.x, p.old
	arrives := p.kind == moveIn && p.mate == nil || p.routed == wal.Update && p.op == wal.Insert
	if arrives && len(p.t.children) > 0 {
		x.park(fmt.Sprintf("a row of %s came from another aggregate while this one was parked, and only the database knows the rows below it", p.t.table.name),
			"discard it: the aggregate is recorded anew")
		return
	}
	if p.mate != nil && p.kind != plain {
		was = p.mate.old
		if was == nil && p.mate.x.reason == "" && !p.mate.x.a.parked {
			x.park("the row comes from an aggregate that does not have it", unknownState)
			return
		}
	}
	for i := range new {
		if new[i].known() {
			continue
		}
		if was == nil || !was.vals[i].known() {
			x.park(fmt.Sprintf("column %s of %s: %s", p.t.cols[i].name, p.t.table.name, errNotInLog), unknownState)
			return
		}
		new[i] = was.vals[i]
	}
	if p.op == wal.Update && sameRow(new, p.old.vals) {
		p.new = p.old
		return
	}
	p.new = p.t.newRow(new)
	if p.op == wal.Update {
		if p.new.key == p.old.key {
			i, _ := p.t.search(x.a.tables[p.t.index], new)
			rows := x.own(p.t)
			rows[i] = p.new
			x.a.size += p.new.size - p.old.size
			return
		}
		x.remove(p.t, p.old.vals)
		x.links = append(x.links, event.Link{RowRef: event.RowRef{Table: p.t.table.name, Key: p.old.key}, Ref: x.a.ref, Gone: true})
	}
	full := p.t.parent == nil && x.a.exists()
	if full || !x.add(p.t, p.new) {
		x.park(fmt.Sprintf("insert of a row of %s that the store has already", p.t.table.name), unknownState)
		return
	}
	if p.t.parent != nil {
		x.links = append(x.links, event.Link{RowRef: event.RowRef{Table: p.t.table.name, Key: p.new.key}, Ref: x.a.ref})
	}
	if p.kind == moveIn && p.mate != nil {
		w.bring(x, p.mate.carried)
	}
}

// bring puts the rows below a moved child in.
func (w *work) bring(x *aggTx, rows []carried) {
	for _, c := range rows {
		x.add(c.t, c.r)
		row := event.RowRef{Table: c.t.table.name, Key: c.r.key}
		x.links = append(x.links, event.Link{RowRef: row, Ref: x.a.ref})
		if w.moved == nil {
			w.moved = map[event.RowRef]*aggTx{}
		}
		w.moved[row] = x
		if w.links != nil {
			w.links.set(row, x.a.u.name, []event.Ref{x.a.ref})
		}
	}
}

// truncate empties the aggregate, or one table of it.
func (w *work) truncate(p *part) {
	x := p.x
	var first *arow
	for _, r := range slices.Clone(x.a.tables[p.t.index]) {
		if first == nil {
			first = r
		}
		x.remove(p.t, r.vals)
		if p.t.parent != nil {
			x.links = append(x.links, event.Link{RowRef: event.RowRef{Table: p.t.table.name, Key: r.key}, Ref: x.a.ref, Gone: true})
		}
	}
	p.old = first
	p.op = wal.Delete
}

// revert puts a parked aggregate's rows back to where the transaction began.
func (x *aggTx) revert() {
	x.a.tables = x.start
	x.a.resize()
}
