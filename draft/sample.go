package draft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/wal"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Sampler looks at the values of one column.
type Sampler interface {
	// Values gives distinct values, sorted and without NULL, at most limit of
	// them; all is false where the table was only sampled. An error is told in
	// the draft and does not stop it.
	Values(ctx context.Context, t *wal.CatalogTable, column string, limit int) (values []string, all bool, err error)
}

// NoSamples is a Sampler for which every table is empty.
type NoSamples struct{}

// Values gives none.
func (NoSamples) Values(context.Context, *wal.CatalogTable, string, int) ([]string, bool, error) {
	return nil, true, nil
}

const (
	sampleRows    = 20_000          // that are looked at, of a large table
	sampleTimeout = 5 * time.Second // for one column
)

// Samples looks at the values over conn, gently: at most some ten thousand rows
// of a table, five seconds for a column, no lock beyond ACCESS SHARE and no
// waiting for one. conn must not be inside a transaction and stays the
// caller's.
func Samples(conn *pgx.Conn) Sampler { return samples{conn} }

type samples struct{ conn *pgx.Conn }

func (s samples) Values(ctx context.Context, t *wal.CatalogTable, column string, limit int) ([]string, bool, error) {
	table, name := pgx.Identifier{t.Schema, t.Name}.Sanitize(), pgx.Identifier{column}.Sanitize()
	if t.Kind != wal.KindPartitioned {
		table = "ONLY " + table
	}
	// A large table is sampled by pages, which reads no more than it says; the
	// bound holds also where the statistics are old or missing.
	sample := ""
	all := t.Rows >= 0 && t.Rows <= sampleRows
	if t.Rows > sampleRows {
		sample = fmt.Sprintf(" TABLESAMPLE SYSTEM (%.6f)", max(100*float64(sampleRows)/float64(t.Rows), 0.000001))
	}
	query := fmt.Sprintf(`SELECT DISTINCT v FROM (SELECT %s AS v FROM %s%s LIMIT %d) rows WHERE v IS NOT NULL LIMIT %d`,
		name, table, sample, 2*sampleRows, limit)
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, false, fmt.Errorf("sample %s: %w", t.FullName(), err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // read only: there is nothing to commit
	if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL search_path = ''; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = %d`,
		sampleTimeout.Milliseconds())); err != nil {
		return nil, false, fmt.Errorf("sample %s: %w", t.FullName(), err)
	}
	// The simple protocol gives every value in its text form, which is the one
	// that rules will see.
	rows, err := tx.Query(ctx, query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, false, sampleError(err)
	}
	values, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		return strings.Clone(string(r.RawValues()[0])), nil
	})
	if err != nil {
		return nil, false, sampleError(err)
	}
	slices.Sort(values) // not by the server: its order is the database's collation
	return values, all, nil
}

// sampleError keeps the server's sentence and leaves the rest out: it is going
// to stand in a comment.
func sampleError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return errors.New(pg.Message)
	}
	return err
}
