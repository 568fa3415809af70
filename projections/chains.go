package projections

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/projections/control"
)

// chains are the parked keys of the partitions that a run owns. An event of a
// parked key goes to the end of its chain; the key's order is kept, and all other
// keys flow on.
type chains struct {
	parked map[chainKey]*parkedChain
	// of the batch under way
	parking []control.ParkedEvent
	grown   map[chainKey]*parkedChain
}

type chainKey struct {
	part control.PartID
	ref  event.Ref
}

type parkedChain struct {
	first  string // id of its first event
	events int64
}

func keyOf(e *Event) chainKey {
	return chainKey{control.PartID{Topic: e.Topic, Part: e.Partition}, event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key}}
}

// load begins with what the database has.
func (c *chains) load(all []control.Chain, lanes []*lane) {
	ours := make(map[control.PartID]bool, len(lanes))
	for _, l := range lanes {
		ours[l.id] = true
	}
	c.parked = map[chainKey]*parkedChain{}
	for _, ch := range all {
		if ours[ch.PartID] {
			c.parked[chainKey{ch.PartID, ch.Ref}] = &parkedChain{ch.First, ch.Events}
		}
	}
	c.begin()
}

// begin begins a batch, and forgets what the one before parked if it was not kept.
func (c *chains) begin() {
	c.parking = c.parking[:0]
	c.grown = nil
}

// follows reports whether the event's key is parked.
func (c *chains) follows(e *Event) bool {
	if len(c.parked) == 0 && len(c.grown) == 0 {
		return false
	}
	k := keyOf(e)
	return c.grown[k] != nil || c.parked[k] != nil
}

// park puts an event into its chain.
func (c *chains) park(p control.ParkedEvent) {
	k := chainKey{p.PartID, p.Ref}
	if c.grown == nil {
		c.grown = map[chainKey]*parkedChain{}
	}
	ch := c.grown[k]
	if ch == nil {
		ch = &parkedChain{first: p.ID}
		if was := c.parked[k]; was != nil {
			ch.first, ch.events = was.first, was.events
		}
		c.grown[k] = ch
	}
	if ch.events > 0 {
		p.Reason = "behind " + ch.first
	}
	ch.events++
	c.parking = append(c.parking, p)
}

// keep says that the batch is committed.
func (c *chains) keep() {
	for k, ch := range c.grown {
		c.parked[k] = ch
	}
	c.begin()
}

// drop forgets a chain that was released or discarded.
func (c *chains) drop(k chainKey) { delete(c.parked, k) }

func (c *chains) tell(b *statsBoard) {
	n := int64(0)
	for _, ch := range c.parked {
		n += ch.events
	}
	b.update(func(s *Stats) { s.ParkedKeys, s.ParkedEvents = len(c.parked), n })
}

// parkedEvent is an event on its way into its chain.
func (r *run) parkedEvent(e *Event, why error) control.ParkedEvent {
	p := control.ParkedEvent{
		Projection: r.spec.Name, Version: r.opts.Version.Number,
		Ref:    event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key},
		PartID: control.PartID{Topic: e.Topic, Part: e.Partition},
		Offset: e.Offset, Seq: e.Seq, Position: e.Position, ID: e.ID.String(), Type: e.Type, ParkedAt: r.opts.Now().UTC(),
	}
	if e.record != nil {
		p.Record = *e.record
	} else {
		p.Record = e.Record()
	}
	if why != nil {
		p.Reason = why.Error()
	}
	return p
}

