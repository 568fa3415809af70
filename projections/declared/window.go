package declared

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/projections"
	"banyan/projections/state"
)

// window is counts and sums by any key and span of time. There is one owner, who
// sees events in the order of commits, so all its rows are its own.
type window struct {
	*measures
	*source
	called  string
	comment string
	rows    *relation
	lates   *relation
	// clock keeps the greatest business time seen, and when windows are over; nil
	// for commit time, whose clock is the stream's.
	clock *relation
	// due and chain say which windows are over when, where an effect or alert
	// waits for that; nil otherwise.
	due, chain *relation
	sessions   *relation // the open sessions of each key

	size, every, pause, grace time.Duration
	time                      *formula
	late                      string // drop, add, park
	having                    *formula
	onClose                   bool // having is asked at the end
	atEarly, atClose          []*effect
	timer                     string
	words                     vocabulary // of its condition and effects
}

// Places of the columns of a window's row behind the key's.
const (
	afterStart = iota // window_end
	afterRows         // banyan_rows
	afterClosed
	afterAlerted
	windowColumns
)

// windowWork is what an event adds to windows.
type windowWork struct {
	at    time.Time // business time
	adds  []*delta
	given bool // adds is computed
}

func (w *window) name() string      { return "window " + w.called }
func (w *window) at() document.Node { return w.node }

func (w *window) prepare(s *scope) (any, bool, error) {
	if s.e.Tombstone {
		return nil, false, nil
	}
	work := &windowWork{}
	if w.time != nil {
		v, err := w.time.Eval(s)
		if err != nil {
			return nil, false, fmt.Errorf("time: %w", err)
		}
		if v == nil {
			return nil, false, errors.New("time: is NULL, so the event belongs to no window")
		}
		if work.at, err = toTime(v); err != nil {
			return nil, false, fmt.Errorf("time: %w", err)
		}
	}
	if w.source.late {
		for _, f := range w.groupBy {
			s.foresee(f)
		}
		return work, true, nil
	}
	if err := w.evaluate(s, work); err != nil {
		return nil, false, err
	}
	return work, false, nil
}

func (w *window) evaluate(s *scope, work *windowWork) error {
	all, err := w.gather(s, w.source)
	if err != nil {
		return err
	}
	work.adds, work.given = nil, true
	for _, key := range sortedNames(all) {
		work.adds = append(work.adds, all[key])
	}
	return nil
}

func (w *window) wants(work any, want func(string, state.Key)) {
	x := work.(*windowWork)
	if !x.given || w.pause > 0 || w.time == nil {
		return
	}
	for _, d := range x.adds {
		for _, start := range w.starts(x.at) {
			if key, err := w.rows.shape.Key(append(slices.Clone(d.by), start)...); err == nil {
				want(w.rows.name, key)
			}
		}
	}
}

// starts are the begins of the windows that a time lies in, the earliest first.
func (w *window) starts(t time.Time) []time.Time {
	step := w.every
	if step == 0 {
		step = w.size
	}
	last := floor(t, step)
	var out []time.Time
	for start := last; start.Add(w.size).After(t); start = start.Add(-step) {
		out = append(out, start)
	}
	slices.Reverse(out)
	return out
}

// floor gives the multiple of step since 1970 UTC at or before a time.
func floor(t time.Time, step time.Duration) time.Time {
	us, n := t.UnixMicro(), step.Microseconds()
	rest := us % n
	if rest < 0 {
		rest += n
	}
	return time.UnixMicro(us - rest).UTC()
}

func (w *window) apply(tx *projections.Tx, s *scope, work any) error {
	x := *work.(*windowWork)
	if w.source.late {
		if err := w.evaluate(s, &x); err != nil {
			return err
		}
	}
	now := tx.StreamTime.UTC().Truncate(time.Microsecond)
	if w.time == nil {
		x.at = now
	} else {
		var err error
		if now, err = w.tick(tx, s, x.at); err != nil {
			return err
		}
	}
	for _, d := range x.adds {
		if w.pause > 0 {
			if err := w.addToSession(tx, s, d, x.at, now); err != nil {
				return err
			}
			continue
		}
		for _, start := range w.starts(x.at) {
			end := start.Add(w.size)
			skip, err := w.tooLate(tx, s, start, end, now)
			if err != nil {
				return err
			}
			if skip {
				continue
			}
			if err := w.addTo(tx, s, d, start, end); err != nil {
				return err
			}
		}
	}
	return nil
}

