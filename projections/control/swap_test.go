package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

func TestMarkCovers(t *testing.T) {
	m := Mark{Generation: 2, LSN: 100}
	for _, tc := range []struct {
		p    event.Position
		want bool
	}{
		{event.Position{Generation: 1, LSN: 900}, true},
		{event.Position{Generation: 2, LSN: 99, Ordinal: 7}, true},
		{event.Position{Generation: 2, LSN: 100}, false},             // its commit begins where the mark ends
		{event.Position{Generation: 2, LSN: 100, Snapshot: 1}, true}, // read at the mark
		{event.Position{Generation: 3, LSN: 1}, false},
	} {
		if m.Covers(tc.p) != tc.want {
			t.Errorf("%s covers %s: want %v", m, tc.p, tc.want)
		}
		if at := MarkAt(tc.p); !at.Covers(tc.p) || at.LSN > 0 && (Mark{Generation: at.Generation, LSN: at.LSN - 1}).Covers(tc.p) {
			t.Errorf("MarkAt(%s) is %s", tc.p, at)
		}
	}
}

// two makes a second version that follows, with tables of its own and the views
// of the first.
func (r *rig) two() (v1, v2 Version, parts1, parts2 []Part) {
	r.t.Helper()
	v1, parts1 = r.shipping(2)
	v2 = r.nextVersion("d2")
	parts2 = r.own(2, 2)
	must(r.t, r.SetState(r.ctx, r.pool, "shipping", 2, Following, "caught up"))
	r.db.Exec(r.t, `CREATE TABLE shipping_v1.counters (id int PRIMARY KEY, n bigint);
		CREATE TABLE shipping_v2.counters (id int PRIMARY KEY, added text, n bigint);
		INSERT INTO shipping_v1.counters VALUES (0, 0), (1, 0); INSERT INTO shipping_v2.counters VALUES (0, 'x', 0), (1, 'y', 0)`)
	r.in(func(tx pgx.Tx) error { return r.PointViews(r.ctx, tx, v1, views1) })
	return v1, v2, parts1, parts2
}

var (
	views1 = []View{{Name: "counters", Columns: []string{"id", "n"}}}
	views2 = []View{{Name: "counters", Columns: []string{"id", "n", "added"}}}
)

