package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/event"
)

// witness is a bus that holds every watermark against what was acknowledged
// before it was sent.
type witness struct {
	Publisher
	t    *testing.T
	mu   sync.Mutex
	seqs map[TopicPartition]int64
	last event.Watermark
	sent int
	wait chan event.Watermark // gets every mark that somebody waits for
}

func newWitness(w *world) *witness {
	return &witness{Publisher: w.bus, t: w.t, seqs: map[TopicPartition]int64{}, wait: make(chan event.Watermark)}
}

func (w *witness) Produce(ctx context.Context, topic string, p int, records []event.Record) (int64, error) {
	if topic == "shop.watermarks" {
		var m event.Watermark
		if err := json.Unmarshal(records[0].Value, &m); err != nil {
			w.t.Error(err)
		}
		w.mu.Lock()
		for p, seq := range m.Seqs["t"] {
			if done := w.seqs[TopicPartition{"t", p}]; done < seq {
				w.t.Errorf("a watermark names banyan_seq %d on partition %d, where %d is the last acknowledged", seq, p, done)
			}
		}
		if m.LSN < w.last.LSN || m.Time.Before(w.last.Time) || m.Generation < w.last.Generation {
			w.t.Errorf("watermark %+v after %+v", m, w.last)
		}
		w.last = m
		w.sent++
		w.mu.Unlock()
		select {
		case w.wait <- m:
		default:
		}
	}
	base, err := w.Publisher.Produce(ctx, topic, p, records)
	if err == nil && topic == "t" {
		seq, _ := records[len(records)-1].Seq()
		w.mu.Lock()
		w.seqs[TopicPartition{topic, p}] = max(w.seqs[TopicPartition{topic, p}], seq)
		w.mu.Unlock()
	}
	return base, err
}

// until waits for a mark.
func (w *witness) until(what string, ok func(event.Watermark) bool) event.Watermark {
	w.t.Helper()
	deadline := time.After(waitLimit)
	for {
		select {
		case m := <-w.wait:
			if ok(m) {
				return m
			}
		case <-deadline:
			w.t.Fatalf("no watermark in %s: %s; the last is %+v", waitLimit, what, w.last)
		}
	}
}

func TestWatermarks(t *testing.T) {
	w := newWorld(t)
	see := newWitness(w)
	w.store.complete = false
	w.running(w.relay(see))
	w.store.commit(keys(30)...)
	w.settled()
	if n := len(w.marks()); n != 0 {
		t.Fatalf("%d watermarks before the first snapshot is whole", n)
	}
	w.store.mu.Lock()
	w.store.complete = true
	w.store.mu.Unlock()
	for range 100 {
		w.store.commit(keys(7)...)
	}
	w.store.mu.Lock()
	lsn, shelves := w.store.lsn, w.store.list()
	w.store.mu.Unlock()
	m := see.until("the end", func(m event.Watermark) bool { return m.LSN == lsn })
	want := event.Watermark{Source: "shop", Generation: 1, LSN: lsn, Time: time.UnixMicro(int64(lsn)).UTC(), Writer: 1,
		Seqs: map[string][]int64{"t": {shelves[0].Assigned, shelves[1].Assigned}}}
	if d := cmp.Diff(want, m); d != "" {
		t.Fatal(d)
	}
	// Without news it is said again.
	see.until("a repeat", func(again event.Watermark) bool { return cmp.Equal(want, again) })
	// The position moves without an event.
	w.store.mu.Lock()
	w.store.lsn += 0x100
	lsn = w.store.lsn
	w.store.mu.Unlock()
	see.until("a position without events", func(m event.Watermark) bool { return m.LSN == lsn })
}

// One partition cannot be published: the watermark stays below its events,
// whatever the others do.
func TestWatermarkWaitsForEveryPartition(t *testing.T) {
	w := newWorld(t)
	w.twins = false
	see := newWitness(w)
	w.running(w.relay(see))
	w.store.commit(keys(26)...)
	w.settled()
	w.store.mu.Lock()
	lsn := w.store.lsn
	w.store.mu.Unlock()
	see.until("all", func(m event.Watermark) bool { return m.LSN == lsn })

	stuck := w.broker.Control().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "t", Partitions: []int32{1}, Err: kerr.NotEnoughReplicas, Count: -1})
	for range 10 {
		w.store.commit(keys(26)...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := stuck.Wait(ctx, 3); err != nil {
		t.Fatal(err)
	}
	for range 5 { // repeats of the old one
		if m := <-see.wait; m.LSN != lsn {
			t.Fatalf("the watermark is %X, but partition 1 has what was committed until %X", m.LSN, lsn)
		}
	}
	stuck.Remove()
	w.store.mu.Lock()
	lsn = w.store.lsn
	w.store.mu.Unlock()
	see.until("all", func(m event.Watermark) bool { return m.LSN == lsn })
	w.check()
}

func TestWatermarkNamesParkedKeys(t *testing.T) {
	w := newWorld(t)
	w.twins = false
	see := newWitness(w)
	w.running(w.relay(see))
	park := func(keys ...event.ParkedAt) {
		w.store.mu.Lock()
		w.store.parked = keys
		w.store.rev++
		w.store.mu.Unlock()
		w.store.commit("a")
	}
	nine := event.ParkedAt{Ref: event.Ref{Aggregate: "Order", Key: "9"}, LSN: 0x90}
	park(nine)
	m := see.until("a parked key", func(m event.Watermark) bool { return m.IsParked(nine.Ref) })
	if d := cmp.Diff([]event.ParkedAt{nine}, m.Parked); d != "" {
		t.Fatal(d)
	}
	park()
	see.until("none parked", func(m event.Watermark) bool { return !m.IsParked(nine.Ref) })
	var many []event.ParkedAt
	for i := range 5000 {
		many = append(many, event.ParkedAt{Ref: event.Ref{Aggregate: "Order", Key: fmt.Sprint(i)}})
	}
	park(many...)
	m = see.until("many parked keys", func(m event.Watermark) bool { return m.IsParked(nine.Ref) })
	if m.Filter == nil || m.Parked != nil {
		t.Fatal("5,000 keys are not in a filter")
	}
}
