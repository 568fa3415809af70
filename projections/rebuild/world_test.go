package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/projectiontest"
	"banyan/projections/rebuild"
	"banyan/projections/service"
	"banyan/projections/state"
)

// world is a source, a log in memory and a projection in a real database.
type world struct {
	t     *testing.T
	db    *pgtest.DB
	pool  *pgxpool.Pool
	store *control.Store
	src   *projectiontest.Source
	log   *projectiontest.Log // nil where there is a broker
	from  projections.Log
	to    projectiontest.Producer
	rng   *rand.Rand
	made  *rebuild.Result // of the last rebuild
	// programs by digest: what the definition of a version stands for.
	programs map[string]projections.Program
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, pgtest.New(t))
}

func newWorldOn(t *testing.T, db *pgtest.DB) *world {
	t.Helper()
	seed := randtest.Seed(t)
	w := &world{t: t, db: db, src: projectiontest.NewSource("shop"), log: projectiontest.NewLog(),
		rng: rand.New(rand.NewPCG(seed, 7)), programs: map[string]projections.Program{}}
	w.pool = openPool(t, w.db.URL)
	store, err := control.Open(t.Context(), w.pool)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.store, w.from, w.to = store, w.log, w.log
	w.src.Partitions = 3
	w.src.CreateTopics(w.log, accounts, customers, orders)
	return w
}

func openPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns = 30
	control.Configure(c, control.Settings{Application: "rebuild test"})
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func (w *world) know(p projections.Program) projections.Program {
	w.programs[p.Spec().Digest] = p
	return p
}

func (w *world) program(v control.Version) (projections.Program, error) {
	if p := w.programs[v.Digest]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("nobody knows the digest %q", v.Digest)
}

func (w *world) install(p projections.Program) control.Version {
	w.t.Helper()
	v, made, err := service.Install(w.t.Context(), w.store, w.from, w.know(p), control.Mark{})
	if err != nil || !made {
		w.t.Fatal(made, err)
	}
	return v
}

func (w *world) commit(events ...projectiontest.Event) {
	w.t.Helper()
	if _, err := w.src.Commit(events...); err != nil {
		w.t.Fatal(err)
	}
}

// publish tells what was committed, partitions ahead of each other, and a mark.
func (w *world) publish() {
	w.t.Helper()
	w.src.Mark()
	if err := w.src.PublishShuffled(w.t.Context(), w.to, w.rng); err != nil {
		w.t.Fatal(err)
	}
}

// trade makes n transactions of accounts, with repeats in between.
func (w *world) trade(n int) {
	w.t.Helper()
	for range n {
		k := fmt.Sprint(w.rng.IntN(50))
		switch w.rng.IntN(12) {
		case 0:
			w.commit(closed(k))
		case 1:
			w.commit(moved(k, w.rng.Int64N(2000)), moved(fmt.Sprint(w.rng.IntN(50)), -5))
		case 2:
			w.src.Repeat(accounts, w.rng.IntN(w.src.Partitions), 1+w.rng.IntN(3))
		case 3:
			w.src.Mark()
		default:
			w.commit(moved(k, w.rng.Int64N(2000)))
		}
	}
	w.publish()
}

// sell makes n transactions of customers and orders.
func (w *world) sell(n int) {
	w.t.Helper()
	for range n {
		c, o := fmt.Sprint("c", w.rng.IntN(10)), fmt.Sprint("o", w.rng.IntN(40))
		switch w.rng.IntN(6) {
		case 0:
			w.commit(customer(c, fmt.Sprint("city ", w.rng.IntN(5))))
		case 1:
			w.commit(customer(c, fmt.Sprint("city ", w.rng.IntN(5))), placed(o, c, 100))
		case 2:
			w.commit(paid(o))
		case 3:
			w.src.Mark()
			w.src.Now = w.src.Now.Add(time.Duration(w.rng.IntN(200)) * time.Second)
		default:
			w.commit(placed(o, c, w.rng.Int64N(2000)))
		}
	}
	w.publish()
}

