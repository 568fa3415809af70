package compare

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// guardrails are the bounds that must hold whatever the money says. Those that Settings
// have negative are off; those of faults that must never be (another currency, an answer
// that knew the future, a noise floor that is not zero) cannot be turned off. One for
// all currencies shows the worst of them, and says which it is.
func (a *analysis) guardrails() []Guardrail {
	s := a.settings
	rails := []Guardrail{}
	for _, g := range []struct {
		on   bool
		make func() Guardrail
	}{
		{s.MaxMissing >= 0, a.missing},
		{s.MaxRise >= 0, a.rise},
		{s.MaxRisen >= 0, a.risen},
		{s.MaxBelowCost >= 0 && a.costs(), a.belowCost},
		{s.MinMargin >= 0 && a.costs(), a.marginFloor},
		{true, func() Guardrail { return a.never("answers in another currency", WrongCurrency) }},
		{true, func() Guardrail { return a.never("answers that knew later events", SawFuture) }},
		{a.facts.Noise != nil, a.noiseFloor},
		{a.facts.Noise != nil && a.facts.Noise.RepeatLines > 0, a.repeat},
	} {
		if g.on {
			rails = append(rails, g.make())
		}
	}
	return rails
}

func (a *analysis) costs() bool {
	return slices.ContainsFunc(a.findings, func(c *finding) bool { return c.book.Known.Lines > 0 })
}

// worst finds the currency with the largest figure, the first of equal ones.
func (a *analysis) worst(of func(*finding) (value float64, ok bool)) (worst float64, detail string) {
	worst = math.Inf(-1)
	for _, c := range a.findings {
		if v, ok := of(c); ok && v > worst {
			worst, detail = v, c.book.Currency
		}
	}
	if detail == "" {
		return 0, ""
	}
	if len(a.findings) == 1 {
		detail = ""
	}
	return worst, detail
}

func inCurrency(code string) string {
	if code == "" {
		return ""
	}
	return "in " + code
}

func (a *analysis) missing() Guardrail {
	lines, of := a.coverage()
	share := percentOf(lines, of)
	return Guardrail{Name: "lines without an answer", Limit: atMost(a.settings.MaxMissing), Value: measured(share, a.settings.MaxMissing),
		OK: share <= a.settings.MaxMissing, Detail: fmt.Sprintf("%s of %s lines", counted(lines), counted(of))}
}

// coverage is how many lines the candidate owes, and of how many it was asked for.
func (a *analysis) coverage() (missing, asked int64) {
	for _, c := range a.findings {
		missing += c.owed.Lines
		asked += c.owed.Lines + c.book.Compared.Lines
	}
	return missing, asked
}

func (a *analysis) rise() Guardrail {
	highest, currency := a.worst(func(c *finding) (float64, bool) { return c.money.Customers.Highest, true })
	return Guardrail{Name: "largest rise of a single price", Limit: atMost(a.settings.MaxRise), Value: measured(highest, a.settings.MaxRise),
		OK: highest <= a.settings.MaxRise, Detail: inCurrency(currency)}
}

func (a *analysis) risen() Guardrail {
	by := a.settings.RisenBy
	share, currency := a.worst(func(c *finding) (float64, bool) {
		var risen, all int64
		for _, k := range c.book.Clusters {
			if k.Lines == 0 {
				continue
			}
			all++
			if 100*float64(k.Diff) > by*float64(k.Control) {
				risen++
			}
		}
		return percentOf(risen, all), all > 0
	})
	return Guardrail{Name: fmt.Sprintf("customers who pay over %s more", percentText(by)), Limit: atMost(a.settings.MaxRisen),
		Value: measured(share, a.settings.MaxRisen), OK: share <= a.settings.MaxRisen, Detail: inCurrency(currency)}
}

func (a *analysis) belowCost() Guardrail {
	var below, control, fresh int64
	for _, c := range a.findings {
		below += c.book.Below.Lines
		control += c.book.ControlBelow.Lines
		fresh += c.book.NewBelow.Lines
	}
	return Guardrail{Name: "lines below cost, beyond those sold so already", Limit: "at most " + plainNumber(a.settings.MaxBelowCost),
		Value: counted(fresh), OK: float64(fresh) <= a.settings.MaxBelowCost,
		Detail: fmt.Sprintf("%s lines with the candidate, %s as they were paid", counted(below), counted(control))}
}

func (a *analysis) marginFloor() Guardrail {
	lowest, currency := a.worst(func(c *finding) (float64, bool) {
		k := c.book.Known
		return -percentOf(k.Candidate-k.Cost, k.Candidate), k.Lines > 0
	})
	return Guardrail{Name: "margin of revenue", Limit: "at least " + percentText(a.settings.MinMargin), Value: measured(-lowest, a.settings.MinMargin),
		OK: -lowest >= a.settings.MinMargin, Detail: inCurrency(currency)}
}

// never counts lines of a fault that must not be.
func (a *analysis) never(name string, reason Reason) Guardrail {
	var lines int64
	for _, c := range a.findings {
		lines += c.book.Excluded[reason].Lines
	}
	return Guardrail{Name: name, Limit: "none", Value: counted(lines), OK: lines == 0}
}

func (a *analysis) noiseFloor() Guardrail {
	n := a.facts.Noise
	return Guardrail{Name: "noise, control against control", Limit: "none", Value: counted(n.Differ), OK: n.Differ == 0,
		Detail: fmt.Sprintf("%s of %s lines differ from themselves", counted(n.Differ), counted(n.Lines))}
}

func (a *analysis) repeat() Guardrail {
	n := a.facts.Noise
	return Guardrail{Name: "the candidate, asked twice", Limit: "none", Value: counted(n.RepeatDiffer), OK: n.RepeatDiffer == 0,
		Detail: fmt.Sprintf("%s of %s lines got another answer", counted(n.RepeatDiffer), counted(n.RepeatLines))}
}

func atMost(percent float64) string { return "at most " + percentText(percent) }

func percentText(percent float64) string { return plainNumber(percent) + " %" }

func plainNumber(f float64) string {
	return grouped(strconv.FormatFloat(rounded(f, percentDecimals), 'f', -1, 64))
}

// measured writes a percentage for people: with one decimal, with none from a thousand
// on, and with so many more that what is beyond its limit is not written as the limit.
func measured(percent, limit float64) string {
	decimals := 1
	if math.Abs(percent) >= 1000 {
		decimals = 0
	}
	for decimals < percentDecimals && percent != limit && (rounded(percent, decimals) == limit || rounded(percent, decimals) == 0 && percent != 0) {
		decimals++
	}
	return percentText(rounded(percent, decimals))
}

// words are a guardrail as a condition: "largest rise of a single price: 21 %, at most
// 15 %".
func (g Guardrail) words() string {
	text := fmt.Sprintf("%s: %s, where the limit is %s", g.Name, g.Value, g.Limit)
	if g.Detail != "" {
		text += " (" + g.Detail + ")"
	}
	return text
}

// stopIf is when a live test must end, in the words of the guardrails.
func (a *analysis) stopIf() string {
	var limits []string
	for _, g := range a.report.Guardrails {
		if g.Limit != "none" {
			limits = append(limits, g.Name+": "+strings.NewReplacer("at most", "more than", "at least", "less than").Replace(g.Limit))
		}
	}
	if len(limits) == 0 {
		return "margin falls below that of the other arm"
	}
	return strings.Join(limits, "; ") + "; margin falls below that of the other arm"
}
