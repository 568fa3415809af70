package state

import (
	"context"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
)

// BulkOptions bound a Bulk.
type BulkOptions struct {
	// Dir is where rows go that memory has no room for; it must exist. "" keeps
	// all rows in memory, whatever their size.
	Dir string
	// MemoryBytes bounds the rows in memory, all that belongs to them included;
	// 0 is 128 MiB. Without Dir it bounds nothing.
	MemoryBytes int64
}

// Bulk is the tables of one version in memory, spilling to disk: for a rebuild,
// which copies them into Postgres at the end, for proofs and for tests. It belongs
// to one goroutine.
type Bulk struct{}

// NewBulk makes an empty Bulk; Close it. The error is a Faults, or about Dir.
func NewBulk(tables []Table, opts BulkOptions) (*Bulk, error) { return nil, errSoon }

// Rows gives the rows of a table by its name; nil where there is none.
func (b *Bulk) Rows(table string) Rows { return nil }

// Begin starts to note changes.
func (b *Bulk) Begin() {}

// Undo takes back all changes since Begin.
func (b *Bulk) Undo() {}

// Entry is a row and its key.
type Entry struct {
	Key Key
	Row Row
}

// Each yields the rows of a table in the order of their keys, and ends after an
// error. Nothing may be changed meanwhile.
func (b *Bulk) Each(table string) iter.Seq2[Entry, error] { return nil }

// Copy streams all tables into those of a schema with COPY, in key order. The
// connection may have a transaction open. progress, where not nil, is called now
// and then with the rows of a table copied so far.
func (b *Bulk) Copy(ctx context.Context, conn *pgx.Conn, schema string, progress func(table string, rows int64)) error {
	return errSoon
}

// Len counts the rows of a table. After a spill a row that was changed since may
// count twice.
func (b *Bulk) Len(table string) int { return 0 }

// Bytes says how much memory and disk the rows take.
func (b *Bulk) Bytes() (memory, disk int64) { return 0, 0 }

// Expire deletes the rows of a table whose Retain.Column lies before a time.
func (b *Bulk) Expire(table string, before time.Time) (int64, error) { return 0, errSoon }

// Close removes what lies on disk and forgets the rows.
func (b *Bulk) Close() error { return nil }

// Scan yields the rows of a table in Postgres in the order of their keys, the
// same order as Bulk.Each. The connection is busy until it ends.
func Scan(ctx context.Context, conn *pgx.Conn, schema string, t Table) iter.Seq2[Entry, error] {
	return nil
}
