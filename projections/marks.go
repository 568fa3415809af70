package projections

import (
	"cmp"
	"slices"
	"strings"

	"banyan/event"
	"banyan/projections/control"
)

// maxMarks bounds how many watermarks are remembered while partitions lag.
const maxMarks = 512

// marks are the watermarks of a source that are of use: the latest, and earlier
// ones that a partition behind may pass first. A mark proves that everything
// positioned below its LSN lies in the topics at or below its seqs. An event that
// is positioned at that very LSN may come after it: commit records can begin
// where the one before ends.
type marks struct {
	all []*event.Watermark // each later than the one before
	// parked is the latest to say what is parked; its mark can be that of the one
	// before.
	parked *event.Watermark
}

// add takes a mark in, unless it is late: it does not count then.
func (m *marks) add(w *event.Watermark) bool {
	if len(m.all) > 0 {
		last := m.all[len(m.all)-1]
		if w.Writer < last.Writer || last.After(w) {
			return false
		}
		if !w.After(last) {
			// The same LSN again: the one before needs less, but this one knows
			// better what is parked.
			m.parked = w
			return true
		}
	}
	m.all, m.parked = append(m.all, w), w
	if len(m.all) > maxMarks {
		m.thin()
	}
	return true
}

// thin forgets every second mark of the older half.
func (m *marks) thin() {
	kept := m.all[:0]
	for i, w := range m.all {
		if i > len(m.all)/2 || i%2 == 0 {
			kept = append(kept, w)
		}
	}
	clear(m.all[len(kept):])
	m.all = kept
}

// latest gives the last mark; nil while there is none.
func (m *marks) latest() *event.Watermark {
	if len(m.all) == 0 {
		return nil
	}
	return m.all[len(m.all)-1]
}

// forget lets go of what lies below a mark that every partition has passed. The
// one at the mark stays.
func (m *marks) forget(passed control.Mark) {
	n := 0
	for n+1 < len(m.all) && control.MarkOf(m.all[n+1]).Compare(passed) <= 0 {
		n++
	}
	if n > 0 {
		m.all = slices.Delete(m.all, 0, n)
	}
}

// reached gives the latest mark that a partition has passed by its seq; nil for
// none.
func (m *marks) reached(id control.PartID, seq int64) *event.Watermark {
	i, _ := slices.BinarySearchFunc(m.all, seq, func(w *event.Watermark, seq int64) int {
		if seqIn(w, id) <= seq {
			return -1
		}
		return 1
	})
	if i == 0 {
		return nil
	}
	return m.all[i-1]
}

// below gives the latest mark that an event at g lies beyond; nil for none.
func (m *marks) below(g control.Mark) *event.Watermark {
	i, _ := slices.BinarySearchFunc(m.all, g, func(w *event.Watermark, g control.Mark) int {
		if control.MarkOf(w).Compare(g) <= 0 {
			return -1
		}
		return 1
	})
	if i == 0 {
		return nil
	}
	return m.all[i-1]
}

// seqIn is the seq up to which the mark's events lie in the partition.
func seqIn(w *event.Watermark, id control.PartID) int64 {
	seqs := w.Seqs[strings.TrimSuffix(id.Topic, ".latest")]
	if id.Part >= len(seqs) {
		return 0
	}
	return seqs[id.Part]
}

// group is where a position stands among marks: all events of one transaction
// have one.
func group(p event.Position) control.Mark {
	return control.Mark{Generation: p.Generation, LSN: p.LSN}
}

// later gives the one of two positions that comes later by generation and LSN.
func later(a, b event.Position) event.Position {
	if cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.LSN, b.LSN)) > 0 {
		return a
	}
	return b
}
