package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Relay publishes what the store holds: every event once per seq, in seq order
// per partition, and tells by watermarks how far it has come.
//
// Each partition has a lane of its own, with one produce request under way. An
// error of a request leaves open whether its records lie in the topic; so a
// lane then reads the topic's tail, as it does at the start, and publishes
// everything above it. What is published twice in that way is byte-identical
// under the same seq, and readers drop it by that.
//
// While the broker is away the lanes wait and try again; nothing else stops.
type Relay struct {
	Backlog   Backlog
	Publisher Publisher
	// Source is the first part of our event ids; a record with another one is
	// somebody else's.
	Source string
	// Watermarks is the topic for watermarks; none are sent where it is "".
	Watermarks string
	// Twin names the compacted twin of a topic, "" where it has none. nil is
	// no twins at all. See LatestTwin.
	Twin func(topic string) string
	Log  *slog.Logger // nil discards

	// BatchBytes is the most that one request may take, 1,000,000 where zero,
	// and BatchEvents the most events in it, 5,000.
	BatchBytes, BatchEvents int
	// AckEvery is how often progress is stored, 200 ms where zero. What was
	// published since is read from the topics after a crash.
	AckEvery time.Duration
	// MarkEvery is how often a watermark is sent at least, 1 s where zero, and
	// MarkGap the shortest time between two, 20 ms.
	MarkEvery, MarkGap time.Duration
	// RetryMin and RetryMax bound the wait between attempts, 100 ms and 5 s.
	RetryMin, RetryMax time.Duration

	once  sync.Once
	state *relayState
}

// LatestTwin names the twin of every topic: "shop.orders.latest".
func LatestTwin(topic string) string { return topic + ".latest" }

// relayState is what a running relay shares between its goroutines.
type relayState struct {
	mu       sync.Mutex
	lanes    map[TopicPartition]*lane
	acks     map[TopicPartition]Ack     // not stored yet
	failures map[TopicPartition]failure // that are being retried; the store's under no topic
	progress Progress                   // what is not computed from the lanes
	rate     rate

	flushed chan struct{} // of capacity 1: something was published
}

func (r *Relay) init() {
	r.once.Do(func() {
		def := func(d *time.Duration, v time.Duration) {
			if *d <= 0 {
				*d = v
			}
		}
		def(&r.AckEvery, 200*time.Millisecond)
		def(&r.MarkEvery, time.Second)
		def(&r.MarkGap, 20*time.Millisecond)
		def(&r.RetryMin, 100*time.Millisecond)
		def(&r.RetryMax, 5*time.Second)
		if r.BatchBytes <= 0 {
			r.BatchBytes = 1_000_000
		}
		if r.BatchEvents <= 0 {
			r.BatchEvents = 5000
		}
		if r.Log == nil {
			r.Log = slog.New(slog.DiscardHandler)
		}
		r.state = &relayState{
			lanes: make(map[TopicPartition]*lane), acks: make(map[TopicPartition]Ack),
			failures: make(map[TopicPartition]failure), flushed: make(chan struct{}, 1),
		}
	})
}

// Run publishes until ctx is done or there is a reason to stop, which it
// returns: a *Refused where a topic is not as it must be, ErrFenced where
// somebody else owns the source, or what the store or, for good, the broker
// says. It waits for all it has started, and stores how far it has come. A
// relay runs once.
func (r *Relay) Run(ctx context.Context) error {
	r.init()
	within, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var work sync.WaitGroup
	spawn := func(f func(context.Context) error) {
		work.Go(func() {
			if err := f(within); err != nil && within.Err() == nil {
				stop(err) // the first one tells why
			}
		})
	}
	spawn(func(ctx context.Context) error { return r.dispatch(ctx, spawn) })
	spawn(r.storeAcks)
	if r.Watermarks != "" {
		spawn(r.sendWatermarks)
	}
	<-within.Done()
	work.Wait()

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := context.Cause(within)
	var refused *Refused
	if errors.As(err, &refused) && errors.Is(r.Backlog.Acknowledge(last, nil), ErrFenced) {
		return ErrFenced // what was refused is what the new owner has published
	}
	if serr := r.storeAcksOnce(last); serr != nil && !errors.Is(err, ErrFenced) {
		err = errors.Join(err, serr)
	}
	return err
}