// requests does what people have asked for: chains to release or to discard. Each
// is a transaction of its own behind the fence. What fails is written down for who
// has asked, and the chain stays.
func (r *run) requests(ctx context.Context) error {
	ids := make([]control.PartID, len(r.order.lanes))
	for i, l := range r.order.lanes {
		ids[i] = l.id
	}
	pending, err := r.opts.Store.Pending(ctx, r.opts.Pool, r.spec.Name, r.opts.Version.Number, ids)
	if err != nil {
		return err
	}
	for _, q := range pending {
		l := r.laneOf(q.PartID)
		if l == nil {
			continue
		}
		n, err := r.serve(ctx, q, l)
		if err == nil {
			r.chains.drop(chainKey{q.PartID, q.Ref})
			r.chains.tell(&r.stats)
			r.opts.Logger.Info("a parked chain is settled", "by", q.Kind, "key", q.Aggregate+"/"+q.Key, "events", n)
			continue
		}
		if again := ctx.Err() != nil || passing(err) || fatal(err); again {
			return err
		}
		if err := r.reload(ctx); err != nil {
			return err
		}
		if err := r.opts.Store.Finish(ctx, r.opts.Pool, q, 0, err); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) laneOf(id control.PartID) *lane {
	for _, l := range r.order.lanes {
		if l.id == id {
			return l
		}
	}
	return nil
}

// serve does one request.
func (r *run) serve(ctx context.Context, q control.Request, l *lane) (int64, error) {
	tx, err := r.open(ctx, []control.Step{l.still()})
	if err != nil {
		return 0, err
	}
	n, err := r.serveIn(ctx, tx, q, l)
	if err == nil {
		if err = tx.Commit(ctx); err == nil {
			r.space.Commit()
			return n, nil
		}
	}
	r.space.Abort()
	r.undo(tx)
	return 0, err
}

func (r *run) serveIn(ctx context.Context, tx pgx.Tx, q control.Request, l *lane) (int64, error) {
	store, name, number := r.opts.Store, r.spec.Name, r.opts.Version.Number
	r.space.Open(ctx, tx.Conn())
	chain, err := store.Chain(ctx, tx, name, number, q.Ref, 0)
	if err != nil {
		return 0, err
	}
	if len(chain) == 0 {
		return 0, control.ErrNotParked
	}
	fate := control.Discarded
	if q.Kind == control.Release {
		fate = control.Released
		if err := r.applyChain(ctx, tx, chain); err != nil {
			return 0, err
		}
	}
	at := l.done.applied
	if r.spec.Aligned {
		for _, other := range r.order.lanes {
			at = later(other.done.applied, at)
		}
	}
	settled := make([]control.Settled, len(chain))
	for i, p := range chain {
		settled[i] = control.Settled{Ref: p.Ref, PartID: p.PartID, Offset: p.Offset, Seq: p.Seq, ID: p.ID, Fate: fate, At: at}
	}
	if err := store.Settle(ctx, tx, name, number, settled); err != nil {
		return 0, err
	}
	n, err := store.Unpark(ctx, tx, name, number, q.Ref)
	if err != nil {
		return 0, err
	}
	return n, store.Finish(ctx, tx, q, n, nil)
}

// applyChain applies a chain in its order; one event that still cannot be applied
// fails it whole.
func (r *run) applyChain(ctx context.Context, tx pgx.Tx, chain []control.ParkedEvent) error {
	batcher, whole := r.opts.Program.(Batcher)
	events := make([]*Event, len(chain))
	for i := range chain {
		p := &chain[i]
		e := new(Event)
		p.Record.Partition, p.Record.Offset = p.Part, p.Offset
		if err := r.prep.Prepare(e, p.Topic, &p.Record); err != nil {
			return err
		}
		if e.Fault != nil {
			return fmt.Errorf("event %s: %w", p.ID, e.Fault)
		}
		events[i] = e
		if whole {
			continue
		}
		if err := r.applier.Apply(e); err != nil {
			return fmt.Errorf("event %s: %w", p.ID, err)
		}
	}
	if whole {
		if err := ApplyBatch(ctx, tx, r.opts.Version.Schema, batcher, events); err != nil {
			return err
		}
	}
	if err := r.space.Flush(ctx); err != nil {
		return fmt.Errorf("write the rows: %w", err)
	}
	return r.promise(ctx, tx, false)
}
