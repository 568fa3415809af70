package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Parking reads the frontier and the parked keys from one snapshot of the
// store. The owner's memory would not do: it learns of a commit a moment after
// the database has it, and a key that was just released would be missing from
// the list while its events are missing from the frontier.
func (o *Owner) Parking(ctx context.Context) (Frontier, []event.ParkedAt, error) {
	f, err := o.Frontier(ctx)
	if err != nil {
		return f, nil, err
	}
	var keys []event.ParkedAt
	err = pgx.BeginTxFunc(ctx, o.store.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var lsn int64
		var at *time.Time
		if err := tx.QueryRow(ctx, `SELECT generation, end_lsn, time FROM banyan.source`).Scan(&f.Generation, &lsn, &at); err != nil {
			return err
		}
		f.LSN, f.Time = uint64(lsn), time.Time{}
		if at != nil {
			f.Time = at.UTC()
		}
		shelves, err := loadShelves(ctx, tx)
		if err != nil {
			return err
		}
		f.Assigned = f.Assigned[:0]
		for _, s := range shelves {
			f.Assigned = append(f.Assigned, s.public())
		}
		rows, err := tx.Query(ctx, `SELECT DISTINCT ON (aggregate, key) aggregate, key, lsn FROM banyan.parked ORDER BY aggregate, key, n`)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (k event.ParkedAt, err error) {
			var lsn int64
			err = r.Scan(&k.Aggregate, &k.Key, &lsn)
			k.LSN = uint64(lsn)
			return k, err
		})
		return err
	})
	if err != nil {
		return f, nil, fmt.Errorf("read the frontier: %w", err)
	}
	return f, keys, nil
}
