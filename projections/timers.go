package projections

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"fmt"
	"time"

	"banyan/event"
	"banyan/projections/control"
	"banyan/projections/state"
)

// Timers are the pending timers of one version, in the order in which they are
// due, and the firings that other versions have recorded.
//
// A timer fires between two transactions of the source, never inside one. By
// events: before the first transaction whose stream time has reached At. While the
// source is idle: at a watermark whose time has reached At, after all that the
// mark covers; that moment is an accident, so it is recorded, and whoever folds
// the same history later fires there and nowhere else. A recorded moment that lies
// behind already counts for nothing: the timer was set again since.
type Timers struct {
	// Originate allows idle firings, which are then recorded: the active version
	// alone may.
	Originate bool

	pending  map[timerKey]*pendingTimer
	due      timerHeap // by At
	recorded timerHeap // those with a record ahead, by its place
	records  map[firingKey]control.Mark
	// at is the boundary that was reached, inside that its transaction has begun.
	at     control.Mark
	inside bool
}

type timerKey struct{ name, key string }

type firingKey struct {
	timerKey
	at int64 // microseconds
}

type pendingTimer struct {
	Timer
	fires  control.Mark // where a record says so
	ruled  bool         // a record says so
	placed int          // in its heap
}

// NewTimers makes an empty set for a version that has applied all up to a
// position.
func NewTimers(applied event.Position) *Timers {
	return &Timers{pending: map[timerKey]*pendingTimer{}, records: map[firingKey]control.Mark{}, at: group(applied), inside: true}
}

// Len counts the pending timers.
func (t *Timers) Len() int { return len(t.pending) }

// Recorded tells a firing of the projection's past. Firings are told before the
// order goes beyond them.
func (t *Timers) Recorded(f control.Firing) {
	m := group(f.After)
	if !t.ahead(m) {
		return
	}
	k := timerKey{f.Name, f.Key}
	t.records[firingKey{k, f.At.UnixMicro()}] = m
	if p := t.pending[k]; p != nil && !p.ruled && p.At.UnixMicro() == f.At.UnixMicro() {
		t.set(p.Timer)
	}
}

// ahead reports whether a boundary is still to come.
func (t *Timers) ahead(m control.Mark) bool {
	c := m.Compare(t.at)
	return c > 0 || c == 0 && !t.inside
}

func (t *Timers) set(timer Timer) {
	k := timerKey{timer.Name, timer.Key}
	t.cancel(k)
	p := &pendingTimer{Timer: timer}
	t.pending[k] = p
	if m, ok := t.records[firingKey{k, timer.At.UnixMicro()}]; ok && t.ahead(m) {
		p.fires, p.ruled = m, true
		heap.Push(&t.recorded, p)
		return
	}
	heap.Push(&t.due, p)
}

func (t *Timers) cancel(k timerKey) bool {
	p := t.pending[k]
	if p == nil {
		return false
	}
	delete(t.pending, k)
	if p.ruled {
		heap.Remove(&t.recorded, p.placed)
	} else {
		heap.Remove(&t.due, p.placed)
	}
	return true
}

// next gives the timer that fires next on the way to a boundary, and where; by is
// the time that due ones must have reached, zero for none of those. ok is false
// where the boundary is free.
func (t *Timers) next(to control.Mark, by time.Time) (p *pendingTimer, at control.Mark, ok bool) {
	if len(t.recorded) > 0 && t.recorded[0].fires.Compare(to) <= 0 {
		return t.recorded[0], t.recorded[0].fires, true
	}
	if len(t.due) > 0 && !by.IsZero() && !t.due[0].At.After(by) {
		return t.due[0], to, true
	}
	return nil, to, false
}

// reach says that the boundary is passed; a transaction begins there if inside.
func (t *Timers) reach(m control.Mark, inside bool) { t.at, t.inside = m, inside }

type timerHeap []*pendingTimer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(a.fires.Compare(b.fires), a.At.Compare(b.At), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key)) < 0
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].placed, h[j].placed = i, j
}

// Push puts a timer in.
func (h *timerHeap) Push(x any) {
	p := x.(*pendingTimer)
	p.placed = len(*h)
	*h = append(*h, p)
}

// Pop takes the last away.
func (h *timerHeap) Pop() any {
	n := len(*h) - 1
	p := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return p
}

// row is how a timer lies in its hidden table.
func (t Timer) row() state.Row {
	var data any
	if t.Data != nil {
		data = t.Data
	}
	return state.Row{t.Name, t.Key, t.At.UTC().Truncate(time.Microsecond), data}
}

// timerOf is the inverse of row.
func timerOf(row state.Row) (Timer, error) {
	var t Timer
	var ok [4]bool
	if len(row) == 4 {
		t.Name, ok[0] = row[0].(string)
		t.Key, ok[1] = row[1].(string)
		t.At, ok[2] = row[2].(time.Time)
		t.Data, ok[3] = row[3].(json.RawMessage)
		ok[3] = ok[3] || row[3] == nil
	}
	if ok != [4]bool{true, true, true, true} {
		return Timer{}, fmt.Errorf("a row of %s is not one of ours: %v", TimersTable, row)
	}
	return t, nil
}

// Load puts a row of TimersTable among the pending timers.
func (t *Timers) Load(row state.Row) error {
	timer, err := timerOf(row)
	if err != nil {
		return err
	}
	t.set(timer)
	return nil
}
