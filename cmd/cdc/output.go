package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// printer writes results on stdout and, apart from them, progress on stderr.
type printer struct {
	out, err io.Writer
	json     bool
	colour   bool // of out
	live     bool // err is a terminal: progress rewrites its line
}

func newPrinter(out, errw io.Writer, format string, noColour bool) *printer {
	return &printer{out: out, err: errw, json: format == "json",
		colour: isTerminal(out) && !noColour, live: isTerminal(errw)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// result prints v as one JSON document, or calls text.
func (p *printer) result(v any, text func(w io.Writer)) error {
	if !p.json {
		text(p.out)
		return nil
	}
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// line prints v as one line of JSON, for commands that give a stream.
func (p *printer) line(v any, text func(w io.Writer)) error {
	if !p.json {
		text(p.out)
		return nil
	}
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (p *printer) paint(code, s string) string {
	if !p.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) good(s string) string { return p.paint("32", s) }
func (p *printer) bad(s string) string  { return p.paint("31", s) }
func (p *printer) warn(s string) string { return p.paint("33", s) }
func (p *printer) dim(s string) string  { return p.paint("2", s) }

// meter shows the progress of long work on stderr with rate and ETA: on a
// terminal as one line that changes, elsewhere a line every five seconds.
// It is safe for concurrent use.
type meter struct {
	p     *printer
	what  string
	unit  string
	total int64 // 0 where it is not known
	every time.Duration
	now   func() time.Time

	mu    sync.Mutex
	done  int64
	start time.Time
	last  time.Time
	shown bool
}

func (p *printer) meter(what, unit string, total int64) *meter {
	every := 5 * time.Second
	if p.live {
		every = 200 * time.Millisecond
	}
	now := time.Now()
	return &meter{p: p, what: what, unit: unit, total: total, every: every, now: time.Now, start: now, last: now}
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if now := m.now(); now.Sub(m.last) >= m.every {
		m.last = now
		m.show(now, false)
	}
}

// set tells where the work stands, for those who know it as a whole.
func (m *meter) set(done, total int64) {
	m.mu.Lock()
	m.total = total
	n := done - m.done
	m.mu.Unlock()
	m.add(n)
}

// end prints the last line, where one was printed before or the work was long.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.now(); m.shown || now.Sub(m.start) > 2*time.Second {
		m.show(now, true)
	}
}

func (m *meter) show(now time.Time, end bool) {
	m.shown = true
	took := now.Sub(m.start)
	rate := float64(m.done) / max(took.Seconds(), 0.001)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", m.what, thousands(m.done))
	if m.total > 0 {
		fmt.Fprintf(&b, " of about %s", thousands(max(m.total, m.done)))
	}
	fmt.Fprintf(&b, " %s, %s/s", m.unit, thousands(int64(rate)))
	switch {
	case end:
		fmt.Fprintf(&b, ", took %s", round(took))
	case m.total > m.done && rate > 0:
		fmt.Fprintf(&b, ", %s to go", round(time.Duration(float64(m.total-m.done)/rate*float64(time.Second))))
	}
	if m.p.live {
		fmt.Fprintf(m.p.err, "\r\x1b[K%s", b.String())
		if end {
			fmt.Fprintln(m.p.err)
		}
		return
	}
	fmt.Fprintln(m.p.err, b.String())
}

func round(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// thousands writes 1234567 as "1,234,567".
func thousands(n int64) string {
	s := fmt.Sprint(n)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		return "-" + s
	}
	return s
}

// size writes bytes as people read them: "1.5 GiB".
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

// table writes rows in aligned columns; the first row is the head.
func table(w io.Writer, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i > 0 {
				b.WriteString("  ")
			}
			if numeric(c) {
				b.WriteString(pad + c)
			} else {
				b.WriteString(c + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func numeric(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && r != ',' && r != '.' && r != '-' {
			return false
		}
	}
	return s != ""
}
