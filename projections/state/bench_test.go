package state

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/money"
)

// stock is a row as folds have them: a key, a number or two, money, a time.
var stock = Table{
	Name: "stock",
	Columns: []Column{{Name: "product", Type: "bigint", NotNull: true}, {Name: "name", Type: "text"}, {Name: "quantity", Type: "bigint", NotNull: true},
		{Name: "value", Type: "numeric(14,3)", NotNull: true}, {Name: "changed_at", Type: "timestamptz"}},
	Key: []string{"product"},
}

var benchName = any("white hanging heart t-light holder")

func stockRow(product int64, quantity int) Row {
	return Row{product, benchName, int64(quantity), money.NewDecimal(int64(quantity)*2550, 3), time.Unix(int64(quantity), 0).UTC()}
}

// BenchmarkBulkPut puts rows over 1M keys, without a look at what was there.
func BenchmarkBulkPut(b *testing.B) {
	for _, keys := range []int64{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			bulk, err := NewBulk([]Table{stock}, BulkOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer bulk.Close()
			rows, random := bulk.Rows("stock"), rand.New(rand.NewPCG(1, 2))
			row := stockRow(0, 7)
			b.ReportAllocs()
			for b.Loop() {
				bulk.Begin()
				row[0] = random.Int64N(keys)
				if err := rows.Put(row); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

// BenchmarkBulkFold gets, changes and puts: what a fold does for each event.
func BenchmarkBulkFold(b *testing.B) {
	for _, disk := range []bool{false, true} {
		b.Run(fmt.Sprintf("spill=%v", disk), func(b *testing.B) {
			opts := BulkOptions{}
			if disk {
				opts = BulkOptions{Dir: b.TempDir(), MemoryBytes: 32 << 20}
			}
			bulk, err := NewBulk([]Table{stock}, opts)
			if err != nil {
				b.Fatal(err)
			}
			defer bulk.Close()
			fold := folder(b, bulk, rand.New(rand.NewPCG(1, 2)))
			b.ReportAllocs()
			for b.Loop() {
				fold(1_000_000)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			_, spilled := bulk.Bytes()
			b.ReportMetric(float64(spilled)/(1<<20), "MiB-on-disk")
		})
	}
}

// folder gives a function that folds one event of a random key.
func folder(b testing.TB, s Space, random *rand.Rand) func(keys int64) {
	rows := s.Rows("stock")
	return func(keys int64) {
		s.Begin()
		id := random.Int64N(keys)
		k, err := rows.Key(id)
		if err != nil {
			b.Fatal(err)
		}
		old, ok, err := rows.Get(k)
		if err != nil {
			b.Fatal(err)
		}
		quantity := 1
		if ok {
			quantity = int(old[2].(int64)) + 1
		}
		if err := rows.Put(stockRow(id, quantity)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBulkCopy copies 1M rows into Postgres.
func BenchmarkBulkCopy(b *testing.B) {
	_, conn := makeTables(b, []Table{stock})
	bulk, err := NewBulk([]Table{stock}, BulkOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer bulk.Close()
	const n = 1_000_000
	for i := range int64(n) {
		if err := bulk.Rows("stock").Put(stockRow(i*7919%n, 1)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		execute(b, conn, DropSQL(testSchema, []Table{stock})...)
		execute(b, conn, CreateSQL(testSchema, []Table{stock})...)
		if err := bulk.Copy(b.Context(), conn, testSchema, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkLive folds batches into Postgres, asynchronously committed as the
// runner does, over 100k keys: from the cache, with a prefetch, and blindly.
func BenchmarkLive(b *testing.B) {
	for _, mode := range []string{"cached", "prefetch", "blind"} {
		for _, size := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode, size), func(b *testing.B) { benchLive(b, mode, size) })
		}
	}
}

func benchLive(b *testing.B, mode string, size int) {
	const keys = 100_000
	_, conn := makeTables(b, []Table{stock})
	execute(b, conn, "SET synchronous_commit = off", fmt.Sprintf("INSERT INTO %s.stock SELECT i, 'x', 1, 1, now() FROM generate_series(0, %d) i", testSchema, keys-1), "ANALYZE")
	opts := LiveOptions{CacheBytes: 256 << 20}
	if mode == "prefetch" {
		opts.CacheBytes = 1
	}
	live, err := NewLive(testSchema, []Table{stock}, opts)
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	ids := make([]int64, size)
	want := make([]Key, size)
	batch := func(ids []int64) {
		inBatch(b, live, conn, func(pgx.Tx) {
			if mode != "blind" {
				for i, id := range ids {
					if want[i], err = live.Rows("stock").Key(id); err != nil {
						b.Fatal(err)
					}
				}
				if err := live.Prefetch(b.Context(), map[string][]Key{"stock": want[:len(ids)]}); err != nil {
					b.Fatal(err)
				}
			}
			for i, id := range ids {
				if mode == "blind" {
					put(b, live, "stock", stockRow(id, i))
					continue
				}
				row, _, err := live.Rows("stock").Get(want[i])
				if err != nil {
					b.Fatal(err)
				}
				live.Begin()
				put(b, live, "stock", stockRow(id, int(row[2].(int64))+1))
			}
		})
	}
	if mode == "cached" {
		for from := int64(0); from < keys; from += int64(size) {
			for i := range ids {
				ids[i] = from + int64(i)
			}
			batch(ids)
		}
	}
	server, client := backendCPU(b, conn), cpuOf(b, os.Getpid())
	for b.Loop() {
		for i := range ids {
			ids[i] = random.Int64N(keys)
		}
		batch(ids)
	}
	events := float64(size * b.N)
	b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric((backendCPU(b, conn)-server)*1e6/events, "server-µs/event")
	b.ReportMetric((cpuOf(b, os.Getpid())-client)*1e6/events, "client-µs/event")
}

// backendCPU gives the seconds of CPU that the server has spent on a connection:
// what a batch costs, however busy the machine is with other things.
func backendCPU(b *testing.B, conn *pgx.Conn) float64 {
	var pid int
	if err := conn.QueryRow(b.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		b.Fatal(err)
	}
	return cpuOf(b, pid)
}

func cpuOf(b *testing.B, pid int) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skipf("this system (%s) does not say how much CPU a process had: %v", runtime.GOOS, err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		b.Fatal(err)
	}
	return (user + system) / 100 // ticks of 10 ms
}

// BenchmarkRebuildMemory folds 10M events over 1M keys, copies the rows, and says
// the largest memory the process has had. Run it alone, with -benchtime=1x.
func BenchmarkRebuildMemory(b *testing.B) {
	_, conn := makeTables(b, []Table{stock})
	for b.Loop() {
		bulk, err := NewBulk([]Table{stock}, BulkOptions{Dir: b.TempDir(), MemoryBytes: 128 << 20})
		if err != nil {
			b.Fatal(err)
		}
		fold := folder(b, bulk, rand.New(rand.NewPCG(1, 2)))
		begin := time.Now()
		for range 10_000_000 {
			fold(1_000_000)
		}
		b.ReportMetric(10e6/time.Since(begin).Seconds(), "events/s")
		if err := bulk.Copy(b.Context(), conn, testSchema, nil); err != nil {
			b.Fatal(err)
		}
		_, spilled := bulk.Bytes()
		b.ReportMetric(float64(spilled)/(1<<20), "MiB-on-disk")
		if err := bulk.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(peakMiB(b), "MiB-peak-RSS")
}

func peakMiB(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skipf("this system (%s) does not say how much memory a process had: %v", runtime.GOOS, err)
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}
