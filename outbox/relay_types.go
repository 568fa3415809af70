package outbox

import (
	"context"
	"fmt"
	"iter"
	"time"

	"banyan/event"
)

// Publisher carries records to the bus and reads back what lies there. Package
// bus implements it. An error of Produce leaves open whether the records were
// appended, unless it has a method Permanent() bool that returns true: then
// they were not, and never will be. All methods are safe for concurrent use.
type Publisher interface {
	// Produce appends records to one partition in one request, in order and
	// acknowledged by all replicas, and returns the offset of the first.
	Produce(ctx context.Context, topic string, partition int, records []event.Record) (base int64, err error)
	// Ends gives the first offset of a partition and the one its next record
	// will get.
	Ends(ctx context.Context, topic string, partition int) (first, next int64, err error)
	// Read yields the records from offset from to until (exclusive), in
	// order. It ends after the first error.
	Read(ctx context.Context, topic string, partition int, from, until int64) iter.Seq2[event.Record, error]
}

// Backlog is what the relay needs of the store. *Owner implements it. All
// methods are safe for concurrent use.
type Backlog interface {
	// Epoch is the owner's; records of a higher one are somebody else's.
	Epoch() int64
	// Shelves gives all partitions that the store has ever put an event in.
	Shelves(ctx context.Context) ([]Shelf, error)
	// Stored gives the events of one partition with a seq above after, in
	// seq order: at most count of them, and no more once their Data exceeds
	// bytes. Published events are kept at least until Shelf.Acked has passed
	// them.
	Stored(ctx context.Context, topic string, partition int, after int64, count, bytes int) ([]event.Event, error)
	// Acknowledge stores how far the shelves are published, fenced by the
	// epoch: ErrFenced where somebody else owns the source now, also where acks
	// is empty. Nothing ever moves back.
	Acknowledge(ctx context.Context, acks []Ack) error
	// Committed returns a channel that is closed by the next commit that
	// stores events or moves the position.
	Committed() <-chan struct{}
	// Frontier gives, of one moment, the store's position and the last seq
	// assigned on every shelf.
	Frontier(ctx context.Context) (Frontier, error)
	// Parking gives a frontier and the keys that are parked, with the LSN from
	// which on each is not told, of one and the same moment. It costs more
	// than Frontier.
	Parking(ctx context.Context) (Frontier, []event.ParkedAt, error)
}

// Shelf is one partition of one topic, as the store sees it.
type Shelf struct {
	Topic     string
	Partition int
	Assigned  int64 // last seq assigned, 0 before the first
	Acked     int64 // last seq known to lie in the topic, 0 before the first
	Offset    int64 // of a record with that seq; without meaning where Acked is 0
	// TwinSeq is the last seq whose effect lies in the `.latest` twin, and
	// TwinNext the offset that the twin's next record would have got then.
	TwinSeq, TwinNext int64
}

// Ack says how far one shelf is published. A zero TwinNext leaves the twin's
// progress alone, a zero Seq the topic's.
type Ack struct {
	Topic             string
	Partition         int
	Seq, Offset       int64
	TwinSeq, TwinNext int64
}

// Frontier is what a watermark is made of: once every shelf is published up to
// Assigned, everything that the source committed up to LSN is on the bus.
type Frontier struct {
	Generation int
	LSN        uint64    // end LSN of the last transaction in the store
	Time       time.Time // of the source
	// Complete is false until the first snapshot, or that of a repair, is
	// whole.
	Complete bool
	Assigned []Shelf
	// Parked changes whenever the set of parked keys may have changed.
	Parked int64
}

// ParkedKey is a key whose events wait, and the LSN from which on it is not
// told.
type ParkedKey struct {
	Topic string
	event.Ref
	LSN uint64
}

// Refused says that a topic is not what the store knows it to be. Nothing was
// written; running again does not help before a person has looked.
type Refused struct {
	Topic     string
	Partition int
	Why       string // what was found
	Out       string // what to do
}

// Error says what was found where, and the way out.
func (r *Refused) Error() string {
	return fmt.Sprintf("topic %s, partition %d: %s; %s", r.Topic, r.Partition, r.Why, r.Out)
}
