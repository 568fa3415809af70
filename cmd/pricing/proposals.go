package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"banyan/bus"
	"banyan/event"
	"banyan/outbox"
	"banyan/pricing"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/quote"
)

// service is the source of our events.
const service = "pricing"

// Types of our events.
const (
	proposed = "PriceProposed"
	progress = "PricingProgress"
)

// proposals is our topic: what lies in it, and what is to be written.
type proposals struct {
	cluster *bus.Cluster
	topic   string
	view    *pricing.View
	build   string // of the rules: each event says which made it
	log     *slog.Logger

	parts []tail
	// told is what was last proposed of each product.
	told map[string]pricing.Proposal
}

// tail is the end of one of our partitions.
type tail struct {
	seq  int64          // of the last record
	next int64          // the offset after it
	at   event.Position // of the last record: all that was to be told below lies there
	// current says that a transaction was told since the start, so that every product
	// has been looked at.
	current bool
	wait    []event.Record // to be written
	// doubt are records of which an attempt may still land in the topic, by seq.
	doubt map[int64]event.Record
}

// otherWriter says that somebody else writes to our topic.
type otherWriter struct {
	topic     string
	partition int
	offset    int64
}

func (o *otherWriter) Error() string {
	return fmt.Sprintf("%s partition %d: at offset %d lies a record that is not ours: only one pricing run may write to a topic; stop the other one, or give one of them another --topic and begin it anew",
		o.topic, o.partition, o.offset)
}

