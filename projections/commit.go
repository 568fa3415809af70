package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"banyan/projections/control"
	"banyan/projections/state"
)

// ask lets an Asker ask, before the transaction of a batch. What it keeps is of no use
// where an event of the batch is parked, so that a Program that asks should stop at
// what it cannot apply.
func (r *run) ask(ctx context.Context, b *batch) error {
	asker, ok := r.opts.Program.(Asker)
	if !ok || len(b.events) == 0 {
		return nil
	}
	r.stats.waits("asking: the program waits for an answer")
	var flowing []*Event
	for _, e := range b.events {
		if e.Fault == nil && r.badness(e) == nil && !r.chains.follows(e) {
			flowing = append(flowing, e)
		}
	}
	if len(flowing) == 0 {
		return nil
	}
	if err := asker.Ask(ctx, flowing); err != nil {
		return fmt.Errorf("ask before a batch: %w", err)
	}
	return nil
}

// commit does a batch in one transaction. After an error nothing of it is done, or
// nobody knows; see recover.
func (r *run) commit(ctx context.Context, b *batch) error {
	r.began = r.opts.Now()
	tx, err := r.open(ctx, b.steps)
	if err != nil {
		return err
	}
	if err = r.work(ctx, tx, b); err == nil {
		if err = tx.Commit(ctx); err == nil {
			r.space.Commit()
			return nil
		}
		err = fmt.Errorf("commit: %w", err)
	}
	r.space.Abort()
	r.undo(tx)
	return err
}

// open begins a transaction with the fence as its first statement, in one round
// trip.
func (r *run) open(ctx context.Context, steps []control.Step) (pgx.Tx, error) {
	if r.conn == nil {
		conn, err := r.opts.Pool.Acquire(ctx)
		if err != nil {
			return nil, fmt.Errorf("connect to the projection's database: %w", err)
		}
		r.conn = conn
	}
	r.stats.waits("fence: waiting for the locks of the partitions")
	tx, err := r.opts.Store.Begin(ctx, r.conn, r.spec.Name, r.opts.Version.Number, steps)
	r.stats.waits("database: a batch is under way")
	if err != nil {
		r.drop()
		return nil, err
	}
	return tx, nil
}

// drop gives the connection back; one that is lost does not come again.
func (r *run) drop() {
	if r.conn != nil {
		r.conn.Release()
		r.conn = nil
	}
}

// undo ends a transaction that failed.
func (r *run) undo(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		r.opts.Logger.Debug("a batch could not be rolled back; the server does so when the connection ends", "error", err)
	}
	if tx.Conn().IsClosed() {
		r.drop()
	}
}

// work does between the fence and the commit what the batch is for: the rows that
// its events ask for and, with them, whatever else must become true at the same
// moment.
func (r *run) work(ctx context.Context, tx pgx.Tx, b *batch) error {
	r.space.Open(ctx, tx.Conn())
	if err := r.apply(ctx, tx, b); err != nil {
		return err
	}
	if err := r.space.Flush(ctx); err != nil {
		return fmt.Errorf("write the rows: %w", err)
	}
	if events := r.chains.parking; len(events) > 0 {
		if err := r.opts.Store.Park(ctx, tx, events); err != nil {
			return err
		}
	}
	if err := r.promise(ctx, tx, true); err != nil {
		return err
	}
	if w := r.order.marks.parked; w != nil && control.MarkOf(w).Compare(b.mark) <= 0 {
		return r.opts.Store.SaveMark(ctx, tx, r.spec.Name, r.opts.Version.Number, w)
	}
	return nil
}

// apply gives the batch to the Program, event by event in order, or as a whole to
// one that has SQL of its own. Events of parked keys go to their chains.
func (r *run) apply(ctx context.Context, tx pgx.Tx, b *batch) error {
	r.chains.begin()
	batcher, whole := r.opts.Program.(Batcher)
	if !whole {
		if err := r.prefetch(ctx, b); err != nil {
			return err
		}
	}
	var flowing []*Event
	for _, e := range b.events {
		if err := r.applier.Advance(e); err != nil {
			return err
		}
		if r.chains.follows(e) {
			r.chains.park(r.parkedEvent(e, nil))
			continue
		}
		err := r.badness(e)
		switch {
		case err != nil:
		case whole && e.Fault == nil:
			flowing = append(flowing, e)
			continue
		default:
			if err = r.applier.Apply(e); err == nil {
				continue
			}
			if failed(tx) {
				return fmt.Errorf("apply %s: %w", e.ID.String(), err)
			}
		}
		if r.opts.Poison == Stop {
			return &PoisonError{e, err}
		}
		r.chains.park(r.parkedEvent(e, err))
	}
	if len(flowing) > 0 {
		if err := ApplyBatch(ctx, tx, r.opts.Version.Schema, batcher, flowing); err != nil {
			return err
		}
	}
	return r.applier.Idle(b.mark)
}

