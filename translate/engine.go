package translate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"banyan/event"
	"banyan/wal"
)

// flushBytes is about how much a step holds before it is put.
const flushBytes = 8 << 20

// scratch is what an engine reuses from call to call.
type scratch struct {
	run      runner
	bindings map[*wal.Table]*binding // nil for a table that is not captured
	boundFor *Rules
	targets  []target
	buf      []byte
	buckets  int  // of a large transaction, for tests; 0 by its size
	onDisk   bool // every transaction goes the way of a large one, for tests
}

func (e *Engine) begin() {
	if e.boundFor != e.Rules {
		e.boundFor, e.bindings = e.Rules, map[*wal.Table]*binding{}
		e.run.env = map[string]any{}
	}
}

func (e *Engine) bind(t *wal.Table) (*binding, error) {
	if b, ok := e.bindings[t]; ok {
		return b, nil
	}
	b, err := e.Rules.bind(t)
	if err != nil {
		return nil, err
	}
	e.bindings[t] = b
	return b, nil
}

// absorbs says whether a range read under a later snapshot has the change
// already.
func (e *Engine) absorbs(g *target, m *txMeta) string {
	if m.position != nil {
		return "" // a released change stands before what a snapshot has added to its chain
	}
	for i := range e.Absorbs {
		a := &e.Absorbs[i]
		if a.Aggregate != g.ref.Aggregate || !a.Visible(m.xid) {
			continue
		}
		// Where the aggregate is not known the row is not in what was read.
		if g.lost == "" {
			key, err := event.SplitKey(g.ref.Key)
			if err != nil || !a.Holds(key) {
				continue
			}
		}
		return "implicit: the snapshot has it already"
	}
	return ""
}

// absorbsAll says whether later snapshots have all that a transaction did to a
// table, whatever the rows.
func (e *Engine) absorbsAll(t *table, xid uint32) bool {
	if t == nil || len(t.roles) == 0 || len(t.reaches) > 0 {
		return false
	}
	return !slices.ContainsFunc(t.roles, func(role *utable) bool {
		return !slices.ContainsFunc(e.Absorbs, func(a Absorb) bool {
			return a.All && a.Aggregate == role.u.name && a.Visible(xid)
		})
	})
}

// session is one call of the engine: a working set over the past, and the step
// that is being filled.
type session struct {
	ctx   context.Context
	e     *Engine
	past  Past
	put   Put
	aggs  map[event.Ref]*agg
	links linkMap
	step  event.Step
	bytes int
}

func (e *Engine) session(ctx context.Context, past Past, put Put) *session {
	e.begin()
	return &session{ctx: ctx, e: e, past: past, put: put, aggs: map[event.Ref]*agg{}, links: linkMap{m: map[event.RowRef][]event.Ref{}}}
}

// Translate turns whole transactions in commit order into steps: events, new
// states, links, parked changes, traces and counts. put is called once for a batch
// of small transactions, and several times for a large one or where more than a
// few MiB come together, all within the caller's one store transaction. An
// error means that nothing of the call may be kept: *UnknownError under
// `unknown: stop`, *SchemaError where a table has become one that the rules
// cannot read, or what past and put returned.
func (e *Engine) Translate(ctx context.Context, past Past, txs []*wal.Tx, put Put) error {
	s := e.session(ctx, past, put)
	for len(txs) > 0 {
		n := 0
		for n < len(txs) && !e.onDisk && simple(txs[n]) {
			n++
		}
		if n > 0 {
			if err := s.batch(txs[:n]); err != nil {
				return err
			}
			txs = txs[n:]
			continue
		}
		if err := s.flush(); err != nil {
			return err
		}
		// What a large transaction loads is not kept.
		s.aggs, s.links = map[event.Ref]*agg{}, linkMap{m: map[event.RowRef][]event.Ref{}}
		if err := s.large(txs[0]); err != nil {
			return fmt.Errorf("transaction %s: %w", txs[0].CommitLSN, err)
		}
		s.aggs, s.links = map[event.Ref]*agg{}, linkMap{m: map[event.RowRef][]event.Ref{}}
		txs = txs[1:]
	}
	return s.flush()
}

// simple says whether a transaction lies in memory and truncates nothing.
func simple(tx *wal.Tx) bool {
	changes, ok := tx.InMemory()
	return ok && !slices.ContainsFunc(changes, func(c wal.Change) bool { return c.Op == wal.Truncate })
}

