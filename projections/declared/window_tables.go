package declared

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/expression"
	"banyan/projections"
	"banyan/projections/state"
)

// tables are those of the window, the rows' first; measures get their cells.
func (w *window) tables(indexes []state.Index, retention time.Duration) []state.Table {
	columns, key := w.keyColumns(true)
	start := state.Column{Name: "window_start", Type: "timestamptz", NotNull: true}
	columns, key = append(columns, start), append(key, "window_start")
	t := state.Table{Name: w.called + "__windows", Hidden: true, Comment: "windows of " + w.called, Key: key, Indexes: indexes}
	t.Columns = append(slices.Clone(columns), state.Column{Name: "window_end", Type: "timestamptz", NotNull: true},
		state.Column{Name: "banyan_rows", Type: "bigint", NotNull: true}, state.Column{Name: "banyan_closed", Type: "boolean", NotNull: true},
		state.Column{Name: "alerted_at", Type: "timestamptz"})
	if retention > 0 {
		t.Retain = &state.Retention{Column: "window_end", For: retention}
	}
	all := []state.Table{{}}
	for _, m := range w.list {
		m.cell = len(t.Columns)
		if m.kind == distinctOf {
			t.Columns = append(t.Columns, state.Column{Name: m.name, Type: m.typ, NotNull: true, Comment: m.comment})
			finer := w.finerTable(w.called, m, columns, key)
			m.finer = newRelation(finer)
			all = append(all, finer)
			continue
		}
		t.Columns = append(t.Columns, m.cells()...)
	}
	all[0] = t
	w.rows = newRelation(t)
	more := func(r **relation, t state.Table) {
		*r = newRelation(t)
		all = append(all, t)
	}
	if w.time != nil {
		more(&w.lates, state.Table{Name: w.called + "_late", Comment: "events that came too late for " + w.called, Key: []string{"window_start"}, Columns: []state.Column{start,
			{Name: "window_end", Type: "timestamptz", NotNull: true}, {Name: "events", Type: "bigint", NotNull: true}, {Name: "last_event", Type: "text", NotNull: true}}})
		more(&w.clock, state.Table{Name: w.called + "__clock", Hidden: true, Comment: "the business time of " + w.called, Key: []string{"one"}, Columns: []state.Column{
			{Name: "one", Type: "boolean", NotNull: true}, {Name: "now", Type: "timestamptz", NotNull: true}, {Name: "dues", Type: "text", NotNull: true}}})
	}
	if w.onClose || len(w.atClose) > 0 {
		more(&w.due, state.Table{Name: w.called + "__due", Hidden: true, Comment: "when windows of " + w.called + " are over", Key: []string{"over_at"}, Columns: []state.Column{
			{Name: "over_at", Type: "timestamptz", NotNull: true}, {Name: "windows", Type: "bigint", NotNull: true}}})
		more(&w.chain, state.Table{Name: w.called + "__open", Hidden: true, Comment: "which windows of " + w.called + " are over when", Key: []string{"over_at", "n"}, Columns: []state.Column{
			{Name: "over_at", Type: "timestamptz", NotNull: true}, {Name: "n", Type: "bigint", NotNull: true}, {Name: "key", Type: "text", NotNull: true}}})
	}
	if w.pause > 0 {
		columns, key := w.keyColumns(true)
		more(&w.sessions, state.Table{Name: w.called + "__sessions", Hidden: true, Comment: "the latest sessions of each key of " + w.called, Key: key,
			Columns: append(columns, state.Column{Name: "sessions", Type: "text", NotNull: true})})
	}
	return all
}

// views are what readers see of the windows.
func (w *window) views() []projections.View {
	var columns []string
	for _, c := range w.by {
		columns = append(columns, quote(c.name))
	}
	columns = append(columns, "window_start", "window_end")
	for _, m := range w.list {
		name := quote(m.name)
		if m.kind == avgOf {
			columns = append(columns, fmt.Sprintf("(%s / nullif(%s, 0))::%s AS %s", quote("banyan_sum_"+m.name), quote("banyan_count_"+m.name), m.typ, name))
			continue
		}
		columns = append(columns, name)
	}
	if w.having != nil {
		columns = append(columns, "alerted_at")
	}
	query := "SELECT " + strings.Join(columns, ", ") + " FROM " + quote(w.rows.name)
	out := []projections.View{{Name: w.called, SQL: query, Comment: w.comment}}
	if w.having != nil {
		out = append(out, projections.View{Name: w.called + "_alerts", SQL: query + " WHERE alerted_at IS NOT NULL", Comment: "where " + w.having.Source()})
	}
	return out
}

// havingTypes are what the condition and effects of a window may name.
func (w *window) havingTypes() map[string]expression.Type {
	out := map[string]expression.Type{"window_start": {Kind: expression.Time}, "window_end": {Kind: expression.Time}, "alerted_at": {Kind: expression.Time}}
	for _, c := range w.by {
		out[c.name] = expression.Type{Kind: c.class.kind()}
	}
	for _, m := range w.list {
		if m.kind != avgOf {
			out[m.name] = expression.Type{Kind: m.class.kind()}
		}
	}
	return out
}
