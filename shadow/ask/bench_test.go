package ask_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/quote"
	"banyan/shadow/ask"
)

// BenchmarkAsk asks for orders of two lines in batches of 100, beside a bare loop of
// net/http that does the same with the same JSON and no care at all: the ceiling of
// this machine. The two take turns within one run, so that a busy machine is busy for
// both; "of_ceiling" is what is left of it, 1 is all. Both ends share the processors.
func BenchmarkAsk(b *testing.B) {
	for _, concurrency := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("open=%d", concurrency), func(b *testing.B) {
			url := bareCandidate(b)
			c := client(b, url, func(c *ask.Config) { c.Concurrency = concurrency; c.Breaker.Window = time.Hour })
			all := orders(100 * 64)
			bare := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
			defer bare.CloseIdleConnections()
			var careful, careless time.Duration
			for b.Loop() {
				start := time.Now()
				for _, r := range c.Ask(b.Context(), all) {
					if r.Reason != "" {
						b.Fatal(r.Err)
					}
				}
				half := time.Now()
				askBare(b, bare, url, all, concurrency)
				careful, careless = careful+half.Sub(start), careless+time.Since(half)
			}
			n := float64(b.N * len(all))
			b.ReportMetric(n/careful.Seconds(), "orders/s")
			b.ReportMetric(n/careless.Seconds(), "ceiling_orders/s")
			b.ReportMetric(careless.Seconds()/careful.Seconds(), "of_ceiling")
		})
	}
}

// bareCandidate answers with as little work as an answer needs: it reads the request
// and sends prices that were written before, as it knows the orders.
func bareCandidate(b *testing.B) string {
	written := map[string][]byte{}
	all := orders(100 * 64)
	for i := 0; i < len(all); i += 100 {
		text, err := json.Marshal(answers(all[i : i+100]))
		if err != nil {
			b.Fatal(err)
		}
		written[all[i].ID] = text
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		_, rest, ok := bytes.Cut(body, []byte(`"id":"`))
		id, _, _ := bytes.Cut(rest, []byte(`"`))
		if err != nil || !ok || written[string(id)] == nil {
			http.Error(w, "not an order of the benchmark", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(written[string(id)]) //nolint:errcheck // the client would fail
	}))
	b.Cleanup(s.Close)
	return s.URL
}

func askBare(b *testing.B, c *http.Client, url string, all []quote.Order, concurrency int) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for {
				i := int(next.Add(100)) - 100
				if i >= len(all) {
					return
				}
				if err := postBare(c, url, all[i:i+100]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}

func postBare(c *http.Client, url string, all []quote.Order) error {
	r, err := c.Post(url, "application/json", bytes.NewReader(ask.Encode(all)))
	if err != nil {
		return err
	}
	defer r.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	response, err := quote.DecodeResponse(body)
	if err == nil && len(response.Answers) != len(all) {
		err = fmt.Errorf("%d answers", len(response.Answers))
	}
	return err
}

// BenchmarkEncode compares the requests' encoder with the library's.
func BenchmarkEncode(b *testing.B) {
	all := orders(100)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.SetBytes(int64(len(ask.Encode(all))))
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			text, err := json.Marshal(quote.Request{Orders: all})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
		}
	})
	b.Run("answers", func(b *testing.B) {
		text, err := json.Marshal(answers(all))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := quote.DecodeResponse(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
