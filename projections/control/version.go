package control

import (
	"context"
	"iter"

	"github.com/jackc/pgx/v5"
)

// Declaration is what a version is made of.
type Declaration struct {
	Projection         string // a plain SQL name: "shipping"
	Source             string
	Definition, Digest string
	Note               string
}

// DigestError says that a projection is declared with another definition than
// its active version has: a rebuild makes a version of it beside the live one.
type DigestError struct {
	Active Version
	Digest string // the declared one
}

// Error names the rebuild.
func (e *DigestError) Error() string { return "" }

// Declare gives the active version of a projection and whether it was made just
// now: the first one is active at once. Where the active version has another
// digest it is a *DigestError. For a new one the schemas (p and p_v1) are made in
// tx too; the caller makes the tables in Version.Schema and then calls
// PointViews, in the same transaction, so that nothing is made halfway.
func (s *Store) Declare(ctx context.Context, tx pgx.Tx, d Declaration) (v Version, made bool, err error) {
	return v, false, nil
}

// NewVersion makes the next version of a projection beside the others, with its
// schema, in state Building.
func (s *Store) NewVersion(ctx context.Context, tx pgx.Tx, d Declaration) (v Version, err error) {
	return v, nil
}

// Versions lists the versions of a projection in order of their numbers, or of
// all projections where it is "".
func (s *Store) Versions(ctx context.Context, projection string) ([]Version, error) { return nil, nil }

// Version gives one version, ErrNotFound where there is none.
func (s *Store) Version(ctx context.Context, projection string, number int) (v Version, err error) {
	return v, nil
}

// Active gives the version that readers see; ErrNotFound where there is none.
func (s *Store) Active(ctx context.Context, projection string) (v Version, err error) { return v, nil }

// SetState moves a version on: Building to Following or Retired, Following or
// Kept to Retired, Active to Retired where no other is left. Active and Kept are
// reached by Swap alone. Anything else is a *StateError.
func (s *Store) SetState(ctx context.Context, db DB, projection string, number int, to State, note string) error {
	return nil
}

// StateError says that a version cannot go from its state to the one asked for.
type StateError struct {
	Projection string
	Number     int
	From, To   State
}

// Error names both states.
func (e *StateError) Error() string { return "" }

// SetSince sets the mark at which the effects of a version begin.
func (s *Store) SetSince(ctx context.Context, db DB, projection string, number int, since Mark) error {
	return nil
}

// Drop removes a retired version: its schema and all that is kept of it, but not
// its effects and fired timers, which belong to the projection.
func (s *Store) Drop(ctx context.Context, projection string, number int) error { return nil }

// ChangeKind says what changed.
type ChangeKind string

// Kinds of changes.
const (
	// Looked is no change: it is yielded first and about every second, so that a
	// lost notification costs no more than that.
	Looked         ChangeKind = ""
	VersionChanged ChangeKind = "version" // a version was made, changed or dropped
	HoldChanged    ChangeKind = "hold"    // a hold was placed or cleared
	RequestMade    ChangeKind = "request"
	RequestDone    ChangeKind = "done"
	EffectPromised ChangeKind = "effect"
)

// Change is a notification; Projection is "" in one that was Looked.
type Change struct {
	Projection string
	Kind       ChangeKind
}

// Watch yields the changes of all projections of the database, on a connection
// of its own, until ctx is done or the connection fails.
func (s *Store) Watch(ctx context.Context) iter.Seq2[Change, error] { return nil }
