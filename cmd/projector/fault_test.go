package main_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

// underLoad opens the shop, breaks things, and closes it again.
func (h *house) underLoad(trouble func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	h.shop.repeats = 20
	wait := h.shop.load(ctx)
	trouble()
	cancel()
	wait()
}

func TestKillAtRandomMoments(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	killAtRandom(t, h, randtest.New(t), 8)
}

// killAtRandom kills projector run again and again under load, from its very
// start on, so that some kills fall into the making of the tables. Some runs are
// of a group, some without one.
func killAtRandom(t *testing.T, h *house, rng *rand.Rand, kills int) {
	t.Helper()
	how := [][]string{{"--instance", "only"}, {"--assign", "all"}}
	h.underLoad(func() {
		for range kills {
			r := h.start(how[rng.IntN(2)]...)
			if rng.IntN(3) > 0 {
				r.Await("running")
			}
			<-randtest.Within(rng, 1200*time.Millisecond)
			r.Kill()
		}
	})
	last := h.start("--instance", "only")
	last.Await("running") // none before may have lived to make the tables
	h.exact("shipping", "ledger")
	last.Stop()
}

func TestServersRestartUnderLoad(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newServerHouse(t, shippingYAML, ledgerYAML)
	r := h.start()
	r.Await("running: shipping")
	h.underLoad(func() {
		for _, bounce := range []func(){
			func() { h.db.Server().Restart(t) },
			func() { h.broker.Restart(t) },
			func() { h.db.Server().Kill(t); h.db.Server().Start(t) },
			func() {
				h.broker.Stop(t)
				h.db.Server().Stop(t, pgtest.Immediate)
				h.db.Server().Start(t)
				h.broker.Start(t)
			},
		} {
			<-randtest.Within(rng, 1500*time.Millisecond)
			bounce()
		}
	})
	h.exact("shipping", "ledger")
	r.Stop()
}

func TestSessionsAreEndedUnderLoad(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newHouse(t, shippingYAML, ledgerYAML)
	r := h.start()
	r.Await("running: shipping")
	const sessions = `FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'projector%'`
	h.underLoad(func() {
		for range 8 {
			<-randtest.Within(rng, 600*time.Millisecond)
			h.eventually("sessions that are back are ended again", func() bool {
				return len(h.query(`SELECT pg_terminate_backend(pid)::text `+sessions+` AND (SELECT count(*) `+sessions+`) > 1`)) > 0
			})
		}
	})
	h.exact("shipping", "ledger")
	r.Stop()
}

func TestWireIsCutAtTheCommit(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newHouse(t, shippingYAML, ledgerYAML)
	p, via := newProxy(t, h.db.URL)
	h.url = via
	r := h.start("--assign", "all")
	r.Await("running: shipping")
	h.passed("shipping", "ledger")
	h.underLoad(func() {
		for i := range 8 {
			<-randtest.Within(rng, 400*time.Millisecond)
			if i%2 == 0 {
				p.before.Add(1)
			} else {
				p.after.Add(1)
			}
			h.eventually("a commit is cut", func() bool { return p.cuts.Load() == int32(i+1) })
		}
		p.cutAll()
	})
	h.exact("shipping", "ledger")
	r.Stop()
}
