package projections

import (
	"errors"
	"fmt"

	"banyan/projections/control"
)

// What a Fault is about. Test with errors.Is; a record that is not ours is
// event.ErrForeign.
var (
	// ErrGap says that records are missing in a partition.
	ErrGap = errors.New("records are missing")
	// ErrOtherBytes says that two records with one seq differ.
	ErrOtherBytes = errors.New("two records have one seq and other bytes")
	// ErrNewTopic says that the topic is not the one that was read before: it was
	// deleted and made anew, or copied to another cluster.
	ErrNewTopic = errors.New("the topic was made anew")
	// ErrHistoryGone says that the log no longer holds what comes next.
	ErrHistoryGone = errors.New("the log has lost what comes next")
	// ErrPartitions says that a topic has another number of partitions than when
	// the version was made.
	ErrPartitions = errors.New("the number of partitions has changed")
	// ErrGeneration says that a generation came after a later one.
	ErrGeneration = errors.New("the source's generation has stepped back")
)

// Fault stops a Runner: going on would give wrong rows. It names the place and
// the way out.
type Fault struct {
	control.PartID
	Offset int64 // -1 where it is not about one record
	What   string
	Way    string // what a person can do
	Err    error  // one of those above, or event.ErrForeign
}

// Error names the place, what is wrong and the way out.
func (f *Fault) Error() string {
	at := f.PartID.String()
	if f.Part < 0 {
		at = "topic " + f.Topic
	}
	if f.Offset >= 0 {
		at += fmt.Sprintf(" at offset %d", f.Offset)
	}
	s := at + ": " + f.What
	if f.Way != "" {
		s += ": " + f.Way
	}
	return s
}

// Unwrap gives what the fault is about.
func (f *Fault) Unwrap() error { return f.Err }

// PoisonError is why a Runner that shall not park has stopped: an event could
// not be applied.
type PoisonError struct {
	Event *Event
	Err   error
}

// Error names the event and the reason.
func (e *PoisonError) Error() string {
	return fmt.Sprintf("%s/%d at offset %d: event %s (%s) cannot be applied: %v",
		e.Event.Topic, e.Event.Partition, e.Event.Offset, e.Event.ID.String(), e.Event.Type, e.Err)
}

// Unwrap gives the reason.
func (e *PoisonError) Unwrap() error { return e.Err }
