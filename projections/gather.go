package projections

import (
	"cmp"
	"container/heap"
	"slices"

	"banyan/projections/control"
)

// batch is what one transaction does.
type batch struct {
	events []*Event
	steps  []control.Step
	lanes  []*lane // of the steps
	bytes  int
	// mark is what all partitions together have passed once the events are
	// applied, for timers.
	mark control.Mark
}

// ceiling is a mark beyond which nothing may be applied for now.
type ceiling struct {
	at control.Mark
	// snapshots at the mark itself still count as below it.
	snapshots bool
	why       string
}

func (c *ceiling) beyond(en *entry) bool {
	d := en.group.Compare(c.at)
	return d > 0 || d == 0 && !(c.snapshots && en.e.Position.Snapshot > 0)
}

// order decides which events come next: the one question in which partitioned
// and aligned projections differ.
type order struct {
	lanes   []*lane
	aligned bool
	marks   marks
	// ceilings that hold now; the lowest counts.
	ceilings []ceiling
	turn     int // lane that begins the next partitioned batch
	// waits is the partition whose mark an aligned order waits for; nil for none.
	waits *lane
}

// fill takes over what the readers have ready, up to so many bytes in all.
func (o *order) fill(buffer int) {
	room := buffer
	for _, l := range o.lanes {
		room -= l.bytes
	}
	for _, l := range o.lanes {
		before := l.bytes
		l.fill(before + max(room, 0))
		room -= l.bytes - before
	}
}

// gather takes what may be applied next, at most count events and about bytes,
// of what was taken over. The batch is empty if nothing may move.
func (o *order) gather(b *batch, count, bytes int) {
	o.open(b)
	o.take(b, count, bytes)
	o.close(b)
}

// open begins a batch; take may be called for it more than once, until it is closed.
func (o *order) open(b *batch) {
	*b = batch{events: b.events[:0], steps: b.steps[:0], lanes: b.lanes[:0]}
}

func (o *order) take(b *batch, count, bytes int) {
	if o.aligned {
		o.merge(b, count, bytes)
	} else {
		o.rotate(b, count, bytes)
	}
}

// close works out what the batch does to the partitions.
func (o *order) close(b *batch) {
	o.pass(b)
	for _, l := range o.lanes {
		if l.moved() {
			b.lanes, b.steps = append(b.lanes, l), append(b.steps, l.step())
		} else if l.taken > 0 {
			l.keep() // the reader was at the end; there is nothing to commit
		}
	}
}

// rotate takes from each partition in its own order. A partition that has more
// than its share gets what others leave.
func (o *order) rotate(b *batch, count, bytes int) {
	n := len(o.lanes)
	share := max(count/n, 1)
	for _, most := range []int{share, count} {
		for i := range n {
			l := o.lanes[(o.turn+i)%n]
			for taken := 0; taken < most && len(b.events) < count && b.bytes < bytes; taken++ {
				if !o.takeFrom(b, l) {
					break
				}
			}
		}
	}
	o.turn = (o.turn + 1) % n
}

func (o *order) takeFrom(b *batch, l *lane) bool {
	en := l.head()
	if en == nil || o.beyond(en) {
		return false
	}
	e := l.take()
	b.events = append(b.events, e)
	b.bytes += e.Size
	return true
}

func (o *order) beyond(en *entry) bool {
	for i := range o.ceilings {
		if o.ceilings[i].beyond(en) {
			return true
		}
	}
	return false
}