// openProposals reads our topic from its first record: there is where we stand.
func openProposals(ctx context.Context, cluster *bus.Cluster, topic string, d *pricing.Demand, log *slog.Logger) (*proposals, error) {
	p := &proposals{cluster: cluster, topic: topic, view: pricing.NewView(d), build: d.Build(), log: log, told: map[string]pricing.Proposal{}}
	ranges, err := cluster.AllEnds(ctx, topic)
	if err != nil {
		return nil, err
	}
	p.parts = make([]tail, len(ranges))
	for part, r := range ranges {
		seq := projections.NewSequence(control.Part{PartID: control.PartID{Topic: topic, Part: part}})
		p.parts[part].next = r.Next
		if r.First == r.Next {
			continue // to read nothing would wait for something
		}
		for rec, err := range cluster.Read(ctx, topic, part, bus.First, r.Next) {
			if err != nil {
				return nil, err
			}
			if err := p.recall(seq, part, &rec); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// recall takes in a record of ours.
func (p *proposals) recall(seq *projections.Sequence, part int, rec *event.Record) error {
	fresh, err := seq.Take(rec)
	if err != nil || !fresh {
		return err
	}
	e, err := event.FromRecord(p.topic, rec)
	if err != nil {
		return fmt.Errorf("%s partition %d, offset %d: %w", p.topic, part, rec.Offset, err)
	}
	if e.ID.Source != service {
		return &otherWriter{p.topic, part, rec.Offset}
	}
	t := &p.parts[part]
	t.seq, t.at = e.Seq, later(t.at, e.Position)
	if e.Type != proposed {
		return nil
	}
	var data struct {
		State pricing.Proposal `json:"state"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return fmt.Errorf("%s: %w", e.ID, err)
	}
	p.told[e.ID.Key] = data.State
	return nil
}

func later(a, b event.Position) event.Position {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}

// asOf is the position that all partitions have reached, in the form of quotes; ""
// where nothing was told yet.
func (p *proposals) asOf() string {
	low := p.parts[0].at
	for i := range p.parts {
		if p.parts[i].at.Compare(low) < 0 {
			low = p.parts[i].at
		}
	}
	if low.Generation == 0 {
		return ""
	}
	return quote.FormatAsOf(low.Generation, low.LSN)
}

// take applies one transaction of the source, and proposes what it changes.
func (p *proposals) take(ctx context.Context, facts []pricing.Fact) error {
	at, last := facts[0].Position, 0
	for i := range facts {
		p.view.Apply(&facts[i])
		if facts[i].Position.Compare(at) > 0 {
			at, last = facts[i].Position, i
		}
	}
	changed := p.view.Changed()
	for part := range p.parts {
		if t := &p.parts[part]; !t.current && at.Compare(t.at) >= 0 {
			// The first transaction here since the start. With other rules than the
			// last run had, any price may be another one; with the same ones, none is.
			changed = p.view.All()
			break
		}
	}
	for _, name := range changed {
		if err := p.propose(name, at, &facts[last]); err != nil {
			return err
		}
	}
	for part := range p.parts {
		t := &p.parts[part]
		t.current = t.current || at.Compare(t.at) >= 0
		if len(t.wait) >= 4096 {
			if err := p.flush(ctx, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// propose tells a product's price as of a position, if it is another one than was
// told last, and if it was not told before the start.
func (p *proposals) propose(name string, at event.Position, because *pricing.Fact) error {
	part := outbox.PartitionOf(name, len(p.parts))
	if at.Compare(p.parts[part].at) < 0 {
		return nil
	}
	now, ok := p.view.Propose(name, false)
	if before, told := p.told[name]; !ok || told && now.SamePrices(&before) {
		return nil
	}
	if now, ok = p.view.Propose(name, true); !ok {
		return nil
	}
	p.told[name] = now
	return p.put(part, event.ID{Source: service, Aggregate: "Proposal", Key: name, Position: at}, proposed, because.Time, because.BusinessTime(), now)
}

// put makes a record and lets it wait. Nothing in it comes from a clock.
func (p *proposals) put(part int, id event.ID, kind string, committed, occurred time.Time, state any) error {
	data, err := json.Marshal(struct {
		OccurredAt time.Time `json:"occurredAt"`
		Build      string    `json:"build"`
		State      any       `json:"state"`
	}{occurred.UTC(), p.build, state})
	if err != nil {
		return fmt.Errorf("write %s: %w", id, err)
	}
	t := &p.parts[part]
	t.seq++
	e := event.Event{ID: id, Type: kind, Version: 1, Topic: p.topic, Time: committed.UTC(), Position: id.Position, Rules: 1, Data: data, Partition: part, Seq: t.seq, Writer: 1}
	t.wait = append(t.wait, e.Record())
	return nil
}

// endRound writes what waits, and then to every partition how far the source was
// read.
func (p *proposals) endRound(ctx context.Context, w *event.Watermark) error {
	at := event.Position{Generation: w.Generation, LSN: w.LSN}
	state := struct {
		AsOf string `json:"asOf"`
	}{quote.FormatAsOf(w.Generation, w.LSN)}
	for part := range p.parts {
		if at.Compare(p.parts[part].at) > 0 {
			id := event.ID{Source: service, Aggregate: "Progress", Key: fmt.Sprintf("p%d", part), Position: at}
			if err := p.put(part, id, progress, w.Time, w.Time, state); err != nil {
				return err
			}
		}
		if err := p.flush(ctx, part); err != nil {
			return err
		}
		p.parts[part].at = later(p.parts[part].at, at)
	}
	return nil
}

// flush writes what waits for a partition, in order.
func (p *proposals) flush(ctx context.Context, part int) error {
	t := &p.parts[part]
	for len(t.wait) > 0 {
		n, size := 0, 0
		for n < len(t.wait) && (n == 0 || size+t.wait[n].Size() <= bus.MaxRequestBytes-1000) {
			size += t.wait[n].Size()
			n++
		}
		if err := p.produce(ctx, part, t.wait[:n]); err != nil {
			return err
		}
		t.wait = t.wait[n:]
	}
	t.wait = nil
	return nil
}

// produce writes records for certain. After a failure that leaves open whether they
// lie in the topic they are sent again, the same to the byte under the same seq:
// readers drop such a repeat.
func (p *proposals) produce(ctx context.Context, part int, records []event.Record) error {
	t := &p.parts[part]
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		at, err := p.cluster.Produce(ctx, p.topic, part, records)
		if err == nil {
			if at != t.next {
				err = p.onlyOurs(ctx, part, at)
			}
			t.next = at + int64(len(records))
			return err
		}
		if e, ok := errors.AsType[*bus.Error](err); !ok || e.Permanent() || ctx.Err() != nil {
			return err
		}
		if t.doubt == nil {
			t.doubt = map[int64]event.Record{}
		}
		for _, rec := range records {
			seq, _ := rec.Seq() // ours have one
			t.doubt[seq] = rec
		}
		p.log.Warn("cannot publish, trying again", "topic", p.topic, "partition", part, "error", err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// onlyOurs looks at what lies between where we ended and where our last request
// begins: earlier attempts at records of ours, or somebody else's.
func (p *proposals) onlyOurs(ctx context.Context, part int, at int64) error {
	t := &p.parts[part]
	if at < t.next {
		return &otherWriter{p.topic, part, at} // the topic was made anew
	}
	for rec, err := range p.cluster.Read(ctx, p.topic, part, t.next, at) {
		if err != nil {
			return err
		}
		seq, _ := rec.Seq()
		if ours, ok := t.doubt[seq]; !ok || !rec.Same(&ours) {
			return &otherWriter{p.topic, part, rec.Offset}
		}
	}
	return nil
}
