package bus

import (
	"context"
	"iter"

	"banyan/event"
)

// Tail reads one partition for ever, from offset from (or First) on, and yields
// what each fetch brings as soon as it is there. An empty slice says that the
// reader has everything there is; on an idle partition one comes every half
// second. On a compacted topic offsets are missing, and are passed over.
//
// Each slice is new, and the consumer may keep it and what is in it; nobody
// writes to it again. The records of one slice share the memory of their fetch,
// up to 4 MiB: who keeps a few of them for long clones these.
//
// A Tail outlives restarts of brokers: what may pass is tried again, at least
// once a second, for as long as ctx lives. stalled, if not nil, is then called
// with the reason after each attempt, and with nil when it goes on again; it is
// called while the consumer waits for the next slice, from the same goroutine.
//
// It ends with ctx, whose cause is then its error, or with an *Error: one that
// wraps an *OutOfRange where the log does not hold the offset (any more, or
// yet), a permanent one otherwise.
//
// Tails do not wait for each other, nor Produce for them: while a fetch waits
// for records it has a connection to itself.
func (c *Cluster) Tail(ctx context.Context, topic string, partition int, from int64, stalled func(error)) iter.Seq2[[]event.Record, error] {
	if stalled == nil {
		stalled = func(error) {}
	}
	return func(yield func([]event.Record, error) bool) {
		r := &reader{c: c, topic: topic, partition: partition, next: from, patient: stalled}
		for {
			records, err := r.step(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			r.buf = nil // the consumer's
			if len(records) == 0 && r.next < r.end {
				continue // all of it was compacted away
			}
			if !yield(records, nil) {
				return
			}
		}
	}
}