func TestHold(t *testing.T) {
	r := newRig(t)
	_, _, p1, p2 := r.two()
	at := func(p *Part, lsn uint64, applied event.Position) Step {
		st := step(p, 0, lsn)
		st.Applied = applied
		return st
	}
	must(t, r.advance(1, at(&p1[0], 50, event.Position{Generation: 1, LSN: 60})))
	must(t, r.advance(2, at(&p2[0], 55, event.Position{})))
	h, err := r.PlaceHold(r.ctx, "shipping", 1, 2, time.Hour)
	must(t, err)
	// The event at 60 is applied, so the mark is the first one that covers it.
	if h.At.Generation != 1 || h.At.LSN != 61 || time.Until(h.Until) < 50*time.Minute {
		t.Fatalf("held at %+v", h)
	}
	for version, p := range map[int]*Part{1: &p1[1], 2: &p2[1]} {
		var held *HeldError
		for _, st := range []Step{
			at(p, 62, event.Position{}),
			at(p, 61, event.Position{Generation: 1, LSN: 61}),
			at(p, 61, event.Position{Generation: 2, LSN: 1}),
		} {
			if err := r.advance(version, st); !errors.As(err, &held) || held.Hold.At != h.At || !held.Hold.Until.Equal(h.Until) {
				t.Errorf("version %d goes to %s, %s: %v", version, st.Passed, st.Applied, err)
			}
		}
		must(t, r.advance(version, at(p, 61, event.Position{Generation: 1, LSN: 60, Ordinal: 9})))
		must(t, r.advance(version, at(p, 61, event.Position{Generation: 1, LSN: 61, Snapshot: 3})))
	}
	var late *NotReachedError
	err = r.Reached(r.ctx, "shipping", 1, 2, h.At)
	if !errors.As(err, &late) || len(late.Late) != 2 || late.Lapsed || !strings.Contains(err.Error(), "version 1, shop.orders/0 has passed 1:0/32") {
		t.Errorf("reached: %v", err)
	}
	must(t, r.advance(1, at(&p1[0], 61, event.Position{Generation: 1, LSN: 60})))
	must(t, r.advance(2, at(&p2[0], 61, event.Position{Generation: 1, LSN: 60})))
	must(t, r.Reached(r.ctx, "shipping", 1, 2, h.At))
	if got, ok, err := r.HoldOf(r.ctx, "shipping", 2); err != nil || !ok || got.At != h.At {
		t.Errorf("hold of 2: %+v %v %v", got, ok, err)
	}

	must(t, r.ClearHold(r.ctx, "shipping"))
	if _, ok, err := r.HoldOf(r.ctx, "shipping", 2); err != nil || ok {
		t.Errorf("cleared: %v, %v", ok, err)
	}
	must(t, r.advance(1, at(&p1[0], 70, event.Position{})))
	// A hold that nobody clears lapses by itself: once its time is over, batches
	// go beyond it, and the swap it was for is refused.
	h, err = r.PlaceHold(r.ctx, "shipping", 1, 2, time.Millisecond)
	must(t, err)
	for {
		err := r.advance(2, at(&p2[0], 80, event.Position{}))
		if err == nil {
			break
		}
		var held *HeldError
		if !errors.As(err, &held) {
			t.Fatal(err)
		}
	}
	if err := r.Swap(r.ctx, "shipping", 1, 2, h.At, views2); !errors.As(err, &late) || !late.Lapsed {
		t.Errorf("swapped after the hold has lapsed: %v", err)
	}
	if _, err := r.PlaceHold(r.ctx, "shipping", 1, 7, time.Hour); !errors.Is(err, ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	r.patience = 50 * time.Millisecond
	tx, err := r.Begin(r.ctx, r.pool, "shipping", 2, []Step{at(&p2[1], 81, event.Position{})})
	must(t, err)
	defer tx.Rollback(r.ctx)
	var locked *LockedError
	if _, err := r.PlaceHold(r.ctx, "shipping", 1, 2, time.Hour); !errors.As(err, &locked) || len(locked.Holders) != 1 || locked.Holders[0].PartID.Part != 1 {
		t.Errorf("a batch that stays open: %v", err)
	}
}

// follow is a small runner: one partition, a commit per LSN, which stops exactly
// at a hold.
func (r *rig) follow(ctx context.Context, version int, p Part, head *atomic.Int64) error {
	lsn := p.Passed.LSN
	limit := uint64(1) << 60
	for ctx.Err() == nil {
		next := min(uint64(head.Load()), limit)
		if next <= lsn {
			h, ok, err := r.HoldOf(r.ctx, "shipping", version)
			if err != nil {
				return err
			}
			if limit = uint64(1) << 60; ok {
				limit = h.At.LSN
			}
			continue
		}
		st := step(&p, 1, next)
		st.Applied = event.Position{Generation: 1, LSN: next - 1}
		tx, err := r.Begin(r.ctx, r.pool, "shipping", version, []Step{st})
		var held *HeldError
		if errors.As(err, &held) {
			limit = held.Hold.At.LSN
			continue
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(r.ctx, fmt.Sprintf(`UPDATE shipping_v%d.counters SET n = $1 WHERE id = $2`, version), next, p.Part); err != nil {
			return err
		}
		if err := tx.Commit(r.ctx); err != nil {
			return err
		}
		lsn, p.Next, p.Seq, p.Applied, p.Passed = next, st.To, st.Seq, st.Applied, st.Passed
	}
	return nil
}

// Readers select all the time, in several ways, while versions are swapped there
// and back: none of them ever gets an error or sees a number step back.
func TestSwapUnderReaders(t *testing.T) {
	r := newRig(t)
	_, _, p1, p2 := r.two()
	ctx, stop := context.WithCancel(r.ctx)
	defer stop()
	var head atomic.Int64
	var runners, readers sync.WaitGroup
	for version, parts := range map[int][]Part{1: p1, 2: p2} {
		for _, p := range parts {
			runners.Go(func() {
				if err := r.follow(ctx, version, p, &head); err != nil {
					t.Errorf("version %d: %v", version, err)
				}
			})
		}
	}
	runners.Go(func() { // the source
		for ctx.Err() == nil {
			head.Add(3)
			_, _ = r.pool.Exec(r.ctx, `SELECT pg_sleep(0.001)`)
		}
	})
	var reads [3]atomic.Int64
	for i := range reads {
		conn := r.db.Conn(t)
		mode := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec}[i]
		readers.Go(func() {
			var last [2]int64
			for ctx.Err() == nil {
				for id := range last {
					var n int64
					if err := conn.QueryRow(r.ctx, `SELECT n FROM shipping.counters WHERE id = $1`, mode, id).Scan(&n); err != nil {
						t.Errorf("reader %d: %v", i, err)
						return
					}
					if n < last[id] {
						t.Errorf("reader %d: counter %d stepped back from %d to %d", i, id, last[id], n)
						return
					}
					last[id] = n
				}
				reads[i].Add(1)
			}
		})
	}
	from, to := 1, 2
	views := map[int][]View{1: views1, 2: views2}
	for round := range 6 {
		before := reads[0].Load()
		h, err := r.PlaceHold(r.ctx, "shipping", from, to, 20*time.Second)
		must(t, err)
		for {
			err := r.Reached(r.ctx, "shipping", from, to, h.At)
			if err == nil {
				break
			}
			var late *NotReachedError
			if !errors.As(err, &late) || late.Lapsed {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		must(t, r.Swap(r.ctx, "shipping", from, to, h.At, views[to]))
		active, err := r.Active(r.ctx, "shipping")
		must(t, err)
		if active.Number != to || active.Since.Compare(h.At) != 0 || active.Note != fmt.Sprintf("swapped from %d", from) {
			t.Errorf("round %d: active is %+v", round, active)
		}
		if old, err := r.Version(r.ctx, "shipping", from); err != nil || old.State != Kept {
			t.Errorf("round %d: the old one is %+v, %v", round, old, err)
		}
		from, to = to, from
		for reads[0].Load() < before+5 && !t.Failed() {
			_, err := r.pool.Exec(r.ctx, `SELECT pg_sleep(0.001)`)
			must(t, err)
		}
	}
	stop()
	runners.Wait()
	readers.Wait()
	t.Logf("reads: %d, %d, %d; head %d", reads[0].Load(), reads[1].Load(), reads[2].Load(), head.Load())
}

// A reader with a long transaction holds a view: the swap waits for it without
// standing in the way of others, and gives up with its hold.
func TestSwapWaitsForReaders(t *testing.T) {
	r := newRig(t)
	_, _, _, _ = r.two()
	h, err := r.PlaceHold(r.ctx, "shipping", 1, 2, time.Hour)
	must(t, err)
	reader, err := r.pool.Begin(r.ctx)
	must(t, err)
	_, err = reader.Exec(r.ctx, `SELECT FROM shipping.counters`)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- r.Swap(r.ctx, "shipping", 1, 2, h.At, views2) }()
	r.untilWaiting(1)
	other := r.db.Conn(t)
	for range 20 { // each of these gets through, at most one attempt later
		_, err := other.Exec(r.ctx, `SET statement_timeout = '5s'; SELECT FROM shipping.counters`)
		must(t, err)
	}
	select {
	case err := <-done:
		t.Fatalf("swapped under a reader: %v", err)
	default:
	}
	must(t, reader.Commit(r.ctx))
	must(t, <-done)

	h, err = r.PlaceHold(r.ctx, "shipping", 2, 1, 300*time.Millisecond)
	must(t, err)
	reader, err = r.pool.Begin(r.ctx)
	must(t, err)
	defer reader.Rollback(r.ctx)
	_, err = reader.Exec(r.ctx, `SELECT FROM shipping.counters`)
	must(t, err)
	var late *NotReachedError
	if err := r.Swap(r.ctx, "shipping", 2, 1, h.At, views1); !errors.As(err, &late) || !late.Lapsed {
		t.Errorf("the hold lapses while a reader holds the view: %v", err)
	}
	if v, err := r.Active(r.ctx, "shipping"); err != nil || v.Number != 2 {
		t.Errorf("something has changed: %+v, %v", v, err)
	}
}

func TestSwapRefused(t *testing.T) {
	r := newRig(t)
	_, _, p1, _ := r.two()
	h, err := r.PlaceHold(r.ctx, "shipping", 1, 2, time.Hour)
	must(t, err)
	var state *StateError
	if err := r.Swap(r.ctx, "shipping", 2, 1, h.At, views1); !errors.As(err, &state) || state.Number != 2 {
		t.Errorf("from a version that is not active: %v", err)
	}
	var late *NotReachedError
	if err := r.Swap(r.ctx, "shipping", 1, 2, Mark{Generation: 1, LSN: 5}, views2); !errors.As(err, &late) {
		t.Errorf("at a mark that is not the hold's: %v", err)
	}
	must(t, r.ClearHold(r.ctx, "shipping"))
	must(t, r.advance(1, step(&p1[0], 0, 9)))
	h, err = r.PlaceHold(r.ctx, "shipping", 1, 2, time.Hour)
	must(t, err)
	if err := r.Swap(r.ctx, "shipping", 1, 2, h.At, views2); !errors.As(err, &late) || len(late.Late) != 3 || late.Lapsed {
		t.Errorf("before both are there: %v", err)
	}
	// The views of others are named, and nothing changes.
	must(t, r.ClearHold(r.ctx, "shipping"))
	r.db.Exec(t, `UPDATE banyan.part SET passed_lsn = 9, passed_generation = 1; CREATE VIEW public.mine AS SELECT n FROM shipping.counters`)
	h, err = r.PlaceHold(r.ctx, "shipping", 1, 2, time.Hour)
	must(t, err)
	var depend *DependentsError
	err = r.Swap(r.ctx, "shipping", 1, 2, h.At, []View{{Name: "counters", Columns: []string{"added", "id"}}})
	if !errors.As(err, &depend) || !strings.Contains(err.Error(), "public.mine") {
		t.Errorf("under a view of others: %v", err)
	}
	if v, err := r.Active(r.ctx, "shipping"); err != nil || v.Number != 1 {
		t.Errorf("something has changed: %+v, %v", v, err)
	}
	// With one more column at the end the view of others lives on.
	must(t, r.Swap(r.ctx, "shipping", 1, 2, h.At, views2))
	r.db.Exec(t, `SELECT n FROM public.mine`)
}

func TestViews(t *testing.T) {
	r := newRig(t)
	v1, _ := r.shipping(1)
	r.db.Exec(t, `CREATE TABLE shipping_v1.orders (id int PRIMARY KEY, amount bigint); INSERT INTO shipping_v1.orders VALUES (1, 5), (2, 7)`)
	views := []View{{Name: "orders", Columns: []string{"id", "amount"}, Comment: "it's all"},
		{Name: "total", SQL: "SELECT sum(amount) AS total FROM orders -- by declaration"},
		{Name: "double", SQL: "SELECT total * 2 AS total FROM total"}}
	r.in(func(tx pgx.Tx) error {
		if err := r.CreateViews(r.ctx, tx, v1, views); err != nil {
			return err
		}
		return r.PointViews(r.ctx, tx, v1, views)
	})
	var total int
	var comment string
	must(t, r.pool.QueryRow(r.ctx, `SELECT (SELECT total FROM shipping.double), obj_description('shipping.orders'::regclass)`).Scan(&total, &comment))
	if total != 24 || comment != "it's all" {
		t.Errorf("total %d, comment %q", total, comment)
	}
	r.in(func(tx pgx.Tx) error { return r.PointViews(r.ctx, tx, v1, views[1:2]) })
	var left string
	must(t, r.pool.QueryRow(r.ctx, `SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'shipping'::regnamespace`).Scan(&left))
	if left != "total" {
		t.Errorf("views left: %s", left)
	}
	for _, sql := range []string{"SELECT 1 AS a; DROP TABLE orders", "SELECT nothing FROM orders", ""} {
		err := pgx.BeginFunc(r.ctx, r.pool, func(tx pgx.Tx) error {
			return r.CreateViews(r.ctx, tx, v1, []View{{Name: "bad", SQL: sql + " "}})
		})
		if err == nil || !strings.Contains(err.Error(), "view bad") {
			t.Errorf("%q: %v", sql, err)
		}
	}
	// A version that goes takes its views along.
	must(t, r.SetState(r.ctx, r.pool, "shipping", 1, Retired, ""))
	must(t, r.Drop(r.ctx, "shipping", 1))
}
