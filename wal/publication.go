package wal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// checkPublication makes sure that everything captured is published: what is
// not would be missing without a sign. It returns, by table, the numbers of the
// publication's entries; before has those of the first start, or is nil: an
// entry with another number was away for a while. Later than at the first start
// a table that does not exist any more is no fault of the publication: the
// stream may still hold its changes, and the consumer hears of it.
func checkPublication(ctx context.Context, conn *pgx.Conn, name string, capture Capture, before map[string]uint32) (map[string]uint32, error) {
	first, entries := before == nil, map[string]uint32{}
	var complete, viaRoot bool
	err := conn.QueryRow(ctx, `SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot
		FROM pg_catalog.pg_publication WHERE pubname = $1`, name).Scan(&complete, &viaRoot)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &PublicationError{Publication: name, Problems: []string{"it does not exist"}, Later: !first}
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %q: %w", name, err)
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
		       EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = c.oid AND to_jsonb(r) ->> 'prattrs' IS NOT NULL),
		       coalesce((SELECT r.oid FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
		                 WHERE r.prrelid = c.oid AND p.pubname = $1), 0)
		FROM unnest($2::text[]) w(name)
		LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p'))
		       ON n.nspname || '.' || c.relname = w.name
		LEFT JOIN pg_catalog.pg_publication_tables t ON t.pubname = $1 AND t.schemaname || '.' || t.tablename = w.name
		ORDER BY 1`, name, capture.tables())
	if err != nil {
		return nil, fmt.Errorf("read publication %q: %w", name, err)
	}
	var table string
	var exists, published, filtered, narrowed bool
	var entry uint32
	if _, err := pgx.ForEachRow(rows, []any{&table, &exists, &published, &filtered, &narrowed, &entry}, func() error {
		entries[table] = entry
		switch {
		case !exists && first:
			problems = append(problems, fmt.Sprintf("table %s does not exist", table))
		case exists && !published:
			problems = append(problems, fmt.Sprintf("table %s is not published", table))
		case filtered:
			problems = append(problems, fmt.Sprintf("table %s has a row filter", table))
		case narrowed:
			problems = append(problems, fmt.Sprintf("table %s has a column list", table))
		case exists && !first && entry != before[table]:
			problems = append(problems, fmt.Sprintf("table %s was taken out and put back", table))
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read publication %q: %w", name, err)
	}
	if problems != nil {
		return nil, &PublicationError{Publication: name, Problems: problems, Later: !first}
	}
	return entries, nil
}
