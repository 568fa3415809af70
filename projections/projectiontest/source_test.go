package projectiontest_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/randtest"
	"banyan/projections/projectiontest"
)

const orders = "shop.orders"

func order(key string) projectiontest.Event {
	return projectiontest.Event{Topic: orders, Type: "OrderPlaced", Aggregate: "Order", Key: key, Data: map[string]any{"state": map[string]any{"id": key}}}
}

func commit(t *testing.T, s *projectiontest.Source, events ...projectiontest.Event) []event.Event {
	t.Helper()
	told, err := s.Commit(events...)
	if err != nil {
		t.Fatal(err)
	}
	return told
}

// lying is what lies in a partition: the seqs, in the order of offsets.
func lying(t *testing.T, l *projectiontest.Log, topic string, part int) (seqs []int64) {
	t.Helper()
	first, next, err := l.Ends(context.Background(), topic, part)
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range l.Read(context.Background(), topic, part, first, next) {
		if err != nil {
			t.Fatal(err)
		}
		n, ok := r.Seq()
		if !ok {
			t.Fatalf("offset %d has no seq", r.Offset)
		}
		seqs = append(seqs, n)
	}
	return seqs
}

func TestSourceTellsWhatWentWrong(t *testing.T) {
	s, l := projectiontest.NewSource("shop"), projectiontest.NewLog()
	s.Partitions = 1
	s.CreateTopics(l, orders)
	for _, k := range []string{"1", "2", "3"} {
		commit(t, s, order(k))
	}
	s.Repeat(orders, 0, 2)
	s.Hole(orders, 0, 2)
	commit(t, s, order("4"))
	s.Late(orders, 0, 1)
	s.Forge(orders, 0, 2)
	if err := s.Publish(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int64{1, 2, 3, 2, 3, 6, 1, 2}, lying(t, l, orders, 0)); d != "" {
		t.Errorf("seqs (-want +got):\n%s", d)
	}
	var recs []event.Record
	for r, err := range l.Read(t.Context(), orders, 0, 0, 8) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r)
	}
	if !recs[1].Same(&recs[3]) || !recs[0].Same(&recs[6]) {
		t.Error("a repeat is another record")
	}
	if recs[1].Same(&recs[7]) {
		t.Error("a forged record is the same")
	}
	if _, err := event.FromRecord(orders, &recs[7]); err != nil {
		t.Errorf("a forged record is not one of ours: %v", err)
	}
}

// A watermark lies behind everything that it speaks of, however the partitions
// were mixed.
func TestShuffledMarksAreTrue(t *testing.T) {
	seed := randtest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := projectiontest.NewSource("shop")
	spy := &spy{t: t, have: map[string][]int64{orders: make([]int64, s.Partitions)}}
	for i := range 500 {
		commit(t, s, order(string(rune('a'+i%26))), order(string(rune('A'+i%25))))
		if rng.IntN(20) == 0 {
			s.Mark()
		}
	}
	s.Mark()
	if err := s.PublishShuffled(t.Context(), spy, rng); err != nil {
		t.Fatal(err)
	}
	if spy.marks < 2 || spy.switches < 30 {
		t.Fatalf("%d marks, %d changes of partition: nothing was shuffled", spy.marks, spy.switches)
	}
}

type spy struct {
	t               *testing.T
	have            map[string][]int64
	marks, switches int
	last            int
}

func (s *spy) Produce(_ context.Context, topic string, part int, recs []event.Record) (int64, error) {
	if topic == "shop.watermarks" {
		var w event.Watermark
		if err := json.Unmarshal(recs[0].Value, &w); err != nil {
			s.t.Error(err)
		}
		if d := cmp.Diff(s.have, w.Seqs); d != "" {
			s.t.Errorf("a mark of what is not there (-there +mark):\n%s", d)
		}
		s.marks++
		return 0, nil
	}
	if part != s.last {
		s.last = part
		s.switches++
	}
	for _, r := range recs {
		n, _ := r.Seq()
		if n != s.have[topic][part]+1 {
			s.t.Errorf("partition %d: seq %d behind %d", part, n, s.have[topic][part])
		}
		s.have[topic][part] = n
	}
	return 0, nil
}

