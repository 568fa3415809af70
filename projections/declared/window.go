package declared

import (
	"errors"
	"fmt"
	"slices"
	"time"

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
