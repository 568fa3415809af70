package state

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// LiveOptions bound a Live.
type LiveOptions struct {
	// CacheBytes bounds the rows kept between batches; 0 is 64 MiB. What one
	// batch touches is kept until its end whatever its size.
	CacheBytes int64
}

// Live is the tables of one version in Postgres with a cache over them. It
// belongs to one goroutine, and its caller must be the only one who writes these
// tables: the fence sees to that.
//
// A batch is: Open on a connection with an open transaction that has passed the
// fence; Prefetch; for each event Begin, changes, and Undo where it failed; Flush;
// then, after the transaction has ended, Commit or Abort.
type Live struct{}

// NewLive makes a Live over tables that exist, with their keys, in a schema. The
// error is a Faults.
func NewLive(schema string, tables []Table, opts LiveOptions) (*Live, error) {
	return nil, errSoon
}

// Open begins a batch on a connection that has a transaction open (pgx.Tx.Conn);
// ctx is for the reads that Get does until the batch ends.
func (l *Live) Open(ctx context.Context, conn *pgx.Conn) {}

// Prefetch reads the rows of these keys that are not in the cache, all tables in
// one round trip.
func (l *Live) Prefetch(ctx context.Context, want map[string][]Key) error { return errSoon }

// Rows gives the rows of a table by its name; nil where there is none.
func (l *Live) Rows(table string) Rows { return nil }

// Begin starts to note changes.
func (l *Live) Begin() {}

// Undo takes back all changes since Begin. Where there was a Flush since, the
// caller rolls the transaction back to a savepoint made at Begin as well.
func (l *Live) Undo() {}

// Flush writes all changed rows of all tables in one round trip, in key order.
// After an error nothing is taken as written; the transaction is at an end, or
// the caller rolls back to a savepoint. It may be called several times in a
// batch: event by event, to find the one that the database refuses.
func (l *Live) Flush(ctx context.Context) error { return errSoon }

// Commit says that the transaction has committed: what was flushed is the truth.
func (l *Live) Commit() {}

// Abort says that the transaction did not commit, or that nobody knows: all rows
// that the batch changed are forgotten and will be read again.
func (l *Live) Abort() {}

// Reset forgets everything: after a fence, or when partitions came from others.
func (l *Live) Reset() {}

// Expire deletes the rows of a table whose Retain.Column lies before a time, in
// the transaction of the batch, and says how many there were in the database.
func (l *Live) Expire(ctx context.Context, table string, before time.Time) (int64, error) {
	return 0, errSoon
}

// LiveStats counts what a Live did since it was made.
type LiveStats struct {
	Hits, Misses     int64 // Gets answered by the cache, and not
	Reads            int64 // round trips to read
	Written, Deleted int64 // rows sent
	Unchanged        int64 // rows put that were as they had been, not sent
	Rows             int   // in the cache now, known-absent ones included
	Bytes            int64 // of the cache now, about
}

// Stats gives the counts.
func (l *Live) Stats() LiveStats { return LiveStats{} }
