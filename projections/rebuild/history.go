package rebuild

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
)

// history is a whole history on its way into rows. Partitions that have nothing
// to do with each other are folded at once, each into rows of its own; where the
// order is one, one goroutine folds what many decode.
type history struct {
	log     projections.Log
	program projections.Program
	prep    *projections.Preparer
	reaches []projections.Reach
	marks   []*event.Watermark
	cut     *control.Mark

	firings []control.Firing
	chains  []control.ParkedEvent // what is parked still, for a verification
	settled []control.Settled
	past    bool // the last two count
	// idle is the mark up to which nothing more happens, where there is no cut.
	idle control.Mark

	park    *parking // of which each lane has its own; nil makes poison fatal
	memory  int64
	dir     string
	workers int
	meter   *meter
	wrap    func(*state.Bulk) (state.Space, func(e *projections.Event)) // for watching

	lanes []*historyLane
}

// historyLane is what is folded in one order.
type historyLane struct {
	replay *projections.Replay
	bulk   *state.Bulk
	fold   *fold
	parts  []control.Part
}

// lanesOf says which partitions belong together: those of one number, since
// topics with the same key may share rows, or all of them.
func (h *history) lanesOf(spec projections.Spec) [][]projections.Reach {
	if spec.Aligned {
		return [][]projections.Reach{h.reaches}
	}
	byNumber := make(map[int][]projections.Reach)
	for _, r := range h.reaches {
		byNumber[r.Part] = append(byNumber[r.Part], r)
	}
	var lanes [][]projections.Reach
	for _, n := range slices.Sorted(maps.Keys(byNumber)) {
		lanes = append(lanes, byNumber[n])
	}
	return lanes
}

// fold reads and applies everything. Close the history whatever the error.
func (h *history) fold(ctx context.Context) error {
	spec := h.program.Spec()
	if err := h.makeLanes(spec); err != nil {
		return err
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(max(h.workers, 1))
	var stalled sync.Map // control.PartID -> error
	for _, l := range h.lanes {
		l.replay.Read = func(n int) { h.meter.records(int64(n)) }
		l.replay.Stalled = func(p control.PartID, err error) {
			if err == nil {
				stalled.Delete(p)
			} else {
				stalled.Store(p, err)
			}
			why := ""
			stalled.Range(func(_, err any) bool { why = err.(error).Error(); return false })
			h.meter.stall("broker", why)
		}
		work.Go(func() error {
			mark := h.idle
			if h.cut != nil {
				mark = *h.cut
			}
			if err := l.fold.all(ctx, l.replay, mark); err != nil {
				return err
			}
			var err error
			l.parts, err = l.replay.Stands()
			return err
		})
	}
	return work.Wait()
}

func (h *history) makeLanes(spec projections.Spec) error {
	groups := h.lanesOf(spec)
	for _, reaches := range groups {
		bulk, err := state.NewBulk(spec.AllTables(), state.BulkOptions{Dir: h.dir, MemoryBytes: max(h.memory/int64(len(groups)), 1<<20)})
		if err != nil {
			return fmt.Errorf("make room for the rows: %w", err)
		}
		l := &historyLane{bulk: bulk, replay: &projections.Replay{Log: h.log, Preparer: h.prep, Parts: reaches, Marks: h.marks, Cut: h.cut}}
		h.lanes = append(h.lanes, l)
		var space state.Space = bulk
		var seen func(*projections.Event)
		if h.wrap != nil {
			space, seen = h.wrap(bulk)
		}
		if l.fold, err = newFold(h.program, space, h.firings); err != nil {
			return err
		}
		l.fold.seen = seen
		l.fold.own = make(map[control.PartID]bool)
		for _, r := range reaches {
			l.fold.own[r.PartID] = true
		}
		if h.past {
			l.fold.replay = newParkedPast(spec.Aligned, h.chains, h.settled)
		}
		if h.park != nil {
			own := *h.park
			own.first = make(map[event.Ref]string)
			l.fold.park = &own
		}
	}
	return nil
}

// close removes what lies in memory and on disk.
func (h *history) close() error {
	var first error
	for _, l := range h.lanes {
		if l.bulk == nil {
			continue
		}
		if err := l.bulk.Close(); err != nil && first == nil {
			first = fmt.Errorf("remove the spilled rows: %w", err)
		}
		l.bulk = nil
	}
	return first
}

// parts gives where everything stands, in the order of topic and partition.
func (h *history) parts() []control.Part {
	var all []control.Part
	for _, l := range h.lanes {
		all = append(all, l.parts...)
	}
	slices.SortFunc(all, func(a, b control.Part) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Part, b.Part))
	})
	return all
}

// applied counts the events that have changed rows, or could have.
func (h *history) applied() (n int64) {
	for _, l := range h.lanes {
		n += l.fold.applied
	}
	return n
}

// parked gives the chains that were begun, in order.
func (h *history) parked() (all []control.ParkedEvent) {
	for _, l := range h.lanes {
		if l.fold.park != nil {
			all = append(all, l.fold.park.events...)
		}
	}
	return all
}

// rows counts the rows of all tables; one that was changed after a spill may
// count twice.
func (h *history) rows(tables []state.Table) (n int64) {
	for _, l := range h.lanes {
		for _, t := range tables {
			n += int64(l.bulk.Len(t.Name))
		}
	}
	return n
}

// each yields the rows of a table in the order of their keys, out of all lanes.
// Two lanes with a row of one key are an error: the key is not that of the topic.
func (h *history) each(table string) iter.Seq2[state.Entry, error] {
	if len(h.lanes) == 1 {
		return h.lanes[0].bulk.Each(table)
	}
	return func(yield func(state.Entry, error) bool) {
		var sides []*puller
		for _, l := range h.lanes {
			p, stop := pull(l.bulk.Each(table))
			defer stop()
			sides = append(sides, p)
		}
		for {
			var low *puller
			for _, p := range sides {
				switch {
				case p.err != nil:
					yield(state.Entry{}, p.err)
					return
				case !p.ok:
				case low == nil || p.e.Key < low.e.Key:
					low = p
				case p.e.Key == low.e.Key:
					yield(state.Entry{}, &SharedKeyError{Table: table, Row: fmt.Sprint(p.e.Row)})
					return
				}
			}
			if low == nil || !yield(low.e, nil) {
				return
			}
			low.step()
		}
	}
}

// SharedKeyError says that two partitions have changed one row, so that what it
// holds would depend on which came first.
type SharedKeyError struct{ Table, Row string }

// Error names the row and the ways out.
func (e *SharedKeyError) Error() string {
	return fmt.Sprintf("two partitions have changed the same row of %s, %s: what it holds would depend on which came first; "+
		"put the partition into its key and sum in a view, or make the projection aligned", e.Table, e.Row)
}
