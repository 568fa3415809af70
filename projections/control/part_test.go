package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/internal/randtest"
)

func TestAdvance(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(2)
	p := parts[0]
	st := Step{PartID: p.PartID, Epoch: p.Epoch, From: 0, To: 7, Seq: 5, Writer: 3,
		Applied: event.Position{Generation: 1, LSN: 0xFFFFFFFF_00000001, Ordinal: 4},
		Passed:  Mark{Generation: 1, LSN: 0x20, Time: time.Date(2026, 11, 20, 9, 0, 0, 5000, time.UTC)},
		Time:    time.Date(2026, 11, 20, 8, 59, 0, 0, time.UTC), Anchor: `shop/Order/O'Neil "\ü@1:0/1.0`, AnchorAt: 6}
	// The WAL is far from the half of its numbers: LSNs are kept as bigint.
	st.Applied.LSN &= 1<<62 - 1
	must(t, r.advance(v.Number, st))
	got, err := r.Parts(r.ctx, r.pool, "shipping", v.Number)
	must(t, err)
	want := p
	want.Next, want.Seq, want.Writer, want.Applied, want.Passed, want.StreamTime = 7, 5, 3, st.Applied, st.Passed, st.Time
	want.Anchor, want.AnchorOffset, want.UpdatedAt = st.Anchor, 6, got[0].UpdatedAt
	if got[0] != want {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	if got[1].Next != 0 || got[1].UpdatedAt != parts[1].UpdatedAt {
		t.Errorf("the other part was touched: %+v", got[1])
	}

	// Marks and stream times never step back; a mark alone moves no offset.
	p = got[0]
	back := step(&p, 0, 0x10)
	back.Time = st.Time.Add(-time.Hour)
	must(t, r.advance(v.Number, back))
	got, err = r.Parts(r.ctx, r.pool, "shipping", v.Number)
	must(t, err)
	if got[0].Passed != st.Passed || !got[0].StreamTime.Equal(st.Time) || got[0].Next != 7 {
		t.Errorf("it stepped back: %+v", got[0])
	}

	must(t, r.advance(v.Number)) // a batch of nothing, for what belongs to no partition
	if err := r.advance(v.Number, step(&p, 1, 0x30), step(&p, 1, 0x30)); err == nil {
		t.Error("one partition twice in a batch")
	}
	var fenced *FencedError
	if err := r.advance(9, step(&p, 1, 0x30)); !errors.As(err, &fenced) {
		t.Errorf("a version that is not there: %v", err)
	}
	stranger := Part{PartID: PartID{"shop.stock", 0}, Epoch: 1}
	if err := r.advance(v.Number, step(&p, 1, 0x30), step(&stranger, 1, 0x30)); !errors.As(err, &fenced) || fenced.PartID != stranger.PartID || fenced.Found != -1 {
		t.Errorf("a partition that is not there: %v", err)
	}
	// The whole batch was refused.
	if now, err := r.Parts(r.ctx, r.pool, "shipping", v.Number); err != nil || now[0].Next != 7 {
		t.Errorf("half a batch: %+v, %v", now, err)
	}
}

// An owner that finds the row elsewhere in its own epoch has lost commits, or
// repeats one whose answer was lost: fenced as well.
func TestFencedBySteppedRow(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(1)
	st := step(&parts[0], 5, 10)
	must(t, r.advance(v.Number, st))
	var fenced *FencedError
	if err := r.advance(v.Number, st); !errors.As(err, &fenced) || fenced.Found != fenced.Epoch || fenced.From != 0 || fenced.Next != 5 || !errors.Is(err, ErrFenced) {
		t.Errorf("the same step again: %v", err)
	}
	tx, err := r.pool.Begin(r.ctx)
	must(t, err)
	defer tx.Rollback(r.ctx)
	if err := r.Advance(r.ctx, tx, "shipping", v.Number, []Step{st}); !errors.As(err, &fenced) || fenced.Next != 5 {
		t.Errorf("Advance by itself: %v", err)
	}
	r.nextVersion("d2")
	must(t, r.SetState(r.ctx, r.pool, "shipping", 2, Retired, ""))
	must(t, r.EnsureParts(r.ctx, r.pool, "shipping", 2, []Start{{PartID{"shop.orders", 0}, 0}}))
	old, err := r.TakeOver(r.ctx, "shipping", 2, []PartID{{"shop.orders", 0}}, "x")
	must(t, err)
	if err := r.advance(2, step(&old[0], 1, 1)); !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "retired") {
		t.Errorf("a retired version: %v", err)
	}
}

