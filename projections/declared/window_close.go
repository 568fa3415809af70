package declared

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"banyan/projections"
	"banyan/projections/state"
)

// What waits for the end of a window is noted by the time at which the window is
// over: so many windows, and each one's key. By commit time the runner's timers
// tell when that is; by business time the clock of the window's events does.

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
