package declared

import (
	"fmt"
	"slices"
	"sync"

	"banyan/expression"
	"banyan/internal/document"
	"banyan/projections"
	"banyan/projections/state"
)

// Program is a compiled definition. It may be used by several goroutines as
// projections.Program says.
type Program struct {
	path      string // of the file
	spec      projections.Spec
	topics    map[string]*stream
	timers    map[string]*timer
	closers   map[string]*window // by the name of the timer that closes its windows
	settings  map[string]*setting
	relations map[string]*relation
	endpoints []Endpoint
	views     map[string]document.Node
	// idle serves evaluations without an event.
	idle *expression.Env
}

// stream is what is done with the events of one topic.
type stream struct {
	env   *expression.Env
	steps []step
	whole bool // some expression names data
	free  sync.Pool
}

// step is what one part of the definition does with the events of a topic.
type step interface {
	// name is what errors call it: "table orders".
	name() string
	at() document.Node
	// skips says whether events of the type mean nothing here.
	skips(eventType string) bool
	// prepare computes what needs no rows. late says that apply will need the
	// event's data again; nothing is left to do where work is nil.
	prepare(s *scope) (work any, late bool, err error)
	// wants names the rows that apply will get.
	wants(work any, want func(table string, key state.Key))
	apply(tx *projections.Tx, s *scope, work any) error
}

// prepared is what Prepare leaves in an event.
type prepared struct {
	scope *scope // nil where nothing has to be evaluated on the event's data any more
	works []any  // by step
	few   [3]any // what works is made of, mostly
	wish  []wish
}

// stepError says which part of the definition could not do with an event.
type stepError struct {
	step step
	err  error
}

func (e *stepError) Error() string { return e.step.name() + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// Spec says what the runner must know.
func (p *Program) Spec() projections.Spec { return p.spec }

// Endpoints are what the read API serves.
func (p *Program) Endpoints() []Endpoint { return slices.Clone(p.endpoints) }

// Prepare decodes of the event what the definition names and computes all that
// needs no rows.
func (p *Program) Prepare(e *projections.Event) error {
	e.Prepared = nil
	t := p.topics[e.Topic]
	if t == nil {
		return fmt.Errorf("projection %s takes nothing from %s", p.spec.Name, e.Topic)
	}
	if !slices.ContainsFunc(t.steps, func(st step) bool { return !st.skips(e.Type) }) {
		return nil
	}
	s, _ := t.free.Get().(*scope)
	if s == nil {
		s = &scope{p: p, doc: t.env.NewDocument()}
	}
	if err := s.open(e, t.whole); err != nil {
		return err
	}
	done := &prepared{}
	if done.works = done.few[:]; len(t.steps) <= len(done.few) {
		done.works = done.works[:len(t.steps)]
	} else {
		done.works = make([]any, len(t.steps))
	}
	keep, some := false, false
	for i, st := range t.steps {
		if st.skips(e.Type) {
			continue
		}
		work, late, err := st.prepare(s)
		if err != nil {
			return &stepError{st, err}
		}
		done.works[i] = work
		keep, some = keep || late, some || work != nil
		s.item, s.old, s.named = nil, nil, s.named[:0]
	}
	if some {
		if len(s.wish) > 0 {
			done.wish = slices.Clone(s.wish)
		}
		e.Prepared = done
	}
	if keep {
		s.wish = nil
		done.scope = s
	} else {
		s.reset()
		t.free.Put(s)
	}
	return nil
}

// Wants names the rows that the event will get.
func (p *Program) Wants(e *projections.Event, want func(table string, key state.Key)) {
	done, _ := e.Prepared.(*prepared)
	if done == nil {
		return
	}
	for i, st := range p.topics[e.Topic].steps {
		if done.works[i] != nil {
			st.wants(done.works[i], want)
		}
	}
	for _, w := range done.wish {
		want(w.table, w.key)
	}
}

// Apply changes the rows that the event changes.
func (p *Program) Apply(tx *projections.Tx, e *projections.Event) error {
	done, _ := e.Prepared.(*prepared)
	if done == nil {
		return nil
	}
	s := done.scope
	if s == nil {
		s = &scope{p: p, e: e, removal: e.Tombstone}
	}
	s.tx = tx
	defer func() { s.tx = nil }()
	for i, st := range p.topics[e.Topic].steps {
		if done.works[i] == nil {
			continue
		}
		if err := st.apply(tx, s, done.works[i]); err != nil {
			return &stepError{st, err}
		}
		s.item, s.old, s.named = nil, nil, s.named[:0]
	}
	return nil
}

// Fire does what is due: a window is over, or a timer of the definition.
func (p *Program) Fire(tx *projections.Tx, t projections.Timer) error {
	s := &scope{p: p, doc: p.idle.NewDocument(), tx: tx, timer: &t}
	if w := p.closers[t.Name]; w != nil {
		if err := w.fire(tx, s, t); err != nil {
			return &stepError{w, err}
		}
		return nil
	}
	if d := p.timers[t.Name]; d != nil {
		if err := d.fire(tx, s); err != nil {
			return &stepError{d, err}
		}
		return nil
	}
	return fmt.Errorf("projection %s has no timer %q", p.spec.Name, t.Name)
}

// rows gives the rows of a table; it exists, as the table is in the Spec.
func rows(tx *projections.Tx, r *relation) (state.Rows, error) {
	found := tx.Rows(r.name)
	if found == nil {
		return nil, fmt.Errorf("there is no table %s in this version", r.name)
	}
	return found, nil
}

var (
	_ projections.Program    = (*Program)(nil)
	_ projections.Prefetcher = (*Program)(nil)
	_ projections.Firer      = (*Program)(nil)
)
