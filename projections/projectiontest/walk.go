package projectiontest

import (
	"math/rand/v2"
	"time"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
)

// walk is one way through the events.
type walk struct {
	*splitter
	rng *rand.Rand
	log *Log
	m   *memory

	effects                            []projections.Promise // of the batches that were committed
	applied                            event.Position
	stream                             map[control.PartID]time.Time
	batches, crashes, restarts, undone int
}

// all applies everything, batch by batch.
func (w *walk) all(events []*projections.Event) error {
	w.stream = make(map[control.PartID]time.Time)
	for len(events) > 0 {
		n := 1 + w.rng.IntN(min(len(events), 25))
		batch := events[:n]
		if w.rng.IntN(4) == 0 {
			if err := w.crash(batch); err != nil {
				return err
			}
		}
		for _, e := range batch {
			if err := w.take(e); err != nil {
				return err
			}
		}
		w.effects = append(w.effects, w.m.applier.Effects()...)
		for _, e := range batch {
			w.note(e)
		}
		w.batches++
		events = events[n:]
		if w.rng.IntN(6) == 0 {
			w.restarts++
			if err := w.restart(w.m.bulk, w.m.parked); err != nil {
				return err
			}
		}
	}
	return nil
}

// note keeps what a runner keeps beside the rows.
func (w *walk) note(e *projections.Event) {
	if g := (control.Mark{Generation: e.Position.Generation, LSN: e.Position.LSN}); g.Compare(control.Mark{Generation: w.applied.Generation, LSN: w.applied.LSN}) > 0 {
		w.applied = e.Position
	}
	id := control.PartID{Topic: e.Topic, Part: e.Partition}
	if e.Time.After(w.stream[id]) {
		w.stream[id] = e.Time
	}
}

// take applies an event, and now and then applies it, takes it back and applies it
// again.
func (w *walk) take(e *projections.Event) error {
	if w.rng.IntN(8) == 0 && w.m.timers == nil {
		w.effects = append(w.effects, w.m.applier.Effects()...)
		parked := w.m.parked[event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key}]
		if err := w.m.applier.Advance(e); err != nil {
			return err
		}
		if parked == "" && w.m.applier.Apply(e) == nil {
			w.m.bulk.Undo()
			w.m.applier.Effects()
			w.undone++
		}
	}
	return ignoreParked(w.m.take(e))
}

// crash does some of a batch and loses it: what is left is what was there before.
// Where the process has died the records are read and prepared anew; where the
// database has refused, the same events come again.
func (w *walk) crash(batch []*projections.Event) error {
	w.crashes++
	before, err := copied(w.m)
	if err != nil {
		return err
	}
	parked := make(map[event.Ref]string)
	for k, v := range w.m.parked {
		parked[k] = v
	}
	promised := len(w.effects)
	for _, e := range batch[:1+w.rng.IntN(len(batch))] {
		if err := w.take(e); err != nil {
			return err
		}
	}
	w.effects = w.effects[:promised]
	if err := w.restart(before, parked); err != nil {
		return err
	}
	if w.rng.IntN(2) == 0 {
		return nil
	}
	for i, e := range batch {
		if batch[i], err = w.m.made(e.Topic, e.WireRecord(), e.Offset); err != nil {
			return err
		}
	}
	return nil
}

// restart goes on with nothing but rows.
func (w *walk) restart(rows *state.Bulk, parked map[event.Ref]string) error {
	m, err := newMemory(w.program, false, nil)
	if err != nil {
		return err
	}
	m.bulk, m.parked = rows, parked
	if err := m.begin(w.applied, false, w.firings); err != nil {
		return err
	}
	for id, at := range w.stream {
		m.applier.SetStreamTime(id, at)
	}
	w.m = m
	return nil
}

// copied are the same rows in another memory.
func copied(m *memory) (*state.Bulk, error) {
	b, err := state.NewBulk(m.spec.AllTables(), state.BulkOptions{})
	if err != nil {
		return nil, err
	}
	for name := range m.shapes {
		for e, err := range m.bulk.Each(name) {
			if err == nil {
				err = b.Rows(name).Put(e.Row)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}
