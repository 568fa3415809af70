package proof

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"banyan/event"
)

// Config says what is to be proved, and where. Topics, Database, Rules and
// Watermark must be set, the rest has defaults.
type Config struct {
	Source     string // its name, "shop"
	Generation int    // of the source's present incarnation

	Topics   Topics
	Database Source
	// Current is the version of the present rules; Rules gives any version. A
	// version that is not to be had leaves its keys unproven.
	Current int
	Rules   func(ctx context.Context, version int) (Rules, error)
	// Names lists the topics of the present rules; those that a watermark
	// knows are read too.
	Names []string
	// TopicOf names the topic of each aggregate, for the report.
	TopicOf map[string]string
	// Watermark gives the latest watermark of the source, nil where there is
	// none: see Watermarks.
	Watermark func(ctx context.Context) (*Mark, error)

	// Settled is asked about a watermark that has not reached an LSN: whether
	// nobody works on the source and nothing captured was committed between the
	// two, so that the watermark holds for the later one too. Nil: never.
	Settled func(ctx context.Context, mark *Mark, lsn uint64) (bool, error)

	// Parked lists the keys that are parked now, beside those that the
	// watermark names. Nil: only the watermark is asked, which holds a filter
	// instead of names where there are many.
	Parked func(ctx context.Context) ([]event.ParkedAt, error)
	// SnapshotRunning says whether a snapshot or a repair is under way. Nil:
	// none ever is.
	SnapshotRunning func(ctx context.Context) (bool, error)
	// Counts is the account of all captured tables, by full name. Nil: it is
	// not judged.
	Counts func(ctx context.Context) (map[string]event.Counts, error)

	// MaxAge bounds how long one snapshot of the source is held, 5 minutes by
	// default: then another one is taken, and the proof goes on at its LSN.
	MaxAge time.Duration
	// Wait bounds how long to wait for the watermark, 1 minute by default.
	Wait time.Duration
	// RowsPerRange is the size of one read of the source, 20,000 by default.
	RowsPerRange int64
	// Rate bounds the rows read per second; 0 is no bound.
	Rate int64
	// SpillDir, which is made if it is missing, takes temporary files, about 100 bytes for each event and 200
	// for each aggregate; "" is the system's place for such.
	SpillDir string
	// Examples bounds the keys named of each kind, 10 by default.
	Examples int
	// Values keeps the states of differing keys in the report. They may be
	// personal.
	Values bool

	Log      *slog.Logger
	Progress func(Progress)
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// Progress says how far a proof is. Total is 0 where it cannot be known.
type Progress struct {
	Phase       string // "topics", "tables", "waiting", "comparing"
	Done, Total int64
	// What is being counted: "records", "rows", "bytes" or "parts".
	What string
}

func (c Config) withDefaults() Config {
	c.MaxAge = cmp.Or(c.MaxAge, 5*time.Minute)
	c.Wait = cmp.Or(c.Wait, time.Minute)
	c.RowsPerRange = cmp.Or(c.RowsPerRange, 20_000)
	c.Examples = cmp.Or(c.Examples, 10)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}
