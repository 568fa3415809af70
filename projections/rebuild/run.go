package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/service"
	"banyan/projections/state"
)

// Run carries a plan out: it makes a new version that stands at the ceiling and
// is Following from then on, which the runner of the projection notices. Readers
// see nothing of it before a Swap. Whatever ends it before its one transaction is
// committed leaves no row behind; what a killed one leaves is dropped by the next.
func Run(ctx context.Context, cfg Config, plan *Plan) (*Result, error) {
	cfg = cfg.withDefaults()
	if err := plan.fits(cfg.Program.Spec()); err != nil {
		return nil, err
	}
	prep, err := projections.NewPreparer(cfg.Program)
	if err != nil {
		return nil, err
	}
	store, err := control.Open(ctx, cfg.DB)
	if err != nil {
		return nil, err
	}
	b := &builder{cfg: cfg, spec: cfg.Program.Spec(), prep: prep, store: store, plan: plan, began: time.Now(),
		told: teller{meter: newMeter(plan.Projection, plan.Version, plan.Records, time.Now), to: cfg.Progress}, result: &Result{Projection: plan.Projection, Phases: map[Phase]time.Duration{}}}
	for _, number := range plan.Leftover {
		if err := b.discard(ctx, number); err != nil {
			return nil, fmt.Errorf("drop what a rebuild before has left: %w", err)
		}
	}
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	defer b.lease.Close()
	stop := b.told.regularly(cfg.ProgressEvery, b.note(ctx))
	err = b.build(ctx)
	stop()
	if err != nil {
		// The caller's context may be what ended it.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if dropErr := b.discard(late, b.version.Number); dropErr != nil {
			cfg.Logger.Warn("the version that was being built stays behind; the next rebuild drops it", "version", b.version.Number, "error", dropErr)
		}
		return nil, fmt.Errorf("rebuild %s: %w", plan.Projection, err)
	}
	b.result.Took, b.result.Records = time.Since(b.began), b.told.read().Done
	return b.result, nil
}

// builder is one rebuild.
type builder struct {
	cfg     Config
	spec    projections.Spec
	prep    *projections.Preparer
	store   *control.Store
	plan    *Plan
	version control.Version
	lease   *control.Lease
	told    teller
	result  *Result
	began   time.Time
	entered time.Time // the present phase
	phase   Phase
}

// begin draws the number of the new version and shows that somebody builds it.
func (b *builder) begin(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, b.cfg.DB, func(tx pgx.Tx) error {
		v, err := b.store.NewVersion(ctx, tx, control.Declaration{Projection: b.spec.Name, Source: b.spec.Source,
			Definition: b.spec.Definition, Digest: b.spec.Digest, Note: "rebuild"})
		if err != nil {
			return err
		}
		b.version = v
		// Before the version can be seen, so that nobody takes us for dead.
		b.lease, err = b.store.Lease(ctx, b.spec.Name, v.Number, control.Loading, b.cfg.Owner)
		return err
	})
	if err != nil {
		if b.lease != nil {
			b.lease.Close()
		}
		return fmt.Errorf("begin a version of %s: %w", b.spec.Name, err)
	}
	b.told.p.Version, b.result.Version = b.version.Number, b.version.Number
	return nil
}

// discard removes a version that was never finished, or never quite removed.
func (b *builder) discard(ctx context.Context, number int) error {
	v, err := b.store.Version(ctx, b.spec.Name, number)
	if err == nil && v.State != control.Retired {
		err = b.store.SetState(ctx, b.cfg.DB, b.spec.Name, number, control.Retired, "its rebuild was not finished")
	}
	if err == nil {
		err = b.store.Drop(ctx, b.spec.Name, number)
	}
	if errors.Is(err, control.ErrNotFound) {
		return nil
	}
	return err
}

// enter begins a phase.
func (b *builder) enter(p Phase) {
	now := time.Now()
	if b.phase != "" {
		b.result.Phases[b.phase] += now.Sub(b.entered)
	}
	b.phase, b.entered = p, now
	b.told.enter(p)
}

