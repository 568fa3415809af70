package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"banyan/compare/stats"
)

// The band over which a sign must hold before it is claimed. Its strong end is the mean
// of the newer of the two studies that are always shown (Bijmolt and others 2005), its
// weak end the weakest answer that is tabled beside them. Both studies are of brands and
// not of this shop, so that the band between the two alone (-1.76 to -2.62) would leave
// out every shop whose customers hardly look at the price. No answer at all is not in
// it: that is the headline, which a verdict holds against zero by itself.
var demandBand = stats.Band{Low: stats.Bijmolt2005, High: -0.5}

const (
	curveEnd  = -5000 // where the curve begins, in thousandths
	curveStep = 250
	// coarsest is how many moves a search for break-evens looks at. It looks at them
	// some 9,000 times.
	coarsest = 600
)

var literature = []struct {
	at     float64
	source string
}{
	{stats.Tellis1988, "Tellis 1988, mean of 367 estimates for over 220 brands"},
	{stats.Bijmolt2005, "Bijmolt, van Heerde, Pieters 2005, mean of 1,851 estimates from 81 studies"},
}

// demand says what the difference becomes where demand answers to price.
func (c *finding) demand() {
	b := c.book
	moves := demandMoves(b)
	v := DemandView{Curve: c.curve(moves), Band: []BandPoint{}, BandLow: demandBand.Low, BandHigh: demandBand.High}
	for _, p := range literature {
		v.Band = append(v.Band, BandPoint{Elasticity: p.at, Source: p.source,
			Revenue: b.about(stats.ConstantElasticity.Difference(stats.Revenue, moves, p.at)),
			Margin:  b.about(stats.ConstantElasticity.Difference(stats.Margin, moves, p.at))})
	}
	for _, cap := range b.Caps {
		v.CappedLines = max(v.CappedLines, cap.Lines)
	}
	coarse := coarser(moves)
	v.Revenue, _ = breakEven(stats.Revenue, coarse)
	v.Margin, c.margin = breakEven(stats.Margin, coarse)
	c.studied = agreed(stats.ConstantElasticity.Sign(stats.Margin, coarse, stats.Plausible), stats.Linear.Sign(stats.Margin, coarse, stats.Plausible))
	if b.Known.Lines == 0 && b.Compared.Lines > 0 {
		v.Margin.Sentence, c.margin = "No cost is known, so that nothing can be said of margin.", stats.Mixed
	}
	c.stockTurns = c.turnedByStock(moves)
	c.money.Demand = v
}

// demandMoves are the moves of a book in the order of their bins.
func demandMoves(b *Book) []stats.Move {
	moves := make([]stats.Move, 0, len(b.Moves))
	for _, bin := range sortedKeys(b.Moves) {
		m := b.Moves[bin]
		moves = append(moves, stats.Move{Control: m.Control, Candidate: m.Candidate,
			KnownControl: m.Known.Control, KnownCandidate: m.Known.Candidate, KnownCost: m.Known.Cost})
	}
	return moves
}

// coarser gathers moves whose ratios lie near each other until there are few enough to
// be looked at thousands of times. Sums stay exact, and with them the difference at
// elasticity 0 and that of revenue at -1; elsewhere the error is of second order: with
// bins 0.2 % wide it is, over the band, below a hundred-thousandth of what was paid.
func coarser(moves []stats.Move) []stats.Move {
	for width := 5e-4; len(moves) > coarsest; width *= 2 {
		gathered := moves[:0:0]
		last := math.NaN()
		for _, m := range moves {
			bin := math.NaN()
			if m.Control > 0 && m.Candidate > 0 {
				bin = math.Floor(float64(m.Candidate-m.Control) / float64(m.Control) / width)
			}
			if bin != last {
				gathered = append(gathered, m)
				last = bin
				continue
			}
			g := &gathered[len(gathered)-1]
			g.Control += m.Control
			g.Candidate += m.Candidate
			g.KnownControl += m.KnownControl
			g.KnownCandidate += m.KnownCandidate
			g.KnownCost += m.KnownCost
		}
		if len(gathered) == len(moves) && width > 1e9 {
			return gathered // nothing but lines without a ratio, one move each
		}
		moves = gathered
	}
	return moves
}

// curve is the difference at each elasticity from -5 to 0, at the points of the
// literature and at those for which it is known what stock would have allowed.
func (c *finding) curve(moves []stats.Move) []CurvePoint {
	b := c.book
	at := slices.Clone(CapGrid)
	for e := int64(curveEnd); e <= 0; e += curveStep {
		at = append(at, e)
	}
	for _, p := range literature {
		at = append(at, int64(math.Round(p.at*1000)))
	}
	slices.Sort(at)
	var curve []CurvePoint
	for _, thousandths := range slices.Compact(at) {
		e := float64(thousandths) / 1000
		if thousandths == 0 {
			curve = append(curve, c.fixedDemand())
			continue
		}
		of := func(d stats.Demand, m stats.Measure) float64 { return d.Difference(m, moves, e) }
		revenue, margin := of(stats.ConstantElasticity, stats.Revenue), of(stats.ConstantElasticity, stats.Margin)
		p := CurvePoint{Elasticity: e, Revenue: b.about(revenue), Margin: b.about(margin),
			RevenueLinear: b.about(of(stats.Linear, stats.Revenue)), MarginLinear: b.about(of(stats.Linear, stats.Margin))}
		if cap, ok := b.capAt(thousandths); ok {
			revenueCapped, marginCapped := b.about(revenue-float64(cap.Revenue)), b.about(margin-cap.margin())
			p.RevenueCapped, p.MarginCapped = &revenueCapped, &marginCapped
		}
		curve = append(curve, p)
	}
	return curve
}

