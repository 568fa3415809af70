//go:build slow

package main_test

import (
	"slices"
	"testing"
	"time"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

// The same as on the embedded broker, on Apache Kafka 4, which is killed as well. What
// it says of who reads a topic is Kafka's own.
func TestKillAtRandomMomentsOnKafka(t *testing.T) {
	h := &house{t: t, dir: t.TempDir(), db: pgtest.New(t), broker: kafkatest.NewReal(t)}
	h.url = h.db.URL
	h.shop = newShop(t, h.broker)
	rng := randtest.New(t)
	args := []string{"--candidate", "builtin:demand", "--instance", "only"}
	h.shop.underLoad(func() {
		for i := range 5 {
			r := h.start(args...)
			r.Await("running")
			<-randtest.Within(rng, 3*time.Second)
			if i == 2 {
				h.broker.Kill(t)
				h.broker.Start(t)
			}
			r.Kill()
		}
	})
	h.asClean("demand", "--candidate", "builtin:demand")
	r := h.start(args...)
	r.Await("running")
	h.eventually("the run is among the readers", func() bool {
		readers, err := h.shop.cluster.Readers(t.Context(), ordersTopic)
		return err == nil && slices.Contains(readers, "banyan-shadow_demand-v1")
	})
	r.StopWithin(quick)
}
