package state

import (
	"context"
	"fmt"
	"slices"
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
// rows: the fence sees to that.
//
// A batch is: Open on a connection with an open transaction that has passed the
// fence; Prefetch; for each event Begin, changes, and Undo where it failed; Flush;
// then, after the transaction has ended, Commit or Abort.
type Live struct {
	schema string
	tables []*liveTable
	byName map[string]*liveTable
	limit  int64

	ctx   context.Context
	conn  *pgx.Conn // nil between batches
	batch uint64    // the number of this one
	// touched are the rows that the batch has changed; dirty, of each table,
	// those changed since the last Flush.
	touched []*cached
	noting  bool
	notes   []note

	// ring holds all rows of the cache for the hand of the clock.
	ring []*cached
	hand int
	// full is the batch in which the hand found nothing more to take.
	full  uint64
	stats LiveStats
}

type liveTable struct {
	live  *Live
	shape *Shape
	rows  map[Key]*cached
	dirty []*cached
	sql   statements
}

// cached is a row of the cache. A key that is known to have no row is one whose
// row is nil.
type cached struct {
	table *liveTable
	key   Key
	row   Row
	base  Row // as the database has it, seen from this transaction
	// known: row is the truth. baseKnown: base is; a row that was put without
	// having been read has none.
	known, baseKnown bool
	touched, dirty   bool
	gone             bool // from the cache; only notes may still name it
	recent           bool // used since the hand went by
	batch            uint64
	bytes            int64
	place            int // in the ring
}

// note is what a row was before a change.
type note struct {
	c                *cached
	row, base        Row
	known, baseKnown bool
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

// NewLive makes a Live over tables that exist, with their keys, in a schema. The
// error is a Faults.
func NewLive(schema string, tables []Table, opts LiveOptions) (*Live, error) {
	shapes, err := compileAll(tables)
	if err != nil {
		return nil, err
	}
	l := &Live{schema: schema, byName: map[string]*liveTable{}, limit: opts.CacheBytes}
	if l.limit <= 0 {
		l.limit = 64 << 20
	}
	for _, s := range shapes {
		t := &liveTable{live: l, shape: s, rows: map[Key]*cached{}, sql: makeStatements(schema, s)}
		l.tables = append(l.tables, t)
		l.byName[s.table.Name] = t
	}
	return l, nil
}

// Open begins a batch on a connection that has a transaction open (pgx.Tx.Conn);
// ctx is for the reads that Get does until the batch ends. A batch before it that
// has not ended is aborted.
func (l *Live) Open(ctx context.Context, conn *pgx.Conn) {
	if len(l.touched) > 0 {
		l.Abort()
	}
	l.ctx, l.conn = ctx, conn
	l.batch++
}

// Rows gives the rows of a table by its name; nil where there is none.
func (l *Live) Rows(table string) Rows {
	if t, ok := l.byName[table]; ok {
		return t
	}
	return nil
}

// Begin starts to note changes.
func (l *Live) Begin() {
	l.noting = true
	l.forgetNotes()
}

func (l *Live) forgetNotes() {
	clear(l.notes)
	l.notes = l.notes[:0]
}

// Undo takes back all changes since Begin. Where there was a Flush since, the
// caller rolls the transaction back to a savepoint made at Begin as well.
func (l *Live) Undo() {
	for _, n := range slices.Backward(l.notes) {
		n.c.row, n.c.known = n.row, n.known
		n.c.base, n.c.baseKnown = n.base, n.baseKnown
		l.weigh(n.c)
		l.markDirty(n.c)
	}
	l.forgetNotes()
}

func (l *Live) note(c *cached) {
	if l.noting {
		l.notes = append(l.notes, note{c, c.row, c.base, c.known, c.baseKnown})
	}
}

// set changes a row in memory; nil deletes it.
func (t *liveTable) set(k Key, row Row) {
	l := t.live
	c := t.rows[k]
	if c == nil {
		c = l.add(t, k)
	}
	l.note(c)
	c.row, c.known = row, true
	c.batch, c.recent = l.batch, true
	l.weigh(c)
	l.markDirty(c)
}

func (l *Live) markDirty(c *cached) {
	if !c.touched {
		c.touched = true
		l.touched = append(l.touched, c)
	}
	if !c.dirty {
		c.dirty = true
		c.table.dirty = append(c.table.dirty, c)
	}
}

// Get gives the row from the cache, or reads it.
func (t *liveTable) Get(k Key) (Row, bool, error) {
	l := t.live
	if c := t.rows[k]; c != nil && c.known {
		l.stats.Hits++
		c.batch, c.recent = l.batch, true
		return c.row, c.row != nil, nil
	}
	l.stats.Misses++
	if l.conn == nil {
		return nil, false, fmt.Errorf("read a row of table %s: no batch is open", t.shape.table.Name)
	}
	if err := l.read(l.ctx, []lookup{{t, []Key{k}}}); err != nil {
		return nil, false, err
	}
	c := t.rows[k]
	return c.row, c.row != nil, nil
}

// Put changes the row in memory; Flush writes it.
func (t *liveTable) Put(row Row) error {
	row, err := t.shape.Row(row)
	if err != nil {
		return err
	}
	k, err := t.shape.KeyOf(row)
	if err != nil {
		return err
	}
	t.set(k, row)
	return nil
}

// Delete removes the row in memory; Flush deletes it.
func (t *liveTable) Delete(k Key) error {
	if _, known := t.rows[k]; !known {
		if _, err := t.shape.Parse(k); err != nil {
			return err
		}
	}
	t.set(k, nil)
	return nil
}

// Key makes a key of the table.
func (t *liveTable) Key(values ...any) (Key, error) { return t.shape.Key(values...) }

// Commit says that the transaction has committed: what was flushed is the truth.
func (l *Live) Commit() {
	for _, c := range l.touched {
		c.touched = false
		if c.dirty || !c.known {
			// Changed after the last Flush, or taken back: not what was committed.
			l.remove(c)
		}
	}
	l.end()
}

// Abort says that the transaction did not commit, or that nobody knows: all rows
// that the batch changed are forgotten and will be read again.
func (l *Live) Abort() {
	for _, c := range l.touched {
		l.remove(c)
	}
	l.end()
}

// end makes the Live ready for the next batch.
func (l *Live) end() {
	clear(l.touched)
	l.touched = l.touched[:0]
	for _, t := range l.tables {
		t.clean()
	}
	l.forgetNotes()
	l.noting = false
	l.conn, l.ctx = nil, nil
	l.batch++
	l.evict()
}

// clean empties the list of rows to write.
func (t *liveTable) clean() {
	for i, c := range t.dirty {
		c.dirty = false
		t.dirty[i] = nil
	}
	t.dirty = t.dirty[:0]
}

// Reset forgets everything: after a fence, or when partitions came from others.
// A batch that is open is over.
func (l *Live) Reset() {
	l.Abort()
	for _, t := range l.tables {
		clear(t.rows)
	}
	clear(l.ring)
	l.ring, l.hand = l.ring[:0], 0
	l.stats.Bytes = 0
}

// Stats gives the counts.
func (l *Live) Stats() LiveStats {
	s := l.stats
	s.Rows = len(l.ring)
	return s
}

// Expire deletes the rows of a table whose Retain.Column lies before a time, in
// the transaction of the batch, and says how many there were in the database.
func (l *Live) Expire(ctx context.Context, table string, before time.Time) (int64, error) {
	t, column, err := l.expiring(table)
	if err != nil {
		return 0, err
	}
	before = before.Truncate(time.Microsecond)
	var old []*cached
	for _, c := range t.rows {
		if c.known && isBefore(c.row, column, before) {
			old = append(old, c)
		}
	}
	for _, c := range old {
		t.set(c.key, nil)
	}
	tag, err := l.conn.Exec(ctx, t.sql.expire(t.shape.columns[column]), before)
	if err != nil {
		return 0, fmt.Errorf("delete rows of table %s before %s: %w", table, before.UTC().Format(time.RFC3339), err)
	}
	// Rows that were to be written anew are gone from the database too.
	for _, c := range t.dirty {
		if c.baseKnown && isBefore(c.base, column, before) {
			l.note(c)
			c.base = nil
		}
	}
	return tag.RowsAffected(), nil
}

func (l *Live) expiring(table string) (*liveTable, int, error) {
	t, ok := l.byName[table]
	switch {
	case !ok:
		return nil, 0, fmt.Errorf("expire rows: there is no table %s", table)
	case t.shape.table.Retain == nil:
		return nil, 0, fmt.Errorf("expire rows: table %s keeps its rows for ever", table)
	case l.conn == nil:
		return nil, 0, fmt.Errorf("expire rows of table %s: no batch is open", table)
	}
	return t, t.shape.Column(t.shape.table.Retain.Column), nil
}

func isBefore(row Row, column int, t time.Time) bool {
	if row == nil {
		return false
	}
	v, ok := row[column].(time.Time)
	return ok && v.Before(t)
}
