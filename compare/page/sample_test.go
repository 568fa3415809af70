package page

import (
	"fmt"
	"math"
	"time"

	"banyan/compare"
	"banyan/money"
)

// pounds is an amount in the scale of a ledger, of pence.
func pounds(pence int64) money.Amount { return in("GBP", pence) }

func in(currency string, minor int64) money.Amount {
	return money.Amount{Amount: minor * 100, Scale: compare.Scale, Currency: currency}
}

// sample is a report as a shop in Britain might get it: two currencies, a guardrail
// that is broken, demand that was refused, names that nobody should trust.
func sample() *compare.Report {
	s := compare.Defaults()
	return &compare.Report{
		Schema:    "banyan/shadow-report/1",
		Candidate: compare.Candidate{Name: "charm-prices", Build: "v0.4.0-12-g3f9c1d2", Mode: "request"},
		AsOf:      time.Date(2011, 12, 9, 12, 50, 0, 0, time.UTC),
		Window:    compare.Window{FirstDay: "2011-11-01", LastDay: "2011-12-09", Days: 39, OpenDays: 34, Orders: 4_012, Compared: 3_954, Lines: 91_230, Customers: 1_711, Guests: 388, Products: 2_604},
		Verdict: compare.Verdict{
			Rung:     compare.Review,
			Sentence: "charm-prices would have taken 7,421.30 GBP (+1.05 %) more on the same orders, but that turns into a loss of revenue at elasticities that are plausible, and one guardrail is broken.",
			Why:      []string{"One guardrail of six is broken: largest rise of a single price.", "The sign of the difference in revenue does not hold over the plausible band of elasticities.", "Margin gains over the whole band."},
			Changes:  []string{"A candidate that raises no price by more than 15 %.", "A live test that measures how demand answers; no further shadow data can."},
		},
		Assumptions: []string{
			"Demand is taken as it was: the same customers order the same pieces at the other prices.",
			"Control is the price in the order; what was paid later, and vouchers outside of the order, are not seen.",
			"Gross amounts as placed; returns are on a line of their own.",
			"Unit costs are those in force on the day of the order, known for 92.4 % of revenue.",
			"A price that the candidate owes is taken to move by 10 % at most.",
		},
		Reconciliation: sampleBooks(),
		Currencies:     []compare.Money{samplePounds(), sampleEuros()},
		Guardrails: []compare.Guardrail{
			{Name: "missing prices", Limit: "at most 1 % of lines", Value: "0.6 %", OK: true},
			{Name: "largest rise of a single price", Limit: "at most 15 %", Value: "22.4 %", Detail: "Product 22423, on 14 lines; rule charm-rounding"},
			{Name: "customers who pay over 5 % more", Limit: "at most 25 %", Value: "3.1 %", OK: true},
			{Name: "lines below cost", Limit: "0 beyond the control's", Value: "0", OK: true},
			{Name: "currency mismatch", Limit: "0 lines", Value: "0", OK: true},
			{Name: "margin of revenue", Limit: "at least 30 %", Value: "41.2 %", OK: true},
		},
		Operations: &compare.Operations{
			Asked: 4_012, Answered: 3_988,
			Errors: []compare.EventRow{{What: "timeout", Events: 17}, {What: "error", Events: 5}, {What: "unparsable", Events: 2}},
			P50:    2.4, P95: 8.1, P99: 41.7, Breaker: "closed", Openings: 1, Paused: 5.2, Sampled: 100,
			Notes: []string{"The breaker opened once, on 2011-11-17, for 5.2 s; nothing was skipped."},
		},
		Noise: &compare.Noise{Lines: 91_230, Diff: []money.Amount{pounds(0), in("EUR", 0)}, At: "1:0/1A2B3C8", RepeatLines: 2_000},
		Inputs: compare.Inputs{
			Digest:   "sha256:9f2b6a51c0de4c7f8a3e5d1b0f6a7c88e1d2c3b4a5968778695a4b3c2d1e0f12",
			Topics:   []compare.TopicSpan{{Topic: "shop.orders", Partition: 0, From: 0, Until: 2_010}, {Topic: "shop.orders", Partition: 1, From: 0, Until: 2_002}, {Topic: "shop.prices", Partition: 0, From: 0, Until: 5_911}},
			Position: "1:0/1A2B3C8", Seed: 1, Build: "v0.5.0", Settings: s,
		},
	}
}

