package proof

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"banyan/event"
)

// Verdict is the answer of a proof.
type Verdict string

// The verdicts, worst first. Where several apply the first one is given, since
// each is an order to somebody: a difference is a fact that waiting does not
// undo; a parked key needs a person's decision, and running again says the same;
// what is unfinished needs another run; and only what is left is proved.
const (
	Differs    Verdict = "differs"
	Parked     Verdict = "parked"
	Unfinished Verdict = "unfinished"
	Proved     Verdict = "proved"
)

// Report is the result of a proof. Its JSON form is documented and stable.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Reasons say why it is not proved, the weightiest first; empty where it is.
	Reasons    []string `json:"reasons"`
	Source     string   `json:"source"`
	Generation int      `json:"generation"`
	// LSN is the consistent point that was proved, the last of Points.
	LSN    string  `json:"lsn"`
	Points []Point `json:"points"`
	// Watermark is the LSN up to which everything was published when the
	// topics were read, "" where none came in time.
	Watermark   string            `json:"watermark"`
	StartedAt   time.Time         `json:"startedAt"`
	TookSeconds float64           `json:"tookSeconds"`
	Topics      []TopicReport     `json:"topics"`
	Aggregates  []AggregateReport `json:"aggregates"`
	// Account is how every row change of every captured table was told.
	Account []TableAccount `json:"account"`
	// Faults are what is wrong with the topics themselves: at most
	// Config.Examples of each kind and topic, all of them counted in Topics.
	Faults []Fault `json:"faults"`
	// NotProved says, a sentence each, what this verdict does not mean.
	NotProved []string `json:"notProved"`
}

// Point is one snapshot of the source.
type Point struct {
	LSN string `json:"lsn"`
	// HeldSeconds is how long the snapshot held back the source's vacuum.
	HeldSeconds float64 `json:"heldSeconds"`
	Rows        int64   `json:"rows"`

	lsn uint64
}

// TopicReport counts what lies in one topic.
type TopicReport struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Events     int64  `json:"events"`  // each counted once
	Repeats    int64  `json:"repeats"` // byte-identical, under their own seq: harmless
	// Gaps counts missing seqs; the others count records.
	Gaps         int64 `json:"gaps"`
	OtherBytes   int64 `json:"otherBytes"`
	Foreign      int64 `json:"foreign"`
	DuplicateIDs int64 `json:"duplicateIds"`
	Disorder     int64 `json:"disorder"`
	Ahead        int64 `json:"ahead"`
}

// FaultKind names what is wrong with a record.
type FaultKind string

// The faults a topic can have.
const (
	// Gap: a seq is missing.
	Gap FaultKind = "gap"
	// OtherBytes: two different records lie under one seq.
	OtherBytes FaultKind = "other-bytes"
	// Foreign: a record that Banyan did not write, or one that is damaged.
	Foreign FaultKind = "foreign"
	// DuplicateID: one event id lies under two seqs.
	DuplicateID FaultKind = "duplicate-id"
	// Disorder: the events of a key do not lie in one partition, or not in the
	// order of their positions.
	Disorder FaultKind = "disorder"
	// Ahead: an event from a place of the log that the source has not reached.
	Ahead FaultKind = "ahead"
)

// Fault is one thing wrong with a topic.
type Fault struct {
	Kind      FaultKind `json:"kind"`
	Topic     string    `json:"topic"`
	Partition int       `json:"partition"`
	Offset    int64     `json:"offset"`
	Seq       int64     `json:"seq,omitempty"`
	Count     int64     `json:"count,omitempty"` // of missing seqs
	Event     string    `json:"event,omitempty"`
	Text      string    `json:"text"`
}

// AggregateReport compares the keys of one aggregate. Keys = Proved + Missing +
// Extra + Different + Parked + Unproven.
type AggregateReport struct {
	Aggregate string `json:"aggregate"`
	Table     string `json:"table"`
	Topic     string `json:"topic"`
	Rows      int64  `json:"rows"` // children included
	Keys      int64  `json:"keys"`
	Proved    int64  `json:"proved"`
	Missing   int64  `json:"missing"`   // rows, and no live event
	Extra     int64  `json:"extra"`     // a live event, and no row
	Different int64  `json:"different"` // another state
	Parked    int64  `json:"parked"`
	Unproven  int64  `json:"unproven"` // could not be compared
	// Digest stands for all proved keys and their states, whatever their
	// order: equal digests, equal contents.
	Digest   string    `json:"digest"`
	Examples []Example `json:"examples"`

	digest stateHash
}

// ExampleKind says what is the matter with a key.
type ExampleKind string