// tooLate counts a late event, and says whether it is left out.
func (w *window) tooLate(tx *projections.Tx, s *scope, start, end, now time.Time) (bool, error) {
	if w.time == nil || end.Add(w.grace).After(now) {
		return false, nil
	}
	if w.late == "park" {
		return false, fmt.Errorf("the event is late: its window ended at %s, and %s has been seen", end.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	table, err := rows(tx, w.lates)
	if err != nil {
		return false, err
	}
	key, err := w.lates.shape.Key(start)
	if err != nil {
		return false, err
	}
	old, ok, err := table.Get(key)
	if err != nil {
		return false, err
	}
	n := int64(1)
	if ok {
		had, _ := old[2].(int64)
		n += had
	}
	return w.late != "add", table.Put(state.Row{start, end, n, s.e.ID.String()})
}

// addTo adds to the row of one window, which is made if need be.
func (w *window) addTo(tx *projections.Tx, s *scope, d *delta, start, end time.Time) error {
	table, err := rows(tx, w.rows)
	if err != nil {
		return err
	}
	key, err := w.rows.shape.Key(append(slices.Clone(d.by), start)...)
	if err != nil {
		return err
	}
	old, ok, err := table.Get(key)
	if err != nil {
		return err
	}
	row := slices.Clone(old)
	if !ok {
		row = w.newRow(d.by, start, end)
	}
	if err := w.add(tx, row, d, start); err != nil {
		return err
	}
	if err := w.early(tx, s, row); err != nil {
		return err
	}
	if err := table.Put(row); err != nil {
		return err
	}
	if ok {
		return nil
	}
	return w.remember(tx, row, end.Add(w.grace))
}

func (w *window) newRow(by []any, start, end time.Time) state.Row {
	row := make(state.Row, len(w.rows.table.Columns))
	k := len(by) + 1
	copy(row, by)
	row[len(by)] = start
	row[k+afterStart], row[k+afterRows], row[k+afterClosed] = end, int64(0), false
	for _, m := range w.list {
		m.empty(row)
	}
	return row
}

func (w *window) add(tx *projections.Tx, row state.Row, d *delta, start time.Time) error {
	k := len(d.by) + 1
	n, _ := row[k+afterRows].(int64)
	row[k+afterRows] = n + d.rows
	for i, m := range w.list {
		if err := m.write(row, &d.cells[i]); err != nil {
			return err
		}
	}
	return w.addFiner(tx, d, []any{start}, func(m *measure, n int64) {
		had, _ := row[m.cell].(int64)
		row[m.cell] = had + n
	})
}

// early asks the condition at an event, and promises effects when it first holds.
func (w *window) early(tx *projections.Tx, s *scope, row state.Row) error {
	if w.having == nil || w.onClose {
		return nil
	}
	return w.alert(tx, s, row, w.atEarly)
}

// alert asks the condition. The row is the caller's own.
func (w *window) alert(tx *projections.Tx, s *scope, row state.Row, promise []*effect) error {
	at := len(w.by) + 1 + afterAlerted
	if row[at] != nil {
		return nil
	}
	if err := w.show(s, row); err != nil {
		return err
	}
	holds, err := w.having.Truth(s)
	if err != nil {
		return fmt.Errorf("having: %w", err)
	}
	if !holds {
		return nil
	}
	row[at] = tx.StreamTime.UTC().Truncate(time.Microsecond)
	return w.promise(tx, s, row, promise)
}

func (w *window) promise(tx *projections.Tx, s *scope, row state.Row, effects []*effect) error {
	if err := w.show(s, row); err != nil {
		return err
	}
	for _, e := range effects {
		if err := e.promise(tx, s); err != nil {
			return err
		}
	}
	return nil
}

// show gives expressions the row's columns.
func (w *window) show(s *scope, row state.Row) error {
	s.named = s.named[:0]
	k := len(w.by)
	for i, c := range w.by {
		v, err := c.class.expressed(row[i])
		if err != nil {
			return err
		}
		s.named = append(s.named, named{c.name, v})
	}
	s.named = append(s.named, named{"window_start", row[k]}, named{"window_end", row[k+1+afterStart]}, named{"alerted_at", row[k+1+afterAlerted]})
	for _, m := range w.list {
		if m.kind == avgOf {
			continue
		}
		v, err := m.result(row)
		if err != nil {
			return err
		}
		s.named = append(s.named, named{m.name, v})
	}
	return nil
}

// remember notes when a window will be over.
func (w *window) remember(tx *projections.Tx, row state.Row, over time.Time) error {
	if w.due == nil {
		return nil
	}
	if w.pause > 0 {
		// Sessions end at any time; a coarser clock keeps the list of ends short.
		step := max(w.pause/8, time.Second)
		if at := floor(over, step); at.Before(over) {
			over = at.Add(step)
		}
	}
	table, err := rows(tx, w.due)
	if err != nil {
		return err
	}
	dueKey, err := w.due.shape.Key(over)
	if err != nil {
		return err
	}
	old, ok, err := table.Get(dueKey)
	if err != nil {
		return err
	}
	n := int64(0)
	if ok {
		n, _ = old[1].(int64)
	}
	chain, err := rows(tx, w.chain)
	if err != nil {
		return err
	}
	text, err := w.rows.appendKey(nil, row[:len(w.by)+1])
	if err != nil {
		return err
	}
	if err := chain.Put(state.Row{over, n, string(text)}); err != nil {
		return err
	}
	if err := table.Put(state.Row{over, n + 1}); err != nil {
		return err
	}
	if ok {
		return nil
	}
	if w.time == nil {
		tx.SetTimer(projections.Timer{Name: w.timer, Key: over.Format(time.RFC3339Nano), At: over})
		return nil
	}
	return w.addDue(tx, over)
}

// fire closes what is over by commit time.
func (w *window) fire(tx *projections.Tx, s *scope, t projections.Timer) error {
	return w.close(tx, s, t.At.UTC())
}

// close ends the windows that are over at a time.
func (w *window) close(tx *projections.Tx, s *scope, over time.Time) error {
	table, err := rows(tx, w.due)
	if err != nil {
		return err
	}
	chain, err := rows(tx, w.chain)
	if err != nil {
		return err
	}
	dueKey, err := w.due.shape.Key(over)
	if err != nil {
		return err
	}
	due, ok, err := table.Get(dueKey)
	if err != nil || !ok {
		return err
	}
	n, _ := due[1].(int64)
	if err := table.Delete(dueKey); err != nil {
		return err
	}
	for i := range n {
		key, err := w.chain.shape.Key(over, i)
		if err != nil {
			return err
		}
		link, ok, err := chain.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		text, _ := link[2].(string)
		if err := chain.Delete(key); err != nil {
			return err
		}
		if err := w.closeOne(tx, s, text, over); err != nil {
			return err
		}
	}
	return nil
}

func (w *window) closeOne(tx *projections.Tx, s *scope, text string, over time.Time) error {
	table, err := rows(tx, w.rows)
	if err != nil {
		return err
	}
	values, err := w.rows.readKey([]byte(text))
	if err != nil {
		return err
	}
	key, err := w.rows.shape.Key(values...)
	if err != nil {
		return err
	}
	old, ok, err := table.Get(key)
	if err != nil || !ok {
		return err // a session that another one has taken in
	}
	k := len(w.by) + 1
	if closed, _ := old[k+afterClosed].(bool); closed {
		return nil
	}
	end, _ := old[k+afterStart].(time.Time)
	if w.pause > 0 {
		if last := end.Add(w.pause + w.grace); last.After(over) {
			return w.remember(tx, old, last)
		}
	}
	row := slices.Clone(old)
	row[k+afterClosed] = true
	if w.onClose && w.having != nil {
		if err := w.alert(tx, s, row, w.atClose); err != nil {
			return err
		}
	} else if w.having == nil || row[k+afterAlerted] != nil {
		if err := w.promise(tx, s, row, w.atClose); err != nil {
			return err
		}
	}
	return table.Put(row)
}

// tick moves the clock of business time on, and ends the windows that are over
// by it. It gives the greatest time seen.
func (w *window) tick(tx *projections.Tx, s *scope, at time.Time) (time.Time, error) {
	now, dues, err := w.readClock(tx)
	if err != nil || !at.After(now) {
		return now, err
	}
	for {
		next := len(dues) > 0 && !dues[0].After(at)
		var over time.Time
		if next {
			over, dues = dues[0], dues[1:]
		}
		if err := w.writeClock(tx, at, dues); err != nil || !next {
			return at, err
		}
		// A session that went on is over later, which may have come as well.
		if err := w.close(tx, s, over); err != nil {
			return at, err
		}
		if _, dues, err = w.readClock(tx); err != nil {
			return at, err
		}
	}
}

func (w *window) addDue(tx *projections.Tx, over time.Time) error {
	now, dues, err := w.readClock(tx)
	if err != nil {
		return err
	}
	i, found := slices.BinarySearchFunc(dues, over, time.Time.Compare)
	if found {
		return nil
	}
	return w.writeClock(tx, now, slices.Insert(slices.Clone(dues), i, over))
}

func (w *window) readClock(tx *projections.Tx) (now time.Time, dues []time.Time, err error) {
	table, err := rows(tx, w.clock)
	if err != nil {
		return now, nil, err
	}
	key, err := w.clock.shape.Key(true)
	if err != nil {
		return now, nil, err
	}
	row, ok, err := table.Get(key)
	if err != nil || !ok {
		return now, nil, err
	}
	now, _ = row[1].(time.Time)
	text, _ := row[2].(string)
	if err := json.Unmarshal([]byte(text), &dues); err != nil {
		return now, nil, fmt.Errorf("read the clock of %s: %w", w.called, err)
	}
	return now, dues, nil
}

func (w *window) writeClock(tx *projections.Tx, now time.Time, dues []time.Time) error {
	table, err := rows(tx, w.clock)
	if err != nil {
		return err
	}
	if dues == nil {
		dues = []time.Time{}
	}
	text, err := json.Marshal(dues)
	if err != nil {
		return err
	}
	return table.Put(state.Row{true, now, string(text)})
}

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
