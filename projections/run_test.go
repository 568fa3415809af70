package projections_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/projectiontest"
)

func TestRunCatchesUp(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	h.trade(3000)
	h.publish()
	h.catchUp(p, v, func(o *projections.Options) { o.Limits.Events = 1 + h.rng.IntN(700) })
	h.check()
	m, err := h.store.Passed(t.Context(), "counts")
	if err != nil || m.LSN != h.src.LSN+0x30 {
		t.Fatalf("passed %v, %v; want the last mark, at %X", m, err, h.src.LSN+0x30)
	}
	// Once more: nothing is to be done, and nothing is done twice.
	h.catchUp(p, v)
	h.check()
}

func TestRunFollows(t *testing.T) {
	h := newHouse(t)
	others := goleak.IgnoreCurrent()
	p := counting(t)
	v := h.install(p)
	r := h.runner(p, v)
	stop := h.start(r, h.parts(orders))
	for range 20 {
		h.trade(1 + h.rng.IntN(30))
		h.publish()
		h.passed(r)
		h.check()
	}
	if err := stop(); !errors.Is(err, errStopped) {
		t.Fatalf("Run ended with %v", err)
	}
	h.pool.Close()
	goleak.VerifyNone(t, others)
	st := r.Stats()
	if st.Events == 0 || st.Batches == 0 || st.MeanBatch <= 0 {
		t.Errorf("stats know nothing: %+v", st)
	}
}

// What stops a runner names the place and the way out, and leaves the rows as
// they were before the fault.
func TestFaults(t *testing.T) {
	log := func(h *house) *projectiontest.Log { return h.log.(*projectiontest.Log) }
	for name, tt := range map[string]struct {
		fault func(h *house)
		kind  error
		says  []string
	}{
		"a hole": {func(h *house) { h.src.Hole(orders, 1, 3); h.fillAll() }, projections.ErrGap, []string{"shop.orders/1", "3 records are missing", "cdc verify"}},
		"other bytes": {func(h *house) {
			h.fillAll()
			h.src.Forge(orders, 2, h.src.Mark().Seqs[orders][2]) // the last one told, so in this run
		}, projections.ErrOtherBytes, []string{"shop.orders/2", "a second time, with other bytes", "two writers"}},
		"a foreign record": {func(h *house) {
			h.publish()
			h.produce(orders, 0, event.Record{Key: []byte("x"), Value: []byte(`{}`)})
		}, event.ErrForeign, []string{"shop.orders/0", "banyan_seq", "only cdc may write"}},
		"another source": {func(h *house) {
			h.fillAll()
			h.publish()
			other := projectiontest.NewSource("store")
			other.Partitions = 1
			if _, err := other.Commit(projectiontest.Event{Topic: orders, Type: "T", Aggregate: "Order", Key: "1"}); err != nil {
				h.t.Fatal(err)
			}
			h.rewrite(other)
		}, event.ErrForeign, []string{"is not of source shop"}},
		"history gone": {func(h *house) {
			h.trade(200)
			h.publish()
			log(h).Trim(orders, 3, h.end(3)-1)
		}, projections.ErrHistoryGone, []string{"shop.orders/3", "retention.ms=-1"}},
		"a topic made anew": {func(h *house) {
			log(h).DeleteTopic(orders)
			*h.src = *projectiontest.NewSource("shop")
			h.src.Partitions = 4
			h.src.CreateTopics(log(h), orders)
			for i := range 800 {
				h.order(fmt.Sprint("other", i), 1)
			}
			h.publish()
		}, projections.ErrNewTopic, []string{"made anew", "rebuild"}},
		"a shorter topic": {func(h *house) {
			log(h).DeleteTopic(orders)
			log(h).CreateTopic(orders, 4)
		}, projections.ErrNewTopic, []string{"ends at offset 0"}},
		"a partition added": {func(h *house) {
			log(h).DeleteTopic(orders)
			log(h).CreateTopic(orders, 5)
		}, projections.ErrPartitions, []string{"5 partitions", "had 4", "no longer in one order"}},
		"a step back of the generation": {func(h *house) {
			h.src.Generation = 3
			h.fillAll()
			h.src.Generation = 2
			h.fillAll()
		}, projections.ErrGeneration, []string{"generation 2, after one of generation 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			p := counting(t)
			v := h.install(p)
			h.fillAll()
			h.trade(100)
			h.publish()
			h.catchUp(p, v)
			before := h.counts()
			tt.fault(h)
			h.publish()
			err := h.tryCatchUp(p, v)
			var fault *projections.Fault
			if !errors.Is(err, tt.kind) || !errors.As(err, &fault) {
				t.Fatalf("got %v, want a fault that is %q", err, tt.kind)
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %q", err, want)
				}
			}
			after := h.counts()
			for k, c := range before {
				if now := after[k]; now.N < c.N {
					t.Errorf("row %s went back from %+v to %+v", k, c, now)
				}
			}
		})
	}
}

// fillAll tells something in each partition.
func (h *house) fillAll() {
	h.t.Helper()
	for i := range 60 {
		h.order(fmt.Sprint("fill", i), 1)
	}
}

func (h *house) produce(topic string, part int, rec event.Record) {
	h.t.Helper()
	if _, err := h.to.Produce(h.t.Context(), topic, part, []event.Record{rec}); err != nil {
		h.t.Fatal(err)
	}
}

