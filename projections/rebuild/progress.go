package rebuild

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"banyan/internal/figures"
)

// Phase of a rebuild or a verification.
type Phase string

// Phases in their order.
const (
	Planning  Phase = "planning"
	Folding   Phase = "folding"   // history is read and applied
	Copying   Phase = "copying"   // rows go into the database
	Indexing  Phase = "indexing"  // keys and indexes are made
	Comparing Phase = "comparing" // a verification looks at the rows
	Done      Phase = "done"
)

// Progress is how far a rebuild is. Done of Ceiling never falls, and Ceiling
// never moves.
type Progress struct {
	Projection string
	Version    int
	Phase      Phase
	// Ceiling is the number of records up to the ends that the partitions had
	// when the rebuild began; Done is how many of them are read.
	Ceiling, Done int64
	// Rows is how many rows are copied or compared, of RowsTotal; both are zero
	// before.
	Rows, RowsTotal int64
	// Rate is records (while folding) or rows per second, over the last ten
	// seconds.
	Rate float64
	// ETA is how long this and the coming phases will take by what is known;
	// negative where nothing is known.
	ETA     time.Duration
	Elapsed time.Duration
	// Stalled says why it does not go on, or what holds it back most: "broker:
	// ...", "disk: ...", "lock: ...", "decode-bound". "" is nothing to tell.
	Stalled string
}

// meter collects what Progress tells. It is safe for concurrent use.
type meter struct {
	mu      sync.Mutex
	p       Progress
	began   time.Time
	now     func() time.Time
	samples []sample
	moved   time.Time            // when Done or Rows last grew
	busy    func() time.Duration // processor time of this process
	stalls  map[string]string
}

type sample struct {
	at   time.Time
	n    int64
	busy time.Duration
}

// rateOver is the time over which the rate is taken.
const rateOver = 10 * time.Second

// quiet is after how long without progress a reason is wanted.
const quiet = 2 * time.Second

func newMeter(projection string, version int, ceiling int64, now func() time.Time) *meter {
	t := now()
	return &meter{p: Progress{Projection: projection, Version: version, Phase: Planning, Ceiling: ceiling, ETA: -1},
		began: t, now: now, moved: t, busy: processorTime, stalls: make(map[string]string)}
}

// phase begins a phase.
func (m *meter) phase(p Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Phase = p
	m.samples = nil
	m.moved = m.now()
}

// records counts records read.
func (m *meter) records(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Done += n
	m.moved = m.now()
}

// rows counts rows copied or compared.
func (m *meter) rows(n, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Rows += n
	m.p.RowsTotal = max(m.p.RowsTotal, total)
	m.moved = m.now()
}

// stall notes why something waits, by who; "" takes it back.
func (m *meter) stall(who, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if why == "" {
		delete(m.stalls, who)
		return
	}
	m.stalls[who] = why
}

// teller tells what a meter has collected, at each phase and regularly in between.
type teller struct {
	*meter
	to func(Progress) // nil where nobody wants to know
	mu sync.Mutex     // what is told later was also read later
}

// enter begins a phase.
func (t *teller) enter(p Phase) {
	t.phase(p)
	t.tell()
}

// tell tells the progress of this moment.
func (t *teller) tell() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.read()
	if t.to != nil {
		t.to(p)
	}
	return p
}

// regularly tells the progress, and gives it to also, until the function that it gives
// is called, which waits for the last telling.
func (t *teller) regularly(every time.Duration, also func(Progress)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				also(t.tell())
			}
		}
	}()
	return func() { close(done); <-ended }
}

// read gives the progress of this moment.
func (m *meter) read() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	n, total := m.p.Done, m.p.Ceiling
	if m.p.Phase != Folding && m.p.Phase != Planning {
		n, total = m.p.Rows, m.p.RowsTotal
	}
	m.samples = append(m.samples, sample{now, n, m.busy()})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateOver {
		m.samples = m.samples[1:]
	}
	p := m.p
	p.Elapsed = now.Sub(m.began)
	p.Rate, p.ETA = 0, -1
	if over := now.Sub(m.samples[0].at); over > 0 {
		p.Rate = float64(n-m.samples[0].n) / over.Seconds()
	}
	switch {
	case p.Phase == Done:
		p.ETA = 0
	case p.Rate > 0:
		p.ETA = time.Duration(float64(total-n) / p.Rate * float64(time.Second))
	}
	p.Stalled = m.reason(now)
	return p
}

// reason says what holds the work up; the caller holds the lock.
func (m *meter) reason(now time.Time) string {
	for _, who := range []string{"broker", "disk", "database", "lock", "watermark"} {
		if why := m.stalls[who]; why != "" {
			return who + ": " + why
		}
	}
	if now.Sub(m.moved) < quiet {
		first, last := m.samples[0], m.samples[len(m.samples)-1]
		if over := last.at.Sub(first.at); m.p.Phase == Folding && over >= quiet && last.busy-first.busy > over*time.Duration(runtime.GOMAXPROCS(0))*8/10 {
			return "decode-bound: all processors are busy reading events"
		}
		return ""
	}
	switch m.p.Phase {
	case Folding:
		return "broker: no record has come for " + now.Sub(m.moved).Round(time.Second).String()
	case Copying, Indexing:
		return "database: it has been busy with one statement for " + now.Sub(m.moved).Round(time.Second).String()
	}
	return ""
}

// String is one line for people: "folding 1,200,000 of 5,000,000 records, 310,000/s, 12s left".
func (p Progress) String() string {
	var s string
	switch {
	case p.Phase == Folding:
		s = fmt.Sprintf("folding %s of %s records", figures.Thousands(p.Done), figures.Thousands(p.Ceiling))
	case p.RowsTotal > 0 && (p.Phase == Copying || p.Phase == Comparing):
		s = fmt.Sprintf("%s %s of %s rows", p.Phase, figures.Thousands(p.Rows), figures.Thousands(p.RowsTotal))
	default:
		s = string(p.Phase)
	}
	if p.Rate > 0 && p.Phase != Done {
		s += fmt.Sprintf(", %s/s", figures.Thousands(int64(p.Rate)))
	}
	if p.ETA > 0 {
		s += fmt.Sprintf(", %s left", figures.Round(p.ETA))
	}
	if p.Stalled != "" {
		s += "; " + p.Stalled
	}
	return s
}

// processorTime is what this process has taken of the processors.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
