package translate

import (
	"context"
	"errors"

	"banyan/event"
	"banyan/wal"
)

var errPending = errors.New("not written yet")

// Recorder takes the rows of a snapshot.
type Recorder struct{}

// Recorder begins to take rows of one aggregate.
func (e *Engine) Recorder(past Past, aggregate string, at SnapshotPoint, put Put) (*Recorder, error) {
	return nil, errPending
}

// Add takes one aggregate.
func (r *Recorder) Add(ctx context.Context, tree *wal.Tree) error { return errPending }

// Close puts what is left.
func (r *Recorder) Close(ctx context.Context) error { return errPending }

// Absent removes what the snapshot has not seen.
func (e *Engine) Absent(ctx context.Context, past Past, aggregate string, at SnapshotPoint, put Put) error {
	return errPending
}

// AbsentKeys removes the given aggregates.
func (e *Engine) AbsentKeys(ctx context.Context, past Past, aggregate string, keys []string, at SnapshotPoint, put Put) error {
	return errPending
}

// Release tells a parked chain.
func (e *Engine) Release(ctx context.Context, past Past, chain []event.Parked, at ReleasePoint, put Put) (Released, error) {
	return Released{}, errPending
}

// Expected gives key and state.
func (r *Rules) Expected(aggregate string, tree *wal.Tree) (key string, state []byte, err error) {
	return "", nil, errPending
}

func (s *session) large(tx *wal.Tx) error { return errPending }
