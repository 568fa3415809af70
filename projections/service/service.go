package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/effects"
)

// Membership is how a version takes its partitions from a consumer group.
type Membership struct {
	Group    string
	Topics   []string
	OneOwner bool // one member has all partitions, the others stand by
	// Stalled hears why there are no partitions, and nil when there are.
	Stalled func(error)
	// Applied gives the offsets to go on from, for tools that show a group's lag.
	Applied func() map[string]map[int]int64
}

// Service follows one projection in one process.
type Service struct {
	Store *control.Store
	Log   projections.Log
	// Projection is its name.
	Projection string
	// Program gives what a version does; of versions in YAML it compiles
	// Version.Definition.
	Program func(v control.Version) (projections.Program, error)
	// Join takes part in a consumer group until ctx is done or work ends, as
	// bus.Cluster.JoinGroup does. Nil works on Assign without any group.
	Join func(ctx context.Context, m Membership, work projections.Work) error
	// Assign lists the numbers of the partitions to work on, of all topics; nil
	// is all of them.
	Assign []int
	// Owner is host and process, for people.
	Owner string
	// Limits of batches; Park or stop at what cannot be applied.
	Limits projections.Limits
	Stop   bool
	// Transport sends the effects; nil leaves them to others.
	Transport *effects.Transport
	// UntilCaughtUp ends Run when all versions have applied what lay in the
	// topics when they began.
	UntilCaughtUp bool
	Logger        *slog.Logger // nil is silent

	mu      sync.Mutex
	runners map[int]*projections.Runner
}

// Run works until ctx is done, whose error it then returns, or until something
// fails; with UntilCaughtUp it returns nil when there is nothing more to do.
// Another owner that takes over makes it end with control.ErrFenced.
func (s *Service) Run(ctx context.Context) error {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	s.mu.Lock() // Stats may be asked before we run
	s.runners = map[int]*projections.Runner{}
	s.mu.Unlock()
	g, within := errgroup.WithContext(ctx)
	all, stop := context.WithCancel(within)
	defer stop()
	wake := make(chan struct{}, 1)
	if s.Transport != nil && !s.UntilCaughtUp {
		g.Go(func() error { return s.patiently(all, func() error { return s.sender(wake).Run(all) }) })
	}
	g.Go(func() error {
		defer stop() // with UntilCaughtUp nothing is left to do
		if err := s.follow(all, wake); err != nil || s.Transport == nil {
			return err
		}
		return s.sender(nil).Drain(all)
	})
	err := g.Wait()
	if err != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return nil // we have stopped ourselves
	}
	return err
}

func (s *Service) sender(wake <-chan struct{}) *effects.Sender {
	return &effects.Sender{Store: s.Store, Projection: s.Projection, Owner: s.Owner, Transport: s.Transport, Wake: wake, Log: s.Logger}
}

// followed is a version that is being followed.
type followed struct {
	stop  context.CancelFunc
	state control.State
}

// follow keeps one worker for each version that is to be followed: it looks once
// at the beginning and after each change, and waits for all workers in the end.
func (s *Service) follow(ctx context.Context, wake chan<- struct{}) error {
	g, within := errgroup.WithContext(ctx)
	workers := map[int]*followed{}
	look := func() error {
		var versions []control.Version
		if err := s.patiently(within, func() (err error) {
			versions, err = s.Store.Versions(within, s.Projection)
			return err
		}); err != nil {
			return err
		}
		there := map[int]bool{}
		for _, v := range versions {
			there[v.Number] = true
			w := workers[v.Number]
			wanted := v.State == control.Active || v.State == control.Following || v.State == control.Kept
			switch {
			case wanted && w == nil:
				ctx, stop := context.WithCancel(within)
				workers[v.Number] = &followed{stop, v.State}
				g.Go(func() error {
					defer stop()
					return s.keep(ctx, within, v)
				})
			case !wanted && w != nil:
				w.stop()
				delete(workers, v.Number)
			}
		}
		for n, w := range workers {
			if !there[n] {
				w.stop()
				delete(workers, n)
			}
		}
		return nil
	}
	if err := look(); err != nil {
		return err
	}
	if s.UntilCaughtUp {
		return g.Wait()
	}
	g.Go(func() error {
		return s.patiently(within, func() error { return s.watch(within, look, wake) })
	})
	return g.Wait()
}

