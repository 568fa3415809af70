package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"banyan/event"
)

// lane publishes one partition. Its own goroutine is the only one that
// produces there.
type lane struct {
	r *Relay
	TopicPartition
	twin *twin // nil where the topic has none

	wake chan struct{} // of capacity 1

	// Only the lane's goroutine uses these.
	next int64 // offset that the next record should get

	mu       sync.Mutex
	assigned int64     // last seq that the store has assigned
	seq      int64     // last seq known to lie in the topic
	offset   int64     // of a record with that seq
	settled  bool      // the tail has been read
	oldest   time.Time // commit time of the first event that is not published, where known
	size     int64     // bytes published so far, and of how many events
	count    int64
}

func (r *Relay) newLane(s Shelf) *lane {
	l := &lane{r: r, TopicPartition: TopicPartition{s.Topic, s.Partition}, wake: make(chan struct{}, 1), assigned: s.Assigned, seq: s.Acked, offset: s.Offset}
	if r.Twin != nil {
		if name := r.Twin(s.Topic); name != "" {
			l.twin = &twin{lane: l, topic: name, seq: s.TwinSeq, next: s.TwinNext, wake: make(chan struct{}, 1)}
		}
	}
	return l
}

// offer tells the lane how far the store has assigned.
func (l *lane) offer(assigned int64) {
	l.mu.Lock()
	more := assigned > l.assigned
	l.assigned = max(l.assigned, assigned)
	l.mu.Unlock()
	if more {
		signal(l.wake)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *lane) bounds() (seq, assigned int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq, l.assigned
}

// published gives the last seq known to lie in the topic, and its offset.
func (l *lane) published() (seq, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq, l.offset
}

// run publishes until ctx is done. It returns what no further attempt can cure.
func (l *lane) run(ctx context.Context) error {
	wait := patience{min: l.r.RetryMin, max: l.r.RetryMax}
	settled := false
	for ctx.Err() == nil {
		var err error
		if !settled {
			err = l.settle(ctx)
			settled = err == nil
		}
		if err == nil {
			if seq, assigned := l.bounds(); seq >= assigned {
				select {
				case <-ctx.Done():
				case <-l.wake:
				}
				continue
			}
			if err = l.publish(ctx); err == nil {
				wait.reset()
				continue
			}
		}
		var refused *Refused
		var stored *storeError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused), permanent(err):
			return err
		case errors.As(err, &stored):
			if !passing(stored.err) {
				return err
			}
		default:
			settled = false // nobody knows what lies in the topic
		}
		l.r.note(l.TopicPartition, err)
		l.r.sleep(ctx, wait.next())
	}
	return nil
}

// storeError marks an error of the store, after which the topic is as it was.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// publish takes the next events from the store and appends them to the topic.
func (l *lane) publish(ctx context.Context) error {
	seq, _ := l.bounds()
	// A little less than a batch: headers come on top of the data.
	events, err := l.r.Backlog.Stored(ctx, l.Topic, l.Partition, seq, 4*l.r.BatchEvents, 4*l.r.BatchBytes)
	if err != nil {
		return &storeError{err}
	}
	if len(events) == 0 {
		return &storeError{fmt.Errorf("read the outbox: %s/%d has no event above %d", l.Topic, l.Partition, seq)}
	}
	l.mu.Lock()
	l.oldest = events[0].Time
	l.assigned = max(l.assigned, events[len(events)-1].Seq) // the dispatcher may not have told of it yet
	l.mu.Unlock()
	records := make([]event.Record, len(events))
	for i := range events {
		records[i] = events[i].Record()
	}
	for len(records) > 0 {
		n, size, err := l.r.cut(l.Topic, records)
		if err != nil {
			return err
		}
		base, err := l.r.Publisher.Produce(ctx, l.Topic, l.Partition, records[:n])
		if err != nil {
			return err
		}
		if base != l.next {
			if err := l.surprise(ctx, base); err != nil {
				return err
			}
		}
		for i := range records[:n] {
			records[i].Offset, records[i].Partition = base+int64(i), l.Partition
		}
		l.next = base + int64(n)
		l.done(events[n-1].Seq, l.next-1, int64(n), int64(size))
		if l.twin != nil {
			l.twin.offer(events[0].Seq, records[:n])
		}
		records, events = records[n:], events[n:]
		if len(events) > 0 {
			l.mu.Lock()
			l.oldest = events[0].Time
			l.mu.Unlock()
		}
	}
	return nil
}

// cut says how many of the records fit into one request, and their size. A
// record that fits into none stops the relay: it is never skipped.
func (r *Relay) cut(topic string, records []event.Record) (n, size int, err error) {
	const overhead = 100 // of a batch
	size = overhead
	for n < len(records) && n < r.BatchEvents {
		s := records[n].Size()
		if size+s > r.BatchBytes {
			break
		}
		size += s
		n++
	}
	if n == 0 {
		id, _ := records[0].Header(event.HeaderID)
		return 0, 0, &Refused{Topic: topic, Partition: records[0].Partition,
			Why: fmt.Sprintf("event %s takes %d bytes, more than the %d that one request may have", id, records[0].Size(), r.BatchBytes),
			Out: "it should have been parked before it got its number; nothing is skipped, so let the topic take larger records"}
	}
	return n, size, nil
}

// done takes note that everything up to seq lies in the topic.
func (l *lane) done(seq, offset, count, size int64) {
	l.mu.Lock()
	l.seq, l.offset = seq, offset
	if l.seq >= l.assigned {
		l.oldest = time.Time{}
	}
	if size > 0 {
		l.count += count
		l.size += size
	}
	l.mu.Unlock()
	l.r.published(l.TopicPartition, func(a *Ack) { a.Seq, a.Offset = seq, offset })
	l.r.ok(l.TopicPartition, count)
	l.r.poke()
}

// surprise looks at records that lie where ours should have come to lie: late
// repeats of our own are fine, anything else is not.
func (l *lane) surprise(ctx context.Context, base int64) error {
	if base < l.next {
		return l.refuse("the broker has put a record at offset %d, where %d was next: the topic was made anew or has lost its end", base, l.next).out(repair)
	}
	_, assigned := l.bounds()
	for rec, err := range l.r.Publisher.Read(ctx, l.Topic, l.Partition, l.next, base) {
		if err != nil {
			return err
		}
		e, err := l.own(&rec)
		if err != nil {
			return err
		}
		if e.Seq > assigned {
			return l.beyond(&rec, e.Seq, assigned)
		}
	}
	l.r.Log.Info("relay: late repeats in the topic", "topic", l.Topic, "partition", l.Partition, "records", base-l.next)
	return nil
}
