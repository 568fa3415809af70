package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Covers reports whether the event at p ends at or below the mark. A position
// holds the LSN where the commit begins, a mark one where something ends; only a
// snapshot's event lies exactly at its mark.
func (m Mark) Covers(p event.Position) bool {
	if p.Generation != m.Generation {
		return p.Generation < m.Generation
	}
	return p.LSN < m.LSN || p.LSN == m.LSN && p.Snapshot > 0
}

// String writes the mark as a token: "1:0/1A2B3C8".
func (m Mark) String() string { return "" }

// MarkOf gives the mark of a watermark.
func MarkOf(w *event.Watermark) Mark {
	return Mark{Generation: w.Generation, LSN: w.LSN, Time: w.Time}
}

// SaveMark keeps which keys the source holds back, as of a watermark, in the
// transaction that passes it. It writes only what has changed.
func (s *Store) SaveMark(ctx context.Context, tx pgx.Tx, projection string, version int, w *event.Watermark) error {
	return nil
}

// ParkedAtSource gives the latest watermark saved for a version: its mark and
// parked keys or filter, no seqs; nil where there is none.
func (s *Store) ParkedAtSource(ctx context.Context, projection string, version int) (*event.Watermark, error) {
	return nil, nil
}

// Passed is the mark that every partition of the active version has passed, or
// those of parts where they are given. ErrNotFound where there is no such
// projection.
func (s *Store) Passed(ctx context.Context, projection string, parts ...PartID) (m Mark, err error) {
	return m, nil
}

// Age is how old the state is that readers see: the time since the source was
// where the projection is now. It is as good as the two clocks agree.
func (s *Store) Age(ctx context.Context, projection string) (time.Duration, error) { return 0, nil }

// Hindrance says that a key is parked, and where.
type Hindrance struct {
	event.Ref
	AtSource bool   // parked before it was ever told; else parked by the projection
	Since    Mark   // of the first change that is missing; the zero Mark where that is not known
	Reason   string // "" AtSource
}

// IsParked looks whether changes of a key are missing in the active version: at
// the source, or parked by the projection itself. Nil means no.
func (s *Store) IsParked(ctx context.Context, projection string, ref event.Ref) (*Hindrance, error) {
	return nil, nil
}

// WaitFor narrows a wait down.
type WaitFor struct {
	// Parts, where given, are the only ones that must have passed: those where
	// the key lies.
	Parts []PartID
	// Ref, where set, is looked up among the parked keys.
	Ref event.Ref
}

// BehindError says that a projection had not passed a mark when the wait ended.
type BehindError struct {
	Projection string
	Want, At   Mark
	Age        time.Duration // of what readers see now
}

// Error says how far behind.
func (e *BehindError) Error() string { return "" }

// ParkedError says that the changes a wait is for are parked.
type ParkedError struct {
	Projection string
	Hindrance
}

// Error names the key and the reason.
func (e *ParkedError) Error() string { return "" }

// Wait returns when the active version has passed the mark, nil, or with a
// *BehindError when ctx or its deadline ends first, or with a *ParkedError as
// soon as the key is known to be held back. Many waits at once ask the database
// together.
func (s *Store) Wait(ctx context.Context, projection string, m Mark, w WaitFor) error { return nil }

type markCache struct{}
type passedCache struct{}