// batch translates transactions in memory. What they need of the past is asked
// in few calls for all of them.
func (s *session) batch(txs []*wal.Tx) error {
	read := make([][]*change, len(txs))
	for i, tx := range txs {
		changes, _ := tx.InMemory()
		list := make([]*change, 0, len(changes))
		made := make([]change, len(changes))
		for j := range changes {
			c := &made[len(list)]
			ok, err := s.read(&changes[j], c, tx.XID)
			if err != nil {
				return fmt.Errorf("transaction %s: %w", tx.CommitLSN, err)
			}
			if ok {
				c.seq = len(list)
				list = append(list, c)
			}
		}
		read[i] = list
	}
	if err := s.prepare(slices.Values(slices.Concat(read...))); err != nil {
		return err
	}
	for i, tx := range txs {
		meta := txMeta{xid: tx.XID, commit: tx.CommitLSN, end: tx.EndLSN, at: tx.CommitTime.UTC(), generation: s.e.Generation}
		if err := s.translate(meta, read[i]); err != nil {
			return err
		}
		if s.bytes > flushBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// read makes a change of the log's; ok is false for a table that is not captured.
func (s *session) read(in *wal.Change, out *change, xid uint32) (ok bool, err error) {
	b, err := s.e.bind(in.Table)
	if t := s.e.Rules.find(in.Table); err != nil && s.e.absorbsAll(t, xid) {
		s.count(t.name, absorbed)
		return false, nil
	}
	if b == nil || err != nil {
		return false, err
	}
	key := s.e.Rules.Config.maskKey()
	*out = change{ordinal: in.Ordinal, op: in.Op, t: b.table, old: b.read(in.Old, key), new: b.read(in.New, key)}
	return true, nil
}

// prepare asks the past for all that the changes can need.
func (s *session) prepare(changes func(func(*change) bool)) error {
	refs, rows := map[event.Ref]bool{}, map[event.RowRef]bool{}
	for c := range changes {
		for _, t := range c.t.roles {
			s.needs(c, t, refs, rows)
		}
	}
	var ask []event.RowRef
	for row := range rows {
		if _, known := s.links.m[row]; !known {
			ask = append(ask, row)
		}
	}
	if len(ask) > 0 {
		roots, err := s.past.Roots(s.ctx, ask)
		if err != nil {
			return fmt.Errorf("ask the store for the aggregates of %d rows: %w", len(ask), err)
		}
		for _, row := range ask {
			s.links.m[row] = roots[row]
			for _, ref := range roots[row] {
				refs[ref] = true
			}
		}
	}
	return s.load(refs)
}

func (s *session) needs(c *change, t *utable, refs map[event.Ref]bool, rows map[event.RowRef]bool) {
	for _, captured := range []row{c.old, c.new} {
		key, ok := t.captureKey(captured)
		if !ok {
			continue
		}
		if t.parent == nil {
			refs[event.Ref{Aggregate: t.u.name, Key: key}] = true
			continue
		}
		if c.op != wal.Insert {
			rows[event.RowRef{Table: t.table.name, Key: key}] = true
		}
		above, orphan, ok := t.captureParent(captured)
		switch {
		case !ok || orphan:
		case t.parent.parent == nil:
			refs[event.Ref{Aggregate: t.u.name, Key: above}] = true
		default:
			rows[event.RowRef{Table: t.parent.table.name, Key: above}] = true
		}
	}
}

// load brings aggregates into the working set.
func (s *session) load(refs map[event.Ref]bool) error {
	var ask []event.Ref
	for ref := range refs {
		if s.aggs[ref] == nil && s.e.Rules.byName[ref.Aggregate] != nil {
			ask = append(ask, ref)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	states, err := s.past.States(s.ctx, ask)
	if err != nil {
		return fmt.Errorf("ask the store for %d states: %w", len(ask), err)
	}
	chains, err := s.past.Parked(s.ctx, ask)
	if err != nil {
		return fmt.Errorf("ask the store which of %d keys are parked: %w", len(ask), err)
	}
	for _, ref := range ask {
		a, err := s.e.newAgg(ref, states)
		if err != nil {
			return err
		}
		a.parked = chains[ref]
		s.aggs[ref] = a
	}
	return nil
}

func (e *Engine) newAgg(ref event.Ref, states map[event.Ref]event.State) (*agg, error) {
	u := e.Rules.byName[ref.Aggregate]
	a := &agg{u: u, ref: ref, tables: make([][]*arow, len(u.tables)), snapshot: e.Snapshot}
	state, ok := states[ref]
	if !ok {
		return a, nil
	}
	a.stored = true
	if state.Body == nil {
		return a, nil
	}
	a.event, a.snapshot = state.Event, state.Snapshot
	return a, a.readBody(state.Body)
}

func (s *session) agg(ref event.Ref) (*agg, error) {
	if a := s.aggs[ref]; a != nil {
		return a, nil
	}
	if err := s.load(map[event.Ref]bool{ref: true}); err != nil {
		return nil, err
	}
	return s.aggs[ref], nil
}

// translate applies one transaction in memory.
func (s *session) translate(meta txMeta, changes []*change) error {
	w := s.work(meta, changes)
	for _, c := range changes {
		targets, by, err := route(c, &s.links, s.e.targets[:0])
		if err != nil {
			return fmt.Errorf("transaction %s: %w", meta.commit, err)
		}
		s.e.targets = targets
		if by != "" {
			c.outcome, c.by = ignored, by
		}
		if err := w.addTargets(c, targets); err != nil {
			return err
		}
	}
	w.evaluateAll()
	return s.settle(w)
}

func (s *session) work(meta txMeta, changes []*change) *work {
	w := &work{e: s.e, meta: meta, changes: changes, aggs: make(map[event.Ref]*aggTx, len(changes)), links: &s.links, get: s.agg}
	w.reached = lazyIndex(len(s.e.Rules.reaches), changes)
	return w
}

// lazyIndex finds changes by the values of columns; each index is made when it
// is first asked for.
func lazyIndex(n int, changes []*change) func(*reachIndex, string) []*change {
	made := make([]map[string][]*change, n)
	return func(x *reachIndex, key string) []*change {
		m := made[x.index]
		if m == nil {
			m = map[string][]*change{}
			for _, c := range changes {
				if c.t == x.table {
					for _, k := range x.keys(c) {
						m[k] = append(m[k], c)
					}
				}
			}
			made[x.index] = m
		}
		return m[key]
	}
}

// keys gives the keys under which a change is found: those of its new row, and
// those of its old one where they are known and differ.
func (x *reachIndex) keys(c *change) []string {
	var out []string
	for _, r := range []row{c.new, c.old} {
		if r == nil {
			continue
		}
		parts := make([]string, len(x.cols))
		ok := true
		for i, at := range x.cols {
			ok = ok && r[at].kind == valText
			parts[i] = r[at].s
		}
		if k := event.JoinKey(parts...); ok && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// evaluateAll finds the events of all aggregates of the transaction, and parks
// those that are tied to a parked one by a move or a rekey.
func (w *work) evaluateAll() {
	for _, x := range w.order {
		w.evaluate(x)
	}
	for again := true; again; {
		again = false
		for _, x := range w.order {
			if !x.stuck() {
				continue
			}
			for _, p := range x.parts {
				if m := p.mate; m != nil && !m.x.stuck() {
					m.x.park(fmt.Sprintf("a row moved between it and %s/%s, which is parked", x.a.ref.Aggregate, x.a.ref.Key),
						"release or discard that one first")
					again = true
				}
			}
		}
	}
	slices.SortFunc(w.order, func(a, b *aggTx) int {
		return cmp.Or(strings.Compare(a.a.ref.Aggregate, b.a.ref.Aggregate), strings.Compare(a.a.ref.Key, b.a.ref.Key))
	})
}

// stuck says that the aggregate's changes are parked.
func (x *aggTx) stuck() bool { return x.a.parked || x.reason != "" }

// flush puts what has been collected.
func (s *session) flush() error {
	for _, a := range s.aggs {
		if !a.dirty {
			continue
		}
		a.dirty = false
		state := event.State{Ref: a.ref, Rules: s.e.Rules.Version, Event: a.event, Snapshot: a.snapshot}
		if a.exists() {
			state.Body = a.body()
		}
		a.stored = true
		s.step.States = append(s.step.States, state)
	}
	if len(s.step.Events)+len(s.step.States)+len(s.step.Links)+len(s.step.Parked)+len(s.step.Traces)+len(s.step.Counts) == 0 {
		return nil
	}
	slices.SortFunc(s.step.States, func(a, b event.State) int {
		return cmp.Or(strings.Compare(a.Aggregate, b.Aggregate), strings.Compare(a.Key, b.Key))
	})
	if err := s.put(s.ctx, &s.step); err != nil {
		return fmt.Errorf("put a step of %d events: %w", len(s.step.Events), err)
	}
	s.step, s.bytes = event.Step{}, 0
	return nil
}
