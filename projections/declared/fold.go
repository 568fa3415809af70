package declared

import (
	"fmt"
	"slices"
	"strconv"

	"banyan/internal/document"
	"banyan/money"
	"banyan/projections"
	"banyan/projections/state"
)

// fold is a table: a row per aggregate, or per item of a list in it.
type fold struct {
	*relation
	node    document.Node
	columns []*column
	topics  []string
	pick    selector
	each    *formula
	when    *formula
	// aligned: one owner, so any key is right.
	aligned bool
	// log: keyed by the event's id; rows belong to events and stay.
	log bool
	// items is the hidden table of the keys of each aggregate's rows, with each.
	items *relation
	old   bool // some expression names old
	late  bool // some column or condition needs rows
}

// aggregates is the topic of the aggregates whose keys are those of the rows, ""
// where they are not, or need not be.
func (f *fold) aggregates() string {
	if f.aligned || f.log || f.each != nil {
		return ""
	}
	return f.topics[0]
}

// foldWork is what an event does to a table.
type foldWork struct {
	delete bool
	rows   []foldRow
	// keys are the keys of the rows as they are kept in items, where that is
	// known without rows.
	keys  []byte
	owner state.Key // of the aggregate's row in items
	gone  state.Key // of the row to delete
	one   [1]foldRow
}

type foldRow struct {
	row  state.Row // without the columns that need rows
	key  state.Key // where old is needed
	item any
}

func (f *fold) name() string        { return "table " + f.relation.name }
func (f *fold) at() document.Node   { return f.node }
func (f *fold) skips(t string) bool { return f.pick.skips(t) }

func (f *fold) prepare(s *scope) (any, bool, error) {
	act, err := f.pick.of(s.e, s.removal && !f.log)
	if err != nil || act == ignore {
		return nil, false, err
	}
	w := &foldWork{delete: act == remove}
	if f.items != nil {
		if w.owner, err = f.items.shape.Key(s.e.ID.Aggregate, s.e.Key()); err != nil {
			return nil, false, err
		}
		if w.delete {
			return w, false, nil
		}
		return f.prepareItems(s, w)
	}
	if w.delete {
		w.gone, err = f.goneKey(s)
		return w, false, err
	}
	keep := true
	if f.when != nil && !f.when.late {
		if keep, err = f.when.Truth(s); err != nil {
			return nil, false, err
		}
	}
	if !keep {
		w.delete = true
		w.gone, err = f.goneKey(s)
		return w, false, err
	}
	row, err := f.early(s)
	if err != nil {
		return nil, false, err
	}
	one := foldRow{row: row}
	if f.old || f.late {
		if one.key, err = f.shape.KeyOf(row); err != nil {
			return nil, false, err
		}
		f.wishes(s)
	}
	w.one[0] = one
	w.rows = w.one[:]
	return w, f.late, nil
}

// early evaluates the columns that need no rows, and proves the key.
func (f *fold) early(s *scope) (state.Row, error) {
	row := make(state.Row, len(f.columns))
	for i, c := range f.columns {
		if c.value.late {
			continue
		}
		if err := f.set(s, row, i); err != nil {
			return nil, err
		}
	}
	if f.aligned || f.log {
		return row, nil
	}
	return row, f.prove(s, row)
}

func (f *fold) set(s *scope, row state.Row, i int) error {
	c := f.columns[i]
	v, err := c.value.Eval(s)
	if err != nil {
		return fmt.Errorf("column %s: %w", c.name, err)
	}
	if row[i], err = c.class.convert(v); err != nil {
		return fmt.Errorf("column %s: %w", c.name, err)
	}
	return nil
}

// prove sees to it that the row is the aggregate's own, so that no other owner
// can write it. Where the event has no state any more the key is taken from it.
func (f *fold) prove(s *scope, row state.Row) error {
	parts, err := f.ownParts(s)
	if err != nil {
		return err
	}
	for i, part := range parts {
		at := f.key[i]
		if isPart(row[at], part) {
			continue
		}
		own, err := f.classes[at].convert(part)
		if err != nil {
			return fmt.Errorf("column %s, from the aggregate's key %s: %w", f.columns[at].name, s.e.Key(), err)
		}
		if row[at] == nil && s.removal {
			row[at] = own
			continue
		}
		if !equalKeys(row[at], own) {
			return fmt.Errorf("column %s: %s is not the aggregate's key, %s: in partitioned order a table's key begins with that of the aggregate; "+
				"count by other keys in groups, or say order: aligned", f.columns[at].name, describeColumn(f.classes[at], row[at]), s.e.ID.Subject())
		}
	}
	return nil
}

