package projections

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"banyan/event"
	"banyan/projections/control"
)

// history is what a source has told: events by partition in the order of seq, and
// watermarks, each with the number of events told before it.
type history struct {
	topics, parts int
	events        map[control.PartID][]*Event
	marks         []*event.Watermark
}

// drawHistory makes transactions with events in random partitions, snapshots,
// releases of parked events, marks now and then and another generation.
func drawHistory(t *rapid.T) *history {
	h := &history{topics: rapid.IntRange(1, 3).Draw(t, "topics"), parts: rapid.IntRange(1, 3).Draw(t, "partitions"),
		events: map[control.PartID][]*Event{}}
	gen, lsn, at := 1, uint64(100), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	seqs := map[string][]int64{}
	for i := range h.topics {
		seqs[topicName(i)] = make([]int64, h.parts)
	}
	tell := func(pos event.Position) {
		topic, part := topicName(rapid.IntRange(0, h.topics-1).Draw(t, "topic")), rapid.IntRange(0, h.parts-1).Draw(t, "part")
		seqs[topic][part]++
		id := control.PartID{Topic: topic, Part: part}
		e := &Event{Offset: seqs[topic][part] - 1, Size: 100}
		e.Event = event.Event{ID: event.ID{Source: "s", Aggregate: "A", Key: fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "key")), Position: pos},
			Type: "T", Version: 1, Topic: topic, Partition: part, Seq: seqs[topic][part], Time: at, Position: pos, Writer: 1}
		h.events[id] = append(h.events[id], e)
	}
	for range rapid.IntRange(0, 40).Draw(t, "transactions") {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0: // a snapshot stands where the last transaction has ended
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				tell(event.Position{Generation: gen, LSN: lsn, Snapshot: 1})
			}
		case 1:
			gen, lsn = gen+1, 100
		case 2, 3:
			w := &event.Watermark{Source: "s", Generation: gen, LSN: lsn, Time: at, Writer: 1, Seqs: map[string][]int64{}}
			for topic, s := range seqs {
				w.Seqs[topic] = slices.Clone(s)
			}
			h.marks = append(h.marks, w)
		default:
			// The commit record begins where the one before ended, or later.
			commit := lsn + uint64(rapid.IntRange(0, 1).Draw(t, "gap"))
			for i := range rapid.IntRange(1, 4).Draw(t, "events") {
				tell(event.Position{Generation: gen, LSN: commit, Ordinal: int64(i)})
			}
			lsn = commit + 8
		}
		at = at.Add(time.Duration(rapid.IntRange(-1, 3).Draw(t, "seconds")) * time.Second)
	}
	w := &event.Watermark{Source: "s", Generation: gen, LSN: lsn + 1, Time: at.Add(time.Hour), Writer: 1, Seqs: maps.Clone(seqs)}
	h.marks = append(h.marks, w)
	return h
}

func topicName(i int) string { return fmt.Sprintf("s.t%d", i) }

// source feeds lanes with a history, a piece here and a piece there.
type source struct {
	h     *history
	told  []int // events handed over, by lane
	marks int
}

// step hands over something that is still missing, where there is room for it;
// false when there is nothing.
func (s *source) step(t *rapid.T, o *order) bool {
	var open []int
	more := false
	for i, l := range o.lanes {
		more = more || s.told[i] < len(s.h.events[l.id])
		if s.told[i] < len(s.h.events[l.id]) && len(l.in) < cap(l.in) {
			open = append(open, i)
		}
	}
	if s.marks < len(s.h.marks) {
		open = append(open, -1)
	}
	if len(open) == 0 {
		return more
	}
	i := open[rapid.IntRange(0, len(open)-1).Draw(t, "next")]
	if i < 0 {
		o.marks.add(s.h.marks[s.marks])
		s.marks++
		return true
	}
	l := o.lanes[i]
	all := s.h.events[l.id][s.told[i]:]
	var c chunk
	for _, e := range all[:rapid.IntRange(1, min(len(all), 5)).Draw(t, "chunk")] {
		c.entries = append(c.entries, entry{e: e, next: e.Offset + 1})
		c.bytes += e.Size
		if rapid.IntRange(0, 4).Draw(t, "repeat") == 0 {
			c.pass(e.Offset + 1)
		}
		s.told[i]++
	}
	l.in <- c
	return true
}

func (h *history) order() *order {
	o := &order{aligned: true}
	for t := range h.topics {
		for p := range h.parts {
			o.lanes = append(o.lanes, newLane(control.Part{PartID: control.PartID{Topic: topicName(t), Part: p}}, t))
		}
	}
	return o
}

