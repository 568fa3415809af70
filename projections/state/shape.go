package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"banyan/money"
)

// Shape is a Table made ready for work: checked, its types in one spelling, the
// places of its key columns known. It is constant and may be shared.
type Shape struct {
	table   Table
	columns []column
	key     []int // places of the key columns, in the order of the key
	// wide are the indexes, the key among them, that a long value could be too
	// large for: the places of the columns whose values have no bound.
	wide [][]int
}

// column is a column as values meet it.
type column struct {
	typ
	name    string
	notNull bool
	isKey   bool
}

// maxIndexed bounds the bytes of one entry of an index. Postgres refuses more
// than 2704, after it has tried to compress them; a value that is refused when a
// rebuild makes its indexes, hours later, is refused too late.
const maxIndexed = 2600

// Compile checks a table and makes its Shape. The error is a Faults.
func Compile(t Table) (*Shape, error) {
	if err := t.Validate().err(); err != nil {
		return nil, err
	}
	s := &Shape{table: t, columns: make([]column, len(t.Columns))}
	s.table.Columns = slices.Clone(t.Columns)
	for i, c := range t.Columns {
		ty, err := parseType(c.Type)
		if err != nil {
			return nil, fmt.Errorf("type of %s.%s: %w", t.Name, c.Name, err)
		}
		s.columns[i] = column{typ: ty, name: c.Name, notNull: c.NotNull, isKey: slices.Contains(t.Key, c.Name)}
		s.table.Columns[i].Type = ty.String()
	}
	s.key = s.places(t.Key)
	s.addWide(s.key)
	for _, ix := range t.Indexes {
		s.addWide(s.places(ix.Columns))
	}
	return s, nil
}

func compileAll(tables []Table) ([]*Shape, error) {
	if err := Validate(tables).err(); err != nil {
		return nil, err
	}
	shapes := make([]*Shape, len(tables))
	for i, t := range tables {
		var err error
		if shapes[i], err = Compile(t); err != nil {
			return nil, err
		}
	}
	return shapes, nil
}

func (s *Shape) places(names []string) []int {
	places := make([]int, len(names))
	for i, n := range names {
		places[i] = s.Column(n)
	}
	return places
}

func (s *Shape) addWide(places []int) {
	var wide []int
	for _, p := range places {
		if s.columns[p].unbounded() {
			wide = append(wide, p)
		}
	}
	if len(wide) > 0 {
		s.wide = append(s.wide, wide)
	}
}

// Table is what the Shape was made of, with types as format_type prints them.
func (s *Shape) Table() Table { return s.table }

// Column gives the place of a column in a Row, -1 where there is none.
func (s *Shape) Column(name string) int {
	return slices.IndexFunc(s.columns, func(c column) bool { return c.name == name })
}

// Coerce converts a value to the Go type of a column (see Row), or gives a
// *ValueError where the column cannot hold exactly that value. Numbers may come
// as text and as text columns want them; a money.Amount gives its number to a
// numeric column and itself to a jsonb one; times are instants in UTC, without a
// zone they are taken as UTC; JSON gets one canonical form.
func (s *Shape) Coerce(place int, v any) (any, error) {
	if place < 0 || place >= len(s.columns) {
		return nil, fmt.Errorf("table %s has no column number %d", s.table.Name, place)
	}
	c := &s.columns[place]
	out, reason := c.coerce(v)
	if reason != "" {
		return nil, s.refuse(c, v, reason)
	}
	return out, nil
}

func (s *Shape) refuse(c *column, v any, reason string) error {
	return &ValueError{Table: s.table.Name, Column: c.name, Value: show(v), Reason: reason}
}

// Coerce is Shape.Coerce by the column's name, for a few calls: each looks at the
// whole table.
func Coerce(t Table, column string, v any) (any, error) {
	s, err := Compile(t)
	if err != nil {
		return nil, err
	}
	place := s.Column(column)
	if place < 0 {
		return nil, fmt.Errorf("table %s has no column %q", t.Name, column)
	}
	return s.Coerce(place, v)
}

// Row gives the row with all its values converted as Coerce does: the row itself
// where nothing had to be.
func (s *Shape) Row(row Row) (Row, error) {
	if len(row) != len(s.columns) {
		return nil, fmt.Errorf("a row of table %s has %d values for %d columns", s.table.Name, len(row), len(s.columns))
	}
	mine := false
	for i := range row {
		c := &s.columns[i]
		if c.holds(row[i]) {
			continue
		}
		v, reason := c.coerce(row[i])
		if reason != "" {
			return nil, s.refuse(c, row[i], reason)
		}
		if a, ok := v.(json.RawMessage); ok {
			if b, ok := row[i].(json.RawMessage); ok && len(a) == len(b) && &a[0] == &b[0] {
				continue
			}
		}
		if !mine {
			row, mine = slices.Clone(row), true
		}
		row[i] = v
	}
	for _, wide := range s.wide {
		if err := s.checkIndexed(wide, row); err != nil {
			return nil, err
		}
	}
	return row, nil
}

// checkIndexed refuses values that an index has no room for.
func (s *Shape) checkIndexed(places []int, row Row) error {
	total, longest, at := 0, -1, 0
	for _, p := range places {
		n := 0
		switch v := row[p].(type) {
		case string:
			n = len(v)
		case []byte:
			n = len(v)
		case money.Decimal:
			if _, _, small := v.Int64(); !small {
				n = len(v.String()) / 2
			}
		}
		total += n
		if n > longest {
			longest, at = n, p
		}
	}
	if total > maxIndexed {
		return s.refuse(&s.columns[at], row[at], fmt.Sprintf("an index over it can hold %d bytes, this takes %d", maxIndexed, total))
	}
	return nil
}

// Equal says whether two rows hold the same values exactly: numbers with the same
// decimals, JSON in the same canonical bytes. A nil row is one that is not there.
func Equal(a, b Row) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for i := range a {
		if !same(a[i], b[i]) {
			return false
		}
	}
	return true
}

func same(a, b any) bool {
	switch a := a.(type) {
	case nil, int64, string, bool:
		return a == b
	case money.Decimal:
		b, ok := b.(money.Decimal)
		if !ok || a.Scale() != b.Scale() {
			return false
		}
		x, _, small := a.Int64()
		y, _, small2 := b.Int64()
		if small && small2 {
			return x == y
		}
		return a.Cmp(b) == 0
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case json.RawMessage:
		b, ok := b.(json.RawMessage)
		return ok && bytes.Equal(a, b)
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	}
	return reflect.DeepEqual(a, b)
}

// rowBytes is about what a row takes in memory.
func rowBytes(row Row) int {
	n := 24 + 16*len(row)
	for _, v := range row {
		switch v := v.(type) {
		case nil, bool:
		case string:
			n += 16 + len(v)
		case json.RawMessage:
			n += 24 + len(v)
		case []byte:
			n += 24 + len(v)
		case money.Decimal:
			n += 56
		case time.Time:
			n += 24
		default:
			n += 8
		}
	}
	return n
}
