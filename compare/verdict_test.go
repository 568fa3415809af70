package compare

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// trade is a shop with customers who each buy a few of the products in two weeks. The
// candidate multiplies prices, and costs are a share of them.
type trade struct {
	customers, days int
	factor          func(product int) float64
	cost            float64 // share of price
	currency        string
	lines           int // of each customer; 3 where 0
	edit            func(i int, s *sale)
}

const tradeProducts = 40

func (d trade) sales() []sale {
	random := rand.New(rand.NewPCG(7, 7))
	var sales []sale
	for c := range d.customers {
		for range cmp.Or(d.lines, 3) {
			product := random.IntN(tradeProducts)
			price := pounds(float64(10 + product))
			s := sale{product: fmt.Sprintf("P%02d", product), quantity: 1 + random.Int64N(5), control: price,
				candidate: Units(float64(price)*d.factor(product)+0.5) / 100 * 100, cost: Units(float64(price) * d.cost),
				customer: fmt.Sprintf("c%d%s", c, d.currency), day: int32(random.IntN(d.days)), segment: "channel=web", currency: d.currency}
			if d.edit != nil {
				d.edit(len(sales), &s)
			}
			sales = append(sales, s)
		}
	}
	return sales
}

func flat(f float64) func(int) float64 { return func(int) float64 { return f } }

// gain is a shop of low margins in which a rise of 3 % pays at any plausible
// elasticity.
func gain() trade { return trade{customers: 300, days: 14, factor: flat(1.03), cost: 0.75} }

// missing takes the answer of every nth line away.
func (d *trade) missing(n int) {
	d.edit = func(i int, s *sale) {
		if i%n == 0 {
			s.reason = Timeout
		}
	}
}

// rung is a way to a rung of the ladder, and with cure the way on to another.
type rung struct {
	name string
	make func(*trade)
	tell func(*Facts)
	set  func(*Settings)
	want Rung
	// why and change are in Why and Changes.
	why, change string
	cure        func(*trade, *Facts, *Settings)
	then        Rung
}

var unhealthyRungs = []rung{
	{name: "a projection that differs", tell: func(f *Facts) { f.Projection = ProjectionCheck{State: "differs", Detail: "orders by country"} },
		want: Unhealthy, why: "orders by country", change: "build the comparison again",
		cure: func(_ *trade, f *Facts, _ *Settings) { f.Projection.State = "equal" }, then: Ready},
	{name: "noise", tell: func(f *Facts) { f.Noise = &Noise{Lines: 10, Differ: 1} }, want: Unhealthy, why: "1 of 10 lines", change: "shadow aa",
		cure: func(_ *trade, f *Facts, _ *Settings) { f.Noise.Differ = 0 }, then: Ready},
	{name: "no noise floor", tell: func(f *Facts) { f.NoiseDue = "build b2 is new" }, want: Unhealthy, why: "build b2 is new", change: "Run shadow aa",
		cure: func(_ *trade, f *Facts, _ *Settings) { f.NoiseDue = "" }, then: Ready},
	{name: "a breaker", tell: func(f *Facts) { f.Unhealthy = []string{"the breaker is open"} }, want: Unhealthy, why: "The breaker is open.", change: "the breaker is open",
		cure: func(_ *trade, f *Facts, _ *Settings) { f.Unhealthy = nil }, then: Ready},
	{name: "answers missing", make: func(d *trade) { d.missing(4) }, want: Unhealthy, why: "225 of 900 lines", change: "replay the orders",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.missing(1000) }, then: Ready},
}

var earlyRungs = []rung{
	{name: "no orders", make: func(d *trade) { d.customers = 0 }, want: NoData, why: "0 orders", change: "Orders that the candidate prices",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.customers = 300 }, then: Ready},
	{name: "no orders need no noise floor", make: func(d *trade) { d.customers = 0 }, tell: func(f *Facts) { f.NoiseDue = "none yet" }, want: NoData, why: "0 orders"},
	{name: "nothing but gifts", make: func(d *trade) { d.edit = func(_ int, s *sale) { s.reason = Free } }, want: NoData, why: "900 orders",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.edit = nil }, then: Ready},
	{name: "few customers", make: func(d *trade) { d.customers = 60 }, want: Collecting, why: "60 customers in GBP, where 100", change: "10 days",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.customers = 110 }, then: Ready},
	{name: "few days", make: func(d *trade) { d.days = 3 }, want: Collecting, why: "3 days with orders in GBP, where 7", change: "4 days",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.days = 7 }, then: Ready},
	{name: "few customers who matter", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			if i%3 > 0 {
				s.candidate = s.control - s.control*15/1000
			}
			if i%70 == 0 {
				s.quantity = 14
			}
		}
	}, want: Collecting, why: "Few customers make much of the difference", change: "days more",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.edit = nil }, then: Ready},
}

