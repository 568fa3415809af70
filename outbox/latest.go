package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"banyan/event"
)

// twin keeps the compacted `.latest` topic of one partition: the last event of
// every key, and a tombstone where the key is gone. It follows its lane: only
// what lies in the topic goes into the twin. What it does not get handed over
// it reads from the topic, so it needs nothing of the store but its progress.
type twin struct {
	lane  *lane
	topic string
	wake  chan struct{} // of capacity 1

	// Only the twin's goroutine uses these.
	next  int64 // offset that the next record should get
	ready bool
	from  int64 // offset in the topic to read on from, where known

	mu     sync.Mutex
	seq    int64          // last seq whose effect lies in the twin
	queue  []event.Record // handed over by the lane, in seq order without a gap
	start  int64          // seq of the first of the queue
	queued int            // bytes
}

// twinQueue bounds what one lane hands over; the rest is read again.
const twinQueue = 4 << 20

// reached gives the last seq whose effect lies in the twin.
func (t *twin) reached() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq
}

// offer hands over what the lane has just published.
func (t *twin) offer(seq int64, records []event.Record) {
	t.mu.Lock()
	fits := t.queued < twinQueue
	if len(t.queue) == 0 {
		t.start = seq
	} else {
		fits = fits && t.start+int64(len(t.queue)) == seq
	}
	if fits {
		for i := range records {
			t.queued += records[i].Size()
		}
		t.queue = append(t.queue, records...)
	}
	t.mu.Unlock()
	signal(t.wake)
}

func (t *twin) run(ctx context.Context) error {
	r := t.lane.r
	wait := patience{min: r.RetryMin, max: r.RetryMax}
	at := TopicPartition{t.topic, t.lane.Partition}
	for ctx.Err() == nil {
		more, err := t.step(ctx)
		if err == nil {
			wait.reset()
			r.ok(at, 0)
			if !more {
				select {
				case <-ctx.Done():
				case <-t.wake:
				}
			}
			continue
		}
		var refused *Refused
		if ctx.Err() != nil {
			return nil
		}
		if errors.As(err, &refused) || permanent(err) {
			return err
		}
		t.ready = false
		r.note(at, err)
		r.sleep(ctx, wait.next())
	}
	return nil
}

// step does one request's worth, and reports whether there is more to do.
func (t *twin) step(ctx context.Context) (more bool, err error) {
	if !t.lane.isSettled() {
		return false, nil // the lane wakes us
	}
	if !t.ready {
		_, offset := t.lane.published()
		if err := t.settle(ctx, offset); err != nil {
			return false, err
		}
		t.ready = true
	}
	seq := t.reached()
	records := t.handed(seq)
	// After the records: what was handed over lies at or before offset.
	until, offset := t.lane.published()
	if seq >= until {
		return false, nil
	}
	if records == nil {
		if records, err = t.reread(ctx, seq, until, offset); err != nil {
			return false, err
		}
	}
	last, err := t.publish(ctx, records, offset)
	if err != nil {
		return false, err
	}
	return last < until, nil
}

// handed takes what the lane has handed over, if it goes on from seq.
func (t *twin) handed(seq int64) []event.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	records := t.queue
	skip := seq + 1 - t.start
	t.queue, t.queued = nil, 0
	if skip < 0 || skip >= int64(len(records)) {
		return nil
	}
	return records[skip:]
}

// reread gives some of the records of the topic with a seq above seq.
func (t *twin) reread(ctx context.Context, seq, until, end int64) ([]event.Record, error) {
	// seq counts from 1 and offsets from 0, and repeats only make offsets
	// larger: seq+1 lies at offset seq or later.
	from := max(t.from, seq)
	first, _, err := t.lane.r.Publisher.Ends(ctx, t.lane.Topic, t.lane.Partition)
	if err != nil {
		return nil, err
	}
	var records []event.Record
	size, high := 0, seq
	for rec, err := range t.lane.r.Publisher.Read(ctx, t.lane.Topic, t.lane.Partition, max(from, first), end+1) {
		if err != nil {
			return nil, err
		}
		n, ok := rec.Seq()
		if !ok || n <= high || n > until {
			continue // a repeat
		}
		high = n
		records = append(records, rec)
		if size += rec.Size(); size > twinQueue {
			break
		}
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("topic %s, partition %d: no record above banyan_seq %d up to offset %d", t.lane.Topic, t.lane.Partition, seq, end)
	}
	return records, nil
}

// publish puts the last record of every key into the twin, as many as go into
// one request, and returns the last seq that is in effect there.
func (t *twin) publish(ctx context.Context, records []event.Record, offset int64) (int64, error) {
	r := t.lane.r
	n, _, err := r.cut(t.topic, records)
	if err != nil {
		return 0, err
	}
	last, _ := records[n-1].Seq()
	base, err := t.produce(ctx, fold(records[:n]))
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	t.seq = last
	t.mu.Unlock()
	t.from = records[n-1].Offset + 1
	if base.late {
		if err := t.mend(ctx, base.from, base.until, offset); err != nil {
			t.next = base.from // settle looks at them again
			return 0, err
		}
	}
	t.stored()
	if n < len(records) {
		// Not lost: what is left goes back to the front of the queue.
		t.mu.Lock()
		if first, _ := records[n].Seq(); len(t.queue) == 0 || t.start == first+int64(len(records)-n) {
			t.queue, t.start = append(records[n:len(records):len(records)], t.queue...), first
			t.queued = 0
			for i := range t.queue {
				t.queued += t.queue[i].Size()
			}
		}
		t.mu.Unlock()
	}
	return last, nil
}

