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

	var ratios, apart []float64
	var asked, ceiling []trial
	for b.Loop() {
		for range *rounds {
			start := time.Now()
			askBare(b, bare, url, calls, cfg.Concurrency)
			bareTime := time.Since(start).Seconds()
			name, m := h.follow(shadow.Candidates{Who: compare.Candidate{Mode: "request"}, Pricer: request}, limitsAsked)
			h.holds(name, told)
			_, within := h.follow(shadow.Candidates{InProcess: demand(b)}, limitsAsked)
			asked, ceiling = append(asked, m), append(ceiling, trial{wall: bareTime})
			ratios = append(ratios, bareTime/m.wall)
			apart = append(apart, bareTime/max(m.wall-within.wall, 1e-9))
		}
	}
	lines := float64(told.told.lines)
	b.Logf("%d lines; medians of %d: bare %.2f s, shadow %.2f s with %.2f s of own CPU (the candidate's too), of which the asking alone, by the difference to a candidate in process, is %.2f of the ceiling; load %s",
		told.told.lines, len(ratios), medians(ceiling).wall, medians(asked).wall, medians(asked).cpu, median(apart), load())
	b.ReportMetric(lines/medians(asked).wall, "lines/s")
	b.ReportMetric(lines/medians(ceiling).wall, "ceiling_lines/s")
	b.ReportMetric(median(ratios), "of_ceiling")
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
