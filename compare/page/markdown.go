package page

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"banyan/compare"
	"banyan/money"
)

// MaxMarkdown is the most that Markdown writes; GitHub takes 65,536 characters for a
// comment.
const MaxMarkdown = 60_000

// Markdown writes the report as a comment for a pull request: the verdict, the
// headline, the books, guardrails, causes and the largest examples, at most
// MaxMarkdown bytes.
func Markdown(w io.Writer, r *compare.Report) error {
	for _, c := range cuts {
		d := newDoc(r, cut{Rows: min(c.Rows, 20), Few: c.Few, Currencies: c.Currencies, Examples: min(c.Examples, 5), Text: min(c.Text, 300)})
		var m marker
		m.report(d)
		if m.Len() <= MaxMarkdown {
			_, err := m.WriteTo(w)
			return err
		}
	}
	return fmt.Errorf("write the report as Markdown: it does not fit into %d bytes", MaxMarkdown)
}

// marker writes Markdown.
type marker struct{ bytes.Buffer }

func (m *marker) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// row writes a row of a table from cells that are escaped already.
func (m *marker) row(cells ...string) { m.line("| %s |", strings.Join(cells, " | ")) }

// table begins one; a name that ends in a colon is that of a column of numbers.
func (m *marker) table(columns ...string) {
	m.line("")
	rule := make([]string, len(columns))
	for i, c := range columns {
		rule[i] = "---"
		if name, ok := strings.CutSuffix(c, ":"); ok {
			columns[i], rule[i] = name, "---:"
		}
	}
	m.row(columns...)
	m.row(rule...)
}

func (m *marker) left(what string) {
	if what != "" {
		m.line("\n%s", what)
	}
}

func (m *marker) report(d doc) {
	r := d.R
	m.line("## %s: %s\n", verdictMark(r.Verdict.Rung), escape(string(r.Verdict.Rung)))
	m.line("**%s**\n", escape(r.Verdict.Sentence))
	m.line("Candidate %s, %s to %s, %s, as of %s.", verbatim(short(80, r.Candidate.Name)), escape(r.Window.FirstDay), escape(r.Window.LastDay), plural(r.Window.Orders, "order", "orders"), moment(r.AsOf))
	if why := untold(r.Verdict); len(why) > 0 {
		m.line("")
	}
	for _, why := range first(d.Cut.Few, untold(r.Verdict)).([]string) {
		m.line("- %s", escape(why))
	}
	m.headline(d)
	m.books(d)
	m.guardrails(d)
	if !r.Verdict.HideMoney {
		m.causes(d)
	}
	m.examples(d)
	m.line("\n### What would change this verdict\n")
	for _, c := range first(d.Cut.Few, r.Verdict.Changes).([]string) {
		m.line("- %s", escape(c))
	}
	if n := r.Verdict.Next; n != nil {
		m.line("\n**Next:** a live test: %s. %s Stop if %s", escape(experiment(*n)), escape(n.Why), escape(n.StopIf))
	}
	m.line("\n<sub>Digest of the inputs %s, position %s, seed %d</sub>", verbatim(r.Inputs.Digest), verbatim(r.Inputs.Position), r.Inputs.Seed)
}

func verdictMark(rung compare.Rung) string {
	for i, s := range ladder {
		if s.Rung == rung {
			return fmt.Sprintf("Shadow verdict, step %d of %d", i+1, len(ladder))
		}
	}
	return "Shadow verdict"
}

func (m *marker) headline(d doc) {
	m.line("\n### The money")
	if d.R.Verdict.HideMoney {
		m.line("\n✗ No money is shown: the books do not add up, or the comparison is unhealthy.")
		return
	}
	m.table("Exact, if customers buy the same", "Revenue:", "%:", "Margin:", "%:", "Cost known:")
	for _, c := range d.Currencies {
		h := c.Headline
		margin, relative := "unknown", ""
		if costKnown(c) {
			margin, relative = arrow(h.Margin.Diff), change(ratio(h.Margin.Diff, h.Margin.Control))
		}
		m.row(escape(c.Currency), arrow(h.Diff), change(h.Percent), margin, relative, share(h.Margin.Share))
	}
	m.left(more(d.Cut.Currencies, d.R.Currencies))
	m.table("Estimates: nobody can know them exactly", "Revenue of a next period like it, 95 %:", "Revenue if demand answers:", "Margin if demand answers:")
	for _, c := range d.Currencies {
		m.row(escape(c.Currency), ranged(c.Projection.Sequence), bandText(c, "revenue"), bandText(c, "margin"))
	}
	m.line("\n<details><summary>What this rests on</summary>\n")
	for _, a := range first(d.Cut.Rows, d.R.Assumptions).([]string) {
		m.line("- %s", escape(a))
	}
	m.line("\n</details>")
}