// note writes the progress down for whoever asks the database.
func (b *builder) note(ctx context.Context) func(Progress) {
	return func(p Progress) {
		if err := b.lease.Note(ctx, p.String()); err != nil && ctx.Err() == nil {
			b.cfg.Logger.Debug("the progress could not be written down", "error", err)
		}
	}
}

// build is the rebuild itself.
func (b *builder) build(ctx context.Context) error {
	if _, ok := b.cfg.Program.(projections.Batcher); ok {
		return b.replayBatches(ctx)
	}
	h := b.history()
	defer h.close()
	if b.spec.Timers {
		var err error
		if h.firings, err = allFirings(ctx, b.store, b.cfg.DB, b.spec.Name); err != nil {
			return err
		}
	}
	b.enter(Folding)
	if err := h.fold(ctx); err != nil {
		return err
	}
	cutoffs, err := b.expire(h)
	if err != nil {
		return err
	}
	for _, l := range h.lanes {
		_, disk := l.bulk.Bytes()
		b.result.Spilled += disk
	}
	b.result.Events, b.result.Parts = h.applied(), h.parts()
	b.count()
	if err := b.load(ctx, func(tx pgx.Tx) error { return b.copy(ctx, tx, h) }, h.parked(), cutoffs); err != nil {
		return err
	}
	return h.close()
}

// count says how much was read, and how much of it twice: seqs are dense, so what
// lies up to a seq and is more than that are repeats.
func (b *builder) count() {
	b.result.Records = b.told.read().Done
	for i, p := range b.plan.Parts {
		if part := b.result.Parts[i]; !projections.IsLatest(p.Topic) && part.PartID == p.PartID {
			b.result.Repeats += max(0, part.Next-p.First-part.Seq)
		}
	}
}

func (b *builder) history() *history {
	h := &history{log: b.cfg.Log, program: b.cfg.Program, prep: b.prep, memory: b.cfg.Memory, dir: b.cfg.Dir, workers: b.cfg.Workers, meter: b.told.meter}
	h.reaches = b.plan.reaches()
	if b.plan.mark != nil {
		h.marks = []*event.Watermark{b.plan.mark}
	}
	if b.spec.Aligned {
		h.cut = &b.plan.Cut
	}
	if b.cfg.Park {
		h.park = &parking{projection: b.spec.Name, version: b.version.Number, now: time.Now().UTC()}
	}
	return h
}

func (p *Plan) reaches() []projections.Reach {
	var all []projections.Reach
	for _, part := range p.Parts {
		all = append(all, projections.Reach{PartID: part.PartID, From: part.First, Until: part.Ceiling})
	}
	return all
}

// allFirings reads when the timers of the projection have fired by the clock.
func allFirings(ctx context.Context, store *control.Store, db control.DB, projection string) ([]control.Firing, error) {
	const page = 10_000
	var all []control.Firing
	for after := int64(0); ; {
		fs, err := store.Firings(ctx, db, projection, after, page)
		if err != nil {
			return nil, err
		}
		all = append(all, fs...)
		if len(fs) < page {
			return all, nil
		}
		after = fs[len(fs)-1].N
	}
}

// expire lets go of rows that are past their retention by the stream's time.
func (b *builder) expire(h *history) (map[string]time.Time, error) {
	cutoffs := make(map[string]time.Time)
	now := reached(h.parts())
	if now.IsZero() {
		return cutoffs, nil
	}
	for _, t := range b.spec.AllTables() {
		if t.Retain == nil {
			continue
		}
		cutoff := now.Add(-t.Retain.For)
		for _, l := range h.lanes {
			if _, err := l.bulk.Expire(t.Name, cutoff); err != nil {
				return nil, err
			}
		}
		cutoffs[t.Name] = cutoff
	}
	return cutoffs, nil
}

// reached is the time that all partitions have reached: what the runner takes for
// retention.
func reached(parts []control.Part) (all time.Time) {
	for _, p := range parts {
		at := p.Passed.Time
		if p.StreamTime.After(at) {
			at = p.StreamTime
		}
		if !at.IsZero() && (all.IsZero() || at.Before(all)) {
			all = at
		}
	}
	return all
}

