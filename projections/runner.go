package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/projections/control"
	"banyan/projections/state"
)

// Options of a Runner.
type Options struct {
	Program Program
	// Version is the one to run: its tables exist, as Spec.AllTables says. The
	// Runner notices by itself when its state changes.
	Version control.Version
	// Store and Pool are of the projection's database. A running Runner takes
	// three connections of the pool.
	Store *control.Store
	Pool  *pgxpool.Pool
	Log   Log
	Owner string // host and process, for people
	// Limits of batches and buffers; the zero ones get defaults.
	Limits Limits
	// Until says when Run is done; the zero Until is never.
	Until Until
	// Poison says what happens to an event that cannot be applied.
	Poison Poison
	// CacheBytes bounds the rows kept between batches; see state.LiveOptions.
	CacheBytes int64
	Logger     *slog.Logger     // nil discards
	Now        func() time.Time // nil is the clock; for ages and rates only, never for rows
}

// Limits bound batches. A batch takes what is there: one event when the topics
// are quiet, thousands when the runner is behind.
type Limits struct {
	Events int // in one batch at most; 5,000 where zero
	Bytes  int // of records in one batch, about; 8 MiB where zero
	// Age is how long events may wait for others so that small batches come at
	// most that often; 5 ms where zero, negative for not at all. After a quiet
	// moment the first event never waits.
	Age time.Duration
	// Buffer is how much may be read ahead over all partitions, in bytes of
	// records, about; 64 MiB where zero. Each partition may have two chunks of
	// 256 KiB and one fetch on top.
	Buffer int
}

func (l Limits) withDefaults() Limits {
	if l.Events <= 0 {
		l.Events = 5000
	}
	if l.Bytes <= 0 {
		l.Bytes = 8 << 20
	}
	if l.Age == 0 {
		l.Age = 5 * time.Millisecond
	}
	if l.Buffer <= 0 {
		l.Buffer = 64 << 20
	}
	return l
}

// Until says when a Runner has done its work.
type Until struct {
	// CaughtUp: when all is applied that lay in the partitions when Run began. An
	// aligned projection can only go as far as the watermarks prove: the last
	// one at that time.
	CaughtUp bool
	// Mark: when every partition has passed exactly this mark; nothing beyond it
	// is applied.
	Mark *control.Mark
}

// Poison says what happens to an event that cannot be applied.
type Poison int

const (
	// Park sets the event and all later ones of its key aside, and goes on.
	Park Poison = iota
	// Stop ends Run with a *PoisonError.
	Stop
)

// ErrRetired is why Run ends when its version follows no longer.
var ErrRetired = errors.New("the version is retired")

// Runner keeps the rows of one version up to date. Its Run is the Work of a
// consumer group, and may as well be called with a fixed assignment; the cache of
// rows outlives an assignment where nobody else had the partitions meanwhile.
type Runner struct {
	opts Options
	spec Spec
	prep *Preparer

	running sync.Mutex // held by Run
	space   *state.Live
	last    map[control.PartID]held // what the last Run left
	stats   statsBoard
	// expireEvery is how often rows past their retention are deleted.
	expireEvery time.Duration
}

// held is where a Run has left a partition.
type held struct{ epoch, next int64 }

// NewRunner checks the Program; the error tells all that is wrong with it. Nothing
// runs yet, and nothing needs to be closed.
func NewRunner(o Options) (*Runner, error) {
	if o.Program == nil || o.Store == nil || o.Pool == nil || o.Log == nil {
		return nil, errors.New("a runner needs a program, a store, a pool and a log")
	}
	prep, err := NewPreparer(o.Program)
	if err != nil {
		return nil, err
	}
	spec := o.Program.Spec()
	if spec.Slim && o.Poison != Stop {
		return nil, fmt.Errorf("projection %s lets go of the data of events, so none can be parked: run it with Stop", spec.Name)
	}
	if o.Version.Projection != spec.Name {
		return nil, fmt.Errorf("version %d is of projection %q, the program is %q", o.Version.Number, o.Version.Projection, spec.Name)
	}
	space, err := state.NewLive(o.Version.Schema, spec.AllTables(), state.LiveOptions{CacheBytes: o.CacheBytes})
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", spec.Name, err)
	}
	o.Limits = o.Limits.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("projection", spec.Name, "version", o.Version.Number)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Runner{opts: o, spec: spec, prep: prep, space: space, last: map[control.PartID]held{}, expireEvery: time.Minute}, nil
}

// Run takes partitions over and keeps the rows up to date until ctx is done, whose
// cause it then returns, or Until is reached, which is nil. It ends with an error
// that Is control.ErrFenced when another owner has taken a partition: that is
// final for this assignment. A *Fault says that going on would give wrong rows.
// What passes, a broker or a database that is away, ends nothing.
//
// Without partitions it waits for ctx. All goroutines have ended when it returns.
func (r *Runner) Run(ctx context.Context, parts map[string][]int) error {
	if !r.running.TryLock() {
		return errors.New("this runner runs already")
	}
	defer r.running.Unlock()
	r.stats.forget()
	ids, err := r.assigned(parts)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		run, err := r.begin(ctx, ids)
		if err != nil {
			return err
		}
		err = run.loop(run.ctx)
		run.end()
		switch {
		case errors.Is(err, errSteppedBack):
			r.opts.Logger.Warn("beginning again where the database stands", "reason", err)
		case err == nil || ctx.Err() == nil:
			return err
		default:
			return context.Cause(ctx)
		}
	}
}

// assigned puts an assignment in order: topics as in the Spec, so that all owners
// lock alike.
func (r *Runner) assigned(parts map[string][]int) ([]control.PartID, error) {
	var ids []control.PartID
	for _, topic := range sortedKeys(parts) {
		if !slices.Contains(r.spec.Topics, topic) {
			return nil, fmt.Errorf("topic %s is none of projection %s", topic, r.spec.Name)
		}
		for _, p := range slices.Sorted(slices.Values(parts[topic])) {
			ids = append(ids, control.PartID{Topic: topic, Part: p})
		}
	}
	return ids, nil
}

// loop is the heart. What it does in one transaction of the projection's database
// begins with the fence (commit), which moves the offsets of the batch from
// exactly where they were, and ends with the rows: both become true together, or
// neither. So an event is applied once, whatever is killed in between and whoever
// else believes to own the partition. Anything that may have gone either way is
// settled by asking the database where the offsets are (recover).
func (r *run) loop(ctx context.Context) error {
	for {
		if err := r.attend(ctx); err != nil { // a state, a hold, requests, retention
			return err
		}
		b := r.gather() // what may be applied now, in order
		if len(b.steps) == 0 {
			if done, err := r.finished(); done || err != nil {
				return err
			}
			if err := r.wait(ctx); err != nil {
				return err
			}
			continue
		}
		err := r.ask(ctx, b)
		if err == nil {
			err = r.commit(ctx, b)
		}
		var held *control.HeldError
		switch {
		case err == nil:
			r.keep(b)
		case ctx.Err() == nil && steppedBack(err):
			return fmt.Errorf("%w: %w", errSteppedBack, err)
		case ctx.Err() != nil, errors.Is(err, control.ErrFenced):
			return err
		case errors.As(err, &held):
			r.hold(held.Hold) // nothing was done: cut at the mark
		case r.narrows(b, err):
			// An event that the database refuses is in it: smaller batches find it.
			// The database may go at this very moment, which is no end of the run.
			err = r.patiently(ctx, func() error { return r.reload(ctx) })
		case passing(err):
			err = r.recover(ctx, b, err)
		}
		if err != nil && held == nil {
			return err
		}
	}
}
