package projectiontest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"banyan/event"
	"banyan/outbox"
	"banyan/projections"
)

// Event is a business event as a test writes it down. What is left out is made
// up.
type Event struct {
	Topic string // "shop.orders"
	Type  string // "OrderPlaced"
	// Aggregate and Key name whose event it is: "Order", "1234". Key is as
	// event.JoinKey writes it.
	Aggregate, Key string
	// Data is the value: a string, []byte or json.RawMessage is JSON already,
	// anything else becomes JSON. nil is {"state": {}}.
	Data any
	// Version of the type's data; 1 where zero.
	Version int
}

// Producer takes records: a Log, or bus.Cluster.
type Producer interface {
	Produce(ctx context.Context, topic string, partition int, records []event.Record) (int64, error)
}

// Source makes up what cdc tells of a source: events with positions and dense
// sequence numbers, and watermarks. What it tells waits until Publish. It
// belongs to one goroutine.
type Source struct {
	// Name of the source; its watermarks go to the topic "<Name>.watermarks".
	Name string
	// Partitions of every topic.
	Partitions int
	// Generation of the source, LSN of its last commit, Writer the epoch of
	// the store's owner.
	Generation int
	LSN        uint64
	Writer     int64
	// Now is the commit time of the next transaction; each one moves it on by
	// Tick.
	Now  time.Time
	Tick time.Duration
	// Twins writes each event to "<topic>.latest" too.
	Twins bool

	seqs   map[string][]int64
	told   map[string][][]event.Record // all that was published or waits, by topic and partition
	parked []event.ParkedAt
	out    []sent
}

// sent is a record that waits. A watermark waits for all events before it.
type sent struct {
	topic string
	part  int
	rec   event.Record
	mark  bool
}

// NewSource makes a source whose first transaction is at 2026-01-01 12:00 UTC,
// with six partitions to a topic.
func NewSource(name string) *Source {
	return &Source{
		Name: name, Partitions: 6, Generation: 1, LSN: 0x1000000, Writer: 1,
		Now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), Tick: time.Second,
		seqs: make(map[string][]int64), told: make(map[string][][]event.Record),
	}
}

// WatermarkTopic is the topic of the source's watermarks.
func (s *Source) WatermarkTopic() string { return s.Name + ".watermarks" }

// Commit tells one transaction of the source: its events, in order. It gives
// them back as they are on the wire. It fails where Data is no JSON.
func (s *Source) Commit(events ...Event) ([]event.Event, error) {
	s.LSN += 0x40
	return s.tell(events, 0)
}

// Snapshot tells events of a snapshot, one transaction of the store.
func (s *Source) Snapshot(number int, events ...Event) ([]event.Event, error) {
	return s.tell(events, number)
}

func (s *Source) tell(events []Event, snapshot int) ([]event.Event, error) {
	told := make([]event.Event, 0, len(events))
	for i, e := range events {
		pos := event.Position{Generation: s.Generation, LSN: s.LSN, Ordinal: int64(i)}
		if snapshot > 0 {
			pos.Ordinal, pos.Snapshot = 0, snapshot
		}
		full, err := e.at(s.Name, pos, s.Now)
		if err != nil {
			return nil, err
		}
		full.Partition = outbox.PartitionOf(full.Key(), s.Partitions)
		full.Writer = s.Writer
		full.Seq = s.next(e.Topic, full.Partition)
		rec := full.Record()
		s.put(sent{topic: e.Topic, part: full.Partition, rec: rec})
		if s.Twins {
			twin := rec
			if removes(full.Data) {
				twin.Value = nil
			}
			s.put(sent{topic: outbox.LatestTwin(e.Topic), part: full.Partition, rec: twin})
		}
		told = append(told, full)
	}
	s.Now = s.Now.Add(s.Tick)
	return told, nil
}