var harmfulRungs = []rung{
	{name: "a guardrail of a rise", make: func(d *trade) { d.factor = flat(1.2) }, set: func(s *Settings) { s.MaxRisen = -1 }, want: DoNot,
		why: "largest rise of a single price: 20 %", change: "at most 15 %", cure: func(d *trade, _ *Facts, _ *Settings) { d.factor = flat(1.03) }, then: Ready},
	{name: "a guardrail of customers", make: func(d *trade) { d.factor = flat(1.06) }, want: DoNot, why: "customers who pay over 5 % more: 100 %", change: "at most 25 %",
		cure: func(_ *trade, _ *Facts, s *Settings) { s.RisenBy = 6 }, then: Ready},
	{name: "below cost", make: func(d *trade) { d.cost, d.factor = 0.99, flat(0.98) }, want: DoNot, why: "beyond those sold so already: 900", change: "limit: at most 0",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor = flat(1.03) }, then: Ready},
	{name: "a margin floor", set: func(s *Settings) { s.MinMargin = 40 }, want: DoNot, why: "margin of revenue: 27.2 %", change: "at least 40 %",
		cure: func(_ *trade, _ *Facts, s *Settings) { s.MinMargin = 27 }, then: Ready},
	{name: "another currency", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			if i == 0 {
				s.reason = WrongCurrency
			}
		}
	}, want: DoNot, why: "answers in another currency: 1", change: "limit: none", cure: func(d *trade, _ *Facts, _ *Settings) { d.edit = nil }, then: Ready},
	{name: "an answer from the future", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			if i == 0 {
				s.reason = SawFuture
			}
		}
	}, want: DoNot, why: "answers that knew later events: 1", change: "limit: none", cure: func(d *trade, _ *Facts, _ *Settings) { d.edit = nil }, then: Ready},
	{name: "a candidate that contradicts itself", tell: func(f *Facts) { f.Noise = &Noise{RepeatLines: 9, RepeatDiffer: 2} }, want: DoNot, why: "asked twice: 2", change: "limit: none",
		cure: func(_ *trade, f *Facts, _ *Settings) { f.Noise.RepeatDiffer = 0 }, then: Ready},
	{name: "a loss at fixed demand", make: func(d *trade) { d.factor = flat(0.97) }, want: DoNot, why: "At fixed demand margin in GBP falls", change: "does not fall at fixed demand",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor = flat(1.03) }, then: Ready},
	{name: "a loss over the band", make: func(d *trade) {
		d.cost = 0.6
		d.factor = func(p int) float64 { return 0.95 + 0.1*float64(p%2) }
	}, want: DoNot, why: "Margin in GBP falls at every elasticity from -0.50 to -2.62", change: "An elasticity of this shop",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor, d.cost = flat(1.03), 0.75 }, then: Ready},
	{name: "a loss where no cost is known", make: func(d *trade) {
		d.factor = flat(0.97)
		d.edit = func(_ int, s *sale) { s.noCost = true }
	}, want: DoNot, why: "At fixed demand revenue in GBP falls", change: "revenue in GBP does not fall",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor = flat(1.03) }, then: Review},
}

// aFew raises the prices of the first n products.
func aFew(n int) func(int) float64 {
	return func(p int) float64 {
		if p < n {
			return 1.10
		}
		return 1
	}
}

