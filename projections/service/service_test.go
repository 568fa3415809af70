package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/bus"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/projectiontest"
	"banyan/projections/rebuild"
	"banyan/projections/service"
)

// visits is a projection in Go: a row per customer, with how often it was told of.
type visits struct {
	Customer int64  `db:"customer_id,key"`
	City     string `db:"city"`
	Times    int64  `db:"times"`
}

type customer struct {
	State struct {
		City string `json:"city"`
	} `json:"state"`
}

func visiting(digest string, step int64) (projections.Program, error) {
	return projections.Fold[visits]{
		Name: "visits", Source: "shop", Topics: []string{"shop.customers"}, Digest: digest, NotFromLatest: "counts events",
		Apply: func(v *visits, e *projections.Event) (projections.Decision, error) {
			c, err := projections.Decode[customer](e)
			v.City, v.Times = c.State.City, v.Times+step
			return projections.Keep, err
		},
	}.Program()
}

// The few lines that a service in Go needs: a database, a broker, a program.
func Example() {
	run := func(ctx context.Context, pool *pgxpool.Pool, cluster *bus.Cluster, program projections.Program) error {
		store, err := control.Open(ctx, pool)
		if err != nil {
			return err
		}
		if err := store.Migrate(ctx); err != nil {
			return err
		}
		if _, _, err := service.Install(ctx, store, cluster, program, control.Mark{}); err != nil {
			return err
		}
		s := service.Service{
			Store: store, Log: cluster, Projection: "visits", Owner: "visits on host-a",
			Program: func(control.Version) (projections.Program, error) { return program, nil },
			Join: func(ctx context.Context, m service.Membership, work projections.Work) error {
				return cluster.JoinGroup(ctx, bus.GroupConfig{ID: m.Group, Topics: m.Topics, Applied: m.Applied}, work)
			},
		}
		return s.Run(ctx)
	}
	_ = run
}

