package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/randtest"
)

// tailing runs a Tail in a goroutine of the test and hands over its slices.
type tailing struct {
	slices  chan []event.Record
	stalled chan error
	err     chan error // one, when it ends
	stop    context.CancelFunc
}

func tail(t testing.TB, c *Cluster, topic string, partition int, from int64) *tailing {
	ctx, cancel := context.WithCancel(t.Context())
	g := &tailing{slices: make(chan []event.Record, 1000), stalled: make(chan error, 1000), err: make(chan error, 1), stop: cancel}
	go func() {
		for records, err := range c.Tail(ctx, topic, partition, from, func(err error) { g.stalled <- err }) {
			if err != nil {
				g.err <- err
				return
			}
			g.slices <- records
		}
		g.err <- nil
	}()
	t.Cleanup(func() {
		cancel()
		if len(g.err) == 0 {
			g.err <- <-g.err
		}
	})
	return g
}

// take gives the next n records.
func (g *tailing) take(t testing.TB, n int) []event.Record {
	t.Helper()
	var got []event.Record
	deadline := time.After(30 * time.Second)
	for len(got) < n {
		select {
		case records := <-g.slices:
			got = append(got, records...)
		case err := <-g.err:
			g.err <- err
			t.Fatalf("the tail ended after %d of %d records: %v", len(got), n, err)
		case <-deadline:
			t.Fatalf("%d of %d records came", len(got), n)
		}
	}
	return got
}

// ended gives the error the tail ended with.
func (g *tailing) ended(t testing.TB) error {
	t.Helper()
	select {
	case err := <-g.err:
		g.err <- err
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the tail goes on")
		return nil
	}
}

// heard waits for a stall, or for its end where want is nil.
func (g *tailing) heard(t testing.TB, want func(error) bool) {
	t.Helper()
	for deadline := time.After(30 * time.Second); ; {
		select {
		case err := <-g.stalled:
			if want(err) {
				return
			}
		case <-deadline:
			t.Fatal("the reason of the stall was not told")
		}
	}
}

// What is produced comes at once, although five other partitions wait with
// their fetches, and Produce does not wait for those either.
func TestTailIsPrompt(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 6))
	checkPrompt(t, c, 20)
}

