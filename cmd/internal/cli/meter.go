package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"banyan/internal/figures"
)

// Meter shows the progress of long work on stderr with rate and ETA: on a
// terminal as one line that changes, elsewhere a line every five seconds.
// It is safe for concurrent use.
type Meter struct {
	p     *Printer
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

// Meter begins to show work: what it is, what is counted, and how much there is
// to do, 0 where that is not known.
func (p *Printer) Meter(what, unit string, total int64) *Meter {
	return newMeter(p, what, unit, total, time.Now)
}

func newMeter(p *Printer, what, unit string, total int64, now func() time.Time) *Meter {
	every := 5 * time.Second
	if p.live {
		every = 200 * time.Millisecond
	}
	start := now()
	return &Meter{p: p, what: what, unit: unit, total: total, every: every, now: now, start: start, last: start}
}

// Add tells that n more are done.
func (m *Meter) Add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if now := m.now(); now.Sub(m.last) >= m.every {
		m.last = now
		m.show(now, false)
	}
}

// Set tells where the work stands, for those who know it as a whole.
func (m *Meter) Set(done, total int64) {
	m.mu.Lock()
	m.total = total
	n := done - m.done
	m.mu.Unlock()
	m.Add(n)
}

// End prints the last line, where one was printed before or the work was long.
func (m *Meter) End() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.now(); m.shown || now.Sub(m.start) > 2*time.Second {
		m.show(now, true)
	}
}

func (m *Meter) show(now time.Time, end bool) {
	m.shown = true
	took := now.Sub(m.start)
	rate := float64(m.done) / max(took.Seconds(), 0.001)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", m.what, figures.Thousands(m.done))
	if m.total > 0 {
		fmt.Fprintf(&b, " of about %s", figures.Thousands(max(m.total, m.done)))
	}
	fmt.Fprintf(&b, " %s, %s/s", m.unit, figures.Thousands(int64(rate)))
	switch {
	case end:
		fmt.Fprintf(&b, ", took %s", figures.Round(took))
	case m.total > m.done && rate > 0:
		left := time.Duration(float64(m.total-m.done) / rate * float64(time.Second))
		fmt.Fprintf(&b, ", %s to go", figures.Round(left))
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

// Phases shows the progress of work that has phases, a meter for each. It is
// safe for concurrent use.
type Phases struct {
	p    *Printer
	what string

	mu    sync.Mutex
	phase string
	m     *Meter
}

// Phases begins to show work of that name; its meters are called "what: phase".
func (p *Printer) Phases(what string) *Phases { return &Phases{p: p, what: what} }

// Set tells where a phase stands. Another phase than before ends that one.
func (s *Phases) Set(phase, unit string, done, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil || s.phase != phase {
		if s.m != nil {
			s.m.End()
		}
		s.phase, s.m = phase, s.p.Meter(s.what+": "+phase, unit, total)
	}
	s.m.Set(done, total)
}

// End ends the last phase.
func (s *Phases) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m != nil {
		s.m.End()
	}
}
