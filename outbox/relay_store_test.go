package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/outbox"
)

const watermarks = "shop.watermarks"

func busFor(t testing.TB, b *kafkatest.Broker) *bus.Cluster {
	t.Helper()
	c, err := bus.Dial(testContext(t), bus.Config{Brokers: b.Addrs, RequestTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.EnsureTopics(testContext(t), []bus.TopicSpec{
		bus.BusinessTopic("shop.orders", bus.Partitions), bus.LatestTopic("shop.orders.latest", bus.Partitions), bus.WatermarkTopic(watermarks),
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// relayFor starts a relay of the owner; stop ends it and returns why it ended.
func relayFor(t testing.TB, o *outbox.Owner, c *bus.Cluster) (r *outbox.Relay, stop func() error) {
	r = &outbox.Relay{Backlog: o, Publisher: c, Source: "shop", Watermarks: watermarks, Twin: outbox.LatestTwin,
		AckEvery: 20 * time.Millisecond, MarkEvery: 100 * time.Millisecond, RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond}
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan struct{})
	var err error
	go func() { defer close(done); err = r.Run(ctx) }()
	stop = func() error { cancel(); <-done; return err }
	t.Cleanup(func() { _ = stop() })
	return r, stop
}

func recordsOf(t testing.TB, c *bus.Cluster, topic string) []event.Record {
	t.Helper()
	var all []event.Record
	for rec, err := range c.Follow(testContext(t), topic, bus.FollowOptions{From: bus.First, UntilCaughtUp: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	return all
}

// published reads the topic, drops repeats by seq alone, and gives the event
// ids; it fails on a gap, on other bytes under one seq and on an id that comes
// twice.
func published(t testing.TB, c *bus.Cluster, topic string) (ids map[string]bool, repeats int) {
	t.Helper()
	ids = make(map[string]bool)
	seen := make([][]event.Record, bus.Partitions)
	for _, rec := range recordsOf(t, c, topic) {
		e, err := event.FromRecord(topic, &rec)
		if err != nil {
			t.Fatal(err)
		}
		part := &seen[rec.Partition]
		switch n := int64(len(*part)); {
		case e.Seq <= n:
			repeats++
			if !rec.Same(&(*part)[e.Seq-1]) {
				t.Fatalf("partition %d: other bytes under banyan_seq %d", rec.Partition, e.Seq)
			}
			continue
		case e.Seq > n+1:
			t.Fatalf("partition %d: banyan_seq %d after %d", rec.Partition, e.Seq, n)
		}
		*part = append(*part, rec)
		if ids[e.ID.String()] {
			t.Fatalf("%s comes twice", e.ID.String())
		}
		ids[e.ID.String()] = true
	}
	return ids, repeats
}

func lastMark(t testing.TB, c *bus.Cluster) (m event.Watermark) {
	t.Helper()
	for _, rec := range recordsOf(t, c, watermarks) {
		var next event.Watermark
		if err := json.Unmarshal(rec.Value, &next); err != nil {
			t.Fatal(err)
		}
		if next.Writer >= m.Writer && (m.After(&next) || next.Time.Before(m.Time)) {
			t.Fatalf("watermark %+v after %+v", next, m)
		}
		if next.Writer >= m.Writer {
			m = next
		}
	}
	return m
}

// From the store's commit to the topic, over restarts of the broker, of the
// relay, and two changes of the owner in the middle of it all.
func TestFromStoreToTopic(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	_, s, o := start(t, outbox.Options{Twins: true, SlabBytes: 64 << 10})
	b := kafkatest.New(t)
	c := busFor(t, b)
	ctx := testContext(t)
	_, stop := relayFor(t, o, c)
	want := make(map[string]bool)
	n := 0
	for round := range 9 {
		for range 20 {
			n++
			step := orders(n, 1+rnd.IntN(40))
			for _, e := range step.Events {
				want[e.ID.String()] = true
			}
			if err := o.Commit(ctx, at(n), put(ctx, step)); err != nil {
				t.Fatal(err)
			}
		}
		switch round % 3 {
		case 0:
			b.Restart(t)
		case 1:
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			_, stop = relayFor(t, o, c)
		case 2: // the successor begins while the old relay still runs
			if err := o.Close(ctx); err != nil {
				t.Fatal(err)
			}
			old := stop
			o = acquire(t, s, shop)
			_, stop = relayFor(t, o, c)
			if err := old(); !errors.Is(err, outbox.ErrFenced) && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "everything is published", func() bool {
		shelves, err := o.Shelves(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, sh := range shelves {
			if sh.Acked < sh.Assigned || sh.TwinSeq < sh.Assigned {
				return false
			}
		}
		return true
	})
	got, repeats := published(t, c, "shop.orders")
	t.Logf("%d events, %d repeats", len(got), repeats)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("(-stored +published): %s", d)
	}
	latest := make(map[string]bool)
	for _, rec := range recordsOf(t, c, "shop.orders.latest") {
		id, _ := rec.Header(event.HeaderID)
		latest[string(id)] = true
	}
	if d := cmp.Diff(want, latest); d != "" { // every order has one event
		t.Fatalf("twin (-want +got): %s", d)
	}
}

// The store's watermark: none before the first snapshot is whole, parked keys
// by name, and all of it of one moment.
func TestWatermarkOfTheStore(t *testing.T) {
	_, _, o := start(t, outbox.Options{})
	c := busFor(t, kafkatest.New(t))
	ctx := testContext(t)
	r, _ := relayFor(t, o, c)
	commit(t, o, 1, 20)
	eventually(t, "published", func() bool { return r.Progress().Published == 20 })
	if m := lastMark(t, c); m.Generation != 0 {
		t.Fatalf("watermark %+v before the first snapshot", m)
	}
	if err := o.Commit(ctx, at(2), func(tx *outbox.Tx) error {
		n, err := tx.StartSnapshot(ctx, outbox.SnapshotFirst, at(1).End)
		if err != nil {
			return err
		}
		return tx.FinishSnapshot(ctx, n)
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a watermark", func() bool { return lastMark(t, c).LSN == o.Position().End })

	nine := event.Ref{Aggregate: "Order", Key: "9"}
	park := event.Step{Parked: []event.Parked{{Ref: nine, Position: event.Position{Generation: 1, LSN: at(3).Commit}, EndLSN: at(3).End,
		Reason: "why", Detail: "way out", Body: []byte("x")}}}
	if err := o.Commit(ctx, at(3), put(ctx, park)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the parked key", func() bool { m := lastMark(t, c); return m.LSN == at(3).End && m.IsParked(nine) })
	m := lastMark(t, c)
	want := event.Watermark{Source: "shop", Generation: 1, LSN: at(3).End, Time: at(3).Time, Writer: o.Epoch(),
		Seqs: m.Seqs, Parked: []event.ParkedAt{{Ref: nine, LSN: at(3).Commit}}}
	if d := cmp.Diff(want, m); d != "" {
		t.Fatal(d)
	}
	sum := int64(0)
	for _, seq := range m.Seqs["shop.orders"] {
		sum += seq
	}
	if sum != 20 {
		t.Errorf("the watermark counts %d events, want 20: %v", sum, m.Seqs)
	}
}

func BenchmarkRelay(b *testing.B) {
	_, _, o := start(b, outbox.Options{MaxBytes: 8 << 30})
	c := busFor(b, kafkatest.New(b))
	const batch = 2000
	n := 0
	for b.Loop() {
		b.StopTimer()
		for range 50 {
			n++
			commit(b, o, n, batch)
		}
		b.StartTimer()
		r := &outbox.Relay{Backlog: o, Publisher: c, Source: "shop", Watermarks: watermarks}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		eventually(b, "published", func() bool { return r.Progress().Published == 50*batch })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*50*batch)/b.Elapsed().Seconds(), "events/s")
}
