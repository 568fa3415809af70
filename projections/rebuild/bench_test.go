package rebuild_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/money"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/rebuild"
	"banyan/projections/service"
	"banyan/projections/state"
)

// lean is a fold with as little of its own as can be: what it costs is the
// machinery's.
type lean struct{}

var leanTable = state.Table{Name: "accounts", Key: []string{"id"}, Columns: []state.Column{{Name: "id", Type: "text", NotNull: true},
	{Name: "moves", Type: "bigint", NotNull: true}, {Name: "total", Type: "numeric(14,2)", NotNull: true}}}

func (lean) Spec() projections.Spec {
	return projections.Spec{Name: "lean", Source: "shop", Topics: []string{accounts}, Digest: "lean", Tables: []state.Table{leanTable}}
}

func (lean) Prepare(e *projections.Event) error {
	_, rest, ok := bytes.Cut(e.Data, []byte(`"amount":`))
	n := 0
	for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9') {
		n++
	}
	cents, err := strconv.ParseInt(string(rest[:n]), 10, 64)
	if !ok || err != nil {
		return fmt.Errorf("no amount in %s", e.Data)
	}
	e.Prepared = cents
	return nil
}

func (lean) Apply(tx *projections.Tx, e *projections.Event) error {
	rows := tx.Rows("accounts")
	k, err := rows.Key(e.ID.Key)
	if err != nil {
		return err
	}
	moves, total := int64(0), money.NewDecimal(0, 2)
	row, ok, err := rows.Get(k)
	if err != nil {
		return err
	}
	if ok {
		moves, total = row[1].(int64), row[2].(money.Decimal)
	}
	return rows.Put(state.Row{e.ID.Key, moves + 1, total.Add(money.NewDecimal(e.Prepared.(int64), 2))})
}

// leanAligned is the same in one order over all partitions.
type leanAligned struct{ lean }

func (leanAligned) Spec() projections.Spec {
	s := lean{}.Spec()
	s.Name, s.Digest, s.Aligned = "lean_aligned", "lean aligned", true
	return s
}

func installBench(b *testing.B, log projections.Log, p projections.Program) (*pgxpool.Pool, *control.Store) {
	b.Helper()
	c, err := pgxpool.ParseConfig(pgtest.New(b).URL)
	if err != nil {
		b.Fatal(err)
	}
	c.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	store, err := control.Open(b.Context(), pool)
	if err == nil {
		err = store.Migrate(b.Context())
	}
	if err == nil {
		_, _, err = service.Install(b.Context(), store, log, p, control.Mark{})
	}
	if err != nil {
		b.Fatal(err)
	}
	return pool, store
}

func once(b *testing.B, pool *pgxpool.Pool, log projections.Log, p projections.Program) *rebuild.Result {
	b.Helper()
	cfg := rebuild.Config{DB: pool, Log: log, Program: p, Dir: b.TempDir(), Owner: "bench"}
	plan, err := rebuild.MakePlan(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	res, err := rebuild.Run(b.Context(), cfg, plan)
	if err != nil {
		b.Fatal(err)
	}
	if err := rebuild.Retire(b.Context(), pool, res.Projection, res.Version); err != nil {
		b.Fatal(err)
	}
	return res
}

// BenchmarkRebuild is the rate of a rebuild from a broker, beside what can be read
// and decoded from the same broker at the same time and done nothing with.
func BenchmarkRebuild(b *testing.B) {
	for _, keys := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			const events = 500_000
			f := newFlood(events, keys, 6)
			broker := kafkatest.New(b)
			c, err := bus.Dial(b.Context(), bus.Config{Brokers: broker.Addrs})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			fill(b, c, f)
			pool, _ := installBench(b, c, lean{})
			var raw, made []float64
			var rawCPU, madeCPU time.Duration
			for b.Loop() {
				began := processorTime(b)
				raw = append(raw, events/readAll(b, c, f).Seconds())
				between := processorTime(b)
				res := once(b, pool, c, lean{})
				made = append(made, events/res.Took.Seconds())
				rawCPU, madeCPU = rawCPU+between-began, madeCPU+processorTime(b)-between
			}
			// On a machine that others use, too, only these can be trusted. The broker
			// is in this process and counts in both.
			b.ReportMetric(float64(rawCPU.Nanoseconds())/float64(events*b.N), "cpu-ns/read")
			b.ReportMetric(float64(madeCPU.Nanoseconds())/float64(events*b.N), "cpu-ns/rebuilt")
			slices.Sort(raw)
			slices.Sort(made)
			b.ReportMetric(raw[len(raw)/2], "read/s")
			b.ReportMetric(made[len(made)/2], "rebuilt/s")
			b.ReportMetric(made[len(made)/2]/raw[len(raw)/2], "of-read")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func fill(b *testing.B, c *bus.Cluster, f *flood) {
	b.Helper()
	if _, err := c.EnsureTopics(b.Context(), []bus.TopicSpec{bus.BusinessTopic(accounts, f.parts), bus.WatermarkTopic("shop.watermarks")}); err != nil {
		b.Fatal(err)
	}
	for part := range f.parts {
		_, next, _ := f.Ends(b.Context(), accounts, part)
		for from := int64(0); from < next; from += 1000 {
			recs := make([]event.Record, 0, 1000)
			for o := from; o < min(from+1000, next); o++ {
				recs = append(recs, f.record(part, o))
			}
			if _, err := c.Produce(b.Context(), accounts, part, recs); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func readAll(b *testing.B, c *bus.Cluster, f *flood) time.Duration {
	b.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for part := range f.parts {
		wg.Go(func() {
			_, next, err := c.Ends(b.Context(), accounts, part)
			if err != nil {
				b.Error(err)
			}
			n := int64(0)
			for _, err := range c.Read(b.Context(), accounts, part, 0, next) {
				if err != nil {
					b.Error(err)
					return
				}
				n++
			}
			if n != next {
				b.Errorf("%d of %d records", n, next)
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// BenchmarkFold is a rebuild without a broker: records are made as they are read.
func BenchmarkFold(b *testing.B) {
	for _, p := range []projections.Program{lean{}, leanAligned{}} {
		b.Run(p.Spec().Name, func(b *testing.B) {
			const events = 600_000
			f := newFlood(events, 100_000, 6)
			pool, _ := installBench(b, f, p)
			var took time.Duration
			for b.Loop() {
				took += once(b, pool, f, p).Took
			}
			b.ReportMetric(events*float64(b.N)/took.Seconds(), "events/s")
		})
	}
}

// BenchmarkMemory rebuilds ten million events over a million keys and looks at what
// the process takes.
func BenchmarkMemory(b *testing.B) {
	f := newFlood(10_000_000, 1_000_000, 6)
	pool, _ := installBench(b, f, lean{})
	runtime.GC()
	before := resident(b)
	var most int64
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, resident(b))
			}
		}
	}()
	var last *rebuild.Result
	for b.Loop() {
		last = once(b, pool, f, lean{})
	}
	close(stop)
	<-ended
	b.Logf("%+v", last.Phases)
	b.ReportMetric(float64(before>>20), "MiB-before")
	b.ReportMetric(float64(most>>20), "MiB-most")
	b.ReportMetric(float64(last.Spilled>>20), "MiB-spilled")
	b.ReportMetric(10_000_000/last.Took.Seconds(), "events/s")
}

// processorTime is what this process has taken of the processors.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is what the process takes of the machine's memory.
func resident(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Error(err)
		return 0
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Error(err)
	}
	return pages * int64(os.Getpagesize())
}
