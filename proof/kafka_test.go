package proof

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
)

func TestWatermarks(t *testing.T) {
	ctx := t.Context()
	cluster, err := bus.Dial(ctx, bus.Config{Brokers: kafkatest.New(t).Addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	latest := Watermarks(Kafka(cluster), "shop")
	see := func(want string) {
		t.Helper()
		m, err := latest(ctx)
		got := "none"
		if m != nil {
			got = event.Position{Generation: m.Generation, LSN: m.LSN}.String()
		}
		if err != nil || got != want {
			t.Errorf("watermark %s, %v; want %s", got, err, want)
		}
	}
	see("none")
	if _, err := cluster.EnsureTopics(ctx, []bus.TopicSpec{bus.WatermarkTopic("shop.watermarks")}); err != nil {
		t.Fatal(err)
	}
	see("none")
	send := func(generation int, lsn uint64, writer int64) {
		t.Helper()
		b, err := json.Marshal(event.Watermark{Source: "shop", Generation: generation, LSN: lsn, Writer: writer})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.Produce(ctx, "shop.watermarks", 0, []event.Record{{Value: b}}); err != nil {
			t.Fatal(err)
		}
	}
	for lsn := range uint64(40) {
		send(1, lsn, 1)
	}
	see("1:0/27.0")
	send(1, 50, 2)
	send(1, 60, 1) // late, of the stopped owner
	see("1:0/32.0")
	send(2, 5, 3)
	see("2:0/5.0")
	if _, err := cluster.Produce(ctx, "shop.watermarks", 0, []event.Record{{Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if m, err := latest(ctx); err == nil {
		t.Errorf("a damaged watermark gave %+v", m)
	}
}

func TestPace(t *testing.T) {
	start := time.Now()
	p := pace{rate: 1000}
	for range 10 {
		if err := p.take(context.Background(), 10, time.Now); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("100 rows at 1000 a second took %s", took)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.done += 1_000_000
	if err := p.take(ctx, 1, time.Now); err == nil {
		t.Error("an end that was asked for is waited out")
	}
}
