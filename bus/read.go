package bus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	kafka "github.com/segmentio/kafka-go"

	"banyan/event"
)

// First stands for the first offset that a partition has.
const First int64 = -2

const (
	fetchBytes = 4 << 20
	fetchWait  = 500 * time.Millisecond
	// stallLimit is how often a fetch may come back without getting any
	// further before a read gives up: a broker that announces records and
	// does not send them would be asked for ever.
	stallLimit = 20
	// errorLimit is how often one fetch is tried: a caller with more patience
	// can say so meanwhile, and try again.
	errorLimit = 3
)

// Range is what a partition holds: offsets from First to before Next.
type Range struct{ First, Next int64 }

// Ends gives the first offset of a partition and the one its next record will
// get.
func (c *Cluster) Ends(ctx context.Context, topic string, partition int) (first, next int64, err error) {
	all, err := c.ends(ctx, topic, []int{partition})
	if err != nil {
		return 0, 0, err
	}
	return all[0].First, all[0].Next, nil
}

// AllEnds gives the ranges of all partitions of a topic, by partition.
func (c *Cluster) AllEnds(ctx context.Context, topic string) ([]Range, error) {
	n, err := c.Partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	return c.ends(ctx, topic, numbers)
}

func (c *Cluster) ends(ctx context.Context, topic string, partitions []int) ([]Range, error) {
	var ask1 []kafka.OffsetRequest
	for _, p := range partitions {
		ask1 = append(ask1, kafka.FirstOffsetOf(p), kafka.LastOffsetOf(p))
	}
	res, err := ask(ctx, c, "ask for the ends of topic "+topic, func(ctx context.Context) (*kafka.ListOffsetsResponse, error) {
		res, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Addr: c.addr, Topics: map[string][]kafka.OffsetRequest{topic: ask1}})
		if err != nil {
			return nil, err
		}
		for _, p := range res.Topics[topic] {
			if p.Error != nil {
				return nil, p.Error
			}
		}
		return res, nil
	})
	if err != nil {
		return nil, err
	}
	found := make(map[int]Range, len(partitions))
	for _, p := range res.Topics[topic] {
		found[p.Partition] = Range{First: p.FirstOffset, Next: p.LastOffset}
	}
	ranges := make([]Range, len(partitions))
	for i, p := range partitions {
		r, ok := found[p]
		if !ok {
			return nil, &Error{Op: "ask for the ends of", Topic: topic, Partition: p, Kind: Transient, Err: errors.New("the broker did not say")}
		}
		ranges[i] = r
	}
	return ranges, nil
}

// Read yields the records of one partition from offset from (or First) to
// before until, in order. On a compacted topic offsets are missing, the last
// ones before until too. It ends after the first error: an *Error, which wraps
// an *OutOfRange where the log does not hold the offset. A fetch that fails is
// tried twice more.
//
// The records stay valid after the next step, but share memory.
func (c *Cluster) Read(ctx context.Context, topic string, partition int, from, until int64) iter.Seq2[event.Record, error] {
	return func(yield func(event.Record, error) bool) {
		r := &reader{c: c, topic: topic, partition: partition, next: from, until: until}
		for r.next < until {
			records, err := r.step(ctx)
			if err != nil {
				yield(event.Record{}, err)
				return
			}
			for _, rec := range records {
				if rec.Offset >= until {
					return
				}
				if !yield(rec, nil) {
					return
				}
			}
		}
	}
}

// reader steps through one partition.
type reader struct {
	c         *Cluster
	topic     string
	partition int
	next      int64 // offset to go on from
	until     int64 // the caller wants what lies before it; 0 where that is open
	first     int64 // of the log, as last seen
	end       int64 // of the log, as last seen
	buf       []event.Record

	// patient readers never give up on what may pass, and say why they wait:
	// nil when they go on. The others have none.
	patient func(error)
}

func (r *reader) fail(ctx context.Context, err error) error {
	return r.c.failAt(ctx, "read", r.topic, r.partition, err)
}

// step goes on until one fetch went well. No records and no error means that
// there is nothing yet, or that what there was had been compacted away.
func (r *reader) step(ctx context.Context) ([]event.Record, error) {
	for failed, still := 0, 0; ; {
		err := r.fetch(ctx)
		var no *noProgress
		switch {
		case err == nil:
			if r.patient != nil && failed+still > 0 {
				r.patient(nil)
			}
			return r.buf, nil
		case ctx.Err() != nil, errors.As(err, new(*OutOfRange)), kindOf(err) == Permanent:
			return nil, r.fail(ctx, err)
		case errors.As(err, &no):
			if still++; r.patient == nil && still == stallLimit {
				return nil, r.fail(ctx, fmt.Errorf("no progress after %d attempts: %w", still, no.why))
			}
			err = no.why
		default:
			if failed++; r.patient == nil && failed == errorLimit {
				return nil, r.fail(ctx, err)
			}
			r.c.forget()
			err = r.c.reason(ctx, err)
		}
		if r.patient != nil {
			r.patient(r.fail(ctx, err))
		}
		wait := time.NewTimer(min(time.Duration(failed+still)*r.c.pause, time.Second))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, r.fail(ctx, ctx.Err())
		case <-wait.C:
		}
	}
}

// noProgress is a fetch that went well and brought the reader no further
// although it should have.
type noProgress struct{ why *OutOfRange }

func (n *noProgress) Error() string { return n.why.Error() }

// fetch fetches once, into buf. An *OutOfRange is what the log says after a
// second look.
func (r *reader) fetch(ctx context.Context) error {
	if r.next == First {
		first, end, err := r.c.Ends(ctx, r.topic, r.partition)
		if err != nil {
			return err
		}
		r.next, r.first, r.end = first, first, end
	}
	res, err := r.c.fetch(ctx, r.topic, r.partition, r.next, r.c.wait, int32(r.c.most))
	if errors.Is(err, kafka.OffsetOutOfRange) {
		first, end, err := r.c.Ends(ctx, r.topic, r.partition)
		if err != nil {
			return err
		}
		out := &OutOfRange{Offset: r.next, First: first, Next: end}
		if first <= r.next && r.next <= end {
			return &noProgress{out} // the two answers contradict each other; ask again
		}
		return out
	}
	if err != nil {
		return err
	}
	r.first, r.end = res.logStart, res.highWatermark
	before := r.next
	// The records are handed out; the slice that holds them is used again only
	// after they were all taken, or was taken away meanwhile.
	r.buf, r.next, err = readBatches(res.records, r.partition, r.next, r.buf[:0])
	if err != nil {
		return err
	}
	if r.next == before && (r.next < max(r.end, r.until) || r.next > r.end) {
		// Below the end: a broker that announces records and sends none.
		// Beyond it: a new leader that has not caught up, or a topic that was
		// made anew.
		return &noProgress{&OutOfRange{Offset: r.next, First: r.first, Next: r.end}}
	}
	return nil
}
