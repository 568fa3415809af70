package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/rebuild"
)

// watchers read through the views without a pause: an error, or a count that
// falls, is a fault. They tell the longest time that a read has taken.
type watchers struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	took   []time.Duration
	faults []string
}

func (w *world) watch(n int, sql string) *watchers {
	ctx, cancel := context.WithCancel(context.Background())
	o := &watchers{cancel: cancel}
	for range n {
		o.wg.Go(func() {
			last := int64(-1)
			for ctx.Err() == nil {
				began := time.Now()
				var now int64
				err := w.pool.QueryRow(ctx, sql).Scan(&now)
				if ctx.Err() != nil {
					return
				}
				o.mu.Lock()
				o.took = append(o.took, time.Since(began))
				switch {
				case err != nil:
					o.faults = append(o.faults, err.Error())
				case now < last:
					o.faults = append(o.faults, fmt.Sprintf("from %d back to %d", last, now))
				}
				o.mu.Unlock()
				last = max(last, now)
			}
		})
	}
	w.t.Cleanup(func() { o.cancel(); o.wg.Wait() })
	return o
}

func (o *watchers) stop(t *testing.T) {
	t.Helper()
	o.cancel()
	o.wg.Wait()
	slices.Sort(o.took)
	t.Logf("%d reads, p50 %s, p99 %s, longest %s", len(o.took), o.took[len(o.took)/2], o.took[len(o.took)*99/100], o.took[len(o.took)-1])
	if len(o.faults) > 0 {
		t.Errorf("%d faults of readers, the first: %s", len(o.faults), o.faults[0])
	}
}

// load goes on telling until it is stopped.
func (w *world) load(tell func(n int)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				tell(3)
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(done); <-ended }) }
	w.t.Cleanup(stop)
	return stop
}

// Rebuild, swap and rollback while events flow and readers read: nobody sees an
// error or a step back, every effect is promised once, both versions stay right.
func TestSwapUnderLoad(t *testing.T) {
	for name, c := range map[string]struct {
		old, next projections.Program
		tell      func(w *world) func(int)
		watch     string
		effects   string // how many effects the events ask for
	}{
		"partitioned": {balances{Effects: true}, balances{Effects: true, Revision: 2}, func(w *world) func(int) { return w.trade },
			`SELECT coalesce(sum(moves), 0)::bigint FROM balances.days`, ""},
		"aligned": {joined{}, joined{Upper: true}, func(w *world) func(int) { return w.sell },
			`SELECT count(*) FROM joined.orders`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v1 := w.install(c.old)
			tell := c.tell(w)
			tell(200)
			stop1 := w.follow(v1)
			stopLoad := w.load(tell)
			readers := w.watch(3, c.watch)

			v2 := w.rebuild(c.next)
			stop2 := w.follow(v2)
			var held []time.Duration
			for i, do := range []func(context.Context, rebuild.SwapConfig) (*rebuild.Swapped, error){rebuild.Swap, rebuild.Rollback, rebuild.Swap} {
				cfg := w.swap()
				cfg.Projection = v1.Projection
				cfg.MaxBehind = 100 * time.Hour // the source's clock runs much faster here
				cfg.Force = i == 1              // the column that readers have got by now
				done, err := do(t.Context(), cfg)
				if err != nil {
					t.Fatalf("swap %d: %v", i, err)
				}
				want := []int{v2.Number, v1.Number, v2.Number}[i]
				active, err := w.store.Active(t.Context(), v1.Projection)
				if err != nil || active.Number != want || done.To != want {
					t.Fatalf("swap %d: active is %d, %+v, %v", i, active.Number, done, err)
				}
				t.Logf("swap %d: held for %s at %s", i, done.Held, done.At)
				held = append(held, done.Held)
				tell2 := w.passedNow(v1.Projection)
				w.eventually("the active version goes on", func() bool { return w.passedNow(v1.Projection) != tell2 })
			}
			// One may meet a moment in which the machine does something else; what makes a
			// swap slow by itself is in all of them.
			if slices.Sort(held); held[1] > time.Second {
				t.Errorf("both stood still for %s", held)
			}
			readers.stop(t)
			stopLoad()
			stop1()
			stop2()
			w.catchUp(v2) // the active one first: one with timers follows it
			w.catchUp(v1)
			w.proved(v1)
			w.proved(v2)
			w.effectsOnce(c.old)
		})
	}
}

func (w *world) passedNow(projection string) string {
	m, err := w.store.Passed(w.t.Context(), projection)
	if err != nil {
		w.t.Fatal(err)
	}
	return m.String()
}

