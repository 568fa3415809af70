package bus

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"banyan/event"
)

// Last stands for the end that a partition has when the reading begins.
const Last int64 = -1

// FollowOptions say where Follow begins and whether it ends.
type FollowOptions struct {
	// From is First, Last or an offset, for every partition that Offsets does
	// not name. An offset that a partition no longer has is an error.
	From    int64
	Offsets map[int]int64
	// UntilCaughtUp ends the reading at the ends that the partitions had when
	// it began.
	UntilCaughtUp bool
}

// Follow yields the records of all partitions of a topic, each partition in
// order, the partitions as they come. Without UntilCaughtUp it goes on until
// ctx is done, which is then its error, as it is after any other failure. No
// consumer group is used and nothing is committed. It waits for its goroutines
// before it returns.
func (c *Cluster) Follow(ctx context.Context, topic string, opts FollowOptions) iter.Seq2[event.Record, error] {
	return func(yield func(event.Record, error) bool) {
		ends, err := c.AllEnds(ctx, topic)
		if err != nil {
			yield(event.Record{}, err)
			return
		}
		for p := range opts.Offsets {
			if p < 0 || p >= len(ends) {
				yield(event.Record{}, &Error{Op: "read", Topic: topic, Partition: p, Kind: Permanent,
					Err: fmt.Errorf("there are only partitions 0 to %d", len(ends)-1)})
				return
			}
		}
		within, cancel := context.WithCancel(ctx)
		var readers sync.WaitGroup
		type part struct {
			records []event.Record
			err     error
		}
		parts := make(chan part)
		for p, end := range ends {
			r := &reader{c: c, topic: topic, partition: p, next: opts.From}
			if at, ok := opts.Offsets[p]; ok {
				r.next = at
			}
			switch r.next {
			case First:
				r.next = end.First
			case Last:
				r.next = end.Next
			}
			if opts.UntilCaughtUp {
				r.until = end.Next
			}
			readers.Go(func() {
				for !opts.UntilCaughtUp || r.next < r.until {
					records, err := r.step(within)
					r.buf = nil // handed over
					for opts.UntilCaughtUp && len(records) > 0 && records[len(records)-1].Offset >= r.until {
						records = records[:len(records)-1]
					}
					if len(records) == 0 && err == nil {
						continue
					}
					select {
					case parts <- part{records, err}:
					case <-within.Done():
						return
					}
					if err != nil {
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { readers.Wait(); close(done) }()
		defer func() { cancel(); <-done }()
		for {
			select {
			case p := <-parts:
				if p.err != nil {
					yield(event.Record{}, p.err)
					return
				}
				for _, r := range p.records {
					if !yield(r, nil) {
						return
					}
				}
			case <-done:
				if ctx.Err() != nil {
					yield(event.Record{}, fmt.Errorf("read topic %s: %w", topic, context.Cause(ctx)))
				}
				return
			}
		}
	}
}
