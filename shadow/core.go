package shadow

import (
	"context"
	"fmt"

	"banyan/compare"
	"banyan/projections"
	"banyan/quote"
)

// core is what is done with events, wherever they come from and wherever the state is
// kept: in a run, in a replay, in control against control.
type core struct {
	opts   Options
	reader *reader
	world  *World
	ledger *compare.Ledger
	// candidate prices in process; pricer does where that is nil.
	candidate quote.Candidate
	pricer    Pricer
	// control answers what was really paid, for control against control.
	control bool
	// sample is opts.Sample, or less while the shadow is behind.
	sample int64
	// done, where set, sees each comparison once it is in the ledger, and how what it
	// rests on was answered; it keeps nothing of them.
	done func(c *comparison, a *quote.Answer) error

	segments map[[2]string]string
	answer   quote.Answer
	one      comparison
	waiting  []item
	orders   []quote.Order
}

// item is something that has to wait for answers, or for others that do: the ledger
// takes everything in order.
type item struct {
	c        *comparison
	returned []compare.Return
	refused  []compare.Refusal
}

func newCore(o Options) *core {
	return &core{opts: o, reader: newReader(o.Mapping), world: newWorld(), ledger: compare.NewLedger(), sample: o.Sample, segments: map[[2]string]string{}}
}

// take does what a shadow does with events, in order: it has each order priced with
// what is known before the order's commit, enters it, and then lets the event change
// what is known.
func (s *core) take(ctx context.Context, events []*projections.Event) error {
	for _, e := range events {
		s.world.enter(e.Position)
		n, _ := e.Prepared.(*reading)
		if n == nil {
			continue
		}
		switch {
		case n.kind == placed || n.kind == added || n.kind == recorded:
			if err := s.compare(e, n); err != nil {
				return err
			}
		case n.bad != "":
			s.ledger.Unread++
		case n.kind == returned:
			if err := s.enter(item{returned: returnsOf(n)}); err != nil {
				return err
			}
		case n.kind == refusedOrder:
			if err := s.enter(item{refused: refusalsOf(n)}); err != nil {
				return err
			}
		}
		if n.bad == "" {
			s.world.tell(e.ID.Key, n, e.Position.Snapshot > 0)
		}
	}
	return s.ask(ctx)
}

// compare has an order priced, at once in process, else with all others that wait.
func (s *core) compare(e *projections.Event, n *reading) error {
	if s.pricer != nil {
		c := &comparison{}
		s.begin(c, e, n)
		return s.enter(item{c: c})
	}
	c := &s.one
	s.begin(c, e, n)
	if len(c.asked) > 0 {
		s.judge(c, s.inProcess(c))
	}
	return s.enter(item{c: c})
}

// inProcess asks the candidate that lives here.
func (s *core) inProcess(c *comparison) Got {
	a := &s.answer
	*a = quote.Answer{ID: c.ask.ID, AsOf: c.ask.AsOf, Lines: a.Lines[:0]}
	if s.control {
		for _, i := range c.asked {
			n := &c.order.Lines[i]
			a.Lines = append(a.Lines, quote.Price{Line: n.Line, Unit: price{Units: n.Control, Scale: compare.Scale, Currency: n.Currency, Known: true}.amount()})
		}
		return Got{Answer: a}
	}
	if err := s.candidate.Price(&c.ask, a); err != nil {
		a.Declined = err.Error()
	}
	return Got{Answer: a}
}

// enter gives something to the ledger, after all that waits.
func (s *core) enter(i item) error {
	if s.pricer != nil {
		s.waiting = append(s.waiting, i)
		return nil
	}
	return s.finish(i, &s.answer)
}

func (s *core) finish(i item, a *quote.Answer) error {
	switch {
	case i.returned != nil:
		s.ledger.TakeReturn(i.returned)
	case i.refused != nil:
		s.ledger.TakeRefused(i.refused)
	case i.c != nil:
		s.ledger.Take(&i.c.order)
		if s.done != nil {
			return s.done(i.c, a)
		}
	}
	return nil
}

// ask gets the answers for all orders that wait, and enters them in order.
func (s *core) ask(ctx context.Context) error {
	if len(s.waiting) == 0 {
		return nil
	}
	s.orders = s.orders[:0]
	for _, i := range s.waiting {
		if i.c != nil && len(i.c.asked) > 0 {
			s.orders = append(s.orders, i.c.ask)
		}
	}
	var got []Got
	if len(s.orders) > 0 {
		var err error
		if got, err = s.pricer.Price(ctx, s.orders); err != nil {
			return err
		}
		if len(got) != len(s.orders) {
			return fmt.Errorf("asked about %d orders, heard of %d", len(s.orders), len(got))
		}
	}
	for _, i := range s.waiting {
		var a *quote.Answer
		if i.c != nil && len(i.c.asked) > 0 {
			s.judge(i.c, got[0])
			a, got = got[0].Answer, got[1:]
		}
		if err := s.finish(i, a); err != nil {
			return err
		}
	}
	clear(s.waiting)
	clear(s.orders)
	s.waiting = s.waiting[:0]
	return nil
}

func returnsOf(n *reading) []compare.Return {
	all := make([]compare.Return, 0, len(n.lines))
	for i := range n.lines {
		l := &n.lines[i]
		r := compare.Return{Product: l.product, Currency: l.price.Currency, Quantity: l.quantity, Linked: n.linked}
		if r.Currency == "" {
			r.Currency = noCurrency
		}
		r.Control, _ = compare.Times(l.price.Units, l.quantity)
		all = append(all, r)
	}
	return all
}

// short is how many pieces there were too few. What was available is never negative.
func short(l *soldLine) int64 { return max(l.wanted-max(l.quantity, 0), 0) }

func refusalsOf(n *reading) []compare.Refusal {
	all := make([]compare.Refusal, 0, len(n.lines))
	for i := range n.lines {
		l := &n.lines[i]
		r := compare.Refusal{Currency: l.price.Currency, Wanted: l.wanted, Short: short(l)}
		if r.Currency == "" {
			r.Currency = noCurrency
		}
		r.Control, _ = compare.Times(l.price.Units, l.wanted)
		all = append(all, r)
	}
	return all
}
