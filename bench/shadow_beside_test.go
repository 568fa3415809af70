package bench_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banyan/internal/pgtest"
)

var shopRate = flag.Int("shop-rate", 40, "orders per second that customers place while a shadow runs beside the shop")

// BenchmarkShopBesideShadow places orders over REST at a fixed rate and takes the time
// from when each was due until the shop has answered: with cdc alone behind the shop,
// beside a shadow that asks a candidate over HTTP, and beside one whose candidate never
// answers. The three take turns, the first of a round too; "p99_beside" is the median
// of the rounds' ratios to the shop alone, 1 is no difference.
func BenchmarkShopBesideShadow(b *testing.B) {
	for b.Loop() {
		answers, hangs := besideShadow(b, *rounds, *shopRate, time.Duration(*seconds)*time.Second)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(answers, "p99_beside")
		b.ReportMetric(hangs, "p99_beside_hanging")
	}
}

// TestShopBesideShadow keeps the benchmark working.
func TestShopBesideShadow(t *testing.T) {
	if answers, hangs := besideShadow(t, 1, 20, time.Second); answers <= 0 || hangs <= 0 {
		t.Errorf("the ratios are %v and %v", answers, hangs)
	}
}

// restShop is the legacy shop with cdc run behind it, and some customers.
type restShop struct {
	*monolith
	url      string
	products []string // stock codes
	rng      *rand.Rand
}

func (g *ground) newRestShop() *restShop {
	g.t.Helper()
	rules, err := os.ReadFile(filepath.Join("..", "scenarios", "shop.yaml"))
	if err != nil {
		g.t.Fatal(err)
	}
	s := &restShop{monolith: g.newMonolith("", rules), rng: rand.New(rand.NewPCG(1, 1))}
	serve := g.live(worker{name: "legacy-shop", cmd: func() *exec.Cmd {
		cmd := exec.Command(program(g.t, "legacy-shop"), "serve", "--listen", "127.0.0.1:0", "--database", s.source.URL)
		cmd.Env = ownEnvironment()
		return cmd
	}})
	g.reach(serve, "listening")
	s.url = serve.stages.url(g.t)
	if said, err := s.cdc("setup", "--apply").CombinedOutput(); err != nil {
		g.t.Fatalf("let cdc set up the source: %v\n%s", err, said)
	}
	capture := g.live(worker{name: "cdc run", cmd: s.capture})
	g.reach(capture, "streaming")
	if said, err := exec.Command(program(g.t, "legacy-shop"), "replay", "--target", s.url, "--generate", "2").CombinedOutput(); err != nil {
		g.t.Fatalf("fill the shop: %v\n%s", err, said)
	}
	s.stock()
	g.t.Cleanup(func() {
		capture.end(g.t, syscall.SIGTERM)
		serve.end(g.t, syscall.SIGTERM)
	})
	return s
}

// stock brings so many pieces of each product that no order is refused.
func (s *restShop) stock() {
	s.t.Helper()
	s.source.Exec(s.t, `UPDATE products SET stock = 1000000`)
	s.products = s.source.Column(s.t, `SELECT stock_code FROM products WHERE deleted_at IS NULL ORDER BY id LIMIT 500`)
	if len(s.products) == 0 {
		s.t.Fatal("the shop has no products")
	}
}

// order is the body of an order of a guest.
func (s *restShop) order() []byte {
	s.t.Helper()
	type line struct {
		StockCode string `json:"stockCode"`
		Quantity  int    `json:"quantity"`
	}
	var lines []line
	for range 1 + s.rng.IntN(8) {
		lines = append(lines, line{s.products[s.rng.IntN(len(s.products))], 1 + s.rng.IntN(4)})
	}
	body, err := json.Marshal(map[string]any{"country": "United Kingdom", "lines": lines})
	if err != nil {
		s.t.Fatal(err)
	}
	return body
}

// sell places orders at a rate, whatever the answers do.
func (s *restShop) sell(rate int, long time.Duration) latencies {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	bodies := make([][]byte, int(long.Seconds()*float64(rate)))
	for i := range bodies {
		bodies[i] = s.order()
	}
	var took sample
	var open sync.WaitGroup
	start := time.Now()
	for i, body := range bodies {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		<-time.After(time.Until(due))
		open.Go(func() {
			if err := post(client, s.url+"/orders", body); err != nil {
				s.t.Errorf("place an order: %v", err)
			}
			took.add(time.Since(due))
		})
	}
	open.Wait()
	return took.sorted()
}

