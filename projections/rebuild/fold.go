package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
)

// fold applies a history to a space: what a rebuild and a verification have in
// common. It belongs to one goroutine.
type fold struct {
	spec    projections.Spec
	applier *projections.Applier
	own     map[control.PartID]bool // the partitions that it is given
	// replay says what became of the events that the version had parked, for a
	// verification; nil otherwise.
	replay *parkedPast
	// park keeps the chains of keys that cannot be applied; nil makes the first
	// poison fatal.
	park *parking
	// seen, where set, is told each event before it changes anything.
	seen    func(e *projections.Event)
	applied int64
}

// newFold makes a fold into an empty space. firings are those of the projection's
// past.
func newFold(p projections.Program, space state.Space, firings []control.Firing) (*fold, error) {
	spec := p.Spec()
	var timers *projections.Timers
	if spec.Timers {
		timers = projections.NewTimers(event.Position{})
		for _, f := range firings {
			timers.Recorded(f)
		}
	}
	applier, err := projections.NewApplier(p, space, timers, event.Position{})
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", spec.Name, err)
	}
	return &fold{spec: spec, applier: applier}, nil
}

// all folds everything that the replay gives, up to the mark if there is one.
func (f *fold) all(ctx context.Context, r *projections.Replay, mark control.Mark) error {
	for events, err := range r.Events(ctx) {
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := f.take(e); err != nil {
				return err
			}
		}
		// Nobody sends what a replay promises.
		f.applier.Effects()
	}
	if err := f.replay.due(f, nil); err != nil {
		return err
	}
	if f.spec.Aligned {
		return f.applier.Idle(mark)
	}
	return nil
}

// take is one event, in order.
func (f *fold) take(e *projections.Event) error {
	if err := f.replay.due(f, e); err != nil {
		return err
	}
	if err := f.applier.Advance(e); err != nil {
		return err
	}
	if f.replay.sets(e) || f.park.follows(e) {
		return nil
	}
	if f.seen != nil {
		f.seen(e)
	}
	if err := f.applier.Apply(e); err != nil {
		if disk, ok := errors.AsType[*state.DiskError](err); ok {
			return disk
		}
		if f.park == nil {
			return &projections.PoisonError{Event: e, Err: err}
		}
		f.park.add(e, err.Error())
		return nil
	}
	f.applied++
	return nil
}

// parkedPast is what is known of the events that a version has parked: those that
// are parked still, those that were discarded, and those that were released, with
// the place in the order where that was.
type parkedPast struct {
	skip     map[place]bool // never applied at their own place
	released map[place]*release
	// queues hold what was released, in that order: one for each partition, or one
	// for all where the order is one.
	queues map[control.PartID][]*release
}

type place struct {
	control.PartID
	offset int64
}

type release struct {
	control.Settled
	e *projections.Event // nil until the replay has come by
}

func placeOf(e *projections.Event) place {
	return place{control.PartID{Topic: e.Topic, Part: e.Partition}, e.Offset}
}

func newParkedPast(aligned bool, chains []control.ParkedEvent, settled []control.Settled) *parkedPast {
	p := &parkedPast{skip: map[place]bool{}, released: map[place]*release{}, queues: map[control.PartID][]*release{}}
	for _, c := range chains {
		p.skip[place{c.PartID, c.Offset}] = true
	}
	for _, s := range settled {
		at := place{s.PartID, s.Offset}
		p.skip[at] = true
		if s.Fate == control.Released {
			r := &release{Settled: s}
			p.released[at] = r
			queue := s.PartID
			if aligned {
				queue = control.PartID{}
			}
			p.queues[queue] = append(p.queues[queue], r)
		}
	}
	return p
}

// sets reports whether an event was set aside, and keeps it for its release.
func (p *parkedPast) sets(e *projections.Event) bool {
	if p == nil || !p.skip[placeOf(e)] {
		return false
	}
	if r := p.released[placeOf(e)]; r != nil {
		r.e = e
	}
	return true
}

