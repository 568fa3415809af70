package stats

import "math"

// Lowest is the elasticity down to which break-evens are looked for. Below it
// there is no opinion worth having: a tenth off the price would sell eight times
// as much.
const Lowest = -20

// rootStep is the grid on which changes of sign are looked for. Two roots nearer
// to each other than this, and roots where the difference only touches zero
// between two points of the grid, are not found: the sign they enclose would hold
// over a hundredth of an elasticity.
const rootStep = 100 // points per unit of elasticity

// Finding is what a search for break-evens came to.
type Finding int

const (
	// NoRoot says that the sign is the same at every elasticity from Lowest to 0.
	NoRoot Finding = iota
	// OutsideBand says that the sign turns, but not within the plausible band.
	OutsideBand
	// WithinBand says that the sign turns within the plausible band: it decides
	// nothing.
	WithinBand
	// Everywhere says that there is no difference at any elasticity, as with a
	// candidate that asks the same prices.
	Everywhere
)

// String gives the finding as a report prints it.
func (f Finding) String() string {
	switch f {
	case OutsideBand:
		return "outside the plausible range"
	case WithinBand:
		return "within the plausible range"
	case Everywhere:
		return "no difference at any elasticity"
	}
	return "none"
}

// BreakEven is where a difference turns its sign.
type BreakEven struct {
	// Roots are the elasticities from Lowest to 0 at which the difference is zero,
	// from the least elastic on. 0 itself is not among them: see AtZero. For Revenue
	// under ConstantElasticity -1 always is, whatever the prices: sums of money stay
	// the same there, so that it says nothing about the candidate.
	Roots []float64
	// AtZero says that the exact difference at fixed demand is zero, which makes 0 a
	// root that needs no search.
	AtZero  bool
	Finding Finding
	// OverBand is the sign over the whole band that was asked for.
	OverBand Sign
}

// BreakEven looks for all elasticities at which the measure is the same under
// both prices. The cost is about 2000 looks at every move.
func (d Demand) BreakEven(measure Measure, moves []Move, band Band) BreakEven {
	c := d.curve(measure, moves)
	found := BreakEven{AtZero: Exact(measure, moves) == 0, OverBand: c.sign(band)}
	zeros, points := 0, -Lowest*rootStep
	last, lastAt := c.at(0), 0.0
	if found.AtZero {
		zeros++
	}
	for i := 1; i <= points; i++ {
		at := -float64(i) / rootStep
		v := c.at(at)
		switch {
		case v == 0:
			zeros++
			found.Roots = append(found.Roots, at)
		case last != 0 && (v > 0) != (last > 0):
			found.Roots = append(found.Roots, bisect(c.at, at, lastAt))
		}
		last, lastAt = v, at
	}
	if zeros == points+1 {
		return BreakEven{AtZero: true, Finding: Everywhere, OverBand: Zero}
	}
	for _, root := range found.Roots {
		if band.Contains(root) {
			found.Finding = WithinBand
			return found
		}
		found.Finding = OutsideBand
	}
	return found
}

// bisect halves [low, high], over which f changes its sign, until nothing is left
// to halve.
func bisect(f func(float64) float64, low, high float64) float64 {
	up := f(high) > 0
	for {
		middle := low + (high-low)/2
		if middle <= low || middle >= high {
			return middle
		}
		v := f(middle)
		if v == 0 {
			return middle
		}
		if (v > 0) == up {
			high = middle
		} else {
			low = middle
		}
	}
}

// BreakEvenVolume is the relative change of volume at which a price change leaves
// the margin as it was, with unit costs unchanged: -change/(margin+change), the
// textbook rule (T. Nagle, The Strategy and Tactics of Pricing). margin is price
// less cost, change the change of price, both in money or both as a share of the
// old price; 0.5 is half as much again. ok is false where the new price leaves no
// margin, which no volume makes up for.
func BreakEvenVolume(margin, change float64) (volume float64, ok bool) {
	if margin+change <= 0 {
		return 0, false
	}
	return -change / (margin + change), true
}

// BreakEvenPoint is BreakEvenVolume as an elasticity, change of volume over change
// of price: -1/(margin+change), both as shares of the old price.
func BreakEvenPoint(margin, change float64) (elasticity float64, ok bool) {
	if margin+change <= 0 {
		return 0, false
	}
	return -1 / (margin + change), true
}

// BreakEvenConstant is the constant elasticity at which one product's margin is the
// same at both prices: ln((price-cost)/(candidate-cost)) / ln(candidate/price), from
// (candidate/price)^e (candidate-cost) = price-cost. ok is false where a margin is
// not positive, or the prices are the same.
func BreakEvenConstant(price, candidate, cost float64) (elasticity float64, ok bool) {
	if price <= 0 || candidate <= 0 || price <= cost || candidate <= cost || price == candidate {
		return 0, false
	}
	return math.Log((price-cost)/(candidate-cost)) / math.Log(candidate/price), true
}

// BreakEvenLinear is the elasticity at which linear demand leaves the revenue of one
// product as it was: -1/(1+change), from (1+change)(1+e change) = 1. change is the
// price's, as a share of the old. Under constant elasticity it is -1 for any change.
// ok is false where the new price is not positive.
func BreakEvenLinear(change float64) (elasticity float64, ok bool) {
	return BreakEvenPoint(1, change)
}
