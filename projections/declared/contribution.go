package declared

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/money"
	"banyan/projections"
	"banyan/projections/state"
)

// source is a topic that feeds a group or a window, and what it adds.
type source struct {
	node    document.Node
	number  int // in the group
	topic   string
	ofState bool
	types   map[string]bool // nil for all
	each    *formula
	when    *formula
	values  []value
	groupBy []*formula
	inputs  []input // by measure
	late    bool
}

type value struct {
	name string
	*formula
}

// delta is what one event adds to a group, or what an aggregate adds as it is.
type delta struct {
	by    []any
	rows  int64
	cells []cell
	key   string // of the group, as JSON
}

// measures are the columns of a group or a window, and its key.
type measures struct {
	by   []*column
	list []*measure
}

func (p *source) skips(eventType string) bool { return p.types != nil && !p.types[eventType] }

// contributions evaluates each contribution of an event: find gives the delta of
// its group, to which it is added.
func (m *measures) contributions(s *scope, p *source, find func(by []any) (*delta, error)) error {
	items := []any{nil}
	if p.each != nil {
		v, err := p.each.Eval(s)
		if err != nil {
			return err
		}
		list, ok := v.([]any)
		if !ok && v != nil {
			return fmt.Errorf("each: %s is not a list", describe(v))
		}
		items = list
	}
	for _, item := range items {
		s.item, s.named = item, s.named[:0]
		for _, v := range p.values {
			got, err := v.Eval(s)
			if err != nil {
				return fmt.Errorf("values.%s: %w", v.name, err)
			}
			s.named = append(s.named, named{v.name, got})
		}
		if p.when != nil {
			holds, err := p.when.Truth(s)
			if err != nil {
				return fmt.Errorf("when: %w", err)
			}
			if !holds {
				continue
			}
		}
		by, err := m.groupOf(s, p)
		if err != nil {
			return err
		}
		d, err := find(by)
		if err != nil {
			return err
		}
		d.rows++
		for i, one := range m.list {
			if err := one.add(s, p.inputs[i], &d.cells[i]); err != nil {
				return fmt.Errorf("measure %s: %w", one.name, err)
			}
		}
	}
	return nil
}

func (m *measures) groupOf(s *scope, p *source) ([]any, error) {
	by := make([]any, len(m.by))
	for i, c := range m.by {
		v, err := p.groupBy[i].Eval(s)
		if err != nil {
			return nil, fmt.Errorf("by.%s: %w", c.name, err)
		}
		if by[i], err = c.class.convert(v); err != nil {
			return nil, fmt.Errorf("by.%s: %w", c.name, err)
		}
		if by[i] == nil {
			return nil, fmt.Errorf("by.%s: is NULL, and a group has a key: say %s ?? a value, or leave it out with when", c.name, p.groupBy[i].Source())
		}
		if d, ok := by[i].(money.Decimal); ok {
			// 1.0 and 1.00 are one group.
			if by[i], err = toDecimal(plainNumber(d.String())); err != nil {
				return nil, err
			}
		}
	}
	return by, nil
}

// gather adds up what an event contributes, by group.
func (m *measures) gather(s *scope, p *source) (map[string]*delta, error) {
	out := map[string]*delta{}
	var last *delta
	err := m.contributions(s, p, func(by []any) (*delta, error) {
		// The lines of an order mostly have one day.
		if last != nil && slices.EqualFunc(last.by, by, equalKeys) {
			return last, nil
		}
		key, err := m.text(by)
		if err != nil {
			return nil, err
		}
		if last = out[key]; last == nil {
			last = &delta{by: by, cells: make([]cell, len(m.list)), key: key}
			out[key] = last
		}
		return last, nil
	})
	for _, d := range out {
		for i := range d.cells {
			d.cells[i].settle()
		}
	}
	return out, err
}

func (m *measures) merge(to, add *delta, sign int64) error {
	to.rows += sign * add.rows
	for i, one := range m.list {
		if err := one.combine(&to.cells[i], &add.cells[i], sign); err != nil {
			return fmt.Errorf("measure %s: %w", one.name, err)
		}
	}
	return nil
}

// text writes the key of a group as JSON.
func (m *measures) text(by []any) (string, error) {
	out := []byte{'['}
	for i, c := range m.by {
		if i > 0 {
			out = append(out, ',')
		}
		v, err := c.class.expressed(by[i])
		if err != nil {
			return "", err
		}
		if out, err = expression.AppendJSON(out, v); err != nil {
			return "", err
		}
	}
	return string(append(out, ']')), nil
}

