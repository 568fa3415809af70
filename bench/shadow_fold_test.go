package bench_test

import (
	"context"
	"testing"

	"banyan/shadow"
)

// BenchmarkShadowFold is what a line costs without broker and database: events are read,
// put in order and folded into a ledger in memory, the price that was paid standing for
// the candidate's. The allocations are what a noisy machine cannot disturb.
func BenchmarkShadowFold(b *testing.B) {
	for _, shape := range shopShapes {
		b.Run(shape.name, func(b *testing.B) {
			log, h := shopLog(b, 1000, shape)
			o := shadow.DefaultOptions()
			o.Name = "fold"
			b.ReportAllocs()
			cpu, n := ownCPU(b), 0
			for b.Loop() {
				noise, err := shadow.Noise(context.Background(), log, o, shadow.Candidates{})
				if err != nil {
					b.Fatal(err)
				}
				if noise.Lines == 0 || noise.Lines > h.told.lines || noise.Differ != 0 {
					b.Fatalf("of %d lines %d were compared, and %d differ", h.told.lines, noise.Lines, noise.Differ)
				}
				n++
			}
			perLine := (ownCPU(b) - cpu) / float64(n) / float64(h.told.lines)
			b.ReportMetric(1/perLine, "lines/s_core")
			b.ReportMetric(perLine*1e6, "cpu-s/1Mlines")
		})
	}
}

// The benchmarks are run by hand: this keeps them working.
func TestShadowReadsTheMadeUpShop(t *testing.T) {
	for _, shape := range shopShapes {
		log, h := shopLog(t, 100, shape)
		o := shadow.DefaultOptions()
		o.Name = "fold"
		noise, err := shadow.Noise(context.Background(), log, o, shadow.Candidates{})
		if err != nil {
			t.Fatal(err)
		}
		if noise.Lines != h.told.lines || noise.Differ != 0 {
			t.Errorf("%s: of %d lines %d were compared, and %d differ", shape.name, h.told.lines, noise.Lines, noise.Differ)
		}
	}
}