func sampleBooks() compare.Reconciliation {
	return compare.Reconciliation{
		OK: true,
		Events: []compare.EventRow{
			{What: "compared", Events: 3_954}, {What: "timeout", Events: 17}, {What: "error", Events: 5}, {What: "unparsable", Events: 2},
			{What: "no-actual-price", Events: 34}, {What: "consumed", Events: 4_012},
		},
		Currencies: []compare.CurrencyRows{
			{Currency: "GBP", Rows: []compare.MoneyRow{
				{What: "compared", Lines: 88_310, Control: pounds(70_679_012)}, {What: "timeout", Lines: 402, Control: pounds(311_800)},
				{What: "error", Lines: 96, Control: pounds(61_234)}, {What: "unparsable", Lines: 31, Control: pounds(20_007)},
				{What: "no-actual-price", Lines: 34, Control: pounds(0)}, {What: "consumed", Lines: 88_873, Control: pounds(71_072_053)},
			}},
			{Currency: "EUR", Rows: []compare.MoneyRow{
				{What: "compared", Lines: 2_920, Control: in("EUR", 1_944_010)}, {What: "consumed", Lines: 2_920, Control: in("EUR", 1_944_010)},
			}},
		},
		Projection: compare.ProjectionCheck{State: "equal", Detail: "orders-by-partition, at the same offsets", Rows: []compare.Versus{
			{Currency: "GBP", Ours: compare.Count{Lines: 88_873, Control: pounds(71_072_053)}, Theirs: compare.Count{Lines: 88_873, Control: pounds(71_072_053)}},
			{Currency: "EUR", Ours: compare.Count{Lines: 2_920, Control: in("EUR", 1_944_010)}, Theirs: compare.Count{Lines: 2_920, Control: in("EUR", 1_944_010)}},
		}},
	}
}

// sampleBasket is a basket of which a part rises by 6 % and a part falls by 3 %: what
// revenue and margin change by at an elasticity, in pounds.
func sampleBasket(e float64) (revenue, margin float64) {
	const up, down = 17_999.00 / .06, 10_577.70 / .03
	revenue = up*(math.Pow(1.06, 1+e)-1) + down*(math.Pow(.97, 1+e)-1)
	margin = .924654 * (up*((1.06-.59)*math.Pow(1.06, e)-.41) + down*((.97-.52)*math.Pow(.97, e)-.48))
	return revenue, margin
}

