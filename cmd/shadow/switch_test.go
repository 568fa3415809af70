package main_test

import (
	"strings"
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
	live := r.listening()
	h.eventually("/readyz says why nothing is asked", func() bool {
		code, body := h.ask(live + "/readyz")
		return code == 503 && strings.Contains(body, "cannot be looked at")
	})
	if h.consumed() != 0 {
		t.Error("orders were compared")
	}
	r.stop()
}
