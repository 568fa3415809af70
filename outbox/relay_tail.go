package outbox

import (
	"context"
	"fmt"

	"banyan/event"
)

// repair is the way out where store and topic contradict each other.
const repair = "restore the newest copy of the store, or begin both anew with `cdc teardown --apply --topics` and `cdc run`, after which every consumer rebuilds"

// oneWriter is the way out where somebody else writes.
const oneWriter = "a topic has exactly one writer: stop the other one, or give this source topics of its own"

func (l *lane) refuse(format string, args ...any) *Refused {
	return &Refused{Topic: l.Topic, Partition: l.Partition, Why: fmt.Sprintf(format, args...)}
}

func (r *Refused) out(way string) *Refused {
	r.Out = way
	return r
}

func (l *lane) beyond(rec *event.Record, seq, assigned int64) *Refused {
	return l.refuse("the record at offset %d has banyan_seq %d, but the store has assigned only %d: it is older than the topic", rec.Offset, seq, assigned).out(repair)
}

// own reads a record of the topic and refuses one that is not ours.
func (l *lane) own(rec *event.Record) (event.Event, error) {
	return l.r.own(l.Topic, l.Partition, rec)
}

func (r *Relay) own(topic string, partition int, rec *event.Record) (event.Event, error) {
	refuse := func(why string) (event.Event, error) {
		return event.Event{}, &Refused{Topic: topic, Partition: partition,
			Why: fmt.Sprintf("somebody else writes here: the record at offset %d %s", rec.Offset, why), Out: oneWriter}
	}
	e, err := event.FromRecord(topic, rec)
	switch {
	case err != nil:
		return refuse("is " + err.Error())
	case e.ID.Source != r.Source:
		return refuse("is of source " + e.ID.Source)
	case e.Writer > r.Backlog.Epoch():
		return refuse(fmt.Sprintf("is of writer %d, and this is writer %d", e.Writer, r.Backlog.Epoch()))
	case e.Seq < 1:
		return refuse("has no banyan_seq")
	}
	return e, nil
}

// settle reads the topic from the last record known to be acknowledged to its
// end and finds out how far it is published. The highest seq counts, not the
// last: a repeat can lie behind it.
func (l *lane) settle(ctx context.Context) error {
	seq, assigned := l.bounds()
	l.mu.Lock()
	offset := l.offset
	l.mu.Unlock()
	first, next, err := l.r.Publisher.Ends(ctx, l.Topic, l.Partition)
	if err != nil {
		return err
	}
	if seq > 0 && next == 0 {
		return l.refuse("the log is empty, although events up to banyan_seq %d were acknowledged: the topic was made anew", seq).
			out("bring the topic back, or begin with a new store and a new snapshot")
	}
	if seq > 0 && next <= offset {
		return l.refuse("the log ends at offset %d, before the last acknowledged event (banyan_seq %d at offset %d)", next, seq, offset).out(repair)
	}
	from := first
	if seq > 0 {
		from = max(first, offset)
	}
	t := tail{lane: l, acked: seq, high: seq, offset: offset, assigned: assigned}
	for rec, err := range l.r.Publisher.Read(ctx, l.Topic, l.Partition, from, next) {
		if err != nil {
			return err
		}
		if err := t.take(ctx, &rec); err != nil {
			return err
		}
	}
	l.next = next
	if t.high > seq {
		l.done(t.high, t.offset, t.high-seq, 0)
	}
	l.mu.Lock()
	l.settled = true
	l.mu.Unlock()
	if l.twin != nil {
		signal(l.twin.wake)
	}
	return nil
}

// tail is what a reading of the tail has found so far.
type tail struct {
	*lane
	acked    int64 // seq that the reading began with
	assigned int64
	high     int64 // highest seq seen
	offset   int64 // of its first record

	// window holds the stored records with a seq above acked, from the seq
	// begin on, as far as they were needed.
	window []event.Record
	begin  int64
}

func (t *tail) take(ctx context.Context, rec *event.Record) error {
	e, err := t.own(rec)
	if err != nil {
		return err
	}
	switch {
	case e.Seq > t.assigned:
		return t.beyond(rec, e.Seq, t.assigned)
	case rec.Offset == t.lane.offset && t.acked > 0 && e.Seq != t.acked:
		return t.refuse("offset %d holds banyan_seq %d, but %d was acknowledged there: the topic was made anew", rec.Offset, e.Seq, t.acked).out(repair)
	case e.Seq > t.high+1:
		return t.refuse("after banyan_seq %d the record at offset %d has %d: one is missing", t.high, rec.Offset, e.Seq).out(repair)
	case e.Seq > t.acked:
		if err := t.compare(ctx, rec, e.Seq); err != nil {
			return err
		}
	}
	if e.Seq > t.high {
		t.high, t.offset = e.Seq, rec.Offset
	}
	return nil
}

// compare holds a record against the stored event: other bytes under one seq
// are somebody else's.
func (t *tail) compare(ctx context.Context, rec *event.Record, seq int64) error {
	if seq < t.begin || seq >= t.begin+int64(len(t.window)) {
		events, err := t.r.Backlog.Stored(ctx, t.Topic, t.Partition, seq-1, t.r.BatchEvents, t.r.BatchBytes)
		if err != nil {
			return &storeError{err}
		}
		t.window, t.begin = t.window[:0], seq
		for i := range events {
			t.window = append(t.window, events[i].Record())
		}
		if len(t.window) == 0 {
			return &storeError{fmt.Errorf("read the outbox: %s/%d has no event %d", t.Topic, t.Partition, seq)}
		}
	}
	if !rec.Same(&t.window[seq-t.begin]) {
		return t.refuse("somebody else writes here: the record at offset %d has banyan_seq %d but other bytes than our event of that number", rec.Offset, seq).out(oneWriter)
	}
	return nil
}
