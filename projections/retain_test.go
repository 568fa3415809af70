package projections_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/projections"
	"banyan/projections/rebuild"
	"banyan/projections/state"
)

// A row that is past its retention is gone for its events too, at the same event
// live and in a replay, whenever the runner came round to delete it.
func TestRetentionIsTheSameOnReplay(t *testing.T) {
	h := newHouse(t)
	type seen struct {
		Key string    `db:"key,key"`
		N   int64     `db:"n"`
		At  time.Time `db:"at"`
	}
	p, err := projections.Fold[seen]{Name: "seen", Source: "shop", Topics: []string{orders}, Retain: &state.Retention{Column: "at", For: time.Hour},
		Apply: func(s *seen, e *projections.Event) (projections.Decision, error) {
			s.N, s.At = s.N+1, e.Time
			return projections.Keep, nil
		}}.Program()
	if err != nil {
		t.Fatal(err)
	}
	v := h.install(p)
	rows := func() map[string]int64 {
		found, err := h.pool.Query(t.Context(), `SELECT key, n FROM seen.seen ORDER BY key`)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		var key string
		var n int64
		if _, err := pgx.ForEachRow(found, []any{&key, &n}, func() error { got[key] = n; return nil }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	proved := func() {
		t.Helper()
		report, err := rebuild.Verify(t.Context(), rebuild.VerifyConfig{DB: h.pool, Log: h.log, Program: p, Dir: t.TempDir()})
		if err != nil || report.Verdict != rebuild.Proved {
			t.Errorf("verify: %+v, %v", report, err)
		}
	}
	r := h.runner(p, v)
	r.ExpireEvery(10 * time.Millisecond)
	stop := h.start(r, h.parts(orders))
	for range 3 {
		h.order("k", 1)
	}
	h.publish()
	h.passed(r)
	h.idle(2 * time.Hour)
	h.order("other", 1)
	h.publish()
	h.eventually("the old row is deleted", func() bool { return cmp.Equal(rows(), map[string]int64{"other": 1}) })
	h.order("k", 1)
	h.order("k", 1)
	h.publish()
	h.passed(r)
	stop()
	if d := cmp.Diff(map[string]int64{"other": 1, "k": 2}, rows()); d != "" {
		t.Errorf("after a deletion (-want +got):\n%s", d)
	}
	proved()

	// Now it comes back before anybody has deleted it.
	r = h.runner(p, v)
	stop = h.start(r, h.parts(orders))
	h.idle(2 * time.Hour)
	h.order("k", 1)
	h.publish()
	h.passed(r)
	stop()
	if got := rows()["k"]; got != 1 {
		t.Errorf("without a deletion the row has n = %d, want 1", got)
	}
	proved()
}
