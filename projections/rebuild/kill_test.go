package rebuild_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/bus"
	"banyan/internal/kafkatest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/projectiontest"
	"banyan/projections/rebuild"
)

// childVar makes the test binary a process that rebuilds or swaps, and is killed.
const childVar = "BANYAN_REBUILD_TEST_CHILD"

// childHold is how long a child that swaps may let both versions stand still.
const childHold = 2 * time.Second

// order is what a child is told.
type childOrder struct {
	Do      string // "rebuild", "swap"
	DB      string
	Brokers []string
	Dir     string
	Aligned bool
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVar); text != "" {
		var o childOrder
		err := json.Unmarshal([]byte(text), &o)
		if err == nil {
			err = o.run(context.Background())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (o childOrder) program(next bool) projections.Program {
	if o.Aligned {
		return joined{Upper: next}
	}
	if next {
		return balances{Revision: 2}
	}
	return balances{}
}

// run is the life of a child: it says on its standard output where it is.
func (o childOrder) run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, o.DB)
	if err != nil {
		return err
	}
	defer pool.Close()
	log, err := bus.Dial(ctx, bus.Config{Brokers: o.Brokers})
	if err != nil {
		return err
	}
	defer log.Close()
	if o.Do == "rebuild" {
		cfg := rebuild.Config{DB: pool, Log: log, Program: o.program(true), Dir: o.Dir, Owner: "child", ProgressEvery: 10 * time.Millisecond, Memory: 1,
			Progress: func(p rebuild.Progress) { fmt.Println(p.Phase) }}
		plan, err := rebuild.MakePlan(ctx, cfg)
		if err != nil {
			return err
		}
		_, err = rebuild.Run(ctx, cfg, plan)
		return err
	}
	cfg := rebuild.SwapConfig{DB: pool, Log: log, Projection: o.program(false).Spec().Name, Force: true, MaxBehind: 100 * time.Hour, Hold: childHold, Owner: "child",
		Program: func(v control.Version) (projections.Program, error) { return o.program(v.Number > 1), nil }}
	for {
		fmt.Println("swapping")
		if _, err := rebuild.Swap(ctx, cfg); err != nil {
			return err
		}
	}
}

// child starts one and gives the lines that it says.
func (w *world) child(o childOrder) (*exec.Cmd, <-chan string) {
	w.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childVar+"="+string(text))
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	lines := make(chan string, 10_000)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(out)
		for in.Scan() {
			lines <- in.Text()
		}
		io.Copy(io.Discard, out)
	}()
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("a child said: %s", said.String())
		}
	})
	return cmd, lines
}

