//go:build slow

package bench_test

import (
	"testing"

	"banyan/internal/kafkatest"
)

// BenchmarkDrainKafka is BenchmarkDrain into Apache Kafka 4.
func BenchmarkDrainKafka(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) { benchmark(b, w, kafkatest.NewReal(b)) })
	}
}
