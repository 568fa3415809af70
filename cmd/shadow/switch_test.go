package main_test

import (
	"strings"
	"syscall"
	"testing"
)

// A kill switch of which nobody can say whether it is on is on.
func TestAKillSwitchThatCannotBeSeenIsOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(20)
	h.write("file", "")
	s := newService(t)
	r := h.start("--candidate", s.url(), "--from", "start", "--kill-file", "file/stop", "--live", "127.0.0.1:0")
	live := r.Listening()
	h.eventually("/readyz says why nothing is asked", func() bool {
		code, body := h.ask(live + "/readyz")
		return code == 503 && strings.Contains(body, "cannot be looked at")
	})
	if n, asked := h.judged(), s.asked.Load(); n != 0 || asked != 0 {
		t.Errorf("%d orders were compared or given up, the candidate was asked %d times", n, asked)
	}
	r.StopWithin(quick)
}

// Whoever waits for a run in a pipeline must not take one that was stopped for one that
// is done, and the log says what it waits for.
func TestARunThatIsStoppedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(20)
	s := newService(t)
	s.down()
	r := h.start("--candidate", s.url(), "--from", "start", "--until-caught-up")
	h.eventually("the log says what it waits for", func() bool {
		return strings.Contains(r.Log(), "the shadow waits") && strings.Contains(r.Log(), "refused")
	})
	r.Signal(syscall.SIGTERM)
	if code := r.End(); code != 3 || !strings.Contains(r.Log(), "told to stop before all was compared") {
		t.Errorf("exit %d: %s", code, r.Log())
	}
}
