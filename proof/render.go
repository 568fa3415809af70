package proof

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"banyan/internal/figures"
)

// Render writes a report for people: the verdict first, then why, then the
// counts. paint may colour a text by the verdict that it means; nil leaves all
// plain.
func Render(w io.Writer, r *Report, paint func(v Verdict, text string) string) error {
	if paint == nil {
		paint = func(_ Verdict, s string) string { return s }
	}
	b := bufio.NewWriter(w)
	at := ""
	if r.LSN != "" {
		at = fmt.Sprintf(" at %s", r.LSN)
	}
	fmt.Fprintf(b, "%s  %s%s, generation %d, in %s\n", paint(r.Verdict, string(r.Verdict)), r.Source, at, r.Generation,
		(time.Duration(r.TookSeconds * float64(time.Second))).Round(10*time.Millisecond))
	for _, why := range r.Reasons {
		fmt.Fprintf(b, "  - %s\n", why)
	}
	renderAggregates(b, r, paint)
	renderTopics(b, r, paint)
	renderAccount(b, r)
	if len(r.NotProved) > 0 {
		fmt.Fprint(b, "\nThis does not say:\n")
		for _, s := range r.NotProved {
			fmt.Fprintf(b, "  - %s\n", s)
		}
	}
	return b.Flush()
}

func renderAggregates(b *bufio.Writer, r *Report, paint func(Verdict, string) string) {
	if len(r.Aggregates) == 0 {
		return
	}
	g := grid{{"aggregate", "rows", "keys", "proved", "missing", "extra", "different", "parked", "unproven"}}
	for _, a := range r.Aggregates {
		g = append(g, []string{a.Aggregate, figures.Thousands(a.Rows), figures.Thousands(a.Keys), figures.Thousands(a.Proved), dash(a.Missing), dash(a.Extra),
			dash(a.Different), dash(a.Parked), dash(a.Unproven)})
	}
	fmt.Fprintln(b)
	g.said().write(b)
	for _, a := range r.Aggregates {
		shown := map[ExampleKind]int64{}
		for _, e := range a.Examples {
			if shown[e.Kind]++; shown[e.Kind] <= shortList {
				renderExample(b, a.Aggregate, &e, paint)
			}
		}
		if all := a.Keys - a.Proved; all > 0 {
			var n int64
			for _, s := range shown {
				n += min(s, shortList)
			}
			if n < all {
				fmt.Fprintf(b, "  and %s of %s\n", count(all-n, "more key", "more keys"), a.Aggregate)
			}
		}
	}
}

// shortList is how many keys of a kind people are shown; JSON has more.
const shortList = 5

func renderExample(b *bufio.Writer, aggregate string, e *Example, paint func(Verdict, string) string) {
	v := Differs
	switch e.Kind {
	case KeyParked:
		v = Parked
	case KeyUnproven:
		v = Unfinished
	}
	fmt.Fprintf(b, "  %s %s/%s", paint(v, string(e.Kind)), aggregate, e.Key)
	if len(e.Fields) > 0 {
		fmt.Fprintf(b, ": %s", strings.Join(e.Fields, ", "))
	}
	if e.Why != "" {
		fmt.Fprintf(b, ": %s", e.Why)
	}
	if e.Event != "" {
		fmt.Fprintf(b, "  (last event %s, rules %d)", e.Event, e.Rules)
	}
	fmt.Fprintln(b)
	if len(e.Rows) > 0 {
		fmt.Fprintf(b, "    rows  %s\n", short(e.Rows))
	}
	if len(e.Told) > 0 {
		fmt.Fprintf(b, "    event %s\n", short(e.Told))
	}
}

// short cuts a state to what a person reads; JSON has it whole.
func short(state []byte) string {
	const limit = 400
	if len(state) <= limit {
		return string(state)
	}
	return strings.ToValidUTF8(string(state[:limit]), "") + "…"
}

func renderTopics(b *bufio.Writer, r *Report, paint func(Verdict, string) string) {
	if len(r.Topics) == 0 {
		return
	}
	g := grid{{"topic", "partitions", "events", "repeats", "gaps", "other bytes", "foreign", "doubled ids", "disorder", "ahead"}}
	for _, t := range r.Topics {
		g = append(g, []string{t.Topic, strconv.Itoa(t.Partitions), figures.Thousands(t.Events), dash(t.Repeats), dash(t.Gaps), dash(t.OtherBytes),
			dash(t.Foreign), dash(t.DuplicateIDs), dash(t.Disorder), dash(t.Ahead)})
	}
	fmt.Fprintln(b)
	g.said().write(b)
	if len(r.Faults) == 0 {
		fmt.Fprintln(b, "  every banyan_seq is there once, with one set of bytes; every id is unique; nobody else has written")
	}
	for _, f := range r.Faults {
		fmt.Fprintf(b, "  %s %s partition %d offset %d: %s\n", paint(Differs, string(f.Kind)), f.Topic, f.Partition, f.Offset, f.Text)
	}
}

func renderAccount(b *bufio.Writer, r *Report) {
	if len(r.Account) == 0 {
		return
	}
	g := grid{{"table", "changes", "= parked", "+ discarded", "+ used", "+ absorbed", "+ ignored"}}
	for _, t := range r.Account {
		name := t.Table
		if !t.Balanced {
			name += " (does not add up)"
		}
		g = append(g, []string{name, figures.Thousands(t.Changes), dash(t.Parked), dash(t.Discarded), dash(t.Used), dash(t.Absorbed), dash(t.Ignored)})
	}
	fmt.Fprintln(b)
	g.write(b)
}

// grid is a table of texts, the first row its heads.
type grid [][]string

func (g grid) write(b *bufio.Writer) {
	_ = figures.Table(b, "  ", figures.First, g) // b remembers what goes wrong
}

// said leaves out the columns in which there is nothing to say: it keeps those
// that have more than dashes below their heads.
func (g grid) said() grid {
	kept := make(grid, len(g))
	for i := range g[0] {
		if len(g) > 1 && !slices.ContainsFunc(g[1:], func(row []string) bool { return row[i] != "-" }) {
			continue
		}
		for r, row := range g {
			kept[r] = append(kept[r], row[i])
		}
	}
	return kept
}

func dash(n int64) string {
	if n == 0 {
		return "-"
	}
	return figures.Thousands(n)
}