// badness is what the database said when the event was alone in its batch.
func (r *run) badness(e *Event) error {
	if len(r.bad) == 0 {
		return nil
	}
	return r.bad[place{control.PartID{Topic: e.Topic, Part: e.Partition}, e.Offset}]
}

// failed reports whether the transaction has no future: what went wrong then was
// the connection or a statement, not the event.
func failed(tx pgx.Tx) bool {
	return tx.Conn().IsClosed() || tx.Conn().PgConn().TxStatus() != 'T'
}

// batchError is an error of a Batcher.
type batchError struct{ err error }

func (e *batchError) Error() string { return "apply a batch: " + e.err.Error() }
func (e *batchError) Unwrap() error { return e.err }

// ApplyBatch gives events to a Batcher whose tables live in a schema: its SQL
// finds them by their bare names, whichever version it works for. Other tables it
// finds in public.
func ApplyBatch(ctx context.Context, tx pgx.Tx, schema string, p Batcher, events []*Event) (err error) {
	if _, err := tx.Exec(ctx, `SELECT set_config('search_path', quote_ident($1) || ', public', true)`, schema); err != nil {
		return fmt.Errorf("find the tables of %s: %w", schema, err)
	}
	defer func() {
		// A connection that was lost is no fault of the program or of an event.
		if err != nil && ctx.Err() == nil && !tx.Conn().IsClosed() {
			err = &batchError{err}
		}
	}()
	defer recovered(&err)
	return p.ApplyBatch(ctx, tx, events)
}

// prefetch reads the rows that the batch will get, in one round trip.
func (r *run) prefetch(ctx context.Context, b *batch) error {
	if _, ok := r.opts.Program.(Prefetcher); !ok && r.applier.latest == nil {
		return nil
	}
	clear(r.wants)
	want := func(table string, key state.Key) { r.wants[table] = append(r.wants[table], key) }
	for _, e := range b.events {
		if err := r.applier.Wants(e, want); err != nil {
			e.Fault = fmt.Errorf("name the rows it will get: %w", err)
		}
	}
	if len(r.wants) == 0 {
		return nil
	}
	if err := r.space.Prefetch(ctx, r.wants); err != nil {
		return fmt.Errorf("read the rows: %w", err)
	}
	return nil
}

