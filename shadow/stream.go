package shadow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"banyan/compare"
	"banyan/event"
	"banyan/money"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/quote"
)

// Stream is the Pricer that joins the prices which a candidate publishes by itself, as
// of each order: of each product the last price that was made with what lies before
// the order's commit. Each record of the candidate's topic says as of which position
// it was made, and in the partitions those positions never step back; so a partition
// that has reached an order's position will bring nothing that counts for it.
//
// Where the candidate does not get there it is waited for; after Patience without any
// progress its silence counts, and the orders beyond are unproven.
type Stream struct {
	Log   projections.Log
	Topic string
	// Patience is how long a silent candidate is waited for; 0 is for ever.
	Patience time.Duration
	Logger   *slog.Logger // nil is silent

	mu     sync.Mutex // of builds
	waits  waiting
	parts  []streamPart
	prices map[string][]proposal // by product, in the order of positions
	floor  control.Mark          // what lies before it has been forgotten
	odd    int64                 // records that could not be read
	builds []string              // of the prices that orders were joined with
}

// streamPart is one partition of the candidate's topic.
type streamPart struct {
	next int64
	seq  int64
	at   control.Mark // the position that it has reached
}

// proposal is a price as the candidate published it.
type proposal struct {
	at      control.Mark
	text    string // at, as an answer says it
	unit    money.Amount
	tier    money.Amount
	tierQty int64
	rule    string
	chance  string
	build   string
}

// Types of a candidate's records.
const (
	PriceProposed   = "PriceProposed"
	PricingProgress = "PricingProgress"
)

// Proposed is the data of a PriceProposed event.
type Proposed struct {
	// Build is the candidate's own, where it says so: prices of several builds are
	// those of none.
	Build string `json:"build"`
	State *struct {
		Product      string       `json:"product"`
		Unit         money.Amount `json:"unit"`
		TierQuantity int64        `json:"tierQuantity"`
		Tier         money.Amount `json:"tier"`
		Rule         string       `json:"rule"`
		Propensity   string       `json:"propensity"`
	} `json:"state"`
}

// Price joins.
func (s *Stream) Price(ctx context.Context, orders []quote.Order) ([]Got, error) {
	marks := make([]control.Mark, len(orders))
	for i := range orders {
		gen, lsn, err := quote.ParseAsOf(orders[i].AsOf)
		if err != nil {
			return nil, fmt.Errorf("order %s: %w", orders[i].ID, err)
		}
		marks[i] = control.Mark{Generation: gen, LSN: lsn}
	}
	if len(marks) == 0 {
		return nil, nil
	}
	if marks[0].Compare(s.floor) < 0 || s.parts == nil {
		if err := s.reset(ctx); err != nil { // a batch is done again
			return nil, err
		}
	}
	if n, err := s.Log.Partitions(ctx, s.Topic); err == nil && n != len(s.parts) {
		// What lies in a new one was never waited for, and a product may have moved there.
		return nil, fmt.Errorf("the candidate's topic %s had %d partitions and has %d: let it publish to a topic of its own, and compare that", s.Topic, len(s.parts), n)
	}
	reached, err := s.reach(ctx, marks[len(marks)-1])
	if err != nil {
		return nil, err
	}
	got := make([]Got, len(orders))
	for i := range orders {
		if marks[i].Compare(reached) > 0 {
			got[i] = Got{Reason: compare.Unproven}
			continue
		}
		got[i] = Got{Answer: s.join(&orders[i], marks[i])}
	}
	s.floor = marks[0]
	s.forget()
	return got, nil
}

// join prices an order with what was published as of before it.
func (s *Stream) join(o *quote.Order, at control.Mark) *quote.Answer {
	a := &quote.Answer{ID: o.ID, AsOf: fmt.Sprintf("%d:0/0", max(at.Generation, 1))}
	var latest control.Mark
	for _, l := range o.Lines {
		all := s.prices[l.Product]
		var p *proposal
		for i := range all {
			if all[i].at.Compare(at) >= 0 {
				break
			}
			p = &all[i]
		}
		if p == nil {
			continue
		}
		price := quote.Price{Line: l.Line, Unit: p.unit, Rule: p.rule, Propensity: p.chance}
		if p.tierQty > 0 && l.Quantity >= p.tierQty && p.tier.Currency != "" {
			price.Unit = p.tier
		}
		a.Lines = append(a.Lines, price)
		s.answeredBy(p.build)
		if p.at.Compare(latest) > 0 {
			latest, a.AsOf = p.at, p.text
		}
	}
	return a
}

// forget lets go of prices that no order can be joined with any more: all but the last
// before the floor.
func (s *Stream) forget() {
	for product, all := range s.prices {
		n := 0
		for n+1 < len(all) && all[n+1].at.Compare(s.floor) < 0 {
			n++
		}
		if n > 0 {
			s.prices[product] = append(all[:0], all[n:]...)
		}
	}
}

