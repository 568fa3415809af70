package page

import (
	"regexp"

	"banyan/compare"
)

// typeset sets the sentences of a report as the page sets its figures: with a minus
// that is one, and with numbers that keep together with what they count. Names and
// commands stay as they are: what is copied from a page must still work.
func typeset(r *compare.Report) {
	v := &r.Verdict
	set(&v.Sentence)
	for _, list := range [][]string{v.Why, v.Changes, r.Assumptions, r.Reconciliation.Faults} {
		setAll(list)
	}
	if v.Next != nil {
		set(&v.Next.Why, &v.Next.StopIf)
	}
	set(&r.Reconciliation.Projection.Detail)
	for i := range r.Guardrails {
		g := &r.Guardrails[i]
		set(&g.Limit, &g.Value, &g.Detail)
	}
	for i := range r.Currencies {
		m := &r.Currencies[i]
		set(&m.Demand.Revenue.Sentence, &m.Demand.Margin.Sentence)
		setAll(m.Projection.Thin)
		for j := range m.Projection.Intervals {
			set(&m.Projection.Intervals[j].Note)
		}
		set(&m.Projection.Sequence.Note)
		for j := range m.OwnShop {
			set(&m.OwnShop[j].Trap)
		}
	}
	if r.Operations != nil {
		setAll(r.Operations.Notes)
	}
}

func setAll(list []string) {
	for i := range list {
		set(&list[i])
	}
}

var (
	hyphen   = regexp.MustCompile(`(^|[\s(\x{a0}])-(\d)`)
	counted  = regexp.MustCompile(`(\d) (%|[A-Z]{3}\b)`)
	negative = "${1}" + minus + "${2}"
	together = "${1}" + noBreak + "${2}"
)

func set(texts ...*string) {
	for _, s := range texts {
		*s = counted.ReplaceAllString(hyphen.ReplaceAllString(*s, negative), together)
	}
}
