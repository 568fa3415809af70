package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/service"
)

// SwapConfig says which version readers are to see, and what the way there may
// take.
type SwapConfig struct {
	// DB is the projection's database, with the rights of its owner.
	DB         *pgxpool.Pool
	Log        projections.Log
	Projection string
	// To is the number of the version; 0 is the newest that is followed (Swap), or
	// the one that readers saw before (Rollback).
	To int
	// Program gives what a version does: for what readers may see of it, and to
	// run it where nobody else does.
	Program func(v control.Version) (projections.Program, error)
	// Force swaps although readers lose tables or columns, or effects of parked
	// events are lost.
	Force bool
	// MaxBehind is how far the new version may be behind the active one, by the
	// source's clock, when both are asked to meet; 5 s where zero.
	MaxBehind time.Duration
	// Hold is how long both may stand still at most; 10 s where zero. A swap that
	// is killed stops them for no longer.
	Hold time.Duration
	// Wait is how long versions that nobody runs may take to catch up, when the
	// swap has to run them itself; a minute where zero.
	Wait   time.Duration
	Owner  string       // host and process, for people
	Logger *slog.Logger // discarded where nil
}

func (c SwapConfig) withDefaults() SwapConfig {
	c.MaxBehind = cmp.Or(c.MaxBehind, 5*time.Second)
	c.Hold = cmp.Or(c.Hold, 10*time.Second)
	c.Wait = cmp.Or(c.Wait, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Swap makes readers see another version from one moment to the next: both
// versions stop at one mark, and one transaction points the views. Nobody sees
// a step back, and an effect is promised by exactly one of the two. Where the
// versions do not meet in time, nothing has changed, and the error names who was
// late (a *control.NotReachedError). What stands in the way is a *Refused.
func Swap(ctx context.Context, cfg SwapConfig) (*Swapped, error) {
	return exchange(ctx, cfg.withDefaults(), "swap", control.Following, control.Kept)
}

// Rollback is a Swap to the version that readers saw before, which is followed
// until it is retired.
func Rollback(ctx context.Context, cfg SwapConfig) (*Swapped, error) {
	return exchange(ctx, cfg.withDefaults(), "roll back", control.Kept)
}

// exchange swaps to a version in one of the states given, the first preferred.
func exchange(ctx context.Context, cfg SwapConfig, doing string, states ...control.State) (*Swapped, error) {
	store, err := control.Open(ctx, cfg.DB)
	if err != nil {
		return nil, err
	}
	s := &swapper{cfg: cfg, store: store, doing: doing}
	if err := s.choose(ctx, states); err != nil {
		return nil, err
	}
	gone, err := s.check(ctx)
	if err != nil {
		return nil, err
	}
	views := service.Views(s.program[1].Spec())
	done := &Swapped{Projection: cfg.Projection, From: s.from.Number, To: s.to.Number, Gone: gone}
	err = s.meet(ctx, func(ctx context.Context, at control.Mark, since time.Time) error {
		// Both stand still: what is parked now stays so until the swap.
		owed, err := s.owed(ctx)
		if err == nil && len(owed) > 0 {
			err = s.refuse(owed...)
		}
		if err != nil {
			return err
		}
		if err := s.store.Swap(ctx, cfg.Projection, s.from.Number, s.to.Number, at, views); err != nil {
			return err
		}
		done.At, done.Held = at, time.Since(since)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s from version %d to %d: %w", doing, cfg.Projection, s.from.Number, s.to.Number, err)
	}
	return done, nil
}

// swapper brings two versions to one mark.
type swapper struct {
	cfg      SwapConfig
	store    *control.Store
	doing    string
	from, to control.Version
	program  [2]projections.Program // of from and to; the first may be nil
}

func (s *swapper) refuse(f ...Fault) error {
	return &Refused{s.doing + " " + s.cfg.Projection, f}
}

// choose finds both versions.
func (s *swapper) choose(ctx context.Context, states []control.State) error {
	all, err := s.store.Versions(ctx, s.cfg.Projection)
	if err != nil {
		return err
	}
	found := false
	for _, v := range all {
		if v.State == control.Active {
			s.from, found = v, true
		}
	}
	if !found {
		return s.refuse(Fault{"projection " + s.cfg.Projection, "it has no active version", "projector run makes the first one"})
	}
	best := -1
	for i, v := range all {
		at := slices.Index(states, v.State)
		if s.cfg.To != 0 && v.Number != s.cfg.To || at < 0 {
			continue
		}
		// The preferred state, then the one that readers saw last, or the newest.
		if best < 0 || at < slices.Index(states, all[best].State) || v.State == all[best].State &&
			(v.State == control.Kept && v.ChangedAt.After(all[best].ChangedAt) || v.State != control.Kept && v.Number > all[best].Number) {
			best = i
		}
	}
	if best >= 0 {
		s.to = all[best]
		return nil
	}
	var have []string
	for _, v := range all {
		have = append(have, fmt.Sprintf("%d is %s", v.Number, v.State))
	}
	what := "there is no version to go to"
	if s.cfg.To != 0 {
		what = fmt.Sprintf("version %d cannot be gone to", s.cfg.To)
	}
	return s.refuse(Fault{"version", what + " (" + strings.Join(have, ", ") + ")",
		fmt.Sprintf("it has to be %s; projector rebuild makes one", listStates(states))})
}

func listStates(states []control.State) string {
	var all []string
	for _, s := range states {
		all = append(all, string(s))
	}
	return strings.Join(all, " or ")
}

// check says what stands in the way, all at once, and which relations and columns
// readers would lose.
func (s *swapper) check(ctx context.Context) (gone []string, err error) {
	var faults []Fault
	if s.from.Source != s.to.Source {
		faults = append(faults, Fault{"source", fmt.Sprintf("version %d follows %q and version %d %q: they have no mark in common", s.from.Number, s.from.Source, s.to.Number, s.to.Source),
			"give the new one another name, and let readers change over"})
	}
	if s.program[1], err = s.cfg.Program(s.to); err != nil {
		return nil, fmt.Errorf("version %d of %s: %w", s.to.Number, s.cfg.Projection, err)
	}
	if gone, err = s.lost(ctx); err != nil {
		return nil, err
	}
	if len(gone) > 0 && !s.cfg.Force {
		faults = append(faults, Fault{"readers", "they lose " + strings.Join(gone, ", "), "give the new version these too, or force the swap when nobody reads them"})
	}
	owed, err := s.owed(ctx)
	if err != nil {
		return nil, err
	}
	faults = append(faults, owed...)
	if len(faults) > 0 {
		return nil, s.refuse(faults...)
	}
	return gone, nil
}

// owed says which effects would never be sent: those of events that are parked in
// the active version. It has not promised them, and the new one promises nothing
// for what lies before the swap, as all that was applied there has had its effects.
func (s *swapper) owed(ctx context.Context) ([]Fault, error) {
	if s.cfg.Force {
		return nil, nil
	}
	if s.program[0] == nil {
		p, err := s.cfg.Program(s.from)
		if err != nil {
			return nil, nil // a program that is no longer understood must not keep readers on its rows
		}
		s.program[0] = p
	}
	if !s.program[0].Spec().Effects {
		return nil, nil
	}
	chains, err := s.store.Chains(ctx, s.cfg.DB, s.cfg.Projection, s.from.Number)
	if err != nil || len(chains) == 0 {
		return nil, err
	}
	events := int64(0)
	for _, c := range chains {
		events += c.Events
	}
	return []Fault{{"effects", fmt.Sprintf("%d events of %d keys are parked in version %d, the first of %s/%s: what they would send is never sent once readers see version %d",
		events, len(chains), s.from.Number, chains[0].Aggregate, chains[0].Key, s.to.Number),
		"release or discard them first (projector parked), or force the swap"}}, nil
}

// lost compares what readers see now with what they would see.
func (s *swapper) lost(ctx context.Context) ([]string, error) {
	old, err := readCatalog(ctx, s.cfg.DB, s.cfg.Projection)
	if err != nil {
		return nil, err
	}
	all, err := readCatalog(ctx, s.cfg.DB, s.to.Schema)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]relation)
	for _, v := range service.Views(s.program[1].Spec()) {
		if r, ok := all[v.Name]; ok {
			seen[v.Name] = r
		}
	}
	return lost(old, seen), nil
}

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
	if err := s.reach(held, hold.At); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return do(held, hold.At, since)
}

