package main_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"banyan/cmd/internal/clitest"
	"banyan/internal/randtest"
)

// owned waits until each of these runs, and nobody else, owns partitions of a
// projection. The projection must be partitioned where there are several.
func (h *house) owned(projection string, by ...*clitest.Process) {
	h.t.Helper()
	want := map[string]bool{}
	for _, r := range by {
		want[fmt.Sprintf("process %d", r.PID())] = true
	}
	h.eventually(fmt.Sprintf("%s is owned by %v", projection, want), func() bool {
		owners := h.query(`SELECT DISTINCT owner FROM banyan.part WHERE projection = $1`, projection)
		for _, o := range owners {
			_, process, _ := strings.Cut(o, ", ")
			if !want[process] {
				return false
			}
		}
		return len(owners) == len(want)
	})
}

// lost wants a run that was taken for dead to have ended as it should, or to take
// part again.
func lost(t *testing.T, r *clitest.Process) {
	t.Helper()
	select {
	case <-r.Ended():
		if code := r.End(); code != 3 || !strings.Contains(r.Log(), "taken over") {
			t.Errorf("the zombie exits with %d:\n%s", code, r.Log())
		}
	default: // it may end by itself in this very moment
		r.Signal(syscall.SIGTERM)
		if code := r.End(); code != 0 && (code != 3 || !strings.Contains(r.Log(), "taken over")) {
			t.Errorf("the zombie, told to stop, exits with %d:\n%s", code, r.Log())
		}
	}
}

func TestFrozenMemberIsReplacedAndWakesUp(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.underLoad(func() {
		first := h.start()
		first.Await("running: shipping")
		h.owned("ledger", first)
		h.owned("shipping", first)
		<-randtest.Within(rng, time.Second)
		first.Signal(syscall.SIGSTOP) // with whatever it has in flight
		second := h.start()
		h.owned("ledger", second)
		h.owned("shipping", second)
		<-randtest.Within(rng, time.Second)
		first.Signal(syscall.SIGCONT)
		h.exactWhileOpen("shipping", "ledger")
		lost(t, first)
		h.owned("shipping", second)
	})
	h.exact("shipping", "ledger")
}

func TestFrozenOwnerWithoutGroupIsFenced(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.underLoad(func() {
		first := h.start("--assign", "all")
		first.Await("running: shipping")
		h.owned("ledger", first)
		<-randtest.Within(rng, time.Second)
		first.Signal(syscall.SIGSTOP)
		second := h.start("--assign", "all")
		h.owned("ledger", second)
		h.owned("shipping", second)
		first.Signal(syscall.SIGCONT)
		if code := first.End(); code != 3 || !strings.Contains(first.Log(), "taken over") {
			t.Errorf("the owner that was replaced exits with %d, want 3:\n%s", code, first.Log())
		}
	})
	h.exact("shipping", "ledger")
}

func TestGroupBesideAnAssignmentEndsInOneOfThem(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.underLoad(func() {
		group := h.start()
		group.Await("running: shipping")
		h.owned("shipping", group)
		h.owned("ledger", group)
		alone := h.start("--assign", "all")
		if code := group.End(); code != 3 || !strings.Contains(group.Log(), "taken over") {
			t.Errorf("the group's member exits with %d, want 3:\n%s", code, group.Log())
		}
		h.owned("shipping", alone)
		h.owned("ledger", alone)
	})
	h.exact("shipping", "ledger")
}

func TestOwnersComeAndGo(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.underLoad(func() {
		first := h.start()
		first.Await("running: shipping")
		h.owned("shipping", first)
		h.owned("ledger", first) // or one of the others may be there before it
		second, third := h.start(), h.start()
		h.owned("shipping", first, second, third)
		h.owned("ledger", first) // the others stand by
		h.exactWhileOpen("shipping", "ledger")
		<-randtest.Within(rng, time.Second)
		first.Kill()
		second.Stop()
		h.owned("shipping", third)
		h.owned("ledger", third)
		h.exactWhileOpen("shipping", "ledger")
	})
	h.exact("shipping", "ledger")
}

func TestAssignmentsShareThePartitions(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.underLoad(func() {
		even, odd := h.start("--assign", "0,2,4"), h.start("--assign", "1,3,5")
		even.Await("running: shipping")
		odd.Await("running: shipping")
		h.owned("shipping", even, odd)
		h.exactWhileOpen("shipping")
		odd.Kill()
		more := h.start("--assign", "1, 3,5")
		h.owned("shipping", even, more)
	})
	h.exact("shipping")
	a := h.must(3, "run", "--assign", "0,6")
	if !strings.Contains(a.Err, "partitions 0 to 5, not 6") {
		t.Errorf("a partition that is not there: %s", a)
	}
}
