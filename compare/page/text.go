package page

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"banyan/compare"
	"banyan/money"
)

// textLines is the most that Text writes: it has to fit a screen with the prompt.
const textLines = 30

// Text writes what fits one screen of a terminal, at most 30 lines of the given width
// (at least 60): the verdict, the headline, the books, guardrails, and what to do next.
func Text(w io.Writer, r *compare.Report, width int) error {
	var t texter
	for currencies := 3; currencies >= 0; currencies-- {
		t = texter{width: max(width, 60), tight: currencies == 0}
		d := newDoc(r, cut{Rows: 5, Few: 3, Currencies: max(currencies, 1), Text: 400})
		t.verdict(d.R)
		t.money(d)
		t.books(d.R.Reconciliation)
		t.guardrails(d.R.Guardrails)
		t.operations(d.R.Operations)
		t.next(d.R.Verdict)
		if bytes.Count(t.Bytes(), []byte("\n")) <= textLines {
			break
		}
	}
	_, err := t.WriteTo(w)
	return err
}

// texter writes lines of a width.
type texter struct {
	bytes.Buffer
	width int
	tight bool // sentences have to be short, or the rest would not fit a screen
}

// margin is where texts begin, after their names.
const margin = 12

func (t *texter) atMost(lines, tight int) int {
	if t.tight {
		return tight
	}
	return lines
}

// say writes a text under a name, on at most so many lines.
func (t *texter) say(name, text string, most int) {
	lines := wrap(text, t.width-margin)
	if len(lines) > most {
		lines[most-1] = clean(lines[most-1]+" "+lines[most], t.width-margin-1)
		lines = lines[:most]
	}
	for i, l := range lines {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(t, "%s%s%s\n", name, strings.Repeat(" ", max(1, margin-utf8.RuneCountInString(name))), l)
	}
}

// wrap breaks a text at spaces; a word that is longer than a line is cut.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(strings.ReplaceAll(text, noBreak, "\x00")) {
		word = clean(strings.ReplaceAll(word, "\x00", " "), width-1)
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

func (t *texter) verdict(r *compare.Report) {
	name := short(40, r.Candidate.Name)
	if r.Window.FirstDay != "" {
		name += ", " + r.Window.FirstDay + " to " + r.Window.LastDay
	}
	t.say("Candidate", name, 1)
	t.say("Verdict", strings.ToUpper(string(r.Verdict.Rung)), 1)
	t.say("", r.Verdict.Sentence, t.atMost(6, 3))
}

// money says of each currency what is exact and what is not. No figure is ever cut: what
// is too long goes on in the next line.
func (t *texter) money(d doc) {
	if !d.R.Verdict.HideMoney && len(d.Currencies) == 0 {
		return
	}
	t.WriteByte('\n')
	if d.R.Verdict.HideMoney {
		t.say("Money", "✗ not shown: the books do not add up, or the comparison is unhealthy", 2)
		for _, why := range first(d.Cut.Few, d.R.Verdict.Why).([]string) {
			t.say("", why, t.atMost(2, 1))
		}
		return
	}
	for _, c := range d.Currencies {
		h := c.Headline
		earned := keep("margin unknown")
		if costKnown(c) {
			earned = keep("margin " + signedNumber(h.Margin.Diff))
		}
		t.say(short(10, c.Currency), fmt.Sprintf("exact: revenue %s (%s), %s", keep(signedNumber(h.Diff)), keep(change(h.Percent)), earned), 2)
		estimate := "no estimate yet"
		if s := c.Projection.Sequence; s.Known() {
			estimate = "estimate for a period like it: " + between(s.Low, s.High)
		}
		t.say("", estimate, 2)
		if len(d.Currencies) == 1 && len(d.More) == 0 {
			t.demand(c)
		}
	}
	if n := len(d.More); n > 0 {
		t.say("", "and "+plural(n, "more currency", "more currencies"), 1)
	}
}

