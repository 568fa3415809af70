package declared

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"banyan/money"
	"banyan/projections"
	"banyan/projections/state"
)

// span is a session: from its first event to its last.
type span struct {
	Start time.Time `json:"s"`
	End   time.Time `json:"e"`
}

// addToSession adds to the session of a key that a time lies in or near, which
// may join two that were apart.
func (w *window) addToSession(tx *projections.Tx, s *scope, d *delta, at, now time.Time) error {
	table, err := rows(tx, w.sessions)
	if err != nil {
		return err
	}
	key, err := w.sessions.shape.Key(d.by...)
	if err != nil {
		return err
	}
	old, ok, err := table.Get(key)
	if err != nil {
		return err
	}
	var all []span
	if ok {
		text, _ := old[len(d.by)].(string)
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return fmt.Errorf("read the sessions of %s: %w", w.called, err)
		}
	}
	one := span{at, at}
	var joined, kept []span
	for _, have := range all {
		switch {
		case !have.End.Add(w.pause).Before(at) && !at.Add(w.pause).Before(have.Start):
			joined = append(joined, have)
			one.Start, one.End = earlier(one.Start, have.Start), later(one.End, have.End)
		case have.End.Add(2*w.pause + w.grace).After(now):
			// Over or not, an event that is not late may still join it.
			kept = append(kept, have)
		}
	}
	skip, err := w.tooLate(tx, s, one.Start, one.End.Add(w.pause), now)
	if err != nil || skip {
		return err
	}
	kept = append(kept, one)
	slices.SortFunc(kept, func(a, b span) int { return a.Start.Compare(b.Start) })
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := table.Put(append(slices.Clone(d.by), string(text))); err != nil {
		return err
	}
	return w.join(tx, s, d, one, joined, now)
}

// join makes one row of the sessions that an event joins, and adds it. A session
// that was over goes on where the event is not late.
func (w *window) join(tx *projections.Tx, s *scope, d *delta, one span, joined []span, now time.Time) error {
	table, err := rows(tx, w.rows)
	if err != nil {
		return err
	}
	row := w.newRow(d.by, one.Start, one.End)
	k := len(d.by) + 1
	fresh, over := true, !one.End.Add(w.pause+w.grace).After(now)
	for _, have := range joined {
		key, err := w.rows.shape.Key(append(slices.Clone(d.by), have.Start)...)
		if err != nil {
			return err
		}
		old, ok, err := table.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			continue // its time of retention is over
		}
		if have.Start.Equal(one.Start) {
			closed, _ := old[k+afterClosed].(bool)
			fresh = closed && !over
			row[k+afterClosed] = closed && over
		} else if err := table.Delete(key); err != nil {
			return err
		}
		if err := w.take(row, old, k); err != nil {
			return err
		}
	}
	if err := w.add(tx, row, d, one.Start); err != nil {
		return err
	}
	if err := w.early(tx, s, row); err != nil {
		return err
	}
	if err := table.Put(row); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	return w.remember(tx, row, one.End.Add(w.pause+w.grace))
}

// take adds the measures of one session to another.
func (w *window) take(row, from state.Row, k int) error {
	n, _ := row[k+afterRows].(int64)
	m, _ := from[k+afterRows].(int64)
	row[k+afterRows] = n + m
	if row[k+afterAlerted] == nil {
		row[k+afterAlerted] = from[k+afterAlerted]
	}
	for _, one := range w.list {
		var c cell
		switch one.kind {
		case countOf:
			c.n, _ = from[one.cell].(int64)
		case sumOf, avgOf:
			d, err := toDecimal(from[one.cell])
			if err != nil {
				return err
			}
			c.sum = d.(money.Decimal)
			if one.kind == avgOf {
				c.n, _ = from[one.cell+1].(int64)
			}
		default:
			c.value = from[one.cell]
		}
		if err := one.write(row, &c); err != nil {
			return err
		}
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
