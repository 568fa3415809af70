package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Kinds of snapshots. No watermark is sent before the first, or that of a
// repair, is complete.
const (
	SnapshotFirst   = "first"
	SnapshotRepair  = "repair"
	SnapshotRequest = "request" // asked for, of some aggregates
)

// Snapshot is the book-keeping of one snapshot.
type Snapshot struct {
	Number     int       `json:"number"` // from 1, through all generations
	Kind       string    `json:"kind"`
	Generation int       `json:"generation"`
	LSN        uint64    `json:"lsn"` // consistent point, or where the store stood
	Started    time.Time `json:"started"`
	Finished   time.Time `json:"finished,omitzero"` // zero while it runs
	Ranges     int64     `json:"ranges"`            // done, as far as they are still kept
	Aggregates int64     `json:"aggregates"`        // in those ranges
}

// Running reports whether the snapshot is not complete.
func (s Snapshot) Running() bool { return s.Finished.IsZero() }

// SnapshotRange is one range of aggregate roots that a snapshot has stored.
type SnapshotRange struct {
	Snapshot  int
	Aggregate string
	N         int    // its number among the ranges of the aggregate
	From, To  string // printable bounds, as the reader of the source gives them
	// Visible is pg_current_snapshot() of a range that was read later than the
	// slot's own snapshot: streamed transactions visible in it are absorbed
	// for this range. Otherwise it is empty.
	Visible string
	// EndLSN is where the stream stood when a later range was read: a range
	// can be forgotten once the store has passed every transaction that was
	// under way then.
	EndLSN     uint64
	Aggregates int64
}

const snapshotColumns = `s.n, s.kind, s.generation, s.lsn, s.started, s.finished,
	(SELECT count(*) FROM banyan.snapshot_range r WHERE r.snapshot = s.n),
	(SELECT coalesce(sum(aggregates), 0)::bigint FROM banyan.snapshot_range r WHERE r.snapshot = s.n)`

// LastSnapshot returns the newest snapshot; its Number is 0 before the first.
func (s *Store) LastSnapshot(ctx context.Context) (Snapshot, error) { return lastSnapshot(ctx, s.pool) }

func lastSnapshot(ctx context.Context, q querier) (Snapshot, error) {
	var n Snapshot
	var lsn int64
	var finished *time.Time
	err := q.QueryRow(ctx, `SELECT `+snapshotColumns+` FROM banyan.snapshot s ORDER BY n DESC LIMIT 1`).
		Scan(&n.Number, &n.Kind, &n.Generation, &lsn, &n.Started, &finished, &n.Ranges, &n.Aggregates)
	if errors.Is(err, pgx.ErrNoRows) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("read the snapshot: %w", err)
	}
	n.LSN, n.Started = uint64(lsn), n.Started.UTC()
	if finished != nil {
		n.Finished = finished.UTC()
	}
	return n, nil
}

// SnapshotRanges lists the ranges that are done and not forgotten, of the
// snapshot of this number or, where it is 0, of all.
func (s *Store) SnapshotRanges(ctx context.Context, number int) ([]SnapshotRange, error) {
	rows, err := s.pool.Query(ctx, `SELECT snapshot, aggregate, n, from_key, to_key, visible, end_lsn, aggregates
		FROM banyan.snapshot_range WHERE $1 = 0 OR snapshot = $1 ORDER BY snapshot, aggregate, n`, number)
	if err != nil {
		return nil, fmt.Errorf("read snapshot ranges: %w", err)
	}
	ranges, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (g SnapshotRange, err error) {
		var end int64
		err = r.Scan(&g.Snapshot, &g.Aggregate, &g.N, &g.From, &g.To, &g.Visible, &end, &g.Aggregates)
		g.EndLSN = uint64(end)
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("read snapshot ranges: %w", err)
	}
	return ranges, nil
}

// StartSnapshot counts a new snapshot and returns its number. One that is
// still running is refused: resume it, or drop it first.
func (tx *Tx) StartSnapshot(ctx context.Context, kind string, lsn uint64) (int, error) {
	var number, running int
	err := tx.conn.QueryRow(ctx, `SELECT coalesce(max(n), 0) + 1, coalesce(max(n) FILTER (WHERE finished IS NULL), 0) FROM banyan.snapshot`).Scan(&number, &running)
	if err != nil {
		return 0, tx.fail("number a snapshot", err)
	}
	if running > 0 {
		return 0, fmt.Errorf("start a snapshot: snapshot %d is still running", running)
	}
	if _, err := tx.conn.Exec(ctx, `INSERT INTO banyan.snapshot (n, kind, generation, lsn) VALUES ($1, $2, $3, $4)`, number, kind, tx.o.gen, int64(lsn)); err != nil {
		return 0, tx.fail("start a snapshot", err)
	}
	return number, nil
}

