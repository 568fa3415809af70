package compare

import (
	"fmt"

	"banyan/compare/stats"
)

// doubt is a reason why a candidate is not ready for a live test, and what would end it.
type doubt struct{ why, change string }

// review says that somebody has to look: nothing speaks against the candidate for sure,
// and something keeps it from being ready.
func (a *analysis) review() (Verdict, bool) {
	v := Verdict{Rung: Review}
	for _, c := range a.decisive() {
		for _, d := range a.doubts(c) {
			v.Why, v.Changes = append(v.Why, d.why), append(v.Changes, d.change)
		}
	}
	for _, c := range a.small() {
		if c.loses() {
			v.Why = append(v.Why, fmt.Sprintf("The candidate loses in %s, which has too few lines for a verdict of its own: %s of %s.", c.book.Currency,
				inWords(positive(c.money.Headline.Diff)), inWords(c.money.Headline.Control)))
			v.Changes = append(v.Changes, "Somebody who says what "+c.book.Currency+" is worth beside the rest, or prices that lose nothing there.")
		}
	}
	if len(v.Why) == 0 {
		return v, false
	}
	v.Why = append(v.Why, a.aside()...)
	v.Sentence = fmt.Sprintf("To be reviewed: %s. %s", a.moneyWords(), v.Why[0])
	return v, true
}

// doubts about one currency, those that weigh most first.
func (a *analysis) doubts(c *finding) []doubt {
	if c.book.Rise.Lines+c.book.Fall.Lines == 0 {
		return []doubt{{"Every price in " + c.book.Currency + " is the same: there is nothing to test.", "A candidate with other prices."}}
	}
	var list []doubt
	add := func(is bool, why, change string) {
		if is {
			list = append(list, doubt{why, change})
		}
	}
	code, b := c.book.Currency, c.book
	what, sequence, band := c.basis()
	add(what == "revenue", fmt.Sprintf("Costs are known for %.1f %% of revenue in %s, and revenue alone decides nothing.", c.money.Headline.Margin.Share, code),
		fmt.Sprintf("Costs for at least %d %% of revenue.", leastCosts))
	add(what == "margin" && band != stats.Positive, c.turning(),
		"A live test that finds out on which side of the break-even customers are.")
	add(c.earnedBack() && sequence.Sign() == stats.Negative,
		fmt.Sprintf("Margin in %s falls at fixed demand: it rises only where customers buy more, as at elasticities of %.2f to %.2f.", code, literature[0].at, literature[1].at),
		"A live test on little of the shop, because a shadow cannot see customers buy more.")
	add(c.stockTurns != 0, fmt.Sprintf("At elasticity %.2f margin in %s would rise only with more stock than there was.", c.stockTurns, code), "More stock of what becomes cheaper.")
	add(a.heavy(c), fmt.Sprintf("Few customers make the difference in %s: the largest 1 %% have %.0f %% of it, and an average of customers so uneven settles from %s on.",
		code, c.money.Projection.TopShare, counted(c.sums.moments.Needed())), "Look at those customers by name; no amount of waiting helps.")
	add(!a.heavy(c) && (sequence.Sign() == stats.Mixed || sequence.Sign() == stats.Zero), fmt.Sprintf("What %s in %s does may be chance: %s, which holds zero.", what, code, b.period(sequence)),
		"More customers, as long as they are like those so far.")
	add(what == "margin" && sequence.Sign() == stats.Positive && c.sequence.Sign() != stats.Positive && !a.heavy(c),
		fmt.Sprintf("What is won in %s where costs are known may be lost where they are not: over all lines %s.", code, b.period(c.sequence)),
		"Costs for more of the revenue, or prices that lose nothing where they are not known.")
	add(c.twoWay.Sign() == stats.Mixed && sequence.Sign() != stats.Mixed && !a.heavy(c),
		fmt.Sprintf("By customer and product the interval in %s holds zero (%s): few products decide.", code, b.span(c.twoWay)), "A candidate that moves more products.")
	open := func(limit float64) bool {
		total := stats.Missing(float64(b.Diff()), float64(c.owed.Control), limit/100)
		known := stats.Missing(float64(b.KnownDiff()), float64(c.owed.Control), limit/100)
		return total.Sign() == stats.Mixed || what == "margin" && known.Sign() == stats.Mixed
	}
	limit := a.settings.MissingCap
	add(c.owed.Lines > 0 && open(limit),
		fmt.Sprintf("What the candidate did not answer in %s could turn the sign: %s lines for %s.", code, counted(c.owed.Lines), inWords(b.exactly(c.owed.Control))), "Answers for the lines that are missing.")
	farthest := c.farthest()
	add(c.owed.Lines > 0 && !open(limit) && farthest > limit && open(farthest),
		fmt.Sprintf("What the candidate did not answer in %s could turn the sign: the bounds take %s for the most that a price moves, and prices that it did answer move by up to %s.",
			code, percentText(limit), percentText(rounded(farthest, 2))), "Answers for the lines that are missing.")
	return list
}

// farthest is the largest move of a price that was answered, in percent.
func (c *finding) farthest() float64 {
	most := int64(0)
	for _, p := range c.book.Products {
		most = max(most, p.Highest, -p.Lowest)
	}
	return float64(most) / 10_000
}

// turning says where in the band the sign of margin turns.
func (c *finding) turning() string {
	e := c.money.Demand.Margin
	if len(e.Constant)+len(e.Linear) == 0 {
		return "Margin in " + c.book.Currency + " is not higher over the whole of what is plausible. " + e.Sentence
	}
	return fmt.Sprintf("The sign of margin in %s depends on how customers answer to price: it turns at elasticity %s, and %.2f to %.2f is plausible.",
		c.book.Currency, e.roots(), demandBand.High, demandBand.Low)
}

// period says what a next period would bring, by the interval that decides.
func (b *Book) period(i stats.Interval) string {
	if !i.Known() {
		return "there are too few to say what a next period would bring"
	}
	return "a next period like this one would bring " + b.span(i) + " (95 %, anytime-valid: however often one looks)"
}

// span writes an interval in money.
func (b *Book) span(i stats.Interval) string {
	if !i.Known() {
		return "too few to say"
	}
	return fmt.Sprintf("%s to %s", inWords(b.about(i.Low)), inWords(b.about(i.High)))
}
