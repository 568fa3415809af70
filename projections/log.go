package projections

import (
	"context"
	"iter"

	"banyan/event"
)

// Log is where events are read; bus.Cluster is one.
type Log interface {
	// Partitions counts the partitions of a topic.
	Partitions(ctx context.Context, topic string) (int, error)
	// Ends gives the first offset of a partition and the one its next record
	// will get.
	Ends(ctx context.Context, topic string, partition int) (first, next int64, err error)
	// Read yields the records from offset from to before until and ends.
	Read(ctx context.Context, topic string, partition int, from, until int64) iter.Seq2[event.Record, error]
	// Tail yields records as they come, in slices that the consumer may keep; an
	// empty one says that there is nothing more at the moment. It ends with ctx
	// or an error, and outlives what passes: stalled, if not nil, is then called
	// with the reason, and with nil when it goes on.
	Tail(ctx context.Context, topic string, partition int, from int64, stalled func(error)) iter.Seq2[[]event.Record, error]
}

// Work is done with the partitions of an assignment until ctx is done, which it
// then returns the error of, or until it fails. bus.Cluster.JoinGroup calls it.
type Work = func(ctx context.Context, parts map[string][]int) error
