package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// View is one relation of a version that readers see under the projection's own
// schema: p.name shows p_vN.name.
type View struct {
	Name    string
	Columns []string // in order, with a plain SQL name each
	// SQL, where it is not "", is a declared view: CreateViews makes it in the
	// version's schema, over tables that it names without a schema.
	SQL     string
	Comment string
}

// CreateViews makes the declared views of a version in its own schema, in order.
// Tables have no part in it.
func (s *Store) CreateViews(ctx context.Context, tx pgx.Tx, v Version, views []View) error { return nil }

// PointViews makes the schema p show exactly these relations of the version, and
// lets the reader role select from them. A view whose columns stay is replaced,
// so that views of others on it live on; one whose columns change is made anew,
// and where others depend on it that is a *DependentsError.
func (s *Store) PointViews(ctx context.Context, tx pgx.Tx, v Version, views []View) error { return nil }

// DependentsError says that others have views on a view that has to change.
type DependentsError struct {
	View       string
	Dependents []string
}

// Error names them.
func (e *DependentsError) Error() string { return "" }

// PlaceHold makes two versions stop at one mark, the farthest that either has
// reached, for as long as given by the database's clock. It waits for open
// batches, as long as lock_timeout allows.
func (s *Store) PlaceHold(ctx context.Context, projection string, from, to int, length time.Duration) (h Hold, err error) {
	return h, nil
}

// HoldOf gives the hold of a version; ok is false where there is none or it has
// lapsed.
func (s *Store) HoldOf(ctx context.Context, projection string, version int) (h Hold, ok bool, err error) {
	return h, false, nil
}

// ClearHold takes the holds of all versions of a projection away.
func (s *Store) ClearHold(ctx context.Context, projection string) error { return nil }

// NotReachedError says which partitions do not stand exactly at a mark.
type NotReachedError struct {
	Projection string
	At         Mark
	Versions   []int  // one per partition in Parts
	Parts      []Part // not there yet
	Lapsed     bool   // the hold has lapsed, so that they may have gone on
}

// Error names the first partitions and how far they are.
func (e *NotReachedError) Error() string { return "" }

// Reached is nil when all partitions of both versions stand exactly at the hold's
// mark, and a *NotReachedError until then.
func (s *Store) Reached(ctx context.Context, projection string, from, to int, at Mark) error {
	return nil
}

// Swap makes readers see version to instead of from, in one transaction: it
// locks all partitions of both, checks that they stand exactly at the mark, points
// the views, keeps from, sets the Since of to, and clears the holds. Where readers
// hold the views it tries again for as long as the hold lasts. After an error
// nothing has changed.
func (s *Store) Swap(ctx context.Context, projection string, from, to int, at Mark, views []View) error {
	return nil
}