// demand is for a report of one currency; of more it would not fit a screen.
func (t *texter) demand(c compare.Money) {
	b := bandFor(c, "revenue")
	if b == nil {
		return
	}
	text := "revenue " + between(b.Low, b.High)
	if m := bandFor(c, "margin"); m != nil {
		text += ", " + keep("margin "+between(m.Low, m.High))
	}
	t.say("", "estimate if demand answers: "+text, 2)
}

// keep holds a figure together.
func keep(text string) string { return strings.ReplaceAll(text, " ", noBreak) }

// between is a range, its currency being known from the line it stands on.
func between(low, high money.Amount) string {
	return keep(roughSigned(low) + " to " + roughSigned(high))
}

// books are three lines: orders, money, and the check by another program.
func (t *texter) books(b compare.Reconciliation) {
	t.WriteByte('\n')
	state := "✓ add up"
	if !b.OK {
		state = "✗ DO NOT ADD UP"
	}
	compared, aside, consumed := int64(0), int64(0), int64(0)
	for _, e := range b.Events {
		switch e.What {
		case "compared":
			compared = e.Events
		case "consumed":
			consumed = e.Events
		default:
			aside += e.Events
		}
	}
	t.say("Books", fmt.Sprintf("%s: %s compared + %s set aside of %s", state, count(compared), count(aside), plural(consumed, "order", "orders")), 2)
	t.say("", sumsOf(b.Currencies), 2)
	text := "a projection of the same orders: " + b.Projection.State
	if b.Projection.State == "none" {
		text = "there is no projection of orders to hold them against"
	}
	if len(b.Faults) > 0 {
		text = b.Faults[0]
	}
	t.say("", text, 1)
}

// sumsOf reconciles the money of the first currency.
func sumsOf(all []compare.CurrencyRows) string {
	if len(all) == 0 {
		return "no money was seen"
	}
	var compared, aside, consumed money.Amount
	for _, m := range all[0].Rows {
		switch m.What {
		case "compared":
			compared = m.Control
		case "consumed":
			consumed = m.Control
		default:
			if aside.Currency == "" {
				aside = m.Control
			} else if sum, err := aside.Add(m.Control); err == nil {
				aside = sum
			}
		}
	}
	if aside.Currency == "" {
		aside = money.Amount{Scale: consumed.Scale, Currency: consumed.Currency}
	}
	text := fmt.Sprintf("%s + %s = %s", plain(compared), plain(aside), exact(consumed))
	if more := len(all) - 1; more > 0 {
		text += "; " + plural(more, "more currency", "more currencies")
	}
	return text
}

func (t *texter) guardrails(gs []compare.Guardrail) {
	n := broken(gs)
	if n == 0 {
		t.say("Guardrails", fmt.Sprintf("✓ all %s hold", count(len(gs))), 1)
		return
	}
	t.say("Guardrails", fmt.Sprintf("✗ %s of %s broken", count(n), count(len(gs))), 1)
	for _, g := range brokenFirst(gs)[:min(n, 3)] {
		figures := fmt.Sprintf(": %s (%s)", g.Value, g.Limit)
		t.say("", keep("✗ "+short(max(8, t.width-margin-4-utf8.RuneCountInString(figures)), g.Name)+figures), 1)
	}
}

func (t *texter) operations(o *compare.Operations) {
	if o == nil {
		return
	}
	text := fmt.Sprintf("%s of %s answered, p99 %s, breaker %s", count(o.Answered), plural(o.Asked, "order", "orders"), millis(o.P99), o.Breaker)
	t.say("Calls", text, 2)
}

func (t *texter) next(v compare.Verdict) {
	t.WriteByte('\n')
	switch {
	case v.Next != nil:
		t.say("Next", "a live test: "+experiment(*v.Next)+", which finds the difference with a chance of "+trimmed(100*v.Next.Power, 0)+percents, t.atMost(3, 1))
	case len(v.Changes) > 0:
		t.say("Next", v.Changes[0], t.atMost(3, 1))
	}
}