// inOrder is the order by the contract's words: transactions by generation and
// LSN, snapshots first, topics as listed, then ordinal, partition and seq. That
// partitions are in this order already is part of how the history is made.
func (h *history) inOrder() []string {
	var all []*Event
	for _, es := range h.events {
		all = append(all, es...)
	}
	slices.SortFunc(all, func(a, b *Event) int {
		p, q := a.Position, b.Position
		switch {
		case group(p).Compare(group(q)) != 0:
			return group(p).Compare(group(q))
		case p.Snapshot != q.Snapshot:
			return q.Snapshot - p.Snapshot
		case a.Topic != b.Topic:
			return strings.Compare(a.Topic, b.Topic)
		case p.Ordinal != q.Ordinal:
			return int(p.Ordinal - q.Ordinal)
		case a.Partition != b.Partition:
			return a.Partition - b.Partition
		}
		return int(a.Seq - b.Seq)
	})
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = nameOf(e)
	}
	return names
}

func nameOf(e *Event) string {
	return fmt.Sprintf("%s/%d:%d@%s", e.Topic, e.Partition, e.Seq, e.Position)
}

// However records arrive and batches are cut, taken back and repeated, or the
// runner begins anew, the order is the one of the commits; and nothing is applied
// that a mark has not made certain.
func TestAlignedOrderIsAlwaysTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		want := h.inOrder()
		o := h.order()
		s := &source{h: h, told: make([]int, len(o.lanes))}
		var got []string
		var b batch
		for {
			more := s.step(t, o)
			o.fill(rapid.IntRange(1, 2000).Draw(t, "buffer"))
			o.gather(&b, rapid.IntRange(1, 20).Draw(t, "count"), rapid.IntRange(1, 2000).Draw(t, "bytes"))
			switch rapid.IntRange(0, 5).Draw(t, "fate") {
			case 0:
				o.rewind()
				continue
			case 1: // another runner begins where this one was
				var names []string
				for _, e := range b.events {
					names = append(names, nameOf(e))
				}
				got = append(got, names...)
				o.keep(&b)
				o = restart(o, s)
				continue
			}
			for _, e := range b.events {
				got = append(got, nameOf(e))
			}
			moved := len(b.steps) > 0
			o.keep(&b)
			if !more && !moved && stuck(o) {
				break
			}
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
		for _, l := range o.lanes {
			if last := control.MarkOf(h.marks[len(h.marks)-1]); l.done.passed.Compare(last) != 0 {
				t.Fatalf("%s has passed %v, want the last mark %v", l.id, l.done.passed, last)
			}
		}
	})
}

// stuck reports whether nothing more can come of what the lanes are given.
func stuck(o *order) bool {
	for _, l := range o.lanes {
		if len(l.in) > 0 {
			o.fill(1 << 30)
			return false
		}
	}
	var b batch
	o.gather(&b, 1000, 1<<20)
	defer o.rewind()
	return len(b.steps) == 0
}

// restart makes the order of a runner that begins where another one was, knows
// the same marks only if they are told again, and reads from the offsets.
func restart(o *order, s *source) *order {
	n := &order{aligned: o.aligned}
	for i, l := range o.lanes {
		c := l.done
		n.lanes = append(n.lanes, newLane(control.Part{PartID: l.id, Next: c.next, Seq: c.seq, Writer: c.writer, Applied: c.applied, Passed: c.passed, StreamTime: c.stream}, l.topic))
		s.told[i] = int(c.next)
	}
	s.marks = max(0, s.marks-2)
	return n
}

// A hold cuts exactly at its mark, whatever the partitions have read.
func TestHoldCutsExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		at := control.MarkOf(h.marks[rapid.IntRange(0, len(h.marks)-1).Draw(t, "hold")])
		aligned := rapid.Bool().Draw(t, "aligned")
		var want []string
		for _, es := range h.events {
			for _, e := range es {
				if at.Covers(e.Position) {
					want = append(want, nameOf(e))
				}
			}
		}
		o := h.order()
		o.aligned = aligned
		o.ceilings = []ceiling{{at, true, "held"}}
		s := &source{h: h, told: make([]int, len(o.lanes))}
		var got []string
		var b batch
		for more := true; more || !stuck(o); {
			more = s.step(t, o)
			o.fill(1 << 30)
			o.gather(&b, rapid.IntRange(1, 20).Draw(t, "count"), 2000)
			for _, e := range b.events {
				got = append(got, nameOf(e))
			}
			o.keep(&b)
		}
		slices.Sort(want)
		slices.Sort(got)
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("held at %s (-want +got):\n%s", at, d)
		}
		for _, l := range o.lanes {
			if l.done.passed.Compare(at) != 0 {
				t.Fatalf("%s has passed %s, want exactly %s", l.id, l.done.passed, at)
			}
		}
	})
}