// isPart is the quick way for the keys that nearly all aggregates have.
func isPart(v any, part string) bool {
	switch v := v.(type) {
	case string:
		return v == part
	case int64:
		var text [20]byte
		return string(strconv.AppendInt(text[:0], v, 10)) == part
	}
	return false
}

// ownParts gives the parts of the aggregate's key, which are the first columns of
// the table's.
func (f *fold) ownParts(s *scope) ([]string, error) {
	parts, err := s.keyParts()
	if err != nil {
		return nil, err
	}
	if len(parts) > len(f.key) || f.items == nil && len(parts) != len(f.key) {
		return nil, fmt.Errorf("the aggregate's key %s has %d parts, the table's key %d columns: in partitioned order they are the same; "+
			"count by other keys in groups, or say order: aligned", s.e.Key(), len(parts), len(f.key))
	}
	return parts, nil
}

// ownKey gives the aggregate's key as values of the first columns of the key.
func (f *fold) ownKey(s *scope) ([]any, error) {
	parts, err := f.ownParts(s)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(parts))
	for i, part := range parts {
		at := f.key[i]
		if out[i], err = f.classes[at].convert(part); err != nil {
			return nil, fmt.Errorf("column %s, from the aggregate's key %s: %w", f.columns[at].name, s.e.Key(), err)
		}
	}
	return out, nil
}

func equalKeys(a, b any) bool {
	if d, ok := a.(money.Decimal); ok {
		e, ok := b.(money.Decimal)
		return ok && d.Cmp(e) == 0
	}
	return same(a, b)
}

// goneKey gives the key of the row that goes: that of the aggregate, or, in
// aligned order, what the key's expressions say of the last state.
func (f *fold) goneKey(s *scope) (state.Key, error) {
	if !f.aligned {
		own, err := f.ownKey(s)
		if err != nil {
			return "", err
		}
		return f.shape.Key(own...)
	}
	if s.removal {
		if err := s.lastAsState(); err != nil {
			return "", err
		}
	}
	row := make(state.Row, len(f.columns))
	for _, at := range f.key {
		if err := f.set(s, row, at); err != nil {
			return "", err
		}
	}
	return f.shape.KeyOf(row)
}

// wishes notes which rows the late columns will look up.
func (f *fold) wishes(s *scope) {
	for _, c := range f.columns {
		s.foresee(c.value)
	}
	s.foresee(f.when)
}

func (f *fold) keyText(row state.Row) string {
	values := make([]any, len(f.key))
	for i, at := range f.key {
		values[i] = row[at]
	}
	b, err := f.appendKey(nil, values)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (f *fold) wants(work any, want func(string, state.Key)) {
	w := work.(*foldWork)
	if f.items != nil {
		want(f.items.name, w.owner)
	}
	if f.old {
		for _, r := range w.rows {
			want(f.relation.name, r.key)
		}
	}
}

func (f *fold) apply(tx *projections.Tx, s *scope, work any) error {
	w := work.(*foldWork)
	table, err := rows(tx, f.relation)
	if err != nil {
		return err
	}
	if f.items != nil {
		return f.applyItems(tx, s, table, w)
	}
	if w.delete {
		return table.Delete(w.gone)
	}
	r := w.rows[0]
	if !f.late {
		return table.Put(r.row)
	}
	row, err := f.finish(s, table, r)
	if err != nil {
		return err
	}
	if row == nil {
		return table.Delete(r.key)
	}
	return table.Put(row)
}

// finish evaluates what needs rows. nil is a row that is not to be there.
func (f *fold) finish(s *scope, table state.Rows, r foldRow) (state.Row, error) {
	s.item = r.item
	if f.old {
		old, ok, err := table.Get(r.key)
		if err != nil {
			return nil, err
		}
		s.old = nil
		if ok {
			s.old = &oldRow{f.relation, old}
		}
	}
	if f.when != nil && f.when.late {
		holds, err := f.when.Truth(s)
		if err != nil || !holds {
			return nil, err
		}
	}
	row := slices.Clone(r.row)
	for i, c := range f.columns {
		if c.value.late {
			if err := f.set(s, row, i); err != nil {
				return nil, err
			}
		}
	}
	return row, nil
}

func describeColumn(c class, v any) string {
	seen, err := c.expressed(v)
	if err != nil {
		return err.Error()
	}
	return describe(seen)
}
