package bench_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"banyan/internal/kafkatest"
)

var (
	rows    = flag.Int("rows", 100_000, "rows of a backlog")
	rounds  = flag.Int("rounds", 3, "rounds of a race")
	profile = flag.String("profile", "", "write CPU profiles of cdc to `prefix`.N.pprof")
	runArgs = flag.String("cdc-args", "", "more arguments for cdc run, for trying")
)

// workloads are the backlogs: W1 is what a busy shop makes, W2 what a batch job
// makes.
var workloads = []workload{
	{name: "W1", what: "1 row per transaction", rowsPerTx: 1},
	{name: "W2", what: "1,000 rows per transaction", rowsPerTx: 1000},
}

// BenchmarkDrain drains into the broker that cdc brings along, in a process of
// its own.
func BenchmarkDrain(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) { benchmark(b, w, nil) })
	}
}

// benchmark runs one race and reports its medians. One iteration is the whole
// race, so time per operation means nothing and is left out.
func benchmark(b *testing.B, w workload, kafka *kafkatest.Broker) {
	for b.Loop() {
		res := race(b, raceConfig{workload: w, rows: *rows, rounds: *rounds, kafka: kafka, profile: *profile})
		fmt.Fprintf(os.Stdout, "\n%s", res)
		cdc, recv, peek := res.of(contenderCDC), res.of(contenderRecvlogical), res.of(contenderPeek)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(res.rows)/cdc.wall, "rows/s")
		b.ReportMetric(cdc.wall, "s")
		b.ReportMetric(cdc.cpu*1e6/float64(res.rows), "cdc-CPU-s/Mrow")
		b.ReportMetric(cdc.rss, "cdc-RSS-MB")
		b.ReportMetric(cdc.wall/peek.wall, "xSQL-decoding")
		if recv.wall > 0 {
			b.ReportMetric(recv.wall, "recvlogical-s")
			b.ReportMetric(res.ratio(contenderCDC, contenderRecvlogical), "xrecvlogical")
		}
	}
}

// The race is a program of its own that is run by hand: this keeps it working,
// and wants every row in Kafka.
func TestRaceCountsEveryRow(t *testing.T) {
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			res := race(t, raceConfig{workload: w, rows: 3000, rounds: 1})
			for _, name := range []string{contenderCDC, contenderPeek} {
				if m := res.of(name); m.wall <= 0 || m.wall > 60 {
					t.Errorf("%s took %v s", name, m.wall)
				}
			}
			if m := res.of(contenderCDC); m.cpu <= 0 || m.rss <= 0 {
				t.Errorf("cdc used %v CPU-s and %v MB", m.cpu, m.rss)
			}
		})
	}
}
