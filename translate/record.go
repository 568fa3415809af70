package translate

import (
	"context"
	"fmt"

	"banyan/event"
	"banyan/wal"
)

// readTree makes an aggregate's rows of what a snapshot has read.
func (u *unit) readTree(tree *wal.Tree, maskKey string) (tables [][]*arow, err error) {
	tables = make([][]*arow, len(u.tables))
	var walk func(t *utable, tree *wal.Tree) error
	walk = func(t *utable, tree *wal.Tree) error {
		if len(tree.Row) != len(t.table.cols) || len(tree.Children) > len(t.children) {
			return fmt.Errorf("a row of %s has %d columns and %d kinds of children, want %d and %d", t.table.name, len(tree.Row), len(tree.Children), len(t.table.cols), len(t.children))
		}
		r := t.newRow(t.kept(t.table.self.read(tree.Row, maskKey)))
		if !t.keyKnown(r.vals) {
			return fmt.Errorf("a row of %s has no key", t.table.name)
		}
		tables[t.index] = append(tables[t.index], r)
		for i, rows := range tree.Children {
			for j := range rows {
				if err := walk(t.children[i], &rows[j]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(u.root(), tree); err != nil {
		return nil, err
	}
	for i, t := range u.tables {
		t.sort(tables[i])
	}
	return tables, nil
}

// Expected says what the state in the last event of an aggregate must be, given
// its rows: the key, and the bytes of the event's "state". It is the same code
// that writes events, so equal rows give equal bytes. Where a value has no
// exact form the aggregate is parked, and err says why.
func (r *Rules) Expected(aggregate string, tree *wal.Tree) (key string, state []byte, err error) {
	u := r.byName[aggregate]
	if u == nil {
		return "", nil, fmt.Errorf("the rules have no aggregate %s", aggregate)
	}
	tables, err := u.readTree(tree, r.Config.maskKey())
	if err != nil {
		return "", nil, err
	}
	state, err = appendState(nil, u, tables)
	return tables[0][0].key, state, err
}

// Recorder takes the aggregates that a snapshot reads and compares them with
// what is stored: one that is not there is Recorded, one that differs is
// Corrected, one that is equal only notes the snapshot's number. One that is
// parked joins the end of its chain. Close puts what is left; a Recorder whose
// Add or Close failed must be thrown away with the store's transaction.
type Recorder struct {
	s     *session
	u     *unit
	at    SnapshotPoint
	trees map[event.Ref][][]*arow
	order []event.Ref
	size  int
}

// Recorder begins to take aggregates of one kind, as a snapshot's ranges are
// read. put is called within the same store transaction as past.
func (e *Engine) Recorder(past Past, aggregate string, at SnapshotPoint, put Put) (*Recorder, error) {
	u := e.Rules.byName[aggregate]
	if u == nil {
		return nil, fmt.Errorf("the rules have no aggregate %s", aggregate)
	}
	return &Recorder{s: e.session(context.Background(), past, put), u: u, at: at, trees: map[event.Ref][][]*arow{}}, nil
}

// Add takes one aggregate; the tree may be reused after it.
func (r *Recorder) Add(ctx context.Context, tree *wal.Tree) error {
	tables, err := r.u.readTree(tree, r.s.e.Rules.Config.maskKey())
	if err != nil {
		return err
	}
	ref := event.Ref{Aggregate: r.u.name, Key: tables[0][0].key}
	if r.trees[ref] == nil {
		r.order = append(r.order, ref)
	}
	r.trees[ref] = tables
	for _, rows := range tables {
		for _, row := range rows {
			r.size += row.size
		}
	}
	if len(r.order) >= 500 || r.size > flushBytes {
		return r.Close(ctx)
	}
	return nil
}

// Close puts what was added and not put yet. Add may be called again after it.
func (r *Recorder) Close(ctx context.Context) error {
	s := r.s
	s.ctx = ctx
	refs := map[event.Ref]bool{}
	for _, ref := range r.order {
		refs[ref] = true
	}
	s.aggs = map[event.Ref]*agg{}
	if err := s.load(refs); err != nil {
		return err
	}
	for _, ref := range r.order {
		if err := s.record(s.aggs[ref], r.trees[ref], r.at); err != nil {
			return err
		}
	}
	clear(r.trees)
	r.order, r.size = r.order[:0], 0
	return s.flush()
}

func (at *SnapshotPoint) position(generation int) event.Position {
	return event.Position{Generation: generation, LSN: uint64(at.LSN), Snapshot: at.Number}
}

// record compares one aggregate with what is stored.
func (s *session) record(a *agg, tables [][]*arow, at SnapshotPoint) error {
	if a.exists() {
		a.snapshot, a.dirty = at.Number, true
	}
	if a.parked {
		return s.parkRecorded(a, "recorded", tables, at, "the key is parked already", "release or discard the chain in order")
	}
	size := 0
	for _, rows := range tables {
		for _, r := range rows {
			size += r.size
		}
	}
	if size > maxAggregate {
		return s.parkRecorded(a, "recorded", tables, at, fmt.Sprintf("the aggregate is larger than %d MiB", maxAggregate>>20), "split it: fewer children, or fewer columns in its state; then release")
	}
	id := event.ID{Source: s.e.Source, Aggregate: a.ref.Aggregate, Key: a.ref.Key, Position: at.position(s.e.Generation)}
	e, err := s.recorded(a, tables, id, at.Retell)
	if err != nil {
		return s.parkRecorded(a, "recorded", tables, at, err.Error(), unfit)
	}
	a.snapshot = at.Number
	if e != nil {
		e.Time, e.Position = at.Time.UTC(), id.Position
		s.step.Events = append(s.step.Events, *e)
		s.bytes += len(e.Data)
	}
	return nil
}

// recorded replaces an aggregate's rows, and gives the event that tells it; nil
// where its state stays the same, unless it is to be told again.
func (s *session) recorded(a *agg, tables [][]*arow, id event.ID, retell bool) (*event.Event, error) {
	state, err := appendState(nil, a.u, tables)
	if err != nil {
		return nil, err
	}
	was, before := a.tables, a.exists()
	same := false
	if before {
		// A stored state that cannot be written (a column that rules name since)
		// is a different one.
		old, err := appendState(nil, a.u, was)
		same = err == nil && string(old) == string(state) && !retell
	}
	var data []byte
	typ := a.u.recorded
	if !same {
		data = append(append(append(make([]byte, 0, len(state)+64), `{"state":`...), state...), `,"changed":`...)
		if before {
			typ = a.u.corrected
			data = appendChanged(data, a.u, was, tables)
		} else {
			data = append(data, "[]"...)
		}
		data = append(data, '}')
		if limit := s.e.MaxEvent; limit > 0 && len(data) > limit {
			return nil, fmt.Errorf("the event %s has %d bytes, more than a record of its topic may have (%d)", typ, len(data), limit)
		}
	}
	a.tables, a.dirty = tables, true
	a.resize()
	s.step.Links = append(s.step.Links, relink(a, was)...)
	if same {
		return nil, nil
	}
	a.event = id.String()
	return &event.Event{ID: id, Type: typ, Version: 1, Topic: a.u.topic, Rules: s.e.Rules.Version, Data: data}, nil
}

// relink gives the links that differ between an aggregate's rows and those it had.
func relink(a *agg, was [][]*arow) []event.Link {
	var out []event.Link
	for i, t := range a.u.tables {
		if t.parent == nil {
			continue
		}
		for _, r := range was[i] {
			if _, still := t.search(a.tables[i], r.vals); !still {
				out = append(out, event.Link{RowRef: event.RowRef{Table: t.table.name, Key: r.key}, Ref: a.ref, Gone: true})
			}
		}
		for _, r := range a.tables[i] {
			if _, had := t.search(was[i], r.vals); !had {
				out = append(out, event.Link{RowRef: event.RowRef{Table: t.table.name, Key: r.key}, Ref: a.ref})
			}
		}
	}
	return out
}

// parkRecorded adds what a snapshot has seen of a parked key to its chain.
func (s *session) parkRecorded(a *agg, kind string, tables [][]*arow, at SnapshotPoint, reason, detail string) error {
	t := &ParkedTx{Kind: kind, Generation: s.e.Generation, LSN: uint64(at.LSN), EndLSN: uint64(at.LSN), Time: at.Time.UTC(), Rules: s.e.Rules.Version, Snapshot: at.Number}
	if tables != nil {
		t.State = (&agg{u: a.u, ref: a.ref, tables: tables}).body()
	}
	body, err := t.encode()
	if err != nil {
		return err
	}
	a.parked = true
	s.step.Parked = append(s.step.Parked, event.Parked{Ref: a.ref, Position: at.position(s.e.Generation), EndLSN: uint64(at.LSN), Reason: reason, Detail: detail, Body: body, Counts: map[string]int64{}})
	for i, t := range a.u.tables {
		if t.parent == nil || tables == nil {
			continue
		}
		for _, r := range tables[i] {
			s.step.Links = append(s.step.Links, event.Link{RowRef: event.RowRef{Table: t.table.name, Key: r.key}, Ref: a.ref})
		}
	}
	s.bytes += len(body)
	return nil
}

// Absent removes every aggregate of one kind that the snapshot has not seen.
// It is called once all ranges of the kind have been recorded.
func (e *Engine) Absent(ctx context.Context, past Past, aggregate string, at SnapshotPoint, put Put) error {
	if e.Rules.byName[aggregate] == nil {
		return fmt.Errorf("the rules have no aggregate %s", aggregate)
	}
	var keys []string
	for key, err := range past.Keys(ctx, aggregate) {
		if err != nil {
			return fmt.Errorf("list the keys of %s: %w", aggregate, err)
		}
		if keys = append(keys, key); len(keys) == 500 {
			if err := e.absent(ctx, past, aggregate, keys, at, put, false); err != nil {
				return err
			}
			keys = keys[:0]
		}
	}
	if err := e.absent(ctx, past, aggregate, keys, at, put, false); err != nil {
		return err
	}
	return e.absentParked(ctx, past, aggregate, at, put)
}

// parkedPast is a Past that knows which keys were parked at their birth and
// not met by a snapshot since.
type parkedPast interface {
	ParkedUnseen(ctx context.Context, aggregate string, snapshot int) ([]string, error)
}

// absentParked ends the chains of those keys.
func (e *Engine) absentParked(ctx context.Context, past Past, aggregate string, at SnapshotPoint, put Put) error {
	p, ok := past.(parkedPast)
	if !ok {
		return nil
	}
	keys, err := p.ParkedUnseen(ctx, aggregate, at.Number)
	if err != nil {
		return fmt.Errorf("list the parked keys of %s: %w", aggregate, err)
	}
	s := e.session(ctx, past, put)
	for _, k := range keys {
		a := &agg{u: e.Rules.byName[aggregate], ref: event.Ref{Aggregate: aggregate, Key: k}}
		if err := s.parkRecorded(a, "absent", nil, at, "the key is parked already", "release or discard the chain in order"); err != nil {
			return err
		}
	}
	return s.flush()
}

// AbsentKeys removes the named aggregates, which a look into the database has
// not found. Keys without a state are left alone.
func (e *Engine) AbsentKeys(ctx context.Context, past Past, aggregate string, keys []string, at SnapshotPoint, put Put) error {
	if e.Rules.byName[aggregate] == nil {
		return fmt.Errorf("the rules have no aggregate %s", aggregate)
	}
	return e.absent(ctx, past, aggregate, keys, at, put, true)
}

func (e *Engine) absent(ctx context.Context, past Past, aggregate string, keys []string, at SnapshotPoint, put Put, named bool) error {
	s := e.session(ctx, past, put)
	refs := map[event.Ref]bool{}
	for _, k := range keys {
		refs[event.Ref{Aggregate: aggregate, Key: k}] = true
	}
	if err := s.load(refs); err != nil {
		return err
	}
	for _, k := range keys {
		a := s.aggs[event.Ref{Aggregate: aggregate, Key: k}]
		if !a.exists() || !named && a.snapshot >= at.Number {
			continue
		}
		if a.parked {
			if err := s.parkRecorded(a, "absent", nil, at, "the key is parked already", "release or discard the chain in order"); err != nil {
				return err
			}
			continue
		}
		id := event.ID{Source: e.Source, Aggregate: aggregate, Key: k, Position: at.position(e.Generation)}
		ev, err := s.removed(a, id)
		if err != nil {
			return err
		}
		ev.Time, ev.Position = at.Time.UTC(), id.Position
		s.step.Events = append(s.step.Events, *ev)
	}
	return s.flush()
}

// removed empties an aggregate and gives the event that tells it.
func (s *session) removed(a *agg, id event.ID) (*event.Event, error) {
	data := []byte(`{"state":null,"last":`)
	last, err := appendState(data, a.u, a.tables)
	if err != nil {
		// What was stored under older rules cannot be written under these.
		last = append(data, "null"...)
	}
	was := a.tables
	a.tables, a.dirty, a.size = make([][]*arow, len(a.tables)), true, 0
	a.event = id.String()
	s.step.Links = append(s.step.Links, relink(a, was)...)
	return &event.Event{ID: id, Type: a.u.removed, Version: 1, Topic: a.u.topic, Rules: s.e.Rules.Version, Data: append(last, `,"changed":[]}`...)}, nil
}
