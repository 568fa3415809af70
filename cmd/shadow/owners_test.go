package main_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/cmd/internal/clitest"
	"banyan/compare"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

// exact is what of a report must be the same for the same events and candidate,
// whatever happened on the way and whatever the shadow is called: all that is counted.
// Estimates rest on the order of customers, whose names are salted.
func exact(r *compare.Report) *compare.Report {
	e := &compare.Report{Candidate: r.Candidate, AsOf: r.AsOf, Window: r.Window, Reconciliation: r.Reconciliation, Guardrails: r.Guardrails}
	e.Inputs.Position = r.Inputs.Position
	for _, m := range r.Currencies {
		for i := range m.Examples {
			m.Examples[i].Replay = "" // it has the shadow's name
		}
		e.Currencies = append(e.Currencies, compare.Money{Currency: m.Currency, Headline: m.Headline, Bounds: m.Bounds, Returns: m.Returns, Rejected: m.Rejected,
			Gainers: m.Gainers, Losers: m.Losers, Moves: m.Moves, Customers: m.Customers, Causes: m.Causes, Days: m.Days, Examples: m.Examples, Demand: m.Demand})
	}
	return e
}

// asClean holds a shadow against another one of the same candidate, which is made now
// and goes through all of history in one go: beside the first, in the same database.
func (h *house) asClean(name string, args ...string) {
	h.t.Helper()
	got := h.caughtUp(0, append([]string{"--name", name}, args...)...)
	want := h.caughtUp(0, append([]string{"--name", "clean"}, args...)...)
	if diff := cmp.Diff(exact(want), exact(got)); diff != "" {
		h.t.Errorf("it is not what a clean run says (-clean +got):\n%.6000s", diff)
	}
	h.sound(got)
	if want.Window.Compared == 0 {
		h.t.Error("nothing was compared at all")
	}
	// The journals too, but for the names of customers.
	journal := `SELECT regexp_replace(convert_from(data, 'UTF8'), '"cluster":"[^"]*"', '') FROM shadow_%s_v1.journal ORDER BY part, off`
	if diff := cmp.Diff(h.query(fmt.Sprintf(journal, "clean")), h.query(fmt.Sprintf(journal, name))); diff != "" {
		h.t.Errorf("the journal is not that of a clean run (-clean +got):\n%.3000s", diff)
	}
}

func TestKillAtRandomMomentsInProcess(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	rng := randtest.New(t)
	h.shop.underLoad(func() {
		for range 12 {
			r := h.start("--candidate", "builtin:demand", "--instance", "only")
			if rng.IntN(3) > 0 {
				r.Await("running")
			}
			<-randtest.Within(rng, 1200*time.Millisecond)
			r.Kill()
		}
	})
	h.asClean("demand", "--candidate", "builtin:demand")
}

func TestKillAtRandomMomentsOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	rng, lot := randtest.New(t), lots(t)
	s := newService(t)
	s.misbehave(holding(func(int) bool { return lot(20) == 0 }, s.handlerAfter(func() { <-time.After(time.Duration(lot(200)) * time.Millisecond) })))
	args := []string{"--candidate", s.url(), "--from", "start", "--instance", "only", "--max-lag", "0"}
	h.shop.underLoad(func() {
		for range 12 {
			r := h.start(args...)
			if rng.IntN(3) > 0 {
				r.Await("running")
			}
			<-randtest.Within(rng, 1500*time.Millisecond)
			r.Kill()
		}
	})
	h.books(h.caughtUp(0, args...), nil)
}

// owned waits until this run, and nobody else, owns the partitions of a projection.
func (h *house) owned(projection string, by *clitest.Process) {
	h.t.Helper()
	process := fmt.Sprintf("process %d", by.PID())
	h.eventually(projection+" is owned by "+process, func() bool {
		owners := h.query(`SELECT DISTINCT owner FROM banyan.part WHERE projection = $1`, projection)
		return len(owners) == 1 && strings.HasSuffix(owners[0], ", "+process)
	})
}

