package compare

import (
	"fmt"
	"strings"
)

// reconcile checks that nothing got lost: compared + excluded by reason = consumed, in
// orders, lines and money; that the rows of customers, products, moves and days each
// add up to the difference in the headline; and that a projection of orders, where
// there is one, has counted the same. Faults are told with their numbers.
func reconcile(l *Ledger, p ProjectionCheck) Reconciliation {
	r := Reconciliation{Events: []EventRow{{"compared", l.Compared}}, Currencies: []CurrencyRows{}, Projection: p}
	sum := l.Compared
	for _, reason := range sortedKeys(l.Excluded) {
		r.Events = append(r.Events, EventRow{string(reason), l.Excluded[reason]})
		sum += l.Excluded[reason]
	}
	r.Events = append(r.Events, EventRow{"consumed", l.Consumed})
	if sum != l.Consumed {
		r.fault("%d orders are compared or excluded, but %d were consumed: %+d", sum, l.Consumed, sum-l.Consumed)
	}
	for _, currency := range l.Currencies() {
		r.book(l.Books[currency])
	}
	if p.State == "" {
		r.Projection.State = "none"
	}
	if p.State == "differs" {
		r.fault("a projection of the same orders has counted otherwise%s", p.words())
	}
	r.OK = len(r.Faults) == 0
	return r
}

func (r *Reconciliation) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// book checks one currency.
func (r *Reconciliation) book(b *Book) {
	rows := []MoneyRow{b.moneyRow("compared", b.Compared)}
	sum := b.Compared
	for _, reason := range sortedKeys(b.Excluded) {
		t := b.Excluded[reason]
		rows = append(rows, b.moneyRow(string(reason), t))
		sum.Lines += t.Lines
		sum.Control += t.Control
	}
	rows = append(rows, b.moneyRow("consumed", b.Consumed))
	r.Currencies = append(r.Currencies, CurrencyRows{Currency: b.Currency, Rows: rows})
	if sum.Lines != b.Consumed.Lines {
		r.fault("%d lines in %s are compared or excluded, but %d were consumed: %+d", sum.Lines, b.Currency, b.Consumed.Lines,
			sum.Lines-b.Consumed.Lines)
	}
	if sum.Control != b.Consumed.Control {
		r.fault("%s was paid for what is compared or excluded, but %s for what was consumed", inWords(b.exactly(sum.Control)),
			inWords(b.exactly(b.Consumed.Control)))
	}
	var parts Tally
	for _, t := range b.ByPartition {
		parts.Lines += t.Lines
		parts.Control += t.Control
	}
	if parts != b.Consumed {
		r.fault("the partitions hold %d lines for %s, but %d lines for %s were consumed", parts.Lines, inWords(b.exactly(parts.Control)),
			b.Consumed.Lines, inWords(b.exactly(b.Consumed.Control)))
	}
	r.rows(b)
}

// rows checks that each kind of row adds up to the headline.
func (r *Reconciliation) rows(b *Book) {
	var customers, products, moves, days Units
	for _, c := range b.Clusters {
		customers += c.Diff
	}
	for _, p := range b.Products {
		products += p.Diff
	}
	for _, m := range b.Moves {
		moves += m.Candidate - m.Control
	}
	for _, d := range b.Days {
		days += d.Diff
	}
	for _, part := range []struct {
		name string
		diff Units
	}{{"customers", customers}, {"products", products}, {"price moves", moves}, {"days", days}} {
		if part.diff != b.Diff() {
			r.fault("the differences of all %s add up to %s, but the total is %s", part.name, inWords(b.exactly(part.diff)), inWords(b.exactly(b.Diff())))
		}
	}
}

func (b *Book) moneyRow(what string, t Tally) MoneyRow {
	return MoneyRow{What: what, Lines: t.Lines, Control: b.exactly(t.Control)}
}

// words say in which currencies a projection differs.
func (p ProjectionCheck) words() string {
	var parts []string
	if p.Detail != "" {
		parts = append(parts, p.Detail)
	}
	for _, v := range p.Rows {
		if v.Ours == v.Theirs {
			continue
		}
		parts = append(parts, fmt.Sprintf("%d lines for %s here, %d lines for %s there", v.Ours.Lines, inWords(v.Ours.Control), v.Theirs.Lines, inWords(v.Theirs.Control)))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, "; ")
}
