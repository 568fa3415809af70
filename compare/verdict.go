package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"banyan/compare/stats"
)

const (
	// worstCoverage is beyond which share of lines without an answer, in percent, the
	// rest speaks for nobody. Settings.MaxMissing is a guardrail far below it.
	worstCoverage = 20
	// leastCosts is from which share of revenue with a known cost, in percent, margin
	// decides. Below it nothing is ever ready: revenue alone decides nothing.
	leastCosts = 50
	// leastLines is the share of all compared lines, in percent, below which a currency
	// does not hold up the verdict on the others.
	leastLines = 5
	// longestWait is how many days to collect is advice. Where tails are so heavy that
	// it would take longer, waiting is none: the estimate is left out of the verdict,
	// which is then made of exact sums alone and never better than a review.
	longestWait = 90
)

// verdict climbs the ladder and stops at the first rung that holds.
func (a *analysis) verdict() Verdict {
	for _, rung := range []func() (Verdict, bool){a.unhealthy, a.noData, a.collecting, a.doNot, a.review} {
		if v, holds := rung(); holds {
			return v
		}
	}
	return a.ready()
}

// unhealthy says that no figure may be believed. Where the books are at fault the
// headline is hidden; where only a proof is missing it is shown, for what it is.
func (a *analysis) unhealthy() (Verdict, bool) {
	v := Verdict{Rung: Unhealthy}
	because := func(hide bool, change string, why ...string) {
		v.Why, v.HideMoney = append(v.Why, why...), v.HideMoney || hide
		v.Changes = append(v.Changes, change)
	}
	if r := a.report.Reconciliation; !r.OK {
		why := []string{"The books do not add up, and no figure may be believed until they do."}
		for _, fault := range r.Faults {
			why = append(why, sentence(fault))
		}
		because(true, "Find what was lost or counted twice, and build the comparison again from the events.", why...)
	}
	if n := a.facts.Noise; n != nil && n.Differ > 0 {
		because(true, "Run shadow aa again once the control reproduces every price that was paid.",
			fmt.Sprintf("Control against control is not zero: %s of %s lines differ from themselves.", counted(n.Differ), counted(n.Lines)))
	}
	if missing, asked := a.coverage(); 100*missing > worstCoverage*asked {
		because(true, "Make the candidate answer, then replay the orders that it owes.",
			fmt.Sprintf("The candidate gave no usable price for %s of %s lines, more than %d %%.", counted(missing), counted(asked), worstCoverage))
	}
	if a.facts.NoiseDue != "" && a.compared() {
		because(false, "Run shadow aa: it compares the control with itself, which must come to nothing.",
			sentence("no noise floor was measured for this candidate: "+a.facts.NoiseDue))
	}
	for _, why := range a.facts.Unhealthy {
		because(false, sentence("once this is over: "+why), sentence(why))
	}
	if len(v.Why) == 0 {
		return v, false
	}
	v.Sentence = "No verdict: the comparison is not healthy. " + v.Why[0]
	return v, true
}

func (a *analysis) compared() bool { return a.report.Window.Lines > 0 }

func (a *analysis) noData() (Verdict, bool) {
	if a.compared() {
		return Verdict{}, false
	}
	v := Verdict{Rung: NoData, Sentence: "No verdict: nothing has been compared yet.",
		Changes: []string{"Orders that the candidate prices."}}
	v.Why = []string{fmt.Sprintf("%s orders were consumed, and no line of them could be compared.", counted(a.ledger.Consumed))}
	return v, true
}

// collecting says that there is too little for a verdict, and for how long.
func (a *analysis) collecting() (Verdict, bool) {
	v := Verdict{Rung: Collecting}
	for _, c := range a.decisive() {
		n, open := len(c.sums.diff), openDays(c.book)
		if n < a.settings.MinClusters {
			v.Why = append(v.Why, fmt.Sprintf("%s customers in %s, where %s are needed.", counted(n), c.book.Currency, counted(a.settings.MinClusters)))
		}
		if open < a.settings.MinDays {
			v.Why = append(v.Why, fmt.Sprintf("%s with orders in %s, where %d are needed: a week has a pattern.", days(open), c.book.Currency, a.settings.MinDays))
		}
		if a.skewed(c) && !a.heavy(c) {
			v.Why = append(v.Why, fmt.Sprintf("Few customers make much of the difference in %s: where they are so uneven an average settles from %s customers on, and there are %s (skewness %.1f).",
				c.book.Currency, counted(c.sums.moments.Needed()), counted(n), c.sums.moments.Skewness()))
		}
		v.DaysLeft = max(v.DaysLeft, a.daysLeft(c))
	}
	if len(v.Why) == 0 {
		return v, false
	}
	v.Why = append(append(v.Why, a.failing()...), a.aside()...)
	v.Sentence = fmt.Sprintf("No verdict yet: there is too little to go by, and it takes about %s more.", days(v.DaysLeft))
	v.Changes = []string{fmt.Sprintf("About %s more with orders like these.", days(v.DaysLeft))}
	return v, true
}

