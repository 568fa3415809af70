package declared

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"banyan/internal/document"
	"banyan/projections"
	"banyan/projections/state"
)

// group is counts and sums by any key. Each partition keeps partial results of
// its own, which only its owner writes; the view under the group's name adds
// them up. In aligned order there is one partial result.
type group struct {
	*measures
	node    document.Node
	called  string
	comment string
	parts   *relation // the partial results
	given   *relation // what each aggregate contributes, with of: state
	sources []*source
	aligned bool
}

// groupSource is the step of one topic of a group.
type groupSource struct {
	*source
	of *group
}

// groupWork is what an event does to a group.
type groupWork struct {
	now   map[string]*delta
	text  string    // of now, with of: state
	given state.Key // the aggregate's row there
	keys  []state.Key
}

func (g *groupSource) name() string      { return "group " + g.of.called }
func (g *groupSource) at() document.Node { return g.node }

func (g *groupSource) prepare(s *scope) (any, bool, error) {
	w := &groupWork{}
	var err error
	if g.ofState {
		if w.given, err = g.of.given.shape.Key(int64(g.number), s.e.ID.Aggregate, s.e.Key()); err != nil {
			return nil, false, err
		}
	} else if s.e.Tombstone {
		return nil, false, nil
	}
	if g.late {
		for _, f := range g.groupBy {
			s.foresee(f)
		}
		return w, true, nil
	}
	if err := g.evaluate(s, w); err != nil {
		return nil, false, err
	}
	place := g.of.place(s.e)
	for _, d := range w.now {
		key, err := g.of.parts.shape.Key(append(slices.Clone(d.by), place...)...)
		if err != nil {
			return nil, false, err
		}
		w.keys = append(w.keys, key)
	}
	if !g.ofState && len(w.now) == 0 {
		return nil, false, nil
	}
	return w, false, nil
}

func (g *groupSource) evaluate(s *scope, w *groupWork) error {
	w.now = map[string]*delta{}
	if g.ofState && s.removal {
		return nil
	}
	var err error
	if w.now, err = g.of.gather(s, g.source); err != nil {
		return err
	}
	if g.ofState {
		w.text = g.of.encode(w.now)
	}
	return nil
}

// place is the rest of the key of a partial result: whose it is.
func (g *group) place(e *projections.Event) []any {
	if g.aligned {
		return nil
	}
	return []any{e.Topic, int64(e.Partition)}
}

func (g *groupSource) wants(work any, want func(string, state.Key)) {
	w := work.(*groupWork)
	if g.ofState {
		want(g.of.given.name, w.given)
	}
	for _, key := range w.keys {
		want(g.of.parts.name, key)
	}
}

func (g *groupSource) apply(tx *projections.Tx, s *scope, work any) error {
	w := *work.(*groupWork)
	if g.late {
		if err := g.evaluate(s, &w); err != nil {
			return err
		}
	}
	if g.ofState {
		if done, err := g.replace(tx, &w, s); done || err != nil {
			return err
		}
	}
	place := g.of.place(s.e)
	for _, key := range sortedNames(w.now) {
		d := w.now[key]
		if err := g.of.addFiner(tx, d, place, func(*measure, int64) {}); err != nil {
			return err
		}
		if d.rows == 0 && !slices.ContainsFunc(d.cells, func(c cell) bool { return !c.zero() }) {
			continue
		}
		if err := g.of.addTo(tx, g.of.parts, d, place, len(g.of.by)+len(place)); err != nil {
			return err
		}
	}
	return nil
}

// replace takes back what the aggregate contributed before: w.now becomes the
// difference. done says that there is none.
func (g *groupSource) replace(tx *projections.Tx, w *groupWork, s *scope) (done bool, err error) {
	table, err := rows(tx, g.of.given)
	if err != nil {
		return false, err
	}
	old, ok, err := table.Get(w.given)
	if err != nil {
		return false, err
	}
	before := "[]"
	if ok {
		before, _ = old[3].(string)
	}
	text := w.text
	if text == "" {
		text = "[]"
	}
	if before == text {
		return true, nil
	}
	was, err := g.of.decode(before)
	if err != nil {
		return false, err
	}
	now := make(map[string]*delta, len(w.now))
	for key, d := range w.now {
		// The work may be applied again, after a rollback: it is not changed.
		now[key] = d
		if had := was[key]; had != nil {
			net := &delta{by: d.by, key: key, cells: make([]cell, len(d.cells))}
			if err := g.of.merge(net, d, 1); err != nil {
				return false, err
			}
			if err := g.of.merge(net, had, -1); err != nil {
				return false, err
			}
			now[key] = net
		}
	}
	for key, had := range was {
		if now[key] == nil {
			net := &delta{by: had.by, key: key, cells: make([]cell, len(had.cells))}
			if err := g.of.merge(net, had, -1); err != nil {
				return false, err
			}
			now[key] = net
		}
	}
	w.now = now
	if text == "[]" {
		return false, table.Delete(w.given)
	}
	return false, table.Put(state.Row{int64(g.number), s.e.ID.Aggregate, s.e.Key(), text})
}

