package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"banyan/event"
	"banyan/projections/control"
)

// Reach is what is read of one partition: offsets From to before Until.
type Reach struct {
	control.PartID
	From, Until int64
}

// Replay reads a history once, up to fixed offsets, and gives its events in the
// order in which a Runner applies them: it drops the same repeats, finds the same
// gaps and merges by the same rule. Use it once. It needs no consumer group and
// writes nothing.
type Replay struct {
	Log      Log
	Preparer *Preparer
	Parts    []Reach
	// Marks are watermarks that are known, in their order; partitions pass them.
	Marks []*event.Watermark
	// Cut, where set, is the mark beyond which nothing is given. Everything that
	// it covers has to lie before Until, which a watermark at or behind it proves
	// for the ends that were asked for after it was read.
	Cut *control.Mark
	// Buffer is how many bytes of records may be read ahead, about; 32 MiB where
	// zero.
	Buffer int
	// Read, where set, is told how many records were read; from several
	// goroutines.
	Read func(records int)
	// Stalled, where set, is told why a partition cannot be read for now, and nil
	// when it can again; from several goroutines.
	Stalled func(p control.PartID, err error)

	all []*lane
}

// errSpent is the end of a lane that has been read to its end.
var errSpent = errors.New("read to its end")

// Events yields the events in order, many at once; the slice is used again for the
// next step, the events in it are not. It ends with the first error: a *Fault, or
// one of reading. All goroutines have ended when it returns.
func (r *Replay) Events(ctx context.Context) iter.Seq2[[]*Event, error] {
	return func(yield func([]*Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var readers sync.WaitGroup
		defer readers.Wait()
		defer cancel()
		o, wake := r.begin(ctx, &readers)
		room := r.Buffer
		if room <= 0 {
			room = 32 << 20
		}
		var b batch
		for {
			o.lanes = slices.DeleteFunc(o.lanes, (*lane).spent)
			if len(o.lanes) == 0 {
				return
			}
			o.fill(room)
			o.gather(&b, 4096, 4<<20)
			if len(b.events) > 0 && !yield(b.events, nil) {
				return
			}
			moved := len(b.lanes) > 0
			o.keep(&b)
			if moved {
				continue
			}
			if r.stands(o) {
				return
			}
			if err := o.broken(); err != nil {
				yield(nil, err)
				return
			}
			if slices.ContainsFunc(o.lanes, (*lane).spent) {
				continue
			}
			select {
			case <-wake:
			case <-ctx.Done():
				yield(nil, context.Cause(ctx))
				return
			}
		}
	}
}

// begin starts a reader for each partition.
func (r *Replay) begin(ctx context.Context, readers *sync.WaitGroup) (*order, <-chan struct{}) {
	spec := r.Preparer.program.Spec()
	o := &order{aligned: spec.Aligned}
	for _, m := range r.Marks {
		o.marks.add(m)
	}
	if r.Cut != nil {
		o.ceilings = []ceiling{{at: *r.Cut, snapshots: true}}
	}
	wake := make(chan struct{}, 1)
	for _, p := range r.Parts {
		l := newLane(control.Part{PartID: p.PartID, Next: p.From}, slices.Index(spec.Topics, p.Topic))
		o.lanes = append(o.lanes, l)
		readers.Go(func() {
			r.read(ctx, l, p, func() {
				select {
				case wake <- struct{}{}:
				default:
				}
			})
		})
	}
	r.all = slices.Clone(o.lanes)
	return o, wake
}

// read is the reader of one partition.
func (r *Replay) read(ctx context.Context, l *lane, p Reach, wake func()) {
	hand := func(c chunk) bool {
		select {
		case l.in <- c:
			wake()
			return true
		case <-ctx.Done():
			return false
		}
	}
	if err := r.checkEnds(ctx, p); err != nil {
		if ctx.Err() == nil {
			hand(chunk{err: err})
		}
		return
	}
	seq := NewSequence(control.Part{PartID: p.PartID, Next: p.From})
	if p.From < p.Until && !r.tail(ctx, l, p, seq, hand) {
		return
	}
	// Compaction may have taken the last ones before Until.
	hand(chunk{entries: []entry{{next: p.Until, end: true}}, err: errSpent})
}

func (r *Replay) stalled(p control.PartID, err error) {
	if r.Stalled != nil {
		r.Stalled(p, err)
	}
}

// checkEnds looks whether the log holds what is to be read, once it answers.
func (r *Replay) checkEnds(ctx context.Context, p Reach) error {
	first, next, err := r.Log.Ends(ctx, p.Topic, p.Part)
	for ; passing(err); first, next, err = r.Log.Ends(ctx, p.Topic, p.Part) {
		r.stalled(p.PartID, err)
		if !sleep(ctx, 200*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	r.stalled(p.PartID, nil)
	switch {
	case err != nil:
		return fmt.Errorf("ask for the ends of %s: %w", p.PartID, err)
	case next < p.Until:
		return newTopic(p.PartID, p.Until, fmt.Sprintf("the log ends at offset %d, before what was already applied", next))
	case first > max(p.From, 0) && !IsLatest(p.Topic):
		return historyGone(p.PartID, max(p.From, 0), first)
	}
	return nil
}

// tail reads a partition to its end and reports whether it got there.
func (r *Replay) tail(ctx context.Context, l *lane, p Reach, seq *Sequence, hand func(chunk) bool) bool {
	stalled := func(err error) { r.stalled(p.PartID, err) }
	for records, err := range r.Log.Tail(ctx, p.Topic, p.Part, p.From, stalled) {
		if err != nil {
			if ctx.Err() == nil {
				hand(chunk{err: l.readError(ctx, r.Log, err)})
			}
			return false
		}
		end := len(records) == 0 // all there is, so all before Until
		for n := len(records); n > 0 && records[n-1].Offset >= p.Until-1; n-- {
			end = true
			if records[n-1].Offset >= p.Until {
				records = records[:n-1]
			}
		}
		for len(records) > 0 {
			before := len(records)
			l.read.Store(records[0].Offset)
			var c chunk
			c, records = l.prepare(records, seq, r.Preparer)
			if !hand(c) || c.err != nil {
				return false
			}
			if r.Read != nil {
				r.Read(before - len(records))
			}
		}
		if end {
			return true
		}
	}
	return false
}

// spent reports whether all that was read of a lane has been taken.
func (l *lane) spent() bool { return l.failed == errSpent && l.taken == len(l.buf) && !l.moved() }

// broken gives the error of a lane that has nothing else left.
func (o *order) broken() error {
	for _, l := range o.lanes {
		if l.failed != nil && l.failed != errSpent && l.head() == nil {
			return l.failed
		}
	}
	return nil
}

// stands reports whether every partition's next event lies beyond the cut.
func (r *Replay) stands(o *order) bool {
	if r.Cut == nil {
		return false
	}
	for _, l := range o.lanes {
		if en := l.head(); en == nil || !o.beyond(en) {
			return false
		}
	}
	return true
}

// Stands gives, once Events has ended without an error, where a version stands
// that has applied all of them: what its Parts are to say.
func (r *Replay) Stands() ([]control.Part, error) {
	parts := make([]control.Part, 0, len(r.all))
	for i, l := range r.all {
		c := l.done
		if r.Cut == nil && c.next < r.Parts[i].Until {
			return nil, fmt.Errorf("%s was read up to offset %d only, not to %d", l.id, c.next, r.Parts[i].Until)
		}
		if r.Cut != nil && r.Cut.Compare(c.passed) > 0 {
			c.passed = *r.Cut
		}
		parts = append(parts, control.Part{PartID: l.id, Next: c.next, Seq: c.seq, Writer: c.writer, Applied: c.applied,
			Passed: c.passed, StreamTime: c.stream, Anchor: c.anchor, AnchorOffset: c.anchorAt})
	}
	return parts, nil
}

// WireRecord is the event's record: the one that was read, or the same made anew.
func (e *Event) WireRecord() event.Record {
	if e.record != nil {
		return *e.record
	}
	return e.Record()
}