func (t *twin) stored() {
	seq, next := t.reached(), t.next
	t.lane.r.published(t.lane.TopicPartition, func(a *Ack) { a.TwinSeq, a.TwinNext = seq, next })
}

// landed says where a request came to lie, and whether others lie before it
// that were not expected.
type landed struct {
	late        bool
	from, until int64
}

func (t *twin) produce(ctx context.Context, records []event.Record) (landed, error) {
	base, err := t.lane.r.Publisher.Produce(ctx, t.topic, t.lane.Partition, records)
	if err != nil {
		return landed{}, err
	}
	l := landed{late: base > t.next, from: t.next, until: base}
	if base < t.next {
		// The twin is derived: one that was made anew is filled again.
		t.lane.r.Log.Warn("relay: a twin was made anew, filling it again", "topic", t.topic, "partition", t.lane.Partition)
		t.restart()
		return landed{}, fmt.Errorf("topic %s, partition %d: it was made anew", t.topic, t.lane.Partition)
	}
	t.next = base + int64(len(records))
	return l, nil
}

func (t *twin) restart() {
	t.mu.Lock()
	t.seq, t.queue, t.queued = 0, nil, 0
	t.mu.Unlock()
	t.next, t.from, t.ready = 0, 0, false
}

// settle looks at what came into the twin after our last known progress: our
// own requests whose answers were lost, and late ones of a stopped owner.
func (t *twin) settle(ctx context.Context, offset int64) error {
	_, next, err := t.lane.r.Publisher.Ends(ctx, t.topic, t.lane.Partition)
	if err != nil {
		return err
	}
	from := t.next
	if next < from {
		t.lane.r.Log.Warn("relay: a twin was made anew, filling it again", "topic", t.topic, "partition", t.lane.Partition)
		t.restart()
		from = 0
	}
	t.next = next
	if from < next {
		if err := t.mend(ctx, from, next, offset); err != nil {
			t.next = from
			return err
		}
	}
	return nil
}

// mend puts the truth behind the records at offsets from to until, which came
// late: the last event of each of their keys as the topic has it, up to what is
// in effect in the twin. Later ones come anyway.
func (t *twin) mend(ctx context.Context, from, until, end int64) error {
	for from < until {
		late, err := t.lateKeys(ctx, from, until)
		if err != nil {
			return err
		}
		truth, err := t.truth(ctx, late, end)
		if err != nil {
			return err
		}
		from = until
		for len(truth) > 0 {
			n, _, err := t.lane.r.cut(t.topic, truth)
			if err != nil {
				return err
			}
			at, err := t.produce(ctx, fold(truth[:n]))
			if err != nil {
				return err
			}
			if at.late { // later still
				until = at.until
			}
			truth = truth[n:]
		}
	}
	return nil
}

// lateKeys gives the keys of late records, and the lowest seq among each key's.
func (t *twin) lateKeys(ctx context.Context, from, until int64) (map[string]int64, error) {
	keys := make(map[string]int64)
	first, _, err := t.lane.r.Publisher.Ends(ctx, t.topic, t.lane.Partition)
	if err != nil {
		return nil, err
	}
	if max(from, first) >= until {
		return keys, nil
	}
	for rec, err := range t.lane.r.Publisher.Read(ctx, t.topic, t.lane.Partition, max(from, first), until) {
		if err != nil {
			return nil, err
		}
		e, err := t.lane.r.own(t.topic, t.lane.Partition, &rec)
		if err != nil {
			return nil, err
		}
		if e.Seq > t.reached() {
			continue // it will be published again, and what follows it too
		}
		if n, ok := keys[e.ID.Key]; !ok || e.Seq < n {
			keys[e.ID.Key] = e.Seq
		}
	}
	return keys, nil
}

// truth reads from the topic the last record of each key up to what the twin
// has in effect.
func (t *twin) truth(ctx context.Context, keys map[string]int64, end int64) ([]event.Record, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	low := int64(-1)
	for _, seq := range keys {
		if low < 0 || seq < low {
			low = seq
		}
	}
	first, _, err := t.lane.r.Publisher.Ends(ctx, t.lane.Topic, t.lane.Partition)
	if err != nil {
		return nil, err
	}
	found := make(map[string]event.Record, len(keys))
	reached, high := t.reached(), int64(0)
	for rec, err := range t.lane.r.Publisher.Read(ctx, t.lane.Topic, t.lane.Partition, max(low-1, first), end+1) {
		if err != nil {
			return nil, err
		}
		seq, ok := rec.Seq()
		if _, wanted := keys[string(rec.Key)]; ok && wanted && seq > high && seq <= reached {
			high = seq
			found[string(rec.Key)] = rec
		}
	}
	t.lane.r.Log.Info("relay: late records in a twin, put right", "topic", t.topic, "partition", t.lane.Partition, "keys", len(keys))
	return slices.Collect(maps.Values(found)), nil
}

// fold keeps the last record of each key, in the order of those, as the twin
// has it: a removal becomes a tombstone.
func fold(records []event.Record) []event.Record {
	last := make(map[string]int, len(records))
	for i := range records {
		last[string(records[i].Key)] = i
	}
	out := make([]event.Record, 0, len(last))
	for i := range records {
		if last[string(records[i].Key)] == i {
			rec := records[i]
			if removes(rec.Value) {
				rec.Value = nil
			}
			out = append(out, rec)
		}
	}
	return out
}

// removes reports whether an event says that its aggregate is gone.
func removes(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	if !bytes.Contains(data, []byte("null")) {
		return false
	}
	var e struct {
		State json.RawMessage `json:"state"`
	}
	return json.Unmarshal(data, &e) == nil && string(e.State) == "null"
}