// at completes an event.
func (e Event) at(source string, pos event.Position, now time.Time) (event.Event, error) {
	data, err := rawJSON(e.Data)
	if err != nil {
		return event.Event{}, fmt.Errorf("event %s of %s/%s: %w", e.Type, e.Aggregate, e.Key, err)
	}
	return event.Event{
		ID:   event.ID{Source: source, Aggregate: e.Aggregate, Key: e.Key, Position: pos},
		Type: e.Type, Version: max(e.Version, 1), Topic: e.Topic, Time: now.UTC(), Position: pos, Rules: 1, Data: data,
	}, nil
}

func rawJSON(v any) (json.RawMessage, error) {
	var b []byte
	switch v := v.(type) {
	case nil:
		b = []byte(`{"state":{}}`)
	case string:
		b = []byte(v)
	case []byte:
		b = v
	case json.RawMessage:
		b = v
	default:
		var err error
		if b, err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("make JSON of its data: %w", err)
		}
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("its data is no JSON: %.80s", b)
	}
	return slices.Clone(b), nil
}

func removes(data json.RawMessage) bool {
	var v struct {
		State json.RawMessage `json:"state"`
	}
	return json.Unmarshal(data, &v) == nil && string(v.State) == "null"
}

func (s *Source) next(topic string, part int) int64 {
	if s.seqs[topic] == nil {
		s.seqs[topic] = make([]int64, s.Partitions)
	}
	s.seqs[topic][part]++
	return s.seqs[topic][part]
}

func (s *Source) put(o sent) {
	if !o.mark {
		if s.told[o.topic] == nil {
			s.told[o.topic] = make([][]event.Record, s.Partitions)
		}
		s.told[o.topic][o.part] = append(s.told[o.topic][o.part], o.rec)
	}
	s.out = append(s.out, o)
}

// Park names keys that the watermarks from now on list as parked, each from the
// LSN of the last commit on.
func (s *Source) Park(keys ...event.Ref) {
	for _, k := range keys {
		s.parked = append(s.parked, event.ParkedAt{Ref: k, LSN: s.LSN})
	}
}

// Unpark takes all keys off the list.
func (s *Source) Unpark() { s.parked = nil }

// Mark tells a watermark: all that was committed until now is told.
func (s *Source) Mark() event.Watermark {
	w := event.Watermark{Source: s.Name, Generation: s.Generation, LSN: s.LSN + 0x30, Time: s.Now.UTC(), Writer: s.Writer, Seqs: map[string][]int64{}}
	for topic, seqs := range s.seqs {
		w.Seqs[topic] = slices.Clone(seqs)
	}
	w.SetParked(s.parked)
	value, _ := json.Marshal(w) // numbers and names: it cannot fail
	s.put(sent{topic: s.WatermarkTopic(), mark: true, rec: event.Record{Key: []byte(s.Name), Value: value,
		Headers: []event.Header{{Key: event.HeaderContentType, Value: []byte(event.ContentJSON)}}}})
	return w
}

// Failover makes the source go on as another incarnation: the next generation,
// whose LSNs begin again lower.
func (s *Source) Failover() { s.Generation, s.LSN, s.Writer = s.Generation+1, 0x100000, s.Writer+1 }

// Repeat tells the last n records of a partition once more, in their order, as
// a relay does that did not hear the answer.
func (s *Source) Repeat(topic string, part, n int) {
	all := s.records(topic, part)
	for _, r := range all[max(0, len(all)-n):] {
		s.out = append(s.out, sent{topic: topic, part: part, rec: r})
	}
}

// Late tells the record with a seq once more, however long ago it was: a request
// of a stopped owner that lands now. In a `.latest` twin the relay, which sees
// that, tells the key's last record behind it once more.
func (s *Source) Late(topic string, part int, seq int64) {
	all := s.records(topic, part)
	for _, r := range all {
		if n, _ := r.Seq(); n != seq {
			continue
		}
		s.out = append(s.out, sent{topic: topic, part: part, rec: r})
		if !projections.IsLatest(topic) {
			return
		}
		for i := len(all) - 1; ; i-- {
			if string(all[i].Key) == string(r.Key) {
				s.out = append(s.out, sent{topic: topic, part: part, rec: all[i]})
				return
			}
		}
	}
}

