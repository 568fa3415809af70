package declared

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/projections"
	"banyan/projections/state"
)

// timer is something that is due later for an aggregate.
type timer struct {
	node    document.Node
	called  string
	set     map[string]bool // event types; nil for all
	cancel  map[string]bool
	when    *formula
	due     *formula
	keep    []member
	writes  []write
	effects []*effect
}

// write is a row that is written when a timer fires.
type write struct {
	table *relation
	set   []*formula // by column; nil keeps what is there
}

// timerWork is what an event does to a timer.
type timerWork struct {
	cancel bool
	timer  projections.Timer
	late   bool
}

func (d *timer) name() string      { return "timer " + d.called }
func (d *timer) at() document.Node { return d.node }
func (d *timer) skips(t string) bool {
	return d.set != nil && !d.set[t] && !d.cancel[t]
}

func (d *timer) prepare(s *scope) (any, bool, error) {
	if s.e.Tombstone {
		return nil, false, nil
	}
	if d.cancel[s.e.Type] {
		return &timerWork{cancel: true, timer: projections.Timer{Name: d.called, Key: s.e.Key()}}, false, nil
	}
	if d.due.late || d.when != nil && d.when.late || slices.ContainsFunc(d.keep, func(m member) bool { return m.late }) {
		s.foresee(d.due)
		return &timerWork{late: true}, true, nil
	}
	w, err := d.evaluate(s)
	if err != nil || w == nil {
		return nil, false, err
	}
	return w, false, nil
}

// evaluate gives nil where the condition does not hold.
func (d *timer) evaluate(s *scope) (*timerWork, error) {
	if d.when != nil {
		if holds, err := d.when.Truth(s); err != nil || !holds {
			return nil, err
		}
	}
	v, err := d.due.Eval(s)
	if err != nil {
		return nil, fmt.Errorf("at: %w", err)
	}
	if v == nil {
		return nil, errors.New("at: is NULL, so it would never be due; leave it out with when")
	}
	at, err := toTime(v)
	if err != nil {
		return nil, fmt.Errorf("at: %w", err)
	}
	data := map[string]any{}
	for _, m := range d.keep {
		if data[m.name], err = m.Eval(s); err != nil {
			return nil, fmt.Errorf("keep.%s: %w", m.name, err)
		}
	}
	kept, err := expression.AppendJSON(nil, data)
	if err != nil {
		return nil, fmt.Errorf("keep: %w", err)
	}
	return &timerWork{timer: projections.Timer{Name: d.called, Key: s.e.Key(), At: at, Data: json.RawMessage(kept)}}, nil
}

func (d *timer) wants(any, func(string, state.Key)) {}

func (d *timer) apply(tx *projections.Tx, s *scope, work any) error {
	w := work.(*timerWork)
	if w.late {
		var err error
		if w, err = d.evaluate(s); err != nil || w == nil {
			return err
		}
	}
	if w.cancel {
		tx.CancelTimer(w.timer.Name, w.timer.Key)
		return nil
	}
	tx.SetTimer(w.timer)
	return nil
}

// fire writes the rows and promises the effects.
func (d *timer) fire(tx *projections.Tx, s *scope) error {
	for _, w := range d.writes {
		if err := w.fire(tx, s); err != nil {
			return fmt.Errorf("then.upsert.%s: %w", w.table.name, err)
		}
	}
	for _, e := range d.effects {
		if err := e.promise(tx, s); err != nil {
			return err
		}
	}
	return nil
}

func (w *write) fire(tx *projections.Tx, s *scope) error {
	table, err := rows(tx, w.table)
	if err != nil {
		return err
	}
	row := make(state.Row, len(w.set))
	for i, f := range w.set {
		if f == nil {
			continue
		}
		v, err := f.Eval(s)
		if err == nil {
			row[i], err = w.table.classes[i].convert(v)
		}
		if err != nil {
			return fmt.Errorf("column %s: %w", w.table.table.Columns[i].Name, err)
		}
	}
	key, err := w.table.shape.KeyOf(row)
	if err != nil {
		return err
	}
	old, ok, err := table.Get(key)
	if err != nil {
		return err
	}
	if ok {
		for i, f := range w.set {
			if f == nil {
				row[i] = old[i]
			}
		}
	}
	return table.Put(row)
}

// ofTimers is what expressions may name when a timer fires.
func (c *compiler) ofTimers() vocabulary { return vocabulary{env: c.p.idle, names: []string{"timer"}} }

func (c *compiler) compileTimers() {
	entries, _ := c.root.Get("timers").Entries()
	for _, e := range entries {
		c.p.spec.Timers = true
		if !c.file.Aligned {
			e.Fault("timers need order: aligned: one owner, who knows the time of the whole source")
		}
		topic := e.Get("from").Text()
		d := &timer{node: e.Node, called: e.Key, set: c.typesOf(e.Get("on"), topic), cancel: map[string]bool{}}
		if cancel := e.Get("cancel_on"); !cancel.Null() {
			if d.cancel = c.typesOf(cancel, topic); d.cancel == nil {
				cancel.Fault(`want event types by name, not "*"`)
			}
		}
		for t := range d.cancel {
			if d.set[t] {
				e.Get("cancel_on").FaultOf(t, "stands in on too: does it set the timer, or cancel it?")
			}
		}
		x := vocabulary{env: c.stream(topic).env, names: ofEvents}
		d.due = c.formula(x, e.Get("at"), e.Get("at").Text(), expression.Any)
		if when := e.Get("when"); !when.Null() {
			d.when = c.formula(x, when, when.Text(), expression.Bool)
		}
		keep, _ := e.Get("keep").Entries()
		for _, k := range keep {
			if f := c.formula(x, k.Node, k.Text(), expression.Any); f != nil {
				d.keep = append(d.keep, member{name: k.Key, formula: f})
			}
		}
		tables, _ := e.Get("then").Get("upsert").Entries()
		for _, t := range tables {
			if w := c.compileWrite(t); w != nil {
				d.writes = append(d.writes, *w)
			}
		}
		c.p.timers[e.Key] = d
		c.stream(topic).steps = append(c.stream(topic).steps, d)
	}
}

func (c *compiler) compileWrite(t document.Entry) *write {
	r := c.p.relations[t.Key]
	if r == nil {
		t.FaultOf(t.Key, "there is no such table; %s", expression.DidYouMean(t.Key, sortedNames(c.p.relations)))
		return nil
	}
	w := &write{table: r, set: make([]*formula, len(r.table.Columns))}
	columns, _ := t.Entries()
	for _, col := range columns {
		i, ok := r.index[col.Key]
		if !ok {
			col.FaultOf(col.Key, "%s", (&noColumn{r, col.Key}).Error())
			continue
		}
		w.set[i] = c.formula(c.ofTimers(), col.Node, col.Text(), expression.Any)
	}
	for _, at := range r.key {
		if w.set[at] == nil {
			t.Fault("does not say %s, a column of the key of %s", r.table.Columns[at].Name, r.name)
		}
	}
	return w
}
