package declared

import (
	"errors"
	"fmt"

	"banyan/projections"
)

// selector says what an event means to a table.
type selector struct {
	named map[string]action
	rest  action
}

type action uint8

const (
	unknown action = iota
	upsert
	remove
	ignore
)

var errUnknownType = errors.New("stands in none of upsert, delete and ignore: add it to one, or \"*\"")

func (p *selector) of(e *projections.Event, removal bool) (action, error) {
	if a, ok := p.named[e.Type]; ok {
		return a, nil
	}
	switch {
	case e.Tombstone, p.rest == upsert && removal:
		return remove, nil
	case p.rest == unknown:
		return unknown, fmt.Errorf("event type %s %w", e.Type, errUnknownType)
	}
	return p.rest, nil
}

func (p *selector) skips(eventType string) bool {
	a, ok := p.named[eventType]
	if !ok {
		a = p.rest
	}
	return a == ignore
}
