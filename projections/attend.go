package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banyan/projections/control"
	"banyan/projections/state"
)

// attend looks after what comes from outside the topics, between two batches: a
// version that changed its state, a hold, requests, the active version that this
// one may not overtake, rows that are too old.
func (r *run) attend(ctx context.Context) error {
	bits := r.changes.Swap(0)
	if bits&databaseLost != 0 {
		r.changes.Or(bits &^ databaseLost)
		return r.recover(ctx, nil, errors.New("the connection that listens was lost"))
	}
	err := r.attendTo(ctx, bits)
	var held *control.HeldError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &held):
		r.changes.Or(bits)
		r.hold(held.Hold)
		return nil
	case errors.Is(err, errRoleChanged):
		r.changes.Or(bits)
		return r.patiently(ctx, func() error { return r.reload(ctx) })
	case passing(err):
		r.changes.Or(bits)
		return r.recover(ctx, nil, err)
	case steppedBack(err):
		return fmt.Errorf("%w: %w", errSteppedBack, err)
	}
	return err
}

// fatal reports whether an error is about the run, not about one request.
func fatal(err error) bool {
	return errors.Is(err, control.ErrFenced) || errors.As(err, new(*control.HeldError)) || errors.Is(err, errRoleChanged)
}

func (r *run) attendTo(ctx context.Context, bits uint32) error {
	if bits&versionChanged != 0 {
		if err := r.lookAtVersion(ctx); err != nil {
			return err
		}
	}
	if bits&holdChanged != 0 || r.held != nil && r.opts.Now().Sub(r.looked) > tick {
		h, ok, err := r.opts.Store.HoldOf(ctx, r.spec.Name, r.opts.Version.Number)
		if err != nil {
			return err
		}
		if r.held = nil; ok {
			r.held = &h
		}
		r.looked = r.opts.Now()
	}
	if bits&requestMade != 0 && r.held == nil {
		if err := r.requests(ctx); err != nil {
			return err
		}
	}
	if err := r.lookAtLeader(ctx); err != nil {
		return err
	}
	if now := r.opts.Now(); now.Sub(r.expired) >= r.expireEvery && r.held == nil {
		if err := r.expire(ctx); err != nil {
			return err
		}
		r.expired = now
	}
	return nil
}

func (r *run) lookAtVersion(ctx context.Context) error {
	v, err := r.opts.Store.Version(ctx, r.spec.Name, r.opts.Version.Number)
	if errors.Is(err, control.ErrNotFound) || err == nil && v.State == control.Retired {
		return ErrRetired
	}
	if err != nil {
		return err
	}
	if v.State != r.version.State {
		r.opts.Logger.Info("the version's state has changed", "from", r.version.State, "to", v.State)
	}
	r.version = v
	if r.timers != nil {
		r.timers.Originate = v.State == control.Active
	}
	r.stats.update(func(s *Stats) { s.State = v.State })
	return nil
}

