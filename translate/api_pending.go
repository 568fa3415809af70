package translate

import (
	"context"
	"errors"

	"banyan/event"
	"banyan/wal"
)

type scratch struct{}

var errPending = errors.New("not written yet")

// Compile checks a configuration against real tables.
func Compile(cfg *Config, tables []*wal.Table, version int) (*Rules, []Warning, error) {
	return nil, nil, errPending
}

// Translate turns transactions into steps.
func (e *Engine) Translate(ctx context.Context, past Past, txs []*wal.Tx, put Put) error {
	return errPending
}

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

// TraceTx is the provenance of one transaction, read back.
type TraceTx struct{}

// DecodeTrace reads event.Trace.Body.
func DecodeTrace(body []byte) (*TraceTx, error) { return nil, errPending }

// ParkedTx is what a parked chain's entry keeps, read back.
type ParkedTx struct{}

// DecodeParked reads event.Parked.Body.
func DecodeParked(body []byte) (*ParkedTx, error) { return nil, errPending }