// encode writes what an aggregate contributes; equal contributions give equal
// texts.
func (m *measures) encode(all map[string]*delta) string {
	out := []byte{'['}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		d := all[key]
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(out, `{"by":`...), key...)
		out = append(strconv.AppendInt(append(out, `,"n":`...), d.rows, 10), `,"m":[`...)
		for i := range d.cells {
			if i > 0 {
				out = append(out, ',')
			}
			out = d.cells[i].append(out)
		}
		out = append(out, "]}"...)
	}
	return string(append(out, ']'))
}

// append writes [count, sum, {value: count}] without what is nothing at its end.
func (c *cell) append(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, '['), c.n, 10)
	if c.sum.Sign() != 0 || len(c.values) > 0 {
		dst = append(append(append(dst, `,"`...), c.sum.String()...), '"')
	}
	for i, v := range slices.Sorted(maps.Keys(c.values)) {
		dst = append(dst, ',')
		if i == 0 {
			dst = append(dst, '{')
		}
		dst = strconv.AppendInt(append(expression.AppendText(dst, v), ':'), c.values[v], 10)
	}
	if len(c.values) > 0 {
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// decode reads what encode wrote.
func (m *measures) decode(text string) (map[string]*delta, error) {
	var list []struct {
		By json.RawMessage     `json:"by"`
		N  int64               `json:"n"`
		M  [][]json.RawMessage `json:"m"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("read what an aggregate has contributed: %w", err)
	}
	out := map[string]*delta{}
	for _, one := range list {
		d := &delta{rows: one.N, key: string(one.By), cells: make([]cell, len(m.list))}
		v, err := expression.FromJSON(one.By)
		if err != nil {
			return nil, err
		}
		values, _ := v.([]any)
		d.by = make([]any, len(m.by))
		for i, c := range m.by {
			if i >= len(values) {
				return nil, fmt.Errorf("what an aggregate has contributed has a key of %d columns, want %d", len(values), len(m.by))
			}
			if d.by[i], err = c.class.convert(values[i]); err != nil {
				return nil, err
			}
		}
		for i := range d.cells {
			if i < len(one.M) {
				if err := d.cells[i].read(one.M[i]); err != nil {
					return nil, err
				}
			}
		}
		out[d.key] = d
	}
	return out, nil
}

func (c *cell) read(parts []json.RawMessage) error {
	targets := []func(json.RawMessage) error{
		func(b json.RawMessage) error { return json.Unmarshal(b, &c.n) },
		func(b json.RawMessage) error {
			var err error
			c.sum, err = money.ParseNumber(strings.Trim(string(b), `"`))
			return err
		},
		func(b json.RawMessage) error { return json.Unmarshal(b, &c.values) },
	}
	for i, b := range parts {
		if i < len(targets) {
			if err := targets[i](b); err != nil {
				return fmt.Errorf("read what an aggregate has contributed: %w", err)
			}
		}
	}
	return nil
}

// addTo adds a delta to the row of its group, which is made or deleted as need
// be. place are the values of the key's columns after those of the group; counts
// is the place of banyan_rows.
func (m *measures) addTo(tx *projections.Tx, r *relation, d *delta, place []any, counts int) error {
	table, err := rows(tx, r)
	if err != nil {
		return err
	}
	key, err := r.shape.Key(append(slices.Clone(d.by), place...)...)
	if err != nil {
		return err
	}
	old, ok, err := table.Get(key)
	if err != nil {
		return err
	}
	row := slices.Clone(old)
	if !ok {
		row = make(state.Row, len(r.table.Columns))
		copy(row, d.by)
		copy(row[len(d.by):], place)
		row[counts] = int64(0)
		for _, one := range m.list {
			one.empty(row)
		}
	}
	n, _ := row[counts].(int64)
	if n += d.rows; n == 0 {
		return table.Delete(key)
	}
	row[counts] = n
	for i, one := range m.list {
		if err := one.write(row, &d.cells[i]); err != nil {
			return err
		}
	}
	return table.Put(row)
}

// addFiner counts the values of the distinct measures. fresh is told how many
// values came (or went) that were not there (or are there no more).
func (m *measures) addFiner(tx *projections.Tx, d *delta, place []any, fresh func(m *measure, n int64)) error {
	for i, one := range m.list {
		if one.finer == nil {
			continue
		}
		table, err := rows(tx, one.finer)
		if err != nil {
			return err
		}
		for _, v := range slices.Sorted(maps.Keys(d.cells[i].values)) {
			key, err := one.finer.shape.Key(append(append(slices.Clone(d.by), place...), v)...)
			if err != nil {
				return err
			}
			old, ok, err := table.Get(key)
			if err != nil {
				return err
			}
			n := d.cells[i].values[v]
			if ok {
				had, _ := old[len(old)-1].(int64)
				n += had
			}
			switch {
			case n == 0 && ok:
				fresh(one, -1)
				err = table.Delete(key)
			case n != 0:
				if !ok {
					fresh(one, 1)
				}
				err = table.Put(append(append(append(state.Row{}, d.by...), place...), v, n))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