// lookAtLeader asks how far the active version is, where this one must stay
// behind: what fires while the source is idle is decided there.
func (r *run) lookAtLeader(ctx context.Context) error {
	if r.timers == nil || r.version.State == control.Active {
		r.leader = nil
		return nil
	}
	now := r.opts.Now()
	if r.leader != nil && now.Sub(r.asked) < tick/4 {
		return nil
	}
	r.asked = now
	// First how far, then what fired: all that fired up to there is committed.
	m, err := r.opts.Store.Passed(ctx, r.spec.Name)
	if errors.Is(err, control.ErrNotFound) {
		r.leader = nil // there is no active version to stay behind
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.loadFirings(ctx); err != nil {
		return err
	}
	r.leader = &m
	return nil
}

// expire deletes the rows that are past their retention, by the time that all
// partitions of the version have reached.
func (r *run) expire(ctx context.Context) error {
	var tables []state.Table
	for _, t := range r.spec.Tables {
		if t.Retain != nil {
			tables = append(tables, t)
		}
	}
	if len(tables) == 0 {
		return nil
	}
	parts, err := r.opts.Store.Parts(ctx, r.opts.Pool, r.spec.Name, r.opts.Version.Number)
	if err != nil {
		return err
	}
	var reached time.Time
	for _, p := range parts {
		at := p.Passed.Time
		if p.StreamTime.After(at) {
			at = p.StreamTime
		}
		if !at.IsZero() && (reached.IsZero() || at.Before(reached)) {
			reached = at
		}
	}
	if reached.IsZero() {
		return nil
	}
	steps := make([]control.Step, len(r.order.lanes))
	for i, l := range r.order.lanes {
		steps[i] = l.still()
	}
	tx, err := r.open(ctx, steps)
	if err != nil {
		return err
	}
	r.space.Open(ctx, tx.Conn())
	for _, t := range tables {
		cutoff := reached.Add(-t.Retain.For)
		var n int64
		if n, err = r.space.Expire(ctx, t.Name, cutoff); err == nil && n > 0 {
			err = r.opts.Store.SaveCutoff(ctx, tx, r.spec.Name, r.opts.Version.Number, t.Name, cutoff)
			r.opts.Logger.Debug("old rows deleted", "table", t.Name, "rows", n, "before", cutoff)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		if err = tx.Commit(ctx); err == nil {
			r.space.Commit()
			return nil
		}
	}
	r.space.Abort()
	r.undo(tx)
	return err
}

// live shows others by a lease that somebody runs this version. Where none can be had a
// swap may take this run for dead, and do its work; watch tries again.
func (r *run) live(ctx context.Context) {
	if r.lease != nil {
		if r.lease.Renew(ctx) == nil {
			return
		}
		r.die()
	}
	if lease, err := r.opts.Store.Lease(ctx, r.spec.Name, r.opts.Version.Number, control.Owning, r.opts.Owner); err == nil {
		r.lease = lease
	}
}

// die ends what live began. It may be called twice.
func (r *run) die() {
	if r.lease != nil {
		r.lease.Close()
		r.lease = nil
	}
}

// watch listens for changes in the database, and keeps the lease.
func (r *run) watch(ctx context.Context) {
	defer r.die()
	for ctx.Err() == nil {
		for change, err := range r.opts.Store.Watch(ctx) {
			if err != nil {
				break
			}
			if change.Kind == control.Looked || r.lease == nil {
				r.live(ctx)
			}
			r.changed(change)
		}
		if !sleep(ctx, time.Second) {
			return
		}
		// What was missed meanwhile; and where the server has crashed, the last
		// commits may be gone, which nobody would notice before the next batch.
		r.changes.Or(databaseLost)
		r.changed(control.Change{Kind: control.Looked})
	}
}

func (r *run) changed(c control.Change) {
	if c.Projection != "" && c.Projection != r.spec.Name {
		return
	}
	switch c.Kind {
	case control.Looked:
		r.changes.Or(versionChanged | holdChanged | requestMade)
	case control.VersionChanged:
		r.changes.Or(versionChanged | holdChanged)
	case control.HoldChanged:
		r.changes.Or(holdChanged)
	case control.RequestMade:
		r.changes.Or(requestMade)
	default:
		return
	}
	r.poke()
}

// Times of observe.
const (
	observeEvery = time.Second
	stallAfter   = 10 * time.Second
)

// observe looks where the logs end, for the lag, and logs once when nothing moves
// although there is something to do.
func (r *run) observe(ctx context.Context) {
	for sleep(ctx, observeEvery) {
		for _, l := range r.order.lanes {
			if l.in == nil || l.read.Load() < l.end.Load() || len(l.in) > 0 {
				if _, next, err := r.opts.Log.Ends(ctx, l.id.Topic, l.id.Part); err == nil {
					l.end.Store(next)
				}
			}
		}
		s := r.Stats()
		if s.Stalled != "" && r.opts.Now().Sub(s.StalledSince) >= stallAfter && r.stats.warnOnce() {
			r.opts.Logger.Warn("nothing moves", "since", s.StalledSince.UTC(), "why", s.Stalled)
		}
	}
}
