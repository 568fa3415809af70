package projections

import (
	"errors"
	"fmt"
	"time"

	"banyan/event"
	"banyan/projections/control"
	"banyan/projections/state"
)

// Applier gives events to a Program, one after the other, and fires its timers in
// between: all that is the same whether a runner follows the topics, a rebuild
// reads them once or a verification does so again. It belongs to one goroutine.
//
// For each event in order, Advance comes first, whether it is applied or parked;
// then Apply. Batchers apply for themselves and need only Advance.
type Applier struct {
	program Program
	aligned bool
	source  string
	space   state.Space
	rows    map[string]state.Rows // hidden ones
	timers  *Timers               // nil where the Program has none
	latest  *state.Shape          // of LatestTable; nil where there is none
	keys    *state.Shape          // of TimersTable
	tx      Tx

	at     control.Mark
	stream map[control.PartID]time.Time // one for all where aligned

	effects []Promise
	firings []control.Firing
}

// NewApplier makes an Applier for rows that stand where all up to applied has
// been applied. timers is nil where the Spec says that there are none.
func NewApplier(p Program, space state.Space, timers *Timers, applied event.Position) (*Applier, error) {
	spec := p.Spec()
	a := &Applier{program: p, aligned: spec.Aligned, source: spec.Source, space: space, timers: timers, at: group(applied),
		rows: map[string]state.Rows{}, stream: map[control.PartID]time.Time{}}
	var err error
	if a.tx.Space, err = retain(space, spec.Tables, &a.tx); err != nil {
		return nil, err
	}
	for _, t := range spec.AllTables() {
		if t.Name != TimersTable && t.Name != LatestTable {
			continue
		}
		shape, err := state.Compile(t)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Name, err)
		}
		if t.Name == LatestTable {
			a.latest = shape
		} else {
			a.keys = shape
		}
	}
	if spec.Timers && timers == nil {
		return nil, errors.New("the program sets timers, and there is nobody to keep them")
	}
	return a, nil
}

// SetStreamTime says how far the time of a partition's stream has come; where the
// Program is aligned, that of the whole is the latest of all.
func (a *Applier) SetStreamTime(id control.PartID, t time.Time) {
	if id = a.clock(id); t.After(a.stream[id]) {
		a.stream[id] = t
	}
}

func (a *Applier) clock(id control.PartID) control.PartID {
	if a.aligned {
		return control.PartID{}
	}
	return id
}

// Advance moves the order on to an event: timers that are due before it fire, and
// the stream's time comes to include it. An error is a *TimerError.
func (a *Applier) Advance(e *Event) error {
	if a.aligned {
		if g := group(e.Position); g.Compare(a.at) > 0 {
			now := a.stream[control.PartID{}]
			if e.Time.After(now) {
				now = e.Time
			}
			if err := a.fire(g, now, true, false); err != nil {
				return err
			}
			a.at = g
		}
	}
	a.SetStreamTime(control.PartID{Topic: e.Topic, Part: e.Partition}, e.Time)
	return nil
}

// Idle says that all that the mark covers has been advanced over, and nothing
// else. Recorded firings up to there happen now, and, where Originate is set,
// those due by the mark's time. An error is a *TimerError.
func (a *Applier) Idle(m control.Mark) error {
	if a.timers == nil || m.Compare(a.at) <= 0 || m.Compare(a.timers.at) < 0 {
		return nil
	}
	var by time.Time
	if a.timers.Originate {
		by = m.Time
	}
	return a.fire(m, by, false, true)
}

// Quiet reports whether Idle would do nothing.
func (a *Applier) Quiet(m control.Mark) bool {
	if a.timers == nil || m.Compare(a.at) <= 0 || m.Compare(a.timers.at) < 0 {
		return true
	}
	var by time.Time
	if a.timers.Originate {
		by = m.Time
	}
	_, _, some := a.timers.next(m, by)
	return !some
}