// givenTable is the hidden table of what each aggregate contributes.
func givenTable(of string) state.Table {
	return state.Table{Name: of + "__given", Hidden: true, Comment: "what each aggregate contributes to " + of,
		Key: []string{"source", "aggregate", "key"}, Columns: []state.Column{
			{Name: "source", Type: "smallint", NotNull: true}, {Name: "aggregate", Type: "text", NotNull: true},
			{Name: "key", Type: "text", NotNull: true}, {Name: "given", Type: "text", NotNull: true}}}
}

// partsTable keeps the partial results, and gives the measures their cells.
func (g *group) partsTable() state.Table {
	t := state.Table{Name: g.called + "__parts", Hidden: true, Comment: "partial results of " + g.called}
	t.Columns, t.Key = g.keyColumns(g.aligned)
	t.Columns = append(t.Columns, state.Column{Name: "banyan_rows", Type: "bigint", NotNull: true})
	for _, m := range g.list {
		if cells := m.cells(); len(cells) > 0 {
			m.cell = len(t.Columns)
			t.Columns = append(t.Columns, cells...)
		}
	}
	return t
}

// keyColumns are those of the group and of whose partial result it is.
func (m *measures) keyColumns(aligned bool) (columns []state.Column, key []string) {
	for _, c := range m.by {
		columns = append(columns, state.Column{Name: c.name, Type: c.typ, NotNull: true, Comment: c.comment})
		key = append(key, c.name)
	}
	if !aligned {
		columns = append(columns, state.Column{Name: "banyan_topic", Type: "text", NotNull: true}, state.Column{Name: "banyan_partition", Type: "integer", NotNull: true})
		key = append(key, "banyan_topic", "banyan_partition")
	}
	return columns, key
}

// finerTable keeps how often each value of a distinct measure is there.
func (m *measures) finerTable(of string, one *measure, columns []state.Column, key []string) state.Table {
	t := state.Table{Name: of + "__" + one.name, Hidden: true, Comment: "the values of " + one.name + " in " + of,
		Columns: append(slices.Clone(columns), state.Column{Name: "banyan_value", Type: "text", NotNull: true}, state.Column{Name: "banyan_times", Type: "bigint", NotNull: true}),
		Key:     append(slices.Clone(key), "banyan_value")}
	return t
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// view adds up the partial results.
func (g *group) view() projections.View {
	var by, columns, joins []string
	for _, c := range g.by {
		by = append(by, quote(c.name))
	}
	list := strings.Join(by, ", ")
	inner := slices.Clone(by)
	outer := make([]string, len(by))
	for i := range by {
		outer[i] = "p." + by[i]
	}
	for i, m := range g.list {
		name := quote(m.name)
		switch m.kind {
		case countOf:
			columns = append(columns, fmt.Sprintf("sum(%s)::%s AS %s", name, m.typ, name))
		case sumOf:
			cast := ""
			if m.class == classInt {
				cast = "::" + m.typ
			}
			columns = append(columns, fmt.Sprintf("sum(%s)%s AS %s", name, cast, name))
		case avgOf:
			columns = append(columns, fmt.Sprintf("(sum(%s) / nullif(sum(%s), 0))::%s AS %s", quote("banyan_sum_"+m.name), quote("banyan_count_"+m.name), m.typ, name))
		case minOf, maxOf:
			columns = append(columns, fmt.Sprintf("%s(%s) AS %s", m.kind, name, name))
		case distinctOf:
			alias := fmt.Sprintf("d%d", i)
			joins = append(joins, fmt.Sprintf(" LEFT JOIN (SELECT %s, count(DISTINCT banyan_value)::%s AS banyan_distinct FROM %s GROUP BY %s) %s USING (%s)",
				list, m.typ, quote(m.finer.name), list, alias, list))
			outer = append(outer, fmt.Sprintf("coalesce(%s.banyan_distinct, 0)::%s AS %s", alias, m.typ, name))
			continue
		}
		outer = append(outer, "p."+name)
	}
	inner = append(inner, columns...)
	sums := fmt.Sprintf("SELECT %s FROM %s GROUP BY %s", strings.Join(inner, ", "), quote(g.parts.name), list)
	if len(joins) == 0 {
		return projections.View{Name: g.called, SQL: sums, Comment: g.comment}
	}
	return projections.View{Name: g.called, SQL: fmt.Sprintf("SELECT %s FROM (%s) p%s", strings.Join(outer, ", "), sums, strings.Join(joins, "")), Comment: g.comment}
}
