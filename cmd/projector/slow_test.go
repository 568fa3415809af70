//go:build slow

package main_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"banyan/bus"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

// The same as on the embedded broker, on Apache Kafka 4.
func TestKillAtRandomMomentsOnKafka(t *testing.T) {
	h := furnish(t, pgtest.New(t), kafkatest.NewReal(t), shippingYAML, ledgerYAML)
	killAtRandom(t, h, randtest.New(t), 6)
}

func TestHandOverOnKafka(t *testing.T) {
	rng := randtest.New(t)
	h := furnish(t, pgtest.New(t), kafkatest.NewReal(t), shippingYAML, ledgerYAML)
	h.underLoad(func() {
		first := h.start()
		first.Await("running: shipping")
		h.owned("shipping", first)
		second, third := h.start(), h.start()
		h.owned("shipping", first, second, third)
		h.exactWhileOpen("shipping", "ledger")
		first.Signal(syscall.SIGSTOP)
		h.owned("shipping", second, third)
		<-randtest.Within(rng, time.Second)
		first.Signal(syscall.SIGCONT)
		second.Kill()
		third.Stop()
		fourth := h.start()
		fourth.Await("running: shipping")
		h.exactWhileOpen("shipping", "ledger")
		lost(t, first)
		h.owned("shipping", fourth)
		h.owned("ledger", fourth)
		h.broker.Kill(t)
		h.broker.Start(t)
		h.exactWhileOpen("shipping", "ledger")
	})
	h.exact("shipping", "ledger")
}

// A topic that Kafka's cleaner has really compacted: most offsets are gone.
func TestCompactedTopicOnKafka(t *testing.T) {
	h := furnish(t, pgtest.New(t), kafkatest.NewReal(t), directoryYAML)
	h.shop.twins(map[string]string{
		"min.cleanable.dirty.ratio": "0.001", "segment.bytes": "1048576", "segment.ms": "1000", "min.compaction.lag.ms": "0",
		"max.compaction.lag.ms": "1000", "delete.retention.ms": "100",
	})
	h.shop.register(20)
	for range 10 {
		h.shop.trade(300)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	written := make([]int64, h.shop.src.Partitions)
	for part := range written {
		written[part] = h.end(customersTopic+".latest", part)
	}
	for {
		var left, all int64
		for part, until := range written {
			all += until
			for _, err := range h.shop.cluster.Read(ctx, customersTopic+".latest", part, bus.First, until) {
				if err != nil {
					t.Fatal(err)
				}
				left++
			}
		}
		if left < all*2/3 {
			t.Logf("the cleaner has left %d of %d records", left, all)
			break
		}
		h.shop.trade(20) // segments roll when something comes
		select {         // the cleaner gives no signal
		case <-ctx.Done():
			t.Fatalf("the cleaner has left %d of %d records after 3 minutes", left, all)
		case <-time.After(500 * time.Millisecond):
		}
	}
	r := h.start("--instance", "only")
	r.Await("running")
	h.exact("directory")
	h.underLoad(func() {
		r.Kill()
		r = h.start("--instance", "only")
		r.Await("running")
		h.must(0, "rebuild", "directory", "--wait")
		h.exchange("swap", "directory")
	})
	h.exact("directory")
	r.Stop()
}
