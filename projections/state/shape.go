package state

import "errors"

var errSoon = errors.New("not built yet")

// Shape is a Table made ready for work: checked, its types in one spelling, the
// places of its key columns known. It is constant and may be shared.
type Shape struct {
	table Table
}

// Compile checks a table and makes its Shape. The error is a Faults.
func Compile(t Table) (*Shape, error) { return nil, errSoon }

// Table is what the Shape was made of, with types as format_type prints them.
func (s *Shape) Table() Table { return s.table }

// Column gives the place of a column in a Row, -1 where there is none.
func (s *Shape) Column(name string) int { return -1 }

// KeyOf gives the key of a row. A key column that is NULL or cannot hold its
// value is a *ValueError.
func (s *Shape) KeyOf(row Row) (Key, error) { return "", errSoon }

// Key makes a key of the values of the key columns, in the order of Table.Key;
// values are converted as Coerce does.
func (s *Shape) Key(values ...any) (Key, error) { return "", errSoon }

// Parse gives the values of the key columns that a key was made of.
func (s *Shape) Parse(k Key) ([]any, error) { return nil, errSoon }

// Coerce converts a value to the Go type of a column (see Row), or gives a
// *ValueError where the column cannot hold exactly that value.
func (s *Shape) Coerce(column int, v any) (any, error) { return nil, errSoon }

// Row gives the row with all its values converted as Coerce does: the row itself
// where nothing had to be.
func (s *Shape) Row(row Row) (Row, error) { return nil, errSoon }

// Coerce is Shape.Coerce by the column's name, for a few calls.
func Coerce(t Table, column string, v any) (any, error) { return nil, errSoon }

// Equal says whether two rows hold the same values exactly: numbers with the same
// decimals, JSON in the same canonical bytes. A nil row is one that is not there.
func Equal(a, b Row) bool { return false }