func (w *world) runner(v control.Version, until projections.Until) (*projections.Runner, map[string][]int) {
	w.t.Helper()
	v, err := w.store.Version(w.t.Context(), v.Projection, v.Number)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.program(v)
	if err != nil {
		w.t.Fatal(err)
	}
	var limits projections.Limits
	if until.CaughtUp {
		limits = projections.Limits{Events: 20 + w.rng.IntN(500), Age: -1} // the rows must not depend on it
	}
	r, err := projections.NewRunner(projections.Options{Program: p, Version: v, Store: w.store, Pool: w.pool, Log: w.from, Owner: "test",
		Until: until, Limits: limits, Logger: w.logger()})
	if err != nil {
		w.t.Fatal(err)
	}
	parts := map[string][]int{}
	for _, topic := range p.Spec().Topics {
		for i := range w.src.Partitions {
			parts[topic] = append(parts[topic], i)
		}
	}
	return r, parts
}

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// testWriter logs where a failed test shows it.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", b)
	}
	return len(b), nil
}

// catchUp runs a version until it has applied what there is.
func (w *world) catchUp(v control.Version) {
	w.t.Helper()
	r, parts := w.runner(v, projections.Until{CaughtUp: true})
	if err := r.Run(w.t.Context(), parts); err != nil {
		w.t.Fatalf("run version %d: %v", v.Number, err)
	}
}

// follow runs a version until the function that it gives is called.
func (w *world) follow(v control.Version) (stop func()) {
	w.t.Helper()
	r, parts := w.runner(v, projections.Until{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, parts) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, projections.ErrRetired) {
			w.t.Errorf("version %d ended with %v", v.Number, err)
		}
	}
	w.t.Cleanup(stop)
	w.eventually("somebody runs it", func() bool {
		alive, err := w.store.Alive(w.t.Context(), v.Projection, v.Number)
		return err == nil && alive
	})
	return stop
}

// eventually polls a condition that has no signal.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			w.t.Fatalf("it never came to be that %s", what)
		case <-tick.C:
		}
	}
}

func (w *world) config(p projections.Program) rebuild.Config {
	return rebuild.Config{DB: w.pool, Log: w.from, Program: w.know(p), Dir: w.t.TempDir(), Owner: "test", Logger: w.logger()}
}

// rebuild makes a version.
func (w *world) rebuild(p projections.Program) control.Version {
	w.t.Helper()
	cfg := w.config(p)
	plan, err := rebuild.MakePlan(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := rebuild.Run(w.t.Context(), cfg, plan)
	if err != nil {
		w.t.Fatal(err)
	}
	w.made = res
	v, err := w.store.Version(w.t.Context(), res.Projection, res.Version)
	if err != nil || v.State != control.Following {
		w.t.Fatalf("%+v, %v", v, err)
	}
	return v
}

func (w *world) swap() rebuild.SwapConfig {
	return rebuild.SwapConfig{DB: w.pool, Log: w.from, Program: w.program, Owner: "test", Logger: w.logger()}
}

func (w *world) verify(v control.Version) *rebuild.Report {
	w.t.Helper()
	r, err := rebuild.Verify(w.t.Context(), w.verifyConfig(v))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) verifyConfig(v control.Version) rebuild.VerifyConfig {
	w.t.Helper()
	p, err := w.program(v)
	if err != nil {
		w.t.Fatal(err)
	}
	return rebuild.VerifyConfig{DB: w.pool, Log: w.from, Program: p, Version: v.Number, Dir: w.t.TempDir()}
}

func (w *world) proved(v control.Version) {
	w.t.Helper()
	if r := w.verify(v); r.Verdict != rebuild.Proved {
		w.t.Fatalf("version %d: %s: %v %+v", v.Number, r.Verdict, r.Reasons, r.Tables)
	}
}

// rows reads all tables of a version.
func (w *world) rows(v control.Version) map[string][]state.Entry {
	w.t.Helper()
	p, err := w.program(v)
	if err != nil {
		w.t.Fatal(err)
	}
	conn, err := w.pool.Acquire(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Release()
	all := map[string][]state.Entry{}
	for _, t := range p.Spec().AllTables() {
		for e, err := range state.Scan(w.t.Context(), conn.Conn(), v.Schema, t) {
			if err != nil {
				w.t.Fatal(err)
			}
			all[t.Name] = append(all[t.Name], e)
		}
	}
	return all
}

func (w *world) count(sql string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return n
}