func bandText(c compare.Money, what string) string {
	b := bandFor(c, what)
	if b == nil {
		return "unknown"
	}
	return aboutSigned(b.Low) + " to " + aboutSigned(b.High)
}

// arrow is an amount with a sign that can be told without its colour.
func arrow(a money.Amount) string {
	switch {
	case a.Amount > 0:
		return "▲ " + signed(a)
	case a.Amount < 0:
		return "▼ " + signed(a)
	}
	return signed(a)
}

func (m *marker) books(d doc) {
	b := d.R.Reconciliation
	m.line("\n### Do the books add up?\n")
	if b.OK {
		m.line("✓ They do, to the order, the line and the last digit. Against a projection of orders: %s.", escape(b.Projection.State))
	} else {
		m.line("✗ They do not. Against a projection of orders: %s.\n", escape(b.Projection.State))
	}
	for _, f := range first(d.Cut.Few, b.Faults).([]string) {
		m.line("- %s", escape(f))
	}
	m.table("Orders", "Count:")
	for _, e := range ends(d.Cut.Rows, b.Events).([]compare.EventRow) {
		m.row(escape(short(60, e.What)), count(e.Events))
	}
	m.left(more(d.Cut.Rows, b.Events))
	for _, c := range first(d.Cut.Currencies, b.Currencies).([]compare.CurrencyRows) {
		m.table("Lines, "+escape(c.Currency), "Count:", "As paid:")
		for _, e := range ends(d.Cut.Rows, c.Rows).([]compare.MoneyRow) {
			m.row(escape(short(60, e.What)), count(e.Lines), exact(e.Control))
		}
		m.left(more(d.Cut.Rows, c.Rows))
	}
}

func (m *marker) guardrails(d doc) {
	m.line("\n### Guardrails: %s of %s broken", count(broken(d.R.Guardrails)), count(len(d.R.Guardrails)))
	if len(d.R.Guardrails) == 0 {
		return
	}
	m.table("Guardrail", "State", "Value:", "Limit")
	for _, g := range first(d.Cut.Rows, brokenFirst(d.R.Guardrails)).([]compare.Guardrail) {
		state := "✓ holds"
		if !g.OK {
			state = "✗ **broken**"
		}
		m.row(escape(g.Name), state, escape(g.Value), escape(g.Limit))
	}
	m.left(more(d.Cut.Rows, d.R.Guardrails))
}

func (m *marker) causes(d doc) {
	m.line("\n### Why prices differ")
	for _, c := range d.Currencies {
		m.table("Cause, "+escape(c.Currency), "Lines:", "Difference:")
		for _, v := range first(d.Cut.Rows, c.Causes).([]compare.CauseView) {
			m.row(escape(short(60, string(v.Cause))), count(v.Lines), arrow(v.Diff))
		}
		m.row("*of it no policy*", "", arrow(c.Headline.Arithmetic))
		m.left(more(d.Cut.Rows, c.Causes))
	}
}

func (m *marker) examples(d doc) {
	for _, c := range d.Currencies {
		if len(c.Examples) == 0 {
			continue
		}
		m.line("\n### Examples, %s", escape(c.Currency))
		m.table("Product", "Pieces:", "Paid:", "Candidate:", "Cause", "See it again")
		for _, e := range first(d.Cut.Examples, c.Examples).([]compare.ExampleView) {
			name := e.Line.Description
			if name == "" {
				name = e.Line.Product
			}
			m.row(verbatim(short(80, name)), count(e.Line.Quantity), exact(e.Line.Control), exact(e.Line.Candidate), escape(short(40, string(e.Line.Cause))), verbatim(short(200, e.Replay)))
		}
		m.left(more(d.Cut.Examples, c.Examples))
	}
}

// escape keeps a text from being taken for Markdown, HTML, a link, an issue or the
// name of a user.
func escape(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '@':
			b.WriteString("@<!-- -->") // an entity would be a user's name again
		case strings.ContainsRune("\\`*_{}[]<>#!|&~$\"", c), c == ':' && strings.Contains(s, "://"):
			fmt.Fprintf(&b, "&#%d;", c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// verbatim is for names from outside: in code nothing is a link or a user's name, and
// as entities nothing ends it.
func verbatim(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c < 0x80 && strings.ContainsRune("\\`*_{}[]<>#!|&~$:\"'@()=+-/.", c) {
			fmt.Fprintf(&b, "&#%d;", c)
			continue
		}
		b.WriteRune(c)
	}
	return "<code>" + b.String() + "</code>"
}
