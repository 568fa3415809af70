package shadow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/compare"
	"banyan/internal/randtest"
	"banyan/quote"
	"banyan/shadow/ask"
)

// served is thrifty behind HTTP. Each request is first given to before, which may
// answer it in another way and say so.
func served(t *testing.T, before func(w http.ResponseWriter, body []byte) bool) (r *Request, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	h := quote.Handler(echoing{}, quote.Options{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || before(w, body) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c := ask.Defaults(server.URL + "/quotes")
	c.Batch, c.Concurrency = 20, 8
	c.Breaker = ask.Breaker{FailureRatio: 0.5, MinCalls: 4, Window: 2 * time.Second, Delay: 10 * time.Millisecond, MaxDelay: 30 * time.Millisecond, Probes: 2}
	client, err := ask.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &Request{Client: client}, requests
}

// echoing is thrifty as it has to be over HTTP: it says as of which position it answers.
type echoing struct{ thrifty }

func (e echoing) Price(o *quote.Order, into *quote.Answer) error {
	into.AsOf = o.AsOf
	return e.thrifty.Price(o, into)
}

// ledgers gives a history's ledger and journal, with a Pricer or, where that is nil, in
// process.
func ledgers(t *testing.T, s *shop, p Pricer) (string, string) {
	t.Helper()
	o := named("asked")
	var journal [][]byte
	c := inProcess(o, &journal)
	c.pricer = p
	events := all(t, s.log, o)
	for rest := events; len(rest) > 0; rest = rest[min(150, len(rest)):] {
		if err := c.take(t.Context(), rest[:min(150, len(rest))]); err != nil {
			t.Error(err)
			break
		}
	}
	return whole(t, c.ledger), text(journal)
}

// A candidate that is down, slow to come back, and down now and then costs time and no
// order: the ledger is that of a candidate that was always there.
func TestACandidateThatIsDownLosesNothing(t *testing.T) {
	seed := randtest.Seed(t)
	shop := newShop(t, seed)
	shop.trade(300)
	rng := rand.New(rand.NewPCG(seed, 6))
	var up atomic.Bool
	fail := make(chan int, 10_000)
	for range cap(fail) {
		fail <- rng.IntN(10)
	}
	r, requests := served(t, func(w http.ResponseWriter, _ []byte) bool {
		if !up.Load() || <-fail == 0 {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	type result struct{ ledger, journal string }
	done := make(chan result, 1)
	go func() {
		l, j := ledgers(t, shop, r)
		done <- result{l, j}
	}()
	eventually(t, "it says what it waits for", func() bool {
		why, paused := r.Paused()
		return strings.Contains(why, "candidate") && paused > 0 && requests.Load() > 5
	})
	up.Store(true)
	got := <-done
	ledger, journal := ledgers(t, shop, nil)
	if diff := cmp.Diff(journal, got.journal); diff != "" {
		t.Fatalf("the journal (-in process +asked):\n%s", diff)
	}
	if diff := cmp.Diff(ledger, got.ledger); diff != "" {
		t.Fatalf("the ledger (-in process +asked):\n%s", diff)
	}
	if why, paused := r.Paused(); why != "" || paused == 0 {
		t.Errorf("at the end it waits for %q, and has waited %s", why, paused)
	}
	o := r.Operations()
	if o.Asked < o.Answered || o.Answered == 0 || len(o.Errors) == 0 {
		t.Errorf("operations: %+v", o)
	}
}

// An order that the candidate dies of is given up, with its reason, and the others are
// answered.
func TestAnOrderThatTheCandidateDiesOf(t *testing.T) {
	for name, die := range map[string]func(w http.ResponseWriter){
		"an error": func(w http.ResponseWriter) { http.Error(w, "no", http.StatusInternalServerError) },
		"it hangs up": func(w http.ResponseWriter) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				c.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := served(t, func(w http.ResponseWriter, body []byte) bool {
				if bytes.Contains(body, []byte(`"poison"`)) {
					die(w)
					return true
				}
				return false
			})
			r.Attempts = 2
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got, err := r.Price(ctx, someOrders(30, 17))
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range got {
				if i == 17 {
					if g.Answer != nil || g.Reason != compare.Failed {
						t.Errorf("the poison: %+v", g)
					}
					continue
				}
				if g.Reason != "" || g.Answer == nil || g.Answer.ID != someOrders(30, 17)[i].ID {
					t.Errorf("order %d: %+v", i, g)
				}
			}
		})
	}
}

// someOrders are n orders, of which one is poison.
func someOrders(n, poison int) []quote.Order {
	var all []quote.Order
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		o := quote.Order{ID: "order " + string(rune('A'+i)), Order: "1", AsOf: "1:0/10", PlacedAt: at, CommittedAt: at, Currency: "GBP",
			Lines: []quote.Line{{Line: 1, Product: "p", Quantity: 1, Known: quote.Product{List: gbp(1000)}}}}
		if i == poison {
			o.ID = "poison"
		}
		all = append(all, o)
	}
	return all
}

func TestTheKillSwitch(t *testing.T) {
	r, requests := served(t, func(http.ResponseWriter, []byte) bool { return false })
	var killed atomic.Bool
	killed.Store(true)
	r.Killed = func() string {
		if killed.Load() {
			return "somebody has said stop"
		}
		return ""
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.Price(t.Context(), someOrders(5, -1))
		done <- err
	}()
	eventually(t, "it says why it waits", func() bool { why, _ := r.Paused(); return why == "somebody has said stop" })
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	killed.Store(false)
	if err := <-done; err != nil || requests.Load() == 0 {
		t.Errorf("after that: %v, %d requests", err, requests.Load())
	}
}

func TestAskingEndsWithItsContext(t *testing.T) {
	for name, set := range map[string]func(r *Request){"killed": func(r *Request) { r.Killed = func() string { return "stop" } }, "down": func(*Request) {}} {
		t.Run(name, func(t *testing.T) {
			r, _ := served(t, func(w http.ResponseWriter, _ []byte) bool {
				http.Error(w, "down", http.StatusInternalServerError)
				return true
			})
			set(r)
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := r.Price(ctx, someOrders(5, -1))
				done <- err
			}()
			eventually(t, "it waits", func() bool { why, _ := r.Paused(); return why != "" })
			cancel(errStopped)
			if err := <-done; !errors.Is(err, errStopped) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// What comes back for another number of orders than were asked about is no answer.
func TestAPricerThatCannotCount(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	shop.trade(20)
	s := newCore(named("count"))
	s.pricer = miscounting{}
	if err := s.take(t.Context(), all(t, shop.log, s.opts)); err == nil || !strings.Contains(err.Error(), "heard of 1") {
		t.Errorf("it ended with %v", err)
	}
}

type miscounting struct{}

func (miscounting) Price(context.Context, []quote.Order) ([]Got, error) { return make([]Got, 1), nil }
