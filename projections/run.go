package projections

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/event"
	"banyan/projections/control"
	"banyan/projections/state"
)

// run is one call of Runner.Run: what it owns, and the goroutines that feed it.
// All but inbox, changes and what lanes have atomic belongs to the committer, the
// goroutine of loop.
type run struct {
	*Runner
	ctx        context.Context // of the goroutines
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
	wake       chan struct{} // of capacity 1

	conn    *pgxpool.Conn  // nil between attempts
	lease   *control.Lease // of begin, then of watch; nil where none could be had
	version control.Version
	order   order
	batch   batch
	began   time.Time // of the batch's commit
	inbox   markInbox
	changes atomic.Uint32 // change bits that attend has not looked at

	applier *Applier
	timers  *Timers
	fired   int64 // number of the last firing that was loaded
	chains  chains

	held    *control.Hold
	leader  *control.Mark // what the active version has passed, where this one may not go ahead
	asked   time.Time     // when leader was last asked for
	looked  time.Time     // when the hold was last asked for
	narrow  int           // size of batches while a poisoned event is searched; 0 for none
	bad     map[place]error
	wants   map[string][]state.Key
	last    time.Time // of the last commit
	expired time.Time

	ends   []int64 // by lane: what CaughtUp means
	target *control.Mark
	caught bool // the marks that were there at the start are known
	markEr error
}

// place names a record.
type place struct {
	control.PartID
	offset int64
}

// Bits of run.changes.
const (
	versionChanged uint32 = 1 << iota
	holdChanged
	requestMade
	databaseLost // the connection of watch was
)

// begin takes the partitions over and starts the goroutines.
func (r *Runner) begin(ctx context.Context, ids []control.PartID) (*run, error) {
	n := &run{Runner: r, wake: make(chan struct{}, 1), bad: map[place]error{}, wants: map[string][]state.Key{}, version: r.opts.Version, expired: r.opts.Now()}
	var parts []control.Part
	err := n.patiently(ctx, func() (err error) {
		if err = n.checkTopics(ctx, ids); err != nil {
			return err
		}
		n.live(ctx) // before: where an owner is seen, it is seen to live
		parts, err = r.opts.Store.TakeOver(ctx, r.spec.Name, r.opts.Version.Number, ids, r.opts.Owner)
		return err
	})
	if err != nil {
		n.die()
		return nil, err
	}
	if !r.mayKeepCache(parts) {
		r.space.Reset()
	}
	if err := n.patiently(ctx, func() error { n.live(ctx); return n.checkLogs(ctx, parts) }); err != nil {
		n.die()
		n.leave(parts)
		return nil, err
	}
	n.makeLanes(parts)
	if err := n.patiently(ctx, func() error { n.live(ctx); return n.reload(ctx) }); err != nil {
		r.stats.forget()
		n.die()
		n.leave(parts)
		return nil, err
	}
	n.ctx, n.cancel = context.WithCancel(ctx)
	n.changes.Store(versionChanged | holdChanged | requestMade)
	for i, l := range n.order.lanes {
		n.goroutines.Go(func() { l.follow(n.ctx, r.opts.Log, r.prep, NewSequence(parts[i]), n.poke) })
	}
	n.goroutines.Go(func() { n.followMarks(n.ctx) })
	n.goroutines.Go(func() { n.watch(n.ctx) })
	n.goroutines.Go(func() { n.observe(n.ctx) })
	r.opts.Logger.Info("running", "partitions", len(parts), "owner", r.opts.Owner)
	return n, nil
}

// end waits for the goroutines and gives back what was taken.
func (r *run) end() {
	r.cancel()
	r.goroutines.Wait()
	r.space.Abort()
	r.drop()
	var parts []control.Part
	clear(r.Runner.last)
	for _, l := range r.order.lanes {
		r.Runner.last[l.id] = held{l.epoch, l.done.next}
		parts = append(parts, control.Part{PartID: l.id, Epoch: l.epoch})
	}
	r.leave(parts)
	r.stats.reset(nil, r.opts.Now())
}

// leave tells people that nobody owns the partitions; nothing rests on it.
func (r *run) leave(parts []control.Part) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := r.opts.Store.Leave(ctx, r.spec.Name, r.opts.Version.Number, parts); err != nil {
		r.opts.Logger.Debug("the owner's name stays behind", "error", err)
	}
}

