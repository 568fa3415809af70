package bench_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banyan/internal/kafkatest"
)

var (
	seconds  = flag.Int("seconds", 20, "how long the read API and tokens are measured in a round")
	requests = flag.Int("requests", 5000, "requests per second to the read API")
	beside   = flag.Int("beside", 5000, "events per second that are applied meanwhile")
)

// latencies are the delays of one round in milliseconds, sorted.
type latencies []float64

func (l latencies) at(p float64) float64 { return percentile(l, p) }

// sample collects delays from many goroutines.
type sample struct {
	mu sync.Mutex
	ms latencies
}

func (s *sample) add(d time.Duration) {
	s.mu.Lock()
	s.ms = append(s.ms, float64(d.Nanoseconds())/1e6)
	s.mu.Unlock()
}

func (s *sample) sorted() latencies {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.ms)
	return s.ms
}

// BenchmarkReadAPI asks projector run for single rows at a fixed rate, while it
// applies events at another.
func BenchmarkReadAPI(b *testing.B) { benchmarkReadAPI(b, nil) }

func benchmarkReadAPI(b *testing.B, kafka *kafkatest.Broker) {
	for b.Loop() {
		p99 := readAPI(b, kafka, *events/10, *rounds, time.Duration(*seconds)*time.Second, *requests, *beside)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(p99, "p99-ms")
	}
}

func readAPI(t testing.TB, kafka *kafkatest.Broker, events, rounds int, long time.Duration, rate, beside int) float64 {
	g := newGround(t, kafka)
	d := g.tell(history{source: "read", events: events, keys: events / 2, value: orderState})
	s := g.newService("orders", fmt.Sprintf(ordersFold, d.topic))
	w := g.worker(contenderLive, s, d)
	w.cmd = g.listening(s)
	run := g.live(w)
	g.until(w, run, d.total())
	url := run.stages.url(t)
	before := d.total()
	var keys []int
	for k, seen := range d.seen {
		if seen {
			keys = append(keys, k)
		}
	}
	rows := [][]string{{"round", "requests", "p50 ms", "p95", "p99", "p99.9", "max", "failed", "events/s beside"}}
	var p99s []float64
	for n := range rounds {
		ctx, cancel := context.WithTimeout(context.Background(), long)
		var feeding sync.WaitGroup
		feeding.Go(func() { g.feed(ctx, d, beside) })
		l, failed := ask(url+"/orders/", keys, rate, long)
		cancel()
		feeding.Wait()
		p99s = append(p99s, l.at(0.99))
		rows = append(rows, []string{fmt.Sprint(n + 1), fmt.Sprint(len(l)), ms(l.at(0.5)), ms(l.at(0.95)), ms(l.at(0.99)), ms(l.at(0.999)), ms(l.at(1)), fmt.Sprint(failed),
			fmt.Sprintf("%.0f", float64(d.total()-before)/long.Seconds())})
		before = d.total()
	}
	g.until(w, run, d.total())
	run.end(t, syscall.SIGTERM)
	if err := s.holds(d, "orders.orders", "changes")(); err != nil {
		t.Fatal(err)
	}
	printTable(fmt.Sprintf("Read API, %d requests/s for %s, %d rows, %s", rate, long, len(keys), g.broker), rows)
	return median(p99s)
}

func ms(v float64) string { return fmt.Sprintf("%.1f", v) }

// feed tells events at a rate until ctx is done, as a source does that commits
// all the time.
func (g *ground) feed(ctx context.Context, d *told, rate int) {
	const every = 20 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	start, told := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			due := int(now.Sub(start).Seconds() * float64(rate))
			if n := due - told; n > 0 {
				g.more(d, n)
				told = due
			}
		}
	}
}

// ask sends requests for rows at a fixed rate, whatever the answers do, and gives
// the time from when each was due to the end of its answer.
func ask(url string, keys []int, rate int, long time.Duration) (latencies, int64) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var all sample
	var next, failed atomic.Int64
	total := int64(long.Seconds() * float64(rate))
	start := time.Now()
	var askers sync.WaitGroup
	for n := range 64 {
		random := rand.New(rand.NewPCG(7, uint64(n)))
		askers.Go(func() {
			for i := next.Add(1) - 1; i < total; i = next.Add(1) - 1 {
				due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
				<-time.After(time.Until(due))
				res, err := client.Get(url + fmt.Sprint(keys[random.IntN(len(keys))]))
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err != nil || res.StatusCode != http.StatusOK {
					failed.Add(1)
				}
				all.add(time.Since(due))
			}
		})
	}
	askers.Wait()
	return all.sorted(), failed.Load()
}

// TestReadAPIAnswers keeps the benchmark working.
func TestReadAPIAnswers(t *testing.T) {
	if p99 := readAPI(t, nil, 2000, 1, time.Second, 100, 100); p99 <= 0 {
		t.Errorf("p99 is %v", p99)
	}
}

// url is where a projector run says that it listens.
func (c *stageClock) url(t testing.TB) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(c.text.String()) {
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on "); ok {
			return url
		}
	}
	t.Fatalf("it does not say where it listens:\n%s", &c.text)
	return ""
}
