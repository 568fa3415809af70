package projectiontest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
)

// T is what the kit needs of a *testing.T.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Row is a row by its columns' names. A value may be anything that the column can
// hold exactly: 42, "12.50" for a numeric, a time.Time or "2026-01-01T12:00:00Z",
// nil for NULL.
type Row map[string]any

// Effect is a promised effect, for comparison.
type Effect struct {
	Name, Kind string
	Payload    string // JSON
}

// Case is one test of a Program: its rows in memory, and a source that tells it
// what the test wants to have happened. It belongs to one goroutine.
type Case struct {
	// Source may be set up before the first event: its name is the Spec's.
	Source *Source

	t       T
	program projections.Program
	spec    projections.Spec
	world   *memory
	effects []Effect // of the last When, or what came after it
	parked  []Parked
}

// Parked is an event that could not be applied, or came behind one that could not.
type Parked struct {
	Aggregate, Key string
	Type           string
	Reason         string
}

// New makes a Case without any rows. A Program with a fault in its Spec fails the
// test at once, and so does one with SQL of its own, which needs a database.
func New(t T, p projections.Program) *Case {
	t.Helper()
	c := &Case{t: t, program: p, spec: p.Spec()}
	c.Source = NewSource(c.spec.Source)
	w, err := newMemory(p, true, nil)
	if err != nil {
		t.Fatalf("%v", err)
		return c
	}
	c.world = w
	return c
}

// At sets the clock: the next transaction is committed then. It never goes back.
func (c *Case) At(at time.Time) {
	c.t.Helper()
	if at.Before(c.Source.Now) {
		c.t.Fatalf("the clock stands at %s and cannot go back to %s", c.Source.Now.Format(time.RFC3339), at.Format(time.RFC3339))
	}
	c.Source.Now = at
}

// Wait lets time pass without any event, then a watermark says so: timers that
// have come due by then fire.
func (c *Case) Wait(d time.Duration) {
	c.t.Helper()
	c.effects = nil
	c.Source.Now = c.Source.Now.Add(d)
	w := c.Source.Mark()
	if err := c.world.applier.Idle(control.MarkOf(&w)); err != nil {
		c.t.Fatalf("after %s: %v", d, err)
	}
	c.collect()
}

// Given lets a transaction of the source happen. All of its events must be
// applied.
func (c *Case) Given(events ...Event) *Case {
	c.t.Helper()
	before := len(c.parked)
	c.happen(events)
	if len(c.parked) > before {
		p := c.parked[before]
		c.t.Fatalf("given %s of %s/%s: it cannot be applied: %s", p.Type, p.Aggregate, p.Key, p.Reason)
	}
	return c
}

// When lets the transaction happen that the test is about. What cannot be applied
// of it is parked: see ThenParked.
func (c *Case) When(events ...Event) *Case {
	c.t.Helper()
	c.effects = nil
	c.happen(events)
	return c
}

func (c *Case) happen(events []Event) {
	c.t.Helper()
	for _, e := range events {
		if !slices.Contains(c.spec.Topics, e.Topic) {
			c.t.Fatalf("event %s: %q is no topic of %s, which reads %s", e.Type, e.Topic, c.spec.Name, strings.Join(c.spec.Topics, ", "))
		}
	}
	told, err := c.Source.Commit(events...)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	made := make([]*projections.Event, len(told))
	for i := range told {
		if made[i], err = c.world.made(told[i].Topic, told[i].Record(), told[i].Seq-1); err != nil {
			c.t.Fatalf("%v", err)
		}
	}
	if c.spec.Aligned {
		slices.SortStableFunc(made, func(a, b *projections.Event) int {
			return slices.Index(c.spec.Topics, a.Topic) - slices.Index(c.spec.Topics, b.Topic)
		})
	}
	for _, e := range made {
		err := c.world.take(e)
		var poison *projections.PoisonError
		switch {
		case errors.As(err, &poison):
			c.parked = append(c.parked, Parked{e.ID.Aggregate, e.ID.Key, e.Type, poison.Err.Error()})
		case err != nil:
			c.t.Fatalf("%v", err)
		}
	}
	c.collect()
}

func (c *Case) collect() {
	for _, e := range c.world.applier.Effects() {
		c.effects = append(c.effects, Effect{e.Name, e.Kind, string(e.Payload)})
	}
}

// Then wants a table to have just these rows, in any order, compared in the
// columns that they name. Without rows the table has to be empty.
func (c *Case) Then(table string, rows ...Row) *Case {
	c.t.Helper()
	shape := c.world.shapes[table]
	if shape == nil {
		c.t.Fatalf("there is no table %s in %s", table, c.spec.Name)
		return c
	}
	columns, err := named(shape, rows)
	if err != nil {
		c.t.Fatalf("%v", err)
		return c
	}
	want := make([]string, len(rows))
	for i, r := range rows {
		if want[i], err = expected(shape, columns, r); err != nil {
			c.t.Fatalf("row %d of %s: %v", i+1, table, err)
			return c
		}
	}
	var got []string
	for e, err := range c.world.bulk.Each(table) {
		if err != nil {
			c.t.Fatalf("%v", err)
			return c
		}
		got = append(got, line(shape, columns, e.Row))
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" && len(want)+len(got) > 0 {
		c.t.Errorf("table %s (-want +got):\n%s", table, d)
	}
	return c
}

// named gives the columns that rows name, in the table's order, or all of them
// where there are no rows.
func named(shape *state.Shape, rows []Row) ([]int, error) {
	t := shape.Table()
	used := make(map[int]bool)
	for _, r := range rows {
		for name := range r {
			i := shape.Column(name)
			if i < 0 {
				return nil, fmt.Errorf("table %s has no column %s", t.Name, name)
			}
			used[i] = true
		}
	}
	var columns []int
	for i := range t.Columns {
		if used[i] || len(rows) == 0 {
			columns = append(columns, i)
		}
	}
	return columns, nil
}

