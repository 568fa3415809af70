package shadow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"banyan/compare"
	"banyan/money"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/quote"
)

// Names lists the shadows of a database.
func Names(ctx context.Context, store *control.Store) ([]string, error) {
	rows, err := store.Pool().Query(ctx, `SELECT DISTINCT projection FROM banyan.version WHERE state = 'active' AND starts_with(projection, $1) ORDER BY 1`, Prefix)
	if err != nil {
		return nil, fmt.Errorf("list the shadows: %w", err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list the shadows: %w", err)
		}
		if name = strings.TrimPrefix(name, Prefix); !strings.HasSuffix(name, "_orders") {
			names = append(names, name)
		}
	}
	return names, rows.Err()
}

// Replayed is one comparison done again, with its inputs.
type Replayed struct {
	// Entry is the comparison as the journal has it, to the byte.
	Entry []byte `json:"-"`
	// Order is what the candidate was asked, and Answer what it said; nil where it
	// was not asked. Why says which reason there was then.
	Order  *quote.Order   `json:"order,omitempty"`
	Answer *quote.Answer  `json:"answer,omitempty"`
	Why    compare.Reason `json:"why,omitempty"`
}

// ErrNotCompared says that a place holds nothing that is compared.
var ErrNotCompared = errors.New("no order is compared there")

// Replay does one comparison again: it goes through history up to the event at a place
// of the topic of orders, and has that order priced with what was known before it.
func Replay(ctx context.Context, log projections.Log, o Options, who Candidates, partition int, offset int64) (*Replayed, error) {
	s := newCore(o)
	s.candidate, s.pricer, s.control = who.InProcess, who.Pricer, who.Control
	var again *Replayed
	for events, err := range history(ctx, log, o) {
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			s.world.enter(e.Position)
			n, _ := e.Prepared.(*reading)
			here := e.Topic == o.Mapping.Orders.Topic && e.Partition == partition && e.Offset == offset
			switch {
			case here && (n == nil || n.kind != placed && n.kind != added && n.kind != recorded):
				return nil, fmt.Errorf("%s: %w: it is %s", At(e.Topic, partition, offset), ErrNotCompared, e.Type)
			case here:
				again, err = s.replay(ctx, e, n)
				return again, err
			case n != nil && n.bad == "":
				s.world.tell(e.ID.Key, n, e.Position.Snapshot > 0)
			}
		}
	}
	return nil, fmt.Errorf("%s: %w: the topic ends before", At(o.Mapping.Orders.Topic, partition, offset), ErrNotCompared)
}

// replay prices one order, with the trail of its prices.
func (s *core) replay(ctx context.Context, e *projections.Event, n *reading) (*Replayed, error) {
	c := &s.one
	s.begin(c, e, n)
	r := &Replayed{}
	if len(c.asked) > 0 {
		c.ask.WantTrail = true
		r.Order = &c.ask
		var got Got
		if s.pricer != nil {
			all, err := s.pricer.Price(ctx, []quote.Order{c.ask})
			if err != nil {
				return nil, err
			}
			got = all[0]
		} else {
			got = s.inProcess(c)
		}
		r.Answer, r.Why = got.Answer, got.Reason
		s.judge(c, got)
	}
	s.ledger.Take(&c.order)
	r.Entry = appendEntry(nil, c)
	return r, nil
}

// history gives all events that a shadow reads, in the order of commits, as they lie
// in the log now.
func history(ctx context.Context, log projections.Log, o Options) func(yield func([]*projections.Event, error) bool) {
	return func(yield func([]*projections.Event, error) bool) {
		program, err := NewComparator(o, Candidates{}, nil, "")
		if err != nil {
			yield(nil, err)
			return
		}
		prep, err := projections.NewPreparer(program)
		if err != nil {
			yield(nil, err)
			return
		}
		r := &projections.Replay{Log: log, Preparer: prep}
		for _, topic := range o.Mapping.Topics() {
			n, err := log.Partitions(ctx, topic)
			if err != nil {
				yield(nil, fmt.Errorf("topic %s: %w", topic, err))
				return
			}
			for i := range n {
				first, next, err := log.Ends(ctx, topic, i)
				if err != nil {
					yield(nil, fmt.Errorf("topic %s, partition %d: %w", topic, i, err))
					return
				}
				r.Parts = append(r.Parts, projections.Reach{PartID: control.PartID{Topic: topic, Part: i}, From: first, Until: next})
			}
		}
		r.Events(ctx)(yield)
	}
}

// asksTwice is how many orders a candidate is asked about twice, spread over history.
const asksTwice = 500

// Noise compares control with control over all of history, by the same way that a
// candidate goes: whatever differs is an error of ours. Where a candidate is given,
// some hundred orders are priced twice by it too: what differs there is noise of its
// own.
func Noise(ctx context.Context, log projections.Log, o Options, who Candidates) (*compare.Noise, error) {
	o.Since, o.Sample = control.Mark{}, Everybody
	s := newCore(o)
	s.control = true
	n := &compare.Noise{}
	var twice []quote.Order
	every, seen := 1, 0
	s.done = func(c *comparison, _ *quote.Answer) error {
		if len(c.asked) == 0 || who.InProcess == nil && who.Pricer == nil {
			return nil
		}
		if seen++; seen%every != 0 {
			return nil
		}
		if len(twice) == 2*asksTwice { // every second one was enough
			for i := range asksTwice {
				twice[i] = twice[2*i+1]
			}
			twice, every = twice[:asksTwice], 2*every
		}
		order := c.ask
		order.Lines = append([]quote.Line(nil), c.ask.Lines...)
		twice = append(twice, order)
		return nil
	}
	for events, err := range history(ctx, log, o) {
		if err != nil {
			return nil, err
		}
		if err := s.take(ctx, events); err != nil {
			return nil, err
		}
		n.At = events[len(events)-1].Position.String()
	}
	for _, currency := range s.ledger.Currencies() {
		b := s.ledger.Books[currency]
		n.Lines += b.Compared.Lines
		n.Differ += b.Compared.Lines - b.Causes[compare.Same].Lines
		n.Diff = append(n.Diff, money.Amount{Amount: b.Candidate - b.Compared.Control, Scale: compare.Scale, Currency: currency})
	}
	return n, askTwice(ctx, who, twice, n)
}

func askTwice(ctx context.Context, who Candidates, orders []quote.Order, n *compare.Noise) error {
	if len(orders) == 0 {
		return nil
	}
	price := func() ([]Got, error) {
		if who.Pricer != nil {
			return who.Pricer.Price(ctx, orders)
		}
		got := make([]Got, len(orders))
		for i := range orders {
			a := &quote.Answer{ID: orders[i].ID, AsOf: orders[i].AsOf}
			if err := who.InProcess.Price(&orders[i], a); err != nil {
				a.Declined = err.Error()
			}
			got[i].Answer = a
		}
		return got, nil
	}
	one, err := price()
	if err != nil {
		return err
	}
	other, err := price()
	if err != nil {
		return err
	}
	for i := range orders {
		for _, l := range orders[i].Lines {
			n.RepeatLines++
			if unitOf(one[i], l.Line) != unitOf(other[i], l.Line) {
				n.RepeatDiffer++
			}
		}
	}
	return nil
}

func unitOf(g Got, line int64) money.Amount {
	if g.Answer != nil {
		if p, why := priceFor(g.Answer, line); why == "" {
			return p.Unit
		}
	}
	return money.Amount{}
}
