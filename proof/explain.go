package proof

import (
	"context"
	"fmt"
	"slices"
)

// explain names the members that differ in the examples of differing keys, and
// adds the states where they were asked for. It reads those few events again.
func (v *verification) explain(ctx context.Context) error {
	for _, a := range v.aggregates {
		for i := range a.Examples {
			e := &a.Examples[i]
			if e.Event == "" || e.Kind == KeyParked || e.Kind == KeyUnproven {
				continue
			}
			if e.Kind == KeyMissing && e.last.gone {
				e.Why = "its last event removes it"
				continue
			}
			if e.Kind != KeyDifferent && !v.Values {
				continue
			}
			told, err := v.told(ctx, &e.last)
			if err != nil {
				return err
			}
			if v.Values {
				e.Told = told
			}
			if e.row == nil {
				continue
			}
			at := slices.IndexFunc(e.row.tellings, func(t telling) bool { return t.rules == e.last.rules })
			if at < 0 {
				continue
			}
			t := &e.row.tellings[at]
			if v.Values && !t.mute {
				e.Rows = t.json
			}
			if !t.mute {
				e.Fields = differing(told, t.marks, t.json)
			}
		}
	}
	return nil
}

// told reads the state of one event from its topic.
func (v *verification) told(ctx context.Context, e *entry) ([]byte, error) {
	topic := v.ledger.names[e.topic]
	for r, err := range v.Topics.Read(ctx, topic, e.partition, e.offset, e.offset+1) {
		if err != nil {
			return nil, fmt.Errorf("read topic %s, partition %d at offset %d: %w", topic, e.partition, e.offset, err)
		}
		state, err := stateOf(r.Value)
		if err == nil && state != nil {
			state, err = canonical(nil, state)
		}
		if err != nil {
			return nil, fmt.Errorf("read topic %s, partition %d at offset %d: %w", topic, e.partition, e.offset, err)
		}
		return state, nil
	}
	return nil, fmt.Errorf("read topic %s, partition %d: the record at offset %d is gone", topic, e.partition, e.offset)
}

// differing names the members that differ between a state and the marks of
// another. One that the state lacks has no name here, unless the other state
// is at hand.
func differing(told []byte, marks []mark, other []byte) []string {
	left := map[uint32]uint32{}
	for _, m := range marks {
		left[m.name] = m.value
	}
	var names []string
	for _, f := range fields(told) {
		name := markOf([]byte(f.name))
		if value, ok := left[name]; !ok || value != markOf(f.value) {
			names = append(names, f.name)
		}
		delete(left, name)
	}
	if len(left) > 0 && len(other) == 0 {
		names = append(names, fmt.Sprintf("(%s that the event lacks)", count(int64(len(left)), "member", "members")))
	}
	for _, f := range fields(other) {
		if _, ok := left[markOf([]byte(f.name))]; ok {
			names = append(names, f.name)
		}
	}
	return names
}
