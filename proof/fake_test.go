package proof

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banyan/event"
	"banyan/wal"
)

// world is a source, its topics and its store, made up: one aggregate, Order,
// on shop.orders with two partitions, and one, Stock, on shop.stock.
type world struct {
	t       *testing.T
	log     map[string][][]event.Record
	seqs    map[string][]int64
	rows    map[event.Ref]string // key -> state as the rows hold it
	mark    *Mark
	parked  []event.ParkedAt
	running bool
	counts  map[string]event.Counts
	point   uint64 // of the next snapshot
	taken   int    // snapshots
	open    int    // snapshots not closed
	rules   map[int]func(state string) (string, error)
	columns map[int]int // version -> columns of its unit, where not 2
	onlyOld event.Ref   // a row that only rules with two columns read
	now     time.Time
	cfg     Config

	onMark, onRead func()
}

var topicOf = map[string]string{"Order": "shop.orders", "Stock": "shop.stock"}

func newWorld(t *testing.T) *world {
	w := &world{t: t, log: map[string][][]event.Record{}, seqs: map[string][]int64{}, rows: map[event.Ref]string{},
		point: 1000, rules: map[int]func(string) (string, error){1: asIs}, columns: map[int]int{}, now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	for _, topic := range topicOf {
		w.log[topic] = make([][]event.Record, 2)
		w.seqs[topic] = make([]int64, 2)
	}
	w.mark = &Mark{Watermark: event.Watermark{Source: "shop", Generation: 1, LSN: 5000, Seqs: w.seqs}}
	w.cfg = Config{Source: "shop", Generation: 1, Topics: w, Database: w, Current: 1, Rules: w.ruleSet, TopicOf: topicOf,
		Names: []string{"shop.orders", "shop.stock"},
		Watermark: func(context.Context) (*Mark, error) {
			if w.onMark != nil {
				w.onMark()
			}
			return w.mark, nil
		},
		Parked:          func(context.Context) ([]event.ParkedAt, error) { return w.parked, nil },
		SnapshotRunning: func(context.Context) (bool, error) { return w.running, nil },
		Counts:          func(context.Context) (map[string]event.Counts, error) { return w.counts, nil },
		Wait:            time.Millisecond, SpillDir: filepath.Join(t.TempDir(), "spill"), Now: func() time.Time { return w.now },
	}
	return w
}

func asIs(state string) (string, error) { return state, nil }

func partitionOf(key string) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % 2)
}

// say publishes an event with a state, "" for a removal.
func (w *world) say(ref, state string, at event.Position, change ...func(*event.Event)) event.Record {
	agg, key, _ := strings.Cut(ref, "/")
	topic, p := topicOf[agg], partitionOf(key)
	data := `{"occurredAt":null,"state":` + state + `,"changed":[]}`
	if state == "" {
		data = `{"state":null,"last":{"id":1}}`
	}
	e := event.Event{ID: event.ID{Source: "shop", Aggregate: agg, Key: key, Position: at}, Position: at, Type: agg + "Changed", Version: 1,
		Topic: topic, Time: w.now, Rules: 1, Data: []byte(data), Partition: p, Writer: 1}
	for _, c := range change {
		c(&e)
	}
	w.seqs[topic][p]++
	if e.Seq == 0 {
		e.Seq = w.seqs[topic][p]
	}
	r := e.Record()
	w.put(topic, e.Partition, r)
	return r
}

func (w *world) put(topic string, p int, r event.Record) {
	r.Partition, r.Offset = p, int64(len(w.log[topic][p]))
	w.log[topic][p] = append(w.log[topic][p], r)
}

// drop takes one record out of the topic, as if it had never been written.
func (w *world) drop(topic string, p, i int) {
	w.log[topic][p] = slices.Delete(w.log[topic][p], i, i+1)
	for j := range w.log[topic][p] {
		w.log[topic][p][j].Offset = int64(j)
	}
}

func (w *world) row(ref, state string) {
	agg, key, _ := strings.Cut(ref, "/")
	r := event.Ref{Aggregate: agg, Key: key}
	if state == "" {
		delete(w.rows, r)
		return
	}
	w.rows[r] = state
}