// A partitioned order keeps each partition's own order and leaves nothing behind.
func TestPartitionedOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		o := h.order()
		o.aligned = false
		s := &source{h: h, told: make([]int, len(o.lanes))}
		got := map[control.PartID][]*Event{}
		var b batch
		for more := true; more || !stuck(o); {
			more = s.step(t, o)
			o.fill(rapid.IntRange(1, 2000).Draw(t, "buffer"))
			o.gather(&b, rapid.IntRange(1, 9).Draw(t, "count"), 2000)
			if rapid.IntRange(0, 4).Draw(t, "fate") == 0 {
				o.rewind()
				more = true
				continue
			}
			for _, e := range b.events {
				id := control.PartID{Topic: e.Topic, Part: e.Partition}
				got[id] = append(got[id], e)
			}
			o.keep(&b)
		}
		for id, es := range h.events {
			if !slices.Equal(es, got[id]) {
				t.Fatalf("%s: got %d events, want %d in order", id, len(got[id]), len(es))
			}
		}
	})
}

func TestMarksThatComeLate(t *testing.T) {
	var m marks
	w := func(gen int, lsn uint64, writer int64, seq int64) *event.Watermark {
		return &event.Watermark{Source: "s", Generation: gen, LSN: lsn, Writer: writer, Seqs: map[string][]int64{"s.t": {seq}}}
	}
	for i, tt := range []struct {
		w    *event.Watermark
		want bool
	}{
		{w(1, 10, 1, 1), true}, {w(1, 9, 1, 1), false}, {w(1, 20, 2, 5), true}, {w(1, 30, 1, 9), false}, {w(1, 20, 2, 6), true}, {w(2, 5, 3, 6), true},
	} {
		if got := m.add(tt.w); got != tt.want {
			t.Errorf("mark %d is taken: %v, want %v", i, got, tt.want)
		}
	}
	id := control.PartID{Topic: "s.t"}
	for seq, want := range map[int64]string{0: "", 1: "1:A", 4: "1:A", 5: "1:14", 6: "2:5", 99: "2:5"} {
		got := ""
		if w := m.reached(id, seq); w != nil {
			got = fmt.Sprintf("%d:%X", w.Generation, w.LSN)
		}
		if got != want {
			t.Errorf("with seq %d %q is passed, want %q", seq, got, want)
		}
	}
	for i := range 2000 {
		m.add(w(2, uint64(100+i), 3, int64(10+i)))
	}
	if len(m.all) > maxMarks {
		t.Errorf("%d marks are kept", len(m.all))
	}
	if w := m.reached(id, 10+1999); w == nil || w.LSN != 100+1999 {
		t.Errorf("the last mark is not found: %v", w)
	}
}

// A mark at the LSN of a snapshot covers it: no partition has passed that mark
// before the last event of the snapshot.
func TestSnapshotIsPassedAsAWhole(t *testing.T) {
	for _, aligned := range []bool{false, true} {
		l := newLane(control.Part{PartID: control.PartID{Topic: "s.t0"}}, 0)
		o := order{aligned: aligned, lanes: []*lane{l}}
		at := control.Mark{Generation: 1, LSN: 500}
		o.marks.add(&event.Watermark{Source: "s", Generation: 1, LSN: at.LSN, Seqs: map[string][]int64{"s.t0": {3}}})
		var c chunk
		for seq := int64(1); seq <= 4; seq++ {
			e := &Event{Offset: seq - 1, Size: 1}
			e.Seq, e.Position = seq, event.Position{Generation: 1, LSN: at.LSN, Snapshot: 1}
			if seq == 4 { // the first transaction behind it
				e.Position.Snapshot = 0
			}
			c.entries = append(c.entries, entry{e: e, next: seq})
		}
		l.in <- c
		o.fill(1000)
		var b batch
		for n := 1; n <= 3; n++ {
			o.gather(&b, 1, 1000)
			if len(b.events) != 1 {
				t.Fatalf("aligned %v: %d events, want one", aligned, len(b.events))
			}
			o.keep(&b)
			if passed := l.done.passed.Compare(at) >= 0; passed != (n == 3) {
				t.Errorf("aligned %v: after %d of 3 events of the snapshot it has passed %s", aligned, n, l.done.passed)
			}
		}
	}
}
