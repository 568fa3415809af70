package control

import (
	"context"
	"errors"
	"time"

	"banyan/event"
)

// ErrNotParked says that a key that is to be released or discarded is not parked.
var ErrNotParked = errors.New("not parked")

// RequestKind is what an owner is asked to do with a chain.
type RequestKind string

// Kinds of requests.
const (
	Release RequestKind = "release"
	Discard RequestKind = "discard"
)

// Request is one chain that an owner is asked to release or discard.
type Request struct {
	ID         int64 // shared by the chains that were asked for together
	Projection string
	Version    int
	Kind       RequestKind
	event.Ref
	PartID
	CreatedAt time.Time
	DoneAt    time.Time // zero while it waits
	// Error is why it could not be done, "" where it was; Events how many it was
	// done with.
	Error  string
	Events int64
}

// Ask leaves a request for the chains of refs, or for all of the version where
// there are none. Owners do it between two batches. A ref that is not parked is
// ErrNotParked, and nothing is left then; so it is where all are asked for and
// none is parked.
func (s *Store) Ask(ctx context.Context, projection string, version int, kind RequestKind, refs ...event.Ref) (id int64, err error) {
	return 0, nil
}

// Pending lists the requests that wait for the owner of these partitions, the
// oldest first.
func (s *Store) Pending(ctx context.Context, db DB, projection string, version int, ids []PartID) ([]Request, error) {
	return nil, nil
}

// Finish writes down that one chain's request was done with so many events, or,
// where failed is not nil, why not. Use the batch's transaction for what it did,
// and the pool for a failure.
func (s *Store) Finish(ctx context.Context, db DB, r Request, events int64, failed error) error {
	return nil
}

// Result gives the chains of a request; ErrNotFound where there is no such
// request.
func (s *Store) Result(ctx context.Context, id int64) ([]Request, error) { return nil, nil }

// Await returns the chains of a request when all are done, or what there is with
// the error of ctx.
func (s *Store) Await(ctx context.Context, id int64) ([]Request, error) { return nil, nil }
