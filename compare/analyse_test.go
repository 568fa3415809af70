package compare

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/money"
)

// sale is one line of a test's order; prices and costs are of one piece.
type sale struct {
	product                  string
	quantity                 int64
	control, candidate, cost Units
	currency                 string
	reason                   Reason
	cause                    Cause
	noCost, guest            bool
	customer, segment        string
	day                      int32
	stock                    int64
	stockKnown               bool
	partition                int
}

// shop enters each sale as an order of its own.
func shop(sales ...sale) *Ledger {
	l := NewLedger()
	for i, s := range sales {
		l.Take(s.order(int64(i)))
	}
	return l
}

func (s sale) order(offset int64) *Order {
	currency, customer, cause := s.currency, s.customer, s.cause
	if currency == "" {
		currency = "GBP"
	}
	if customer == "" {
		customer = fmt.Sprintf("customer %d", offset)
	}
	if cause == "" {
		cause = Same
		if s.control != s.candidate {
			cause = Policy
		}
	}
	o := &Order{Event: fmt.Sprintf("shop/Order/%d", offset), Topic: "shop.orders", Partition: s.partition, Offset: offset, Cluster: customer,
		Guest: s.guest, Day: 15_000 + s.day, Size: "size=1 line"}
	if s.segment != "" {
		o.Segments = []string{s.segment}
	}
	n := Line{Line: 1, Product: s.product, Currency: currency, Quantity: s.quantity, Control: s.control, Candidate: s.candidate,
		Paid: s.control * s.quantity, Quoted: s.candidate * s.quantity, Cost: s.cost, CostKnown: !s.noCost,
		Stock: s.stock, StockKnown: s.stockKnown, Reason: s.reason, Cause: cause}
	if s.reason != "" {
		n.Candidate, n.Quoted = 0, 0
	}
	o.Lines = []Line{n}
	return o
}

// pounds are Units.
func pounds(f float64) Units { return Units(math.Round(f * Whole)) }

var facts = Facts{Candidate: Candidate{Name: "rules", Build: "b1", Mode: "in process"}, AsOf: time.Date(2011, 12, 9, 12, 50, 0, 0, time.UTC),
	Position: "1:0/1A2B", Topics: []TopicSpan{{"shop.orders", 0, 0, 100}}, Build: "test",
	Noise: &Noise{Lines: 100, Diff: []money.Amount{}, At: "1:0/1A2B"}, Replay: func(at string) string { return "shadow replay --event " + at }}

func analysed(t interface {
	Helper()
	Fatalf(string, ...any)
}, l *Ledger, f Facts, change func(*Settings)) *Report {
	t.Helper()
	s := Defaults()
	s.Replicates = 200
	if change != nil {
		change(&s)
	}
	r, err := Analyse(l, f, s)
	if err != nil {
		t.Fatalf("analyse: %v", err)
	}
	return r
}

// basket is V3 of the facts: a revenue that does not move, and a margin that is lost at
// any elasticity but 0.
func basket() *Ledger {
	return shop(
		sale{product: "A", quantity: 100, control: pounds(10), candidate: pounds(10.50), cost: pounds(6)},
		sale{product: "B", quantity: 40, control: pounds(25), candidate: pounds(23.75), cost: pounds(18)},
		sale{product: "C", quantity: 5, control: pounds(200), candidate: pounds(200), cost: pounds(150)})
}

func TestBasketThatMovesNoRevenueLosesMargin(t *testing.T) {
	r := analysed(t, basket(), facts, nil)
	m := r.Currencies[0]
	gbp := func(cents int64) money.Amount { return money.Amount{Amount: cents, Scale: 2, Currency: "GBP"} }
	if diff := cmp.Diff(gbp(0), m.Headline.Diff); diff != "" {
		t.Errorf("revenue at fixed demand (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(gbp(300000), m.Headline.Control); diff != "" {
		t.Errorf("revenue (-want +got):\n%s", diff)
	}
	want := map[float64][2]int64{-2.62: {1065, -2092}, -1.76: {335, -1530}, -1: {0, -932}, -0.5: {-63, -487}, 0: {0, 0}}
	got := map[float64][2]int64{}
	for _, p := range m.Demand.Curve {
		if _, ok := want[p.Elasticity]; ok {
			got[p.Elasticity] = [2]int64{p.Revenue.Amount, p.Margin.Amount}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("revenue and margin by elasticity, in pence (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{-12.38061}, m.Demand.Margin.Constant); diff != "" {
		t.Errorf("break-even of margin (-want +got):\n%s", diff)
	}
	if m.Demand.Margin.Holds != "loss" || m.Demand.Revenue.Holds != "" {
		t.Errorf("holds: margin %q, revenue %q; want a loss of margin, and nothing of revenue", m.Demand.Margin.Holds, m.Demand.Revenue.Holds)
	}
}
