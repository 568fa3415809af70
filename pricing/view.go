package pricing

import (
	"maps"
	"slices"
	"time"

	"banyan/money"
	"banyan/quote"
)

// window is how many business days of demand are remembered.
const window = 28

// View is what a candidate with a state of its own knows: list prices, stock and
// recent demand, folded from the shop's events in the order of their commits. It
// proposes prices of what it knows. It belongs to one goroutine.
type View struct {
	candidate *Demand
	products  map[string]*product
	// touched are the products that facts since the last Changed were about; rolled
	// says that a new business day has come, which changes demand for all.
	touched map[string]struct{}
	rolled  bool
	day     Day // of business; 0 before any is known
	// committed is when the last fact was.
	committed time.Time
	// counted are orders of the window by their day, so that one which a snapshot
	// tells again is not counted twice.
	counted map[string]Day

	order  quote.Order
	answer quote.Answer
}

type product struct {
	list   list
	stock  *int64
	demand [window]int64 // pieces by day modulo window
	upTo   Day           // the last day of demand
}

// NewView makes a View that knows nothing, and proposes what the candidate prices.
func NewView(d *Demand) *View {
	return &View{candidate: d, products: map[string]*product{}, touched: map[string]struct{}{}, counted: map[string]Day{}}
}

// Apply takes in the next fact.
func (v *View) Apply(f *Fact) {
	v.advance(f)
	switch f.about {
	case aboutPrice:
		p := v.touch(f.product)
		p.list = list{}
		if f.Fault == nil {
			p.list = f.list
		}
	case aboutStock:
		p := v.touch(f.product)
		p.stock = nil
		if f.Fault == nil && !f.gone {
			stock := f.stock
			p.stock = &stock
		}
	case aboutOrder:
		v.count(f)
	}
}

// advance moves the business day on. It never goes back; an event without a
// business time tells nothing of it.
func (v *View) advance(f *Fact) {
	v.committed = f.Time
	d := DayOf(f.At)
	if f.At.IsZero() || v.day != 0 && d <= v.day {
		return
	}
	v.day, v.rolled = d, true
	maps.DeleteFunc(v.counted, func(_ string, day Day) bool { return day <= d-window })
}

// count adds an order to the demand for its products.
func (v *View) count(f *Fact) {
	day := DayOf(f.At)
	if _, twice := v.counted[f.order]; twice || day <= v.day-window {
		return
	}
	v.counted[f.order] = day
	for _, l := range f.lines {
		p := v.touch(l.product)
		p.until(v.day)
		n := &p.demand[slot(min(day, v.day))]
		*n = min(*n+l.quantity, mostPieces)
	}
}

func (v *View) touch(name string) *product {
	p := v.products[name]
	if p == nil {
		p = &product{upTo: v.day}
		v.products[name] = p
	}
	v.touched[name] = struct{}{}
	return p
}

// slot is the place of a day in the window.
func slot(d Day) int { return int((d%window + window) % window) }

// until brings the window up to a day: what falls out at the other end is nothing.
func (p *product) until(d Day) {
	if d-p.upTo >= window {
		p.demand = [window]int64{}
		p.upTo = d
	}
	for p.upTo < d {
		p.upTo++
		p.demand[slot(p.upTo)] = 0
	}
}

// sum gives the pieces of the last n days.
func (p *product) sum(n Day) (pieces int64) {
	for d := p.upTo - n + 1; d <= p.upTo; d++ {
		pieces += p.demand[slot(d)]
	}
	return min(pieces, mostPieces)
}

// Changed gives the products whose price may be another one since the last call, by
// name.
func (v *View) Changed() []string {
	if v.rolled {
		v.rolled = false
		clear(v.touched)
		return v.All()
	}
	names := slices.Sorted(maps.Keys(v.touched))
	clear(v.touched)
	return names
}

// All gives all products that are known, by name.
func (v *View) All() []string { return slices.Sorted(maps.Keys(v.products)) }

// Proposal is what a product would cost.
type Proposal struct {
	Product string       `json:"product"`
	Unit    money.Amount `json:"unit"`
	// TierQuantity and Tier are of the tier price, where the product has one.
	TierQuantity int64        `json:"tierQuantity,omitempty"`
	Tier         money.Amount `json:"tier,omitzero"`
	// Rule and Trail are of Unit.
	Rule  string       `json:"rule,omitempty"`
	Trail []quote.Step `json:"trail,omitempty"`
	// Propensity is the probability of this price: no lots are drawn, so it is 1.
	Propensity string `json:"propensity"`
}

// SamePrices reports whether two proposals charge the same; how they came about does
// not count.
func (p *Proposal) SamePrices(q *Proposal) bool {
	return p.Unit == q.Unit && p.TierQuantity == q.TierQuantity && p.Tier == q.Tier
}

// Propose prices one piece of a product, and as many as its tier price begins with.
// ok is false where the list price is not known. The trail is left out where it is
// not asked for.
func (v *View) Propose(name string, trail bool) (proposal Proposal, ok bool) {
	p := v.products[name]
	if p == nil || p.list.unit.Currency == "" {
		return Proposal{}, false
	}
	p.until(v.day)
	known := quote.Product{List: p.list.unit, TierQuantity: p.list.tierQuantity, Tier: p.list.tier, Cost: p.list.cost, Stock: p.stock,
		Demand: quote.Demand{Days1: p.sum(1), Days7: p.sum(7), Days28: p.sum(window)}}
	o := &v.order
	*o = quote.Order{PlacedAt: v.today(), Currency: known.List.Currency, WantTrail: trail,
		Lines: append(o.Lines[:0], quote.Line{Line: 1, Product: name, Quantity: 1, Known: known})}
	tiered := known.TierQuantity > 1 && known.Tier.Currency != ""
	if tiered {
		o.Lines = append(o.Lines, quote.Line{Line: 2, Product: name, Quantity: known.TierQuantity, Known: known})
	}
	v.answer = quote.Answer{Lines: v.answer.Lines[:0]}
	// A Demand declines nothing; what it cannot price it leaves out.
	if err := v.candidate.Price(o, &v.answer); err != nil || len(v.answer.Lines) != len(o.Lines) {
		return Proposal{}, false
	}
	one := &v.answer.Lines[0]
	proposal = Proposal{Product: name, Unit: one.Unit, Rule: one.Rule, Trail: one.Trail, Propensity: "1"}
	if tiered {
		proposal.TierQuantity, proposal.Tier = known.TierQuantity, v.answer.Lines[1].Unit
	}
	return proposal, true
}

// today is the day for which prices are proposed.
func (v *View) today() time.Time {
	if v.day == 0 {
		return v.committed
	}
	return v.day.Time()
}

// BusinessTime is the time that a fact is told as of: that of business, or else of
// its commit.
func (f *Fact) BusinessTime() time.Time {
	if f.At.IsZero() {
		return f.Time
	}
	return f.At
}
