package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/internal/pgtest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/rebuild"
	"banyan/projections/state"
)

// smallDisk is a folder on a file system of its own that holds a few bytes only.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be made here, which takes root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func (w *world) nothingLeft(projection string) {
	w.t.Helper()
	if n := w.count(`SELECT count(*) FROM banyan.version WHERE projection = $1`, projection); n != 1 {
		w.t.Errorf("%d versions after a rebuild that failed", n)
	}
	if n := w.count(`SELECT count(*) FROM pg_namespace WHERE nspname ~ ('^' || $1 || '_v') AND nspname <> $1 || '_v1'`, projection); n != 0 {
		w.t.Errorf("%d schemas after a rebuild that failed", n)
	}
}

func TestDiskFullWhileSpilling(t *testing.T) {
	w := newWorld(t)
	w.from = newFlood(300_000, 300_000, w.src.Partitions)
	w.install(balances{})
	cfg := w.config(balances{})
	cfg.Dir, cfg.Memory = smallDisk(t, "1m"), 1
	plan, err := rebuild.MakePlan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rebuild.Run(t.Context(), cfg, plan)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("want that the disk is full, got %v", err)
	}
	w.nothingLeft("balances")
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) != 0 {
		t.Errorf("left on the disk: %v, %v", left, err)
	}
	cfg.Dir = t.TempDir()
	res, err := rebuild.Run(t.Context(), cfg, plan)
	if err != nil || res.Spilled == 0 || res.Rows["accounts"] != 300_000 {
		t.Fatalf("%+v, %v", res, err)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) != 0 {
		t.Errorf("left on the disk: %v, %v", left, err)
	}
	v, err := w.store.Version(t.Context(), "balances", res.Version)
	if err != nil {
		t.Fatal(err)
	}
	w.proved(v)
}

func TestDiskFullWhileCopying(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(balances{})
	w.flood(40_000, 40_000)
	dir := filepath.Join(smallDisk(t, "2m"), "tablespace")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(w.db.Server().Dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(dir); d != "/" && d != "/tmp"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	space := w.db.Name + "_small"
	w.db.Exec(t, `CREATE TABLESPACE `+space+` LOCATION '`+dir+`'`)
	t.Cleanup(func() { w.db.Exec(t, `DROP TABLESPACE `+space) })
	w.db.Exec(t, `ALTER DATABASE `+w.db.Name+` SET default_tablespace = `+space)
	w.pool.Reset()
	cfg := w.config(balances{})
	plan, err := rebuild.MakePlan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rebuild.Run(t.Context(), cfg, plan)
	if err == nil || !strings.Contains(err.Error(), "53100") {
		t.Fatalf("want that the server's disk is full, got %v", err)
	}
	w.nothingLeft("balances")
	w.db.Exec(t, `ALTER DATABASE `+w.db.Name+` RESET default_tablespace`)
	w.pool.Reset()
	v2 := w.rebuild(balances{})
	w.proved(v2)
	w.catchUp(v1)
	w.same(v1, v2)
}

// A broker that is away for a while is waited for, and the progress says so.
func TestBrokerAway(t *testing.T) {
	w := newWorld(t)
	w.install(balances{})
	w.flood(20_000, 1000)
	cfg := w.config(balances{})
	var once sync.Once
	told := make(chan rebuild.Progress)
	cfg.ProgressEvery = 5 * time.Millisecond
	var busy atomic.Bool
	cfg.Progress = func(p rebuild.Progress) {
		if busy.Swap(true) {
			t.Error("two tell the progress at a time")
		}
		defer busy.Store(false)
		if p.Phase == rebuild.Folding {
			once.Do(func() { w.log.Break(errors.New("unplugged")) })
		}
		told <- p
	}
	plan, err := rebuild.MakePlan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := rebuild.Run(t.Context(), cfg, plan); done <- err; close(told) }()
	var last rebuild.Progress
	stalled := false
	for p := range told {
		if p.Ceiling != 20_000 || p.Done < last.Done {
			t.Errorf("progress went from %+v to %+v", last, p)
		}
		if last = p; !stalled && strings.Contains(p.Stalled, "broker: unplugged") {
			if stalled = true; p.Done >= p.Ceiling || p.ETA == 0 {
				t.Errorf("%+v", p)
			}
			w.log.Break(nil)
		}
	}
	if err := <-done; err != nil || !stalled {
		t.Fatalf("it ended with %v; that the broker was away was told: %t", err, stalled)
	}
	if last.Phase != rebuild.Done || last.Done != last.Ceiling || last.Stalled != "" || last.ETA != 0 {
		t.Errorf("in the end: %+v", last)
	}
}