// mayKeepCache reports whether nobody else had any of these partitions since the
// last Run: then the rows in the cache are still the truth.
func (r *Runner) mayKeepCache(parts []control.Part) bool {
	for _, p := range parts {
		if was, ok := r.last[p.PartID]; !ok || p.Epoch != was.epoch+1 || p.Next != was.next {
			return false
		}
	}
	return true
}

func (r *run) makeLanes(parts []control.Part) {
	topics := map[string]int{}
	for i, t := range r.spec.Topics {
		topics[t] = i
	}
	r.order = order{aligned: r.spec.Aligned}
	for _, p := range parts {
		r.order.lanes = append(r.order.lanes, newLane(p, topics[p.Topic]))
	}
	r.stats.reset(r.order.lanes, r.opts.Now())
}

// poke wakes the committer.
func (r *run) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// patiently does something until it is done, or fails in a way that does not pass,
// or ctx ends.
func (r *run) patiently(ctx context.Context, do func() error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !passing(err) {
			return err
		}
		r.stats.waits(err.Error())
		r.opts.Logger.Warn("waiting", "error", err)
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// reload reads anew what is kept in memory beside the rows, which are forgotten
// as well, and takes back what is not committed.
func (r *run) reload(ctx context.Context) error {
	r.space.Abort()
	r.order.rewind()
	store, name, number := r.opts.Store, r.spec.Name, r.opts.Version.Number
	all, err := store.Chains(ctx, r.opts.Pool, name, number)
	if err != nil {
		return err
	}
	r.chains.load(all, r.order.lanes)
	r.chains.tell(&r.stats)
	var applied event.Position
	for _, l := range r.order.lanes {
		applied = later(l.done.applied, applied)
	}
	if r.timers = nil; r.spec.Timers {
		if err := r.loadTimers(ctx, applied); err != nil {
			return err
		}
	}
	if r.applier, err = NewApplier(r.opts.Program, r.space, r.timers, applied); err != nil {
		return err
	}
	for _, l := range r.order.lanes {
		r.applier.SetStreamTime(l.id, l.done.stream)
	}
	return nil
}

func (r *run) loadTimers(ctx context.Context, applied event.Position) error {
	r.timers = NewTimers(applied)
	r.timers.Originate = r.version.State == control.Active
	r.fired = 0
	if err := r.loadFirings(ctx); err != nil {
		return err
	}
	conn, err := r.opts.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("load the timers: %w", err)
	}
	defer conn.Release()
	for _, t := range r.spec.AllTables() {
		if t.Name != TimersTable {
			continue
		}
		for row, err := range state.Scan(ctx, conn.Conn(), r.opts.Version.Schema, t) {
			if err == nil {
				err = r.timers.Load(row.Row)
			}
			if err != nil {
				return fmt.Errorf("load the timers: %w", err)
			}
		}
	}
	return nil
}

// loadFirings reads what was recorded since it was last done.
func (r *run) loadFirings(ctx context.Context) error {
	const page = 10_000
	for {
		fs, err := r.opts.Store.Firings(ctx, r.opts.Pool, r.spec.Name, r.fired, page)
		if err != nil {
			return err
		}
		for _, f := range fs {
			r.timers.Recorded(f)
			r.fired = f.N
		}
		if len(fs) < page {
			return nil
		}
	}
}

// gather makes the next batch.
func (r *run) gather() *batch {
	marks, caught, err := r.inbox.take()
	r.caught, r.markEr = r.caught || caught, err
	for _, w := range marks {
		r.order.marks.add(w)
	}
	if w := r.order.marks.latest(); w != nil {
		r.stats.update(func(s *Stats) { s.Mark = control.MarkOf(w) })
		if r.target == nil && r.caught {
			m := control.MarkOf(w)
			r.target = &m
		}
	}
	r.order.ceilings = r.order.ceilings[:0]
	if r.held != nil {
		r.order.ceilings = append(r.order.ceilings, ceiling{r.held.At, true, "held for a swap"})
	}
	if u := r.opts.Until.Mark; u != nil {
		r.order.ceilings = append(r.order.ceilings, ceiling{*u, true, "all is done up to the mark"})
	}
	if r.leader != nil {
		r.order.ceilings = append(r.order.ceilings, ceiling{*r.leader, false, "waiting for the active version"})
	}
	lim := r.opts.Limits
	count := lim.Events
	if r.narrow > 0 {
		count = min(count, r.narrow)
	}
	b := &r.batch
	r.order.open(b)
	r.order.fill(lim.Buffer)
	r.order.take(b, count, lim.Bytes)
	if pause := lim.Age - r.opts.Now().Sub(r.last); pause > 0 && pause <= lim.Age {
		r.linger(b, pause, count)
	}
	r.order.close(b)
	r.fires(b)
	return b
}

