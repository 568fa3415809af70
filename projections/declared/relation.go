package declared

import (
	"encoding/json"
	"fmt"

	"banyan/expression"
	"banyan/projections/state"
)

// relation is a table with what is needed to work with its rows.
type relation struct {
	name    string
	table   state.Table
	shape   *state.Shape
	index   map[string]int // places of columns
	classes []class
	key     []int // places of the key's columns
}

func newRelation(t state.Table) *relation {
	r := &relation{name: t.Name, table: t, index: map[string]int{}}
	for i, c := range t.Columns {
		r.index[c.Name] = i
		r.classes = append(r.classes, classOf(c.Type))
	}
	for _, k := range t.Key {
		if i, ok := r.index[k]; ok {
			r.key = append(r.key, i)
		}
	}
	return r
}

// ready makes the shape; the table must be valid.
func (r *relation) ready() error {
	shape, err := state.Compile(r.table)
	r.shape = shape
	return err
}

func (r *relation) columnNames() []string {
	out := make([]string, len(r.table.Columns))
	for i, c := range r.table.Columns {
		out[i] = c.Name
	}
	return out
}

// keyValues converts what expressions gave to values of the key's columns.
func (r *relation) keyValues(given []any) ([]any, error) {
	out := make([]any, len(r.key))
	for i, at := range r.key {
		if i >= len(given) || given[i] == nil {
			return nil, fmt.Errorf("column %s of the key of %s is NULL", r.table.Columns[at].Name, r.name)
		}
		v, err := r.classes[at].convert(given[i])
		if err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", r.table.Columns[at].Name, r.name, err)
		}
		out[i] = v
	}
	return out, nil
}

// appendKey writes values of the key's columns as a JSON list that readKey reads.
func (r *relation) appendKey(dst []byte, values []any) ([]byte, error) {
	dst = append(dst, '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		seen, err := r.classes[r.key[i]].expressed(v)
		if err != nil {
			return dst, err
		}
		if dst, err = expression.AppendJSON(dst, seen); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// readKey gives the values of the key's columns.
func (r *relation) readKey(text []byte) ([]any, error) {
	v, err := expression.FromJSON(text)
	if err != nil {
		return nil, fmt.Errorf("read a key of %s: %w", r.name, err)
	}
	list, _ := v.([]any)
	return r.keyValues(list)
}

// same compares two values of one column.
func same(a, b any) bool { return state.Equal(state.Row{a}, state.Row{b}) }

// rawList splits a JSON list into its items.
func rawList(text []byte) ([]json.RawMessage, error) {
	var items []json.RawMessage
	err := json.Unmarshal(text, &items)
	return items, err
}
