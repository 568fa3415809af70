package compare

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/compare/stats"
	"banyan/money"
)

func TestBooksThatDoNotAddUpHideTheMoney(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Ledger, *Book)
		want  string
	}{
		{"an order too many", func(l *Ledger, _ *Book) { l.Consumed++ }, "900 orders are compared or excluded, but 901 were consumed: -1"},
		{"an order without a reason", func(l *Ledger, _ *Book) { l.Excluded[Free]++ }, "901 orders are compared or excluded, but 900 were consumed: +1"},
		{"a line", func(_ *Ledger, b *Book) { b.Consumed.Lines++ }, "900 lines in GBP are compared or excluded, but 901 were consumed: -1"},
		{"the smallest sum", func(_ *Ledger, b *Book) { b.Compared.Control++ }, "82,095.0001 GBP was paid for what is compared or excluded, but 82,095.00 GBP for what was consumed"},
		{"a partition", func(_ *Ledger, b *Book) { b.ByPartition[5] = Tally{Lines: 1} }, "the partitions hold 901 lines"},
		{"a customer", func(_ *Ledger, b *Book) { b.Clusters["c7"].Diff++ }, "the differences of all customers add up to"},
		{"a product", func(_ *Ledger, b *Book) { delete(b.Products, "P07") }, "the differences of all products add up to"},
		{"a move", func(_ *Ledger, b *Book) { b.Moves[sortedKeys(b.Moves)[0]].Candidate-- }, "the differences of all price moves add up to"},
		{"a day", func(_ *Ledger, b *Book) { b.Days[15_003].Diff-- }, "the differences of all days add up to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := shop(gain().sales()...)
			c.spoil(l, l.Books["GBP"])
			r := analysed(t, l, facts, nil)
			if r.Reconciliation.OK || !strings.Contains(strings.Join(r.Reconciliation.Faults, "\n"), c.want) {
				t.Errorf("faults, want %q in: %q", c.want, r.Reconciliation.Faults)
			}
			if r.Verdict.Rung != Unhealthy || !r.Verdict.HideMoney {
				t.Errorf("rung %q, money hidden %v; want an unhealthy one without money", r.Verdict.Rung, r.Verdict.HideMoney)
			}
			if strings.Contains(r.Verdict.Sentence, "GBP") {
				t.Errorf("the sentence has money in it: %s", r.Verdict.Sentence)
			}
		})
	}
}

func TestAProjectionElsewhereIsToldAndNoFault(t *testing.T) {
	for state, want := range map[string]string{"": "none", "none": "none", "not comparable": "not comparable", "equal": "equal"} {
		f := facts
		f.Projection.State = state
		r := analysed(t, shop(gain().sales()...), f, nil)
		if !r.Reconciliation.OK || r.Reconciliation.Projection.State != want {
			t.Errorf("projection %q: %+v", state, r.Reconciliation)
		}
	}
}

