package projections

import (
	"cmp"
	"fmt"
	"strings"

	"banyan/event"
	"banyan/projections/state"
)

// Decision is what becomes of a row after an event.
type Decision int

const (
	// Keep stores the row as it is now.
	Keep Decision = iota
	// Remove deletes it.
	Remove
	// Ignore leaves it as it was.
	Ignore
)

// Fold is a projection of one row per key, written as one function: the runner
// loads the row, Apply changes it, the runner stores it.
//
//	type Address struct {
//		Customer int64  `db:"customer_id,key"`
//		City     string `db:"city"`
//	}
//
//	program, err := projections.Fold[Address]{
//		Name: "shipping", Source: "shop", Topics: []string{"shop.customers"},
//		Apply: func(a *Address, e *projections.Event) (projections.Decision, error) {
//			data, err := projections.Decode[customerMoved](e)
//			a.City = data.State.City
//			return projections.Keep, err
//		},
//	}.Program()
//
// The columns are the fields of S with a db tag: the column's name, then, after
// commas, "key" for those that make the key, "type=numeric(12,3)" for another type
// than the field's own, "null" where the zero value stands for NULL. A pointer is
// NULL where it is nil.
type Fold[S any] struct {
	Name   string
	Source string
	Topics []string
	// Digest tells versions of the fold apart: change it with what Apply does.
	Digest string
	// Table is the table's name; the projection's where "".
	Table   string
	Indexes []state.Index
	Retain  *state.Retention
	Comment string
	// Key gives the values of the key columns, in the order of S; ok is false for
	// events that concern no row. nil takes the parts of the aggregate's id. It is
	// called for events that are never applied too, from several goroutines.
	//
	// Unless Aligned, all events of one key must come from one partition, that is,
	// belong to one aggregate: different owners would fold one row otherwise.
	Key func(e *Event) (values []any, ok bool)
	// Read, where set, makes of an event what Apply will need, and leaves it in
	// e.Prepared: it runs beside the database, on all processors, so decode there.
	// It is pure, as Key is.
	Read func(e *Event) (any, error)
	// Apply changes the row, in which at least the key is set. It must be a
	// function of the two alone. An error parks the event.
	Apply     func(row *S, e *Event) (Decision, error)
	Upcasters []Upcaster
	Aligned   bool
	// NotFromLatest says why the fold needs every event and not only the latest of
	// each key: "counts events".
	NotFromLatest string
}

// Program makes the Program; the error tells all that is wrong with S.
func (f Fold[S]) Program() (Program, error) {
	if f.Apply == nil {
		return nil, fmt.Errorf("projection %s: a fold needs Apply", f.Name)
	}
	columns, err := columnsOf[S]()
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", f.Name, err)
	}
	table := state.Table{Name: cmp.Or(f.Table, f.Name), Indexes: f.Indexes, Retain: f.Retain, Comment: f.Comment}
	for _, c := range columns {
		table.Columns = append(table.Columns, state.Column{Name: c.name, Type: c.sql, NotNull: !c.null})
		if c.key {
			table.Key = append(table.Key, c.name)
		}
	}
	shape, err := state.Compile(table)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", f.Name, err)
	}
	p := &folder[S]{fold: f, table: table.Name, shape: shape, columns: columns}
	for i, c := range columns {
		if c.key {
			p.keys = append(p.keys, i)
		}
	}
	p.spec = Spec{Name: f.Name, Source: f.Source, Topics: f.Topics, Aligned: f.Aligned, Tables: []state.Table{table},
		Digest: f.Digest, Upcasters: f.Upcasters, NotFromLatest: f.NotFromLatest}
	return p, nil
}

// folder is the Program of a Fold.
type folder[S any] struct {
	fold    Fold[S]
	spec    Spec
	table   string
	shape   *state.Shape
	columns []field
	keys    []int // of columns
}

// foldKey is what Prepare finds out.
type foldKey struct {
	key    state.Key
	values []any
}

var _ Prefetcher = (*folder[struct{}])(nil)

func (p *folder[S]) Spec() Spec { return p.spec }

func (p *folder[S]) Prepare(e *Event) error {
	values, ok, err := p.key(e)
	if err != nil || !ok {
		return err
	}
	if len(values) != len(p.keys) {
		return fmt.Errorf("its key has %d parts, the table's has %d", len(values), len(p.keys))
	}
	k := &foldKey{values: make([]any, len(values))}
	for i, v := range values {
		if k.values[i], err = p.shape.Coerce(p.keys[i], v); err != nil {
			return err
		}
	}
	if k.key, err = p.shape.Key(k.values...); err != nil {
		return err
	}
	e.row = k
	if p.fold.Read != nil {
		e.Prepared, err = p.fold.Read(e)
	}
	return err
}

func (p *folder[S]) key(e *Event) ([]any, bool, error) {
	if p.fold.Key != nil {
		values, ok := p.fold.Key(e)
		return values, ok, nil
	}
	if strings.IndexByte(e.ID.Key, '%') < 0 && strings.IndexByte(e.ID.Key, ',') < 0 {
		return []any{e.ID.Key}, true, nil
	}
	parts, err := event.SplitKey(e.ID.Key)
	if err != nil {
		return nil, false, err
	}
	values := make([]any, len(parts))
	for i, part := range parts {
		values[i] = part
	}
	return values, true, nil
}

// Wants names the row.
func (p *folder[S]) Wants(e *Event, want func(table string, key state.Key)) {
	if e.row != nil {
		want(p.table, e.row.key)
	}
}

func (p *folder[S]) Apply(tx *Tx, e *Event) error {
	k := e.row
	if k == nil {
		return nil
	}
	rows := tx.Rows(p.table)
	row, found, err := rows.Get(k.key)
	if err != nil {
		return err
	}
	var s S
	if found {
		err = load(&s, p.columns, row)
	} else {
		err = p.begin(&s, k)
	}
	if err != nil {
		return err
	}
	decision, err := p.fold.Apply(&s, e)
	if err != nil {
		return err
	}
	switch decision {
	case Keep:
		return p.put(rows, &s, k)
	case Remove:
		if !found {
			return nil
		}
		return rows.Delete(k.key)
	case Ignore:
		return nil
	}
	return fmt.Errorf("decision %d is none", decision)
}

// begin sets the key of a row that is not there yet.
func (p *folder[S]) begin(s *S, k *foldKey) error {
	row := make(state.Row, len(p.columns))
	for i, at := range p.keys {
		row[at] = k.values[i]
	}
	return load(s, p.columns, row)
}

func (p *folder[S]) put(rows state.Rows, s *S, k *foldKey) error {
	row := store(s, p.columns)
	for i, at := range p.keys {
		row[at] = k.values[i] // Apply does not move rows
	}
	return rows.Put(row)
}
