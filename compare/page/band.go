package page

import (
	"cmp"
	"math"
	"slices"

	"banyan/compare"
	"banyan/money"
)

// costKnown reports whether there is anything to say of margin.
func costKnown(m compare.Money) bool { return m.Headline.Margin.Share > 0 }

// bandView is what demand may make of a difference: from the least that either model of
// demand says to the most that stock allows.
type bandView struct {
	Low, High money.Amount
	From, To  float64 // elasticities, the weaker one first
	Holds     string
	// Stock says that High is what stock allows, where it is known; else High is what
	// demand alone would ask for.
	Stock bool
}

// bandFor gives that of revenue or of margin; nil where no band is known, and of margin
// where no cost is.
func bandFor(m compare.Money, what string) *bandView {
	of, holds := ofRevenue, m.Demand.Revenue.Holds
	if what == "margin" {
		if !costKnown(m) {
			return nil
		}
		of, holds = ofMargin, m.Demand.Margin.Holds
	}
	v := bandOf(m.Demand, of)
	if v == nil {
		return nil
	}
	v.Stock = v.Stock && m.Demand.CappedLines > 0 // else it sufficed, or nobody knows it
	v.From, v.To = math.Max(m.Demand.BandLow, m.Demand.BandHigh), math.Min(m.Demand.BandLow, m.Demand.BandHigh)
	if holds == "gain" && v.Low.Amount > 0 || holds == "loss" && v.High.Amount < 0 {
		v.Holds = holds // a sign that holds as long as there is stock does not
	}
	return v
}

// reading is what a point says of revenue, or of margin: under constant elasticity,
// under linear demand, and as far as stock allows where that is known.
type reading struct {
	free, linear money.Amount
	stock        *money.Amount
}

func ofRevenue(p compare.CurvePoint) reading {
	return reading{p.Revenue, p.RevenueLinear, p.RevenueCapped}
}

func ofMargin(p compare.CurvePoint) reading {
	return reading{p.Margin, p.MarginLinear, p.MarginCapped}
}

// bandOf looks at the points of the curve within the band, and at those that somebody
// found. Constant elasticity promises more than linear demand at any price, and without
// bound where prices fall far: the most is therefore read where stock was looked at. One
// line at a tenth of its price would decide it otherwise, by pieces that nobody had.
func bandOf(d compare.DemandView, of func(compare.CurvePoint) reading) *bandView {
	var v *bandView
	take := func(a money.Amount, most bool) {
		if v == nil {
			v = &bandView{Low: a, High: a}
			return
		}
		if value(a) < value(v.Low) {
			v.Low = a
		}
		if most && value(a) > value(v.High) {
			v.High = a
		}
	}
	points := inBand(d)
	stock := stocked(points, d, of)
	if stock {
		for _, p := range points {
			if s := of(p).stock; s != nil {
				take(*s, true)
			}
		}
	}
	for _, p := range points {
		r := of(p)
		if r.stock == nil {
			take(r.free, !stock)
		}
		if r.linear.Currency != "" {
			take(r.linear, false)
		}
	}
	if v != nil {
		v.Stock = stock
	}
	return v
}

// inBand are the points of the curve within the band, and what others found where the
// curve has no point.
func inBand(d compare.DemandView) []compare.CurvePoint {
	var points []compare.CurvePoint
	for _, p := range d.Curve {
		if p.Elasticity >= math.Min(d.BandLow, d.BandHigh) && p.Elasticity <= math.Max(d.BandLow, d.BandHigh) {
			points = append(points, p)
		}
	}
	for _, p := range d.Band {
		if _, ok := pointAt(points, p.Elasticity); !ok {
			points = append(points, compare.CurvePoint{Elasticity: p.Elasticity, Revenue: p.Revenue, Margin: p.Margin})
		}
	}
	slices.SortStableFunc(points, func(a, b compare.CurvePoint) int { return cmp.Compare(b.Elasticity, a.Elasticity) })
	return points
}

func pointAt(points []compare.CurvePoint, elasticity float64) (compare.CurvePoint, bool) {
	for _, p := range points {
		if math.Abs(p.Elasticity-elasticity) < 1e-9 {
			return p, true
		}
	}
	return compare.CurvePoint{}, false
}

// stocked reports whether stock was looked at where the band ends, on both sides.
func stocked(points []compare.CurvePoint, d compare.DemandView, of func(compare.CurvePoint) reading) bool {
	for _, end := range []float64{d.BandLow, d.BandHigh} {
		if p, ok := pointAt(points, end); !ok || of(p).stock == nil {
			return false
		}
	}
	return true
}

// stockView says how much of what strong demand promises could not have been sold, and
// on how few lines.
type stockView struct {
	Lines, Of    int64
	At           float64
	Free, Capped money.Amount // of revenue
}

// stockFor is at the strong end of the band; nil where stock takes nothing away there.
func stockFor(m compare.Money) *stockView {
	p, ok := pointAt(m.Demand.Curve, math.Min(m.Demand.BandLow, m.Demand.BandHigh))
	if !ok || p.RevenueCapped == nil || m.Demand.CappedLines == 0 || roughly(p.Revenue) == roughly(*p.RevenueCapped) {
		return nil
	}
	return &stockView{m.Demand.CappedLines, m.Headline.Lines, p.Elasticity, p.Revenue, *p.RevenueCapped}
}

// Large reports whether stock takes away so much that nobody should look at the rest
// without knowing it.
func (s stockView) Large() bool {
	free, capped := value(s.Free), value(s.Capped)
	return math.Abs(free-capped) > .1*math.Abs(free)
}

// found is an elasticity that somebody found, with what stock allows there.
type found struct {
	compare.BandPoint
	RevenueStock, MarginStock *money.Amount
}

func foundFor(d compare.DemandView) []found {
	var out []found
	for _, b := range d.Band {
		p, _ := pointAt(d.Curve, b.Elasticity)
		out = append(out, found{b, p.RevenueCapped, p.MarginCapped})
	}
	return out
}
