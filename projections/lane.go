package projections

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"banyan/event"
	"banyan/projections/control"
)

// cursor is how far a lane has come.
type cursor struct {
	next, seq, writer int64
	applied           event.Position
	passed            control.Mark
	stream            time.Time
	anchor            string
	anchorAt          int64
	last              *Event // that anchor shall name, until a step is made of it
	end               bool   // everything that there was has been read
}

// entry is one event in a lane, or, without one, records that were passed over.
type entry struct {
	e     *Event
	next  int64        // offset behind it
	group control.Mark // running maximum of the positions in this partition
	end   bool         // the reader had everything there was
}

// chunk is what a reader hands over at once.
type chunk struct {
	entries []entry
	bytes   int
	err     error
}

// Bounds of a chunk, which a reader fills from one fetch.
const (
	chunkRecords = 512
	chunkBytes   = 256 << 10
)

// lane is one partition on its way from the log into a batch. Its reader is one
// goroutine; all but in, and what is atomic, belongs to the committer.
type lane struct {
	id    control.PartID
	topic int // place in Spec.Topics
	epoch int64
	in    chan chunk

	// buf holds what was received: up to taken it is in the batch that is being
	// committed, so that the batch can be taken back.
	buf   []entry
	taken int
	bytes int // of buf
	top   control.Mark
	// done is what the database has; cur is behind what was taken.
	done, cur cursor
	failed    error // the reader's end, due when buf is used up

	// for Stats
	end     atomic.Int64          // of the log, as last seen
	size    atomic.Int64          // running mean of a record in bytes
	stalled atomic.Pointer[error] // why the reader waits
	read    atomic.Int64          // offset up to which the reader has come
}

func newLane(p control.Part, topic int) *lane {
	c := cursor{next: p.Next, seq: p.Seq, writer: p.Writer, applied: p.Applied, passed: p.Passed, stream: p.StreamTime, anchor: p.Anchor, anchorAt: p.AnchorOffset}
	l := &lane{id: p.PartID, topic: topic, epoch: p.Epoch, in: make(chan chunk, 2), done: c, cur: c, top: group(p.Applied)}
	l.read.Store(p.Next)
	return l
}

// fill receives what the reader has ready, as far as there is room; a lane
// without anything always has.
func (l *lane) fill(room int) {
	for l.failed == nil && (l.taken == len(l.buf) || l.bytes < room) {
		select {
		case c := <-l.in:
			for _, en := range c.entries {
				if en.e != nil {
					if g := group(en.e.Position); g.Compare(l.top) > 0 {
						l.top = g
					}
				}
				en.group = l.top
				l.buf = append(l.buf, en)
			}
			l.bytes += c.bytes
			l.failed = c.err
		default:
			return
		}
	}
}

// head gives the next event; nil while there is none. Records that were passed
// over are taken on the way: they cost nothing.
func (l *lane) head() *entry {
	for l.taken < len(l.buf) {
		en := &l.buf[l.taken]
		if en.e != nil {
			return en
		}
		l.cur.next, l.cur.end = en.next, en.end
		l.taken++
	}
	return nil
}

// take moves behind the head.
func (l *lane) take() *Event {
	en := &l.buf[l.taken]
	l.taken++
	e := en.e
	c := &l.cur
	c.next, c.end, c.last = en.next, false, e
	c.seq, c.writer = max(c.seq, e.Seq), e.Writer
	c.applied = later(e.Position, c.applied)
	if e.Time.After(c.stream) {
		c.stream = e.Time
	}
	return e
}

// keep says that what was taken is committed.
func (l *lane) keep() {
	for i := range l.taken {
		if e := l.buf[i].e; e != nil {
			l.bytes -= e.Size
		}
	}
	l.forget()
	l.cur.last = nil
	l.done = l.cur
}

// forget lets go of what was taken. The memory is used again, unless much were to be
// moved for it.
func (l *lane) forget() {
	rest := l.buf[l.taken:]
	if len(rest) <= l.taken {
		n := copy(l.buf, rest)
		clear(l.buf[n:])
		l.buf, l.taken = l.buf[:n], 0
		return
	}
	clear(l.buf[:l.taken])
	l.buf, l.taken = rest, 0
}

// rewind takes back what was taken.
func (l *lane) rewind() { l.taken, l.cur = 0, l.done }

// moved reports whether a step is due.
func (l *lane) moved() bool {
	return l.cur.next != l.done.next || l.cur.seq != l.done.seq || l.cur.passed.Compare(l.done.passed) > 0
}

func (l *lane) step() control.Step {
	c := &l.cur
	if c.last != nil {
		c.anchor, c.anchorAt, c.last = c.last.ID.String(), c.last.Offset, nil
	}
	return control.Step{PartID: l.id, Epoch: l.epoch, From: l.done.next, To: c.next, Seq: c.seq, Writer: c.writer,
		Applied: c.applied, Passed: c.passed, Time: c.stream, Anchor: c.anchor, AnchorAt: c.anchorAt}
}

