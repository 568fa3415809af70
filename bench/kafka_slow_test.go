//go:build slow

package bench_test

import (
	"fmt"
	"testing"

	"banyan/internal/kafkatest"
)

// BenchmarkDrainKafka is BenchmarkDrain into Apache Kafka 4.
func BenchmarkDrainKafka(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) { benchmark(b, w, kafkatest.NewReal(b)) })
	}
}

// BenchmarkLiveKafka is BenchmarkLive on Apache Kafka 4.
func BenchmarkLiveKafka(b *testing.B) { benchmarkLive(b, kafkatest.NewReal(b)) }

// BenchmarkRebuildKafka is BenchmarkRebuild on Apache Kafka 4.
func BenchmarkRebuildKafka(b *testing.B) { benchmarkRebuild(b, kafkatest.NewReal(b)) }

// BenchmarkReadAPIKafka is BenchmarkReadAPI on Apache Kafka 4.
func BenchmarkReadAPIKafka(b *testing.B) { benchmarkReadAPI(b, kafkatest.NewReal(b)) }

// BenchmarkTokenKafka is BenchmarkToken on Apache Kafka 4.
func BenchmarkTokenKafka(b *testing.B) { benchmarkToken(b, kafkatest.NewReal(b)) }

// BenchmarkRebuildMemory rebuilds ten times -events over as many keys as -events
// says, which do not fit into memory, and tells how much of it the process took.
// The embedded broker would keep such a topic in memory itself.
func BenchmarkRebuildMemory(b *testing.B) {
	for b.Loop() {
		g := newGround(b, kafkatest.NewReal(b))
		d := g.tell(history{source: "many", events: 10 * *events, keys: *events, value: orderState})
		s := g.newService("orders", fmt.Sprintf(ordersFold, d.topic))
		g.install(s)
		m := trial{events: float64(d.total())}
		m.rss, m.cpu, m.wall = g.command(g.projector(s, "rebuild", s.name))
		var t trials
		t.add("projector rebuild", m)
		t.print(fmt.Sprintf("Rebuild, %d events of %d keys, %d bytes each, %s", 10**events, d.distinct, d.bytes/d.total(), g.broker), "projector rebuild")
		t.report(b, "projector rebuild", "projector rebuild")
		if err := s.holds(d, "orders_v2.orders", "changes")(); err != nil {
			b.Fatal(err)
		}
	}
}
