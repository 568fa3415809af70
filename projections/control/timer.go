package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Firing says that a timer has fired right after a position of the order.
type Firing struct {
	N         int64 // number in the order of firing, given by RecordFirings
	Name, Key string
	At        time.Time // when it was due
	After     event.Position
}

// RecordFirings writes down that timers have fired, in the transaction of what
// they did, in the order given. One that was recorded before (by another version)
// stays as it was.
func (s *Store) RecordFirings(ctx context.Context, tx pgx.Tx, projection string, firings []Firing) error {
	return nil
}

// Firings gives the firings with a number above after, in order, at most limit.
func (s *Store) Firings(ctx context.Context, db DB, projection string, after int64, limit int) ([]Firing, error) {
	return nil, nil
}

// SaveCutoff writes down that rows of a table with a time before cutoff are gone.
// It never steps back.
func (s *Store) SaveCutoff(ctx context.Context, db DB, projection string, version int, table string, cutoff time.Time) error {
	return nil
}

// Cutoffs gives the cutoff of each table that has one.
func (s *Store) Cutoffs(ctx context.Context, db DB, projection string, version int) (map[string]time.Time, error) {
	return nil, nil
}