// sampleRoot is where sampleBasket's margin changes its sign.
func sampleRoot() float64 {
	low, high := -6.0, -.1
	for range 60 {
		middle := (low + high) / 2
		if _, m := sampleBasket(middle); m < 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return math.Round(low*100) / 100
}

// sampleCurve is sampleBasket's; a little lower where stock ends.
func sampleCurve(currency string, scale float64) []compare.CurvePoint {
	amount := func(f float64) money.Amount { return in(currency, int64(math.Round(f*scale))) }
	var out []compare.CurvePoint
	for i := -50; i <= 0; i++ {
		e := float64(i) / 10
		revenue, margin := sampleBasket(e)
		r0, m0 := sampleBasket(0)
		p := compare.CurvePoint{
			Elasticity: e, Revenue: amount(revenue), Margin: amount(margin),
			RevenueLinear: amount(r0 + 1.12*e*(r0-sampleDrop(-1))), MarginLinear: amount(m0 + 2_600*e),
		}
		for _, at := range []int{0, -5, -10, -40} {
			if i == at {
				r, m := amount(revenue+200*e), amount(margin+90*e)
				p.RevenueCapped, p.MarginCapped = &r, &m
			}
		}
		out = append(out, p)
	}
	return out
}

func sampleDrop(e float64) float64 { r, _ := sampleBasket(e); return r }

// sampleBand is what the basket does at what others found.
func sampleBand(currency string, scale float64) []compare.BandPoint {
	var out []compare.BandPoint
	for _, b := range []compare.BandPoint{{Elasticity: -1.76, Source: "Tellis 1988: mean of 367 estimates"}, {Elasticity: -2.62, Source: "Bijmolt, van Heerde and Pieters 2005: mean of 1,851"}} {
		r, m := sampleBasket(b.Elasticity)
		b.Revenue, b.Margin = in(currency, int64(math.Round(r*scale))), in(currency, int64(math.Round(m*scale)))
		out = append(out, b)
	}
	return out
}

func samplePounds() compare.Money {
	interval := func(method string, low, at, high int64, note string) compare.Interval {
		return compare.Interval{Method: method, Estimate: pounds(at), Low: pounds(low), High: pounds(high), Note: note}
	}
	week := interval("per week", 71_000, 152_000, 236_000, "with the weekly pattern of five full weeks")
	return compare.Money{
		Currency: "GBP",
		Headline: compare.Headline{
			Lines: 88_310, Pieces: 512_040, Control: pounds(70_679_012), Candidate: pounds(71_421_142), Diff: pounds(742_130), Percent: 1.05,
			Margin: compare.Margin{Share: 92.4, Control: pounds(28_012_800), Candidate: pounds(28_699_011), Diff: pounds(686_211)},
			Rise:   compare.ChangeView{Lines: 31_020, Control: pounds(30_112_300), Diff: pounds(1_799_900)},
			Fall:   compare.ChangeView{Lines: 29_871, Control: pounds(35_000_010), Diff: pounds(-1_057_770)},
			Same:   27_419, Arithmetic: money.Amount{Amount: 41_275, Scale: 4, Currency: "GBP"},
		},
		Bounds: compare.Bounds{Missing: 529, Control: pounds(393_041), Cap: 10, Low: pounds(702_826), High: pounds(781_434),
			By: []compare.MissingView{{Segment: "size=100 lines and more", Lines: 402, Share: 4.1}, {Segment: "country=Norway", Lines: 40, Share: 3.2}}},
		Returns: compare.ReturnsView{
			Linked:   compare.ReturnedView{Lines: 812, Pieces: 3_001, Control: pounds(-1_205_100), Low: pounds(-31_000), High: pounds(12_400), Unbounded: pounds(-4_500)},
			Unlinked: compare.ReturnedView{Lines: 97, Pieces: 412, Control: pounds(-240_020), Low: pounds(-9_100), High: pounds(4_800), Unbounded: pounds(0)},
		},
		Rejected: compare.RejectedView{Orders: 23, Lines: 61, Wanted: 2_200, Short: 940, Control: pounds(310_050)},
		Demand: compare.DemandView{
			Curve: sampleCurve("GBP", 100), BandLow: -2.62, BandHigh: -1.76, CappedLines: 1_204,
			Band:    sampleBand("GBP", 100),
			Revenue: compare.BreakEven{Constant: []float64{-1}, Linear: []float64{-.9521}, Sentence: "Revenue breaks even at elasticity −1.00: it gains where demand answers less, and loses where it answers more."},
			Margin:  compare.BreakEven{Constant: []float64{sampleRoot()}, Linear: []float64{-3.02}, Sentence: fmt.Sprintf("Margin breaks even at %s, outside of what is plausible: it gains over the whole band.", decimal(sampleRoot(), 2)), Holds: "gain"},
		},
		Projection: compare.ProjectionView{
			Clusters: 2_099, PerCluster: money.Amount{Amount: 35_356, Scale: 4, Currency: "GBP"},
			Intervals: []compare.Interval{
				interval("BCa bootstrap by customer", 391_000, 742_130, 1_120_000, "2,000 replicates"),
				interval("t, by customer and product", 301_000, 742_130, 1_183_000, "two ways"),
				interval("moving blocks of days", 340_000, 742_130, 1_101_000, "weekly seasonality"),
				{Method: "by region", Estimate: pounds(742_130), Note: "too few regions for bounds"},
			},
			Sequence: interval("anytime-valid sequence", 118_000, 742_130, 1_366_000, "may be looked at as often as one likes"),
			PerWeek:  &week, Winsorized: &compare.Winsorized{Percentile: 99.9, Low: pounds(-41_000), High: pounds(66_000), Total: pounds(701_400)},
			Skewness: 3.1, Needed: 3_412, TopShare: 21.7,
			Thin: []string{"A skewness of 3.1 asks for 3,412 customers; there are 2,099."},
		},
		OwnShop: []compare.OwnElasticity{
			{Method: "lines, all customers", Estimate: -.71, Error: .05, Products: 1_902, Rows: 80_001, Trap: "Quantity tiers: who buys more pays less, which is no answer to a price."},
			{Method: "lines, registered customers", Estimate: -.52, Error: .06, Products: 1_711, Rows: 61_100, Trap: "The same, with fewer resellers."},
			{Method: "months, within products", Estimate: -1.34, Error: .22, Products: 902, Rows: 4_120, Trap: "Prices were changed when demand was expected to move."},
		},
		Segments: compare.SegmentsView{Looked: 9, Rows: []compare.SegmentView{
			{Segment: "country=United Kingdom", Clusters: 1_980, Control: pounds(61_000_000), Diff: pounds(690_000), Percent: 1.13, P: .0002, Holm: .0018, BH: .0018},
			{Segment: "country=France", Clusters: 41, Control: pounds(2_110_000), Diff: pounds(-41_200), Percent: -1.95, P: .013, Holm: .078, BH: .039},
			{Segment: "country=Norway", Clusters: 4, Control: pounds(300_000), Diff: pounds(2_200), Percent: .73, Thin: true},
			{Segment: "customer=guest", Clusters: 388, Control: pounds(9_000_000), Diff: pounds(91_000), Percent: 1.01, P: .21, Holm: .42, BH: .27},
		}},
		Gainers: sampleProducts("GBP", 1), Losers: sampleProducts("GBP", -1),
		Moves: sampleMoves("GBP"), Customers: compare.CustomersView{Rise: 46.2, Fall: 38.7, Highest: 22.4, Worst: 9.8},
		Causes: []compare.CauseView{
			{Cause: compare.Policy, Lines: 58_120, Control: pounds(60_000_000), Diff: pounds(738_002), Means: "the candidate means it"},
			{Cause: compare.Rounding, Lines: 2_711, Control: pounds(5_012_310), Diff: money.Amount{Amount: 29_275, Scale: 4, Currency: "GBP"}, Means: "equal once rounded to the minor unit, or rounded by piece instead of by line"},
			{Cause: compare.StalePrice, Lines: 60, Control: pounds(100_000), Diff: pounds(120), Means: "an older list price"},
		},
		Days: sampleDays("GBP", 34), Examples: sampleExamples(),
	}
}

func sampleEuros() compare.Money {
	m := samplePounds()
	m.Currency = "EUR"
	euros := func(cents int64) money.Amount { return in("EUR", cents) }
	m.Headline = compare.Headline{Lines: 2_920, Pieces: 15_100, Control: euros(1_944_010), Candidate: euros(1_931_900), Diff: euros(-12_110), Percent: -.62,
		Rise: compare.ChangeView{Lines: 700, Control: euros(500_000), Diff: euros(9_000)}, Fall: compare.ChangeView{Lines: 1_020, Control: euros(900_000), Diff: euros(-21_110)}, Same: 1_200, Arithmetic: euros(0), Margin: compare.Margin{Control: euros(0), Candidate: euros(0), Diff: euros(0)}}
	m.Bounds = compare.Bounds{Cap: 10, Control: euros(0), Low: euros(-12_110), High: euros(-12_110)}
	m.Returns, m.Rejected = compare.ReturnsView{}, compare.RejectedView{}
	for _, r := range []*compare.ReturnedView{&m.Returns.Linked, &m.Returns.Unlinked} {
		r.Control, r.Low, r.High, r.Unbounded = euros(0), euros(0), euros(0), euros(0)
	}
	m.Rejected.Control = euros(0)
	m.Demand = compare.DemandView{Curve: sampleCurve("EUR", -1.6317), BandLow: -2.62, BandHigh: -1.76,
		Band:    sampleBand("EUR", -1.6317),
		Revenue: compare.BreakEven{Constant: []float64{-1}, Sentence: "Revenue breaks even at elasticity −1.00.", Holds: "gain"},
		Margin:  compare.BreakEven{Constant: []float64{sampleRoot()}, Sentence: "Margin loses over the whole of what is plausible.", Holds: "loss"}}
	m.Projection = compare.ProjectionView{Clusters: 44, PerCluster: euros(-275), Sequence: compare.Interval{Method: "anytime-valid sequence", Estimate: euros(-12_110), Low: euros(-61_000), High: euros(36_800)},
		Skewness: -1.2, Needed: 512, TopShare: 48, Thin: []string{"44 customers; at least 100 are needed."}}
	m.OwnShop, m.Segments = nil, compare.SegmentsView{}
	m.Gainers, m.Losers = sampleProducts("EUR", 1)[:2], sampleProducts("EUR", -1)[:3]
	m.Moves, m.Days, m.Examples = sampleMoves("EUR"), sampleDays("EUR", 9), nil
	m.Causes = []compare.CauseView{{Cause: compare.Policy, Lines: 1_720, Control: euros(1_400_000), Diff: euros(-12_110), Means: "the candidate means it"}}
	return m
}

// nasty are names as somebody might give to a product to see what happens.
var nasty = []string{
	"REGENCY CAKESTAND 3 TIER", "</script><script>alert(1)</script>", `"><img src=x onerror="alert(2)">`, "RTL \u202egnp.exe\u202c mark",
	"nul \x00 and \x1b[31mcolour", "a | pipe and `code` and [a link](javascript:alert(3))", "=HYPERLINK(\"http://x\")", "WHITE HANGING HEART T-LIGHT HOLDER",
}

func sampleProducts(currency string, sign int64) []compare.ProductView {
	var out []compare.ProductView
	for i, name := range nasty {
		diff := sign * int64(90_000/(i+1))
		out = append(out, compare.ProductView{Product: fmt.Sprintf("%d", 22_400+i), Code: fmt.Sprintf("%d", 22_400+i), Description: name,
			Lines: 40, Pieces: 1_200, Control: in(currency, 1_800_000), Diff: in(currency, diff), Percent: float64(diff) / 18_000})
	}
	return out
}

func sampleMoves(currency string) []compare.MoveBar {
	edges := []float64{-100, -10, -5, -2, -1, 0, 0, 1, 2, 5, 10, 10}
	lines := []int64{12, 3_100, 14_020, 9_001, 3_738, 27_419, 9_030, 11_090, 9_800, 1_086, 14}
	var out []compare.MoveBar
	for i, n := range lines {
		out = append(out, compare.MoveBar{From: edges[i], To: edges[i+1], Lines: n, Control: in(currency, 800*n), Diff: in(currency, n*int64(4*(i-5)))})
	}
	return out
}

func sampleDays(currency string, n int) []compare.DayView {
	day := time.Date(2011, 11, 1, 0, 0, 0, 0, time.UTC)
	var out []compare.DayView
	for i := 0; len(out) < n; i++ {
		d := day.AddDate(0, 0, i)
		if d.Weekday() == time.Saturday {
			continue
		}
		out = append(out, compare.DayView{Day: d.Format(time.DateOnly), Orders: 100 + int64(i*7%30), Lines: 2_000 + int64(i*37%900), Control: in(currency, 2_000_000+int64(i*i*900)), Diff: in(currency, int64(22_000+18_000*math.Sin(float64(i)*1.3)-float64(i*i%9)*4_000))})
	}
	return out
}

func sampleExamples() []compare.ExampleView {
	var out []compare.ExampleView
	for i, name := range nasty[:4] {
		at := fmt.Sprintf("shop.orders/%d/%d", i%2, 1_200+i)
		out = append(out, compare.ExampleView{
			At: at, Event: fmt.Sprintf("shop/Order/57%d@1:0/1A2B3C%d.0", 1_000+i, i), Replay: "shadow replay --event " + at, Lines: 21, Control: pounds(120_040), Diff: pounds(int64(4_800 - 3_100*i)),
			Line: compare.LineView{Line: 3, Product: fmt.Sprint(22_423 + i), Description: name, Quantity: 24, Control: money.Amount{Amount: 109_500, Scale: 4, Currency: "GBP"}, Candidate: money.Amount{Amount: 129_900, Scale: 4, Currency: "GBP"}, Cause: compare.Policy, Rule: "charm-rounding"},
		})
	}
	return out
}