// watch looks again whenever a version has changed, and wakes the sender when
// something was promised, until ctx is done or the connection is lost.
func (s *Service) watch(ctx context.Context, look func() error, wake chan<- struct{}) error {
	for change, err := range s.Store.Watch(ctx) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("watch the versions of %s: %w", s.Projection, err)
		case change.Kind == control.EffectPromised && (change.Projection == "" || change.Projection == s.Projection):
			select {
			case wake <- struct{}{}:
			default:
			}
		case change.Kind == control.VersionChanged || change.Kind == control.Looked:
			if err := look(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// patiently does something until it is done, or fails in a way that does not pass
// by itself, or ctx ends.
func (s *Service) patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || ctx.Err() != nil || !projections.Passing(err) {
			return err
		}
		s.Logger.Warn("trying again", "projection", s.Projection, "error", err)
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// again is after how long what has failed for the moment is tried once more.
const again = 200 * time.Millisecond

// againAfter is how long a version that readers do not see is left alone after it
// has failed.
const againAfter = 10 * time.Second

// keep works on a version until its own context ends or it is retired. Where
// readers see it, a failure ends the service. A version that is only followed, for
// a swap or a rollback, must not take the live one down: its failure is told, and
// it is tried again.
func (s *Service) keep(ctx, service context.Context, v control.Version) error {
	for {
		err := s.work(ctx, v)
		if err == nil {
			return nil
		}
		if service.Err() != nil {
			return context.Cause(service) // it ends for another reason, or was told to
		}
		if ctx.Err() != nil || s.retired(service, v) {
			return nil
		}
		now, askErr := s.Store.Version(service, s.Projection, v.Number)
		if askErr != nil || now.State == control.Active || s.UntilCaughtUp {
			return err
		}
		s.Logger.Error("a version that readers do not see has failed; it is tried again, the live one goes on", "projection", s.Projection, "version", v.Number, "state", now.State, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
		v = now
	}
}

// retired reports whether a version was given up: then whatever its worker ended
// with, down to tables that are no longer there, is no failure.
func (s *Service) retired(ctx context.Context, v control.Version) bool {
	now, err := s.Store.Version(ctx, s.Projection, v.Number)
	return errors.Is(err, control.ErrNotFound) || err == nil && now.State == control.Retired
}

// work follows one version.
func (s *Service) work(ctx context.Context, v control.Version) error {
	p, err := s.Program(v)
	if err != nil {
		return fmt.Errorf("version %d of %s: %w", v.Number, s.Projection, err)
	}
	spec := p.Spec()
	if err := s.patiently(ctx, func() error { return checkShape(ctx, s.Store, v, spec) }); err != nil {
		return err
	}
	o := projections.Options{Program: p, Version: v, Store: s.Store, Pool: s.Store.Pool(), Log: s.Log, Owner: s.Owner, Limits: s.Limits, Logger: s.Logger,
		Until: projections.Until{CaughtUp: s.UntilCaughtUp}}
	if s.Stop {
		o.Poison = projections.Stop
	}
	r, err := projections.NewRunner(o)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.runners[v.Number] = r
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.runners, v.Number)
		s.mu.Unlock()
	}()
	if s.Join == nil {
		var parts map[string][]int
		if err := s.patiently(ctx, func() (err error) {
			parts, err = s.assigned(ctx, spec)
			return err
		}); err != nil {
			return err
		}
		return r.Run(ctx, parts)
	}
	return s.Join(ctx, Membership{
		Group: fmt.Sprintf("banyan-%s-v%d", s.Projection, v.Number), Topics: spec.Topics, OneOwner: spec.Aligned, Applied: r.Applied,
	}, func(ctx context.Context, parts map[string][]int) error {
		for {
			err := r.Run(ctx, parts)
			if !errors.Is(err, control.ErrFenced) {
				return err
			}
			s.Logger.Warn("another owner has taken over", "error", err)
			if again := s.outlive(ctx, v, parts); !again {
				return cmp.Or(context.Cause(ctx), err)
			}
		}
	})
}

// fencedPatience is longer than a member needs to hear that its session is over,
// and than a swap needs that runs a version for a moment.
const fencedPatience = 20 * time.Second

// outlive waits, after the fence, for one of three things. The group has given the
// partitions to another member: ctx ends. Whoever took them has left or died, and
// the group still says that they are ours: then they may be taken over again.
// Otherwise the other owner is none of the group, and to go on would be a tug of
// war: it is false then, and this one has lost.
func (s *Service) outlive(ctx context.Context, v control.Version, parts map[string][]int) bool {
	limit := time.NewTimer(fencedPatience)
	defer limit.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	lived := time.Now()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-limit.C:
			return false
		case <-tick.C:
		}
		left, lives, err := s.owned(ctx, v, parts)
		switch {
		case err != nil:
			s.Logger.Debug("who owns the partitions is not known", "error", err)
			lived = time.Now()
		case left:
			return true
		case lives:
			lived = time.Now()
		case time.Since(lived) > deadAfter:
			return true
		}
	}
}

// deadAfter is how long an owner may show no sign of life that has not left: a lease
// that was lost with its connection is taken anew a moment later.
const deadAfter = 8 * time.Second

// owned looks who has the partitions: left says that nobody has any of them, lives
// that somebody has who shows signs of life.
func (s *Service) owned(ctx context.Context, v control.Version, parts map[string][]int) (left, alive bool, err error) {
	all, err := s.Store.Parts(ctx, s.Store.Pool(), s.Projection, v.Number)
	if err != nil {
		return false, false, err
	}
	leases, err := s.Store.Leases(ctx, s.Projection)
	if err != nil {
		return false, false, err
	}
	lives := map[string]bool{}
	for _, l := range leases {
		if l.Alive && l.Version == v.Number && l.Kind == control.Owning {
			lives[l.Owner] = true
		}
	}
	left = true
	for _, p := range all {
		if slices.Contains(parts[p.Topic], p.Part) && p.Owner != "" && p.Owner != s.Owner {
			left, alive = false, alive || lives[p.Owner]
		}
	}
	return left, alive, nil
}

// assigned is what Assign names, of all topics.
func (s *Service) assigned(ctx context.Context, spec projections.Spec) (map[string][]int, error) {
	if spec.Aligned && s.Assign != nil {
		return nil, fmt.Errorf("%s is aligned: one owner merges all partitions, so none can be assigned", s.Projection)
	}
	parts := map[string][]int{}
	for _, topic := range spec.Topics {
		n, err := s.Log.Partitions(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", topic, err)
		}
		if s.Assign == nil {
			for i := range n {
				parts[topic] = append(parts[topic], i)
			}
			continue
		}
		for _, i := range s.Assign {
			if i < 0 || i >= n {
				return nil, fmt.Errorf("topic %s has partitions 0 to %d, not %d", topic, n-1, i)
			}
			parts[topic] = append(parts[topic], i)
		}
	}
	return parts, nil
}

// Stats gives what the runners of this process say of themselves, by version.
func (s *Service) Stats() map[int]projections.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[int]projections.Stats{}
	for n, r := range s.runners {
		all[n] = r.Stats()
	}
	return all
}
