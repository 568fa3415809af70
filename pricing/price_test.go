package pricing

import (
	"testing"
	"time"

	"banyan/money"
	"banyan/quote"
)

func gbp(units int64) money.Amount { return money.Amount{Amount: units, Scale: 3, Currency: "GBP"} }

func pieces64(n int64) *int64 { return &n }

// ask is an order of one line on the first of December 2010.
func ask(quantity int64, known quote.Product) *quote.Order {
	return &quote.Order{ID: "shop/Order/7@1:0/400.0", Order: "7", AsOf: "1:0/400", Currency: "GBP", WantTrail: true,
		PlacedAt: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC), CommittedAt: time.Date(2010, 12, 1, 8, 26, 1, 0, time.UTC),
		Lines: []quote.Line{{Line: 1, Product: "1", Quantity: quantity, Known: known}}}
}

func candidate(t testing.TB, rules Rules) *Demand {
	t.Helper()
	d, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func BenchmarkPrice(b *testing.B) {
	d := candidate(b, Default())
	o := ask(12, quote.Product{List: gbp(2550), TierQuantity: 12, Tier: gbp(2100), Cost: gbp(1100), Stock: pieces64(10), Demand: quote.Demand{Days7: 30, Days28: 60}})
	o.WantTrail = false
	for len(o.Lines) < 20 {
		l := o.Lines[0]
		l.Line = int64(len(o.Lines) + 1)
		o.Lines = append(o.Lines, l)
	}
	var a quote.Answer
	b.ReportAllocs()
	lines := 0
	for b.Loop() {
		a = quote.Answer{Lines: a.Lines[:0]}
		if err := d.Price(o, &a); err != nil {
			b.Fatal(err)
		}
		lines += len(a.Lines)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(lines), "ns/line")
}
