package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"
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
//
// Rows spill between events only: whoever calls Begin calls it for each event. A
// disk that is full or fails makes the Bulk useless; every call from then on gives
// the same error.
type Bulk struct {
	tables []*bulkTable
	byName map[string]*bulkTable
	store  *store
}

type bulkTable struct {
	store  *store
	shape  *Shape
	number int

	key, value []byte // scratch
}

// Entry is a row and its key.
type Entry struct {
	Key Key
	Row Row
}

// DiskError says that rows could not be spilled, or read back. The Bulk is of no
// more use; the event that was about to be applied is not to blame.
type DiskError struct{ err error }

// Error names the directory.
func (e *DiskError) Error() string { return e.err.Error() }

// Unwrap gives what the operating system said.
func (e *DiskError) Unwrap() error { return e.err }

// leastMemory is what a Bulk works well with.
const leastMemory = 4 << 20

var errClosed = errors.New("the rows are closed")

// NewBulk makes an empty Bulk; Close it. The error is a Faults, or about Dir.
func NewBulk(tables []Table, opts BulkOptions) (*Bulk, error) {
	shapes, err := compileAll(tables)
	if err != nil {
		return nil, err
	}
	if opts.Dir != "" {
		if info, err := os.Stat(opts.Dir); err != nil {
			return nil, fmt.Errorf("folder for rows that memory has no room for: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("folder for rows that memory has no room for: %s is a file", opts.Dir)
		}
	}
	if opts.MemoryBytes <= 0 {
		opts.MemoryBytes = 128 << 20
	}
	b := &Bulk{byName: map[string]*bulkTable{}, store: newStore(len(tables), max(opts.MemoryBytes, leastMemory), opts.Dir)}
	for i, s := range shapes {
		t := &bulkTable{store: b.store, shape: s, number: i}
		b.tables = append(b.tables, t)
		b.byName[s.table.Name] = t
	}
	return b, nil
}

// Rows gives the rows of a table by its name; nil where there is none.
func (b *Bulk) Rows(table string) Rows {
	if t, ok := b.byName[table]; ok {
		return t
	}
	return nil
}

// Begin starts to note changes.
func (b *Bulk) Begin() { b.store.begin() }

// Undo takes back all changes since Begin.
func (b *Bulk) Undo() { b.store.undo() }

// prefixed is a key as the store has it.
func (t *bulkTable) prefixed(k Key) []byte {
	t.key = append(binary.BigEndian.AppendUint16(t.key[:0], uint16(t.number)), k...)
	return t.key
}

// Get decodes a row.
func (t *bulkTable) Get(k Key) (Row, bool, error) {
	value, err := t.store.get(t.prefixed(k))
	if err != nil || value == nil {
		return nil, false, err
	}
	row, err := t.shape.row(value)
	return row, err == nil, err
}

// Put encodes a row.
func (t *bulkTable) Put(row Row) error {
	row, err := t.shape.Row(row)
	if err != nil {
		return err
	}
	key, err := t.shape.appendKey(binary.BigEndian.AppendUint16(t.key[:0], uint16(t.number)), row)
	if err != nil {
		return err
	}
	t.key = key
	if t.value, err = t.shape.appendRow(t.value[:0], row); err != nil {
		return err
	}
	return t.store.put(t.key, t.value)
}

// Delete removes a row.
func (t *bulkTable) Delete(k Key) error {
	key := t.prefixed(k)
	if len(key) > maxStoreKey {
		return nil // no row could have been put under it
	}
	return t.store.remove(key)
}

// maxStoreKey is what the length of a key has room for in an entry.
const maxStoreKey = 1<<16 - 1

// Key makes a key of the table.
func (t *bulkTable) Key(values ...any) (Key, error) { return t.shape.Key(values...) }

// Each yields the rows of a table in the order of their keys, and ends after an
// error. Nothing may be changed meanwhile.
func (b *Bulk) Each(table string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		t, ok := b.byName[table]
		if !ok {
			yield(Entry{}, fmt.Errorf("there is no table %s", table))
			return
		}
		for e, err := range t.each() {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			row, err := t.shape.row(e.value)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !yield(Entry{Key(e.key[tablePart:]), row}, nil) {
				return
			}
		}
	}
}

// tablePart is the length of what stands before a key in the store.
const tablePart = 2

// each yields the entries of rows that exist.
func (t *bulkTable) each() iter.Seq2[spilled, error] {
	return func(yield func(spilled, error) bool) {
		rows, err := t.store.walk(t.number)
		if err != nil {
			yield(spilled{}, err)
			return
		}
		for {
			ok, err := rows.next()
			if err != nil {
				yield(spilled{}, err)
				return
			}
			if !ok {
				return
			}
			if e := rows.entry(); e.value != nil && !yield(e, nil) {
				return
			}
		}
	}
}

// Len counts the rows of a table. After a spill, a row that was put without having
// been gotten first may count twice.
func (b *Bulk) Len(table string) int {
	if t, ok := b.byName[table]; ok {
		return max(0, b.store.counts[t.number])
	}
	return 0
}

// Bytes says how much memory and disk the rows take.
func (b *Bulk) Bytes() (memory, disk int64) {
	for _, r := range b.store.runs {
		disk += r.size()
	}
	return b.store.memory(), disk
}

// Expire deletes the rows of a table whose Retain.Column lies before a time, and
// says how many there were.
func (b *Bulk) Expire(table string, before time.Time) (int64, error) {
	t, ok := b.byName[table]
	switch {
	case !ok:
		return 0, fmt.Errorf("expire rows: there is no table %s", table)
	case t.shape.table.Retain == nil:
		return 0, fmt.Errorf("expire rows: table %s keeps its rows for ever", table)
	}
	before = before.Truncate(time.Microsecond)
	column := t.shape.Column(t.shape.table.Retain.Column)
	var old []Key
	for e, err := range b.Each(table) {
		if err != nil {
			return 0, fmt.Errorf("expire rows of table %s: %w", table, err)
		}
		if isBefore(e.Row, column, before) {
			old = append(old, e.Key)
		}
	}
	for i, k := range old {
		if err := t.Delete(k); err != nil {
			return int64(i), fmt.Errorf("expire rows of table %s: %w", table, err)
		}
	}
	return int64(len(old)), nil
}

// Close removes what lies on disk and forgets the rows.
func (b *Bulk) Close() error {
	if err := b.store.close(); err != nil {
		return fmt.Errorf("close spilled rows: %w", err)
	}
	return nil
}