// merge takes from all partitions in the order of commits. The next event is
// certain when every partition either has one that comes later, or has passed a
// mark beyond it, so that whatever it may still bring comes later. What is taken
// depends on the records alone, never on which of them came first or on where
// batches end.
func (o *order) merge(b *batch, count, bytes int) {
	h := make(heads, 0, len(o.lanes))
	var floor *control.Mark // the lowest mark that a partition without a head has passed
	o.waits = nil
	add := func(l *lane) {
		if en := l.head(); en != nil {
			h = append(h, l)
			return
		}
		proven := o.proven(l)
		if floor == nil || proven.Compare(*floor) < 0 {
			floor, o.waits = &proven, l
		}
	}
	for _, l := range o.lanes {
		add(l)
	}
	heap.Init(&h)
	for len(h) > 0 && len(b.events) < count && b.bytes < bytes {
		l := h[0]
		if floor != nil && l.head().group.Compare(*floor) >= 0 {
			return
		}
		if !o.takeFrom(b, l) {
			o.waits = nil
			return
		}
		if l.head() == nil {
			l.fill(l.bytes + chunkBytes)
		}
		if l.head() != nil {
			heap.Fix(&h, 0)
			continue
		}
		heap.Pop(&h)
		add(l)
	}
	o.waits = nil
}

// proven is the mark that a partition has passed by its seq.
func (o *order) proven(l *lane) control.Mark {
	m := l.cur.passed
	if w := o.marks.reached(l.id, l.cur.seq); w != nil && control.MarkOf(w).Compare(m) > 0 {
		m = control.MarkOf(w)
	}
	return m
}

// pass moves the marks of the partitions: one has passed a mark when its events
// up to the mark's seq are applied, or when its next event lies beyond.
func (o *order) pass(b *batch) {
	for i, l := range o.lanes {
		m := o.proven(l)
		if en := l.head(); en != nil {
			if w := o.marks.below(frontOf(en)); w != nil && control.MarkOf(w).Compare(m) > 0 {
				m = control.MarkOf(w)
			}
		}
		if c := o.lowest(); c != nil && (m.Compare(c.at) > 0 || o.stands(l, c)) {
			m = c.at
		}
		if m.Compare(l.cur.passed) > 0 {
			l.cur.passed = m
		}
		if i == 0 || l.cur.passed.Compare(b.mark) < 0 {
			b.mark = l.cur.passed
		}
	}
	o.marks.forget(b.mark)
}

// frontOf is the last mark that lies wholly before an event. One streamed lies
// behind the mark at its own LSN; one of a snapshot belongs to it.
func frontOf(en *entry) control.Mark {
	g := en.group
	if en.e.Position.Snapshot > 0 && g.LSN > 0 && group(en.e.Position).Compare(g) == 0 {
		g.LSN--
	}
	return g
}

// stands reports whether a partition's next event is known and lies beyond.
func (o *order) stands(l *lane, c *ceiling) bool {
	en := l.head()
	return en != nil && c.beyond(en)
}

// lowest is the ceiling that counts; nil for none.
func (o *order) lowest() *ceiling {
	var low *ceiling
	for i := range o.ceilings {
		if c := &o.ceilings[i]; low == nil || c.at.Compare(low.at) < 0 {
			low = c
		}
	}
	return low
}

// keep says that the batch is committed, rewind that it is not.
func (o *order) keep(b *batch) {
	for _, l := range b.lanes {
		l.keep()
	}
}

func (o *order) rewind() {
	for _, l := range o.lanes {
		l.rewind()
	}
}

// heads is a heap of lanes with a next event, the earliest first.
type heads []*lane

func (h heads) Len() int           { return len(h) }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h heads) Less(i, j int) bool { return before(h[i], h[j]) }

// Push is for container/heap, which is never asked to.
func (h *heads) Push(x any) { *h = append(*h, x.(*lane)) }

// Pop takes the last away.
func (h *heads) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	*h = slices.Delete(*h, last, last+1)
	return l
}

// before is the aligned order: the transaction, what a snapshot told before what
// was streamed, topics in the order of the Spec, then the order inside.
func before(a, b *lane) bool {
	x, y := &a.buf[a.taken], &b.buf[b.taken]
	if c := x.group.Compare(y.group); c != 0 {
		return c < 0
	}
	p, q := &x.e.Position, &y.e.Position
	if p.Snapshot > 0 != (q.Snapshot > 0) {
		return p.Snapshot > 0
	}
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(p.Snapshot, q.Snapshot), cmp.Compare(p.Ordinal, q.Ordinal),
		cmp.Compare(a.id.Part, b.id.Part), cmp.Compare(x.e.Seq, y.e.Seq)) < 0
}
