// Package translate turns row changes into business events. It is the only
// place where wal and event meet, and the only one that knows the old schema.
//
// banyan.yaml names aggregates (an order with its lines) and rules (an insert
// into orders is an OrderPlaced). Load reads it, Compile checks it against the
// real columns and types, and an Engine applies it: whole transactions in,
// events with their aggregates' new states, links, parked changes, traces and
// the account of every row change out. It touches no database: what was before
// is asked of a Past, what comes out is given to a put function, both of which
// the store implements inside one transaction.
//
// docs/rules.md tells the rules, docs/types.md the form of every value.
package translate

import (
	"context"
	"fmt"
	"iter"
	"time"

	"banyan/event"
	"banyan/wal"
)

// Past is what the store knows from before. All methods see what earlier calls
// of put in the same store transaction have written.
type Past interface {
	// States gives the kept states; a ref without one is left out.
	States(ctx context.Context, refs []event.Ref) (map[event.Ref]event.State, error)
	// Roots gives the aggregates that child rows belong to.
	Roots(ctx context.Context, rows []event.RowRef) (map[event.RowRef][]event.Ref, error)
	// Keys gives the keys of all live aggregates of one kind. States and put
	// may be called while it is read.
	Keys(ctx context.Context, aggregate string) iter.Seq2[string, error]
	// Parked says which of the refs have a chain that is not empty.
	Parked(ctx context.Context, refs []event.Ref) (map[event.Ref]bool, error)
}

// Put stores one step. The step must not be kept after it returns.
type Put func(ctx context.Context, step *event.Step) error

// NoPast is a Past that knows nothing, for previews and for a first snapshot
// into an empty store.
type NoPast struct{}

// States knows none.
func (NoPast) States(context.Context, []event.Ref) (map[event.Ref]event.State, error) {
	return nil, nil
}

// Roots knows none.
func (NoPast) Roots(context.Context, []event.RowRef) (map[event.RowRef][]event.Ref, error) {
	return nil, nil
}

// Keys has none.
func (NoPast) Keys(context.Context, string) iter.Seq2[string, error] {
	return func(func(string, error) bool) {}
}

// Parked has none.
func (NoPast) Parked(context.Context, []event.Ref) (map[event.Ref]bool, error) { return nil, nil }

// Engine applies one set of rules. It may be used by one goroutine at a time.
// Fields may be changed between calls.
type Engine struct {
	Rules      *Rules
	Source     string // first part of event ids
	Generation int    // of the source's incarnation, from 1
	// Snapshot is the number of the latest snapshot that began, 0 before the
	// first: aggregates born now are as good as seen by it.
	Snapshot int
	// SpillDir is where transactions that wal spilled are sorted on disk. ""
	// is the system's directory for temporary files.
	SpillDir string
	// MaxEvent is the largest Data that an event may have, in bytes; a larger
	// one parks its aggregate. 0 is no limit.
	MaxEvent int
	// Absorbs are the ranges read under later snapshots whose overlap with the
	// stream is not over yet.
	Absorbs []Absorb

	scratch
}

// Absorb says that rows of one aggregate were read under a snapshot taken in
// mid-stream: what that snapshot has seen already must not be applied again.
type Absorb struct {
	Aggregate string
	// Holds reports whether the range that was read holds the aggregate with
	// this key, given as the texts of its key columns.
	Holds func(key []string) bool
	// Visible reports whether the snapshot saw the transaction.
	Visible func(xid uint32) bool
	// All says that the range is the whole aggregate. A change of a table whose
	// shape the rules cannot read any more is then absorbed unread.
	All bool
}

// SnapshotPoint is where the events of a snapshot stand.
type SnapshotPoint struct {
	Number int     // of the snapshot, from 1
	LSN    wal.LSN // position of the store commit
	Time   time.Time
	// Retell makes an event of every aggregate, equal ones too: where the rules
	// that have told it last can prove nothing any more.
	Retell bool
}

// ReleasePoint is where the events of a released chain stand: the position of
// the store commit that releases them.
type ReleasePoint struct {
	Position event.Position
	// EndLSN is stored with a trace of the release.
	EndLSN wal.LSN
}

// Released says how far a release came.
type Released struct {
	// Done is the number of chain entries, from the first, that are told now
	// and must be removed from the chain.
	Done int
	// Reason and Detail say why the next one still does not fit; both are
	// empty where the whole chain was released.
	Reason, Detail string
}

// UnknownError stops the engine under `unknown: stop`: a change that no rule
// knows. Nothing of its transaction has been put.
type UnknownError struct {
	LSN       wal.LSN
	Table     string
	Op        wal.Op
	Aggregate string
	Key       string
	Reason    string
	WayOut    string
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("transaction %s: %s of %s, %s/%s: %s; %s", e.LSN, e.Op, e.Table, e.Aggregate, e.Key, e.Reason, e.WayOut)
}

// SchemaError says that a table has become one that the rules cannot read.
type SchemaError struct {
	Table, Column string
	Message       string
	WayOut        string
}

func (e *SchemaError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("table %s: %s; %s", e.Table, e.Message, e.WayOut)
	}
	return fmt.Sprintf("table %s, column %s: %s; %s", e.Table, e.Column, e.Message, e.WayOut)
}