// rewrite publishes what another source tells under the next seq of partition 0.
func (h *house) rewrite(other *projectiontest.Source) {
	h.t.Helper()
	l := projectiontest.NewLog()
	other.CreateTopics(l, orders)
	if err := other.Publish(h.t.Context(), l); err != nil {
		h.t.Fatal(err)
	}
	var seq int64
	for r, err := range h.log.Read(h.t.Context(), orders, 0, 0, h.end(0)) {
		if err != nil {
			h.t.Fatal(err)
		}
		if n, _ := r.Seq(); n > seq {
			seq = n
		}
	}
	for r, err := range l.Read(h.t.Context(), orders, 0, 0, 1) {
		if err != nil {
			h.t.Fatal(err)
		}
		e, err := event.FromRecord(orders, &r)
		if err != nil {
			h.t.Fatal(err)
		}
		e.Seq = seq + 1
		h.produce(orders, 0, e.Record())
	}
}

func (h *house) end(part int) int64 {
	h.t.Helper()
	_, next, err := h.log.Ends(h.t.Context(), orders, part)
	if err != nil {
		h.t.Fatal(err)
	}
	return next
}

// Two runners that both believe to own the partitions: the later one wins, the
// other one stops by itself, and every event counts once.
func TestZombie(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	h.trade(500)
	h.publish()
	type end struct {
		i   int
		err error
	}
	ends := make(chan end, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last *projections.Runner
	for i := range 6 {
		last = h.runner(p, v, func(o *projections.Options) { o.Limits.Events, o.Owner = 7, fmt.Sprint("owner ", i) })
		go func(r *projections.Runner) { ends <- end{i, r.Run(ctx, h.parts(orders))} }(last)
		h.trade(100)
		h.publish()
		h.eventually("the new owner works", func() bool {
			h.trade(1) // the one before may have done all there was
			h.publish()
			return last.Stats().Batches > 0
		})
		if i == 0 {
			continue
		}
		e := <-ends
		if e.i != i-1 || !errors.Is(e.err, control.ErrFenced) {
			t.Fatalf("runner %d ended with %v, want the one before, fenced", e.i, e.err)
		}
	}
	h.passed(last)
	cancel()
	<-ends
	h.check()
}

// Owners share the partitions, give them back and take them again, with the same
// Runner and its cache.
func TestAssignmentsMove(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	var runners []*projections.Runner
	for i := range 3 {
		runners = append(runners, h.runner(p, v, func(o *projections.Options) { o.Owner = fmt.Sprint("owner ", i) }))
	}
	for range 8 {
		shares := make([]map[string][]int, 1+h.rng.IntN(3))
		for i := range shares {
			shares[i] = map[string][]int{}
		}
		for part := range h.src.Partitions {
			s := shares[h.rng.IntN(len(shares))]
			s[orders] = append(s[orders], part)
		}
		order := h.rng.Perm(3)
		var stops []func() error
		for i, share := range shares {
			stops = append(stops, h.start(runners[order[i]], share))
		}
		h.trade(100)
		h.publish()
		h.eventually("the last mark is passed", func() bool {
			m, err := h.store.Passed(t.Context(), "counts")
			return err == nil && m.LSN >= h.src.LSN+0x30
		})
		for _, stop := range stops {
			if err := stop(); !errors.Is(err, errStopped) {
				t.Fatalf("Run ended with %v", err)
			}
		}
		h.check()
		for i, share := range shares {
			if diff := cmp.Diff(h.stands(v, share), runners[order[i]].Applied()); diff != "" {
				t.Errorf("what is told to the group of %v (-want +got):\n%s", share, diff)
			}
		}
	}
}

// stands gives the offsets at which partitions stand in the database; nil for none.
func (h *house) stands(v control.Version, share map[string][]int) map[string]map[int]int64 {
	h.t.Helper()
	parts, err := h.store.Parts(h.t.Context(), h.pool, v.Projection, v.Number)
	if err != nil {
		h.t.Fatal(err)
	}
	var at map[string]map[int]int64
	for _, p := range parts {
		if !slices.Contains(share[p.Topic], p.Part) {
			continue
		}
		if at == nil {
			at = map[string]map[int]int64{p.Topic: {}}
		}
		at[p.Topic][p.Part] = p.Next
	}
	return at
}

// Without watermarks rows are right all the same; only an aligned order waits.
func TestNoWatermarks(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	h.trade(50)
	h.publish()
	h.log.(*projectiontest.Log).DeleteTopic(h.src.WatermarkTopic())
	h.catchUp(p, v)
	h.check()
	aligned := counting(t, func(f *projections.Fold[tally]) { f.Aligned, f.Name = true, "aligned" })
	r := h.runner(aligned, h.install(aligned), untilCaughtUp)
	stop := h.start(r, h.parts(orders))
	h.eventually("it says what it waits for", func() bool {
		s := r.Stats().Stalled
		return strings.Contains(s, "waiting for the watermark of shop.orders/") && strings.Contains(s, "cannot be read")
	})
	if n := r.Stats().Events; n >= 50 {
		t.Errorf("all %d events were applied, the last in an order that nothing proves", n)
	}
	stop()
}

func TestRunRefusesWhatIsNotIts(t *testing.T) {
	h := newHouse(t)
	p := counting(t)
	v := h.install(p)
	r := h.runner(p, v)
	for name, parts := range map[string]map[string][]int{"topic": {"shop.stock": {0}}, "partitions 0 to 3": {orders: {4}}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := r.Run(ctx, parts)
		cancel()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error about %s", err, name)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStopped)
	if err := r.Run(ctx, nil); !errors.Is(err, errStopped) {
		t.Errorf("without partitions Run ended with %v", err)
	}
}
