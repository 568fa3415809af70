package outbox_test

import (
	"fmt"
	"testing"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
)

// BenchmarkCommit measures one commit of a number of order events of 250 bytes,
// each with its aggregate's new state and its part of a trace. The test server
// does not fsync: what is measured is the work, not the disk.
func BenchmarkCommit(b *testing.B) {
	for _, count := range []int{1, 100, 1000, 10000} {
		for _, states := range []bool{false, true} {
			b.Run(fmt.Sprintf("events=%d/states=%v", count, states), func(b *testing.B) {
				benchmarkCommit(b, count, states)
			})
		}
	}
}

func benchmarkCommit(b *testing.B, count int, states bool) {
	ctx := b.Context()
	s, err := outbox.Open(ctx, pgtest.New(b).URL, outbox.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	o, err := s.Acquire(ctx, shop, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close(ctx)
	var step event.Step
	keys := make([]string, count)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		step.Events, step.States = step.Events[:0], step.States[:0]
		for i := range count {
			if keys[i] = fmt.Sprint(i); count < 100 {
				keys[i] = fmt.Sprint(n)
			}
			e := order(keys[i], n, i)
			e.Data = data250
			step.Events = append(step.Events, e)
			if states {
				step.States = append(step.States, event.State{Ref: event.Ref{Aggregate: "Order", Key: keys[i]}, Body: data250, Rules: 1, Event: e.ID.String()})
			}
		}
		step.Traces = []event.Trace{{Generation: 1, CommitLSN: at(n).Commit, Time: at(n).Time, Body: data250}}
		if err := o.Commit(ctx, at(n), func(tx *outbox.Tx) error { return tx.Put(ctx, &step) }); err != nil {
			b.Fatal(err)
		}
		if n%50 == 0 {
			b.StopTimer()
			acknowledgeAll(b, o)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(n*count)/b.Elapsed().Seconds(), "events/s")
}

var data250 = fmt.Appendf(nil, `{"state":%q}`, fmt.Sprintf("%0238d", 0))

// BenchmarkStored measures the relay's read of 1,000 events of 250 bytes.
func BenchmarkStored(b *testing.B) {
	ctx := b.Context()
	s, err := outbox.Open(ctx, pgtest.New(b).URL, outbox.Options{Partitions: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	o, err := s.Acquire(ctx, shop, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close(ctx)
	const count = 20000
	step := orders(1, count)
	for i := range step.Events {
		step.Events[i].Data = data250
	}
	if err := o.Commit(ctx, at(1), func(tx *outbox.Tx) error { return tx.Put(ctx, &step) }); err != nil {
		b.Fatal(err)
	}
	read := 0
	for b.Loop() {
		got, err := o.Stored(ctx, "shop.orders", 0, int64(read%count), 1000, 10<<20)
		if err != nil || len(got) != 1000 {
			b.Fatal(len(got), err)
		}
		read += len(got)
	}
	b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "events/s")
}