func post(client *http.Client, url string, body []byte) error {
	res, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %.200s", res.Status, said)
	}
	return err
}

// shadow is shadow run with a candidate, in this database.
func (s *restShop) shadow(db *pgtest.DB, candidate string) worker {
	dir := s.t.TempDir()
	return worker{name: "shadow run", cmd: func() *exec.Cmd {
		cmd := exec.Command(program(s.t, "shadow"), "run", "--name", "beside", "--candidate", candidate, "--live", "")
		cmd.Dir = dir
		cmd.Env = append(ownEnvironment(), "BANYAN_DB="+db.URL, "BANYAN_BROKERS="+strings.Join(s.brokers, ","))
		return cmd
	}}
}

// compared says whether orders are in the journal of a shadow.
func (s *restShop) compared(db *pgtest.DB) bool {
	s.t.Helper()
	return len(db.Column(s.t, `SELECT part::text FROM shadow_beside_v1.journal LIMIT 1`)) > 0
}

// await waits until a process has got to what it was started for, which it says nowhere.
func (g *ground) await(l *life, what string, there func() bool) {
	g.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for !there() {
		select {
		case err := <-l.ended:
			g.t.Fatalf("%v ended: %v\n%s", l.cmd.Args, err, tailOf(l.log))
		case <-limit:
			g.t.Fatalf("not within two minutes: %s", what)
		case <-tick.C:
		}
	}
}

// besideShadow gives the medians of the ratios of the shop's p99 beside a shadow to its
// p99 alone.
func besideShadow(t testing.TB, rounds, rate int, long time.Duration) (answers, hangs float64) {
	g := newGround(t, nil)
	s := g.newRestShop()
	price := g.live(worker{name: "pricing serve", cmd: func() *exec.Cmd {
		cmd := exec.Command(program(t, "pricing"), "serve", "--listen", "127.0.0.1:0")
		cmd.Env = ownEnvironment()
		return cmd
	}})
	g.reach(price, "listening")
	defer price.end(t, syscall.SIGTERM)
	candidate, _, _ := strings.Cut(price.stages.url(t), " ")
	over := make(chan struct{})
	var unanswered atomic.Int64
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		unanswered.Add(1)
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(over)

	silentURL := silent.URL + "/quotes"
	ways := []struct {
		name, candidate string
		ratios          []float64
	}{{name: "cdc alone"}, {name: "a shadow, its candidate answers", candidate: candidate + "/quotes"}, {name: "a shadow, its candidate hangs", candidate: silentURL}}
	rows := [][]string{{"round", "beside the shop", "orders", "p50 ms", "p95", "p99", "max"}}
	for n := range rounds {
		p99 := make([]float64, len(ways))
		for i := range ways {
			at := (i + n) % len(ways)
			var beside *life
			var db *pgtest.DB
			if url := ways[at].candidate; url != "" {
				db = g.stores.NewDB(t)
				beside = g.live(s.shadow(db, url))
				g.reach(beside, "running:")
			}
			before := unanswered.Load()
			s.sell(rate, 2*time.Second) // nothing starts any more
			switch ways[at].candidate { // and the shadow is at work
			case "":
			case silentURL:
				g.await(beside, "the candidate that hangs is asked", func() bool { return unanswered.Load() > before })
			default:
				g.await(beside, "the shadow beside the shop compares orders", func() bool { return s.compared(db) })
			}
			l := s.sell(rate, long)
			if beside != nil {
				beside.end(t, syscall.SIGTERM)
			}
			p99[at] = l.at(0.99)
			rows = append(rows, []string{fmt.Sprint(n + 1), ways[at].name, fmt.Sprint(len(l)), ms(l.at(0.5)), ms(l.at(0.95)), ms(l.at(0.99)), ms(l.at(1))})
		}
		for i := range ways {
			ways[i].ratios = append(ways[i].ratios, p99[i]/p99[0])
		}
	}
	printTable(fmt.Sprintf("The shop beside a shadow, %d orders/s for %s, %s", rate, long, g.broker), rows)
	return median(ways[1].ratios), median(ways[2].ratios)
}