// effectsOnce compares the ledger with what one single version would have
// promised, had it been there alone from the beginning.
func (w *world) effectsOnce(p projections.Program) {
	w.t.Helper()
	alone := newWorld(w.t)
	alone.log, alone.from, alone.to, alone.src, alone.rng = w.log, w.from, w.to, w.src, w.rng
	v := alone.install(p)
	// Timers fire where they have fired.
	const copied = `SELECT name, key, at, generation, lsn, ordinal, snapshot FROM banyan.fired ORDER BY n`
	rows, err := w.pool.Query(w.t.Context(), copied)
	if err != nil {
		w.t.Fatal(err)
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			w.t.Fatal(err)
		}
		alone.db.Exec(w.t, `INSERT INTO banyan.fired (projection, name, key, at, generation, lsn, ordinal, snapshot) VALUES ('joined', $1, $2, $3, $4, $5, $6, $7)`, values...)
	}
	if rows.Err() != nil {
		w.t.Fatal(rows.Err())
	}
	alone.catchUp(v)
	const ledger = `SELECT string_agg(source || ' ' || name || ' ' || n, E'\n' ORDER BY source, name, n) FROM banyan.effect`
	var got, want string
	if err := w.pool.QueryRow(w.t.Context(), ledger).Scan(&got); err != nil {
		w.t.Fatal(err)
	}
	if err := alone.pool.QueryRow(w.t.Context(), ledger).Scan(&want); err != nil {
		w.t.Fatal(err)
	}
	if got != want {
		g, n := strings.Split(got, "\n"), strings.Split(want, "\n")
		only := func(a, b []string) (out []string) {
			for _, s := range a {
				if !slices.Contains(b, s) {
					out = append(out, s)
				}
			}
			return out
		}
		w.t.Errorf("%d effects, want %d; too many: %v; missing: %v", len(g), len(n), only(g, n), only(n, g))
	}
	w.t.Logf("%d effects, each promised once", strings.Count(got, "\n")+1)
}