func checkPrompt(t *testing.T, on *Cluster, rounds int) {
	t.Helper()
	c, err := Dial(t.Context(), Config{Brokers: on.brokers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	// Who waited for the fetch of another partition would wait longer than this test.
	c.wait = 10 * time.Minute
	var tails []*tailing
	for p := range 6 {
		if _, err := c.Produce(t.Context(), "t", p, []event.Record{{Key: []byte("first")}}); err != nil {
			t.Fatal(err)
		}
	}
	for p := range 6 {
		tails = append(tails, tail(t, c, "t", p, First))
	}
	for _, g := range tails {
		g.take(t, 1)
	}
	var produce, arrive []time.Duration
	for i := range rounds {
		for p, g := range tails {
			begin := time.Now()
			if _, err := c.Produce(t.Context(), "t", p, []event.Record{{Key: []byte{byte(i)}}}); err != nil {
				t.Fatal(err)
			}
			produce = append(produce, time.Since(begin))
			if got := g.take(t, 1); got[0].Offset != int64(i+1) || got[0].Partition != p {
				t.Fatalf("round %d, partition %d: %+v", i, p, got)
			}
			arrive = append(arrive, time.Since(begin))
		}
	}
	slices.Sort(produce)
	slices.Sort(arrive)
	n := len(arrive)
	t.Logf("produce: median %s, 95 %% %s; until the tail has it: median %s, 95 %% %s, longest %s", produce[n/2], produce[n*95/100], arrive[n/2], arrive[n*95/100], arrive[n-1])
}

// What was kept stays as it was, over restarts of the broker, and nothing is
// lost or doubled.
func TestTailOutlivesRestarts(t *testing.T) {
	b, c := startBroker(t, Config{})
	tailOutlives(t, b, c)
}

func tailOutlives(t *testing.T, b *kafkatest.Broker, c *Cluster) {
	ensure(t, c, BusinessTopic("restarts", 1))
	g := tail(t, c, "restarts", 0, First)
	want := sample(300)
	var got []event.Record
	for i := 0; i < 300; i += 100 {
		for {
			// The first request after a restart may meet a dead connection.
			base, err := c.Produce(t.Context(), "restarts", 0, want[i:i+100])
			if err == nil && base == int64(i) {
				break
			}
			if err == nil || kindOf(err) == Permanent {
				t.Fatal(base, err)
			}
		}
		got = append(got, g.take(t, 100)...)
		b.Stop(t)
		g.heard(t, func(err error) bool { return errors.Is(err, ErrUnreachable) })
		b.Start(t)
		g.heard(t, func(err error) bool { return err == nil })
	}
	if d := diff(want, got); d != "" {
		t.Fatal(d)
	}
	for i, r := range got {
		if r.Offset != int64(i) {
			t.Fatalf("record %d has offset %d", i, r.Offset)
		}
	}
}

func TestTailEnds(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	for range 2 {
		if _, err := c.Produce(t.Context(), "t", 0, sample(4)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.DeleteRecords("t", 0, 4); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{3, 9} {
		var out *OutOfRange
		var e *Error
		err := tail(t, c, "t", 0, from).ended(t)
		if !errors.As(err, &e) || !errors.As(err, &out) || *out != (OutOfRange{Offset: from, First: 4, Next: 8}) {
			t.Errorf("from %d: %v", from, err)
		}
	}
	// At the end is in the log: an empty slice says so.
	g := tail(t, c, "t", 0, 8)
	if records := <-g.slices; len(records) != 0 {
		t.Error(records)
	}
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1}) // what no waiting cures
	var e *Error
	if err := g.ended(t); !errors.As(err, &e) || e.Kind != Permanent || !strings.Contains(err.Error(), "topic t, partition 0") {
		t.Error(err)
	}
	own := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(own)
	for _, err := range c.Tail(ctx, "t", 0, 8, nil) {
		if !errors.Is(err, own) || errors.As(err, &e) {
			t.Error(err)
		}
	}
}

// An empty slice means the end. A fetch whose records were all compacted away
// is no end, and one that brings nothing although there is something is a
// stall that is told, however long it lasts.
func TestTailTellsTheEndFromNothing(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	c.pause = time.Millisecond
	old := sample(3)
	asked := 0
	k.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		asked++
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark = 6
		switch at := req.(*kmsg.FetchRequest).Topics[0].Partitions[0].FetchOffset; {
		case at == 0:
			p.RecordBatches = hollow(appendBatch(nil, old, time.UnixMilli(1)), slices.Clone(old), 0)
		case at == 3 && asked > 2+2*stallLimit:
			p.RecordBatches = appendBatch(nil, sample(3), time.UnixMilli(1))
			p.RecordBatches[7] = 3 // the offset of the first
		}
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.Partitions = "t", append(topic.Partitions, p)
		res := req.ResponseKind().(*kmsg.FetchResponse)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	g := tail(t, c, "t", 0, 0)
	first := <-g.slices
	if len(first) != 3 || first[0].Offset != 3 {
		t.Fatalf("the first slice is %+v", first)
	}
	told := 0
	g.heard(t, func(err error) bool {
		if err != nil {
			told++
			if !strings.Contains(err.Error(), "offset 3 is not in the log") {
				t.Error(err)
			}
		}
		return err == nil
	})
	if told < 2*stallLimit {
		t.Errorf("the stall was told %d times", told)
	}
	if records := <-g.slices; len(records) != 0 {
		t.Errorf("at the end came %+v", records)
	}
}

func TestTailCompacted(t *testing.T) {
	k, c := start(t)
	ensure(t, c, LatestTopic("t.latest", 1))
	seed := randtest.Seed(t)
	want := fillCompacted(t, c, "t.latest", rand.New(rand.NewPCG(seed, 1)), 200)
	k.Compact()
	checkTailCompacted(t, c, "t.latest", want)
}

// checkTailCompacted tails a topic to its end: an empty slice.
func checkTailCompacted(t *testing.T, c *Cluster, topic string, want map[string]string) {
	t.Helper()
	got, n, last := make(map[string]string), 0, int64(-1)
	for records, err := range c.Tail(t.Context(), topic, 0, First, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			if r.Offset <= last {
				t.Fatalf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
			got[string(r.Key)] = string(r.Value)
			n++
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%d records give %v, want %v", n, got, want)
	}
}
