package translate

import (
	"fmt"

	"banyan/expression"
)

// state of one column of a row in memory. The first four are wal.Kind's.
const (
	valNull uint8 = iota
	valText
	valUnchanged
	valAbsent
	// valMissing is a column that rules name since the row was stored; only a
	// new snapshot can tell it.
	valMissing
)

// val is one column of a row: its Postgres text where kind is valText.
type val struct {
	s    string
	kind uint8
}

func (v val) known() bool { return v.kind <= valText }

// row is aligned with some list of columns. Rows are never changed once they
// are part of an aggregate; they are replaced.
type row []val

func sameRow(a, b row) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// rowType is the shape of a row as expressions and JSON see it.
type rowType struct {
	what     string // for messages: a table's name
	cols     []column
	index    map[string]int
	children map[string]*utable // by as; only for rows of an aggregate
	shown    []int              // columns in JSON, in order
	kids     []*utable          // children in JSON, in order
}

// rowValue is a row as a value in expressions. Columns are decoded when asked.
type rowValue struct {
	t    *rowType
	vals row
	// rowsOf gives the child rows of a table, for rows of an aggregate.
	rowsOf func(*utable) []any
}

// Field gives the named column or the list of child rows. The names are known:
// Compile has checked them.
func (r *rowValue) Field(name string) (any, error) {
	i, ok := r.t.index[name]
	if !ok {
		if child := r.t.children[name]; child != nil && r.rowsOf != nil {
			return r.rowsOf(child), nil
		}
		return nil, fmt.Errorf("%s has no column %s", r.t.what, name)
	}
	switch v := r.vals[i]; v.kind {
	case valNull:
		return nil, nil
	case valText:
		got, err := r.t.cols[i].codec.value(v.s)
		if err != nil {
			return nil, &valueError{r.t.what, name, err}
		}
		return got, nil
	}
	return nil, &valueError{r.t.what, name, errNotInLog}
}

// errNotInLog is an unchanged TOAST column whose value nobody has.
var errNotInLog = fmt.Errorf("the log does not carry the value, and it is not stored")

// appendColumn appends one column's JSON value.
func appendColumn(dst []byte, c *column, v val, what string) ([]byte, error) {
	switch v.kind {
	case valNull:
		return append(dst, "null"...), nil
	case valText:
		if c.mask != "" {
			return expression.AppendText(dst, v.s), nil
		}
		dst, err := c.codec.appendJSON(dst, v.s)
		if err != nil {
			return dst, &valueError{what, c.name, err}
		}
		return dst, nil
	}
	return dst, &valueError{what, c.name, errNotInLog}
}

// AppendJSON appends the row as an object.
func (r *rowValue) AppendJSON(dst []byte) ([]byte, error) {
	dst = append(dst, '{')
	var err error
	for n, i := range r.t.shown {
		if n > 0 {
			dst = append(dst, ',')
		}
		c := &r.t.cols[i]
		dst = append(dst, c.label...)
		if dst, err = appendColumn(dst, c, r.vals[i], r.t.what); err != nil {
			return dst, err
		}
	}
	for n, child := range r.t.kids {
		if r.rowsOf == nil {
			break // a row from the log, without its children
		}
		if n+len(r.t.shown) > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, child.label...)
		if dst, err = expression.AppendJSON(dst, r.rowsOf(child)); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
