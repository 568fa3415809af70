package shadow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"banyan/compare"
	"banyan/event"
	"banyan/internal/randtest"
	"banyan/projections"
	"banyan/projections/projectiontest"
	"banyan/quote"
)

const proposals = "shadow.prices"

// publisher is a candidate that publishes prices.
type publisher struct {
	t    *testing.T
	log  *projectiontest.Log
	seqs []int64
}

func newPublisher(t *testing.T, partitions int) *publisher {
	p := &publisher{t: t, log: projectiontest.NewLog(), seqs: make([]int64, partitions)}
	p.log.CreateTopic(proposals, partitions)
	return p
}

func (p *publisher) record(part int, kind, key string, lsn uint64, data string) event.Record {
	p.seqs[part]++
	pos := event.Position{Generation: 1, LSN: lsn}
	e := event.Event{ID: event.ID{Source: "demand", Aggregate: "Proposal", Key: key, Position: pos}, Type: kind, Version: 1, Topic: proposals,
		Time: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Position: pos, Rules: 1, Writer: 1, Seq: p.seqs[part], Partition: part, Data: []byte(data)}
	return e.Record()
}

func (p *publisher) put(part int, records ...event.Record) {
	p.t.Helper()
	if _, err := p.log.Produce(p.t.Context(), proposals, part, records); err != nil {
		p.t.Fatal(err)
	}
}

// price publishes the price of a product as of a position.
func (p *publisher) price(part int, product string, lsn uint64, amount int64) {
	p.t.Helper()
	p.put(part, p.record(part, PriceProposed, product, lsn, fmt.Sprintf(
		`{"state":{"product":%q,"unit":{"amount":%d,"scale":3,"currency":"GBP"},"tierQuantity":10,"tier":{"amount":%d,"scale":3,"currency":"GBP"},"rule":"r"}}`, product, amount, amount-1)))
}

// reach tells that all partitions have got to a position.
func (p *publisher) reach(lsn uint64) {
	p.t.Helper()
	for i := range p.seqs {
		p.put(i, p.record(i, PricingProgress, "progress", lsn, `{}`))
	}
}

func orderAt(lsn uint64, products ...string) quote.Order {
	o := quote.Order{ID: fmt.Sprint("o", lsn), AsOf: quote.FormatAsOf(1, lsn)}
	for i, p := range products {
		o.Lines = append(o.Lines, quote.Line{Line: int64(i + 1), Product: p, Quantity: 1})
	}
	return o
}

// said is an answer in short: "as of: line=amount", or the reason.
func said(got []Got) []string {
	var all []string
	for _, g := range got {
		if g.Reason != "" {
			all = append(all, string(g.Reason))
			continue
		}
		text := g.Answer.AsOf
		for _, l := range g.Answer.Lines {
			text += fmt.Sprintf(" %d=%d", l.Line, l.Unit.Amount)
		}
		all = append(all, text)
	}
	return all
}

func wants(t *testing.T, s *Stream, orders []quote.Order, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := s.Price(ctx, orders)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, said(got)); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestPublishedPricesAreJoinedAsOfTheOrder(t *testing.T) {
	p := newPublisher(t, 2)
	p.price(0, "a", 0x10, 1000)
	p.price(0, "a", 0x20, 2000)
	p.price(1, "b", 0x15, 5000)
	p.reach(0x40)
	s := &Stream{Log: p.log, Topic: proposals}
	orders := []quote.Order{orderAt(0x10, "a", "b"), orderAt(0x11, "a", "b"), orderAt(0x16, "a", "b"), orderAt(0x20, "a"), orderAt(0x21, "a", "b"), orderAt(0x40, "a", "c")}
	want := []string{"1:0/0", "1:0/10 1=1000", "1:0/15 1=1000 2=5000", "1:0/10 1=1000", "1:0/20 1=2000 2=5000", "1:0/20 1=2000"}
	wants(t, s, orders, want...)
	wants(t, s, orders, want...)           // the batch is done again
	wants(t, s, orders[3:5], want[3:5]...) // narrowed
	wants(t, s, orders[5:], want[5:]...)
	wants(t, s, orders[1:3], want[1:3]...) // from before what was forgotten
	wants(t, &Stream{Log: p.log, Topic: proposals}, orders[2:], want[2:]...)
	many := orderAt(0x30, "a")
	many.Lines[0].Quantity = 10
	wants(t, s, []quote.Order{many}, "1:0/20 1=1999")
	if got, err := s.Price(t.Context(), nil); got != nil || err != nil {
		t.Errorf("no orders: %v, %v", got, err)
	}
	if _, err := s.Price(t.Context(), []quote.Order{{ID: "x", AsOf: "now"}}); err == nil {
		t.Error("an order as of nothing is priced")
	}
}