func TestLogLikeABroker(t *testing.T) {
	ctx := t.Context()
	s, l := projectiontest.NewSource("shop"), projectiontest.NewLog()
	s.Partitions, s.Twins = 1, true
	s.CreateTopics(l, orders)
	for _, k := range []string{"1", "2", "1", "3", "2"} {
		commit(t, s, order(k))
	}
	commit(t, s, projectiontest.Event{Topic: orders, Type: "OrderRemoved", Aggregate: "Order", Key: "3", Data: `{"state":null}`})
	if err := s.Publish(ctx, l); err != nil {
		t.Fatal(err)
	}
	twin := orders + ".latest"
	l.Compact(twin)
	var offsets []int64
	for r, err := range l.Read(ctx, twin, 0, 0, 6) {
		if err != nil {
			t.Fatal(err)
		}
		offsets = append(offsets, r.Offset)
		if r.Offset == 5 && r.Value != nil {
			t.Error("the removal is no tombstone")
		}
	}
	if d := cmp.Diff([]int64{2, 4, 5}, offsets); d != "" {
		t.Errorf("offsets after compaction (-want +got):\n%s", d)
	}

	l.Trim(orders, 0, 2)
	if first, next, err := l.Ends(ctx, orders, 0); first != 2 || next != 6 || err != nil {
		t.Errorf("ends %d, %d, %v", first, next, err)
	}
	for _, err := range l.Read(ctx, orders, 0, 0, 6) {
		if err == nil {
			t.Error("read what was trimmed")
		}
		break
	}

	// A tail waits, goes on, and ends with what breaks.
	tail, end := context.WithCancel(ctx)
	defer end()
	got := make(chan int)
	ended, stalls := make(chan error, 1), make(chan error, 2)
	go func() {
		for recs, err := range l.Tail(tail, orders, 0, 2, func(err error) { stalls <- err }) {
			if err != nil {
				ended <- err
				return
			}
			got <- len(recs)
		}
	}()
	if n := <-got; n != 4 {
		t.Errorf("the tail brought %d records first, want 4", n)
	}
	if n := <-got; n != 0 {
		t.Errorf("then %d, want none", n)
	}
	commit(t, s, order("9"))
	if err := s.Publish(ctx, l); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n == 0 { // woken by another topic's record it may say once more that there is nothing
		<-got
	}
	broken := errors.New("unplugged")
	l.Break(broken)
	if err := waitFor(t, stalls, got); !errors.Is(err, broken) {
		t.Errorf("stalled by %v", err)
	}
	l.Break(nil)
	if err := waitFor(t, stalls, got); err != nil {
		t.Errorf("mended, and still stalled by %v", err)
	}
	end()
	if err := waitFor(t, ended, got); !errors.Is(err, context.Canceled) {
		t.Errorf("the tail ended with %v", err)
	}
}

// waitFor takes what comes first, while the tail goes on.
func waitFor(t *testing.T, from chan error, got chan int) error {
	t.Helper()
	for {
		select {
		case err := <-from:
			return err
		case <-got:
		case <-t.Context().Done():
			t.Fatal("it never came")
		}
	}
}

// A real broker takes what the source tells.
func TestSourceOnABroker(t *testing.T) {
	broker := kafkatest.New(t)
	c, err := bus.Dial(t.Context(), bus.Config{Brokers: broker.Addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := projectiontest.NewSource("shop")
	if _, err := c.EnsureTopics(t.Context(), []bus.TopicSpec{bus.BusinessTopic(orders, s.Partitions), bus.WatermarkTopic(s.WatermarkTopic())}); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for i := range 100 {
		for _, e := range commit(t, s, order(string(rune('a'+i%26)))) {
			want[e.ID.String()] = true
		}
	}
	s.Mark()
	if err := s.Publish(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for r, err := range c.Follow(t.Context(), orders, bus.FollowOptions{From: bus.First, UntilCaughtUp: true}) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := event.FromRecord(orders, &r)
		if err != nil {
			t.Fatal(err)
		}
		got[e.ID.String()] = true
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