// due applies what was released before the order came to e, or all that is left
// of the partitions in own where e is nil.
func (p *parkedPast) due(f *fold, e *projections.Event) error {
	if p == nil || len(p.queues) == 0 {
		return nil
	}
	if e != nil {
		queue := placeOf(e).PartID
		if f.spec.Aligned {
			queue = control.PartID{}
		}
		return p.apply(f, queue, func(r *release) bool { return groupOf(e.Position).Compare(groupOf(r.At)) > 0 })
	}
	for queue := range p.queues {
		if f.spec.Aligned || f.own[queue] {
			if err := p.apply(f, queue, func(*release) bool { return true }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *parkedPast) apply(f *fold, queue control.PartID, due func(*release) bool) error {
	q := p.queues[queue]
	for len(q) > 0 && due(q[0]) {
		r := q[0]
		q = q[1:]
		if r.e == nil {
			return fmt.Errorf("event %s was parked and released, and is not at offset %d of %s", r.ID, r.Offset, r.PartID)
		}
		if f.seen != nil {
			f.seen(r.e)
		}
		if err := f.applier.Apply(r.e); err != nil {
			if disk, ok := errors.AsType[*state.DiskError](err); ok {
				return disk
			}
			return &projections.PoisonError{Event: r.e, Err: err}
		}
		f.applied++
	}
	p.queues[queue] = q
	return nil
}

func groupOf(p event.Position) control.Mark {
	return control.Mark{Generation: p.Generation, LSN: p.LSN}
}

// parking are the chains of a rebuild that parks.
type parking struct {
	projection string
	version    int
	now        time.Time
	first      map[event.Ref]string // id of the first of each chain
	events     []control.ParkedEvent
}

// follows reports whether an event's key is parked, and puts it into the chain
// then.
func (p *parking) follows(e *projections.Event) bool {
	if p == nil || len(p.first) == 0 {
		return false
	}
	first, ok := p.first[event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key}]
	if ok {
		p.add(e, "behind "+first)
	}
	return ok
}

func (p *parking) add(e *projections.Event, reason string) {
	ref := event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key}
	if _, ok := p.first[ref]; !ok {
		p.first[ref] = e.ID.String()
	}
	p.events = append(p.events, control.ParkedEvent{Projection: p.projection, Version: p.version, Ref: ref, PartID: placeOf(e).PartID,
		Offset: e.Offset, Seq: e.Seq, Position: e.Position, ID: e.ID.String(), Type: e.Type, Reason: reason, Record: e.WireRecord(), ParkedAt: p.now})
}

// watched is a space that remembers which event changed a row last.
type watched struct {
	state.Space
	tables map[string]*watchedRows
	event  string // the id of the one that is applied now
}

// watch wraps a space; keys says which rows are of interest, by table.
func watch(space state.Space, shapes map[string]*state.Shape, keys map[string][]state.Key) *watched {
	w := &watched{Space: space, tables: make(map[string]*watchedRows)}
	for table, ks := range keys {
		r := &watchedRows{Rows: space.Rows(table), w: w, shape: shapes[table], last: make(map[state.Key]string)}
		for _, k := range ks {
			r.last[k] = ""
		}
		w.tables[table] = r
	}
	return w
}

// Rows gives the rows of a table, those of interest watched.
func (w *watched) Rows(table string) state.Rows {
	if r := w.tables[table]; r != nil {
		return r
	}
	return w.Space.Rows(table)
}

type watchedRows struct {
	state.Rows
	w     *watched
	shape *state.Shape
	last  map[state.Key]string
}

// Put notes the event where the row is of interest.
func (r *watchedRows) Put(row state.Row) error {
	if k, err := r.shape.KeyOf(row); err == nil {
		r.note(k)
	}
	return r.Rows.Put(row)
}

// Delete notes the event where the row is of interest.
func (r *watchedRows) Delete(k state.Key) error {
	r.note(k)
	return r.Rows.Delete(k)
}

func (r *watchedRows) note(k state.Key) {
	if _, ok := r.last[k]; ok {
		r.last[k] = r.w.event
	}
}