func TestTheStreamWaitsForProgress(t *testing.T) {
	p := newPublisher(t, 2)
	p.price(0, "a", 0x10, 1000)
	p.reach(0x20)
	s := &Stream{Log: p.log, Topic: proposals}
	done := make(chan []string, 1)
	go func() {
		got, err := s.Price(t.Context(), []quote.Order{orderAt(0x18, "a"), orderAt(0x30, "a")})
		done <- append(said(got), fmt.Sprint(err))
	}()
	eventually(t, "it says what it waits for", func() bool { return strings.Contains(s.Paused(), "1:0/20, the orders are at 1:0/30") })
	p.log.Break(errors.New("the broker is away"))
	p.log.Break(nil)
	p.price(1, "a", 0x28, 3000) // in another partition than before
	p.put(1, p.record(1, PricingProgress, "progress", 0x50, `{}`))
	select {
	case got := <-done:
		t.Fatalf("one partition is not there yet: %v", got)
	default:
	}
	p.put(0, p.record(0, PricingProgress, "progress", 0x30, `{}`))
	if diff := gocmp.Diff([]string{"1:0/10 1=1000", "1:0/28 1=3000", "<nil>"}, <-done); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	if s.Paused() != "" {
		t.Errorf("it still waits: %s", s.Paused())
	}
}

func TestPatienceEnds(t *testing.T) {
	p := newPublisher(t, 1)
	p.price(0, "a", 0x10, 1000)
	p.reach(0x20)
	s := &Stream{Log: p.log, Topic: proposals, Patience: time.Millisecond}
	wants(t, s, []quote.Order{orderAt(0x18, "a"), orderAt(0x20, "a"), orderAt(0x21, "a"), orderAt(0x30, "a")}, "1:0/10 1=1000", "1:0/10 1=1000", "unproven", "unproven")
	p.reach(0x40) // later it is there, and what comes is priced
	wants(t, s, []quote.Order{orderAt(0x31, "a")}, "1:0/10 1=1000")

	s.Patience = 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.Price(ctx, []quote.Order{orderAt(0x90, "a")})
		done <- err
	}()
	eventually(t, "it waits", func() bool { return s.Paused() != "" })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestWhatACandidatePublishesMayBeOdd(t *testing.T) {
	p := newPublisher(t, 1)
	first := p.record(0, PriceProposed, "a", 0x10, `{"state":{"unit":{"amount":1000,"scale":3,"currency":"GBP"}}}`) // its product is the key
	p.put(0, first)
	p.price(0, "a", 0x20, 2000)
	p.price(0, "a", 0x18, 3000)                                               // it steps back, and was made at 0x20 at the earliest
	p.put(0, first)                                                           // a repeat
	p.put(0, event.Record{Key: []byte("a"), Value: []byte("{}")})             // from nobody
	p.put(0, p.record(0, PriceProposed, "a", 0x22, `{"state":{"unit":"x"}}`)) // as nobody reads it
	p.put(0, p.record(0, PriceProposed, "a", 0x23, `{"state":null}`))
	p.put(0, p.record(0, "SomethingElse", "a", 0x24, `[]`))
	p.reach(0x40)
	s := &Stream{Log: p.log, Topic: proposals}
	wants(t, s, []quote.Order{orderAt(0x11, "a"), orderAt(0x19, "a"), orderAt(0x20, "a"), orderAt(0x21, "a"), orderAt(0x40, "a")},
		"1:0/10 1=1000", "1:0/10 1=1000", "1:0/10 1=1000", "1:0/20 1=3000", "1:0/20 1=3000")
	if s.odd != 3 {
		t.Errorf("%d records were odd, want 3", s.odd)
	}
	p.log.DeleteTopic(proposals)
	p.log.CreateTopic(proposals, 1)
	if _, err := s.Price(t.Context(), []quote.Order{orderAt(0x50, "a")}); err == nil || !strings.Contains(err.Error(), "made anew") {
		t.Errorf("the topic was made anew: %v", err)
	}
	if _, err := (&Stream{Log: p.log, Topic: "shadow.nothing"}).Price(t.Context(), []quote.Order{orderAt(1, "a")}); err == nil {
		t.Error("a topic that is not there was read")
	}
}