// The kinds of examples, named as the counts of AggregateReport.
const (
	KeyMissing   ExampleKind = "missing"
	KeyExtra     ExampleKind = "extra"
	KeyDifferent ExampleKind = "different"
	KeyParked    ExampleKind = "parked"
	KeyUnproven  ExampleKind = "unproven"
)

// Example is one key that is not proved.
type Example struct {
	Kind ExampleKind `json:"kind"`
	Key  string      `json:"key"`
	// Event is the id of the key's last event, "" where it has none.
	Event string `json:"event,omitempty"`
	Rules int    `json:"rules,omitempty"` // version of the rule set of that event
	// Fields are the members of the state that differ.
	Fields []string `json:"fields,omitempty"`
	// Rows and Told are the two states, only where values were asked for.
	Rows json.RawMessage `json:"rowsState,omitempty"`
	Told json.RawMessage `json:"eventState,omitempty"`
	Why  string          `json:"why,omitempty"`

	last entry
	row  *row
}

// TableAccount is the account of one captured table.
type TableAccount struct {
	Table     string `json:"table"`
	Changes   int64  `json:"changes"`
	Parked    int64  `json:"parked"`
	Discarded int64  `json:"discarded"`
	Used      int64  `json:"used"`
	Absorbed  int64  `json:"absorbed"`
	Ignored   int64  `json:"ignored"`
	Balanced  bool   `json:"balanced"`
}

func accounts(counts map[string]event.Counts) []TableAccount {
	list := make([]TableAccount, 0, len(counts))
	for table, c := range counts {
		list = append(list, TableAccount{Table: table, Changes: c.Changes, Parked: c.Parked, Discarded: c.Discarded,
			Used: c.Used, Absorbed: c.Absorbed, Ignored: c.Ignored, Balanced: c.Balanced()})
	}
	slices.SortFunc(list, func(a, b TableAccount) int { return cmp.Compare(a.Table, b.Table) })
	return list
}

// collector gathers the parts of a report from several goroutines.
type collector struct {
	mu       sync.Mutex
	examples int
	topics   []*TopicReport
	faults   []Fault
	shown    map[faultPlace]int
}

type faultPlace struct {
	topic string
	kind  FaultKind
}

func newCollector(examples int) *collector {
	return &collector{examples: examples, shown: map[faultPlace]int{}}
}

func (c *collector) topic(name string, partitions int) {
	c.topics = append(c.topics, &TopicReport{Topic: name, Partitions: partitions})
}

func (c *collector) find(name string) *TopicReport {
	for _, t := range c.topics {
		if t.Topic == name {
			return t
		}
	}
	c.topic(name, 0)
	return c.topics[len(c.topics)-1]
}

func (c *collector) count(topic string, events, repeats int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(topic)
	t.Events += events
	t.Repeats += repeats
}

func (c *collector) fault(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(f.Topic)
	switch f.Kind {
	case Gap:
		t.Gaps += f.Count
	case OtherBytes:
		t.OtherBytes++
	case Foreign:
		t.Foreign++
	case DuplicateID:
		t.DuplicateIDs++
	case Disorder:
		t.Disorder++
	case Ahead:
		t.Ahead++
	}
	place := faultPlace{f.Topic, f.Kind}
	if c.shown[place]++; c.shown[place] <= c.examples {
		c.faults = append(c.faults, f)
	}
}

// add counts one key and keeps the example, where there is still room for it.
func (a *AggregateReport) add(limit int, e Example) {
	a.Keys++
	switch e.Kind {
	case KeyMissing:
		a.Missing++
	case KeyExtra:
		a.Extra++
	case KeyDifferent:
		a.Different++
	case KeyParked:
		a.Parked++
	case KeyUnproven:
		a.Unproven++
	}
	n := 0
	for i := range a.Examples {
		if a.Examples[i].Kind == e.Kind {
			n++
		}
	}
	if n < limit {
		a.Examples = append(a.Examples, e)
	}
}

// prove counts one proved key. The sum of hashes does not hang on the order.
func (a *AggregateReport) prove(h stateHash) {
	a.Keys++
	a.Proved++
	carry := uint16(0)
	for i := range a.digest {
		carry += uint16(a.digest[i]) + uint16(h[i])
		a.digest[i] = byte(carry)
		carry >>= 8
	}
}

func (a *AggregateReport) finish() {
	a.Digest = hex.EncodeToString(a.digest[:])
	if a.Examples == nil {
		a.Examples = []Example{}
	}
	slices.SortFunc(a.Examples, func(x, y Example) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(len(x.Key), len(y.Key)), cmp.Compare(x.Key, y.Key))
	})
}