// TimerError says that a timer could not fire. It cannot be parked: what it was
// to do would be lost.
type TimerError struct {
	Timer Timer
	Err   error
}

// Error names the timer.
func (e *TimerError) Error() string {
	return fmt.Sprintf("timer %s of %s, due %s: %v", e.Timer.Name, e.Timer.Key, e.Timer.At.Format(time.RFC3339), e.Err)
}

// Unwrap gives the cause.
func (e *TimerError) Unwrap() error { return e.Err }

// fire fires what is due up to a boundary.
func (a *Applier) fire(to control.Mark, by time.Time, inside, idle bool) error {
	if a.timers == nil {
		return nil
	}
	for {
		p, at, ok := a.timers.next(to, by)
		if !ok {
			a.timers.reach(to, inside)
			return nil
		}
		if at.Compare(a.timers.at) > 0 {
			a.timers.reach(at, false)
		}
		timer, ruled := p.Timer, p.ruled
		a.timers.cancel(timerKey{timer.Name, timer.Key})
		if err := a.fireOne(timer, at); err != nil {
			return &TimerError{timer, err}
		}
		if !ruled && a.timers.Originate {
			a.firings = append(a.firings, control.Firing{Name: timer.Name, Key: timer.Key, At: timer.At, After: positionOf(at)})
		}
	}
}

func positionOf(m control.Mark) event.Position {
	return event.Position{Generation: m.Generation, LSN: m.LSN}
}

func (a *Applier) fireOne(t Timer, at control.Mark) error {
	now := a.stream[control.PartID{}]
	if t.At.After(now) {
		// By its own time, not by that of the mark, which a replay does not know.
		now = t.At
	}
	a.open(now, positionOf(at))
	rows, err := a.hidden(TimersTable)
	if err != nil {
		return err
	}
	key, err := a.keys.Key(t.Name, t.Key)
	if err == nil {
		err = rows.Delete(key)
	}
	if err == nil {
		err = a.callFire(t)
	}
	for _, c := range a.tx.timers {
		if err == nil && c.Name == t.Name && c.Key == t.Key && !c.At.IsZero() && !c.At.After(t.At) {
			// It would fire again at once, and so for ever; and what leaves the
			// house because of it is told apart by its time.
			err = fmt.Errorf("it sets itself to %s again, which is no later", c.At.Format(time.RFC3339Nano))
		}
	}
	if err == nil {
		err = a.setTimers()
	}
	if err != nil {
		a.space.Undo()
		return err
	}
	a.promise("timer:"+t.Name+"/"+t.Key+"@"+t.At.UTC().Format(time.RFC3339Nano), positionOf(at), control.PartID{})
	return nil
}

func (a *Applier) callFire(t Timer) (err error) {
	defer recovered(&err)
	return a.program.(Firer).Fire(&a.tx, t)
}

// Apply changes rows for an event. After an error nothing of it is left, and the
// event's key is to be parked.
func (a *Applier) Apply(e *Event) error {
	if e.Fault != nil {
		return e.Fault
	}
	a.open(a.stream[a.clock(control.PartID{Topic: e.Topic, Part: e.Partition})], e.Position)
	overtaken, err := a.overtaken(e)
	if overtaken {
		return nil
	}
	if err == nil {
		err = a.callApply(e)
	}
	if err == nil {
		err = a.setTimers()
	}
	if err != nil {
		a.space.Undo()
		return err
	}
	if len(a.tx.effects) > 0 {
		a.promise(e.ID.String(), e.Position, control.PartID{Topic: e.Topic, Part: e.Partition})
	}
	return nil
}

func (a *Applier) callApply(e *Event) (err error) {
	defer recovered(&err)
	return a.program.Apply(&a.tx, e)
}

func (a *Applier) open(now time.Time, at event.Position) {
	a.space.Begin()
	a.tx.StreamTime, a.tx.Position = now, at
	a.tx.effects, a.tx.timers = a.tx.effects[:0], a.tx.timers[:0]
}