// load is the one transaction of a rebuild: tables, rows, keys, indexes, views,
// chains, and the offsets that say how far it all goes.
func (b *builder) load(ctx context.Context, fill func(pgx.Tx) error, parked []control.ParkedEvent, cutoffs map[string]time.Time) error {
	tables := b.spec.AllTables()
	return b.inTransaction(ctx, func(tx pgx.Tx) error {
		if err := b.exec(ctx, tx, state.CreateSQL(b.version.Schema, tables)); err != nil {
			return err
		}
		b.enter(Copying)
		if err := fill(tx); err != nil {
			return err
		}
		b.enter(Indexing)
		if err := b.exec(ctx, tx, state.KeySQL(b.version.Schema, tables)); err != nil {
			return err
		}
		if err := b.exec(ctx, tx, state.IndexSQL(b.version.Schema, tables)); err != nil {
			return err
		}
		return b.finish(ctx, tx, parked, cutoffs)
	})
}

// finish writes down how far the version is, in the transaction of its rows.
func (b *builder) finish(ctx context.Context, tx pgx.Tx, parked []control.ParkedEvent, cutoffs map[string]time.Time) error {
	name, number := b.spec.Name, b.version.Number
	if err := b.store.CreateViews(ctx, tx, b.version, service.Views(b.spec)); err != nil {
		return err
	}
	if len(parked) > 0 {
		if err := b.store.Park(ctx, tx, parked); err != nil {
			return err
		}
		b.result.Parked = int64(len(parked))
	}
	for table, cutoff := range cutoffs {
		if err := b.store.SaveCutoff(ctx, tx, name, number, table, cutoff); err != nil {
			return err
		}
	}
	starts := make([]control.Start, len(b.plan.Parts))
	first := make(map[control.PartID]int64)
	for i, p := range b.plan.Parts {
		starts[i] = control.Start{PartID: p.PartID, Offset: p.First}
		first[p.PartID] = p.First
	}
	if err := b.store.EnsureParts(ctx, tx, name, number, starts); err != nil {
		return err
	}
	// A version that nobody owns yet has the epoch 0: what the fence moves here
	// is the whole history at once.
	steps := make([]control.Step, len(b.result.Parts))
	for i, p := range b.result.Parts {
		steps[i] = control.Step{PartID: p.PartID, From: first[p.PartID], To: p.Next, Seq: p.Seq, Writer: p.Writer, Applied: p.Applied,
			Passed: p.Passed, Time: p.StreamTime, Anchor: p.Anchor, AnchorAt: p.AnchorOffset}
	}
	if err := b.store.Advance(ctx, tx, name, number, steps); err != nil {
		return err
	}
	return b.store.SetState(ctx, tx, name, number, control.Following, "rebuilt")
}

// inTransaction runs work in a transaction of a connection that may take its time,
// and commits it durably.
func (b *builder) inTransaction(ctx context.Context, work func(tx pgx.Tx) error) error {
	conn, err := b.cfg.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the projection's database: %w", err)
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config(name, value, true) FROM (VALUES ('idle_in_transaction_session_timeout', '0'),
			('statement_timeout', '0'), ('synchronous_commit', 'on'), ('maintenance_work_mem', '128MB')) s(name, value)`); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		return work(tx)
	})
	if err != nil {
		return err
	}
	b.enter(Done)
	return nil
}

func (b *builder) exec(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.80s: %w", sql, err)
		}
		b.told.rows(0, 0)
	}
	return nil
}

// copy streams all rows into the tables.
func (b *builder) copy(ctx context.Context, tx pgx.Tx, h *history) error {
	tables := b.spec.AllTables()
	b.told.rows(0, h.rows(tables))
	b.result.Rows = make(map[string]int64)
	for _, l := range h.lanes {
		copied := make(map[string]int64)
		if err := l.bulk.Copy(ctx, tx.Conn(), b.version.Schema, func(table string, rows int64) {
			b.told.rows(rows-copied[table], 0)
			copied[table] = rows
		}); err != nil {
			return err
		}
		for table, n := range copied {
			b.result.Rows[table] += n
		}
	}
	return nil
}
