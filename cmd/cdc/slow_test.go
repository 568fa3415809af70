//go:build slow

package main_test

import (
	"math/rand/v2"
	"testing"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

// The same as on the embedded broker, on Apache Kafka 4.
func TestKillAtRandomMomentsOnKafka(t *testing.T) {
	rng := rand.New(rand.NewPCG(randtest.Seed(t), 3))
	h := &house{t: t, dir: t.TempDir(), source: pgtest.New(t, pgtest.Options{SQL: shopSQL}), store: pgtest.New(t), broker: kafkatest.NewReal(t)}
	h.url = h.source.URL
	h.must(0, "init", "--name", "shop", "--currency", "GBP")
	h.must(0, "setup", "--apply")
	killAtRandom(t, h, rng, 6)
}
