package projections

import (
	"encoding/json"
	"fmt"
	"slices"
)

// upcasts are the Upcasters of a Program by event type, each a chain without a
// gap from its lowest version to the one that the Program knows.
type upcasts map[string]chain

type chain struct {
	known int // what the Program's Apply understands
	steps map[int]Upcaster
}

// chainUpcasters joins upcasters. Every fault is told: two from one version, one
// that lifts nothing, a chain that ends short of its type's highest version.
func chainUpcasters(all []Upcaster) (upcasts, []string) {
	var faults []string
	chains := upcasts{}
	for _, u := range all {
		name := fmt.Sprintf("upcaster of %s from %d to %d", u.Type, u.From, u.To)
		if u.Type == "" || u.Lift == nil || u.From < 1 || u.To <= u.From {
			faults = append(faults, name+": want a type, a Lift, and versions from 1 that rise")
			continue
		}
		c, ok := chains[u.Type]
		if !ok {
			c.steps = map[int]Upcaster{}
		}
		if _, twice := c.steps[u.From]; twice {
			faults = append(faults, name+": there are two from that version")
			continue
		}
		c.steps[u.From] = u
		c.known = max(c.known, u.To)
		chains[u.Type] = c
	}
	for _, name := range sortedKeys(chains) {
		c := chains[name]
		for _, from := range sortedKeys(c.steps) {
			if to := c.steps[from].To; to != c.known {
				if _, ok := c.steps[to]; !ok {
					faults = append(faults, fmt.Sprintf("upcasters of %s: none from version %d, where the one from %d ends; the chain must reach %d", name, to, from, c.known))
				}
			}
		}
		for v := slices.Min(sortedKeys(c.steps)); v < c.known; v++ {
			if _, ok := c.steps[v]; !ok && !c.skips(v) {
				faults = append(faults, fmt.Sprintf("upcasters of %s: none from version %d to %d", name, v, c.known))
			}
		}
	}
	return chains, faults
}

// skips reports whether some upcaster leads from below v to above it.
func (c chain) skips(v int) bool {
	for _, u := range c.steps {
		if u.From < v && v < u.To {
			return true
		}
	}
	return false
}

// lift brings the data of an event to the version that the Program knows.
func (u upcasts) lift(e *Event) error {
	c, ok := u[e.Type]
	if !ok || e.Tombstone {
		return nil
	}
	if e.Version > c.known {
		return fmt.Errorf("%s has version %d; this projection knows it up to %d: add an upcaster, or teach it the new version", e.Type, e.Version, c.known)
	}
	for e.Version < c.known {
		step, ok := c.steps[e.Version]
		if !ok {
			return fmt.Errorf("%s has version %d, from which no upcaster leads to %d", e.Type, e.Version, c.known)
		}
		data, err := liftOnce(step, e.Data)
		if err != nil {
			return fmt.Errorf("lift %s from version %d to %d: %w", e.Type, step.From, step.To, err)
		}
		e.Data, e.Version = data, step.To
	}
	return nil
}

func liftOnce(u Upcaster, data json.RawMessage) (out json.RawMessage, err error) {
	defer recovered(&err)
	return u.Lift(data)
}

// recovered turns a panic of a user's code into an error: one bad event must not
// take down what other keys need.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}
