package control

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Firing says that a timer has fired right after a position of the order.
type Firing struct {
	N         int64 // number in the order of firing, given by RecordFirings
	Name, Key string
	At        time.Time // when it was due
	After     event.Position
}

// RecordFirings writes down that timers have fired, in the transaction of what
// they did, in the order given. One that was recorded before (by another version)
// stays as it was. The commit becomes a synchronous one: firings need not move any
// offset, so none would tell that a crash took them back.
func (s *Store) RecordFirings(ctx context.Context, tx pgx.Tx, projection string, firings []Firing) error {
	if err := durable(ctx, tx); err != nil {
		return err
	}
	b := &pgx.Batch{}
	for _, f := range firings {
		b.Queue(`INSERT INTO banyan.fired (projection, name, key, at, generation, lsn, ordinal, snapshot)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`, projection, f.Name, f.Key, f.At,
			f.After.Generation, int64(f.After.LSN), f.After.Ordinal, f.After.Snapshot)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("record %d firings of %s: %w", len(firings), projection, err)
	}
	return nil
}

// Firings gives the firings with a number above after, in order, at most limit.
func (s *Store) Firings(ctx context.Context, db DB, projection string, after int64, limit int) ([]Firing, error) {
	rows, err := db.Query(ctx, `SELECT n, name, key, at, generation, lsn, ordinal, snapshot FROM banyan.fired
		WHERE projection = $1 AND n > $2 ORDER BY n LIMIT $3`, projection, after, limit)
	if err == nil {
		var all []Firing
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (f Firing, err error) {
			var lsn int64
			err = r.Scan(&f.N, &f.Name, &f.Key, &f.At, &f.After.Generation, &lsn, &f.After.Ordinal, &f.After.Snapshot)
			f.At, f.After.LSN = f.At.UTC(), uint64(lsn)
			return f, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("read the firings of %s: %w", projection, err)
}

// SaveCutoff writes down that rows of a table with a time before cutoff are gone.
// It never steps back.
func (s *Store) SaveCutoff(ctx context.Context, db DB, projection string, version int, table string, cutoff time.Time) error {
	if _, err := db.Exec(ctx, `INSERT INTO banyan.cutoff AS c (projection, version, "table", before) VALUES ($1, $2, $3, $4)
		ON CONFLICT (projection, version, "table") DO UPDATE SET before = greatest(c.before, excluded.before)`, projection, version, table, cutoff); err != nil {
		return fmt.Errorf("save the cutoff of %s: %w", table, err)
	}
	return nil
}

// Cutoffs gives the cutoff of each table that has one.
func (s *Store) Cutoffs(ctx context.Context, db DB, projection string, version int) (map[string]time.Time, error) {
	all := map[string]time.Time{}
	rows, err := db.Query(ctx, `SELECT "table", before FROM banyan.cutoff WHERE projection = $1 AND version = $2`, projection, version)
	if err == nil {
		var table string
		var before time.Time
		_, err = pgx.ForEachRow(rows, []any{&table, &before}, func() error {
			all[table] = before.UTC()
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the cutoffs of version %d of %s: %w", version, projection, err)
	}
	return all, nil
}