// skewed says that the customers are too few for how unlike they are, and that without
// the largest of them the sign would be open; heavy that they will be too few for
// longer than anybody waits.
func (a *analysis) skewed(c *finding) bool { return c.unlike() && !c.carried() }

func (c *finding) unlike() bool { return len(c.sums.diff) >= 2 && !c.sums.moments.Enough() }

// carried says that the many alone say which sign it is.
func (c *finding) carried() bool {
	many := c.many
	what, sequence, _ := c.basis()
	if what == "margin" {
		many = c.knownMany
	}
	sign := sequence.Sign()
	return sign != stats.Mixed && sign == many.Sign()
}

// without says, where customers are unlike, that the few do not decide the sign.
func (c *finding) without() []string {
	if !c.unlike() || !c.carried() {
		return nil
	}
	return []string{fmt.Sprintf("Few customers make much of the difference in %s: the largest 1 %% have %.0f %% of it (skewness %.1f). How large an estimate is stays unsure, "+
		"but without them the sign is the same.", c.book.Currency, c.money.Projection.TopShare, c.sums.moments.Skewness())}
}

func (a *analysis) heavy(c *finding) bool {
	return a.skewed(c) && a.daysFor(c, float64(c.sums.moments.Needed())) > longestWait
}

// daysFor is how many more days it takes to see that many customers, were new ones to
// come as they have so far. They come more slowly as time goes by, so that it is short.
func (a *analysis) daysFor(c *finding, customers float64) float64 {
	n := float64(len(c.sums.diff))
	perDay := n / float64(max(1, a.report.Window.Days))
	if perDay == 0 {
		return math.Inf(1)
	}
	return math.Ceil(max(0, customers-n) / perDay)
}

// daysLeft is until all that collecting waits for is there, at least 1.
func (a *analysis) daysLeft(c *finding) int {
	open := openDays(c.book)
	left := float64(a.settings.MinDays-open) * float64(a.report.Window.Days) / float64(max(1, open))
	left = max(left, a.daysFor(c, float64(a.settings.MinClusters)))
	if a.skewed(c) && !a.heavy(c) {
		left = max(left, a.daysFor(c, float64(c.sums.moments.Needed())))
	}
	return int(max(1, min(math.Ceil(left), math.MaxInt32)))
}

// doNot says that the candidate would do harm, whatever else is not known.
func (a *analysis) doNot() (Verdict, bool) {
	v := Verdict{Rung: DoNot, Why: a.failing()}
	for _, g := range a.report.Guardrails {
		if !g.OK {
			v.Changes = append(v.Changes, fmt.Sprintf("A candidate that keeps the guardrail: %s (limit: %s).", g.Name, g.Limit))
		}
	}
	for _, c := range a.decisive() {
		why, change := a.harm(c)
		v.Why = append(v.Why, why...)
		v.Changes = append(v.Changes, change...)
	}
	if len(v.Why) == 0 {
		return v, false
	}
	v.Why = append(v.Why, a.aside()...)
	link := "but"
	if slices.ContainsFunc(a.findings, func(c *finding) bool { return c.book.Diff() < 0 }) {
		link = "and"
	}
	by, parts := a.against()
	v.Sentence = "Do not switch: " + a.moneyWords() + by
	if len(parts) > 0 {
		v.Sentence += ", " + link + " " + strings.Join(parts, ", and ")
	}
	v.Sentence += "."
	return v, true
}