func at(lsn uint64) event.Position { return event.Position{Generation: 1, LSN: lsn} }

func ref(s string) event.Ref {
	agg, key, _ := strings.Cut(s, "/")
	return event.Ref{Aggregate: agg, Key: key}
}

// Partitions, Ends and Read make the world Topics.
func (w *world) Partitions(_ context.Context, topic string) (int, error) {
	return len(w.log[topic]), nil
}

func (w *world) Ends(_ context.Context, topic string, p int) (first, next int64, err error) {
	return 0, int64(len(w.log[topic][p])), nil
}

func (w *world) Read(_ context.Context, topic string, p int, from, until int64) iter.Seq2[event.Record, error] {
	return func(yield func(event.Record, error) bool) {
		for _, r := range w.log[topic][p][from:until] {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Snapshot makes it a Source: the rows as they are at that moment.
func (w *world) Snapshot(context.Context) (Snapshot, error) {
	w.taken++
	w.open++
	s := &fakeSnapshot{w: w, lsn: w.point, rows: map[event.Ref]string{}}
	for k, v := range w.rows {
		s.rows[k] = v
	}
	w.point += 1000
	return s, nil
}

type fakeSnapshot struct {
	w      *world
	lsn    uint64
	rows   map[event.Ref]string
	closed bool
}

func (s *fakeSnapshot) LSN() uint64 { return s.lsn }

func (s *fakeSnapshot) Close() error {
	if !s.closed {
		s.closed = true
		s.w.open--
	}
	return nil
}

// Ranges parts the keys by their length: 1, 2, and all longer ones.
func (s *fakeSnapshot) Ranges(context.Context, wal.Unit, int64) ([]wal.Range, error) {
	return []wal.Range{{From: []string{"1"}}, {From: []string{"2"}}, {From: []string{"3"}}}, nil
}

func (s *fakeSnapshot) Read(_ context.Context, u wal.Unit, rg wal.Range, fn func(*wal.Tree) error) error {
	if s.closed {
		return errors.New("a closed snapshot is read")
	}
	for r, state := range s.rows {
		if r == s.w.onlyOld && len(u.Root.Table.Columns) > 2 {
			continue
		}
		if r.Aggregate != u.Aggregate || fmt.Sprint(min(len(r.Key), 3)) != rg.From[0] {
			continue
		}
		row := make(wal.Row, len(u.Root.Table.Columns))
		row[0] = wal.Value{Kind: wal.Text, Bytes: []byte(r.Key)}
		row[1] = wal.Value{Kind: wal.Text, Bytes: []byte(state)}
		if err := fn(&wal.Tree{Row: row}); err != nil {
			return err
		}
	}
	if s.w.onRead != nil {
		s.w.onRead()
	}
	return nil
}

func (w *world) ruleSet(_ context.Context, version int) (Rules, error) {
	tell := w.rules[version]
	if tell == nil {
		return nil, fmt.Errorf("no rules of version %d", version)
	}
	return fakeRules{w, version, tell}, nil
}

type fakeRules struct {
	w       *world
	version int
	tell    func(string) (string, error)
}

func (r fakeRules) Units() []wal.Unit {
	var us []wal.Unit
	for _, agg := range []string{"Order", "Stock"} {
		t := &wal.Table{Schema: "public", Name: strings.ToLower(agg)}
		for i := range max(2, r.w.columns[r.version]) {
			t.Columns = append(t.Columns, wal.Column{Name: fmt.Sprint("c", i)})
		}
		us = append(us, wal.Unit{Aggregate: agg, Root: wal.UnitTable{Table: t, Key: []int{0}}})
	}
	return us
}

func (r fakeRules) Expected(_ string, t *wal.Tree) (string, []byte, error) {
	state, err := r.tell(string(t.Row[1].Bytes))
	return event.JoinKey(string(t.Row[0].Bytes)), []byte(state), err
}

func (w *world) verify() *Report {
	w.t.Helper()
	r, err := Verify(context.Background(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.open != 0 {
		w.t.Errorf("%d snapshots of the source are still open", w.open)
	}
	return r
}