// reach waits until both stand at the mark.
func (s *swapper) reach(ctx context.Context, at control.Mark) error {
	var last error
	for {
		err := s.store.Reached(ctx, s.cfg.Projection, s.from.Number, s.to.Number, at)
		var late *control.NotReachedError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return cmp.Or(last, err)
		case !errors.As(err, &late) || late.Lapsed:
			return err
		}
		last = err
		if !pause(ctx, 2*time.Millisecond) {
			return err
		}
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

// pickUp is how long a service that runs one of the versions may need to notice
// the other one and to join its group.
const pickUp = 15 * time.Second

// alive says which of the two versions somebody runs. Where it is only one, its
// service is about to follow the other one too: to run that meanwhile would take
// its partitions away from it.
func (s *swapper) alive(ctx context.Context) (alive [2]bool, err error) {
	limit := time.Now().Add(pickUp)
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

// Retire ends a version that is no longer wanted, Kept or Following, and drops its
// schema and all that is kept of it, except effects and fired timers, which belong
// to the projection. There is no way back to it then.
func Retire(ctx context.Context, db *pgxpool.Pool, projection string, number int) error {
	store, err := control.Open(ctx, db)
	if err != nil {
		return err
	}
	v, err := store.Version(ctx, projection, number)
	if err != nil {
		return err
	}
	if v.State != control.Retired {
		if err := store.SetState(ctx, db, projection, number, control.Retired, "retired by hand"); err != nil {
			return err
		}
	}
	return store.Drop(ctx, projection, number)
}
