package declared

import (
	"fmt"

	"banyan/projections"
	"banyan/projections/state"
)

// prepareItems makes a row of each item of the list.
func (f *fold) prepareItems(s *scope, w *foldWork) (any, bool, error) {
	v, err := f.each.Eval(s)
	if err != nil {
		return nil, false, err
	}
	list, ok := v.([]any)
	if !ok && v != nil {
		return nil, false, fmt.Errorf("each: %s is not a list", describe(v))
	}
	seen := map[state.Key]bool{}
	for _, item := range list {
		s.item = item
		if f.when != nil && !f.when.late {
			holds, err := f.when.Truth(s)
			if err != nil {
				return nil, false, err
			}
			if !holds {
				continue
			}
		}
		row, err := f.early(s)
		if err != nil {
			return nil, false, err
		}
		key, err := f.shape.KeyOf(row)
		if err != nil {
			return nil, false, err
		}
		if seen[key] {
			return nil, false, fmt.Errorf("each: two items of the list have the same key: %s", f.keyText(row))
		}
		seen[key] = true
		w.rows = append(w.rows, foldRow{row, key, item})
		if f.late {
			f.wishes(s)
		}
	}
	if f.when == nil || !f.when.late {
		if w.keys, err = f.keysOf(w.rows); err != nil {
			return nil, false, err
		}
	}
	return w, f.late, nil
}

// applyItems writes the rows of the list, and deletes those that were in it
// before.
func (f *fold) applyItems(tx *projections.Tx, s *scope, table state.Rows, w *foldWork) error {
	items, err := rows(tx, f.items)
	if err != nil {
		return err
	}
	kept, had, err := items.Get(w.owner)
	if err != nil {
		return err
	}
	stay := map[state.Key]bool{}
	var there []foldRow
	for _, r := range w.rows {
		row := r.row
		if f.late {
			if row, err = f.finish(s, table, r); err != nil {
				return err
			}
			if row == nil {
				continue
			}
		}
		if err := table.Put(row); err != nil {
			return err
		}
		stay[r.key] = true
		there = append(there, r)
	}
	keys := w.keys
	if keys == nil {
		if keys, err = f.keysOf(there); err != nil {
			return err
		}
	}
	if had && kept[2] == string(keys) {
		return nil
	}
	if had {
		text, _ := kept[2].(string)
		if err := f.sweep(table, []byte(text), stay); err != nil {
			return err
		}
	}
	if len(there) == 0 {
		return items.Delete(w.owner)
	}
	owner, err := f.items.shape.Parse(w.owner)
	if err != nil {
		return err
	}
	return items.Put(state.Row{owner[0], owner[1], string(keys)})
}

// sweep deletes the rows of keys that do not stay.
func (f *fold) sweep(table state.Rows, keys []byte, stay map[state.Key]bool) error {
	list, err := rawList(keys)
	if err != nil {
		return fmt.Errorf("read the keys of %s: %w", f.items.name, err)
	}
	for _, text := range list {
		values, err := f.readKey(text)
		if err != nil {
			return err
		}
		key, err := f.shape.Key(values...)
		if err != nil {
			return err
		}
		if !stay[key] {
			if err := table.Delete(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// keysOf writes the keys of rows as items keeps them.
func (f *fold) keysOf(of []foldRow) ([]byte, error) {
	out := []byte{'['}
	values := make([]any, len(f.key))
	for n, r := range of {
		if n > 0 {
			out = append(out, ',')
		}
		for i, at := range f.key {
			values[i] = r.row[at]
		}
		var err error
		if out, err = f.appendKey(out, values); err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

// itemsTable is the hidden table of a fold with each.
func itemsTable(of string) state.Table {
	return state.Table{Name: of + "__items", Hidden: true, Comment: "the keys of the rows that each aggregate has in " + of,
		Key: []string{"aggregate", "key"}, Columns: []state.Column{
			{Name: "aggregate", Type: "text", NotNull: true}, {Name: "key", Type: "text", NotNull: true}, {Name: "items", Type: "text", NotNull: true}}}
}
