package rebuild

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// A clock that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time       { return c.at }
func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

func TestProgress(t *testing.T) {
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	m := newMeter("balances", 2, 1000, c.now)
	m.busy = func() time.Duration { return 0 }
	if p := m.read(); p.ETA >= 0 || p.Rate != 0 || p.Stalled != "" || p.Phase != Planning {
		t.Errorf("at first: %+v", p)
	}
	m.phase(Folding)
	m.read()
	for range 4 {
		c.pass(time.Second)
		m.records(100)
		m.read()
	}
	if p := m.read(); p.Rate != 100 || p.ETA != 6*time.Second || p.Done != 400 || p.Ceiling != 1000 || p.Elapsed != 4*time.Second {
		t.Errorf("after 4 s: %+v", p)
	}
	// All processors are at it.
	var busy time.Duration
	m.busy = func() time.Duration { return busy }
	busy = 4 * time.Second * time.Duration(runtime.GOMAXPROCS(0))
	if p := m.read(); !strings.HasPrefix(p.Stalled, "decode-bound") {
		t.Errorf("busy: %+v", p)
	}
	// It halts: the rate sinks, a reason appears, done never falls.
	for range 9 {
		c.pass(time.Second)
		m.read()
	}
	p := m.read()
	if p.Done != 400 || p.Rate >= 50 || !strings.HasPrefix(p.Stalled, "broker: no record") {
		t.Errorf("halted: %+v", p)
	}
	m.stall("broker", "connection refused")
	m.stall("disk", "no space left")
	if p := m.read(); p.Stalled != "broker: connection refused" {
		t.Errorf("with a reason: %q", p.Stalled)
	}
	m.stall("broker", "")
	if p := m.read(); p.Stalled != "disk: no space left" {
		t.Errorf("with one reason left: %q", p.Stalled)
	}
	m.stall("disk", "")
	m.phase(Copying)
	m.rows(0, 500)
	m.read()
	c.pass(time.Second)
	m.rows(250, 500)
	if p := m.read(); p.Rate != 250 || p.ETA != time.Second || p.RowsTotal != 500 {
		t.Errorf("copying: %+v", p)
	}
	c.pass(time.Minute)
	if p := m.read(); !strings.HasPrefix(p.Stalled, "database: ") {
		t.Errorf("copying for long: %q", p.Stalled)
	}
	m.phase(Done)
	if p := m.read(); p.ETA != 0 || p.Stalled != "" {
		t.Errorf("done: %+v", p)
	}
}
