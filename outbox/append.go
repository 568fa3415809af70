package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Append writes events in the caller's transaction, for a service that owns
// its outbox: Open has made the schema in the service's own database, and
// AllowAppend has let the service's role write there. The events are published
// if, and only if, tx commits, those of one aggregate in the order of commits.
//
// An event needs its aggregate, key, type, topic and data; Version is 1 and
// Time the transaction's where they are not set. Its id, Partition and Seq are
// assigned later, by Stamp.
//
// Append locks each aggregate until tx ends. Call it once, at the end of a
// transaction, with all events: two transactions that append to the same
// aggregates in several calls and in another order may deadlock, and Postgres
// then ends one of them.
func Append(ctx context.Context, tx pgx.Tx, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	locks := make([]string, 0, len(events))
	for i := range events {
		e := &events[i]
		if e.ID.Aggregate == "" || e.Type == "" || e.Topic == "" || len(e.Data) == 0 {
			return fmt.Errorf("append event %d: aggregate %q, type %q, topic %q and data must be set", i, e.ID.Aggregate, e.Type, e.Topic)
		}
		locks = append(locks, e.ID.Subject())
	}
	sort.Strings(locks)
	locks = slices.Compact(locks)
	b := &pgx.Batch{}
	// Row by row, in one order for everybody. The lock comes before the row
	// id is drawn and is held until the end of the transaction: so, of one
	// aggregate, a higher id was committed later.
	for _, subject := range locks {
		b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended($1, 1650552441))`, subject)
	}
	for i := range events {
		e := &events[i]
		var at *time.Time
		if !e.Time.IsZero() {
			at = &e.Time
		}
		b.Queue(`INSERT INTO banyan.appended (aggregate, key, type, version, topic, time, rules, cause, traceparent, data)
			VALUES ($1, $2, $3, $4, $5, coalesce($6, now()), $7, $8, $9, $10)`,
			e.ID.Aggregate, e.ID.Key, e.Type, max(e.Version, 1), e.Topic, at, e.Rules, e.Cause, e.TraceParent, []byte(e.Data))
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("append events: %w", err)
	}
	return nil
}

// AllowAppend lets a role of this database call Append, and nothing else.
func (s *Store) AllowAppend(ctx context.Context, role string) error {
	name := pgx.Identifier{role}.Sanitize()
	if _, err := s.pool.Exec(ctx, `GRANT USAGE ON SCHEMA banyan TO `+name+`; GRANT INSERT ON banyan.appended TO `+name); err != nil {
		return fmt.Errorf("allow %s to append: %w", role, err)
	}
	return nil
}

// Stamp gives rows of Append their place in the sequence, at most limit, in one
// commit, and returns how many. It moves the position on by one, which for a
// polled outbox counts the stampings; an event's id ends in the number of its
// row.
//
// Row numbers have no commit order: a row waits until every transaction older
// than its own has ended, and while a lower row of its aggregate waits.
func (o *Owner) Stamp(ctx context.Context, limit int) (int, error) {
	some, err := o.stampable(ctx)
	if err != nil || !some {
		return 0, err
	}
	pos := o.Position()
	stamped := 0
	err = o.Commit(ctx, To{Commit: pos.Commit + 1, End: pos.End + 1, Time: pos.Time}, func(tx *Tx) error {
		events, err := tx.takeAppended(ctx, limit)
		if err != nil {
			return err
		}
		if stamped = len(events); stamped == 0 {
			return errNothing
		}
		if err := tx.moveTime(ctx, events); err != nil {
			return err
		}
		return tx.Put(ctx, &event.Step{Events: events})
	})
	if errors.Is(err, errNothing) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return stamped, nil
}

var errNothing = errors.New("nothing to stamp")

// moveTime makes the source's time that of the latest event: a polled outbox
// has no other clock.
func (tx *Tx) moveTime(ctx context.Context, events []event.Event) error {
	for i := range events {
		if events[i].Time.After(tx.to.Time) {
			tx.to.Time = events[i].Time
		}
	}
	if _, err := tx.conn.Exec(ctx, `UPDATE banyan.source SET time = $1`, tx.to.Time); err != nil {
		return tx.fail("move the source's time", err)
	}
	return nil
}

// ready is what may be stamped, on rows a of banyan.appended.
const ready = `a.xid < pg_snapshot_xmin(pg_current_snapshot()) AND NOT EXISTS (
	SELECT FROM banyan.appended p WHERE p.aggregate = a.aggregate AND p.key = a.key AND p.id < a.id
		AND p.xid >= pg_snapshot_xmin(pg_current_snapshot()))`

// stampable looks without a transaction, so that an idle outbox writes nothing.
func (o *Owner) stampable(ctx context.Context) (some bool, err error) {
	if err := o.store.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM banyan.appended a WHERE `+ready+`)`).Scan(&some); err != nil {
		return false, fmt.Errorf("look for appended events: %w", err)
	}
	return some, nil
}

// takeAppended removes the rows that may be stamped and returns their events.
func (tx *Tx) takeAppended(ctx context.Context, limit int) ([]event.Event, error) {
	rows, err := tx.conn.Query(ctx, `WITH r AS (SELECT a.id FROM banyan.appended a WHERE `+ready+` ORDER BY a.id LIMIT $1)
		DELETE FROM banyan.appended a USING r WHERE a.id = r.id
		RETURNING a.id, a.aggregate, a.key, a.type, a.version, a.topic, a.time, a.rules, a.cause, a.traceparent, a.data`, limit)
	if err != nil {
		return nil, tx.fail("take appended events", err)
	}
	events, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (e event.Event, err error) {
		var id int64
		err = r.Scan(&id, &e.ID.Aggregate, &e.ID.Key, &e.Type, &e.Version, &e.Topic, &e.Time, &e.Rules, &e.Cause, &e.TraceParent, &e.Data)
		e.ID.Source, e.Time = tx.o.source.Name, e.Time.UTC()
		e.ID.Position = event.Position{Generation: tx.o.gen, LSN: uint64(id)}
		return e, err
	})
	if err != nil {
		return nil, tx.fail("take appended events", err)
	}
	slices.SortFunc(events, func(a, b event.Event) int { return a.ID.Position.Compare(b.ID.Position) })
	for i := range events {
		events[i].Position = event.Position{Generation: tx.o.gen, LSN: tx.to.Commit, Ordinal: int64(i)}
	}
	return events, nil
}
