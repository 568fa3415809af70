package translate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"banyan/event"
)

// memory is a store in memory: the Past of the tests, and what they look into.
type memory struct {
	states map[event.Ref]event.State
	links  map[event.RowRef][]event.Ref
	chains map[event.Ref][]event.Parked
	counts map[string]event.Counts
	events []event.Event
	traces []event.Trace
	asked  int
}

func newMemory() *memory {
	return &memory{states: map[event.Ref]event.State{}, links: map[event.RowRef][]event.Ref{}, chains: map[event.Ref][]event.Parked{}, counts: map[string]event.Counts{}}
}

func (m *memory) States(_ context.Context, refs []event.Ref) (map[event.Ref]event.State, error) {
	m.asked++
	out := map[event.Ref]event.State{}
	for _, r := range refs {
		if s, ok := m.states[r]; ok {
			out[r] = s
		}
	}
	return out, nil
}

func (m *memory) Roots(_ context.Context, rows []event.RowRef) (map[event.RowRef][]event.Ref, error) {
	m.asked++
	out := map[event.RowRef][]event.Ref{}
	for _, r := range rows {
		if refs := m.links[r]; len(refs) > 0 {
			out[r] = slices.Clone(refs)
		}
	}
	return out, nil
}

func (m *memory) Keys(_ context.Context, aggregate string) iter.Seq2[string, error] {
	var keys []string
	for r, s := range m.states {
		if r.Aggregate == aggregate && s.Body != nil {
			keys = append(keys, r.Key)
		}
	}
	slices.Sort(keys)
	return func(yield func(string, error) bool) {
		for _, k := range keys {
			if !yield(k, nil) {
				return
			}
		}
	}
}

func (m *memory) Parked(_ context.Context, refs []event.Ref) (map[event.Ref]bool, error) {
	m.asked++
	out := map[event.Ref]bool{}
	for _, r := range refs {
		out[r] = len(m.chains[r]) > 0
	}
	return out, nil
}

func (m *memory) put(_ context.Context, s *event.Step) error {
	seen := map[event.Ref]bool{}
	for _, st := range s.States {
		if seen[st.Ref] {
			return fmt.Errorf("two states of %v in one step", st.Ref)
		}
		seen[st.Ref] = true
		if st.Body == nil {
			delete(m.states, st.Ref)
		} else {
			st.Body = bytes.Clone(st.Body)
			m.states[st.Ref] = st
		}
	}
	for _, l := range s.Links {
		list := slices.DeleteFunc(slices.Clone(m.links[l.RowRef]), func(r event.Ref) bool { return r == l.Ref })
		if !l.Gone {
			list = append(list, l.Ref)
		}
		m.links[l.RowRef] = list
		if len(list) == 0 {
			delete(m.links, l.RowRef)
		}
	}
	for _, p := range s.Parked {
		m.chains[p.Ref] = append(m.chains[p.Ref], p)
	}
	for t, n := range s.Counts {
		c := m.counts[t]
		c.Add(n)
		m.counts[t] = c
	}
	for _, e := range s.Events {
		e.Data = bytes.Clone(e.Data)
		if !json.Valid(e.Data) {
			return fmt.Errorf("event %s: data is not JSON: %s", e.ID, e.Data)
		}
		m.events = append(m.events, e)
	}
	m.traces = append(m.traces, s.Traces...)
	return nil
}

// folded is the state of every aggregate as a reader of the topics has it.
func (m *memory) folded() (map[event.Ref]string, error) {
	out := map[event.Ref]string{}
	seen := map[string]bool{}
	for _, e := range m.events {
		id := e.ID.String()
		if seen[id] {
			return nil, fmt.Errorf("the id %s is used twice", id)
		}
		seen[id] = true
		ref := event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key}
		state, err := stateOf(e.Data)
		if err != nil {
			return nil, err
		}
		if state == "null" {
			delete(out, ref)
		} else {
			out[ref] = state
		}
	}
	return out, nil
}

func stateOf(data []byte) (string, error) {
	var v struct{ State json.RawMessage }
	if err := json.Unmarshal(data, &v); err != nil {
		return "", err
	}
	return string(v.State), nil
}

func (m *memory) balance() error {
	for t, c := range m.counts {
		if !c.Balanced() || c.Parked < 0 || c.Used < 0 || c.Absorbed < 0 || c.Ignored < 0 {
			return fmt.Errorf("the account of %s does not balance: %+v", t, c)
		}
	}
	return nil
}

func formatCounts(m map[string]event.Counts) string {
	var names []string
	for t := range m {
		names = append(names, t)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, t := range names {
		c := m[t]
		fmt.Fprintf(&b, "count %s changes=%d parked=%d used=%d absorbed=%d ignored=%d\n", t, c.Changes, c.Parked, c.Used, c.Absorbed, c.Ignored)
	}
	return b.String()
}
