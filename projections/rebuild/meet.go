package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"banyan/projections"
	"banyan/projections/control"
)

// meet brings both versions to stand at one mark and calls do while they stand,
// which began at since. The hold is taken away whatever happens.
func (s *swapper) meet(ctx context.Context, do func(ctx context.Context, at control.Mark, since time.Time) error) error {
	ctx, stop, own, err := s.attend(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := s.near(ctx, own); err != nil {
		return err
	}
	hold, err := s.store.PlaceHold(ctx, s.cfg.Projection, s.from.Number, s.to.Number, s.cfg.Hold)
	if err != nil {
		return err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := s.store.ClearHold(late, s.cfg.Projection); err != nil {
			s.cfg.Logger.Warn("the hold could not be taken away; it lapses by itself", "until", hold.Until, "error", err)
		}
	}()
	since := time.Now()
	held, cancel := context.WithTimeout(ctx, s.cfg.Hold)
	defer cancel()
	if err := s.reach(ctx, held, hold.At); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return do(held, hold.At, since)
}

// lookPatience is how long the database may take for a look when the hold is over.
const lookPatience = 10 * time.Second

// reach waits until both stand at the mark, or the hold is over. A look that has begun
// is waited for beyond that: who is late says more than that time is up.
func (s *swapper) reach(ctx, held context.Context, at control.Mark) error {
	look, cancel := context.WithTimeout(ctx, s.cfg.Hold+lookPatience)
	defer cancel()
	var last error
	for {
		err := s.store.Reached(look, s.cfg.Projection, s.from.Number, s.to.Number, at)
		var late *control.NotReachedError
		switch {
		case err == nil && held.Err() != nil && ctx.Err() == nil:
			return &control.NotReachedError{Projection: s.cfg.Projection, At: at, Lapsed: true}
		case err == nil:
			return nil
		case !errors.As(err, &late):
			if look.Err() != nil {
				return cmp.Or(last, err)
			}
			return err
		case late.Lapsed || !pause(held, 2*time.Millisecond):
			return err
		}
		last = err
	}
}

// attend sees to it that both versions are run by somebody: by us, where nobody
// else does. The context that it gives ends when one of ours fails, with that as
// its cause. stop ends what was started, and waits for it.
func (s *swapper) attend(ctx context.Context) (within context.Context, stop func(), own bool, err error) {
	within, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	stop = func() {
		cancel(nil)
		running.Wait()
	}
	alive, err := s.alive(ctx)
	for i, v := range []control.Version{s.from, s.to} {
		if err == nil && !alive[i] {
			err = s.run(within, v, i, &running, cancel)
			own = true
		}
	}
	if err != nil {
		stop()
		return nil, nil, false, err
	}
	return within, stop, own, nil
}

// PickUp is how long a service that runs one version may need to notice another one
// and to join its group: on a machine that is short of processors more than a few
// seconds.
const PickUp = 30 * time.Second

// alive says which of the two versions somebody runs. Where it is only one, its
// service is about to follow the other one too: to run that meanwhile would take
// its partitions away from it.
func (s *swapper) alive(ctx context.Context) (alive [2]bool, err error) {
	limit := time.Now().Add(PickUp)
	for {
		for i, v := range []control.Version{s.from, s.to} {
			if alive[i], err = s.store.Alive(ctx, s.cfg.Projection, v.Number); err != nil {
				return alive, err
			}
		}
		if alive[0] == alive[1] || time.Now().After(limit) {
			return alive, nil
		}
		select {
		case <-ctx.Done():
			return alive, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// run runs a version that nobody else runs.
func (s *swapper) run(ctx context.Context, v control.Version, i int, running *sync.WaitGroup, fail context.CancelCauseFunc) (err error) {
	if s.program[i] == nil {
		if s.program[i], err = s.cfg.Program(v); err != nil {
			return fmt.Errorf("version %d of %s, which nobody runs: %w", v.Number, s.cfg.Projection, err)
		}
	}
	parts := make(map[string][]int)
	for _, topic := range s.program[i].Spec().Topics {
		n, err := s.cfg.Log.Partitions(ctx, topic)
		if err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
		for part := range n {
			parts[topic] = append(parts[topic], part)
		}
	}
	r, err := projections.NewRunner(projections.Options{Program: s.program[i], Version: v, Store: s.store, Pool: s.cfg.DB, Log: s.cfg.Log, Owner: s.cfg.Owner, Logger: s.cfg.Logger})
	if err != nil {
		return err
	}
	s.cfg.Logger.Info("nobody runs this version; running it for the moment", "version", v.Number)
	running.Go(func() {
		if err := r.Run(ctx, parts); ctx.Err() == nil {
			fail(fmt.Errorf("version %d, which nobody else runs, cannot go on: %w", v.Number, err))
		}
	})
	return nil
}

// near refuses where the new version is far behind, after a moment, or after a
// longer one where it only runs because of us.
func (s *swapper) near(ctx context.Context, own bool) error {
	const moment = 2 * time.Second
	deadline := time.Now().Add(moment)
	if own {
		deadline = time.Now().Add(s.cfg.Wait)
	}
	for {
		behind, err := s.behind(ctx)
		if err != nil || behind <= s.cfg.MaxBehind {
			return err
		}
		if time.Now().After(deadline) {
			return s.refuse(Fault{fmt.Sprintf("version %d", s.to.Number), fmt.Sprintf("it is %s behind version %d", behind.Round(time.Millisecond), s.from.Number),
				"wait until it is at the head: projector status"})
		}
		if !pause(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// behind is how far the laggard of the new version is behind the laggard of the
// active one, by the source's clock.
func (s *swapper) behind(ctx context.Context) (time.Duration, error) {
	var low [2]control.Mark
	for i, v := range []control.Version{s.from, s.to} {
		parts, err := s.store.Parts(ctx, s.cfg.DB, s.cfg.Projection, v.Number)
		if err != nil {
			return 0, err
		}
		for j, p := range parts {
			if j == 0 || p.Passed.Compare(low[i]) < 0 {
				low[i] = p.Passed
			}
		}
	}
	if low[1].Compare(low[0]) >= 0 {
		return 0, nil
	}
	if low[1].Time.IsZero() || low[1].Generation != low[0].Generation {
		return 1<<63 - 1, nil
	}
	return low[0].Time.Sub(low[1].Time), nil
}