func TestControlAndCandidateAreNeverSwapped(t *testing.T) {
	one := sale{product: "tea", quantity: 3, control: pounds(2), candidate: pounds(2.10), cost: pounds(1.25), customer: "c"}
	two := sale{product: "cup", quantity: 1, control: pounds(7), candidate: pounds(6.50), cost: pounds(5), customer: "d"}
	m := analysed(t, shop(one, two), facts, nil).Currencies[0]
	gbp := func(pence int64) money.Amount { return money.Amount{Amount: pence, Scale: 2, Currency: "GBP"} }
	want := Headline{Lines: 2, Pieces: 4, Control: gbp(1300), Candidate: gbp(1280), Diff: gbp(-20), Percent: -1.5385,
		Margin: Margin{Share: 100, Control: gbp(425), Candidate: gbp(405), Diff: gbp(-20)},
		Rise:   ChangeView{1, gbp(600), gbp(30)}, Fall: ChangeView{1, gbp(700), gbp(-50)}, Arithmetic: gbp(0)}
	if diff := cmp.Diff(want, m.Headline); diff != "" {
		t.Errorf("headline (-want +got):\n%s", diff)
	}
	if m.Gainers[0].Product != "tea" || m.Losers[0].Product != "cup" || len(m.Gainers)+len(m.Losers) != 2 {
		t.Errorf("gainers %+v, losers %+v", m.Gainers, m.Losers)
	}
	line := LineView{Line: 1, Product: "cup", Quantity: 1, Control: gbp(700), Candidate: gbp(650), Cause: Policy}
	if diff := cmp.Diff(line, m.Examples[0].Line); diff != "" {
		t.Errorf("the largest example (-want +got):\n%s", diff)
	}
	if want := "shadow replay --event shop.orders/0/1"; m.Examples[0].Replay != want {
		t.Errorf("replay by %q, want %q", m.Examples[0].Replay, want)
	}
	if diff := cmp.Diff(CustomersView{Rise: 50, Fall: 50, Highest: 5, Worst: 5}, m.Customers); diff != "" {
		t.Errorf("customers (-want +got):\n%s", diff)
	}

	one.control, one.candidate = one.candidate, one.control
	two.control, two.candidate = two.candidate, two.control
	other := analysed(t, shop(one, two), facts, nil).Currencies[0].Headline
	if other.Diff != gbp(20) || other.Control != want.Candidate || other.Candidate != want.Control || other.Rise.Diff != gbp(50) {
		t.Errorf("with the prices the other way round: %+v", other)
	}
}

func TestMoneyIsWrittenExactly(t *testing.T) {
	for _, c := range []struct {
		units    Units
		currency string
		exact    string
		about    string
	}{
		{12_3400, "GBP", "12.34 GBP", "12.34 GBP"}, {12_0000, "GBP", "12.00 GBP", "12.00 GBP"}, {12_3456, "GBP", "12.3456 GBP", "12.35 GBP"},
		{-1, "GBP", "-0.0001 GBP", "0.00 GBP"}, {-50, "GBP", "-0.005 GBP", "-0.01 GBP"}, {50, "GBP", "0.005 GBP", "0.01 GBP"},
		{5_0000, "JPY", "5 JPY", "5 JPY"}, {5_5000, "JPY", "5.5 JPY", "6 JPY"}, {1_2340, "KWD", "1.234 KWD", "1.234 KWD"}, {1_0000, "KWD", "1.000 KWD", "1.000 KWD"},
		{1_0000, "XQQ", "1.00 XQQ", "1.00 XQQ"},
	} {
		b := &Book{Currency: c.currency}
		if got := b.exactly(c.units).String(); got != c.exact {
			t.Errorf("exactly %d is %q, want %q", c.units, got, c.exact)
		}
		if got := b.about(float64(c.units)).String(); got != c.about {
			t.Errorf("about %d is %q, want %q", c.units, got, c.about)
		}
	}
	if got := (&Book{Currency: "GBP"}).about(math.Inf(1)); got.Amount <= 0 {
		t.Errorf("about infinity is %s", got)
	}
}

func TestMovesFallIntoTheirBars(t *testing.T) {
	for _, c := range []struct {
		control, candidate Units
		from               float64
	}{
		{100_0000, 100_0000, 0}, {100_0000, 105_0000, 5}, {100_0000, 104_9999, 2}, {100_0000, 102_0000, 2}, {100_0000, 100_0001, 0}, {100_0000, 110_0000, 10},
		{100_0000, 900_0000, 10}, {100_0000, 99_9999, -2}, {100_0000, 98_0000, -2}, {100_0000, 97_0000, -5}, {100_0000, 95_0000, -5}, {100_0000, 90_0000, -10},
		{100_0000, 89_0000, -100}, {100_0000, 0, -100}, {3_3000, 3_4650, 5},
	} {
		m := analysed(t, shop(sale{product: "P", quantity: 1, control: c.control, candidate: c.candidate}), facts, nil).Currencies[0]
		var hit []MoveBar
		for _, bar := range m.Moves {
			if bar.Lines > 0 {
				hit = append(hit, bar)
			}
		}
		same := c.control == c.candidate
		if len(hit) != 1 || hit[0].From != c.from || (hit[0].To == 0 && hit[0].From == 0) != same {
			t.Errorf("a move from %d to %d falls into %+v, want one from %v", c.control, c.candidate, hit, c.from)
		}
	}
}

