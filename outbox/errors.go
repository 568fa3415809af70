package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrFenced says that another owner has taken the store over, or that the
// store's position is not the one this owner left. Nothing was written. Stop;
// never retry.
var ErrFenced = errors.New("another owner has taken over the store")

// ErrFull is what FullError is, for errors.Is.
var ErrFull = errors.New("the outbox is full")

// ErrUnsettled says that a commit was sent, its answer was lost, and the caller
// gave up before the store could be asked what became of it. This owner is of
// no more use: Acquire anew and read the position.
var ErrUnsettled = errors.New("the outcome of the last commit is not known")

// ErrClosed says that the owner was closed.
var ErrClosed = errors.New("the owner is closed")

// ErrNotFound says that what was asked for is not, or no longer, in the store.
var ErrNotFound = errors.New("not in the store")

// FullError says that the outbox holds more than its disk budget. Nothing was
// written; commit again after Owner.WaitRoom. It Is ErrFull.
type FullError struct{ Used, Max int64 } // bytes

func (e *FullError) Error() string {
	return fmt.Sprintf("the outbox is full: %d of %d bytes wait for the broker; it takes events again as soon as some are published", e.Used, e.Max)
}

// Is makes errors.Is(err, ErrFull) true.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// Difference is one property of the source that is not what the store knows.
type Difference struct {
	What     string `json:"what"` // "system identifier"
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

// IncarnationError says that the source is not the one that the store has
// followed: another server, another timeline or another slot. Its LSNs cannot
// be compared with the stored position, so nothing was done.
type IncarnationError struct {
	Source     string
	Generation int // the last one counted
	Differs    []Difference
}

func (e *IncarnationError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "source %s is not the one of generation %d:", e.Source, e.Generation)
	for i, d := range e.Differs {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %s is %s, was %s", d.What, d.Found, d.Expected)
	}
	fmt.Fprintf(&b, "; changes between the two are unknown. Point --source at the old one, or accept this one as generation %d with `cdc repair`, which takes a new snapshot and publishes only what differs", e.Generation+1)
	return b.String()
}

// SourceError says that the store belongs to another source.
type SourceError struct{ Store, Asked string }

func (e *SourceError) Error() string {
	return fmt.Sprintf("the store holds source %q, not %q: give each source a store database of its own", e.Store, e.Asked)
}

// SchemaError says that the schema banyan of the database is not one that this
// program can use.
type SchemaError struct{ Reason string }

func (e *SchemaError) Error() string { return "schema banyan: " + e.Reason }

// LeaseError says that an owner is alive where none may be.
type LeaseError struct{ Holder Holder }

func (e *LeaseError) Error() string {
	return fmt.Sprintf("the store is in use by %s: stop it first", e.Holder)
}

// transientError marks a failure of the store after which the batch can be
// committed again.
type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

// Retryable reports whether err is a failure of the store, of its server or of
// the way to it, after which nothing of the batch was written and the same
// batch can be given to Commit again.
func Retryable(err error) bool {
	var t *transientError
	return errors.As(err, &t)
}

// Passing reports whether err, of any method but Commit, is a failure of the
// store that goes away by itself, so that the same call may succeed later.
func Passing(err error) bool { return passing(err) }

// passing reports whether a failure of the store goes away by itself.
func passing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01", "55P03", // serialization, deadlock, lock not available
			"53000", "53100", "53200", "53300", // resources: disk full, memory, connections
			"57P01", "57P02", "57P03", "57014": // shutdown, crash, starting up, cancelled
			return true
		}
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "58")
	}
	var conn *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &conn) || errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, errConnLost)
}

var errConnLost = errors.New("the connection to the store is lost")
