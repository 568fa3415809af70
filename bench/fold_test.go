package bench_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/declared"
	"banyan/projections/state"
)

// BenchmarkFold is what one event costs without broker and database: its headers
// are read, its data decoded, its row folded in memory. The allocations are what
// a noisy machine cannot disturb.
func BenchmarkFold(b *testing.B) {
	for name, yaml := range map[string]string{"orders": ordersFold, "count": "projection: counting\ntables:\n  counts:\n    from: %s\n    columns: {id: bigint key, n: \"bigint not null = (old.n ?? 0) + 1\"}\n",
		"group": "projection: counting\ngroups:\n  counts: {from: %s, of: events, types: [\"*\"], by: {id: text = key}, measures: {n: count}}\n"} {
		b.Run(name, func(b *testing.B) { foldBench(b, yaml) })
	}
}

func foldBench(b *testing.B, yaml string) {
	d := &told{history: history{source: "fold", keys: 1000, value: orderState}, topic: "fold.events", ends: make([]int64, partitions), next: 0x1000000,
		seen: make([]bool, 1000), random: rand.New(rand.NewPCG(4, 4))}
	records := make([]event.Record, 10_000)
	for i := range records {
		records[i] = d.record()
	}
	file, faults := declared.Load("fold.yaml", fmt.Appendf(nil, yaml, d.topic))
	if err := faults.Err(); err != nil {
		b.Fatal(err)
	}
	program, faults := declared.Compile(file, nil)
	if err := faults.Err(); err != nil {
		b.Fatal(err)
	}
	prep, err := projections.NewPreparer(program)
	if err != nil {
		b.Fatal(err)
	}
	space, err := state.NewBulk(program.Spec().AllTables(), state.BulkOptions{MemoryBytes: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer space.Close()
	applier, err := projections.NewApplier(program, space, nil, event.Position{})
	if err != nil {
		b.Fatal(err)
	}
	ahead := make([]projections.Event, 500) // as many as lie between reading and applying
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e := &ahead[i%len(ahead)]
		if i >= len(ahead) {
			if err := applier.Advance(e); err != nil {
				b.Fatal(err)
			}
			if err := applier.Apply(e); err != nil {
				b.Fatal(err)
			}
		}
		*e = projections.Event{}
		if err := prep.Prepare(e, d.topic, &records[i%len(records)]); err != nil {
			b.Fatal(err)
		}
	}
}
