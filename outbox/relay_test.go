package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
)

const parts = 2

// waitLimit is how long a test waits for what must come.
const waitLimit = time.Minute

// shelfStore is a Backlog in memory: what the relay sees of a store.
type shelfStore struct {
	mu       sync.Mutex
	epoch    int64
	fenced   bool
	complete bool
	lsn      uint64
	events   map[TopicPartition][]event.Event
	shelves  map[TopicPartition]Shelf
	parked   []event.ParkedAt
	rev      int64
	changed  chan struct{}
	acked    chan struct{} // of capacity 1
}

func newShelfStore() *shelfStore {
	s := &shelfStore{epoch: 1, complete: true, lsn: 0x100, events: map[TopicPartition][]event.Event{}, shelves: map[TopicPartition]Shelf{},
		changed: make(chan struct{}), acked: make(chan struct{}, 1)}
	for p := range parts {
		s.shelves[TopicPartition{"t", p}] = Shelf{Topic: "t", Partition: p}
	}
	return s
}

// commit stores one event per key, in one transaction.
func (s *shelfStore) commit(keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lsn += 0x10
	for i, key := range keys {
		p := PartitionOf(key, parts)
		tp := TopicPartition{"t", p}
		sh := s.shelves[tp]
		sh.Assigned++
		pos := event.Position{Generation: 1, LSN: s.lsn - 8, Ordinal: int64(i)}
		e := event.Event{ID: event.ID{Source: "shop", Aggregate: "Order", Key: key, Position: pos}, Type: "OrderPlaced", Version: 1, Topic: "t",
			Time: time.Date(2026, 11, 20, 9, 0, 0, int(s.lsn)*1000, time.UTC), Position: pos, Rules: 1, Partition: p, Seq: sh.Assigned, Writer: s.epoch,
			Data: fmt.Appendf(nil, `{"state":{"key":%q,"seq":%d}}`, key, sh.Assigned)}
		if strings.HasSuffix(key, "-gone") {
			e.Type, e.Data = "OrderRemoved", []byte(`{"state":null,"last":{"a":null}}`)
		}
		s.events[tp] = append(s.events[tp], e)
		s.shelves[tp] = sh
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shelfStore) Epoch() int64 { s.mu.Lock(); defer s.mu.Unlock(); return s.epoch }

func (s *shelfStore) Shelves(context.Context) ([]Shelf, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list(), nil
}

func (s *shelfStore) list() []Shelf {
	var all []Shelf
	for p := range parts {
		all = append(all, s.shelves[TopicPartition{"t", p}])
	}
	return all
}

func (s *shelfStore) Stored(_ context.Context, topic string, p int, after int64, count, bytes int) ([]event.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.events[TopicPartition{topic, p}]
	if acked := s.shelves[TopicPartition{topic, p}].Acked; after < acked {
		return nil, fmt.Errorf("event %d was published and pruned", after+1)
	}
	var out []event.Event
	for _, e := range all[min(after, int64(len(all))):] {
		if len(out) == count || bytes < 0 {
			break
		}
		bytes -= len(e.Data)
		out = append(out, e)
	}
	return out, nil
}

func (s *shelfStore) Acknowledge(_ context.Context, acks []Ack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced {
		return ErrFenced
	}
	for _, a := range acks {
		sh := s.shelves[TopicPartition{a.Topic, a.Partition}]
		if a.Seq > sh.Acked {
			sh.Acked, sh.Offset = a.Seq, a.Offset
		}
		if a.TwinNext > 0 {
			sh.TwinSeq, sh.TwinNext = a.TwinSeq, a.TwinNext
		}
		s.shelves[TopicPartition{a.Topic, a.Partition}] = sh
	}
	signal(s.acked)
	return nil
}

func (s *shelfStore) Committed() <-chan struct{} { s.mu.Lock(); defer s.mu.Unlock(); return s.changed }

func (s *shelfStore) Frontier(context.Context) (Frontier, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Frontier{Generation: 1, LSN: s.lsn, Time: time.UnixMicro(int64(s.lsn)).UTC(), Complete: s.complete, Assigned: s.list(), Parked: s.rev}, nil
}

func (s *shelfStore) Parking(ctx context.Context) (Frontier, []event.ParkedAt, error) {
	f, err := s.Frontier(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	return f, s.parked, err
}

// world is a broker, a connection to it and a store.
type world struct {
	t      *testing.T
	broker *kafkatest.Broker
	bus    *bus.Cluster
	store  *shelfStore
	twins  bool
	last   *Relay
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, broker: kafkatest.New(t), store: newShelfStore(), twins: true}
	w.bus = w.dial()
	_, err := w.bus.EnsureTopics(t.Context(), []bus.TopicSpec{
		bus.BusinessTopic("t", parts), bus.LatestTopic("t.latest", parts), bus.WatermarkTopic("shop.watermarks"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) dial() *bus.Cluster {
	w.t.Helper()
	// A request that is given up may land all the same, and is then a repeat: that must
	// not happen because the machine has much to do.
	c, err := bus.Dial(w.t.Context(), bus.Config{Brokers: w.broker.Addrs, RequestTimeout: waitLimit})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// relay makes one that is impatient.
func (w *world) relay(p Publisher) *Relay {
	r := &Relay{Backlog: w.store, Publisher: p, Source: "shop", Watermarks: "shop.watermarks", AckEvery: time.Millisecond,
		MarkEvery: 10 * time.Millisecond, MarkGap: time.Millisecond, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond}
	if w.twins {
		r.Twin = LatestTwin
	}
	return r
}

// running starts a relay; stop ends it and gives why it ended, ended waits
// until it does so by itself.
func (w *world) running(r *Relay) (stop, ended func() error) {
	w.last = r
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		if err = r.Run(ctx); ctx.Err() == nil {
			w.t.Logf("the relay has ended: %v", err)
		}
	}()
	stop = func() error { cancel(); <-done; return err }
	w.t.Cleanup(func() { stop() })
	return stop, func() error {
		w.t.Helper()
		select {
		case <-done:
		case <-time.After(waitLimit):
			w.t.Fatal("the relay goes on")
		}
		return err
	}
}

// settled waits until everything that is stored is acknowledged, twins too.
func (w *world) settled() {
	w.t.Helper()
	deadline := time.After(waitLimit)
	for {
		w.store.mu.Lock()
		open := ""
		for _, s := range w.store.list() {
			if s.Acked < s.Assigned || w.twins && s.TwinSeq < s.Assigned {
				open = fmt.Sprintf("%+v", s)
			}
		}
		w.store.mu.Unlock()
		if open == "" {
			return
		}
		select {
		case <-w.store.acked:
		case <-deadline:
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 2)
			w.t.Log(stacks.String())
			w.t.Fatalf("not published after %s: %s; %+v", waitLimit, open, w.last.Progress())
		}
	}
}

// read gives all records of a partition.
func (w *world) read(topic string, p int) []event.Record {
	w.t.Helper()
	_, next, err := w.bus.Ends(w.t.Context(), topic, p)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []event.Record
	for r, err := range w.bus.Read(w.t.Context(), topic, p, bus.First, next) {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// check holds the topics against the store: after dropping repeats by seq
// every event is there, once, in order and to the byte; the twin has the last
// event of every key. It returns how many repeats there were.
func (w *world) check() (repeats int) {
	w.t.Helper()
	for p := range parts {
		tp := TopicPartition{"t", p}
		high := int64(0)
		latest := map[string]int64{}
		for _, rec := range w.read("t", p) {
			seq, _ := rec.Seq()
			if seq < 1 || seq > int64(len(w.store.events[tp])) {
				w.t.Fatalf("partition %d: banyan_seq %d at offset %d", p, seq, rec.Offset)
			}
			e := w.store.events[tp][seq-1]
			if want := e.Record(); !want.Same(&rec) {
				w.t.Fatalf("partition %d, offset %d: other bytes: %s", p, rec.Offset, cmp.Diff(want, rec))
			}
			switch {
			case seq <= high:
				repeats++
			case seq == high+1:
				high = seq
			default:
				w.t.Fatalf("partition %d: banyan_seq %d after %d", p, seq, high)
			}
		}
		if want := int64(len(w.store.events[tp])); high != want {
			w.t.Fatalf("partition %d: %d of %d events are published", p, high, want)
		}
		for _, e := range w.store.events[tp] {
			latest[e.ID.Key] = e.Seq
		}
		if !w.twins {
			continue
		}
		got := map[string]int64{}
		for _, rec := range w.read("t.latest", p) {
			seq, _ := rec.Seq()
			got[string(rec.Key)] = seq
			if gone := strings.HasSuffix(string(rec.Key), "-gone"); gone != (rec.Value == nil) {
				w.t.Fatalf("twin of %s: value %s", rec.Key, rec.Value)
			}
		}
		if d := cmp.Diff(latest, got); d != "" {
			w.t.Fatalf("twin of partition %d (-want +got): %s", p, d)
		}
	}
	return repeats
}

func (w *world) marks() []event.Watermark {
	w.t.Helper()
	var all []event.Watermark
	for _, rec := range w.read("shop.watermarks", 0) {
		var m event.Watermark
		if err := json.Unmarshal(rec.Value, &m); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func keys(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("k%d", i%13)
		if i%13 == 12 {
			all[i] += "-gone"
		}
	}
	return all
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}

func TestRelayPublishes(t *testing.T) {
	w := newWorld(t)
	r := w.relay(w.bus)
	w.store.commit(keys(100)...)
	stop, _ := w.running(r)
	w.settled()
	for range 20 {
		w.store.commit(keys(30)...)
	}
	w.settled()
	if p := r.Progress(); p.Events != 0 || p.Twins != 0 || p.Published != 700 || p.Error != "" || !p.Settled || p.Seconds != 0 {
		t.Errorf("progress: %+v", p)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := w.check(); n != 0 {
		t.Errorf("%d repeats although nothing went wrong", n)
	}
}

// Requests fail in every way there is, some of them after their records were
// appended, while events come in: nothing is missing, nothing is out of order.
func TestRelayAmbiguousAnswers(t *testing.T) {
	w := newWorld(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	k := w.broker.Control()
	var mu sync.Mutex
	left := 60
	for _, e := range []*kerr.Error{kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotLeaderForPartition, kerr.UnknownServerError} {
		k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: e, Count: -1, When: func(kmsg.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if left == 0 || rnd.IntN(4) > 0 {
				return false
			}
			left--
			return true
		}})
	}
	w.running(w.relay(w.bus))
	for range 200 {
		w.store.commit(keys(5)...)
	}
	for done := false; !done; {
		w.store.commit(keys(5)...)
		w.settled()
		mu.Lock()
		done = left == 0
		mu.Unlock()
	}
	if n := w.check(); n != 0 {
		t.Errorf("%d repeats, although every tail showed what had been appended", n)
	}
}

func TestRelayBrokerRestart(t *testing.T) {
	w := newWorld(t)
	r := w.relay(w.bus)
	stop, _ := w.running(r)
	w.store.commit(keys(50)...)
	w.settled()
	for range 3 {
		w.broker.Stop(t)
		w.store.commit(keys(50)...) // the commit side goes on
		w.broker.Start(t)
		w.settled()
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.check()
}

// A relay that dies has published more than it has stored.
func TestRelayStartReadsTheTail(t *testing.T) {
	w := newWorld(t)
	stop, _ := w.running(w.relay(w.bus))
	w.store.commit(keys(40)...)
	w.settled()
	stop()
	w.store.mu.Lock()
	before := w.store.list()
	w.store.mu.Unlock()
	stop, _ = w.running(w.relay(w.bus))
	w.store.commit(keys(40)...)
	w.settled()
	stop()
	// Its acknowledgements of the second half are lost.
	w.store.mu.Lock()
	for _, s := range before {
		s.Assigned = w.store.shelves[TopicPartition{s.Topic, s.Partition}].Assigned
		w.store.shelves[TopicPartition{s.Topic, s.Partition}] = s
	}
	w.store.mu.Unlock()
	// A late repeat of the first of them lies last: the highest counts.
	tp := TopicPartition{"t", 0}
	rec := w.store.events[tp][w.store.shelves[tp].Acked].Record()
	if _, err := w.bus.Produce(t.Context(), "t", 0, []event.Record{rec}); err != nil {
		t.Fatal(err)
	}
	w.running(w.relay(w.bus))
	w.store.commit(keys(3)...)
	w.settled()
	if n := w.check(); n != 1 {
		t.Errorf("%d repeats, want the one that was there: the tail tells the rest", n)
	}
}

// late is a bus on which the requests of one owner hang in the net and land
// long after their sender has gone.
type late struct {
	Publisher
	mu   sync.Mutex
	held []func() error
	all  chan struct{} // closed once n are held
	n    int
}

func (l *late) Produce(ctx context.Context, topic string, p int, records []event.Record) (int64, error) {
	if topic == "shop.watermarks" {
		return 0, errors.New("no watermarks from here")
	}
	copied := append([]event.Record(nil), records...)
	l.mu.Lock()
	l.held = append(l.held, func() error { _, err := l.Publisher.Produce(context.Background(), topic, p, copied); return err })
	if len(l.held) == l.n {
		close(l.all)
	}
	l.mu.Unlock()
	<-ctx.Done()
	return 0, ctx.Err()
}

// A stopped owner has requests under way; its successor publishes; the old
// requests land, in topic and twin. The stopped owner wakes up and goes on
// until it learns that it is fenced.
func TestRelayLateRequestsOfAStoppedOwner(t *testing.T) {
	w := newWorld(t)
	stop, _ := w.running(w.relay(w.bus))
	w.store.commit(keys(30)...)
	w.settled()
	stop()

	// The old owner publishes into the topic, but its twin requests hang.
	old := &late{Publisher: w.dial(), all: make(chan struct{}), n: parts}
	w.store.commit(keys(26)...)
	oldStop, _ := w.running(w.relay(old))
	<-old.all
	oldStop()

	w.store.mu.Lock()
	w.store.epoch = 2
	w.store.mu.Unlock()
	w.running(w.relay(w.bus))
	w.settled()
	w.store.commit(keys(26)...)
	w.settled()
	for _, land := range old.held {
		if err := land(); err != nil {
			t.Fatal(err)
		}
	}
	w.store.commit("k1", "k2", "k3", "k5", "k7", "k9", "k11") // not every key: the twin must be put right
	w.settled()
	if n := w.check(); n != 26 {
		t.Errorf("%d repeats, want 26", n)
	}
}

func TestRelayTwinPutsLateRecordsRight(t *testing.T) {
	w := newWorld(t)
	stop, _ := w.running(w.relay(w.bus))
	w.store.commit(keys(39)...)
	w.store.commit("once")
	w.settled()
	p := PartitionOf("once", parts)
	first := w.read("t", p)
	// The owner's request of long ago lands, first while a relay runs, then
	// while none does. It holds an old event of every key.
	var old []event.Record
	for _, rec := range first[:13] {
		if !strings.HasSuffix(string(rec.Key), "-gone") {
			old = append(old, rec)
		}
	}
	land := func() {
		if _, err := w.bus.Produce(t.Context(), "t.latest", p, old); err != nil {
			t.Fatal(err)
		}
	}
	land()
	w.store.commit("once")
	w.settled()
	w.check()
	stop()
	land()
	stop, _ = w.running(w.relay(w.bus))
	w.store.commit("once")
	w.settled()
	w.check()
	stop()

	// A twin that was made anew is filled again.
	if err := w.bus.DeleteTopics(t.Context(), "t.latest"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.bus.EnsureTopics(t.Context(), []bus.TopicSpec{bus.LatestTopic("t.latest", parts)}); err != nil {
		t.Fatal(err)
	}
	w.running(w.relay(w.bus))
	w.store.commit("a", "b", "c", "d")
	w.settled()
	w.twinFilled()
}

// twinFilled waits until the twins hold every key.
func (w *world) twinFilled() {
	w.t.Helper()
	want := map[string]bool{}
	for _, es := range w.store.events {
		for _, e := range es {
			want[e.ID.Key] = true
		}
	}
	deadline := time.Now().Add(waitLimit)
	for {
		got := map[string]bool{}
		for p := range parts {
			for _, rec := range w.read("t.latest", p) {
				got[string(rec.Key)] = true
			}
		}
		if cmp.Equal(want, got) {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatal(cmp.Diff(want, got))
		}
	}
	w.settled()
	w.check()
}

func TestRelayRefuses(t *testing.T) {
	foreign := func(change func(*event.Event)) func(*world) {
		return func(w *world) {
			e := w.store.events[TopicPartition{"t", 0}][0]
			change(&e)
			rec := e.Record()
			if _, err := w.bus.Produce(w.t.Context(), "t", 0, []event.Record{rec}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	anew := func(w *world) {
		if err := w.bus.DeleteTopics(w.t.Context(), "t"); err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.bus.EnsureTopics(w.t.Context(), []bus.TopicSpec{bus.BusinessTopic("t", parts)}); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		do        func(*world)
		why, wayo string
	}{
		"plain record": {func(w *world) {
			if _, err := w.bus.Produce(w.t.Context(), "t", 0, []event.Record{{Key: []byte("x"), Value: []byte("y")}}); err != nil {
				w.t.Fatal(err)
			}
		}, "somebody else writes here", oneWriter},
		"other source":  {foreign(func(e *event.Event) { e.ID.Source = "store" }), "is of source store", oneWriter},
		"higher writer": {foreign(func(e *event.Event) { e.Writer = 9 }), "is of writer 9, and this is writer 1", oneWriter},
		"older store":   {foreign(func(e *event.Event) { e.Seq = 1000 }), "it is older than the topic", repair},
		"other bytes": {func(w *world) {
			w.store.commit(keys(26)...)
			all := w.store.events[TopicPartition{"t", 0}]
			e := all[w.store.shelves[TopicPartition{"t", 0}].Acked]
			foreign(func(o *event.Event) { *o = e; o.Data = []byte(`{"state":{"other":1}}`) })(w)
		}, "but other bytes than our event of that number", oneWriter},
		"empty log": {anew, "the log is empty, although events up to banyan_seq", "new snapshot"},
		"short log": {func(w *world) {
			anew(w)
			for p := range parts {
				rec := w.store.events[TopicPartition{"t", p}][0].Record()
				if _, err := w.bus.Produce(w.t.Context(), "t", p, []event.Record{rec}); err != nil {
					w.t.Fatal(err)
				}
			}
		}, "before the last acknowledged event", repair},
		"missing one": {func(w *world) {
			w.store.commit(keys(26)...)
			tp := TopicPartition{"t", 0}
			e := w.store.events[tp][w.store.shelves[tp].Acked+1]
			foreign(func(o *event.Event) { *o = e })(w)
		}, "one is missing", repair},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.twins = false
			stop, _ := w.running(w.relay(w.bus))
			w.store.commit(keys(26)...)
			w.settled()
			stop()
			c.do(w)
			_, ended := w.running(w.relay(w.bus))
			err := ended()
			var refused *Refused
			if !errors.As(err, &refused) || !strings.Contains(refused.Why, c.why) || !strings.Contains(refused.Out, c.wayo) {
				t.Fatalf("got %v, want one that says %q", err, c.why)
			}
		})
	}
}

// A relay that was stopped for a while finds records of its successor, which are not
// somebody else's: it has been taken over.
func TestRelayMeetsItsSuccessor(t *testing.T) {
	w := newWorld(t)
	w.twins = false
	stop, _ := w.running(w.relay(w.bus))
	w.store.commit(keys(26)...)
	w.settled()
	stop()
	e := w.store.events[TopicPartition{"t", 0}][0]
	e.Writer = 2
	if _, err := w.bus.Produce(t.Context(), "t", 0, []event.Record{e.Record()}); err != nil {
		t.Fatal(err)
	}
	w.store.mu.Lock()
	w.store.fenced = true
	w.store.mu.Unlock()
	_, ended := w.running(w.relay(w.bus))
	var refused *Refused
	if err := ended(); !errors.Is(err, ErrFenced) || errors.As(err, &refused) {
		t.Fatal(err)
	}
}

// The same while it runs: an offset in a reply that is not the next one gives
// the other writer away.
func TestRelayMeetsAnotherWriter(t *testing.T) {
	w := newWorld(t)
	w.twins = false
	_, ended := w.running(w.relay(w.bus))
	w.store.commit(keys(26)...)
	w.settled()
	for p := range parts {
		if _, err := w.bus.Produce(t.Context(), "t", p, []event.Record{{Key: []byte("x"), Value: []byte("y")}}); err != nil {
			t.Fatal(err)
		}
	}
	w.store.commit(keys(26)...)
	var refused *Refused
	if err := ended(); !errors.As(err, &refused) || !strings.Contains(err.Error(), "somebody else writes") {
		t.Fatal(err)
	}
}

func TestRelayFenced(t *testing.T) {
	w := newWorld(t)
	_, ended := w.running(w.relay(w.bus))
	w.store.commit(keys(5)...)
	w.settled()
	w.store.mu.Lock()
	w.store.fenced = true
	w.store.mu.Unlock()
	w.store.commit(keys(5)...)
	if err := ended(); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
}

func TestRelayRecordTooLarge(t *testing.T) {
	w := newWorld(t)
	r := w.relay(w.bus)
	r.BatchBytes = 300
	_, ended := w.running(r)
	w.store.commit("a") // no record fits
	var refused *Refused
	if err := ended(); !errors.As(err, &refused) || !strings.Contains(err.Error(), "takes") {
		t.Fatal(err)
	}
}

// counting is a bus that checks that one request at most is under way per
// partition.
type counting struct {
	Publisher
	mu   sync.Mutex
	busy map[string]int
	bad  string
}

func (c *counting) Produce(ctx context.Context, topic string, p int, records []event.Record) (int64, error) {
	at := fmt.Sprint(topic, p)
	c.mu.Lock()
	if c.busy[at]++; c.busy[at] > 1 {
		c.bad = at
	}
	c.mu.Unlock()
	defer func() { c.mu.Lock(); c.busy[at]--; c.mu.Unlock() }()
	return c.Publisher.Produce(ctx, topic, p, records)
}

func TestRelayOneRequestPerPartition(t *testing.T) {
	w := newWorld(t)
	c := &counting{Publisher: w.bus, busy: map[string]int{}}
	r := w.relay(c)
	r.BatchEvents = 3
	w.running(r)
	for range 100 {
		w.store.commit(keys(20)...)
	}
	w.settled()
	w.check()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad != "" {
		t.Errorf("two requests at once to %s", c.bad)
	}
}

func TestFold(t *testing.T) {
	for data, want := range map[string]bool{
		`{"state":null,"last":{}}`: true, `{"state": null}`: true, `{"state":{"a":null}}`: false, `{"occurredAt":null,"state":{}}`: false,
		`{"last":{"state":null}}`: false, `{}`: false,
	} {
		if removes([]byte(data)) != want {
			t.Errorf("removes(%s) = %v", data, !want)
		}
	}
}

var _ Publisher = (*bus.Cluster)(nil)

var _ iter.Seq2[event.Record, error] = (*bus.Cluster)(nil).Read(context.TODO(), "", 0, 0, 0)
