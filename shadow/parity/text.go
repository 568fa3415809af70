package parity

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// width is that of a terminal's line. Command lines and requests may be longer:
// they are there to be copied.
const width = 80

// WriteText writes the report for people, in lines of 80 columns but for
// commands and requests.
func (r *Report) WriteText(w io.Writer) error {
	out := &page{w: bufio.NewWriter(w)}
	r.writeHead(out)
	r.writeCounts(out)
	r.writeFields(out)
	r.writeNoise(out)
	r.writeRules(out)
	if err := out.w.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// page keeps the first failure for Flush.
type page struct {
	w *bufio.Writer
}

func (p *page) line(format string, args ...any) {
	fmt.Fprintln(p.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// wrapped breaks a text between words.
func (p *page) wrapped(indent, text string) {
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line) > len(indent) && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			p.line("%s", line)
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += word
	}
	p.line("%s", line)
}

func (r *Report) writeHead(p *page) {
	verdict := "OK"
	if !r.OK {
		verdict = "NOT OK"
	}
	p.line("parity: %s: %s of %s compared requests differ (%s)", verdict, count(r.Differing), count(r.Compared), percent(r.Share))
	for _, why := range r.Why {
		p.wrapped("  ", why)
	}
	p.line("")
	p.line("control    %s", r.Control)
	p.line("candidate  %s", r.Candidate)
	if r.Sample < 100 {
		p.line("sample     %s of the keys, seed %d", percent(r.Sample), r.Seed)
	}
}

func (r *Report) writeCounts(p *page) {
	row := func(name string, n int) { p.line("%s %12s", fit(name, 36), count(n)) }
	p.line("")
	row("requests", r.Requests)
	row("= compared", r.Compared)
	for _, e := range r.Excluded {
		row("+ excluded: "+oneLine(e.Reason), e.Requests)
	}
	for _, e := range r.Excluded {
		if e.unanswered() {
			p.line("")
			p.line("%s, such as", oneLine(e.Reason))
			p.line("  %s", oneLine(e.Example))
			const enough = 300
			p.wrapped("    ", strings.TrimRight(fit(oneLine(e.Detail), enough), " "))
		}
	}
	p.line("")
	if t := r.Tokens; t.Equal+t.Apart == 0 {
		row("pairs without tokens", t.Unknown)
	} else {
		row("pairs as of one commit", t.Equal)
		row("pairs as of two commits", t.Apart)
		row("  of which differ", t.ApartDiffering)
		row("pairs without tokens", t.Unknown)
		row("asked again, as of two commits", t.Again)
		row("  and did not differ any more", t.Settled)
	}
	p.line("")
	p.line("%-36s %12s %9s %9s %9s", "latency of answered calls", "calls", "p50", "p95", "p99")
	for _, l := range []struct {
		name string
		of   Latency
	}{{"control", r.Latency.Control}, {"candidate", r.Latency.Candidate}} {
		p.line("%-36s %12s %9s %9s %9s", l.name, count(l.of.Calls), duration(l.of.P50), duration(l.of.P95), duration(l.of.P99))
	}
}

func (r *Report) writeFields(p *page) {
	if len(r.Fields) == 0 {
		return
	}
	p.line("")
	p.line("%-35s %-11s %10s %10s %10s", "field", "cause", "requests", "share", "places")
	for _, f := range r.Fields {
		p.line("%s %-11s %10s %10s %10s", fit(oneLine(f.Path), 35), f.Cause, count(f.Requests), percent(f.Share), count(f.Differences))
	}
	for _, f := range r.Fields {
		p.line("")
		p.line("%s: %s", f.Cause, strings.TrimRight(fit(oneLine(f.Path), 60), " "))
		for _, e := range f.Examples {
			p.line("  %s", oneLine(e.Request))
			if e.Difference.Path != f.Path {
				p.line("    at         %s", fit(oneLine(e.Difference.Path), width-15))
			}
			p.line("    control    %s", value(e.Difference.Control))
			p.line("    candidate  %s", value(e.Difference.Candidate))
			p.line("    %s", oneLine(e.Replay))
		}
	}
}

func (r *Report) writeNoise(p *page) {
	if !r.NoiseAsked {
		return
	}
	p.line("")
	if len(r.Noise) == 0 {
		p.line("noise: the control never differed from itself")
		return
	}
	p.line("noise, not counted: the control differs from itself in %s requests", count(r.Noisy))
	p.line("%-35s %-11s %10s %10s %10s", "field", "cause", "requests", "share", "excused")
	for _, n := range r.Noise {
		p.line("%s %-11s %10s %10s %10s", fit(oneLine(n.Path), 35), n.Cause, count(n.Requests), percent(n.Share), count(n.Excused))
	}
}

func (r *Report) writeRules(p *page) {
	if len(r.Rules) == 0 {
		return
	}
	p.line("")
	p.line("%-56s %11s %11s", "rule", "matched", "hid")
	for _, u := range r.Rules {
		p.line("%s %11s %11s", fit(oneLine(u.Rule), 56), count(u.Matched), count(u.Hid))
	}
	for _, u := range r.Rules {
		if u.Matched == 0 {
			p.line("never matched, is it spelt as in the answers? %s", strings.TrimRight(fit(oneLine(u.Rule), 34), " "))
		}
	}
}

func value(s string) string {
	if s == "" {
		return "(nothing)"
	}
	return fit(oneLine(s), width-15)
}

// fit makes a text n columns wide, cutting its middle out.
func fit(s string, n int) string {
	have := utf8.RuneCountInString(s)
	if have <= n {
		return s + strings.Repeat(" ", n-have)
	}
	runes := []rune(s)
	head := (n - 3) / 2
	return string(runes[:head]) + "..." + string(runes[have-(n-3-head):])
}

// oneLine keeps a text from an answer from doing anything to a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// count writes 1234567 as 1,234,567.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func duration(micros int64) string {
	d := time.Duration(micros) * time.Microsecond
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.String()
}
