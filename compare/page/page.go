package page

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"

	"banyan/compare"
)

// MaxBytes is the most that HTML writes, whatever is in a report: a page that is meant
// to be sent around must open everywhere.
const MaxBytes = 300_000

// policy lets a page show itself and nothing else.
const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed page.css
var styles string

var templates = template.Must(template.New("").Funcs(functions).ParseFS(templateFiles, "templates/*.html"))

// Options are what a page may be told beside the report.
type Options struct {
	// Wall shows what can be read across a room, in very large type: the verdict and
	// the headline.
	Wall bool
}

// cut is how much of the lists of a report is shown.
type cut struct {
	Rows, Few, Currencies, Examples int
	Text                            int // characters
	Tighter                         bool
}

// cuts are tried in order until a page is small enough; the last always is.
var cuts = []cut{
	{Rows: 30, Few: 8, Currencies: 4, Examples: 10, Text: longest},
	{Rows: 20, Few: 8, Currencies: 3, Examples: 5, Text: 400, Tighter: true},
	{Rows: 12, Few: 5, Currencies: 2, Examples: 3, Text: 300, Tighter: true},
	{Rows: 6, Few: 3, Currencies: 1, Examples: 1, Text: 160, Tighter: true},
}

// doc is what the sections are made from.
type doc struct {
	R          *compare.Report // tidy
	Cut        cut
	Currencies []compare.Money
	More       []compare.Money // of which only the headline is shown
	Status     *Status         // of a live page
	Wall       bool
	Blank      bool // there is no report yet: a verdict is all there is to say
}

// shows reports whether a page has the section.
func (d doc) shows(s section) bool {
	switch {
	case d.Blank:
		return s.ID == "verdict"
	case d.Wall && s.ID != "verdict" && s.ID != "money":
		return false
	}
	return !s.Money || !d.R.Verdict.HideMoney && len(d.Currencies) > 0
}

func newDoc(r *compare.Report, c cut) doc {
	n := min(c.Currencies, len(r.Currencies))
	lean := *r
	lean.Currencies = slices.Clone(r.Currencies)
	for i, m := range lean.Currencies[n:] {
		lean.Currencies[n+i] = compare.Money{Currency: m.Currency, Headline: m.Headline}
	}
	d := doc{R: tidy(&lean, c.Text), Cut: c}
	typeset(d.R)
	d.Currencies, d.More = d.R.Currencies[:n], d.R.Currencies[n:]
	return d
}

// section is a part of a page, with a heading and a place in its contents.
type section struct {
	ID, Title, Nav string
	// Money sections say what the difference is worth. They are left out where the
	// books do not add up, but for the first, which says why.
	Money bool
}

// sections are in the order in which a finance lead asks.
var sections = []section{
	{"verdict", "Verdict", "Verdict", false},
	{"money", "The money", "The money", false},
	{"guardrails", "Guardrails", "Guardrails", false},
	{"books", "Do the books add up?", "Reconciliation", false},
	{"demand", "If customers answer to other prices", "Demand", true},
	{"certainty", "How sure is this?", "How sure", true},
	{"causes", "Why prices differ", "Causes", true},
	{"segments", "Segments: who would see it", "Segments", true},
	{"products", "Gainers and losers", "Products", true},
	{"prices", "How far prices move", "Price moves", true},
	{"days", "Day by day", "Days", true},
	{"apart", "Kept apart: returns and refused demand", "Kept apart", true},
	{"engineering", "For the engineer on call", "Engineering", false},
	{"inputs", "What this was made from", "Inputs", false},
	{"signoff", "Sign-off", "Sign-off", false},
}

// rendered is a section as HTML.
type rendered struct {
	section
	HTML template.HTML
}

// render writes all sections of a page that has them.
func (d doc) render() ([]rendered, error) {
	var out []rendered
	if d.Status != nil {
		s, err := d.section(section{"status", "Now", "Now", false})
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	for _, s := range sections {
		if !d.shows(s) {
			continue
		}
		r, err := d.section(s)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (d doc) section(s section) (rendered, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<section id=%q aria-labelledby=\"%s-h\">\n<h2 id=\"%s-h\">%s</h2>\n", s.ID, s.ID, s.ID, template.HTMLEscapeString(s.Title))
	if err := templates.ExecuteTemplate(&b, s.ID, d); err != nil {
		return rendered{}, fmt.Errorf("write the section %s: %w", s.ID, err)
	}
	b.WriteString("</section>\n")
	return rendered{s, template.HTML(b.String())}, nil // our own template has escaped it
}

// frame is what goes around the sections.
type frame struct {
	Doc      doc
	Sections []rendered
	Policy   string
	CSS      template.CSS
	Data     template.JS // "" on a live page, which has it beside it
	Without  string      // what Data leaves out, in words
	Script   template.JS // of a live page only
	Refresh  string
}

func (f frame) write() ([]byte, error) {
	f.CSS = template.CSS(styles)
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, "page", f); err != nil {
		return nil, fmt.Errorf("write the page: %w", err)
	}
	return b.Bytes(), nil
}

// HTML writes the report as one file of at most MaxBytes, which opens offline, needs
// no script and loads nothing. Where there is too much, lists are cut, and say so.
func HTML(w io.Writer, r *compare.Report, o Options) error {
	for _, c := range cuts {
		raw, err := file(r, o, c)
		if err != nil {
			return err
		}
		if raw != nil {
			_, err = w.Write(raw)
			return err
		}
	}
	return fmt.Errorf("write the page: it does not fit into %d bytes", MaxBytes)
}

// file is the whole page, or nil where it is too large even with little data in it.
func file(r *compare.Report, o Options, c cut) ([]byte, error) {
	d := newDoc(r, c)
	d.Wall = o.Wall
	sections, err := d.render()
	if err != nil {
		return nil, err
	}
	for _, in := range embedded(r) {
		if larger(in.report, MaxBytes) {
			continue
		}
		data, err := json.Marshal(in.report)
		if err != nil {
			return nil, fmt.Errorf("write the report as JSON: %w", err)
		}
		if len(data) > MaxBytes {
			continue
		}
		// encoding/json escapes <, > and &: nothing in it can end the element.
		raw, err := frame{Doc: d, Sections: sections, Policy: policy, Data: template.JS(data), Without: in.without}.write()
		if err != nil {
			return nil, err
		}
		if len(raw) <= MaxBytes {
			return raw, nil
		}
	}
	return nil, nil
}

// inside is a report to be put inside of its page, and what it leaves out.
type inside struct {
	report  *compare.Report
	without string
}

// embedded are the report and shorter forms of it, longest first.
func embedded(r *compare.Report) []inside {
	lean := *r
	lean.Currencies = make([]compare.Money, len(r.Currencies))
	for i, m := range r.Currencies {
		m.Days, m.Examples = nil, nil
		lean.Currencies[i] = m
	}
	bare := compare.Report{Schema: r.Schema, Candidate: r.Candidate, AsOf: r.AsOf, Window: r.Window, Verdict: compare.Verdict{Rung: r.Verdict.Rung, HideMoney: r.Verdict.HideMoney}}
	bare.Inputs.Digest = r.Inputs.Digest
	return []inside{{r, ""}, {&lean, "days and examples"}, {tidy(&bare, longest), "all but the verdict and the window"}}
}

// JSON writes the report as it is, indented; docs/shadow-report.schema.json is its
// shape.
func JSON(w io.Writer, r *compare.Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}
