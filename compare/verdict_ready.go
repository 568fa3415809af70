package compare

import (
	"fmt"
	"math"
	"strings"

	"banyan/compare/stats"
)

// ready is the top of the ladder. It names the experiment that comes next, because a
// shadow has shown all that it can.
func (a *analysis) ready() Verdict {
	v := Verdict{Rung: Ready}
	for _, c := range a.decisive() {
		code := c.book.Currency
		v.Why = append(v.Why,
			fmt.Sprintf("Margin in %s is higher at fixed demand, and chance does not explain it: %s.", code, c.book.period(c.known)),
			fmt.Sprintf("It stays higher at every elasticity from %.2f to %.2f: by %s at %.2f, by %s at %.2f.", demandBand.High, demandBand.Low,
				inWords(c.marginAt(0).Margin), literature[0].at, inWords(c.marginAt(1).Margin), literature[1].at))
		v.Why = append(v.Why, c.without()...)
		if share := c.money.Headline.Margin.Share; share < 100 {
			v.Why = append(v.Why, fmt.Sprintf("This is of the %s of revenue in %s whose cost is known.", percentText(rounded(share, 1)), code))
		}
		if c.owed.Lines > 0 {
			v.Why = append(v.Why, fmt.Sprintf("The candidate gave no price for %s lines for %s in %s: were they within %s of what was paid, the difference would be %s to %s.",
				counted(c.owed.Lines), inWords(c.book.exactly(c.owed.Control)), code, percentText(a.settings.MissingCap), inWords(c.money.Bounds.Low), inWords(c.money.Bounds.High)))
		}
		v.Changes = append(v.Changes, fmt.Sprintf("Customers in %s who answer to price more strongly than %.2f. %s", code, demandBand.Low, c.money.Demand.Margin.Sentence))
	}
	v.Why = append(v.Why, fmt.Sprintf("All %d guardrails hold.", len(a.report.Guardrails)))
	if off := a.settings.off(); len(off) > 0 {
		v.Why = append(v.Why, "Nobody has looked at what is turned off: "+strings.Join(off, ", ")+".")
	}
	v.Why = append(v.Why, a.aside()...)
	v.Changes = append(v.Changes, "A guardrail that fails, or an interval that comes to hold zero, as orders come in.")
	v.Next = a.experiment()
	v.Sentence = fmt.Sprintf("Ready for a live test: %s, and margin is higher however strongly customers answer within what is plausible; only a test shows what they do.", a.moneyWords())
	return v
}

const (
	power        = 0.8
	shortestTest = 14 // days: each weekday twice
	longestTest  = 56
	significant  = 0.05
)

// shares of a segment, in percent, that a test may take; the smallest that suffices is
// taken, because a test may hurt.
var shares = []float64{10, 20, 50, 100}

// experiment is the live test that comes next, in the largest of the decisive
// currencies. It looks for the difference that the shadow has found.
//
// Prices here belong to a product and a state of the shop, and are seen by everybody: a
// customer of one arm would see the price of the other. So the design is a switchback,
// whose unit is a region (or category) and a stretch of time.
func (a *analysis) experiment() *Experiment {
	c := a.decisive()[0]
	for _, other := range a.decisive() {
		if other.book.Compared.Lines > c.book.Compared.Lines {
			c = other
		}
	}
	e := &Experiment{Design: "switchback", Segment: "all", StopIf: a.stopIf(),
		Why: "The candidate's prices belong to products and are public, so that customers of one arm would see those of the other: switch " +
			"prices by region or category and stretch of time. Where each customer has prices of their own, an A/B test by customer finds more " +
			"in the same time. Power is that of finding the difference at fixed demand, computed as for customers, which for a switchback is the " +
			"best that can be had."}
	customers, part := float64(len(c.sums.diff)), 1.0
	if row := c.bestSegment(); row != nil {
		e.Segment = row.Segment
		part = float64(row.Clusters) / customers
	}
	test := stats.LiveTest{Effect: c.sums.moments.Mean(), Deviation: c.sums.controls.Deviation()}
	perDay := customers * part / float64(max(1, a.report.Window.Days))
	for _, e.Share = range shares {
		test.PerDay = perDay * e.Share / 100
		wanted, err := test.Days(power)
		if err != nil {
			wanted = longestTest // customers all alike, or an effect too small for any test
		}
		e.Days = max(shortestTest, (wanted+stats.Week-1)/stats.Week*stats.Week)
		if e.Days <= longestTest {
			break
		}
	}
	e.Days = min(e.Days, longestTest)
	e.Power = rounded(test.Power(float64(e.Days)), percentDecimals)
	if mean := c.sums.controls.Mean(); mean > 0 {
		detectable := 100 * test.Detectable(float64(e.Days), power) / mean
		e.Detectable = rounded(min(detectable, math.MaxInt32), percentDecimals)
	}
	if e.Power < power {
		e.Why += fmt.Sprintf(" Customers are so unlike that %d days find no less than %s of revenue for sure: take the test to find harm, and not to prove the gain.",
			e.Days, percentText(rounded(e.Detectable, 1)))
	}
	return e
}

// bestSegment is the one with the most money among those whose gain is significant when
// corrected for all that were looked at, and that are not the whole shop; nil for none.
func (c *finding) bestSegment() *SegmentView {
	for i := range c.money.Segments.Rows {
		row := &c.money.Segments.Rows[i] // by money, the largest first
		if !row.Thin && row.Holm < significant && row.Diff.Amount > 0 && row.Clusters < len(c.sums.diff) && strings.Contains(row.Segment, "=") {
			return row
		}
	}
	return nil
}
