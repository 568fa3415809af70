package projections_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/projections"
	"banyan/projections/control"
)

// A release moves no offset. Where a crash of the database takes it back, the
// chain is released again, into the rows that the database has, not into those
// that memory has.
func TestReleaseThatACrashTakesBack(t *testing.T) {
	h := newHouse(t)
	server := pgtest.NewServer(t)
	h.useDB(server.NewDB(t))
	h.db.Exec(t, `ALTER SYSTEM SET wal_writer_delay = '10s'`)
	h.db.Exec(t, `SELECT pg_reload_conf()`)
	v := h.install(counting(t))
	h.order("bad", 1)
	h.order("bad", 666)
	h.order("bad", 3)
	h.publish()
	h.catchUp(counting(t), v)

	fixed := counting(t, func(f *projections.Fold[tally]) {
		f.Apply = func(c *tally, e *projections.Event) (projections.Decision, error) {
			d, err := projections.Decode[placed](e)
			*c = c.with(d.State.Amount)
			return projections.Keep, err
		}
	})
	r := h.runner(fixed, v)
	stop := h.start(r, h.parts(orders))
	h.order("bad", 4)
	h.publish()
	h.passed(r)
	ref := event.Ref{Aggregate: "Order", Key: "bad"}
	if req := h.ask(control.Release, ref); req.Error != "" || req.Events != 3 {
		t.Fatalf("the release said %+v", req)
	}
	server.Kill(t)
	server.Start(t)
	t.Logf("after the crash %d keys are parked", h.parkedKeys())
	h.eventually("the chain is released", func() bool { return h.parkedKeys() == 0 })
	h.order("bad", 5)
	h.publish()
	h.passed(r)
	h.check()
	stop()
}

// parkedKeys counts the chains, on a connection that no test has cut.
func (h *house) parkedKeys() (n int) {
	h.t.Helper()
	conn, err := pgx.Connect(h.t.Context(), h.db.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(h.t.Context(), `SELECT count(DISTINCT (aggregate, key)) FROM banyan.parked`).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// A standby that lagged takes over: rows and offsets step back together, while the
// owner's memory and, as here, even its connection go on.
func TestDatabaseThatStepsBack(t *testing.T) {
	for _, c := range []struct{ name, also string }{
		{"behind our take-over", ``},
		{"before our take-over", `UPDATE banyan.part SET epoch = epoch - 1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			p := counting(t)
			v := h.install(p)
			h.trade(100)
			h.publish()
			r := h.runner(p, v)
			stop := h.start(r, h.parts(orders))
			h.passed(r)
			h.db.Exec(t, `CREATE TABLE public.old_part AS SELECT * FROM banyan.part`)
			h.db.Exec(t, `CREATE TABLE public.old_counts AS SELECT * FROM counts_v1.counts`)
			h.trade(100)
			h.publish()
			h.passed(r)
			h.check()
			h.db.Exec(t, `BEGIN;
				DELETE FROM counts_v1.counts; INSERT INTO counts_v1.counts SELECT * FROM public.old_counts;
				DELETE FROM banyan.part; INSERT INTO banyan.part SELECT * FROM public.old_part; `+c.also+`;
				COMMIT`)
			h.trade(100)
			h.publish()
			h.passed(r)
			h.check()
			if err := stop(); !errors.Is(err, errStopped) {
				t.Fatalf("Run ended with %v", err)
			}
		})
	}
}

// An event that the source itself had held back has an old position when it is
// told at last. Its effects are sent: no version has had it before.
func TestEffectsOfWhatTheSourceReleases(t *testing.T) {
	h := newHouse(t)
	p := &mailing{counting(t)}
	v := h.install(p)
	h.order("a", 1)
	h.publish()
	h.catchUp(p, v)
	at, err := h.store.Passed(t.Context(), "counts")
	if err != nil || at.Generation == 0 {
		t.Fatal(at, err)
	}
	// As a swap at this mark does.
	if err := h.store.SetSince(t.Context(), h.pool, "counts", 1, at); err != nil {
		t.Fatal(err)
	}
	h.order("a", 2)
	now := h.src.LSN
	h.src.LSN = 0x800000
	h.order("held", 3)
	h.src.LSN = now
	h.publish()
	h.catchUp(p, v)
	promised, err := h.store.Effects(t.Context(), "counts", control.EffectFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range promised {
		got = append(got, string(e.Payload))
	}
	slices.Sort(got)
	if want := []string{`"a"`, `"a"`, `"held"`}; !slices.Equal(got, want) {
		t.Errorf("promised for %v, want %v", got, want)
	}
}

// mailing promises a mail for each event.
type mailing struct{ projections.Program }

func (m *mailing) Spec() projections.Spec {
	s := m.Program.Spec()
	s.Effects = true
	return s
}

func (m *mailing) Apply(tx *projections.Tx, e *projections.Event) error {
	tx.Effect(projections.Effect{Name: "seen", Kind: "mail", Payload: fmt.Appendf(nil, "%q", e.ID.Key)})
	return m.Program.Apply(tx, e)
}