// promise writes down what timers and effects have come of the batch. The version
// that readers see is the only one that may; whether it still is this one cannot
// change before the batch ends, because a swap needs the fence's locks. flowing
// says that the events come right from their partitions, not out of a chain.
func (r *run) promise(ctx context.Context, tx pgx.Tx, flowing bool) error {
	effects, firings := r.applier.Effects(), r.applier.Firings()
	if len(effects) == 0 && len(firings) == 0 {
		return nil
	}
	// The fence holds the partitions now, and a swap needs them: the state that is
	// read here stays until the commit. What was heard of it before may be old in
	// either direction, and an effect would be promised by both versions or none.
	v, err := r.opts.Store.Version(ctx, r.spec.Name, r.opts.Version.Number)
	if err != nil {
		return err
	}
	if (v.State == control.Active) != (r.version.State == control.Active) {
		r.changes.Or(versionChanged)
		return errRoleChanged
	}
	if v.State != control.Active {
		return nil
	}
	if len(firings) > 0 {
		if err := r.opts.Store.RecordFirings(ctx, tx, r.spec.Name, firings); err != nil {
			return err
		}
	}
	var kept []control.Effect
	for _, e := range effects {
		// A later version was not the one that readers saw at what lies before its
		// Since; only the first can have met it as the one that promises.
		if !v.Since.Covers(e.Position) || flowing && r.isBehind(e.Part, v.Since) || e.FromStart && v.Number == 1 {
			e.Projection = r.spec.Name
			kept = append(kept, e.Effect)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	_, err = r.opts.Store.Promise(ctx, tx, kept)
	return err
}

// isBehind reports whether a partition had passed a mark before this batch. What
// flows out of it now was told after the mark, whatever its position: the source
// itself may have held it back and released it since.
func (r *run) isBehind(id control.PartID, m control.Mark) bool {
	l := r.laneOf(id)
	return l != nil && m.Generation > 0 && l.done.passed.Compare(m) >= 0
}

// errRoleChanged says that a swap came in between: the batch is to be done again,
// by a version that readers no longer see, or see now.
var errRoleChanged = errors.New("readers see another version now")

// narrows reports whether the batch failed because of one of its events, and
// makes the next ones smaller until that one is alone, and then parked.
func (r *run) narrows(b *batch, err error) bool {
	if errors.Is(err, errRoleChanged) {
		return true
	}
	if !refused(err) || len(b.events) == 0 {
		return false
	}
	if n := len(b.events); n > 1 {
		r.narrow = n / 2
		return true
	}
	e := b.events[0]
	at := place{control.PartID{Topic: e.Topic, Part: e.Partition}, e.Offset}
	if r.bad[at] != nil {
		return false // it was parked already, and something else is wrong
	}
	r.bad[at] = plainReason(err)
	return true
}

// plainReason is what the database said, in one line and without SQL.
func plainReason(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	s := pg.Message
	if pg.Detail != "" {
		s += " (" + pg.Detail + ")"
	}
	return fmt.Errorf("the database refuses it: %s [%s]", strings.ReplaceAll(s, "\n", " "), pg.Code)
}

// recover finds out what became of a batch whose end is not known, once the
// database answers again. The offsets tell: they stand before the batch, or behind
// it. Where the epochs are no longer ours, somebody else has taken over; a new
// epoch is never drawn here, or two owners would take from each other for ever.
func (r *run) recover(ctx context.Context, b *batch, cause error) error {
	r.opts.Logger.Warn("the database has failed; looking where it stands", "error", cause)
	r.drop()
	// A crash can take back what moved no offset: a chain that was released,
	// timers that fired. So no row in memory is believed, wherever the offsets are.
	r.space.Reset()
	return r.patiently(ctx, func() error {
		r.stats.waits("database: " + cause.Error())
		// The server may still be at the commit whose answer was lost.
		parts, err := r.opts.Store.Standing(ctx, r.spec.Name, r.opts.Version.Number)
		if err == nil {
			err = r.settle(b, parts)
		}
		if err == nil {
			err = r.reload(ctx)
		}
		return err
	})
}

// settle compares the database with the batch.
func (r *run) settle(b *batch, parts []control.Part) error {
	rows := make(map[control.PartID]control.Part, len(parts))
	for _, p := range parts {
		rows[p.PartID] = p
	}
	for _, l := range r.order.lanes {
		p, ok := rows[l.id]
		switch {
		case ok && p.Epoch < l.epoch:
			return errSteppedBack // even that we took over is lost: a standby that lagged
		case p.Epoch != l.epoch:
			return &control.FencedError{PartID: l.id, Epoch: l.epoch, Found: p.Epoch, From: l.done.next, Next: p.Next, Reason: "another owner took over while the database was away"}
		}
	}
	before, behind := true, true
	for _, l := range r.order.lanes {
		p := rows[l.id]
		before = before && stands(p, &l.done)
		behind = behind && stands(p, &l.cur)
	}
	switch {
	case before:
	case behind && b != nil:
		r.opts.Logger.Info("the batch was committed all the same", "events", len(b.events))
		r.keep(b)
	default:
		return errSteppedBack
	}
	return nil
}

// errSteppedBack says that the database has lost its last commits, rows and
// offsets alike: it crashed, and batches do not wait for the disk, or a standby
// that lagged has taken its place. They are done again from where it stands.
var errSteppedBack = errors.New("the database has lost its last commits")

// steppedBack reports whether the fence has found not another owner, but an older
// state: our own epoch with a lower offset, or an epoch from before ours. Epochs
// of others are always higher.
func steppedBack(err error) bool {
	var f *control.FencedError
	return errors.As(err, &f) && f.Reason == "" && f.Found >= 0 && (f.Found < f.Epoch || f.Found == f.Epoch && f.Next < f.From)
}

func stands(p control.Part, c *cursor) bool {
	return p.Next == c.next && p.Seq == c.seq && p.Passed.Compare(c.passed) == 0
}
