package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/bus"
	"banyan/compare"
	"banyan/compare/page"
	"banyan/internal/pgtest"
	"banyan/pricing"
	"banyan/projections"
	"banyan/projections/control"
	follow "banyan/projections/service"
	"banyan/shadow"
)

// shadowHouse is a shop's topics and a database for the state of shadows.
type shadowHouse struct {
	*ground
	db      *pgtest.DB
	store   *control.Store
	cluster *bus.Cluster
	runs    int
}

func newShadowHouse(t testing.TB) *shadowHouse {
	t.Helper()
	h := &shadowHouse{ground: newGround(t, nil)}
	h.db = h.stores.NewDB(t)
	var err error
	if h.cluster, err = bus.Dial(context.Background(), bus.Config{Brokers: h.brokers, FetchBytes: 512 << 10}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.cluster.Close)
	cfg, err := pgxpool.ParseConfig(h.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	control.Configure(cfg, control.Settings{Application: "bench"})
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if h.store, err = control.Open(context.Background(), pool); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return h
}

// demand is the example candidate.
func demand(t testing.TB) *pricing.Demand {
	t.Helper()
	d, err := pricing.New(pricing.Default())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Limits of batches, as shadow run has them.
var (
	limitsInProcess = projections.Limits{Events: 60_000, Bytes: 64 << 20, Buffer: 48 << 20, Age: 500 * time.Millisecond}
	limitsAsked     = projections.Limits{Events: 5000, Bytes: 6 << 20, Buffer: 16 << 20, Age: 500 * time.Millisecond}
)

// useMemoryAsShadow lets the collector do what it does in the program; the function it
// gives back ends that.
func useMemoryAsShadow() func() {
	percent, limit := debug.SetGCPercent(200), debug.SetMemoryLimit(208<<20)
	return func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }
}

// follow runs a new shadow over all that lies in the topics, and gives its name and what
// it cost this process.
func (h *shadowHouse) follow(who shadow.Candidates, limits projections.Limits) (name string, m trial) {
	h.t.Helper()
	ctx := context.Background()
	h.runs++
	o := shadow.DefaultOptions()
	o.Name, o.Salt, o.Candidate = fmt.Sprintf("run%d", h.runs), "bench", "bench"
	program, err := shadow.NewComparator(o, who, nil, "")
	if err != nil {
		h.t.Fatal(err)
	}
	v, _, err := follow.Install(ctx, h.store, h.cluster, program, control.Mark{})
	if err != nil {
		h.t.Fatal(err)
	}
	if program, err = shadow.NewComparator(o, who, h.store.Pool(), v.Schema); err != nil {
		h.t.Fatal(err)
	}
	r, err := projections.NewRunner(projections.Options{Program: program, Version: v, Store: h.store, Pool: h.store.Pool(), Log: h.cluster,
		Owner: "bench", Poison: projections.Stop, Limits: limits, Until: projections.Until{CaughtUp: true}})
	if err != nil {
		h.t.Fatal(err)
	}
	parts := map[string][]int{}
	for _, topic := range shopTopics {
		for p := range partitions {
			parts[topic] = append(parts[topic], p)
		}
	}
	h.quiet()
	defer useMemoryAsShadow()()
	runtime.GC()
	debug.FreeOSMemory()
	resetPeak()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	before := heap.TotalAlloc
	store, broker := serverOf(h.stores).cpu(h.t), cpuOf(h.pid)
	cpu, start := ownCPU(h.t), time.Now()
	if err := r.Run(ctx, parts); err != nil {
		h.t.Fatal(err)
	}
	m = trial{wall: time.Since(start).Seconds(), cpu: ownCPU(h.t) - cpu, rss: peakRSS(os.Getpid())}
	runtime.ReadMemStats(&heap)
	m.waste = float64(heap.TotalAlloc-before) / (1 << 20)
	m.store, m.broker = serverOf(h.stores).cpu(h.t)-store, cpuOf(h.pid)-broker
	return o.Name, m
}

// resetPeak forgets the most memory that this process has had; where it cannot, the
// peak is that of its whole life.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200) }

// holds checks that all lines of orders are in a shadow's ledger.
func (h *shadowHouse) holds(name string, told *shopHistory) {
	h.t.Helper()
	p, err := shadow.Read(context.Background(), h.store, name)
	if err != nil {
		h.t.Fatal(err)
	}
	var lines, compared int64
	for _, b := range p.Ledger.Books {
		lines, compared = lines+b.Consumed.Lines, compared+b.Compared.Lines
	}
	if lines != told.told.lines || compared < lines*9/10 {
		h.t.Fatalf("of %d lines %d were consumed and %d compared", told.told.lines, lines, compared)
	}
}

// BenchmarkShadowState is a shadow with a candidate in process, from the embedded broker
// to committed rows: the real Runner and the real Postgres, without the projection that
// counts orders beside it.
func BenchmarkShadowState(b *testing.B) {
	for _, shape := range shopShapes {
		b.Run(shape.name, func(b *testing.B) {
			h := newShadowHouse(b)
			told := fill(b, h.cluster, shape, madeUp(*shopOrders))
			lines := float64(told.told.lines)
			var all []trial
			for b.Loop() {
				for range *rounds {
					name, m := h.follow(shadow.Candidates{InProcess: demand(b)}, limitsInProcess)
					h.holds(name, told)
					all = append(all, m)
				}
			}
			m := medians(all)
			b.Logf("%d orders, %d lines, %d events, %d MB; median of %d: wall %.2f s, own CPU %.2f s, store %.2f, broker %.2f; load %s", told.told.orders,
				told.told.lines, told.told.events, told.told.bytes>>20, len(all), m.wall, m.cpu, m.store, m.broker, load())
			b.ReportMetric(lines/m.wall, "lines/s")
			b.ReportMetric(lines/m.cpu, "lines/s_core")
			b.ReportMetric(m.cpu/lines*1e6, "cpu-s/1Mlines")
			b.ReportMetric(m.rss, "MB_RSS")
			b.ReportMetric(m.waste*(1<<20)/lines, "B/line")
		})
	}
}

func medians(all []trial) trial {
	of := func(get func(trial) float64) float64 {
		var v []float64
		for _, m := range all {
			v = append(v, get(m))
		}
		return median(v)
	}
	return trial{wall: of(func(m trial) float64 { return m.wall }), cpu: of(func(m trial) float64 { return m.cpu }), rss: of(func(m trial) float64 { return m.rss }),
		waste: of(func(m trial) float64 { return m.waste }),
		store: of(func(m trial) float64 { return m.store }), broker: of(func(m trial) float64 { return m.broker })}
}

// BenchmarkShadowReport makes the report of a shadow, from its rows to the page.
func BenchmarkShadowReport(b *testing.B) {
	h := newShadowHouse(b)
	fill(b, h.cluster, shopShapes[0], madeUp(*shopOrders))
	name, _ := h.follow(shadow.Candidates{Who: compare.Candidate{Name: "demand", Mode: "in process"}, InProcess: demand(b)}, limitsInProcess)
	var read, analysed, shown []float64
	var html bytes.Buffer
	for b.Loop() {
		start := time.Now()
		p, err := shadow.Read(context.Background(), h.store, name)
		if err != nil {
			b.Fatal(err)
		}
		one := time.Now()
		settings := compare.Defaults()
		settings.Segments = p.Options.Segments
		r, err := compare.Analyse(p.Ledger, p.Facts, settings)
		if err != nil {
			b.Fatal(err)
		}
		two := time.Now()
		html.Reset()
		if err := page.HTML(&html, r, page.Options{}); err != nil {
			b.Fatal(err)
		}
		read, analysed, shown = append(read, one.Sub(start).Seconds()), append(analysed, two.Sub(one).Seconds()), append(shown, time.Since(two).Seconds())
	}
	b.Logf("%d clusters; median of %d: read %.0f ms, analyse %.0f ms, HTML %.0f ms; load %s", clusters(b, h, name), len(read),
		1000*median(read), 1000*median(analysed), 1000*median(shown), load())
	b.ReportMetric(1000*(median(read)+median(analysed)+median(shown)), "ms")
	b.ReportMetric(float64(html.Len())/1000, "KB")
}

func clusters(t testing.TB, h *shadowHouse, name string) (n int) {
	t.Helper()
	p, err := shadow.Read(context.Background(), h.store, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Ledger.Books {
		n += len(b.Clusters)
	}
	return n
}

// BenchmarkShadowRun is the program, from its start to the finished report and with the
// projection of orders beside it: over a made-up shop, and over the real year where
// BANYAN_DATA names the folder that has it.
func BenchmarkShadowRun(b *testing.B) {
	b.Run("made-up", func(b *testing.B) { shadowRun(b, madeUp(*shopOrders)) })
	b.Run("real-year", func(b *testing.B) {
		file := yearFile(b)
		shadowRun(b, func(h *shopHistory) { readYear(b, file, h.sell) })
	})
}

func shadowRun(b *testing.B, tell func(h *shopHistory)) {
	h := newShadowHouse(b)
	told := fill(b, h.cluster, shopShapes[0], tell)
	binary := program(b, "shadow")
	var all []trial
	for b.Loop() {
		for n := range *rounds {
			name := fmt.Sprintf("program%d_%d", b.N, n)
			args := []string{"run", "--name", name, "--candidate", "builtin:demand", "--from", "start", "--until-caught-up"}
			if *profile != "" {
				args = append(args, "--cpuprofile", fmt.Sprintf("%s.shadow.%d.pprof", *profile, n))
			}
			cmd := exec.Command(binary, args...)
			cmd.Env = append(ownEnvironment(), "BANYAN_DB="+h.db.URL, "BANYAN_BROKERS="+strings.Join(h.brokers, ","))
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			h.quiet()
			start := time.Now()
			text, err := cmd.CombinedOutput()
			wall := time.Since(start).Seconds()
			// Exit code 1 says that a guardrail does not hold; the report is there.
			if err != nil && cmd.ProcessState.ExitCode() != 1 || !bytes.Contains(text, []byte("caught up:")) {
				b.Fatalf("%v\n%s", err, text)
			}
			h.holds(name, told)
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok {
				b.Fatal("this system does not tell what a process has used")
			}
			all = append(all, trial{wall: wall, cpu: used(cmd), rss: float64(usage.Maxrss) / 1024})
		}
	}
	m := medians(all)
	var walls []float64
	for _, t := range all {
		walls = append(walls, t.wall)
	}
	lines := float64(told.told.lines)
	b.Logf("%d orders, %d lines, %d events, %d MB; %d runs: wall %.1f s [%.1f-%.1f], own CPU %.1f s, %.0f MB; load %s", told.told.orders, told.told.lines,
		told.told.events, told.told.bytes>>20, len(all), m.wall, slices.Min(walls), slices.Max(walls), m.cpu, m.rss, load())
	b.ReportMetric(m.wall, "wall-s")
	b.ReportMetric(m.cpu, "cpu-s")
	b.ReportMetric(lines/m.cpu, "lines/s_core")
	b.ReportMetric(m.rss, "MB_RSS")
}