// Whatever is published, and however orders come in batches, each is joined with the
// last price before it: as looking through all of them says.
func TestTheStreamAgainstLookingThroughAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(randtest.Seed(t), 5))
	for range 30 {
		p := newPublisher(t, 3)
		type made struct {
			product string
			lsn     uint64
			amount  int64
		}
		var all []made
		reached := []uint64{1, 1, 1}
		for i := range 60 {
			part := rng.IntN(3)
			reached[part] += uint64(rng.IntN(6))
			m := made{fmt.Sprint("p", part, rng.IntN(2)), reached[part], int64(1000 + i)}
			p.price(part, m.product, m.lsn, m.amount)
			all = append(all, m)
		}
		end := slices.Max(reached) + 5
		p.reach(end)
		var orders []quote.Order
		var want []string
		lsn := uint64(1)
		for range 50 {
			if lsn += uint64(rng.IntN(5)); lsn > end {
				break
			}
			o := orderAt(lsn, "p00", "p10", "p21")
			latest, text := uint64(0), ""
			for i, l := range o.Lines {
				var best *made
				for k := range all {
					if m := &all[k]; m.product == l.Product && m.lsn < lsn && (best == nil || cmp.Compare(m.lsn, best.lsn) >= 0) {
						best = m
					}
				}
				if best != nil {
					text += fmt.Sprintf(" %d=%d", i+1, best.amount)
					latest = max(latest, best.lsn)
				}
			}
			orders, want = append(orders, o), append(want, quote.FormatAsOf(1, latest)+text)
		}
		s := &Stream{Log: p.log, Topic: proposals}
		for from := 0; from < len(orders); {
			until := from + 1 + rng.IntN(len(orders)-from)
			wants(t, s, orders[from:until], want[from:until]...)
			if rng.IntN(3) > 0 {
				from = until
			}
		}
	}
}

// What the stream answers is what the ledger takes: a price as of before the order
// proves itself.
func TestAStreamInAComparison(t *testing.T) {
	p := newPublisher(t, 1)
	p.price(0, "p", 0x10, 10_500)
	p.reach(0x200)
	s := newCore(named("stream"))
	s.pricer = &Stream{Log: p.log, Topic: proposals}
	e := at(s.reader, 0x100, 0, "shop.orders", "OrderPlaced", "1", twoLines)
	if err := s.take(t.Context(), []*projections.Event{e}); err != nil {
		t.Fatal(err)
	}
	if b := s.ledger.Books["GBP"]; b.Compared.Lines != 1 || b.Candidate != 210_000 || b.Excluded[compare.NoAnswer].Lines != 1 {
		t.Errorf("%+v, %+v", b.Compared, b.Excluded)
	}
}
