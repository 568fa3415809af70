package pricing

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"banyan/money"
	"banyan/quote"
)

func gbp(units int64) money.Amount { return money.Amount{Amount: units, Scale: 3, Currency: "GBP"} }

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

func price(t testing.TB, d *Demand, o *quote.Order) quote.Answer {
	t.Helper()
	var a quote.Answer
	if err := d.Price(o, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// trail writes a price as "2.160 by rule: rule 2.550>2.100 (why); ...".
func trail(p quote.Price) string {
	var steps []string
	for _, s := range p.Trail {
		text := s.Rule
		if s.From != s.To {
			text += " " + s.From.Number() + ">" + s.To.Number()
		}
		if s.Clamp {
			text += "!"
		}
		if s.Why != "" {
			text += " (" + s.Why + ")"
		}
		steps = append(steps, text)
	}
	return p.Unit.Number() + " by " + p.Rule + ": " + strings.Join(steps, "; ")
}

func decimal(t testing.TB, text string) money.Decimal {
	t.Helper()
	d, err := money.ParseNumber(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func day(t testing.TB, text string) Day {
	t.Helper()
	d, err := ParseDay(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTrails(t *testing.T) {
	tier := Rule{Name: "tier", Does: Tier{}}
	pennies := Rule{Name: "pennies", Does: Round{Step: decimal(t, "0.01")}}
	pace := Rule{Name: "pace", Does: Pace{Least: 10, Most: 300,
		Cover: Bands{Below: []Band{{3, 300}, {7, 100}}, Above: []Band{{90, -100}}}, Trend: Bands{Above: []Band{{150, 100}, {300, 250}}, Below: []Band{{50, -100}}}}}
	change := Rule{Name: "change", Does: Change{Most: 200}}
	stock := func(n int64) *int64 { return &n }
	known := func(change func(*quote.Product)) quote.Product {
		k := quote.Product{List: gbp(2550), TierQuantity: 12, Tier: gbp(2100), Cost: gbp(1100), Stock: stock(100), Demand: quote.Demand{Days7: 7, Days28: 28}}
		change(&k)
		return k
	}
	same := func(*quote.Product) {}
	for name, tc := range map[string]struct {
		rules    Rules
		quantity int64
		known    quote.Product
		want     string
	}{
		"no rules":         {nil, 1, known(same), "2.550 by list: list"},
		"below the tier":   {Rules{tier}, 11, known(same), "2.550 by list: list; tier (from 12 pieces on)"},
		"at the tier":      {Rules{tier}, 12, known(same), "2.100 by tier: list; tier 2.550>2.100 (from 12 pieces on)"},
		"no tier known":    {Rules{tier}, 12, known(func(k *quote.Product) { k.TierQuantity, k.Tier = 0, money.Amount{} }), "2.550 by list: list"},
		"tier of no scale": {Rules{tier}, 12, known(func(k *quote.Product) { k.Tier = money.Amount{Amount: 21, Scale: 1, Currency: "GBP"} }), "2.100 by tier: list; tier 2.550>2.100 (from 12 pieces on)"},
		"pace: much stock": {Rules{pace}, 1, known(same),
			"2.525 by pace: list; pace 2.550>2.525 (stock for 100 days: -100 bp, last week at 100 % of the month's pace: +0 bp)"},
		"pace: too thin": {Rules{pace}, 1, known(func(k *quote.Product) { k.Demand.Days28 = 9 }), "2.550 by list: list; pace (too little demand: 9 pieces in 28 days)"},
		"pace: the lowest band below": {Rules{pace}, 1, known(func(k *quote.Product) { k.Stock = stock(2) }),
			"2.627 by pace: list; pace 2.550>2.627 (stock for 2 days: +300 bp, last week at 100 % of the month's pace: +0 bp)"},
		"pace: the bound is outside": {Rules{pace}, 1, known(func(k *quote.Product) { k.Stock = stock(3) }),
			"2.576 by pace: list; pace 2.550>2.576 (stock for 3 days: +100 bp, last week at 100 % of the month's pace: +0 bp)"},
		"pace: both": {Rules{pace}, 1, known(func(k *quote.Product) { k.Stock, k.Demand.Days7 = stock(2), 14 }),
			"2.627 by pace: list; pace 2.550>2.627 (stock for 2 days: +300 bp, last week at 200 % of the month's pace: +100 bp; +300 bp at most)"},
		"pace: the highest band above": {Rules{pace}, 1, known(func(k *quote.Product) { k.Stock, k.Demand.Days7 = nil, 28 }),
			"2.614 by pace: list; pace 2.550>2.614 (stock unknown, last week at 400 % of the month's pace: +250 bp)"},
		"pace: sold out": {Rules{pace}, 1, known(func(k *quote.Product) { k.Stock, k.Demand.Days7 = stock(-5), 0 }),
			"2.601 by pace: list; pace 2.550>2.601 (stock for 0 days: +300 bp, last week at 0 % of the month's pace: -100 bp)"},
		"rounding an unmoved price": {Rules{pennies}, 1, known(func(k *quote.Product) { k.List = gbp(2555) }), "2.555 by list: list"},
		"rounding a moved one": {Rules{pace, pennies}, 1, known(func(k *quote.Product) { k.Stock = stock(2) }),
			"2.630 by pace: list; pace 2.550>2.627 (stock for 2 days: +300 bp, last week at 100 % of the month's pace: +0 bp); pennies 2.627>2.630"},
		"rounding takes a move back": {Rules{pace, pennies}, 1, known(func(k *quote.Product) { k.List, k.Stock = gbp(40), stock(5) }),
			"0.040 by list: list; pace (stock for 5 days: +100 bp, last week at 100 % of the month's pace: +0 bp); pennies"},
		"rounding never to nothing": {Rules{pace, pennies}, 1, known(func(k *quote.Product) { k.List, k.Stock = gbp(4), stock(2) }),
			"0.004 by list: list; pace (stock for 2 days: +300 bp, last week at 100 % of the month's pace: +0 bp); pennies"},
		"charm": {Rules{pace, {Name: "charm", Does: Round{Step: decimal(t, "1.00"), Ending: decimal(t, "0.99")}}}, 1, known(same),
			"2.990 by pace: list; pace 2.550>2.525 (stock for 100 days: -100 bp, last week at 100 % of the month's pace: +0 bp); charm 2.525>2.990"},
		"margin": {Rules{{Name: "margin", Does: Margin{Least: 1000}}}, 1, known(func(k *quote.Product) { k.Cost = gbp(2400) }),
			"2.640 by margin: list; margin 2.550>2.640! (2.640 at least)"},
		"margin rounds up": {Rules{{Name: "margin", Does: Margin{Least: 1}}}, 1, known(func(k *quote.Product) { k.Cost = gbp(2550) }),
			"2.551 by margin: list; margin 2.550>2.551! (2.551 at least)"},
		"margin of a finer cost": {Rules{{Name: "margin", Does: Margin{Least: 0}}}, 1, known(func(k *quote.Product) { k.Cost = money.Amount{Amount: 25501, Scale: 4, Currency: "GBP"} }),
			"2.551 by margin: list; margin 2.550>2.551! (2.551 at least)"},
		"margin of a coarser cost": {Rules{{Name: "margin", Does: Margin{Least: 0}}}, 1, known(func(k *quote.Product) { k.Cost = money.Amount{Amount: 3, Scale: 0, Currency: "GBP"} }),
			"3.000 by margin: list; margin 2.550>3.000! (3.000 at least)"},
		"margin without a cost": {Rules{{Name: "margin", Does: Margin{Least: 0}}}, 1, known(func(k *quote.Product) { k.Cost = money.Amount{} }), "2.550 by list: list"},
		"margin in another currency": {Rules{{Name: "margin", Does: Margin{Least: 0}}}, 1, known(func(k *quote.Product) { k.Cost.Currency = "EUR" }),
			"2.550 by list: list"},
		"floor": {Rules{{Name: "bounds", Does: Bounds{Currency: "GBP", Floor: decimal(t, "3"), Ceiling: decimal(t, "4")}}}, 1, known(same),
			"3.000 by bounds: list; bounds 2.550>3.000! (3.000 to 4.000)"},
		"ceiling": {Rules{{Name: "bounds", Does: Bounds{Currency: "GBP", Ceiling: decimal(t, "2.0005")}}}, 1, known(same),
			"2.000 by bounds: list; bounds 2.550>2.000! (2.000 at most)"},
		"bounds of another currency": {Rules{{Name: "bounds", Does: Bounds{Currency: "EUR", Ceiling: decimal(t, "2")}}}, 1, known(same), "2.550 by list: list"},
		"change holds, in pennies": {Rules{pace, pennies, change}, 1, known(func(k *quote.Product) { k.Stock = stock(2) }),
			"2.600 by change: list; pace 2.550>2.627 (stock for 2 days: +300 bp, last week at 100 % of the month's pace: +0 bp); pennies 2.627>2.630; change 2.630>2.600! (2.500 to 2.600)"},
		"change is by the tier price": {Rules{tier, change}, 12, known(same), "2.100 by tier: list; tier 2.550>2.100 (from 12 pieces on); change (2.058 to 2.142)"},
		"of two clamps the later wins": {Rules{{Name: "margin", Does: Margin{Least: 1000}}, change}, 1, known(func(k *quote.Product) { k.Cost = gbp(2550) }),
			"2.601 by change: list; margin 2.550>2.805! (2.805 at least); change 2.805>2.601! (2.499 to 2.601)"},
		"free": {Default(), 1, known(func(k *quote.Product) { k.List, k.Cost = gbp(0), money.Amount{} }),
			"0.000 by largest_change: list; quantity_tier (from 12 pieces on); recent_demand (stock for 100 days: -100 bp, last week at 100 % of the month's pace: +0 bp); whole_pennies; absolute_bounds 0.000>0.010! (0.010 to 10000.000); largest_change 0.010>0.000! (0.000 at most)"},
	} {
		t.Run(name, func(t *testing.T) {
			a := price(t, candidate(t, tc.rules), ask(tc.quantity, tc.known))
			if len(a.Lines) != 1 || a.ID != "shop/Order/7@1:0/400.0" || a.AsOf != "1:0/400" || a.Declined != "" {
				t.Fatalf("it answers %+v", a)
			}
			if diff := cmp.Diff(tc.want, trail(a.Lines[0])); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestLinesWithoutAPrice has lines that there is nothing to begin with for, beside
// one that there is.
func TestLinesWithoutAPrice(t *testing.T) {
	o := ask(1, quote.Product{List: gbp(2550)})
	for _, k := range []quote.Product{
		{},
		{List: money.Amount{Amount: 2550, Scale: 3, Currency: "EUR"}},
		{List: gbp(-1)},
		{List: money.Amount{Amount: 1, Scale: 19, Currency: "GBP"}},
		{List: money.Amount{Amount: 1, Scale: -1, Currency: "GBP"}},
		{List: gbp(2550), TierQuantity: 1, Tier: money.Amount{Amount: 21005, Scale: 4, Currency: "GBP"}},
		{List: gbp(2550), TierQuantity: 1, Tier: money.Amount{Amount: 2100, Scale: 3, Currency: "EUR"}},
		{List: gbp(2550), TierQuantity: 1, Tier: gbp(-1)},
		{List: gbp(math.MaxInt64)},
		{List: gbp(1), Cost: gbp(math.MaxInt64)},
		{List: gbp(1), Cost: money.Amount{Amount: math.MaxInt64, Scale: 0, Currency: "GBP"}},
	} {
		o.Lines = append(o.Lines, quote.Line{Line: int64(len(o.Lines) + 1), Quantity: 1, Known: k})
	}
	a := price(t, candidate(t, Default()), o)
	if len(a.Lines) != 1 || a.Lines[0].Line != 1 || a.Declined != "" {
		t.Errorf("it answers %+v", a)
	}
}

// TestDates has rules that hold on some days.
func TestDates(t *testing.T) {
	d := candidate(t, Rules{
		{Name: "advent", Since: day(t, "2010-12-01"), Until: day(t, "2010-12-24"), Does: Bounds{Currency: "GBP", Floor: decimal(t, "3")}},
		{Name: "later", Since: day(t, "2011-01-01"), Does: Bounds{Currency: "GBP", Floor: decimal(t, "4")}},
		{Name: "earlier", Until: day(t, "1969-12-30"), Does: Bounds{Currency: "GBP", Floor: decimal(t, "1")}},
	})
	for _, tc := range []struct{ at, want string }{
		{"1969-12-30T23:59:59Z", "2.550 by list: list; earlier (1.000 to 9223372036854775.807)"},
		{"1969-12-31T00:00:00Z", "2.550 by list: list"},
		{"2010-11-30T23:59:59.999Z", "2.550 by list: list"},
		{"2010-12-01T00:00:00Z", "3.000 by advent: list; advent 2.550>3.000! (3.000 at least)"},
		{"2010-12-01T00:30:00+01:00", "2.550 by list: list"},
		{"2010-12-24T23:59:59Z", "3.000 by advent: list; advent 2.550>3.000! (3.000 at least)"},
		{"2010-12-25T00:00:00Z", "2.550 by list: list"},
		{"2011-01-01T00:00:00Z", "4.000 by later: list; later 2.550>4.000! (4.000 at least)"},
	} {
		o := ask(1, quote.Product{List: gbp(2550)})
		var err error
		if o.PlacedAt, err = time.Parse(time.RFC3339, tc.at); err != nil {
			t.Fatal(err)
		}
		got := trail(price(t, d, o).Lines[0])
		if want := strings.Replace(tc.want, "(1.000 to 9223372036854775.807)", "(1.000 at least)", 1); got != want {
			t.Errorf("%s: %s, want %s", tc.at, got, want)
		}
	}
	if a := price(t, d, ask(1, quote.Product{List: gbp(2550)})); a.Lines[0].Trail[1].Since != "2010-12-01" {
		t.Errorf("the trail does not tell since when: %+v", a.Lines[0].Trail)
	}
}

// anyProduct is a product that a shop may have, or not.
func anyProduct(t *rapid.T) quote.Product {
	scale := rapid.IntRange(0, 6).Draw(t, "scale")
	amount := func(name string) money.Amount {
		return money.Amount{Amount: rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(0, 1_000_000), rapid.Int64Range(0, math.MaxInt64)).Draw(t, name), Scale: scale, Currency: "GBP"}
	}
	number := func(name string) int64 {
		return rapid.OneOf(rapid.Int64Range(0, 50), rapid.Int64Range(math.MinInt64, math.MaxInt64)).Draw(t, name)
	}
	k := quote.Product{List: amount("list"), Demand: quote.Demand{Days7: number("days7"), Days28: number("days28")}}
	if rapid.Bool().Draw(t, "has a tier") {
		k.TierQuantity, k.Tier = rapid.Int64Range(1, 24).Draw(t, "tier quantity"), amount("tier")
	}
	if rapid.Bool().Draw(t, "has a cost") {
		k.Cost = amount("cost")
		k.Cost.Scale = rapid.IntRange(0, 6).Draw(t, "scale of the cost")
	}
	if rapid.Bool().Draw(t, "has stock") {
		n := number("stock")
		k.Stock = &n
	}
	return k
}

// TestPricesHoldWhatTheRulesPromise looks at whatever the default rules make of any
// product.
func TestPricesHoldWhatTheRulesPromise(t *testing.T) {
	d, again := candidate(t, Default()), candidate(t, Default())
	rapid.Check(t, func(t *rapid.T) {
		k := anyProduct(t)
		quantity := rapid.Int64Range(1, 30).Draw(t, "quantity")
		o := ask(quantity, k)
		a, b := quote.Answer{}, quote.Answer{}
		if err := d.Price(o, &a); err != nil {
			t.Fatal(err)
		}
		o.WantTrail = false
		if err := again.Price(o, &b); err != nil {
			t.Fatal(err)
		}
		if len(a.Lines) == 0 {
			if k.List.Amount < math.MaxInt64/2 && k.Tier.Amount < math.MaxInt64/2 && k.Cost.Amount < math.MaxInt64/10_000_000 {
				t.Fatalf("there is no price for %+v", k)
			}
			return
		}
		p := a.Lines[0]
		if b.Lines[0].Unit != p.Unit || b.Lines[0].Rule != p.Rule || b.Lines[0].Trail != nil {
			t.Fatalf("with a trail %+v, without %+v", p, b.Lines[0])
		}
		ref := k.List
		if k.TierQuantity > 0 && quantity >= k.TierQuantity {
			ref = k.Tier
		}
		if p.Unit.Scale != k.List.Scale || p.Unit.Currency != "GBP" || p.Unit.Amount < 0 {
			t.Fatalf("the price is %v", p.Unit)
		}
		// Within 8 % of the list: 10000*|p - ref| <= 800*ref.
		moved := p.Unit.Decimal().Sub(ref.Decimal())
		if moved.Sign() < 0 {
			moved = moved.Neg()
		}
		if moved.Mul(money.NewDecimal(10_000, 0)).Cmp(ref.Decimal().Mul(money.NewDecimal(800, 0))) > 0 {
			t.Fatalf("from %v to %v is more than 8 %%", ref, p.Unit)
		}
		checkTrail(t, k, p)
	})
}

// checkTrail goes along a trail: each step begins where the one before ended.
func checkTrail(t *rapid.T, k quote.Product, p quote.Price) {
	at := k.List
	rule := ListRule
	for _, s := range p.Trail {
		if s.From != at || s.Clamp && s.From == s.To {
			t.Fatalf("a step from %v to %v after %v", s.From, s.To, at)
		}
		at = s.To
		if s.From != s.To && s.Rule != "whole_pennies" {
			rule = s.Rule
		}
		if s.Rule == "margin_floor" && at.Decimal().Cmp(k.Cost.Decimal().Mul(money.NewDecimal(105, 2))) < 0 {
			t.Fatalf("%v is less than 5 %% above the cost %v", at, k.Cost)
		}
	}
	if at != p.Unit || rule != p.Rule && p.Rule != "whole_pennies" {
		t.Fatalf("the trail ends at %v by %s, the price is %v by %s", at, rule, p.Unit, p.Rule)
	}
}

// TestRoundingIsThatOfMoney holds our integers against money's decimals.
func TestRoundingIsThatOfMoney(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Int64Range(0, 20_000), rapid.Int64Range(0, math.MaxInt64)).Draw(t, "n")
		points := rapid.Int64Range(0, basis+mostMargin).Draw(t, "points")
		exact := money.NewDecimal(n, 0).Mul(money.NewDecimal(points, 4))
		want, fits := int64(-1), false
		if a, err := exact.Round(0).Amount(0, ""); err == nil {
			want, fits = a.Amount, true
		}
		if got, ok := scaled(n, points); ok != fits || got != want {
			t.Fatalf("%d * %d bp is %d, want %d", n, points, got, want)
		}
		for _, more := range []int64{0, basis - 1} {
			got := share(n, points, more)
			if got < 0 {
				continue
			}
			diff := money.NewDecimal(got, 0).Sub(exact)
			if more == 0 {
				diff = diff.Neg()
			}
			if diff.Sign() < 0 || diff.Cmp(money.NewDecimal(1, 0)) >= 0 {
				t.Fatalf("the bound of %d * %d bp with %d more is %d", n, points, more, got)
			}
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Int64Range(-200, 200), rapid.Int64Range(-math.MaxInt64/4, math.MaxInt64/4)).Draw(t, "n")
		scale := rapid.IntRange(0, 6).Draw(t, "scale")
		step := int64(math.Pow10(scale))
		want, _, _ := money.NewDecimal(n, scale).Round(0).Int64()
		if got := nearest(n, step); got != want*step {
			t.Fatalf("the multiple of %d nearest to %d is %d, want %d", step, n, got, want*step)
		}
	})
}

func TestNumbersAreWrittenAsMoneyDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := money.Amount{Amount: rapid.OneOf(rapid.Int64Range(0, 2000), rapid.Int64Range(0, math.MaxInt64)).Draw(t, "units"), Scale: rapid.IntRange(0, money.MaxScale).Draw(t, "scale")}
		w := work{scale: a.Scale}
		if got := string(w.appendNumber(nil, a.Amount)); got != a.Number() {
			t.Fatalf("%s is written as %s", a.Number(), got)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	d, o, a := candidate(t, Default()), busyOrder(), quote.Answer{}
	n := testing.AllocsPerRun(100, func() {
		a = quote.Answer{Lines: a.Lines[:0]}
		if err := d.Price(o, &a); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("an order allocates %v times", n)
	}
}

// busyOrder has twenty lines that every rule has something to do with.
func busyOrder() *quote.Order {
	stock := int64(10)
	o := ask(12, quote.Product{List: gbp(2550), TierQuantity: 12, Tier: gbp(2100), Cost: gbp(1100), Stock: &stock, Demand: quote.Demand{Days7: 30, Days28: 60}})
	o.WantTrail = false
	for len(o.Lines) < 20 {
		l := o.Lines[0]
		l.Line = int64(len(o.Lines) + 1)
		o.Lines = append(o.Lines, l)
	}
	return o
}

func BenchmarkPrice(b *testing.B) {
	for _, trail := range []bool{false, true} {
		b.Run(fmt.Sprintf("trail=%v", trail), func(b *testing.B) {
			d, o, a := candidate(b, Default()), busyOrder(), quote.Answer{}
			o.WantTrail = trail
			b.ReportAllocs()
			for b.Loop() {
				a = quote.Answer{Lines: a.Lines[:0]}
				if err := d.Price(o, &a); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20, "ns/line")
		})
	}
}