// Where nobody runs the projection, the swap does it for the moment.
func TestSwapWithoutARunner(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(joined{})
	w.sell(100)
	w.catchUp(v1)
	v2 := w.rebuild(joined{Upper: true})
	w.sell(300) // nobody has applied these
	cfg := w.swap()
	cfg.Projection = "joined"
	done, err := rebuild.Swap(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("held %s at %s", done.Held, done.At)
	for _, v := range []control.Version{v1, v2} {
		if alive, err := w.store.Alive(t.Context(), "joined", v.Number); err != nil || alive {
			t.Errorf("version %d is run by somebody after the swap: %v, %v", v.Number, alive, err)
		}
		w.proved(v)
	}
	w.sell(50)
	if _, err := rebuild.Rollback(t.Context(), rebuild.SwapConfig{DB: w.pool, Log: w.from, Program: w.program, Projection: "joined", Force: true, Owner: "test"}); err != nil {
		t.Fatal(err)
	}
	if a, err := w.store.Active(t.Context(), "joined"); err != nil || a.Number != v1.Number {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestSwapRefuses(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(balances{Revision: 2})
	w.trade(50)
	w.catchUp(v1)
	cfg := w.swap()
	cfg.Projection = "balances"
	refused := func(want string, err error) {
		t.Helper()
		var r *rebuild.Refused
		if !errors.As(err, &r) || !strings.Contains(err.Error(), want) {
			t.Errorf("want a refusal with %q, got %v", want, err)
		}
	}
	_, err := rebuild.Swap(t.Context(), cfg)
	refused("no version to go to", err)
	_, err = rebuild.Rollback(t.Context(), cfg)
	refused("it has to be kept", err)

	v2 := w.rebuild(balances{})
	_, err = rebuild.Swap(t.Context(), cfg)
	refused("accounts.largest", err)
	w.db.Exec(t, `UPDATE banyan.version SET source = 'other' WHERE number = 2`)
	_, err = rebuild.Swap(t.Context(), cfg)
	refused("no mark in common", err)
	if err == nil || !strings.Contains(err.Error(), "accounts.largest") {
		t.Errorf("not all faults at once: %v", err)
	}
	w.db.Exec(t, `UPDATE banyan.version SET source = 'shop' WHERE number = 2`)

	// One of the two stands still: nothing changes, nothing is held for long.
	w.db.Exec(t, `UPDATE banyan.part SET passed_time = passed_time - interval '1 hour', passed_lsn = passed_lsn - 1000 WHERE version = 2`)
	stop := w.follow(v1)
	stall := w.stalledRunner(v2)
	cfg.Force = true
	_, err = rebuild.Swap(t.Context(), cfg)
	refused("behind version 1", err)
	cfg.MaxBehind, cfg.Hold = 1000*time.Hour, 300*time.Millisecond
	_, err = rebuild.Swap(t.Context(), cfg)
	var late *control.NotReachedError
	if !errors.As(err, &late) || len(late.Late) == 0 {
		t.Errorf("want who was late, got %v", err)
	}
	stall()
	if _, ok, err := w.store.HoldOf(t.Context(), "balances", 1); ok || err != nil {
		t.Errorf("the hold is still there: %v", err)
	}
	if a, err := w.store.Active(t.Context(), "balances"); err != nil || a.Number != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	w.trade(20)
	m := w.src.LSN
	w.eventually("version 1 goes on", func() bool {
		p, err := w.store.Passed(t.Context(), "balances")
		return err == nil && p.LSN > m
	})
	stop()
	w.proved(v1)
}

// stalledRunner is somebody who has a version and does nothing with it.
func (w *world) stalledRunner(v control.Version) (stop func()) {
	lease, err := w.store.Lease(w.t.Context(), v.Projection, v.Number, control.Owning, "a process that hangs")
	if err != nil {
		w.t.Fatal(err)
	}
	return lease.Close
}

// A swapper that dies in between leaves a hold that lapses.
func TestSwapperDies(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(balances{})
	w.trade(50)
	stop := w.follow(v1)
	v2 := w.rebuild(balances{Lenient: true})
	stop2 := w.follow(v2)
	if _, err := w.store.PlaceHold(t.Context(), "balances", 1, 2, 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	w.trade(50) // nobody clears it
	lsn := w.src.LSN
	began := time.Now()
	w.eventually("version 1 goes on", func() bool {
		p, err := w.store.Passed(t.Context(), "balances")
		return err == nil && p.LSN > lsn
	})
	t.Logf("stood still for %s", time.Since(began))
	cfg := w.swap()
	cfg.Projection = "balances"
	cfg.MaxBehind = 100 * time.Hour // version 2 need not have got there at the same moment, and a moment is a minute here
	if _, err := rebuild.Swap(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	stop()
	stop2()
	w.proved(v1)
	w.proved(v2)
	if err := rebuild.Retire(t.Context(), w.pool, "balances", 2); err == nil {
		t.Error("the active version was retired beside another one")
	}
	if err := rebuild.Retire(t.Context(), w.pool, "balances", 1); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`SELECT count(*) FROM pg_namespace WHERE nspname = 'balances_v1'`); n != 0 {
		t.Error("its schema is still there")
	}
	if n := w.count(`SELECT count(*) FROM balances.accounts`); n == 0 {
		t.Error("readers see nothing")
	}
}

func TestDiff(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(balances{})
	w.trade(100)
	w.commit(moved("only", 5))
	w.publish()
	w.catchUp(v1)
	w.rebuild(balances{Revision: 2, Double: true})
	w.trade(50)
	cfg := rebuild.DiffConfig{SwapConfig: w.swap(), Examples: 1000, Explain: true}
	cfg.Projection = "balances"
	c, err := rebuild.Diff(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c.Old != 1 || c.New != 2 || len(c.Gone) != 0 || !slices.Equal(c.Added, []string{"accounts.largest"}) || len(c.Tables) != 2 {
		t.Fatalf("%+v", c)
	}
	a, days := c.Tables[0], c.Tables[1]
	if a.Table != "accounts" || a.Missing+a.Extra != 0 || a.Different == 0 || a.Different+a.Proved != w.count(`SELECT count(*) FROM balances_v2.accounts`) {
		t.Errorf("%+v", a)
	}
	if days.Different+days.Missing+days.Extra != 0 || days.Proved == 0 {
		t.Errorf("%+v", days)
	}
	i := slices.IndexFunc(a.Examples, func(d rebuild.Difference) bool { return d.Key == "id=only" })
	if i < 0 {
		t.Fatalf("%+v", a.Examples)
	}
	d := a.Examples[i]
	if len(d.Columns) != 1 || d.Columns[0] != (rebuild.ColumnDiff{Column: "total", Want: "0.10", Got: "0.05"}) || !strings.Contains(d.Event, "Account/only@") {
		t.Errorf("%+v", d)
	}
}
