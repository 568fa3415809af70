package control

import (
	"errors"
	"fmt"
	"time"

	"banyan/event"
)

// Mark is how far a source is told, or how far a projection has passed it: all
// that ends at or below the LSN, in that generation. The zero Mark is before
// everything.
type Mark struct {
	Generation int
	LSN        uint64
	// Time is the source's at the mark.
	Time time.Time
}

// Compare orders marks: by generation, then LSN.
func (m Mark) Compare(o Mark) int {
	switch {
	case m.Generation != o.Generation:
		return m.Generation - o.Generation
	case m.LSN < o.LSN:
		return -1
	case m.LSN > o.LSN:
		return 1
	}
	return 0
}

// PartID names one partition of one topic.
type PartID struct {
	Topic string
	Part  int
}

// String writes "shop.orders/3".
func (p PartID) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Part) }

// Part is the progress of one version of a projection in one partition.
type Part struct {
	PartID
	Epoch int64
	Owner string // host and process of the owner, for people
	// Next is the offset of the first record that is not applied.
	Next int64
	// Seq is the highest banyan_seq applied, 0 before the first; Writer the
	// epoch of the store commit that wrote it.
	Seq, Writer int64
	// Applied is the position of the last event applied; Passed the latest
	// watermark that this partition has passed. Passed may be the smaller one.
	Applied event.Position
	Passed  Mark
	// StreamTime is the latest commit time among the events applied: it never
	// steps back.
	StreamTime time.Time
	// Anchor is the id of the event at AnchorOffset, the last one applied (""
	// before the first): a topic that was made anew has another one there.
	Anchor       string
	AnchorOffset int64
	UpdatedAt    time.Time
}

// Step is one advance of one partition, part of a batch.
type Step struct {
	PartID
	Epoch    int64
	From, To int64 // Next before and after; equal where only the mark moves
	Seq      int64
	Writer   int64
	Applied  event.Position
	Passed   Mark
	Time     time.Time // stream time after the step
	Anchor   string
	AnchorAt int64
}

// ErrFenced says that another owner has taken a partition over. Whoever gets it
// has lost: it stops and never tries again.
var ErrFenced = errors.New("another owner has taken over")

// HeldError says that a swap wants this version to stop at a mark for a moment.
// The batch goes beyond it; nothing of it was done. The runner cuts its batch at
// the mark and waits there until the hold is gone.
type HeldError struct{ Hold Hold }

// Error names the mark.
func (e *HeldError) Error() string {
	return "held at " + e.Hold.At.String() + " for a swap"
}

// Hold makes a version stop exactly at a mark: everything that ends at or below
// it is applied, nothing beyond. It lapses by itself, so that a swap that was
// killed stops nobody for long.
type Hold struct {
	At    Mark
	Until time.Time // the database's clock
}

// State of a version.
type State string

// States of a version, in the order of its life.
const (
	// Building: a rebuild loads it; its rows are of no use to readers.
	Building State = "building"
	// Following: it has its history and follows the topics; readers see another.
	Following State = "following"
	// Active: readers see this one.
	Active State = "active"
	// Kept: readers saw this one before; it still follows, for a rollback.
	Kept State = "kept"
	// Retired: it follows no longer; its schema may be dropped.
	Retired State = "retired"
)

// Version is one version of a projection: its definition and its state.
type Version struct {
	Projection string
	Number     int // from 1
	State      State
	// Definition is the text it was declared with ("" for one in Go), Digest
	// its fingerprint: two versions of one digest give the same rows.
	Definition, Digest string
	// Schema holds its tables.
	Schema string
	Source string // whose watermarks count
	// Since is the mark at which effects begin: what a source event at or below
	// it would have sent is never sent by this version.
	Since     Mark
	CreatedAt time.Time
	ChangedAt time.Time
	Note      string // why, for people: "rebuild", "swapped from 1"
}

// ParkedEvent is one event of a parked chain: it could not be applied, or comes
// behind one that could not.
type ParkedEvent struct {
	Projection string
	Version    int
	event.Ref
	PartID
	Offset   int64
	Seq      int64
	Position event.Position
	ID       string // of the event
	Type     string
	Reason   string // of the first one; "behind <id>" for those after it
	Record   event.Record
	ParkedAt time.Time
}

// Effect is something that leaves the house because of an event: a mail, a call.
// It is promised in the transaction that applies the event and sent once.
type Effect struct {
	Projection string
	// Source is the id of the event, or "timer:<name>/<key>@<time>"; with Name
	// and N it is the effect's identity, whatever version promises it.
	Source string
	Name   string // of the effect in the definition
	N      int    // several of one name for one event
	Kind   string // "mail", "http"
	// Payload is all that is needed to send it.
	Payload  []byte
	Position event.Position // of the source event
}
