package compare

import (
	"fmt"
	"math"
	"strings"

	"banyan/compare/stats"
	"banyan/money"
)

const (
	// leastUnaware is which share of all differences, in percent, has to come of list
	// prices before a verdict speaks of it.
	leastUnaware = 5
	// mostOfIt and fewOfAll say when a difference falls on few: at least so much of it, in
	// percent, on at most so much of what was paid.
	mostOfIt, fewOfAll = 50, 33
)

// against says in a few words what speaks against the candidate: by what follows the
// money, and by parts that stand for themselves. Why has the figures.
func (a *analysis) against() (by string, parts []string) {
	decisive := a.decisive()
	for _, c := range decisive {
		why, _ := a.harm(c)
		_, sequence, _ := c.basis()
		switch {
		case len(why) == 0:
		case sequence.Sign() != stats.Negative && c.sequence.Sign() != stats.Negative:
			parts = append(parts, "margin in "+c.book.Currency+" falls however strongly customers answer within what is plausible")
		case len(a.findings) == 1 && c.book.Diff() < 0:
			by = ", which chance does not explain"
		default:
			parts = append(parts, "the candidate loses in "+c.book.Currency+", which chance does not explain")
		}
	}
	var broken []string
	for _, g := range a.report.Guardrails {
		if !g.OK {
			broken = append(broken, g.Name)
		}
	}
	switch len(broken) {
	case 0:
	case 1:
		parts = append(parts, "a guardrail is broken ("+broken[0]+")")
	default:
		parts = append(parts, fmt.Sprintf("%d of %d guardrails are broken (%s)", len(broken), len(a.report.Guardrails), strings.Join(broken, "; ")))
	}
	return by, parts
}

// falls names the segment on which most of the difference falls though it is a small
// part of the shop, the smallest of such, where that is no chance.
func (c *finding) falls() []string {
	all, paid := float(c.money.Headline.Diff), float(c.money.Headline.Control)
	if all == 0 || paid <= 0 {
		return nil
	}
	var found *SegmentView
	for i := range c.money.Segments.Rows {
		row := &c.money.Segments.Rows[i] // by money, the largest first
		of := float(row.Diff) / all
		if !row.Thin && row.Holm < significant && 100*of >= mostOfIt && of <= 1.5 && 100*float(row.Control) <= fewOfAll*paid &&
			(found == nil || float(row.Control) < float(found.Control)) {
			found = row
		}
	}
	if found == nil {
		return nil
	}
	return []string{fmt.Sprintf("Most of it falls on the segment %s: %s of %s, on %.0f %% of what was paid.", found.Segment, signedWords(found.Diff),
		signedWords(c.money.Headline.Diff), 100*float(found.Control)/paid)}
}

// float is an amount for comparisons and shares.
func float(a money.Amount) float64 { return float64(a.Amount) / math.Pow10(a.Scale) }

// unaware says that the candidate charges the list price to customers who pay another,
// where that is a good part of all that changes. Nobody meant it, as a rule: whoever
// built the candidate had not heard of it.
func (c *finding) unaware() []string {
	var all float64
	for _, cause := range c.book.Causes {
		all += math.Abs(float64(cause.Diff))
	}
	var list []string
	for _, of := range []struct {
		cause Cause
		than  string
	}{{MissingSurcharge, "more"}, {MissingDiscount, "less"}} {
		if diff := c.book.Causes[of.cause].Diff; diff != 0 && 100*math.Abs(float64(diff)) >= leastUnaware*all {
			list = append(list, fmt.Sprintf("The candidate charges the list price where customers paid %s, as if it did not know that they do: %s of the difference in %s, without the lines on which it moves the list price too.",
				of.than, signedWords(c.book.exactly(diff)), c.book.Currency))
		}
	}
	return list
}
