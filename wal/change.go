package wal

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"
)

// LSN is a byte position in the write-ahead log of one incarnation of a
// server. LSNs of different incarnations must never be compared.
type LSN uint64

// String writes the LSN as Postgres does, for example "0/1A2B3C8".
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads the text form that Postgres prints, "16/B374D848".
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers with a slash, such as 0/1A2B3C8", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err == nil {
		var l uint64
		if l, err = strconv.ParseUint(lo, 16, 32); err == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers with a slash, such as 0/1A2B3C8", s)
}

// Kind says what a Value is.
type Kind uint8

const (
	// Null is SQL NULL.
	Null Kind = iota
	// Text is a value in Postgres' text form.
	Text
	// Unchanged is a TOASTed column that the update did not touch: the WAL
	// does not carry it. It is never NULL and never a text.
	Unchanged
	// Absent is a column that the row image does not carry at all, such as
	// the non-key columns of a deleted row under the default replica identity.
	Absent
)

// Value is one column of a row image. Bytes is only set where Kind is Text and
// must not be changed; it is owned by the Row.
type Value struct {
	Kind  Kind
	Bytes []byte
}

// Row is one image of a row, aligned with Table.Columns.
type Row []Value

// Column is one column that Banyan keeps. TypeName is what format_type gives,
// without the modifier ("numeric", "timestamp without time zone",
// "shop.order_status").
type Column struct {
	Name     string
	TypeOID  uint32
	TypMod   int32
	TypeName string
	NotNull  bool
	// Identity is true where the column is part of the replica identity.
	Identity bool
	// Key is the position, from 1, in the primary key (or in the unique index
	// that serves as one); 0 where the column is not part of it.
	Key int
}

// Table is what rows are read against. It is immutable: a Relation message
// that changes anything makes a new Table. Columns that the configuration does
// not name are dropped at the door and are not in Columns.
type Table struct {
	OID     uint32
	Schema  string
	Name    string
	Columns []Column
	// ReplicaIdentity is pg_class.relreplident: d, n, f or i.
	ReplicaIdentity byte
	// Uncaptured names the columns that the stream carries and the capture does
	// not name: those left out on purpose, and those that somebody added. It is
	// nil in a Table that does not come from the stream.
	Uncaptured []string
}

// FullName is "schema.name", unquoted: the name that the configuration uses.
func (t *Table) FullName() string { return t.Schema + "." + t.Name }

// Column returns the index of the named column, or -1.
func (t *Table) Column(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// Op is what happened to a row.
type Op byte

// The operations that pgoutput reports.
const (
	Insert   Op = 'I'
	Update   Op = 'U'
	Delete   Op = 'D'
	Truncate Op = 'T' // one Change per truncated table; Old and New are nil
)

func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	}
	return string(rune(o))
}

// Change is one row change of a captured table.
type Change struct {
	// Ordinal counts the surviving published changes of the transaction from
	// 0, before any rule looks at them.
	Ordinal int64
	Op      Op
	Table   *Table
	// Old is the old image as far as the WAL has it: nil for inserts, nil for
	// updates under the default identity that keep the key; columns that are
	// not carried are Absent.
	Old Row
	// New is nil for deletes and truncates.
	New Row
}

// Tx is one committed transaction of the source, whole.
type Tx struct {
	XID        uint32
	CommitLSN  LSN // the final LSN that Begin announces; orders transactions
	EndLSN     LSN // the end of the commit record; what is acknowledged
	CommitTime time.Time
	// Len is the number of changes; Bytes the approximate size of their images.
	Len   int64
	Bytes int64
	// changes is set for a transaction in memory, spill for one on disk.
	changes []Change
	spill   spilled
}

// spilled is a transaction on disk; see spill.go.
type spilled interface {
	all() iter.Seq2[*Change, error]
	close() error
}

// NewTx makes a transaction in memory, for tests and for re-reading a kept
// one. Ordinals are taken as they stand in changes.
func NewTx(xid uint32, commit, end LSN, at time.Time, changes []Change) *Tx {
	t := &Tx{XID: xid, CommitLSN: commit, EndLSN: end, CommitTime: at, Len: int64(len(changes)), changes: changes}
	for i := range changes {
		t.Bytes += changes[i].size()
	}
	return t
}

// InMemory returns the changes of a transaction that was not spilled; ok is
// false for one that lies on disk and can only be read through All.
func (t *Tx) InMemory() (changes []Change, ok bool) { return t.changes, t.spill == nil }

// All reads the changes in order. It may be called more than once, also for a
// spilled transaction, which is read from disk each time.
func (t *Tx) All() iter.Seq2[*Change, error] {
	if t.spill != nil {
		return t.spill.all()
	}
	return func(yield func(*Change, error) bool) {
		for i := range t.changes {
			if !yield(&t.changes[i], nil) {
				return
			}
		}
	}
}

// Close frees what the transaction holds on disk. It may be called twice.
func (t *Tx) Close() error {
	if t.spill == nil {
		return nil
	}
	return t.spill.close()
}

func (c *Change) size() int64 {
	n := int64(64)
	for _, r := range [2]Row{c.Old, c.New} {
		for i := range r {
			n += 32 + int64(len(r[i].Bytes))
		}
	}
	return n
}