// hidden gives the rows of a table of the runner's own.
func (a *Applier) hidden(table string) (state.Rows, error) {
	if rows := a.rows[table]; rows != nil {
		return rows, nil
	}
	rows := a.space.Rows(table)
	if rows == nil {
		return nil, fmt.Errorf("the version's schema lacks the table %s", table)
	}
	a.rows[table] = rows
	return rows, nil
}

// overtaken reports whether a record of a `.latest` topic is older than what its
// key already has: a late repeat.
func (a *Applier) overtaken(e *Event) (bool, error) {
	if a.latest == nil || !IsLatest(e.Topic) {
		return false, nil
	}
	rows, err := a.hidden(LatestTable)
	if err != nil {
		return false, err
	}
	key, err := a.latestKey(e)
	if err != nil {
		return false, err
	}
	row, ok, err := rows.Get(key)
	if err != nil {
		return false, err
	}
	if ok {
		if seq, is := row[2].(int64); is && seq >= e.Seq {
			return true, nil
		}
	}
	return false, rows.Put(state.Row{e.Topic, e.ID.Key, e.Seq})
}

func (a *Applier) latestKey(e *Event) (state.Key, error) { return a.latest.Key(e.Topic, e.ID.Key) }

// Wants names the rows that applying the event will get, as far as is known.
func (a *Applier) Wants(e *Event, want func(table string, key state.Key)) (err error) {
	if e.Fault != nil {
		return nil
	}
	if a.latest != nil && IsLatest(e.Topic) {
		key, err := a.latestKey(e)
		if err != nil {
			return err
		}
		want(LatestTable, key)
	}
	if p, ok := a.program.(Prefetcher); ok {
		defer recovered(&err)
		p.Wants(e, want)
	}
	return nil
}

// setTimers carries out what the call has asked for.
func (a *Applier) setTimers() error {
	if len(a.tx.timers) == 0 {
		return nil
	}
	if a.timers == nil {
		return errors.New("a timer was set, but the projection's Spec says that there are none")
	}
	rows, err := a.hidden(TimersTable)
	if err != nil {
		return err
	}
	for _, c := range a.tx.timers {
		key, err := a.keys.Key(c.Name, c.Key)
		if err != nil {
			return err
		}
		if c.At.IsZero() {
			err = rows.Delete(key)
		} else {
			err = rows.Put(c.row())
		}
		if err != nil {
			return err
		}
	}
	for _, c := range a.tx.timers {
		if c.At.IsZero() {
			a.timers.cancel(timerKey{c.Name, c.Key})
		} else {
			c.At = c.At.UTC().Truncate(time.Microsecond)
			a.timers.set(c.Timer)
		}
	}
	return nil
}

// promise turns the effects of one call into entries of the ledger: they are told
// apart by their name and by how many of that name came before.
func (a *Applier) promise(source string, at event.Position, part control.PartID) {
	for i, e := range a.tx.effects {
		n := 0
		for _, before := range a.tx.effects[:i] {
			if before.Name == e.Name {
				n++
			}
		}
		a.effects = append(a.effects, Promise{
			Effect: control.Effect{Source: source, Name: e.Name, N: n, Kind: e.Kind, Payload: e.Payload, Position: at}, FromStart: e.FromStart, Part: part,
		})
	}
}

// Promise is an effect that a Program has asked for.
type Promise struct {
	control.Effect
	FromStart bool           // see Effect.FromStart
	Part      control.PartID // where the event lies; zero for a timer
}

// Effects gives what was promised since the last call, and Firings what fired
// without a record while Originate was set.
func (a *Applier) Effects() []Promise {
	e := a.effects
	a.effects = nil
	return e
}

// Firings gives the firings to record since the last call.
func (a *Applier) Firings() []control.Firing {
	f := a.firings
	a.firings = nil
	return f
}