// still is a step that moves nothing: it only proves that the partition is ours.
func (l *lane) still() control.Step {
	c := &l.done
	return control.Step{PartID: l.id, Epoch: l.epoch, From: c.next, To: c.next, Seq: c.seq, Writer: c.writer,
		Applied: c.applied, Passed: c.passed, Time: c.stream, Anchor: c.anchor, AnchorAt: c.anchorAt}
}

// follow reads the partition until ctx ends or something is wrong with it: it
// drops repeats, counts, decodes, lifts and prepares, and hands over.
func (l *lane) follow(ctx context.Context, log Log, prep *Preparer, seq *Sequence, wake func()) {
	hand := func(c chunk) bool {
		select {
		case l.in <- c:
			wake()
			return true
		case <-ctx.Done():
			return false
		}
	}
	stalled := func(err error) {
		if err == nil {
			l.stalled.Store(nil)
			return
		}
		l.stalled.Store(&err)
	}
	next := l.read.Load()
	seq.recall(ctx, log, next)
	for records, err := range log.Tail(ctx, l.id.Topic, l.id.Part, next, stalled) {
		if err != nil {
			if ctx.Err() == nil {
				hand(chunk{err: l.readError(ctx, log, err)})
			}
			return
		}
		if len(records) == 0 {
			l.end.Store(max(next, l.end.Load()))
			if !hand(chunk{entries: []entry{{next: next, end: true}}}) {
				return
			}
			continue
		}
		for len(records) > 0 {
			var c chunk
			c, records = l.prepare(records, seq, prep)
			if len(c.entries) > 0 {
				next = c.entries[len(c.entries)-1].next
				l.read.Store(next)
			}
			if !hand(c) || c.err != nil {
				return
			}
		}
	}
}

// prepare makes a chunk of the first of the records and gives back the rest.
func (l *lane) prepare(records []event.Record, seq *Sequence, prep *Preparer) (chunk, []event.Record) {
	n := chunkOf(records)
	c := chunk{entries: make([]entry, 0, n)}
	slab := make([]Event, n)
	for i := range n {
		r := &records[0]
		fresh, err := seq.Take(r)
		if err == nil && fresh {
			e := &slab[i]
			if err = prep.Prepare(e, l.id.Topic, r); err == nil {
				err = seq.Generation(e)
			}
			if err == nil {
				c.entries = append(c.entries, entry{e: e, next: r.Offset + 1})
				c.bytes += e.Size
			}
		}
		if err != nil {
			c.err = err
			return c, nil
		}
		if !fresh {
			c.pass(r.Offset + 1)
		}
		records = records[1:]
	}
	l.note(&c)
	return c, records
}

// chunkOf counts the records of the next chunk.
func chunkOf(records []event.Record) (n int) {
	for bytes := 0; n < min(len(records), chunkRecords) && bytes < chunkBytes; n++ {
		bytes += records[n].Size()
	}
	return n
}

// pass notes a record that is passed over.
func (c *chunk) pass(next int64) {
	if n := len(c.entries); n > 0 && c.entries[n-1].e == nil {
		c.entries[n-1].next = next
		return
	}
	c.entries = append(c.entries, entry{next: next})
}

// note keeps the mean size of a record.
func (l *lane) note(c *chunk) {
	if n := int64(len(c.entries)); n > 0 && c.bytes > 0 {
		mean := int64(c.bytes) / n
		if was := l.size.Load(); was > 0 {
			mean = (was*7 + mean) / 8
		}
		l.size.Store(mean)
	}
}

// readError says what the end of the reading means: the log may have lost what
// comes next, or be another one.
func (l *lane) readError(ctx context.Context, log Log, err error) error {
	at := l.read.Load()
	first, next, endsErr := log.Ends(ctx, l.id.Topic, l.id.Part)
	switch {
	case endsErr != nil:
	case at < first:
		return historyGone(l.id, at, first)
	case at > next:
		return newTopic(l.id, at, fmt.Sprintf("the log ends at offset %d, before what was already applied", next))
	}
	return fmt.Errorf("read %s: %w", l.id, err)
}

func historyGone(id control.PartID, next, first int64) error {
	return &Fault{id, next, fmt.Sprintf("the log begins at offset %d: records before it were deleted and not applied", first),
		"events are lost to this version; set retention.ms=-1 on the topic, and rebuild from its .latest twin if this projection can be", ErrHistoryGone}
}

func newTopic(id control.PartID, offset int64, what string) error {
	return &Fault{id, offset, what, "the topic was deleted and made anew; projector rebuild makes a version of what it holds now", ErrNewTopic}
}
