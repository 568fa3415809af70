package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/internal/pgtest"
	"banyan/internal/randtest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/projectiontest"
	"banyan/projections/service"
)

const orders = "shop.orders"

// house is a source, its topics and a service's database.
type house struct {
	t     *testing.T
	rng   *rand.Rand
	src   *projectiontest.Source
	log   projections.Log
	to    projectiontest.Producer
	db    *pgtest.DB
	pool  *pgxpool.Pool
	store *control.Store
	want  map[string]tally // what the counting projection must have
}

// tally is a row of the counting projection: applying any event twice, or not at
// all, or out of order, shows in it.
type tally struct {
	Key  string `db:"key,key"`
	N    int64  `db:"n"`
	Sum  int64  `db:"sum"`
	Last int64  `db:"last"`
	// Mix depends on the order.
	Mix int64 `db:"mix"`
}

func (c tally) with(amount int64) tally {
	c.N, c.Sum, c.Last, c.Mix = c.N+1, c.Sum+amount, amount, (c.Mix*31+amount)%1_000_000_007
	return c
}

type placed struct {
	State struct{ Amount int64 }
}

func counting(t testing.TB, mutate ...func(*projections.Fold[tally])) projections.Program {
	t.Helper()
	f := projections.Fold[tally]{Name: "counts", Source: "shop", Topics: []string{orders},
		Read: projections.Read[placed],
		Apply: func(c *tally, e *projections.Event) (projections.Decision, error) {
			d := e.Prepared.(placed)
			if d.State.Amount == 666 {
				return 0, errors.New("a cursed amount")
			}
			*c = c.with(d.State.Amount)
			return projections.Keep, nil
		}}
	for _, m := range mutate {
		m(&f)
	}
	p, err := f.Program()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newHouse(t *testing.T) *house {
	t.Helper()
	log := projectiontest.NewLog()
	h := &house{t: t, rng: randtest.New(t), src: projectiontest.NewSource("shop"), log: log, to: log, want: map[string]tally{}}
	h.src.Partitions = 4
	h.src.CreateTopics(log, orders)
	h.useDB(pgtest.New(t))
	return h
}

func (h *house) useDB(db *pgtest.DB) {
	h.t.Helper()
	h.db = db
	cfg, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	control.Configure(cfg, control.Settings{Application: "test"})
	cfg.MaxConns = 16
	if h.pool, err = pgxpool.NewWithConfig(h.t.Context(), cfg); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.pool.Close)
	if h.store, err = control.Open(h.t.Context(), h.pool); err != nil {
		h.t.Fatal(err)
	}
	if err := h.store.Migrate(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) install(p projections.Program) control.Version {
	h.t.Helper()
	v, _, err := service.Install(h.t.Context(), h.store, h.log, p, control.Mark{})
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// order tells an order of a customer; amounts of 666 are poison.
func (h *house) order(key string, amount int64) {
	h.t.Helper()
	h.commit(projectiontest.Event{Topic: orders, Type: "OrderPlaced", Aggregate: "Order", Key: key, Data: fmt.Sprintf(`{"state":{"amount":%d}}`, amount)})
	h.want[key] = h.want[key].with(amount)
}

func (h *house) commit(events ...projectiontest.Event) {
	h.t.Helper()
	if _, err := h.src.Commit(events...); err != nil {
		h.t.Fatal(err)
	}
}

// trade tells n orders, with repeats, late repeats and marks in between.
func (h *house) trade(n int) {
	h.t.Helper()
	for range n {
		h.order(fmt.Sprint("k", h.rng.IntN(40)), h.rng.Int64N(500))
		part := h.rng.IntN(h.src.Partitions)
		switch h.rng.IntN(20) {
		case 0:
			h.src.Repeat(orders, part, 1+h.rng.IntN(5))
		case 1:
			h.src.Late(orders, part, 1+h.rng.Int64N(10))
		case 2:
			h.src.Mark()
		}
	}
}

func (h *house) publish() {
	h.t.Helper()
	h.src.Mark()
	if err := h.src.PublishShuffled(h.t.Context(), h.to, h.rng); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) runner(p projections.Program, v control.Version, change ...func(*projections.Options)) *projections.Runner {
	h.t.Helper()
	o := projections.Options{Program: p, Version: v, Store: h.store, Pool: h.pool, Log: h.log, Owner: "test", Logger: h.logger()}
	for _, c := range change {
		c(&o)
	}
	r, err := projections.NewRunner(o)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func untilCaughtUp(o *projections.Options) { o.Until.CaughtUp = true }

func (h *house) parts(topics ...string) map[string][]int {
	parts := map[string][]int{}
	for _, t := range topics {
		for i := range h.src.Partitions {
			parts[t] = append(parts[t], i)
		}
	}
	return parts
}

// catchUp runs until all that is told is applied.
func (h *house) catchUp(p projections.Program, v control.Version, change ...func(*projections.Options)) {
	h.t.Helper()
	if err := h.tryCatchUp(p, v, change...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) tryCatchUp(p projections.Program, v control.Version, change ...func(*projections.Options)) error {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	return h.runner(p, v, append([]func(*projections.Options){untilCaughtUp}, change...)...).Run(ctx, h.parts(p.Spec().Topics...))
}

// start runs until stop, which gives what Run said.
func (h *house) start(r *projections.Runner, parts map[string][]int) (stop func() error) {
	ctx, cancel := context.WithCancelCause(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, parts) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(errStopped); err = <-done })
		return err
	}
	h.t.Cleanup(func() { stop() })
	return stop
}

var errStopped = errors.New("stopped by the test")

func (h *house) check() {
	h.t.Helper()
	h.checkExcept()
}

// checkExcept compares all rows but those of some keys.
func (h *house) checkExcept(keys ...string) {
	h.t.Helper()
	if d := h.diff(keys...); d != "" {
		h.t.Fatalf("rows (-want +got):\n%s", d)
	}
}

func (h *house) diff(keys ...string) string {
	h.t.Helper()
	want := maps.Clone(h.want)
	for k, c := range want {
		c.Key = k
		want[k] = c
	}
	got := h.counts()
	for _, k := range keys {
		delete(want, k)
		delete(got, k)
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

func (h *house) counts() map[string]tally {
	h.t.Helper()
	// Not through the pool: a test may have cut its connections.
	conn, err := pgx.Connect(h.t.Context(), h.db.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(h.t.Context(), `SELECT key, n, sum, last, mix FROM counts.counts`)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	got := map[string]tally{}
	for rows.Next() {
		var c tally
		if err := rows.Scan(&c.Key, &c.N, &c.Sum, &c.Last, &c.Mix); err != nil {
			h.t.Fatal(err)
		}
		got[c.Key] = c
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return got
}

// eventually looks again and again, for what no signal tells of.
func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			h.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// passed waits until a runner has passed the latest mark told.
func (h *house) passed(r *projections.Runner) {
	h.t.Helper()
	h.eventually("the last mark is passed", func() bool {
		return r.Stats().Passed.Compare(control.Mark{Generation: h.src.Generation, LSN: h.src.LSN + 0x30}) >= 0
	})
}

func (h *house) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{h.t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// testWriter logs where a failed test shows it.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", b)
	}
	return len(b), nil
}
