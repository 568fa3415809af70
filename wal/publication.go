package wal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// checkPublication makes sure that everything captured is published: what is
// not would be missing without a sign. Later than at the first start a table
// that does not exist any more is no fault of the publication: the stream may
// still hold its changes, and the consumer hears of it.
func checkPublication(ctx context.Context, conn *pgx.Conn, name string, capture Capture, first bool) error {
	var complete, viaRoot bool
	err := conn.QueryRow(ctx, `SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot
		FROM pg_catalog.pg_publication WHERE pubname = $1`, name).Scan(&complete, &viaRoot)
	if errors.Is(err, pgx.ErrNoRows) {
		return &PublicationError{Publication: name, Problems: []string{"it does not exist"}}
	}
	if err != nil {
		return fmt.Errorf("read publication %q: %w", name, err)
	}
	var problems []string
	if !complete {
		problems = append(problems, "it does not publish all of insert, update, delete and truncate")
	}
	if !viaRoot {
		problems = append(problems, "publish_via_partition_root is off")
	}
	// Row filters and column lists came with version 15; through jsonb the
	// query asks for them on any.
	rows, err := conn.Query(ctx, `
		SELECT w.name, c.oid IS NOT NULL, t.pubname IS NOT NULL, to_jsonb(t) ->> 'rowfilter' IS NOT NULL,
		       EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = c.oid AND to_jsonb(r) ->> 'prattrs' IS NOT NULL)
		FROM unnest($2::text[]) w(name)
		LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p'))
		       ON n.nspname || '.' || c.relname = w.name
		LEFT JOIN pg_catalog.pg_publication_tables t ON t.pubname = $1 AND t.schemaname || '.' || t.tablename = w.name
		ORDER BY 1`, name, capture.tables())
	if err != nil {
		return fmt.Errorf("read publication %q: %w", name, err)
	}
	var table string
	var exists, published, filtered, narrowed bool
	if _, err := pgx.ForEachRow(rows, []any{&table, &exists, &published, &filtered, &narrowed}, func() error {
		switch {
		case !exists && first:
			problems = append(problems, fmt.Sprintf("table %s does not exist", table))
		case exists && !published:
			problems = append(problems, fmt.Sprintf("table %s is not published", table))
		case filtered:
			problems = append(problems, fmt.Sprintf("table %s has a row filter", table))
		case narrowed:
			problems = append(problems, fmt.Sprintf("table %s has a column list", table))
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read publication %q: %w", name, err)
	}
	if problems != nil {
		return &PublicationError{Publication: name, Problems: problems}
	}
	return nil
}
