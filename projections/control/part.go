package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// FencedError is the ErrFenced of one partition.
type FencedError struct {
	PartID
	Epoch, Found int64 // the caller's epoch and the one that the row has
	From, Next   int64 // where the caller left off and where the row stands
	Reason       string
}

// Error says who is fenced and why.
func (e *FencedError) Error() string { return "" }

// Is makes errors.Is(err, ErrFenced) true.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// LockedError says that partitions could not be taken over in time, because
// another session has a batch open on them.
type LockedError struct {
	Doing   string
	Holders []Holder
}

// Error names the holders.
func (e *LockedError) Error() string { return "" }

// Holder is a session that holds a lock.
type Holder struct {
	PartID
	PID         int // of the server's process
	Application string
	Client      string // address, "" for a local one
	State       string // "idle in transaction"
	Since       time.Time
}

// Start is a partition and the offset at which a version begins to read it.
type Start struct {
	PartID
	Offset int64
}

// EnsureParts makes the rows of partitions that have none yet; others keep what
// they have.
func (s *Store) EnsureParts(ctx context.Context, db DB, projection string, version int, starts []Start) error {
	return nil
}

// TakeOver makes the caller the owner of partitions: each gets a new epoch, and
// the progress that was committed is returned, in the order of topic and
// partition. It waits for the open batch of the owner before, ten seconds at
// most, then it is a *LockedError. A partition without a row is ErrNotFound.
func (s *Store) TakeOver(ctx context.Context, projection string, version int, ids []PartID, owner string) ([]Part, error) {
	return nil, nil
}

// Leave clears the owner's name where the epochs are still those of parts, so
// that status tells a partition that was given back from one that is orphaned.
func (s *Store) Leave(ctx context.Context, projection string, version int, parts []Part) error {
	return nil
}

// Advance is the fence: the first statement of every batch. It locks the rows of
// all steps in the order of topic and partition, and moves each from exactly
// where the caller left it. Otherwise nothing is moved and the error Is
// ErrFenced, or is a *HeldError; the transaction is then of no more use.
func (s *Store) Advance(ctx context.Context, tx pgx.Tx, projection string, version int, steps []Step) error {
	return nil
}

// Begin begins a batch, BEGIN and Advance in one round trip. After an error there
// is no transaction, and the connection it was tried on is given up.
func (s *Store) Begin(ctx context.Context, conn Beginner, projection string, version int, steps []Step) (pgx.Tx, error) {
	return nil, nil
}

// Parts lists the partitions of a version, in the order of topic and partition.
func (s *Store) Parts(ctx context.Context, db DB, projection string, version int) ([]Part, error) {
	return nil, nil
}