func (s *Stream) reset(ctx context.Context) error {
	n, err := s.Log.Partitions(ctx, s.Topic)
	if err != nil {
		return fmt.Errorf("the candidate's topic %s: %w", s.Topic, err)
	}
	s.parts, s.prices, s.floor, s.odd = make([]streamPart, n), map[string][]proposal{}, control.Mark{}, 0
	return nil
}

// reach reads until every partition has reached a position, and gives the one that all
// have reached.
func (s *Stream) reach(ctx context.Context, to control.Mark) (control.Mark, error) {
	defer s.pause("")
	quiet := time.Now()
	for {
		moved, err := s.read(ctx)
		if err != nil && ctx.Err() == nil && !projections.Passing(err) {
			return control.Mark{}, err
		}
		at := s.reached()
		if at.Compare(to) >= 0 {
			return at, nil
		}
		now := time.Now()
		if moved {
			quiet = now
		}
		if s.Patience > 0 && now.Sub(quiet) >= s.Patience {
			return at, nil
		}
		s.pause(fmt.Sprintf("waiting for the candidate: %s has reached %s, the orders are at %s", s.Topic, at, to))
		if !waitFor(ctx, 50*time.Millisecond) {
			return at, context.Cause(ctx)
		}
	}
}

// reached is the position that all partitions have reached.
func (s *Stream) reached() control.Mark {
	at := s.parts[0].at
	for _, p := range s.parts[1:] {
		if p.at.Compare(at) < 0 {
			at = p.at
		}
	}
	return at
}

// read reads what is there.
func (s *Stream) read(ctx context.Context) (moved bool, err error) {
	for i := range s.parts {
		p := &s.parts[i]
		first, next, err := s.Log.Ends(ctx, s.Topic, i)
		if err != nil {
			return moved, fmt.Errorf("read the candidate's topic: %w", err)
		}
		if next < p.next {
			return moved, fmt.Errorf("the candidate's topic %s was made anew: partition %d ends at offset %d, %d was read", s.Topic, i, next, p.next)
		}
		for r, err := range s.Log.Read(ctx, s.Topic, i, max(first, p.next), next) {
			if err != nil {
				return moved, fmt.Errorf("read the candidate's topic: %w", err)
			}
			s.take(p, &r)
			p.next, moved = r.Offset+1, true
		}
		p.next = max(p.next, next)
	}
	return moved, nil
}

// take takes a record. One that cannot be read is passed over and counted: it proves
// nothing, and a price that is missing widens the bounds.
func (s *Stream) take(p *streamPart, r *event.Record) {
	e, err := event.FromRecord(s.Topic, r)
	if err != nil {
		s.odd++
		return
	}
	if e.Seq <= p.seq {
		return // a repeat
	}
	p.seq = e.Seq
	at := control.Mark{Generation: e.Position.Generation, LSN: e.Position.LSN}
	if at.Compare(p.at) > 0 {
		p.at = at
	}
	if e.Type != PriceProposed {
		return
	}
	var d Proposed
	if err := json.Unmarshal(e.Data, &d); err != nil || d.State == nil {
		s.odd++
		return
	}
	st := d.State
	product := cmp.Or(st.Product, e.ID.Key)
	// A position that steps back is taken for where the partition already was: what
	// has been published cannot have been made earlier than what lies before it.
	all := append(s.prices[product], proposal{p.at, quote.FormatAsOf(p.at.Generation, p.at.LSN),
		st.Unit, st.Tier, st.TierQuantity, st.Rule, st.Propensity, d.Build})
	// A product may be told of in two partitions, of which one is ahead.
	for i := len(all) - 1; i > 0 && all[i-1].at.Compare(all[i].at) > 0; i-- {
		all[i-1], all[i] = all[i], all[i-1]
	}
	s.prices[product] = all
}

func (s *Stream) answeredBy(build string) {
	if build == "" || len(s.builds) > 0 && s.builds[len(s.builds)-1] == build {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.builds, build) {
		s.builds = append(s.builds, build)
	}
}

// Named is nothing but the builds whose prices orders were joined with since this
// process began; a topic has no other name.
func (s *Stream) Named() (name string, builds []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "", slices.Clone(s.builds)
}

func (s *Stream) pause(reason string) { s.waits.set(reason, s.Logger) }

// Paused says why the shadow waits for the candidate, "" where it does not.
func (s *Stream) Paused() string {
	reason, _ := s.waits.get()
	return reason
}

// CheckTopic refuses a topic that cannot be a candidate's own: one that production
// reads, or anything not named for a shadow.
func CheckTopic(topic string, m Mapping) error {
	if len(topic) <= len(OwnPrefix) || topic[:len(OwnPrefix)] != OwnPrefix {
		return fmt.Errorf("topic %q: a candidate's topic begins with %q, so that nobody takes it for the shop's", topic, OwnPrefix)
	}
	for _, t := range m.Topics() {
		if t == topic {
			return errors.New("topic " + topic + " is one of the source's")
		}
	}
	return nil
}