// Three are started at the same moment, come and go: one compares, the others stand
// by, and nothing is lost or counted twice.
func TestComparatorsComeAndGo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	rng := randtest.New(t)
	args := []string{"--candidate", "builtin:demand"}
	h.shop.underLoad(func() {
		all := []*clitest.Process{h.start(args...), h.start(args...), h.start(args...)}
		for _, r := range all {
			r.Await("running")
		}
		<-randtest.Within(rng, 2*time.Second)
		owner := h.owner("shadow_demand", all)
		all[owner].Kill()
		all = append(all[:owner], all[owner+1:]...)
		owner = h.owner("shadow_demand", all)
		all[owner].StopWithin(quick)
		last := all[1-owner]
		h.owned("shadow_demand", last)
		h.owned("shadow_demand_orders", last)
		last.StopWithin(quick)
	})
	h.asClean("demand", args...)
}

// owner waits until one of these owns a projection, and says which.
func (h *house) owner(projection string, of []*clitest.Process) (at int) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("one of %d owns %s", len(of), projection), func() bool {
		owners := h.query(`SELECT DISTINCT owner FROM banyan.part WHERE projection = $1`, projection)
		for i, r := range of {
			if len(owners) == 1 && strings.HasSuffix(owners[0], fmt.Sprintf(", process %d", r.PID())) {
				at = i
				return true
			}
		}
		return false
	})
	return at
}

// A comparator that was taken for dead wakes up in the middle of asking, when another
// one has gone on: it writes nothing.
func TestZombie(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	rng := randtest.New(t)
	s := newService(t)
	args := []string{"--candidate", s.url(), "--from", "start", "--max-lag", "0"} // days pass in seconds here
	h.shop.underLoad(func() {
		first := h.start(args...)
		first.Await("running")
		h.owned("shadow_"+h.onlyShadow(), first)
		<-randtest.Within(rng, time.Second)
		first.Signal(syscall.SIGSTOP) // with whatever it has in flight
		second := h.start(args...)
		h.owned("shadow_"+h.onlyShadow(), second)
		<-randtest.Within(rng, time.Second)
		first.Signal(syscall.SIGCONT)
		h.consumes()
		h.zombieEnds(first)
		h.owned("shadow_"+h.onlyShadow(), second)
		second.StopWithin(quick)
	})
	h.books(h.caughtUp(0, args...), nil)
}

// zombieEnds stops a run whose partitions another one has. It may have noticed that, and
// then ends by itself, before it is told to or just as it is.
func (h *house) zombieEnds(r *clitest.Process) {
	h.t.Helper()
	alone := false
	select {
	case <-r.Ended():
		alone = true
	default:
	}
	began := time.Now()
	r.Signal(syscall.SIGTERM)
	code := r.End()
	if took := time.Since(began); took > quick {
		h.t.Errorf("the zombie, told to stop, takes %s", took)
	}
	if noticed := code == 3 && strings.Contains(r.Log(), "taken over"); !noticed && (alone || code != 0) {
		h.t.Errorf("the zombie exits with %d:\n%s", code, r.Log())
	}
}

// consumes waits until more orders have been taken in.
func (h *house) consumes() {
	h.t.Helper()
	before := h.consumed()
	h.eventually("orders are taken in", func() bool { return h.consumed() > before })
}

// Database and broker go away and come back under load, in order and by force.
func TestServersRestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	rng := randtest.New(t)
	server := pgtest.NewServer(t)
	h.db = server.NewDB(t)
	h.url = h.db.URL
	r := h.start("--candidate", "builtin:demand")
	r.Await("running")
	h.shop.underLoad(func() {
		for _, bounce := range []func(){
			func() { server.Restart(t) },
			func() { h.broker.Restart(t) },
			func() { server.Kill(t); server.Start(t) },
		} {
			<-randtest.Within(rng, time.Second)
			bounce()
			h.consumes()
		}
	})
	h.eventually("all is compared", func() bool { return h.consumed() == h.shop.orders })
	r.StopWithin(quick)
	h.asClean("demand", "--candidate", "builtin:demand")
}
