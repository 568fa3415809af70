package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/compare"
	"banyan/quote"
	"banyan/shadow"
	careful "banyan/shadow/ask"
)

// BenchmarkShadowHTTP is a shadow whose candidate is asked over loopback, from the
// broker to committed rows, beside two that do less: one whose candidate answers in
// process, and a bare loop of net/http that asks the same candidate about the same
// orders, as many to a call and as many calls at a time, with bodies that were written
// before, and does nothing else. The
// three take turns; "of_ceiling" is the median of the rounds' ratios, 1 is all.
func BenchmarkShadowHTTP(b *testing.B) {
	h := newShadowHouse(b)
	told := fill(b, h.cluster, shopShapes[0], madeUp(*shopOrders/2))
	server := httptest.NewServer(quote.Handler(demand(b), quote.Options{}))
	b.Cleanup(server.Close)
	url := server.URL + quote.QuotesPath + "?trail=false"
	cfg := careful.Defaults(url)
	client, err := careful.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	request := &shadow.Request{Client: client}
	listener := &listener{Pricer: request}
	h.follow(shadow.Candidates{Pricer: listener}, limitsAsked)
	calls := cutCalls(b, listener.orders, cfg)
	listener.orders = nil
	bare := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: cfg.Concurrency}}
	b.Cleanup(bare.CloseIdleConnections)

	var ratios []float64
	var asked, within, ceiling []trial
	for b.Loop() {
		for range *rounds {
			start, cpu := time.Now(), ownCPU(b)
			askBare(b, bare, url, calls, cfg.Concurrency)
			loop := trial{wall: time.Since(start).Seconds(), cpu: ownCPU(b) - cpu}
			name, m := h.follow(shadow.Candidates{Who: compare.Candidate{Mode: "request"}, Pricer: request}, limitsAsked)
			h.holds(name, told)
			_, n := h.follow(shadow.Candidates{InProcess: demand(b)}, limitsAsked)
			asked, within, ceiling = append(asked, m), append(within, n), append(ceiling, loop)
			ratios = append(ratios, loop.wall/m.wall)
		}
	}
	lines := float64(told.told.lines)
	one, two, three := medians(ceiling), medians(asked), medians(within)
	b.Logf("%d lines; medians of %d: bare loop %.2f s (CPU of both ends %.2f), asked %.2f s (CPU of both ends %.2f, store %.2f, broker %.2f), in process %.2f s (CPU %.2f); load %s",
		told.told.lines, len(ratios), one.wall, one.cpu, two.wall, two.cpu, two.store, two.broker, three.wall, three.cpu, load())
	b.ReportMetric(lines/two.wall, "lines/s")
	b.ReportMetric(lines/one.wall, "ceiling_lines/s")
	b.ReportMetric(median(ratios), "of_ceiling")
	// What asking adds to a shadow in process, by CPU: a busy machine moves it less.
	b.ReportMetric(one.cpu/max(two.cpu-three.cpu, 1e-9), "of_ceiling_asking_cpu")
}

// listener keeps what is asked.
type listener struct {
	shadow.Pricer
	orders []quote.Order
}

func (l *listener) Price(ctx context.Context, orders []quote.Order) ([]shadow.Got, error) {
	l.orders = append(l.orders, orders...)
	return l.Pricer.Price(ctx, orders)
}

func askBare(b *testing.B, c *http.Client, url string, calls []call, concurrency int) {
	b.Helper()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(calls) {
					return
				}
				if err := postBare(c, url, calls[i]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// call is a call that is ready to be sent.
type call struct {
	body   []byte
	orders int
}

// cutCalls makes calls of the size that a shadow makes.
func cutCalls(t testing.TB, all []quote.Order, cfg careful.Config) (calls []call) {
	t.Helper()
	for from := 0; from < len(all); {
		n, lines := 0, 0
		for from+n < len(all) && n < cfg.Batch && (n == 0 || lines+len(all[from+n].Lines) <= cfg.Lines) {
			lines += len(all[from+n].Lines)
			n++
		}
		body, err := json.Marshal(quote.Request{Orders: all[from : from+n]})
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call{body, n})
		from += n
	}
	return calls
}

func postBare(c *http.Client, url string, ready call) error {
	r, err := c.Post(url, "application/json", bytes.NewReader(ready.body))
	if err != nil {
		return err
	}
	defer r.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	response, err := quote.DecodeResponse(body)
	if err == nil && (r.StatusCode != http.StatusOK || len(response.Answers) != ready.orders) {
		err = fmt.Errorf("status %d, %d answers to %d orders", r.StatusCode, len(response.Answers), ready.orders)
	}
	return err
}