func TestWhatIsOwedWidensTheBounds(t *testing.T) {
	a := sale{product: "A", quantity: 1, control: pounds(100), candidate: pounds(101), customer: "c"}
	b, c, d := a, a, a
	b.reason, c.reason, d.reason = Timeout, Sampled, Free
	b.segment = "country=France"
	m := analysed(t, shop(a, b, c, d), facts, nil).Currencies[0]
	gbp := func(pence int64) money.Amount { return money.Amount{Amount: pence, Scale: 2, Currency: "GBP"} }
	want := Bounds{Missing: 1, Control: gbp(10_000), Cap: 10, Low: gbp(-900), High: gbp(1100),
		By: []MissingView{{"country=France", 1, 100}, {"size=1 line", 1, 100}}}
	if diff := cmp.Diff(want, m.Bounds); diff != "" {
		t.Errorf("bounds (-want +got):\n%s", diff)
	}
}

func TestASampleSpeaksForAllOnlyAsAnEstimate(t *testing.T) {
	d := gain()
	d.edit = func(i int, s *sale) {
		if i%9 == 0 {
			s.reason = Sampled
		}
	}
	f := facts
	r := analysed(t, shop(d.sales()...), f, nil)
	if !strings.Contains(strings.Join(r.Currencies[0].Projection.Thin, "\n"), "not known how many") {
		t.Errorf("a sample of unknown size: %q", r.Currencies[0].Projection.Thin)
	}
	f.Operations = &Operations{Sampled: 50}
	r = analysed(t, shop(d.sales()...), f, nil)
	m := r.Currencies[0]
	twice, err := m.Headline.Diff.Times(2)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, i := range m.Projection.Intervals {
		if strings.Contains(i.Method, "Horvitz-Thompson") {
			found = true
			if order, err := twice.Cmp(i.Estimate); order != 0 || err != nil {
				t.Errorf("all customers: %+v, want an estimate of %s", i, twice)
			}
		}
	}
	if !found || !strings.Contains(r.Verdict.Sentence, "in the sample") || !strings.Contains(strings.Join(r.Assumptions, "\n"), "Only a sample") {
		t.Errorf("a sample is not told as one: %v, %q, %q", found, r.Verdict.Sentence, r.Assumptions)
	}
}

func TestIntervalsHaveTheirMethods(t *testing.T) {
	d := gain()
	d.days = 21
	v := analysed(t, shop(d.sales()...), facts, nil).Currencies[0].Projection
	var methods []string
	for _, i := range v.Intervals {
		methods = append(methods, i.Method)
		if low, err := i.Low.Cmp(i.Estimate); err != nil || low >= 0 {
			t.Errorf("%s: %s is not below %s (%v)", i.Method, i.Low, i.Estimate, err)
		}
	}
	want := []string{"bootstrap of customers, BCa", "bootstrap of customers, percentile", "Student's t by customer", "by customer and product", "bootstrap of weeks"}
	if diff := cmp.Diff(want, methods); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
	if v.PerWeek == nil || !v.Sequence.Known() || v.Winsorized == nil || v.SequenceKnown != nil {
		t.Errorf("a rate by week %+v, a sequence %+v, capped %+v, of known cost %+v", v.PerWeek, v.Sequence, v.Winsorized, v.SequenceKnown)
	}
	d.days, d.customers = 13, 20
	v = analysed(t, shop(d.sales()...), facts, nil).Currencies[0].Projection
	if v.PerWeek != nil || v.Sequence.Known() {
		t.Errorf("of 13 days and 20 customers: a rate by week %+v, a sequence %+v", v.PerWeek, v.Sequence)
	}
}

