package bench_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/token"
)

var txRate = flag.Int("tx", 1000, "transactions per second of the monolith")

// tokenProjection is a row per order of the monolith of the benchmark.
const tokenProjection = `projection: orders
tables:
  orders:
    from: shop.orders
    columns: {id: bigint key, customer_id: bigint, status: text, total: "numeric(12,3)", placed_at: timestamptz, note: text}
`

// BenchmarkToken commits in the monolith at a fixed rate and asks the projection
// for each row with the token of its commit: from the commit until the answer is
// there, through cdc run, Kafka, projector run and the read API.
func BenchmarkToken(b *testing.B) { benchmarkToken(b, nil) }

func benchmarkToken(b *testing.B, kafka *kafkatest.Broker) {
	for b.Loop() {
		p99 := tokens(b, kafka, *rounds, *txRate, time.Duration(*seconds)*time.Second)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(p99, "p99-ms")
	}
}

// monolith is a source with cdc run behind it.
type monolith struct {
	*ground
	source *pgtest.DB
	store  *pgtest.DB
	dir    string
}

// newMonolith makes the source's database with this SQL, and writes cdc's rules.
func (g *ground) newMonolith(sql string, rules []byte) *monolith {
	g.t.Helper()
	source := pgtest.NewServer(g.t, pgtest.ServerOptions{Settings: map[string]string{"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"}})
	m := &monolith{ground: g, source: source.NewDB(g.t, pgtest.Options{SQL: sql}), store: g.stores.NewDB(g.t), dir: g.t.TempDir()}
	if err := os.WriteFile(filepath.Join(m.dir, "banyan.yaml"), rules, 0o644); err != nil {
		g.t.Fatal(err)
	}
	return m
}

// capture is cdc run.
func (m *monolith) capture() *exec.Cmd { return m.cdc("run") }

func (m *monolith) cdc(args ...string) *exec.Cmd {
	cmd := exec.Command(program(m.t, "cdc"), args...)
	cmd.Dir = m.dir
	cmd.Env = append(ownEnvironment(), "BANYAN_SOURCE="+m.source.URL, "BANYAN_STORE="+m.store.URL, "BANYAN_BROKERS="+strings.Join(m.brokers, ","), "BANYAN_LISTEN=127.0.0.1:0")
	return cmd
}

func tokens(t testing.TB, kafka *kafkatest.Broker, rounds, rate int, long time.Duration) float64 {
	g := newGround(t, kafka)
	m := g.newMonolith(schema, fmt.Appendf(nil, rules, "shop"))
	capture := g.live(worker{name: "cdc run", cmd: m.capture})
	g.reach(capture, "streaming")
	s := g.newService("orders", tokenProjection)
	run := g.live(worker{name: contenderLive, cmd: g.listening(s)})
	g.reach(run, "listening")
	url := run.stages.url(t) + "/orders/"
	m.commit(url, rate, 2*time.Second) // connections, caches, plans
	rows := [][]string{{"round", "transactions", "tx/s", "p50 ms", "p95", "p99", "p99.9", "max", "failed", "commit p99"}}
	var p99s []float64
	for n := range rounds {
		w := m.commit(url, rate, long)
		l, commits := w.seen.sorted(), w.commits.sorted()
		p99s = append(p99s, l.at(0.99))
		rows = append(rows, []string{fmt.Sprint(n + 1), fmt.Sprint(len(l)), fmt.Sprintf("%.0f", float64(len(l))/w.took.Seconds()), ms(l.at(0.5)), ms(l.at(0.95)), ms(l.at(0.99)), ms(l.at(0.999)), ms(l.at(1)),
			fmt.Sprint(w.failed.Load()), ms(commits.at(0.99))})
	}
	run.end(t, syscall.SIGTERM)
	capture.end(t, syscall.SIGTERM)
	printTable(fmt.Sprintf("Token, %d transactions/s for %s, %s", rate, long, g.broker), rows)
	return median(p99s)
}

// reach waits until a process has said that it has reached a stage.
func (g *ground) reach(l *life, stage string) {
	g.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for l.stages.at(stage) == 0 {
		select {
		case err := <-l.ended:
			g.t.Fatalf("%v ended: %v\n%s", l.cmd.Args, err, tailOf(l.log))
		case <-tick.C:
		}
		if time.Since(l.start) > time.Minute {
			g.t.Fatalf("%v is not %s\n%s", l.cmd.Args, stage, tailOf(l.log))
		}
	}
}

// written is what a stretch of commits has shown.
type written struct {
	seen    sample // from the end of the commit until the answer has the row
	commits sample // the commits themselves
	failed  atomic.Int64
	took    time.Duration
}

// commit makes transactions at a fixed rate in eight sessions, and asks for each
// row as soon as it is committed, without waiting for earlier answers.
func (m *monolith) commit(url string, rate int, long time.Duration) *written {
	m.t.Helper()
	const sessions = 8
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	w := &written{}
	var next atomic.Int64
	total := int64(long.Seconds() * float64(rate))
	errs := make(chan error, sessions)
	var asked sync.WaitGroup
	start := time.Now()
	for range sessions {
		go func() {
			errs <- m.session(func(ctx context.Context, c *pgx.Conn) error {
				for i := next.Add(1) - 1; i < total; i = next.Add(1) - 1 {
					<-time.After(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))))
					began := time.Now()
					id, at, err := place(ctx, c, i)
					if err != nil {
						return err
					}
					done := time.Now()
					w.commits.add(done.Sub(began))
					asked.Go(func() {
						if err := seen(client, url, id, at); err != nil {
							w.failed.Add(1)
							m.t.Logf("order %d: %v", id, err)
						}
						w.seen.add(time.Since(done))
					})
				}
				return nil
			})
		}()
	}
	for range sessions {
		if err := <-errs; err != nil {
			m.t.Fatalf("commit in the monolith: %v", err)
		}
	}
	w.took = time.Since(start)
	asked.Wait()
	return w
}

func (m *monolith) session(do func(context.Context, *pgx.Conn) error) error {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, m.source.URL)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return do(ctx, c)
}

// place commits an order and gives its id and the token of the commit.
func place(ctx context.Context, c *pgx.Conn, n int64) (id int64, at token.Token, err error) {
	if err := c.QueryRow(ctx, `INSERT INTO orders (customer_id, status, total, placed_at, note) VALUES ($1, 'placed', 12.125, now(), $2) RETURNING id`,
		n%1000, strings.Repeat("n", 96)).Scan(&id); err != nil {
		return 0, at, err
	}
	var lsn string
	if err := c.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn); err != nil {
		return 0, at, err
	}
	at, err = token.Parse("1:" + lsn)
	return id, at, err
}

// seen asks for a row with the token of its commit. It must be there.
func seen(client *http.Client, url string, id int64, at token.Token) error {
	req, err := http.NewRequest(http.MethodGet, url+fmt.Sprint(id), nil)
	if err != nil {
		return err
	}
	req.Header.Set(token.Header, at.String())
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"status":"placed"`))) {
		err = fmt.Errorf("%s: %.200s", res.Status, body)
	}
	return err
}

// TestTokensAreSeen keeps the benchmark working.
func TestTokensAreSeen(t *testing.T) {
	if p99 := tokens(t, nil, 1, 50, 2*time.Second); p99 <= 0 {
		t.Errorf("p99 is %v", p99)
	}
}