// newBrokerWorld has a broker that other processes reach.
func newBrokerWorld(t *testing.T) (*world, []string) {
	t.Helper()
	w := newWorld(t)
	broker := kafkatest.New(t)
	c, err := bus.Dial(t.Context(), bus.Config{Brokers: broker.Addrs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	specs := []bus.TopicSpec{bus.WatermarkTopic(w.src.WatermarkTopic())}
	for _, topic := range []string{accounts, customers, orders} {
		specs = append(specs, bus.BusinessTopic(topic, w.src.Partitions))
	}
	if _, err := c.EnsureTopics(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	w.log, w.from, w.to = nil, c, c
	return w, broker.Addrs
}

// A rebuild that is killed with SIGKILL in any phase leaves nothing that anybody
// sees; the next one cleans up and is right.
func TestKilledRebuild(t *testing.T) {
	for name, aligned := range map[string]bool{"partitioned": false, "aligned": true} {
		t.Run(name, func(t *testing.T) {
			w, brokers := newBrokerWorld(t)
			o := childOrder{Do: "rebuild", DB: w.db.URL, Brokers: brokers, Dir: t.TempDir(), Aligned: aligned}
			w.know(o.program(false))
			w.know(o.program(true))
			v1 := w.install(o.program(false))
			if aligned {
				w.sell(6000)
			} else {
				w.flood(20_000, 15_000)
			}
			w.catchUp(v1)
			killed := map[rebuild.Phase]int{}
			phases := []rebuild.Phase{rebuild.Folding, rebuild.Folding, rebuild.Copying, rebuild.Copying, rebuild.Indexing, rebuild.Indexing}
			for i := 0; i < len(phases); i++ {
				phase := phases[i]
				cmd, lines := w.child(o)
				for line := range lines {
					if line == string(phase) {
						break
					}
				}
				<-time.After(time.Duration(w.rng.IntN(30)) * time.Millisecond)
				cmd.Process.Kill()
				last := phase
				for line := range lines {
					last = rebuild.Phase(line)
				}
				cmd.Wait()
				killed[last]++
				w.eventually("the server has noticed", func() bool {
					return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'rebuild test'`) == 0
				})
				versions, err := w.store.Versions(t.Context(), v1.Projection)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range versions[1:] {
					if v.State == control.Following && last != rebuild.Folding {
						continue // it was through, and killed before it could say so
					}
					if n := w.count(`SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1`, v.Schema); v.State != control.Building || n != 0 {
						t.Fatalf("killed while %s: version %d is %s with %d relations", last, v.Number, v.State, n)
					}
				}
				if a, err := w.store.Active(t.Context(), v1.Projection); err != nil || a.Number != 1 {
					t.Fatalf("%+v, %v", a, err)
				}
				// A busy machine lets the child run on before the kill comes.
				if i == len(phases)-1 && i < 30 {
					if killed[rebuild.Folding] == 0 {
						phases = append(phases, rebuild.Folding)
					} else if killed[rebuild.Copying]+killed[rebuild.Indexing] == 0 {
						phases = append(phases, rebuild.Copying)
					}
				}
			}
			t.Logf("killed while %v", killed)
			if killed[rebuild.Folding] == 0 || killed[rebuild.Copying]+killed[rebuild.Indexing] == 0 {
				t.Error("the kills did not hit what they were to hit")
			}
			cfg := w.config(o.program(true))
			plan, err := rebuild.MakePlan(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			res, err := rebuild.Run(t.Context(), cfg, plan)
			if err != nil {
				t.Fatal(err)
			}
			left, err := w.store.Versions(t.Context(), v1.Projection)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range left {
				if v.State == control.Building {
					t.Errorf("version %d is left over", v.Number)
					continue
				}
				w.proved(v)
			}
			if last := left[len(left)-1]; last.Number != res.Version {
				t.Errorf("the last version is %d, made was %d", last.Number, res.Version)
			}
		})
	}
}

// flood makes n events of so many accounts, in large transactions.
func (w *world) flood(n, keys int) {
	w.t.Helper()
	for i := 0; i < n; i += 100 {
		var tx []projectiontest.Event
		for j := i; j < i+100; j++ {
			tx = append(tx, moved(fmt.Sprint(j%keys), int64(j%2000)))
		}
		w.commit(tx...)
	}
	w.publish()
}

// A swapper that is killed with SIGKILL at any moment leaves one active version
// with its own views, and both versions go on.
func TestKilledSwap(t *testing.T) {
	w, brokers := newBrokerWorld(t)
	o := childOrder{Do: "swap", DB: w.db.URL, Brokers: brokers}
	v1 := w.install(o.program(false))
	w.trade(50)
	stop1 := w.follow(v1)
	v2 := w.rebuild(o.program(true))
	stop2 := w.follow(v2)
	stopLoad := w.load(w.trade)
	// The second revision has a column more, so that a view of the wrong version
	// would show. Both have this one.
	readers := w.watch(2, `SELECT coalesce(sum(moves), 0)::bigint FROM balances.days`)
	for i := range 12 {
		cmd, lines := w.child(o)
		for range 1 + i%3 {
			if _, ok := <-lines; !ok {
				t.Fatal("the child has ended by itself")
			}
		}
		<-time.After(rand.N(60 * time.Millisecond)) // the load has the seeded numbers
		cmd.Process.Kill()
		cmd.Wait()
		w.eventually("the server has noticed", func() bool {
			return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'rebuild test'`) == 0
		})
		active, err := w.store.Active(t.Context(), "balances")
		if err != nil {
			t.Fatal(err)
		}
		kept := w.count(`SELECT count(*) FROM banyan.version WHERE state IN ('kept', 'following')`)
		shown := w.count(`SELECT count(*) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
			JOIN pg_namespace vn ON vn.oid = v.relnamespace JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
			WHERE vn.nspname = 'balances' AND tn.nspname LIKE 'balances\_v%' AND tn.nspname <> $1`, active.Schema)
		if kept != 1 || shown != 0 {
			t.Fatalf("kill %d: active is %d, %d others, %d views show another version", i, active.Number, kept, shown)
		}
		// The hold that it may have left is no longer than it asked for, and lapses.
		if hold, ok, err := w.store.HoldOf(t.Context(), "balances", active.Number); err != nil || ok && time.Until(hold.Until) > childHold {
			t.Errorf("kill %d: both stand still for %s, %v", i, time.Until(hold.Until), err)
		}
		passed := w.passedNow("balances")
		w.eventually("the active version goes on", func() bool { return w.passedNow("balances") != passed })
	}
	readers.stop(t)
	stopLoad()
	stop1()
	stop2()
	w.catchUp(v1)
	w.catchUp(v2)
	w.proved(v1)
	w.proved(v2)
}