// linger lets a small batch grow for a while, since one was committed a moment ago: what
// comes is taken at once, so that the readers go on reading.
func (r *run) linger(b *batch, pause time.Duration, count int) {
	lim := r.opts.Limits
	over, woken := time.NewTimer(pause), false
	defer func() {
		over.Stop()
		if woken {
			r.poke() // it may have been for a mark
		}
	}()
	for len(b.events) > 0 && len(b.events) < count/4 && b.bytes < lim.Bytes/4 {
		select {
		case <-r.ctx.Done():
			return
		case <-over.C:
			return
		case <-r.wake:
			woken = true
			r.order.fill(lim.Buffer)
			r.order.take(b, count, lim.Bytes)
		}
	}
}

// fires gives a batch that has nothing else to do a step, where timers are due.
func (r *run) fires(b *batch) {
	if r.timers == nil || len(b.steps) > 0 || r.applier.Quiet(b.mark) {
		return
	}
	for _, l := range r.order.lanes {
		b.lanes, b.steps = append(b.lanes, l), append(b.steps, l.still())
	}
}

// keep notes that a batch is committed.
func (r *run) keep(b *batch) {
	r.order.keep(b)
	r.chains.keep()
	r.chains.tell(&r.stats)
	now := r.opts.Now()
	r.stats.committed(r.order.lanes, len(b.events), b.mark, now.Sub(r.began), now)
	r.last = now
	if r.narrow > 0 {
		if r.narrow *= 2; r.narrow >= r.opts.Limits.Events {
			r.narrow = 0
		}
	}
	clear(b.events)
}

// hold stops the order at a mark.
func (r *run) hold(h control.Hold) {
	r.held = &h
	r.order.rewind()
	r.drop()
}

// finished reports whether Until is reached, or a reader has found a fault and all
// before it is applied.
func (r *run) finished() (bool, error) {
	for _, l := range r.order.lanes {
		if l.failed != nil && l.head() == nil {
			return true, l.failed
		}
	}
	if m := r.opts.Until.Mark; m != nil {
		for _, l := range r.order.lanes {
			if l.done.passed.Compare(*m) < 0 {
				return false, nil
			}
		}
		return true, nil
	}
	if !r.opts.Until.CaughtUp || !r.caught && (r.spec.Aligned || r.markEr == nil) {
		return false, nil // the marks that are there belong to what there is
	}
	offsets, marks := true, r.target != nil
	for i, l := range r.order.lanes {
		offsets = offsets && (l.cur.next >= r.ends[i] || l.cur.end)
		marks = marks && l.cur.passed.Compare(*r.target) >= 0
	}
	return offsets || r.spec.Aligned && marks, nil
}

// tick is how often the committer looks around when nothing happens.
const tick = 200 * time.Millisecond

// wait waits until something may have changed.
func (r *run) wait(ctx context.Context) error {
	r.stats.waits(r.standing())
	t := time.NewTimer(tick)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	case <-r.wake:
		return nil
	}
}

// standing says why there is nothing to do, "" where there simply is nothing.
func (r *run) standing() string {
	if c := r.order.lowest(); c != nil {
		for _, l := range r.order.lanes {
			if r.order.stands(l, c) {
				return fmt.Sprintf("%s at %s", c.why, c.at)
			}
		}
	}
	if l := r.order.waits; l != nil {
		why := fmt.Sprintf("waiting for the watermark of %s: it has passed %s", l.id, r.order.proven(l))
		if r.markEr != nil {
			why += "; the watermarks cannot be read: " + r.markEr.Error()
		}
		return why
	}
	return ""
}
