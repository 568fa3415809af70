package projections

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Handle makes a Program of a function that changes the database with SQL of its
// own: it gets the events of a batch, in order, and the batch's transaction, which
// the runner commits with the offsets. Tables that spec names are made like any
// others, in the schema of the version. SQL names them without a schema: the
// transaction's search_path is that schema, then public, so that the same function
// fills the next version in a rebuild.
//
// Where the function returns an error, or the database refuses a statement, the
// batch is taken back and repeated in smaller pieces, until the event that cannot
// be applied is alone; its key is parked. So the function must not keep anything
// between two calls that is not in the database.
func Handle(spec Spec, apply func(ctx context.Context, tx pgx.Tx, events []*Event) error) Program {
	return &handler{spec, apply}
}

type handler struct {
	spec  Spec
	apply func(ctx context.Context, tx pgx.Tx, events []*Event) error
}

var _ Batcher = (*handler)(nil)

// Spec is what Handle was given.
func (h *handler) Spec() Spec { return h.spec }

// Prepare leaves everything to the function.
func (h *handler) Prepare(*Event) error { return nil }

// Apply is never called by a Runner, which sees the Batcher.
func (h *handler) Apply(*Tx, *Event) error {
	return errors.New("this program works with SQL: it can be run, but not folded in memory")
}

// ApplyBatch calls the function.
func (h *handler) ApplyBatch(ctx context.Context, tx pgx.Tx, events []*Event) error {
	return h.apply(ctx, tx, events)
}