func TestSegmentsAreThoseThatWereNamed(t *testing.T) {
	d := gain()
	d.edit = func(i int, s *sale) {
		switch {
		case i < 60:
			s.segment = "country=Malta" // 20 customers
		case i < 450:
			s.segment = "country=France"
		default:
			s.segment, s.candidate = "country=Spain", s.control
		}
		if i%10 == 9 {
			s.segment = "weather=rain"
		}
	}
	r := analysed(t, shop(d.sales()...), facts, nil)
	v := r.Currencies[0].Segments
	type row struct {
		Segment string
		Thin    bool
		Sure    bool
	}
	var rows []row
	for _, s := range v.Rows {
		rows = append(rows, row{s.Segment, s.Thin, s.Holm < 0.05})
		if s.Holm < s.P || s.BH < s.P || s.Holm < s.BH {
			t.Errorf("corrections of %+v are out of order", s)
		}
	}
	if diff := cmp.Diff([]row{{"country=Spain", false, false}, {"country=France", false, true}, {"country=Malta", true, false}}, rows); diff != "" || v.Looked != 3 {
		t.Errorf("%d looked at, segments (-want +got):\n%s", v.Looked, diff)
	}
}

func TestTheNextExperimentNamesItsSegmentAndItsStop(t *testing.T) {
	d := gain()
	d.edit = func(i int, s *sale) {
		s.segment = "country=France"
		if i >= 600 {
			s.segment = "country=Spain"
		}
	}
	next := analysed(t, shop(d.sales()...), facts, nil).Verdict.Next
	if next == nil {
		t.Fatal("no experiment")
	}
	if next.Design != "switchback" || next.Segment != "country=France" || next.Days < shortestTest || next.Days%7 != 0 || next.Days > longestTest ||
		!(next.Power > 0 && next.Power <= 1) || !(next.Detectable > 0) || next.Share <= 0 {
		t.Errorf("experiment %+v", next)
	}
	if !strings.Contains(next.StopIf, "largest rise of a single price: more than 15 %") {
		t.Errorf("stop if %q", next.StopIf)
	}
}

func TestOwnElasticityFindsTheSlopeThatIsThere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	l := NewLedger()
	for i := range 6000 {
		// Quantity is 1000 price^-1.5 of each product's own level.
		product := random.IntN(30)
		price := 1 + 3*random.Float64()
		quantity := int64(math.Round(float64(1000*(1+product)) * math.Pow(price, -1.5)))
		l.Take(sale{product: fmt.Sprintf("P%d", product), quantity: quantity, control: pounds(price), candidate: pounds(price), day: int32(i / 20)}.order(int64(i)))
	}
	own := analysed(t, l, facts, nil).Currencies[0].OwnShop
	if len(own) != 5 {
		t.Fatalf("%d methods, want 5: %+v", len(own), own)
	}
	for _, e := range own[:3] {
		if math.Abs(e.Estimate+1.5) > 0.01 || e.Trap == "" || e.Products != 30 {
			t.Errorf("%+v, want -1.5 of 30 products", e)
		}
	}
	for _, e := range own {
		// By month the mean price is weighted by pieces, which is a trap that is told.
		if e.Estimate > -0.5 || e.Estimate < -20 {
			t.Errorf("%+v is far from any elasticity", e)
		}
	}
	one := shop(sale{product: "P", quantity: 1, control: pounds(1), candidate: pounds(1)}, sale{product: "P", quantity: 2, control: pounds(0.9), candidate: pounds(1)})
	if own := analysed(t, one, facts, nil).Currencies[0].OwnShop; len(own) != 0 {
		t.Errorf("of one product: %+v, want nothing", own)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	if _, err := Analyse(NewLedger(), facts, Settings{}); err == nil || !strings.Contains(err.Error(), "minDays") {
		t.Errorf("empty settings: %v", err)
	}
	if _, err := Analyse(nil, facts, Defaults()); err == nil {
		t.Error("no ledger: no error")
	}
}