// Hole lets a partition lose its next n sequence numbers.
func (s *Source) Hole(topic string, part int, n int64) {
	s.next(topic, part)
	s.seqs[topic][part] += n - 1
}

// Forge tells another record under a seq that was told before.
func (s *Source) Forge(topic string, part int, seq int64) {
	for _, r := range s.records(topic, part) {
		if n, _ := r.Seq(); n == seq {
			r.Value = append(slices.Clone(r.Value[:len(r.Value)-1]), []byte(`,"forged":true}`)...)
			s.out = append(s.out, sent{topic: topic, part: part, rec: r})
			return
		}
	}
}

func (s *Source) records(topic string, part int) []event.Record {
	if s.told[topic] == nil {
		return nil
	}
	return s.told[topic][part]
}

// Topics lists what the source has told anything in, without watermarks.
func (s *Source) Topics() []string {
	var names []string
	for t := range s.told {
		names = append(names, t)
	}
	slices.Sort(names)
	return names
}

// CreateTopics makes the topics given and that of the watermarks in a Log.
func (s *Source) CreateTopics(l *Log, topics ...string) {
	for _, t := range topics {
		l.CreateTopic(t, s.Partitions)
		if s.Twins {
			l.CreateTopic(outbox.LatestTwin(t), s.Partitions)
		}
	}
	l.CreateTopic(s.WatermarkTopic(), 1)
}

// Publish writes what waits, in the order of the commits.
func (s *Source) Publish(ctx context.Context, to Producer) error {
	return s.publish(ctx, to, func(runs []run) (int, int) { return 0, len(runs[0].recs) })
}

// PublishShuffled writes what waits with the partitions at random ahead of each
// other: each partition in its order, each watermark behind all that it speaks
// of. It is what a consumer can see of a relay.
func (s *Source) PublishShuffled(ctx context.Context, to Producer, rng *rand.Rand) error {
	return s.publish(ctx, to, func(runs []run) (int, int) {
		i := rng.IntN(len(runs))
		return i, 1 + rng.IntN(min(len(runs[i].recs), 50))
	})
}

// run is what waits for one partition.
type run struct {
	topic string
	part  int
	recs  []event.Record
}

// publish writes some records of one partition after the other, as choose says;
// a watermark waits for all before it and is waited for by all behind it.
func (s *Source) publish(ctx context.Context, to Producer, choose func([]run) (i, n int)) error {
	for len(s.out) > 0 {
		free := slices.IndexFunc(s.out, func(o sent) bool { return o.mark })
		switch free {
		case -1:
			free = len(s.out)
		case 0:
			free = 1
		}
		runs := byPartition(s.out[:free])
		s.out = s.out[free:]
		for len(runs) > 0 {
			i, n := choose(runs)
			r := &runs[i]
			if err := produce(ctx, to, r.topic, r.part, r.recs[:n]); err != nil {
				return err
			}
			if r.recs = r.recs[n:]; len(r.recs) == 0 {
				runs = slices.Delete(runs, i, i+1)
			}
		}
	}
	s.out = nil
	return nil
}

func byPartition(out []sent) []run {
	type place struct {
		topic string
		part  int
	}
	var runs []run
	at := make(map[place]int)
	for _, o := range out {
		i, ok := at[place{o.topic, o.part}]
		if !ok {
			i = len(runs)
			at[place{o.topic, o.part}] = i
			runs = append(runs, run{topic: o.topic, part: o.part})
		}
		runs[i].recs = append(runs[i].recs, o.rec)
	}
	return runs
}

// requestBytes is what one request of a producer carries at most.
const requestBytes = 900_000

func produce(ctx context.Context, to Producer, topic string, part int, recs []event.Record) error {
	for len(recs) > 0 {
		n, size := 0, 0
		for n < len(recs) && (n == 0 || size+recs[n].Size() <= requestBytes) {
			size += recs[n].Size()
			n++
		}
		if _, err := to.Produce(ctx, topic, part, recs[:n]); err != nil {
			return fmt.Errorf("tell %d records of %s/%d: %w", n, topic, part, err)
		}
		recs = recs[n:]
	}
	return nil
}