// A rebuild whose caller gives up, or whose database goes, leaves nothing.
func TestRebuildIsCancelled(t *testing.T) {
	for _, phase := range []rebuild.Phase{rebuild.Folding, rebuild.Copying, rebuild.Indexing} {
		t.Run(string(phase), func(t *testing.T) {
			w := newWorld(t)
			w.install(balances{})
			w.flood(5_000, 5_000)
			cfg := w.config(balances{})
			ctx, cancel := context.WithCancel(t.Context())
			cfg.Progress = func(p rebuild.Progress) {
				if p.Phase == phase {
					cancel()
				}
			}
			plan, err := rebuild.MakePlan(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rebuild.Run(ctx, cfg, plan); !errors.Is(err, context.Canceled) {
				t.Fatalf("ended with %v", err)
			}
			w.nothingLeft("balances")
		})
	}
}

func TestDatabaseRestartsInARebuild(t *testing.T) {
	server := pgtest.NewServer(t)
	w := newWorldOn(t, server.NewDB(t))
	v1 := w.install(balances{})
	w.flood(20_000, 20_000)
	w.catchUp(v1)
	cfg := w.config(balances{})
	var once sync.Once
	cfg.Progress = func(p rebuild.Progress) {
		if p.Phase == rebuild.Indexing {
			once.Do(func() { server.Stop(t, pgtest.Immediate) })
		}
	}
	plan, err := rebuild.MakePlan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rebuild.Run(t.Context(), cfg, plan); err == nil {
		t.Fatal("it went through without a database")
	}
	server.Start(t)
	w.pool.Reset()
	cfg.Progress = nil
	if plan, err = rebuild.MakePlan(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if len(plan.Leftover) != 1 {
		t.Errorf("left over: %v", plan.Leftover)
	}
	res, err := rebuild.Run(t.Context(), cfg, plan)
	if err != nil {
		t.Fatal(err)
	}
	v2, err := w.store.Version(t.Context(), "balances", res.Version)
	if err != nil {
		t.Fatal(err)
	}
	w.same(v1, v2)
	w.proved(v2)
	if n := w.count(`SELECT count(*) FROM banyan.version WHERE state = 'building'`); n != 0 {
		t.Errorf("%d left over", n)
	}
}

func TestPlanRefusesAllAtOnce(t *testing.T) {
	w := newWorld(t)
	refusal := func(cfg rebuild.Config, want ...string) {
		t.Helper()
		_, err := rebuild.MakePlan(t.Context(), cfg)
		var r *rebuild.Refused
		if !errors.As(err, &r) || len(r.Faults) != len(want) {
			t.Fatalf("want %d faults, got %v", len(want), err)
		}
		for i, text := range want {
			if f := r.Faults[i]; !strings.Contains(f.String(), text) || f.Field == "" || f.Do == "" {
				t.Errorf("fault %d: want %q in %q", i, text, f)
			}
		}
	}
	refusal(w.config(balances{}), "it has no version yet")
	w.install(balances{})
	w.trade(100)
	w.log.Trim(accounts, 1, 3)
	cfg := w.config(balances{})
	cfg.Dir = filepath.Join(t.TempDir(), "not there")
	refusal(cfg, "partition 1 begins at offset 3", "no such file")
	refusal(w.config(elsewhere{balances{}, "other", []string{accounts, "shop.nothing"}}), `follows the watermarks of "shop"`, "partition 1 begins", "shop.nothing")

	// Nobody has sent a watermark, and an aligned one needs it.
	w = newWorld(t)
	w.install(joined{})
	cfg = w.config(joined{})
	cfg.MarkWait = time.Millisecond
	refusal(cfg, "it holds no watermark")

	// Another number of partitions, no rights.
	w.db.Exec(t, `UPDATE banyan.part SET part = part + 10 WHERE topic = 'shop.orders' AND part = 2; DELETE FROM banyan.part WHERE part = 12`)
	w.src.Mark()
	if err := w.src.Publish(t.Context(), w.log); err != nil {
		t.Fatal(err)
	}
	w.db.Exec(t, `CREATE ROLE `+w.db.Name+`_clerk LOGIN; GRANT USAGE ON SCHEMA banyan TO `+w.db.Name+`_clerk; GRANT SELECT ON ALL TABLES IN SCHEMA banyan TO `+w.db.Name+`_clerk`)
	t.Cleanup(func() { w.db.Exec(t, `DROP OWNED BY `+w.db.Name+`_clerk; DROP ROLE `+w.db.Name+`_clerk`) })
	cfg.DB = openPool(t, w.db.UserURL(w.db.Name+"_clerk", ""))
	refusal(cfg, "may not make schemas", "it has 3 partitions, and had 2")
}

// elsewhere is a program with another source and other topics.
type elsewhere struct {
	projections.Program
	source string
	topics []string
}

func (e elsewhere) Spec() projections.Spec {
	s := e.Program.Spec()
	s.Source, s.Topics = e.source, e.topics
	return s
}

// One at a time: a second rebuild is refused while the first lives.
func TestTwoRebuilds(t *testing.T) {
	w := newWorld(t)
	w.install(balances{})
	w.flood(2_000, 100)
	cfg := w.config(balances{})
	plan, err := rebuild.MakePlan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	second := w.config(balances{})
	var saw error
	var once sync.Once
	cfg.Progress = func(p rebuild.Progress) {
		if p.Phase == rebuild.Copying {
			once.Do(func() { _, saw = rebuild.MakePlan(t.Context(), second) })
		}
	}
	if _, err := rebuild.Run(t.Context(), cfg, plan); err != nil {
		t.Fatal(err)
	}
	if saw == nil || !strings.Contains(saw.Error(), "test is building it since") {
		t.Errorf("the second one: %v", saw)
	}
}

// A version that was retired by somebody who was killed before it was dropped is
// followed by nobody; the next rebuild takes it away, with its tables.
func TestRebuildDropsWhatARetirementLeft(t *testing.T) {
	w := newWorld(t)
	w.install(balances{})
	w.flood(500, 50)
	again := func() {
		t.Helper()
		cfg := w.config(balances{})
		plan, err := rebuild.MakePlan(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rebuild.Run(t.Context(), cfg, plan); err != nil {
			t.Fatal(err)
		}
	}
	again()
	if err := w.store.SetState(t.Context(), w.store.Pool(), "balances", 2, control.Retired, "and then killed"); err != nil {
		t.Fatal(err)
	}
	again()
	versions, err := w.store.Versions(t.Context(), "balances")
	if err != nil {
		t.Fatal(err)
	}
	if len(versions) != 2 || versions[1].State != control.Following {
		t.Errorf("the versions are %+v", versions)
	}
	if n := w.count(`SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'balances\_v%'`); n != 2 {
		t.Errorf("%d schemas", n)
	}
}

// batchers work with SQL of their own.
func TestRebuildOfABatcher(t *testing.T) {
	w := newWorld(t)
	p := projections.Handle(projections.Spec{Name: "counts", Source: "shop", Topics: []string{accounts}, Digest: "counts",
		Tables: []state.Table{{Name: "counts", Key: []string{"id"}, Columns: []state.Column{{Name: "id", Type: "text", NotNull: true}, {Name: "n", Type: "bigint", NotNull: true}}}}},
		func(ctx context.Context, tx pgx.Tx, events []*projections.Event) error {
			for _, e := range events {
				if _, err := tx.Exec(ctx, `INSERT INTO counts VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET n = counts.n + 1`, e.ID.Key); err != nil {
					return fmt.Errorf("count %s: %w", e.ID.Key, err)
				}
			}
			return nil
		})
	v1 := w.install(p)
	w.trade(100)
	w.catchUp(v1)
	v2 := w.rebuild(p)
	w.same(v1, v2)
	w.sameParts(v1, v2)
	w.trade(100)
	w.catchUp(v1)
	w.catchUp(v2)
	w.same(v1, v2)
	if r := w.verify(v2); r.Verdict != rebuild.Unproven || !strings.Contains(r.Reasons[0], "SQL of its own") {
		t.Errorf("%+v", r)
	}
}

// Rows past their retention go in a rebuild as they do live, and a verification
// does not miss them.
func TestRetention(t *testing.T) {
	w := newWorld(t)
	v1 := w.install(lately{balances{}})
	for i := range 30 {
		w.commit(moved(fmt.Sprint(i), 5))
		w.src.Now = w.src.Now.Add(time.Hour)
	}
	w.publish()
	w.catchUp(v1)
	w.proved(v1)
	v2 := w.rebuild(lately{balances{}})
	if n := w.count(`SELECT count(*) FROM balances_v2.accounts`); n < 9 || n > 11 {
		t.Errorf("%d accounts are left of the last ten hours", n)
	}
	w.proved(v2)
	stop := w.follow(v2)
	w.commit(moved("3", 7))
	w.publish()
	stop()
	w.catchUp(v2)
	w.proved(v2)
}

// lately keeps accounts for ten hours.
type lately struct{ balances }

func (l lately) Spec() projections.Spec {
	s := l.balances.Spec()
	s.Tables[0].Retain = &state.Retention{Column: "last", For: 10 * time.Hour}
	return s
}