func expected(shape *state.Shape, columns []int, r Row) (string, error) {
	full := make(state.Row, len(shape.Table().Columns))
	for _, i := range columns {
		name := shape.Table().Columns[i].Name
		v, ok := r[name]
		if !ok {
			return "", fmt.Errorf("it says nothing of %s, as other rows do", name)
		}
		if v == nil {
			continue
		}
		if n, ok := v.(int); ok {
			v = int64(n)
		}
		value, err := shape.Coerce(i, v)
		if err != nil {
			return "", err
		}
		full[i] = value
	}
	return line(shape, columns, full), nil
}

func line(shape *state.Shape, columns []int, row state.Row) string {
	parts := make([]string, len(columns))
	for n, i := range columns {
		parts[n] = shape.Table().Columns[i].Name + "=" + state.Text(row[i])
	}
	return strings.Join(parts, " ")
}

// ThenEffects wants just these effects to have been promised since the last When
// or Wait, in this order. An empty Kind or Payload is not compared.
func (c *Case) ThenEffects(effects ...Effect) *Case {
	c.t.Helper()
	got := slices.Clone(c.effects)
	for i := range min(len(got), len(effects)) {
		if effects[i].Kind == "" {
			got[i].Kind = ""
		}
		if effects[i].Payload == "" {
			got[i].Payload = ""
		}
	}
	if d := cmp.Diff(effects, got); d != "" && len(effects)+len(got) > 0 {
		c.t.Errorf("effects (-want +got):\n%s", d)
	}
	return c
}

// ThenParked wants the chain of an aggregate to be parked, for a reason that
// contains a text.
func (c *Case) ThenParked(aggregate, key, reason string) *Case {
	c.t.Helper()
	for _, p := range c.parked {
		if p.Aggregate == aggregate && p.Key == key {
			if !strings.Contains(p.Reason, reason) {
				c.t.Errorf("%s/%s is parked, but because: %s", aggregate, key, p.Reason)
			}
			return c
		}
	}
	c.t.Errorf("%s/%s is not parked; parked are: %+v", aggregate, key, c.parked)
	return c
}

// Table writes a table as text, a row a line, for golden files and for a look.
func (c *Case) Table(table string) string {
	c.t.Helper()
	text, err := c.world.text(table)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	return text
}

// memory is a Program with rows in memory.
type memory struct {
	program projections.Program
	spec    projections.Spec
	prep    *projections.Preparer
	bulk    *state.Bulk
	applier *projections.Applier
	timers  *projections.Timers
	shapes  map[string]*state.Shape
	parked  map[event.Ref]string // id of the first of each chain
}

// newMemory makes an empty one. One that originates decides by itself when timers
// fire while nothing happens; another follows firings.
func newMemory(p projections.Program, originate bool, firings []control.Firing) (*memory, error) {
	if _, ok := p.(projections.Batcher); ok {
		return nil, fmt.Errorf("projection %s works with SQL of its own: it needs a database", p.Spec().Name)
	}
	m := &memory{program: p, spec: p.Spec(), shapes: make(map[string]*state.Shape), parked: make(map[event.Ref]string)}
	var err error
	if m.prep, err = projections.NewPreparer(p); err != nil {
		return nil, err
	}
	for _, t := range m.spec.AllTables() {
		if m.shapes[t.Name], err = state.Compile(t); err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	if m.bulk, err = state.NewBulk(m.spec.AllTables(), state.BulkOptions{}); err != nil {
		return nil, err
	}
	return m, m.begin(event.Position{}, originate, firings)
}

// begin makes the applier for the rows that there are.
func (m *memory) begin(applied event.Position, originate bool, firings []control.Firing) (err error) {
	m.timers = nil
	if m.spec.Timers {
		m.timers = projections.NewTimers(applied)
		m.timers.Originate = originate
		for _, f := range firings {
			m.timers.Recorded(f)
		}
		for e, err := range m.bulk.Each(projections.TimersTable) {
			if err == nil {
				err = m.timers.Load(e.Row)
			}
			if err != nil {
				return err
			}
		}
	}
	m.applier, err = projections.NewApplier(m.program, m.bulk, m.timers, applied)
	return err
}

// made prepares an event of a record.
func (m *memory) made(topic string, rec event.Record, offset int64) (*projections.Event, error) {
	e := new(projections.Event)
	rec.Offset = offset
	return e, m.prep.Prepare(e, topic, &rec)
}

// take is one event in order, as a runner does it. A *projections.PoisonError
// says that it was parked.
func (m *memory) take(e *projections.Event) error {
	if err := m.applier.Advance(e); err != nil {
		return err
	}
	ref := event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key}
	if first, ok := m.parked[ref]; ok {
		return &projections.PoisonError{Event: e, Err: errors.New("behind " + first)}
	}
	if err := m.applier.Apply(e); err != nil {
		m.parked[ref] = e.ID.String()
		return &projections.PoisonError{Event: e, Err: err}
	}
	return nil
}

func (m *memory) text(table string) (string, error) {
	shape := m.shapes[table]
	if shape == nil {
		return "", fmt.Errorf("there is no table %s in %s", table, m.spec.Name)
	}
	columns, err := named(shape, nil)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for e, err := range m.bulk.Each(table) {
		if err != nil {
			return "", err
		}
		b.WriteString(line(shape, columns, e.Row))
		b.WriteByte('\n')
	}
	return b.String(), nil
}
