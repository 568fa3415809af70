package rebuild

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
