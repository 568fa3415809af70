package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"banyan/bus"
	"banyan/event"
	"banyan/pricing"
	"banyan/projections"
	"banyan/projections/control"
)

// lane is one partition of the source on its way in.
type lane struct {
	topic string
	order int // of the topic, inside a transaction
	part  int
	in    chan chunk

	facts []pricing.Fact // read, not taken
	seq   int64          // of the last record that was read, once facts are taken
	top   place          // of what was taken
	err   error
}

// chunk is what one step of reading has brought: facts that matter, and up to which
// seq they are all.
type chunk struct {
	facts []pricing.Fact
	seq   int64
	err   error
}

// place is where a fact stands among transactions. What a snapshot told at an LSN
// comes before what was streamed at it.
type place struct {
	generation int
	lsn        uint64
	streamed   bool
}

func placeOf(p event.Position) place { return place{p.Generation, p.LSN, p.Snapshot == 0} }

func (p place) compare(q place) int {
	if c := cmp.Or(cmp.Compare(p.generation, q.generation), cmp.Compare(p.lsn, q.lsn)); c != 0 || p.streamed == q.streamed {
		return c
	}
	if q.streamed {
		return -1
	}
	return 1
}

// reading reads the topics of a source and gives their facts in the order of commits.
type reading struct {
	cluster *bus.Cluster
	source  string
	log     *slog.Logger
	lanes   []*lane
	wake    chan struct{} // of capacity 1: a lane has something
	readers sync.WaitGroup

	marks marks
	done  *event.Watermark // of the last round
}

// startReading begins to read everything from its first record. A topic that is not
// there yet is waited for. The caller ends ctx and then calls wait, after an error
// too.
func startReading(ctx context.Context, cluster *bus.Cluster, source string, log *slog.Logger) (*reading, error) {
	r := &reading{cluster: cluster, source: source, log: log, wake: make(chan struct{}, 1)}
	r.marks.changed = make(chan struct{}, 1)
	for i, topic := range topics(source) {
		n, err := r.partitions(ctx, topic)
		if err != nil {
			return r, err
		}
		for part := range n {
			r.lanes = append(r.lanes, &lane{topic: topic, order: i, part: part, in: make(chan chunk, 2)})
		}
	}
	if _, err := r.partitions(ctx, r.marksTopic()); err != nil {
		return r, err
	}
	for _, l := range r.lanes {
		r.readers.Go(func() { r.read(ctx, l) })
	}
	r.readers.Go(func() { r.readMarks(ctx) })
	return r, nil
}

// wait waits until all that was started has ended.
func (r *reading) wait() { r.readers.Wait() }

func (r *reading) marksTopic() string { return r.source + ".watermarks" }