// dispatch starts a lane for every partition the store knows, and wakes those
// that have something to do.
func (r *Relay) dispatch(ctx context.Context, spawn func(func(context.Context) error)) error {
	for {
		committed := r.Backlog.Committed()
		shelves, err := r.Backlog.Shelves(ctx)
		if err != nil {
			if !r.again(ctx, err) {
				return err
			}
			continue
		}
		for _, s := range shelves {
			tp := TopicPartition{s.Topic, s.Partition}
			r.state.mu.Lock()
			l := r.state.lanes[tp]
			if l == nil {
				l = r.newLane(s)
				r.state.lanes[tp] = l
				spawn(l.run)
				if l.twin != nil {
					spawn(l.twin.run)
				}
			}
			r.state.mu.Unlock()
			l.offer(s.Assigned)
		}
		r.poke()
		select {
		case <-ctx.Done():
			return nil
		case <-committed:
		case <-time.After(r.MarkEvery): // the store is another process' where the owner polls
		}
	}
}

// poke tells the watermarks that something may have changed.
func (r *Relay) poke() {
	select {
	case r.state.flushed <- struct{}{}:
	default:
	}
}

// again reports whether an error of the store is worth another attempt, and
// waits before that.
func (r *Relay) again(ctx context.Context, err error) bool {
	if !passing(err) || ctx.Err() != nil {
		return false
	}
	r.note(TopicPartition{}, err)
	return r.sleep(ctx, r.RetryMax/5)
}

// sleep waits, and reports false where ctx is done first.
func (r *Relay) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// permanent reports that an error of the publisher will not go away.
func permanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// published takes note of an acknowledgement; it is stored later.
func (r *Relay) published(tp TopicPartition, merge func(*Ack)) {
	s := r.state
	s.mu.Lock()
	a := s.acks[tp]
	a.Topic, a.Partition = tp.Topic, tp.Partition
	merge(&a)
	s.acks[tp] = a
	s.mu.Unlock()
}

// storeAcks writes progress down in regular intervals.
func (r *Relay) storeAcks(ctx context.Context) error {
	for r.sleep(ctx, r.AckEvery) {
		if err := r.storeAcksOnce(ctx); err != nil && !r.again(ctx, err) {
			return err
		}
	}
	return nil
}

func (r *Relay) storeAcksOnce(ctx context.Context) error {
	s := r.state
	s.mu.Lock()
	var acks []Ack
	for _, a := range s.acks {
		acks = append(acks, a)
	}
	clear(s.acks)
	s.mu.Unlock()
	if len(acks) == 0 {
		return nil
	}
	err := r.Backlog.Acknowledge(ctx, acks)
	if err == nil {
		r.ok(TopicPartition{}, 0)
		return nil
	}
	// Not stored: what came in meanwhile is newer.
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range acks {
		tp := TopicPartition{a.Topic, a.Partition}
		n := s.acks[tp]
		if n.Seq == 0 {
			n.Seq, n.Offset = a.Seq, a.Offset
		}
		if n.TwinNext == 0 {
			n.TwinSeq, n.TwinNext = a.TwinSeq, a.TwinNext
		}
		n.Topic, n.Partition = a.Topic, a.Partition
		s.acks[tp] = n
	}
	return fmt.Errorf("store the acknowledgements: %w", err)
}

// patience is the wait between attempts of one lane.
type patience struct {
	min, max, d time.Duration
}

func (p *patience) next() time.Duration {
	p.d = min(max(2*p.d, p.min), p.max)
	return p.d/2 + rand.N(p.d/2+1)
}

func (p *patience) reset() { p.d = 0 }