// A take-over waits for the open batch of the owner before, and inherits it; the
// old owner is fenced from then on.
func TestTakeOverWaitsAndInherits(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(3)
	tx, err := r.Begin(r.ctx, r.pool, "shipping", v.Number, []Step{step(&parts[1], 100, 50)})
	must(t, err)
	type result struct {
		parts []Part
		err   error
	}
	done := make(chan result, 1)
	go func() {
		p, err := r.TakeOver(r.ctx, "shipping", v.Number, []PartID{parts[2].PartID, parts[1].PartID}, "heir")
		done <- result{p, err}
	}()
	r.untilWaiting(1)
	select {
	case <-done:
		t.Fatal("taken over while a batch was open")
	default:
	}
	must(t, tx.Commit(r.ctx))
	got := <-done
	must(t, got.err)
	if got.parts[0].Next != 100 || got.parts[0].Passed.LSN != 50 || got.parts[0].Epoch != parts[1].Epoch+1 || got.parts[0].Owner != "heir" || got.parts[1].PartID != parts[2].PartID {
		t.Errorf("inherited %+v", got.parts)
	}
	zombie := parts[1]
	zombie.Next = 100
	var fenced *FencedError
	if err := r.advance(v.Number, step(&parts[0], 1, 1), step(&zombie, 1, 60)); !errors.Is(err, ErrFenced) || !errors.As(err, &fenced) || fenced.Found != zombie.Epoch+1 {
		t.Errorf("the zombie: %v", err)
	}
	must(t, r.advance(v.Number, step(&got.parts[0], 1, 60)))
	if _, err := r.TakeOver(r.ctx, "shipping", v.Number, []PartID{{"shop.orders", 7}}, "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a partition without a row: %v", err)
	}

	// Giving back does not touch what others have taken since.
	must(t, r.Leave(r.ctx, "shipping", v.Number, []Part{parts[0], parts[1]}))
	now, err := r.Parts(r.ctx, r.pool, "shipping", v.Number)
	must(t, err)
	if now[0].Owner != "" || now[1].Owner != "heir" {
		t.Errorf("owners after leaving: %q, %q", now[0].Owner, now[1].Owner)
	}
}

// untilWaiting returns when n sessions of this database wait for a lock.
func (r *rig) untilWaiting(n int) {
	r.t.Helper()
	conn := r.db.Conn(r.t)
	for {
		var waiting int
		must(r.t, conn.QueryRow(r.ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
		if waiting >= n {
			return
		}
	}
}

// Whoever cannot take over is told who is in the way.
func TestTakeOverGivesUp(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(2)
	conn, err := r.pool.Acquire(r.ctx)
	must(t, err)
	defer conn.Release()
	tx, err := r.Begin(r.ctx, conn, "shipping", v.Number, []Step{step(&parts[1], 1, 1)})
	must(t, err)
	defer tx.Rollback(context.WithoutCancel(r.ctx))
	r.patience = 50 * time.Millisecond
	_, err = r.TakeOver(r.ctx, "shipping", v.Number, []PartID{parts[0].PartID, parts[1].PartID}, "heir")
	var locked *LockedError
	if !errors.As(err, &locked) || len(locked.Holders) != 1 || locked.Holders[0].PID != int(conn.Conn().PgConn().PID()) ||
		locked.Holders[0].PartID != parts[1].PartID || !strings.Contains(err.Error(), "test TestTakeOverGivesUp") || !strings.Contains(err.Error(), "idle in transaction") {
		t.Errorf("a batch that stays open: %v", err)
	}
	now, err := r.Parts(r.ctx, r.pool, "shipping", v.Number)
	must(t, err)
	if now[0].Epoch != parts[0].Epoch {
		t.Error("half a take-over")
	}
}

// The server ends a frozen owner's session, and the heir goes on.
func TestFrozenOwnerIsEnded(t *testing.T) {
	r := newRig(t)
	v, parts := r.shipping(1)
	conn, err := r.pool.Acquire(r.ctx)
	must(t, err)
	defer conn.Release()
	_, err = conn.Exec(r.ctx, `SET idle_in_transaction_session_timeout = '100ms'`)
	must(t, err)
	tx, err := r.Begin(r.ctx, conn, "shipping", v.Number, []Step{step(&parts[0], 1, 1)})
	must(t, err)
	heir, err := r.TakeOver(r.ctx, "shipping", v.Number, []PartID{parts[0].PartID}, "heir")
	must(t, err)
	if heir[0].Next != 0 {
		t.Errorf("it inherits what was never committed: %+v", heir[0])
	}
	if err := tx.Commit(r.ctx); err == nil {
		t.Error("the frozen owner has committed")
	}
	must(t, r.advance(v.Number, step(&heir[0], 1, 1)))
}

// Owners fight over the same partitions, with batches over overlapping sets in
// any order, some committed, some not: what is applied is exactly once and
// without a gap, and nobody ever waits in a circle.
func TestFenceUnderFire(t *testing.T) {
	seed := randtest.Seed(t)
	r := newRig(t)
	const owners, partitions, rounds = 8, 5, 25
	v, parts := r.shipping(partitions)
	r.db.Exec(t, `CREATE TABLE applied (part int, first bigint, next bigint, who int)`)
	// Something in each partition: on a busy machine few batches are not fenced.
	var first []Step
	for i := range parts {
		first = append(first, step(&parts[i], 1, 0))
	}
	must(t, r.advance(v.Number, first...))
	r.db.Exec(t, `INSERT INTO applied SELECT part, 0, 1, -1 FROM banyan.part`)
	var mu sync.Mutex
	counts := map[string]int{}
	var wg sync.WaitGroup
	for who := range owners {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(who)))
			got, err := r.fight(v.Number, parts, who, rounds, rnd)
			if err != nil {
				t.Errorf("owner %d: %v", who, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for k, n := range got {
				counts[k] += n
			}
		})
	}
	wg.Wait()
	t.Logf("%v", counts)
	if counts["fenced"] == 0 || counts["committed"] == 0 || counts["taken back"] == 0 {
		t.Errorf("nobody was hurt: %v", counts)
	}
	rows, err := r.pool.Query(r.ctx, `SELECT p.part, p.next_offset, p.seq, coalesce(sum(a.next - a.first), 0)::bigint, coalesce(max(a.next), 0),
			count(*) FILTER (WHERE a.first <> a.due)
		FROM banyan.part p LEFT JOIN (SELECT *, coalesce(lag(next) OVER (PARTITION BY part ORDER BY first, next), 0) AS due FROM applied) a USING (part)
		GROUP BY 1, 2, 3`)
	must(t, err)
	var part, gaps int
	var next, seq, sum, last int64
	_, err = pgx.ForEachRow(rows, []any{&part, &next, &seq, &sum, &last, &gaps}, func() error {
		if next != sum || last != next || seq != next || gaps > 0 || next == 0 {
			t.Errorf("part %d stands at %d, its rows end at %d and sum to %d with %d gaps or repeats", part, next, last, sum, gaps)
		}
		return nil
	})
	must(t, err)
}