// partitions counts the partitions of a topic, once it is there.
func (r *reading) partitions(ctx context.Context, topic string) (int, error) {
	for told := false; ; {
		n, err := r.cluster.Partitions(ctx, topic)
		if err == nil || !passing(err) {
			return n, err
		}
		if !told {
			r.log.Warn("waiting for a topic of the source", "topic", topic, "error", err)
			told = true
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// read is the reader of one partition, until ctx ends or something is wrong.
func (r *reading) read(ctx context.Context, l *lane) {
	hand := func(c chunk) bool {
		select {
		case l.in <- c:
		case <-ctx.Done():
			return false
		}
		signal(r.wake)
		return true
	}
	id := control.PartID{Topic: l.topic, Part: l.part}
	seq := projections.NewSequence(control.Part{PartID: id})
	for records, err := range r.cluster.Tail(ctx, l.topic, l.part, bus.First, func(err error) {
		if err != nil {
			r.log.Debug("a partition cannot be read for now", "topic", l.topic, "partition", l.part, "error", err)
		}
	}) {
		if err != nil {
			hand(chunk{err: fmt.Errorf("read %s: %w", id, err)})
			return
		}
		c := r.prepare(seq, l.topic, records)
		if (c.seq > 0 || c.err != nil) && (!hand(c) || c.err != nil) {
			return
		}
	}
}

// prepare drops repeats, proves that nothing is missing, and reads the facts.
func (r *reading) prepare(seq *projections.Sequence, topic string, records []event.Record) (c chunk) {
	for i := range records {
		rec := &records[i]
		fresh, err := seq.Take(rec)
		if err != nil {
			c.err = err
			return c
		}
		if !fresh {
			continue
		}
		e := projections.Event{Offset: rec.Offset}
		if e.Event, err = event.FromRecord(topic, rec); err == nil {
			err = seq.Generation(&e)
		}
		if err != nil {
			c.err = fmt.Errorf("%s partition %d, offset %d: %w", topic, rec.Partition, rec.Offset, err)
			return c
		}
		c.seq = e.Seq
		f := pricing.Read(&e.Event)
		if f.Fault != nil {
			r.log.Warn("an event cannot be read; nothing is proposed on its account", "event_id", e.ID.String(), "error", f.Fault)
		}
		if f.Matters() {
			c.facts = append(c.facts, f)
		}
	}
	return c
}

// head is the next fact of a lane, nil while there is none, and takes over what its
// reader has ready.
func (l *lane) head() *pricing.Fact {
	for len(l.facts) == 0 && l.err == nil {
		select {
		case c := <-l.in:
			l.facts, l.err = c.facts, c.err
			l.seq = max(l.seq, c.seq)
		default:
			return nil
		}
	}
	if len(l.facts) == 0 {
		return nil
	}
	return &l.facts[0]
}

// place is where a lane's next fact stands. Lanes never step back.
func (l *lane) place() place {
	p := placeOf(l.facts[0].Position)
	if p.compare(l.top) < 0 {
		return l.top
	}
	return p
}

// upTo gives everything that a watermark covers and no round before had, in the
// order of commits: one transaction at a time, whole. It ends when there is no more,
// or with an error.
func (r *reading) upTo(ctx context.Context, w *event.Watermark) iter.Seq2[[]pricing.Fact, error] {
	return func(yield func([]pricing.Fact, error) bool) {
		var facts []pricing.Fact
		var at place
		for {
			l, err := r.earliest(ctx, w)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(facts) > 0 && (l == nil || l.place().compare(at) != 0) {
				if !yield(facts, nil) {
					return
				}
				facts = facts[:0]
			}
			if l == nil {
				r.done = w
				return
			}
			at = l.place()
			facts = append(facts, l.facts[0])
			l.facts, l.top = l.facts[1:], at
		}
	}
}

// earliest gives the lane whose next fact comes first of all that the watermark
// covers, nil where there is none left. It waits until that is certain: until each
// lane either has a fact, or was read up to where the watermark says.
func (r *reading) earliest(ctx context.Context, w *event.Watermark) (*lane, error) {
	for {
		var first *lane
		waits := false
		for _, l := range r.lanes {
			switch {
			case l.head() == nil && l.err != nil:
				return nil, l.err
			case l.head() == nil:
				waits = waits || l.seq < seqIn(w, l)
			case control.MarkOf(w).Covers(l.facts[0].Position) && (first == nil || before(l, first)):
				first = l
			}
		}
		if !waits {
			return first, nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// before is the order of facts: by transaction, then by topic, then as they stand in
// it.
func before(a, b *lane) bool {
	p, q := &a.facts[0].Position, &b.facts[0].Position
	return cmp.Or(a.place().compare(b.place()), cmp.Compare(a.order, b.order), cmp.Compare(p.Snapshot, q.Snapshot),
		cmp.Compare(p.Ordinal, q.Ordinal), cmp.Compare(a.part, b.part)) < 0
}

// seqIn is the seq up to which a watermark's events lie in a lane's partition.
func seqIn(w *event.Watermark, l *lane) int64 {
	if seqs := w.Seqs[l.topic]; l.part < len(seqs) {
		return seqs[l.part]
	}
	return 0
}

// signal says that something has changed, unless that is said already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// passing reports whether an error of the bus goes away by itself.
func passing(err error) bool { return projections.Passing(err) }

// pause waits, or ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
