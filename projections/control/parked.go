package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Chain sums up a parked chain.
type Chain struct {
	event.Ref
	Version int
	PartID
	Events int64
	Reason string         // of its first event
	First  string         // id of its first event
	Type   string         // of its first event
	Since  time.Time      // when it was parked
	From   event.Position // of its first event
	Until  event.Position // of its last
}

// Park puts events at the end of the chains of their keys, in the order given.
func (s *Store) Park(ctx context.Context, tx pgx.Tx, events []ParkedEvent) error { return nil }

// Chains lists the parked chains of a version, the oldest first.
func (s *Store) Chains(ctx context.Context, db DB, projection string, version int) ([]Chain, error) {
	return nil, nil
}

// Chain gives the events of one chain in order, at most limit (0: all); none
// where the key is not parked.
func (s *Store) Chain(ctx context.Context, db DB, projection string, version int, ref event.Ref, limit int) ([]ParkedEvent, error) {
	return nil, nil
}

// Unpark removes the whole chain of a key and gives the number of its events.
func (s *Store) Unpark(ctx context.Context, tx pgx.Tx, projection string, version int, ref event.Ref) (int64, error) {
	return 0, nil
}

// ParkedRefs gives the parked keys of partitions, which an owner must know
// before its first batch.
func (s *Store) ParkedRefs(ctx context.Context, db DB, projection string, version int, ids []PartID) (map[PartID][]event.Ref, error) {
	return nil, nil
}

// Fate is what became of a parked event.
type Fate string

// Fates of a parked event.
const (
	Released  Fate = "released"
	Discarded Fate = "discarded"
)

// Settled says that a parked event was released, right after the position At in
// the order, or discarded. A replay repeats it there.
type Settled struct {
	event.Ref
	PartID
	Offset, Seq int64
	ID          string // of the event
	Fate        Fate
	At          event.Position
}

// Settle records what became of parked events, in the order in which they were
// applied.
func (s *Store) Settle(ctx context.Context, tx pgx.Tx, projection string, version int, settled []Settled) error {
	return nil
}

// Settlements gives them back, in that order.
func (s *Store) Settlements(ctx context.Context, db DB, projection string, version int) ([]Settled, error) {
	return nil, nil
}
