package state

import "time"

// Table is one table of a projection.
type Table struct {
	Name    string
	Columns []Column
	// Key names the columns of the primary key, in order. A table without a key
	// does not exist here: applying an event twice must do no harm.
	Key     []string
	Indexes []Index
	// Hidden tables hold what only the runner needs; readers get no grant.
	Hidden bool
	// Retain, where set, lets rows go that are older.
	Retain *Retention
	// Comment is shown by \d+ and by the read API.
	Comment string
}

// Column is one column of a Table.
type Column struct {
	Name string
	// Type is a Postgres type as format_type prints it ("bigint",
	// "numeric(12,3)", "timestamp with time zone"); short names ("int8",
	// "timestamptz") are understood. See Table.Validate.
	Type    string
	NotNull bool
	Comment string
}

// Index is a secondary index, made after the rows were copied.
type Index struct {
	Columns []string
	Unique  bool
}

// Retention says which rows may go: those whose Column, a time or a date, lies
// more than For before the stream's time.
type Retention struct {
	Column string
	For    time.Duration
}

// Row is a row of a Table: one value per column, in the table's order. NULL is
// nil; otherwise a value has the Go type of its column:
//
//	smallint, integer, bigint              int64
//	numeric                                money.Decimal
//	boolean                                bool
//	date, timestamp, timestamptz           time.Time, UTC, whole microseconds
//	json, jsonb                            json.RawMessage
//	bytea                                  []byte
//	double precision, real                 float64
//	everything else (text, uuid, ...)      string, as Postgres prints it
//
// A Row that was put or gotten belongs to the Space: it is never changed in
// place by anybody.
type Row []any

// Key is the primary key of a row in one string: injective for each table, and
// in an order that is the same everywhere and that of ORDER BY on its columns.
// Shape.KeyOf and Shape.Key make it; Rows.Key too.
type Key string

// Rows are the rows of one table, by key.
type Rows interface {
	// Get gives the row; ok is false where there is none.
	Get(k Key) (row Row, ok bool, err error)
	// Put inserts the row or replaces the one with its key. A value that its
	// column cannot hold is a *ValueError, and nothing is changed.
	Put(row Row) error
	// Delete removes the row, if there is one.
	Delete(k Key) error
	// Key makes a key of the values of the key columns, in their order.
	Key(values ...any) (Key, error)
}

// Space is the rows of all tables of one version of a projection. It belongs to
// one goroutine.
type Space interface {
	// Rows gives the rows of a table by its name; nil where there is none.
	Rows(table string) Rows
	// Begin starts to note changes, so that Undo can take back what one event
	// did before it failed. A Begin ends the notes of the one before.
	Begin()
	// Undo takes back all changes since Begin.
	Undo()
}

// ValueError says that a value does not fit its column.
type ValueError struct {
	Table, Column string
	Value         string // as text, cut to a line
	Reason        string
}

// Error names the column, the value and what is wrong.
func (e *ValueError) Error() string {
	return "column " + e.Table + "." + e.Column + " cannot hold " + e.Value + ": " + e.Reason
}