var doubtfulRungs = []rung{
	{name: "the same prices", make: func(d *trade) { d.factor = flat(1) }, want: Review, why: "there is nothing to test", change: "other prices",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor = flat(1.03) }, then: Ready},
	{name: "a sign that depends on elasticity", make: func(d *trade) { d.cost = 0.5 }, want: Review,
		why: "it turns at elasticity -1.97 under constant elasticity and -1.89 under linear demand", change: "A live test",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.cost = 0.75 }, then: Ready},
	{name: "a cut that customers may pay for", make: func(d *trade) { d.factor, d.cost = flat(0.97), 0.2 }, want: Review, why: "falls at fixed demand", change: "customers buy more",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.cost = 0.75 }, then: DoNot},
	{name: "costs that are not known", make: func(d *trade) { d.edit = func(i int, s *sale) { s.noCost = i%3 > 0 } }, want: Review,
		why: "revenue alone decides nothing", change: "Costs for at least 50 %", cure: func(d *trade, _ *Facts, _ *Settings) { d.edit = nil }, then: Ready},
	{name: "prices that change only where no cost is known", make: func(d *trade) {
		d.factor = aFew(16)
		d.edit = func(_ int, s *sale) { s.noCost = s.control != s.candidate }
	}, set: func(s *Settings) { s.MaxRisen = -1 }, want: Review, why: "no difference of margin", change: "A live test",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.edit = nil }, then: Ready},
	{name: "few products", make: func(d *trade) { d.factor, d.lines = aFew(4), 30 }, want: Review, why: "few products decide", change: "more products",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor = flat(1.03) }, then: Ready},
	{name: "stock that would not suffice", make: func(d *trade) {
		d.factor = func(p int) float64 { return 1.03 - 0.13*float64(p%8/7) }
		d.cost, d.lines = 0.3, 12
		d.edit = func(_ int, s *sale) { s.stock, s.stockKnown = s.quantity, true }
	}, want: Review, why: "more stock than there was", change: "More stock",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor, d.cost, d.edit = flat(1.03), 0.75, nil }, then: Ready},
	{name: "chance", make: func(d *trade) {
		d.factor = func(p int) float64 { return 1.055 - 0.04*float64(p%2) }
		d.edit = func(i int, s *sale) {
			if i%2 == 0 {
				s.candidate = s.control - s.control*3/100
			}
		}
	}, want: Review, why: "holds zero", change: "More customers"},
	{name: "missing answers that turn the sign", make: func(d *trade) { d.missing(6) }, set: func(s *Settings) { s.MaxMissing, s.MissingCap = 20, 50 }, want: Review,
		why: "could turn the sign", change: "Answers for the lines", cure: func(_ *trade, _ *Facts, s *Settings) { s.MissingCap = 5 }, then: Ready},
	{name: "customers too unlike to ever be enough", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			if i == 0 {
				s.quantity = 4000
			}
		}
	}, want: Review, why: "the largest 1 % have", change: "no amount of waiting helps"},
	{name: "few large customers whose sign is that of all others", make: func(d *trade) {
		d.edit = func(i int, s *sale) {
			if i%300 == 0 {
				s.quantity = 400
			}
		}
	}, want: Ready, why: "without them the sign is the same", change: "comes to hold zero"},
	{name: "all is well", want: Ready, why: "All 7 guardrails hold", change: "comes to hold zero",
		cure: func(d *trade, _ *Facts, _ *Settings) { d.factor = flat(1) }, then: Review},
}

func (r rung) try(t *testing.T, cure func(*trade, *Facts, *Settings)) Verdict {
	d, f, s := gain(), facts, Defaults()
	s.Replicates = 200
	noise := *facts.Noise
	f.Noise = &noise
	if r.make != nil {
		r.make(&d)
	}
	if r.tell != nil {
		r.tell(&f)
	}
	if r.set != nil {
		r.set(&s)
	}
	if cure != nil {
		cure(&d, &f, &s)
	}
	report, err := Analyse(shop(d.sales()...), f, s)
	if err != nil {
		t.Fatalf("analyse: %v", err)
	}
	return report.Verdict
}

func TestEveryRungIsReachedAndLeft(t *testing.T) {
	for _, r := range slices.Concat(unhealthyRungs, earlyRungs, harmfulRungs, doubtfulRungs) {
		t.Run(r.name, func(t *testing.T) {
			v := r.try(t, nil)
			if v.Rung != r.want {
				t.Fatalf("rung %q, want %q: %s\n%s", v.Rung, r.want, v.Sentence, strings.Join(v.Why, "\n"))
			}
			if why := strings.Join(v.Why, "\n"); !strings.Contains(why, r.why) {
				t.Errorf("why, want %q in:\n%s", r.why, why)
			}
			if changes := strings.Join(v.Changes, "\n"); changes == "" || !strings.Contains(changes, r.change) {
				t.Errorf("what would change it, want %q in:\n%s", r.change, changes)
			}
			if (v.Next != nil) != (r.want == Ready) || (v.DaysLeft > 0) != (r.want == Collecting) {
				t.Errorf("on rung %q the next experiment is %+v, and there are %d days left", v.Rung, v.Next, v.DaysLeft)
			}
			if v.Sentence == "" || strings.Contains(v.Sentence, "ship") {
				t.Errorf("sentence %q", v.Sentence)
			}
			if r.cure == nil {
				return
			}
			if then := r.try(t, r.cure); then.Rung != r.then {
				t.Errorf("cured: rung %q, want %q: %s\n%s", then.Rung, r.then, then.Sentence, strings.Join(then.Why, "\n"))
			}
		})
	}
}