// fixedDemand is the point at 0, where no model has a say.
func (c *finding) fixedDemand() CurvePoint {
	revenue, margin := c.book.exactly(c.book.Diff()), c.book.exactly(c.book.KnownDiff())
	revenueCapped, marginCapped := revenue, margin
	return CurvePoint{Revenue: revenue, Margin: margin, RevenueLinear: revenue, MarginLinear: margin,
		RevenueCapped: &revenueCapped, MarginCapped: &marginCapped}
}

func (b *Book) capAt(thousandths int64) (Cap, bool) {
	i := slices.Index(CapGrid, thousandths)
	if i < 0 || i >= len(b.Caps) {
		return Cap{}, false
	}
	return b.Caps[i], true
}

// turnedByStock is the weakest elasticity in the band at which margin would rise, were
// there stock to sell, and does not with the stock there was.
func (c *finding) turnedByStock(moves []stats.Move) float64 {
	for _, thousandths := range CapGrid {
		e := float64(thousandths) / 1000
		cap, ok := c.book.capAt(thousandths)
		if !ok || !demandBand.Contains(e) {
			continue
		}
		if m := stats.ConstantElasticity.Difference(stats.Margin, moves, e); m > 0 && m-cap.margin() <= 0 {
			return e
		}
	}
	return 0
}

// breakEven looks for the elasticities at which the sign turns. A sign holds over the
// band where both models of demand say so.
func breakEven(measure stats.Measure, moves []stats.Move) (BreakEven, stats.Sign) {
	constant := stats.ConstantElasticity.BreakEven(measure, moves, demandBand)
	linear := stats.Linear.BreakEven(measure, moves, demandBand)
	v := BreakEven{Constant: turns(stats.ConstantElasticity, measure, moves, constant.Roots),
		Linear: turns(stats.Linear, measure, moves, linear.Roots)}
	sign := agreed(constant.OverBand, linear.OverBand)
	switch sign {
	case stats.Positive:
		v.Holds = "gain"
	case stats.Negative:
		v.Holds = "loss"
	}
	v.Sentence = v.words(measure, constant.Finding, sign)
	return v, sign
}

// agreed is what both models of demand say, Mixed where they do not agree.
func agreed(constant, linear stats.Sign) stats.Sign {
	if constant != linear {
		return stats.Mixed
	}
	return constant
}

// turns keeps the roots at which the sign does turn.
func turns(d stats.Demand, measure stats.Measure, moves []stats.Move, roots []float64) []float64 {
	kept := []float64{}
	for _, root := range roots {
		const beside = 1e-3
		left, right := d.Difference(measure, moves, root-beside), d.Difference(measure, moves, root+beside)
		if (left > 0) != (right > 0) && left != 0 && right != 0 {
			kept = append(kept, rounded(root, elasticityDecimals))
		}
	}
	return kept
}

// words says where a break-even lies.
func (v BreakEven) words(measure stats.Measure, found stats.Finding, sign stats.Sign) string {
	band := fmt.Sprintf("the plausible range of %.2f to %.2f", demandBand.High, demandBand.Low)
	switch {
	case found == stats.Everywhere:
		return fmt.Sprintf("There is no difference of %s at any elasticity.", measure)
	case measure == stats.Revenue && slices.Contains(v.Constant, -1):
		text := "Under constant elasticity revenue is the same at -1 whatever the prices are: revenue alone decides nothing"
		if len(v.Linear) > 0 {
			text += "; under linear demand it turns at " + elasticities(v.Linear)
		}
		return text + "."
	case len(v.Constant)+len(v.Linear) == 0 && sign == stats.Mixed:
		return fmt.Sprintf("No break-even of %s was found between 0 and %d, and its sign is not the same everywhere.", measure, stats.Lowest)
	case len(v.Constant)+len(v.Linear) == 0:
		return fmt.Sprintf("There is no break-even: %s is %s at every elasticity from 0 to %d.", measure, higher(sign), stats.Lowest)
	}
	where := "outside " + band
	if sign == stats.Positive || sign == stats.Negative {
		where += fmt.Sprintf(", over the whole of which %s is %s", measure, higher(sign))
	} else {
		where = "so that its sign is not the same over " + band
	}
	return fmt.Sprintf("The difference of %s turns at %s, %s.", measure, v.roots(), where)
}

// roots lists where a difference turns under either model.
func (v BreakEven) roots() string {
	var parts []string
	if len(v.Constant) > 0 {
		parts = append(parts, elasticities(v.Constant)+" under constant elasticity")
	}
	if len(v.Linear) > 0 {
		parts = append(parts, elasticities(v.Linear)+" under linear demand")
	}
	return strings.Join(parts, " and ")
}

func elasticities(roots []float64) string {
	texts := make([]string, len(roots))
	for i, r := range roots {
		texts[i] = fmt.Sprintf("%.2f", r)
	}
	return strings.Join(texts, ", ")
}

func higher(sign stats.Sign) string {
	switch sign {
	case stats.Positive:
		return "higher"
	case stats.Negative:
		return "lower"
	}
	return "the same"
}
