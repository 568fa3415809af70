package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// EffectState says how far an effect is.
type EffectState string

// States of an effect.
const (
	Promised EffectState = "promised"
	InSend   EffectState = "sending"
	Sent     EffectState = "sent"
	Failed   EffectState = "failed" // tried again at RetryAt; by hand only where that is zero
	// Doubtful: its sender died between sending and saying so.
	Doubtful EffectState = "doubtful"
)

// Entry is an effect in the ledger.
type Entry struct {
	Effect
	ID         int64
	State      EffectState
	Attempts   int
	Sender     int64 // id of the lease of who sends or sent it
	Error      string
	PromisedAt time.Time
	SendingAt  time.Time
	RetryAt    time.Time
	SentAt     time.Time
}

// Key is what a receiver can tell repeats by: the same for every attempt.
func (e *Effect) Key() string { return "" }

// Promise writes effects into the ledger, in the transaction that applies their
// source events, and makes its commit synchronous. It gives the number of those
// that were not there yet.
func (s *Store) Promise(ctx context.Context, tx pgx.Tx, effects []Effect) (int64, error) {
	return 0, nil
}

// Claim takes up to n effects that are due, the oldest first, for the holder of
// the lease: they are InSend when it returns, and nobody else gets them.
func (s *Store) Claim(ctx context.Context, projection string, lease *Lease, n int) ([]Entry, error) {
	return nil, nil
}

// MarkSent says that an effect has left. It is ErrFenced where it is no longer
// the lease's to say, because it was taken for doubtful.
func (s *Store) MarkSent(ctx context.Context, lease *Lease, id int64) error { return nil }

// MarkFailed says that an effect has certainly not left, and when to try again;
// never by itself where retry is the zero time.
func (s *Store) MarkFailed(ctx context.Context, lease *Lease, id int64, cause error, retry time.Time) error {
	return nil
}

// MarkDoubtful says that an effect may have left or not: a time-out after it was
// handed over.
func (s *Store) MarkDoubtful(ctx context.Context, lease *Lease, id int64, cause error) error {
	return nil
}

// Doubt finds the effects that a sender was about when it died and makes them
// Doubtful; it gives their number.
func (s *Store) Doubt(ctx context.Context, projection string) (int64, error) { return 0, nil }

// EffectFilter chooses entries of the ledger.
type EffectFilter struct {
	States []EffectState // none: all
	Name   string        // "" for all
	After  int64         // entries with a higher ID
	Limit  int           // 0: 100
}

// Effects lists entries of the ledger, the oldest first.
func (s *Store) Effects(ctx context.Context, projection string, f EffectFilter) ([]Entry, error) {
	return nil, nil
}

// EffectCounts counts the ledger by state.
func (s *Store) EffectCounts(ctx context.Context, projection string) (map[EffectState]int64, error) {
	return nil, nil
}

// Resend makes Doubtful and Failed effects Promised again; of ids, or all of
// them where there are none. It gives their number.
func (s *Store) Resend(ctx context.Context, projection string, ids ...int64) (int64, error) {
	return 0, nil
}

// PruneEffects removes effects sent before a time whose source events no version
// can apply again, and the payload of the other ones sent before it.
func (s *Store) PruneEffects(ctx context.Context, projection string, before time.Time) (removed int64, err error) {
	return 0, nil
}

