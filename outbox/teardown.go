package outbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Dropped is one thing that a teardown removes.
type Dropped struct {
	Kind  string `json:"kind"` // "schema", "table"
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Contents lists what Drop would remove.
func (s *Store) Contents(ctx context.Context) ([]Dropped, error) {
	rows, err := s.pool.Query(ctx, `SELECT 'table', 'banyan.' || relname, pg_total_relation_size(oid) FROM pg_class
		WHERE relnamespace = to_regnamespace('banyan') AND relkind = 'r' ORDER BY relname`)
	if err != nil {
		return nil, fmt.Errorf("list the store: %w", err)
	}
	things, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Dropped])
	if err != nil {
		return nil, fmt.Errorf("list the store: %w", err)
	}
	all := []Dropped{{Kind: "schema", Name: "banyan"}}
	for _, t := range things {
		all[0].Bytes += t.Bytes
	}
	return append(all, things...), nil
}

// Drop removes the schema banyan with all that is in it. It refuses, with a
// *LeaseError, while an owner lives. The store is of no use afterwards but to
// be closed.
func (s *Store) Drop(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		h, err := scanHolder(tx.QueryRow(ctx, `SELECT `+holderColumns+` FROM banyan.lease FOR UPDATE`))
		if err != nil {
			return fmt.Errorf("read the lease: %w", err)
		}
		if h.Alive {
			return &LeaseError{Holder: h}
		}
		if _, err := tx.Exec(ctx, `DROP SCHEMA banyan CASCADE`); err != nil {
			return fmt.Errorf("drop schema banyan: %w", err)
		}
		return nil
	})
}