// harm is what speaks against the candidate in one currency. A price cut loses at fixed
// demand by its nature; where margin rises by both studies of the literature that loss
// alone condemns nothing, and what customers do decides: it is for review.
func (a *analysis) harm(c *finding) (why, change []string) {
	what, sequence, band := c.basis()
	code := c.book.Currency
	if sequence.Sign() == stats.Negative && !c.earnedBack() && !a.heavy(c) {
		why = append(why, fmt.Sprintf("At fixed demand %s in %s falls, and chance does not explain it: %s.", what, code, c.book.period(sequence)))
		why = append(why, c.without()...)
		change = append(change, "Prices under which "+what+" in "+code+" does not fall at fixed demand.")
	}
	if what == "margin" && c.sequence.Sign() == stats.Negative && sequence.Sign() != stats.Negative && !a.heavy(c) {
		why = append(why, fmt.Sprintf("At fixed demand what is won in %s where costs are known is lost where they are not, and chance does not explain it: "+
			"over all lines %s.", code, c.book.period(c.sequence)))
		change = append(change, "Prices in "+code+" that lose nothing where the cost is not known.")
	}
	if what == "margin" && band == stats.Negative {
		why = append(why, fmt.Sprintf("Margin in %s falls at every elasticity from %.2f to %.2f: by %s at %.2f, by %s at %.2f.", code, demandBand.High, demandBand.Low,
			inWords(c.marginAt(0).loss()), literature[0].at, inWords(c.marginAt(1).loss()), literature[1].at))
		if e := c.money.Demand.Margin; len(e.Constant)+len(e.Linear) == 0 {
			change = append(change, "Other prices. "+e.Sentence)
		} else {
			change = append(change, fmt.Sprintf("An elasticity of this shop, found in a live test, outside %.2f to %.2f. %s", demandBand.High, demandBand.Low, e.Sentence))
		}
	}
	return why, change
}

// earnedBack says that margin rises between the two studies, whatever it does at fixed
// demand.
func (c *finding) earnedBack() bool {
	what, _, _ := c.basis()
	return what == "margin" && c.studied == stats.Positive
}

// basis is what decides in a currency: margin where enough costs are known, with its
// sign over the band, else revenue, which has none that says anything.
func (c *finding) basis() (what string, sequence stats.Interval, band stats.Sign) {
	if c.money.Headline.Margin.Share >= leastCosts {
		return "margin", c.known, c.margin
	}
	return "revenue", c.sequence, stats.Mixed
}

// decisive are the currencies that make a verdict: those with leastLines of all lines,
// and those with as many customers as a verdict needs.
func (a *analysis) decisive() []*finding {
	var list []*finding
	for _, c := range a.findings {
		if n := c.book.Compared.Lines; n > 0 && (100*n >= leastLines*a.report.Window.Lines || len(c.sums.diff) >= a.settings.MinClusters) {
			list = append(list, c)
		}
	}
	return list
}

// small are the currencies with too few lines and customers for the verdict.
func (a *analysis) small() []*finding {
	decisive := a.decisive()
	return slices.DeleteFunc(slices.Clone(a.findings), func(c *finding) bool {
		return c.book.Compared.Lines == 0 || slices.Contains(decisive, c)
	})
}

// aside tells of what is no part of the verdict: of the currencies that are too small for
// it, and of what the candidate does not seem to know.
func (a *analysis) aside() []string {
	var list []string
	for _, c := range a.small() {
		list = append(list, fmt.Sprintf("%s has %s of the lines, too few to be part of the verdict.", c.book.Currency,
			percentText(rounded(percentOf(c.book.Compared.Lines, a.report.Window.Lines), 2))))
	}
	for _, c := range a.decisive() {
		list = append(append(list, c.falls()...), c.unaware()...)
	}
	return list
}

// loses says that a small currency loses, and not in a line or two by chance. Few lines
// may be much money: there is no rate here to say how much it is beside the rest.
func (c *finding) loses() bool {
	if c.book.Diff() >= 0 {
		return false
	}
	return c.book.Compared.Lines >= stats.FewClusters || stats.Total(c.sums.moments).Interval(level).Sign() == stats.Negative
}

// failing are the guardrails that do not hold, in words.
func (a *analysis) failing() []string {
	var list []string
	for _, g := range a.report.Guardrails {
		if !g.OK {
			list = append(list, "A guardrail does not hold: "+g.words()+".")
		}
	}
	return list
}