func (r *rig) fight(version int, parts []Part, who, rounds int, rnd *rand.Rand) (map[string]int, error) {
	counts := map[string]int{}
	for range rounds {
		mine := parts[:1+rnd.IntN(len(parts))]
		var ids []PartID
		for _, i := range rnd.Perm(len(mine)) {
			ids = append(ids, mine[i].PartID)
		}
		owned, err := r.TakeOver(r.ctx, "shipping", version, ids, fmt.Sprint(who))
		if err != nil {
			return counts, err
		}
		for range 1 + rnd.IntN(8) {
			var steps []Step
			var rows [][]any
			some := rnd.Perm(len(owned))[:1+rnd.IntN(len(owned))]
			for _, i := range some {
				st := step(&owned[i], int64(rnd.IntN(3)), 0)
				steps = append(steps, st)
				if st.To > st.From {
					rows = append(rows, []any{st.Part, st.From, st.To, who})
				}
			}
			tx, err := r.Begin(r.ctx, r.pool, "shipping", version, steps)
			if errors.Is(err, ErrFenced) {
				counts["fenced"]++
				break
			}
			if err != nil {
				return counts, err
			}
			if _, err := tx.CopyFrom(r.ctx, pgx.Identifier{"applied"}, []string{"part", "first", "next", "who"}, pgx.CopyFromRows(rows)); err != nil {
				return counts, err
			}
			if rnd.IntN(4) == 0 {
				counts["taken back"]++
				if err := tx.Rollback(r.ctx); err != nil {
					return counts, err
				}
				continue
			}
			if err := tx.Commit(r.ctx); err != nil {
				return counts, err
			}
			counts["committed"]++
			for j, i := range some {
				owned[i].Next, owned[i].Seq = steps[j].To, steps[j].Seq
			}
		}
	}
	return counts, nil
}

// Batches over the same partitions, named in any order, wait for each other and
// never in a circle; nor does a swap that locks them all.
func TestNoCircle(t *testing.T) {
	seed := randtest.Seed(t)
	r := newRig(t)
	v, parts := r.shipping(12)
	r.nextVersion("d2")
	must(t, r.SetState(r.ctx, r.pool, "shipping", 2, Following, ""))
	// One batch first, so that a hold stands where the batches do.
	var first []Step
	for _, p := range parts {
		first = append(first, step(&p, 0, 0))
	}
	must(t, r.advance(v.Number, first...))
	var wg sync.WaitGroup
	for who := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(who)))
			for range 40 {
				var steps []Step
				for _, i := range rnd.Perm(len(parts)) {
					p := parts[i]
					steps = append(steps, step(&p, 0, 0)) // a mark alone: nobody is fenced
				}
				if who == 0 {
					if _, err := r.PlaceHold(r.ctx, "shipping", 1, 2, time.Hour); err != nil {
						t.Error(err)
					}
				} else if err := r.advance(v.Number, steps...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{1, 6, 42} {
		b.Run(fmt.Sprintf("parts=%d", n), func(b *testing.B) { benchmarkBatch(b, n) })
	}
}