type house struct {
	t       *testing.T
	pool    *pgxpool.Pool
	store   *control.Store
	cluster *bus.Cluster
	source  *projectiontest.Source
	told    map[int]int64 // by customer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	broker := kafkatest.New(t)
	cluster, err := bus.Dial(t.Context(), bus.Config{Brokers: broker.Addrs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	h := &house{t: t, pool: pgtest.New(t).Pool(t), cluster: cluster, source: projectiontest.NewSource("shop"), told: map[int]int64{}}
	if h.store, err = control.Open(t.Context(), h.pool); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.EnsureTopics(t.Context(), []bus.TopicSpec{bus.BusinessTopic("shop.customers", h.source.Partitions), bus.WatermarkTopic("shop.watermarks")}); err != nil {
		t.Fatal(err)
	}
	return h
}

// tell publishes n moves of customers.
func (h *house) tell(n int) {
	h.t.Helper()
	for i := range n {
		id := 1 + i%7
		h.told[id]++
		if _, err := h.source.Commit(projectiontest.Event{Topic: "shop.customers", Type: "CustomerMoved", Aggregate: "Customer", Key: fmt.Sprint(id),
			Data: fmt.Sprintf(`{"state": {"city": "city %d"}}`, i)}); err != nil {
			h.t.Fatal(err)
		}
	}
	h.source.Mark()
	if err := h.source.Publish(h.t.Context(), h.cluster); err != nil {
		h.t.Fatal(err)
	}
}

// service follows the projection with the programs that versions have.
func (h *house) service(programs map[string]projections.Program) *service.Service {
	return &service.Service{
		Store: h.store, Log: h.cluster, Projection: "visits", Owner: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Program: func(v control.Version) (projections.Program, error) {
			p := programs[v.Digest]
			if p == nil {
				return nil, fmt.Errorf("no program of digest %q", v.Digest)
			}
			return p, nil
		},
		Join: func(ctx context.Context, m service.Membership, work projections.Work) error {
			return h.cluster.JoinGroup(ctx, bus.GroupConfig{ID: m.Group, Topics: m.Topics, Applied: m.Applied}, work)
		},
	}
}

// sees waits until readers see times as often as each customer was told of, times
// step.
func (h *house) sees(step int64) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for {
		got := map[int]int64{}
		rows, err := h.pool.Query(h.t.Context(), `SELECT customer_id, times FROM visits.visits`)
		if err != nil {
			h.t.Fatal(err)
		}
		for rows.Next() {
			var id int
			var times int64
			if err := rows.Scan(&id, &times); err != nil {
				h.t.Fatal(err)
			}
			got[id] = times
		}
		good := rows.Err() == nil && len(got) == len(h.told)
		for id, n := range h.told {
			good = good && got[id] == n*step
		}
		if good {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			h.t.Fatalf("readers see %v, told were %v times %d", got, h.told, step)
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A service in Go lives through what one in YAML does: installed, run, stopped and
// run again, rebuilt with other code, swapped while it runs, the old version
// retired.
func TestServiceInGo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	programs := map[string]projections.Program{"1": must[projections.Program](t)(visiting("1", 1)), "2": must[projections.Program](t)(visiting("2", 10))}
	h.tell(100)
	v, made, err := service.Install(t.Context(), h.store, h.cluster, programs["1"], control.Mark{})
	if err != nil || !made || v.Number != 1 {
		t.Fatalf("%+v, %v, %v", v, made, err)
	}
	if _, made, err := service.Install(t.Context(), h.store, h.cluster, programs["1"], control.Mark{}); err != nil || made {
		t.Fatalf("installed a second time: %v, %v", made, err)
	}
	var other *control.DigestError
	if _, _, err := service.Install(t.Context(), h.store, h.cluster, programs["2"], control.Mark{}); !errors.As(err, &other) {
		t.Fatalf("other code under the same name: %v", err)
	}
	job := h.service(programs)
	job.UntilCaughtUp = true
	if err := job.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.sees(1)

	ctx, stop := context.WithCancel(t.Context())
	live := h.service(programs)
	ended := make(chan error, 1)
	go func() { ended <- live.Run(ctx) }()
	h.tell(50)
	h.sees(1)
	cfg := rebuild.Config{DB: h.pool, Log: h.cluster, Program: programs["2"], Dir: t.TempDir()}
	plan := must[*rebuild.Plan](t)(rebuild.MakePlan(t.Context(), cfg))
	must[*rebuild.Result](t)(rebuild.Run(t.Context(), cfg, plan))
	h.tell(50) // the new version is followed without anybody having said so
	swap := rebuild.SwapConfig{DB: h.pool, Log: h.cluster, Projection: "visits", Program: live.Program, Owner: "test"}
	for {
		if _, err = rebuild.Swap(t.Context(), swap); err == nil {
			break
		}
		var late *control.NotReachedError
		var refused *rebuild.Refused
		if !errors.As(err, &late) && !errors.As(err, &refused) || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	h.tell(20)
	h.sees(10)
	if err := rebuild.Retire(t.Context(), h.pool, "visits", 1); err != nil {
		t.Fatal(err)
	}
	h.tell(20)
	h.sees(10)
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the service ended: %v", err)
	}
}

// A topic whose beginning is gone cannot be folded: said before anything is made.
func TestInstallRefusesWhatHasNoHistory(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	log := projectiontest.NewLog()
	h.source.CreateTopics(log, "shop.customers")
	for i := range 20 {
		if _, err := h.source.Commit(projectiontest.Event{Topic: "shop.customers", Type: "CustomerMoved", Aggregate: "Customer", Key: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.source.Publish(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	for p := range h.source.Partitions {
		log.Trim("shop.customers", p, 1)
	}
	_, _, err := service.Install(t.Context(), h.store, log, must[projections.Program](t)(visiting("1", 1)), control.Mark{})
	if err == nil {
		t.Fatal("installed")
	}
	if versions := must[[]control.Version](t)(h.store.Versions(t.Context(), "visits")); len(versions) != 0 {
		t.Errorf("something was made: %+v", versions)
	}
	t.Log(err)
}

// A version that is only followed and that this program cannot run must not take
// the one down that readers see.
func TestLiveVersionOutlivesOneThatFails(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	known := map[string]projections.Program{"1": must[projections.Program](t)(visiting("1", 1))}
	h.tell(30)
	if _, _, err := service.Install(t.Context(), h.store, h.cluster, known["1"], control.Mark{}); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	live := h.service(known)
	program := live.Program
	live.Program = func(v control.Version) (projections.Program, error) {
		if v.Number == 2 {
			asked <- struct{}{}
		}
		return program(v)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- live.Run(ctx) }()
	h.sees(1)
	cfg := rebuild.Config{DB: h.pool, Log: h.cluster, Program: must[projections.Program](t)(visiting("2", 10)), Dir: t.TempDir()}
	must[*rebuild.Result](t)(rebuild.Run(t.Context(), cfg, must[*rebuild.Plan](t)(rebuild.MakePlan(t.Context(), cfg))))
	<-asked // it has met the version that it cannot run
	h.tell(30)
	h.sees(1)
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the service ended: %v", err)
	}
}