func TestAReportOutOfReasonIsStillJSON(t *testing.T) {
	for name, l := range map[string]*Ledger{
		"nothing":            NewLedger(),
		"a date in error":    shop(sale{product: "P", quantity: 1, control: 1, candidate: 2}, sale{product: "P", quantity: 1, control: 1, candidate: 2, day: 2_000_000_000}),
		"a thousandfold":     shop(sale{product: "P", quantity: 1_000_000, control: 1, candidate: pounds(1_000_000)}),
		"goods for nothing":  shop(sale{product: "P", quantity: 1, control: 1, candidate: 0}),
		"nothing but faults": shop(sale{product: "P", quantity: 1, control: 1, reason: Timeout}),
	} {
		raw, err := json.Marshal(analysed(t, l, Facts{}, nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var back Report
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Errorf("%s: read it back: %v", name, err)
		}
		if strings.Contains(string(raw), "Infinity") {
			t.Errorf("%s: %s", name, raw)
		}
	}
}

func TestSmallCurrenciesAreToldAndDecideNothing(t *testing.T) {
	drawn := gain().sales()
	drawn = append(drawn, sale{product: "P1", quantity: 1, control: pounds(10), candidate: pounds(9), currency: "EUR"})
	v := analysed(t, shop(drawn...), facts, nil).Verdict
	if v.Rung != Ready || !strings.Contains(strings.Join(v.Why, "\n"), "EUR has 0.11 % of the lines") {
		t.Errorf("rung %q, %q", v.Rung, v.Why)
	}
}

func TestABookOfNothingButWhatWasSetAsideIsOnlyReconciled(t *testing.T) {
	drawn := append(gain().sales(), sale{product: "P1", quantity: 1, currency: "XQQ", reason: NoPrice})
	r := analysed(t, shop(drawn...), facts, nil)
	if len(r.Currencies) != 1 || len(r.Reconciliation.Currencies) != 2 || r.Verdict.Rung != Ready {
		t.Errorf("%d currencies, %d reconciled, rung %q", len(r.Currencies), len(r.Reconciliation.Currencies), r.Verdict.Rung)
	}
}

func TestTheDigestIsOfWhatTheFiguresRestOn(t *testing.T) {
	digest := func(change func(*Ledger, *Facts, *Settings)) string {
		l, f, s := shop(gain().sales()...), facts, Defaults()
		s.Replicates = 200
		change(l, &f, &s)
		r, err := Analyse(l, f, s)
		if err != nil {
			t.Fatalf("analyse: %v", err)
		}
		return r.Inputs.Digest
	}
	base := digest(func(*Ledger, *Facts, *Settings) {})
	if !strings.HasPrefix(base, "sha256:") || len(base) != len("sha256:")+64 {
		t.Errorf("digest %q", base)
	}
	for name, c := range map[string]struct {
		change func(*Ledger, *Facts, *Settings)
		same   bool
	}{
		"timings":    {func(_ *Ledger, f *Facts, _ *Settings) { f.Operations = &Operations{P50: 3} }, true},
		"a signer":   {func(_ *Ledger, f *Facts, _ *Settings) { f.SignedBy = "finance" }, true},
		"a position": {func(_ *Ledger, f *Facts, _ *Settings) { f.Position = "1:0/1A2C" }, false},
		"an offset":  {func(_ *Ledger, f *Facts, _ *Settings) { f.Topics = []TopicSpan{{"shop.orders", 0, 0, 101}} }, false},
		"a build":    {func(_ *Ledger, f *Facts, _ *Settings) { f.Candidate.Build = "b2" }, false},
		"a seed":     {func(_ *Ledger, _ *Facts, s *Settings) { s.Seed = 2 }, false},
		"a segment": {func(l *Ledger, _ *Facts, _ *Settings) {
			part := l.Books["GBP"].Clusters["c1"].Segments["channel=web"]
			part.Orders++
			l.Books["GBP"].Clusters["c1"].Segments["channel=web"] = part
		}, false},
		"a moment": {func(l *Ledger, _ *Facts, _ *Settings) { l.Books["GBP"].Products["P01"].All.XY++ }, false},
		"a square": {func(l *Ledger, _ *Facts, _ *Settings) { l.Books["GBP"].Pairs.Add(1) }, false},
	} {
		if got := digest(c.change); (got == base) != c.same {
			t.Errorf("%s: the digest is the same: %v, want %v", name, got == base, c.same)
		}
	}
}

func TestGatheredMovesKeepTheSums(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	var moves []stats.Move
	for bin := range 10_000 { // from half the price to one and a half times
		control := 1_000_000 + random.Int64N(1_000_000_000)
		candidate := control / 10_000 * int64(5_000+bin)
		moves = append(moves, stats.Move{Control: control, Candidate: candidate, KnownControl: control, KnownCandidate: candidate, KnownCost: control / 2})
	}
	few := coarser(moves)
	if len(few) > coarsest || len(few) < coarsest/4 {
		t.Errorf("%d moves are gathered in %d", len(moves), len(few))
	}
	var paid float64
	for _, m := range moves {
		paid += float64(m.Control)
	}
	for _, measure := range []stats.Measure{stats.Revenue, stats.Margin} {
		if stats.Exact(measure, moves) != stats.Exact(measure, few) {
			t.Errorf("%s at fixed demand: %d, gathered %d", measure, stats.Exact(measure, moves), stats.Exact(measure, few))
		}
		for _, d := range []stats.Demand{stats.ConstantElasticity, stats.Linear} {
			for _, e := range []float64{-0.5, -1, -1.76, -2.62} {
				if want, got := d.Difference(measure, moves, e), d.Difference(measure, few, e); math.Abs(want-got) > paid*1e-5 {
					t.Errorf("%s of %s at %v: %v, gathered %v, of %v paid", d, measure, e, want, got, paid)
				}
			}
		}
	}
}

// BenchmarkAnalyse is a report of a shop of 5,000 customers, 4,000 products and 10,000
// different price moves. It must take well under a second.
func BenchmarkAnalyse(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	l := NewLedger()
	for i := range 200_000 {
		customer := random.IntN(5000)
		control := pounds(float64(1 + random.IntN(100)))
		l.Take(sale{product: fmt.Sprintf("P%d", random.IntN(4000)), quantity: 1 + random.Int64N(20), control: control,
			candidate: control * (5_000 + random.Int64N(10_000)) / 10_000, cost: control / 2, customer: fmt.Sprintf("c%d", customer),
			segment: fmt.Sprintf("country=%d", customer%38), day: int32(random.IntN(373))}.order(int64(i)))
	}
	book := l.Books["GBP"]
	b.Logf("%d customers, %d products, %d moves", len(book.Clusters), len(book.Products), len(book.Moves))
	for b.Loop() {
		if _, err := Analyse(l, facts, Defaults()); err != nil {
			b.Fatal(err)
		}
	}
}

// What could not be read is told, wherever it is left out.
func TestUnreadEventsAreTold(t *testing.T) {
	l := NewLedger()
	l.Unread = 1234
	r, err := Analyse(l, Facts{}, Defaults())
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(r.Assumptions, "\n"); !strings.Contains(text, "1,234") {
		t.Errorf("the assumptions do not tell of 1,234 unread events:\n%s", text)
	}
}
