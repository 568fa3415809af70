package projections

import (
	"time"

	"banyan/projections/state"
)

// retaining is a space in which a row past its retention is not there, by the
// stream's time of the event that asks for it. When the runner comes round to
// delete such rows is an accident; without this, what an event makes of one would
// depend on it, and no replay would give the same. What the runner deletes is past
// its retention for every event to come: it goes by the time that all partitions
// have reached.
type retaining struct {
	state.Space
	rows map[string]*retainedRows
}

type retainedRows struct {
	state.Rows
	tx     *Tx
	column int
	keep   time.Duration
}

// retain wraps a space whose tables have a retention; others stay as they are.
func retain(space state.Space, tables []state.Table, tx *Tx) (state.Space, error) {
	r := &retaining{Space: space, rows: map[string]*retainedRows{}}
	for _, t := range tables {
		if t.Retain == nil {
			continue
		}
		shape, err := state.Compile(t)
		if err != nil {
			return nil, err
		}
		if rows := space.Rows(t.Name); rows != nil {
			r.rows[t.Name] = &retainedRows{rows, tx, shape.Column(t.Retain.Column), t.Retain.For}
		}
	}
	if len(r.rows) == 0 {
		return space, nil
	}
	return r, nil
}

// Rows gives the rows of a table, without those that are past their retention.
func (r *retaining) Rows(table string) state.Rows {
	if rows := r.rows[table]; rows != nil {
		return rows
	}
	return r.Space.Rows(table)
}

// Get gives a row that is not past its retention.
func (r *retainedRows) Get(k state.Key) (state.Row, bool, error) {
	row, ok, err := r.Rows.Get(k)
	if !ok || err != nil {
		return nil, false, err
	}
	cutoff := r.tx.StreamTime.Add(-r.keep).Truncate(time.Microsecond)
	if at, is := row[r.column].(time.Time); is && at.Before(cutoff) {
		return nil, false, nil
	}
	return row, true, nil
}
