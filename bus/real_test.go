//go:build slow

package bus

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/randtest"
)

// Apache Kafka compacts a topic for real: its cleaner leaves batches without
// records and batches without their last records behind.
func TestRealCompaction(t *testing.T) {
	b := kafkatest.NewReal(t)
	c, err := Dial(t.Context(), Config{Brokers: b.Addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	spec := TopicSpec{Name: "t.latest", Partitions: 1, Config: map[string]string{
		"cleanup.policy": "compact", "compression.type": "uncompressed", "min.cleanable.dirty.ratio": "0.001",
		"segment.bytes": "1048576", "segment.ms": "1000", "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "1000",
	}}
	ensure(t, c, spec, BusinessTopic("t", 6), LatestTopic("x.latest", 6), WatermarkTopic("shop.watermarks"))
	ensure(t, c, BusinessTopic("t", 6), LatestTopic("x.latest", 6), WatermarkTopic("shop.watermarks"))
	seed := randtest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	want := fillCompacted(t, c, "t.latest", rnd, 300)

	// Records go on coming, so that segments roll; what is read stays right
	// all the while, and in the end most of it is gone.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	_, written, err := c.Ends(ctx, "t.latest", 0)
	if err != nil {
		t.Fatal(err)
	}
	for left := written; left > written/10; {
		if ctx.Err() != nil {
			t.Fatalf("the cleaner has left %d of %d records after 3 minutes", left, written)
		}
		r := event.Record{Key: []byte("tick"), Value: []byte(time.Now().String())}
		want["tick"] = string(r.Value)
		if _, err := c.Produce(ctx, "t.latest", 0, []event.Record{r}); err != nil {
			t.Fatal(err)
		}
		checkCompacted(t, c, "t.latest", want)
		checkTailCompacted(t, c, "t.latest", want)
		left = int64(len(collect(t, c, "t.latest", 0, First, written)))
		select { // the cleaner gives no signal
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	// From every offset the reading ends, and begins at the first record there is.
	for from := range written {
		for r, err := range c.Read(ctx, "t.latest", 0, from, from+1) {
			if err != nil || r.Offset != from {
				t.Fatal(r.Offset, err)
			}
		}
	}
}

// Tails and groups on Apache Kafka: the same as on kfake, and what only it
// does, as making its topic of offsets when the first group comes.
func TestRealTailAndGroup(t *testing.T) {
	b := kafkatest.NewReal(t)
	c, err := Dial(t.Context(), Config{Brokers: b.Addrs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	// The first group of a new broker must come before any other.
	t.Run("join and leave", func(t *testing.T) { checkJoinAndLeave(t, c) })
	t.Run("prompt", func(t *testing.T) {
		ensure(t, c, BusinessTopic("t", 6))
		checkPrompt(t, c, 20)
	})
	t.Run("instance", func(t *testing.T) { checkInstanceComesBack(t, c) })
	t.Run("group over a restart", func(t *testing.T) { checkGroupRestart(t, b, c) })
	t.Run("tail over restarts", func(t *testing.T) { tailOutlives(t, b, c) })
}
