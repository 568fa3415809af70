package rebuild

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/projections"
)

// Config says what is rebuilt, from where, and what it may take.
type Config struct {
	// DB is the projection's database, with the rights of its owner. A rebuild
	// takes two of its connections.
	DB *pgxpool.Pool
	// Log holds the topics of the Program and its source's watermarks.
	Log projections.Log
	// Program is what the new version does with events.
	Program projections.Program

	// Owner is who does it, for people; host and process where empty.
	Owner string
	// Park lets events that cannot be applied go into the parked chains of
	// their keys, as the live runner does. Otherwise the first one ends the
	// rebuild with a *projections.PoisonError: a rebuild is mostly made after a fix, and
	// what still cannot be applied then should be known before a swap.
	Park bool
	// Memory is how many bytes the rows may take before they go to Dir; 192
	// MiB where zero.
	Memory int64
	// Dir is for what does not fit into memory; os.TempDir where empty. What is
	// put there is removed in the end, and nameless from the beginning where
	// the system allows that.
	Dir string
	// Workers is how many partitions are read and decoded at once; one per
	// processor where zero.
	Workers int
	// MarkWait is how long to wait for a watermark where none is there, for
	// the aligned; 5 s where zero.
	MarkWait time.Duration
	// Progress, where set, is called when the phase changes and every
	// ProgressEvery (1 s where zero), from one goroutine at a time.
	Progress      func(Progress)
	ProgressEvery time.Duration
	Logger        *slog.Logger // discarded where nil
}

func (c Config) withDefaults() Config {
	if c.Memory <= 0 {
		c.Memory = 192 << 20
	}
	if c.Dir == "" {
		c.Dir = os.TempDir()
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.MarkWait <= 0 {
		c.MarkWait = 5 * time.Second
	}
	if c.ProgressEvery <= 0 {
		c.ProgressEvery = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Owner == "" {
		host, _ := os.Hostname() // for people: without it, the process alone
		c.Owner = fmt.Sprintf("%s, process %d", host, os.Getpid())
	}
	return c
}

// Fault is one thing that stands in the way, for people.
type Fault struct {
	Field string // "topic shop.orders", "database"
	What  string // what is wrong, with the value
	Do    string // the way out
}

// String writes the three parts in one line.
func (f Fault) String() string { return f.Field + ": " + f.What + "; " + f.Do }

// Refused says all that stands in the way at once. Nothing was changed.
type Refused struct {
	Doing  string // "rebuild shipping"
	Faults []Fault
}

// Error lists the faults, one to a line where there are several.
func (r *Refused) Error() string {
	if len(r.Faults) == 1 {
		return r.Doing + ": " + r.Faults[0].String()
	}
	s := r.Doing + ":"
	for _, f := range r.Faults {
		s += "\n  " + f.String()
	}
	return s
}

// ErrStale says that a plan is not one of this program; make another one.
var ErrStale = errors.New("the plan does not fit")

// PoisonError is the first event that could not be applied.
type PoisonError = projections.PoisonError