// RangeDone records a range, in the commit that stores its events.
func (tx *Tx) RangeDone(ctx context.Context, r SnapshotRange) error {
	if _, err := tx.conn.Exec(ctx, `INSERT INTO banyan.snapshot_range (snapshot, aggregate, n, from_key, to_key, visible, end_lsn, aggregates)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, r.Snapshot, r.Aggregate, r.N, printable(r.From), printable(r.To), r.Visible, int64(r.EndLSN), r.Aggregates); err != nil {
		return tx.fail("record a snapshot range", err)
	}
	return nil
}

// ForgetRanges removes the ranges of a snapshot whose EndLSN is below lsn; a
// later transaction cannot be visible in them.
func (tx *Tx) ForgetRanges(ctx context.Context, number int, lsn uint64) error {
	if _, err := tx.conn.Exec(ctx, `DELETE FROM banyan.snapshot_range WHERE snapshot = $1 AND end_lsn < $2`, number, int64(lsn)); err != nil {
		return tx.fail("forget snapshot ranges", err)
	}
	return nil
}

// FinishSnapshot marks a snapshot complete.
func (tx *Tx) FinishSnapshot(ctx context.Context, number int) error {
	var kind string
	err := tx.conn.QueryRow(ctx, `UPDATE banyan.snapshot SET finished = clock_timestamp() WHERE n = $1 AND finished IS NULL RETURNING kind`, number).Scan(&kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("finish snapshot %d: it is not running", number)
	}
	if err != nil {
		return tx.fail("finish a snapshot", err)
	}
	tx.completed = tx.completed || kind == SnapshotFirst || kind == SnapshotRepair
	return nil
}

// DropSnapshot gives up a snapshot that cannot be resumed, and forgets its
// ranges. Its number stays taken, since states carry it.
func (tx *Tx) DropSnapshot(ctx context.Context, number int) error {
	if _, err := tx.conn.Exec(ctx, `UPDATE banyan.snapshot SET finished = clock_timestamp(), kind = 'dropped' WHERE n = $1 AND finished IS NULL`, number); err != nil {
		return tx.fail("drop a snapshot", err)
	}
	if _, err := tx.conn.Exec(ctx, `DELETE FROM banyan.snapshot_range WHERE snapshot = $1`, number); err != nil {
		return tx.fail("drop a snapshot", err)
	}
	return nil
}

// Unseen returns living states of an aggregate, with a key above after ("" for
// the first page), in key order, that snapshot number has not seen: at most
// limit.
func (tx *Tx) Unseen(ctx context.Context, aggregate string, number int, after string, limit int) ([]event.State, error) {
	if err := tx.spill(ctx); err != nil {
		return nil, err
	}
	rows, err := tx.conn.Query(ctx, `SELECT aggregate, key, body, rules, event, snapshot FROM banyan.state
		WHERE aggregate = $1 AND (key > $2 OR $2 = '') AND snapshot < $3 ORDER BY key LIMIT $4`, aggregate, after, number, limit)
	if err != nil {
		return nil, tx.fail("read unseen states", err)
	}
	states, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s event.State, err error) {
		return s, r.Scan(&s.Aggregate, &s.Key, &s.Body, &s.Rules, &s.Event, &s.Snapshot)
	})
	if err != nil {
		return nil, tx.fail("read unseen states", err)
	}
	return states, nil
}

// ParkedUnseen returns the parked keys of an aggregate that have no state and
// that snapshot number has not met: those that were parked at their birth and
// are gone.
func (tx *Tx) ParkedUnseen(ctx context.Context, aggregate string, number int) ([]string, error) {
	if err := tx.spill(ctx); err != nil {
		return nil, err
	}
	rows, err := tx.conn.Query(ctx, `SELECT DISTINCT key FROM banyan.parked p WHERE aggregate = $1
		AND NOT EXISTS (SELECT FROM banyan.parked q WHERE q.aggregate = $1 AND q.key = p.key AND q.snapshot = $2)
		AND NOT EXISTS (SELECT FROM banyan.state s WHERE s.aggregate = $1 AND s.key = p.key) ORDER BY key`, aggregate, number)
	if err != nil {
		return nil, tx.fail("read parked keys", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, tx.fail("read parked keys", err)
	}
	return keys, nil
}
