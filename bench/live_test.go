package bench_test

import (
	"flag"
	"fmt"
	"testing"

	"banyan/internal/kafkatest"
)

var (
	events = flag.Int("events", 1_000_000, "events of a topic that projections read")
	only   = flag.String("only", "", "of several workers, measure only those whose names contain this `text`")
)

// ordersFold is a row per order, of what its last event tells and of how often it
// changed.
const ordersFold = `projection: orders
tables:
  orders:
    from: %s
    columns:
      id: bigint key
      customer_id: bigint not null
      status: text not null
      total: numeric(14,3) not null
      country: text
      placed_at: timestamptz
      changes: bigint not null = (old.changes ?? 0) + 1
`

const contenderLive = "projector run"

// BenchmarkLive is projector run on a topic of orders, from the start of reading
// until the last row and offset are committed.
func BenchmarkLive(b *testing.B) { benchmarkLive(b, nil) }

func benchmarkLive(b *testing.B, kafka *kafkatest.Broker) {
	for _, keys := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			for b.Loop() {
				live(b, kafka, keys, *events, *rounds)
			}
		})
	}
}

func live(t testing.TB, kafka *kafkatest.Broker, keys, events, rounds int) {
	g := newGround(t, kafka)
	d := g.tell(history{source: fmt.Sprintf("live%d", keys), events: events, keys: keys, value: orderState})
	var all trials
	for n := range rounds {
		s := g.newService("orders", fmt.Sprintf(ordersFold, d.topic))
		var args []string
		if *profile != "" {
			args = append(args, "--cpuprofile", fmt.Sprintf("%s.live%d.%d.pprof", *profile, keys, n))
		}
		w := g.worker(contenderLive, s, d, args...)
		w.check = s.holds(d, "orders.orders", "changes")
		all.add(w.name, g.measure(w, d.total()))
	}
	all.print(fmt.Sprintf("Live, %d events of %d keys, %d bytes each, %s", events, d.distinct, d.bytes/int64(events), g.broker), contenderLive)
	if b, ok := t.(*testing.B); ok {
		all.report(b, contenderLive, contenderLive)
	}
}

// The benchmarks are run by hand: this keeps them working.
func TestLiveCountsEveryEvent(t *testing.T) { live(t, nil, 100, 5000, 1) }
