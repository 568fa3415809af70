package state

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// CreateSQL creates the tables of a schema that exists, with their comments and
// without keys and indexes; one statement each. The tables are valid ones.
func CreateSQL(schema string, tables []Table) []string { return nil }

// KeySQL adds the primary keys, one statement for each table. Do it after rows
// were copied, and before a Live works on the tables.
func KeySQL(schema string, tables []Table) []string { return nil }

// IndexSQL adds the secondary indexes, one statement each; then ANALYZE.
func IndexSQL(schema string, tables []Table) []string { return nil }

// DropSQL drops the tables that exist.
func DropSQL(schema string, tables []Table) []string { return nil }

// Querier reads; a pool, a connection and a transaction do.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// CheckShape compares the tables in a database with what they should be: a table
// that is missing or has other columns, types, NOT NULLs, key or indexes is named,
// column by column. The error is one of reading.
func CheckShape(ctx context.Context, q Querier, schema string, tables []Table) (Faults, error) {
	return nil, errSoon
}
