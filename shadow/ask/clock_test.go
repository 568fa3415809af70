package ask_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banyan/quote"
	"banyan/shadow/ask"
)

// The tests of this file run under a clock that moves only when everybody waits, and
// so speak to a real server over connections in memory.

// pipes is a listener for them.
type pipes struct {
	conns chan net.Conn
	end   chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.end:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.end) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bubble runs a test with a candidate and a client of it, whose configuration is
// the default but for change.
func bubble(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, orders []quote.Order, call int), change func(*ask.Config),
	test func(t *testing.T, s *candidate, c *ask.Client)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), end: make(chan struct{})}
		s := &candidate{handle: handle, gone: make(chan struct{})}
		server := &http.Server{Handler: s}
		go server.Serve(p) //nolint:errcheck // it ends with Close
		config := ask.Defaults("http://candidate.test/quotes")
		config.Dial = p.dial
		if change != nil {
			change(&config)
		}
		c, err := ask.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			c.Close()
			close(s.gone)
			server.Close() //nolint:errcheck // the test is over
		}()
		test(t, s, c)
	})
}

// health is a candidate that a test makes ill.
type health struct {
	mu  sync.Mutex
	ill bool
}

func (h *health) is() bool     { h.mu.Lock(); defer h.mu.Unlock(); return h.ill }
func (h *health) set(ill bool) { h.mu.Lock(); defer h.mu.Unlock(); h.ill = ill }
func (h *health) handle(w http.ResponseWriter, _ *http.Request, o []quote.Order, _ int) {
	if h.is() {
		w.WriteHeader(503)
		return
	}
	reply(w, answers(o))
}

func TestBreaker(t *testing.T) {
	var h health
	one := func(c *ask.Config) { c.Batch, c.Retries, c.Concurrency = 1, 0, 1; c.Timeout = 500 * time.Millisecond }
	bubble(t, h.handle, one, func(t *testing.T, s *candidate, c *ask.Client) {
		state := func(want string) {
			t.Helper()
			if got := c.Stats().Breaker; got.State != want {
				t.Fatalf("%s, want %s: %+v", got.State, want, got)
			}
		}
		asked := func(n int) (reached int) {
			before := len(s.calls())
			c.Ask(t.Context(), orders(n))
			return len(s.calls()) - before
		}
		// 10 good and 9 bad calls are too few; the 20th opens it, at half.
		asked(10)
		h.set(true)
		asked(9)
		state("closed")
		asked(1)
		state("open")
		if n := asked(50); n != 0 {
			t.Fatalf("an open breaker let %d calls through", n)
		}
		if got := c.Stats(); got.Reasons[ask.Open] != 50 || got.Breaker.Openings != 1 {
			t.Fatalf("%+v", got)
		}
		// Each time that probes fail the delay doubles, up to a minute.
		for i, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
			want *= time.Second
			start := time.Now()
			if err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d < want*9/10 || d > want*11/10 {
				t.Errorf("opening %d: waited %v, want %v, a tenth more or less", i+1, d, want)
			}
			if n := asked(50); n != 2 { // two of three have failed: the ratio is reached
				t.Errorf("opening %d: %d probes, want 2", i+1, n)
			}
			state("open")
		}
		// Two good probes of three close it, and the next opening is short again.
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.set(false)
		asked(1)
		state("half-open")
		asked(1)
		state("closed")
		h.set(true)
		asked(30)
		state("open")
		if d := c.Stats().Breaker.Opens; d > 5500*time.Millisecond {
			t.Errorf("open for %v after it was closed", d)
		}
	})
}

// What happened longer ago than the window counts no more.
func TestBreakerForgets(t *testing.T) {
	var h health
	bubble(t, h.handle, func(c *ask.Config) { c.Batch, c.Retries = 1, 0 }, func(t *testing.T, _ *candidate, c *ask.Client) {
		h.set(true)
		for range 5 {
			c.Ask(t.Context(), orders(15))
			<-time.After(11 * time.Second)
		}
		if got := c.Stats().Breaker; got.Openings != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// Calls from before the breaker opened say nothing about its probes, and a probe
// that the caller gives up does not hold its place for ever.
func TestBreakerTakesEachResultInItsTime(t *testing.T) {
	release := make(map[string]chan struct{})
	bubble(t, func(w http.ResponseWriter, r *http.Request, o []quote.Order, _ int) {
		if ch := release[o[0].ID]; ch != nil {
			select {
			case <-ch:
			case <-r.Context().Done():
			}
			reply(w, answers(o))
			return
		}
		w.WriteHeader(503)
	}, func(c *ask.Config) {
		c.Batch, c.Retries, c.Timeout = 1, 0, time.Hour
		c.Breaker.Window = time.Hour
	}, func(t *testing.T, _ *candidate, c *ask.Client) {
		late := []quote.Order{order(1000), order(1001), order(1002)}
		for _, o := range late {
			release[o.ID] = make(chan struct{})
		}
		slow := make(chan []ask.Result)
		go func() { slow <- c.Ask(t.Context(), late) }()
		synctest.Wait()
		c.Ask(t.Context(), orders(20))
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.Ask(t.Context(), orders(1))[0]; got.Reason != ask.Failed { // the first probe
			t.Fatalf("%+v", got)
		}
		for _, o := range late {
			close(release[o.ID])
		}
		<-slow
		if got := c.Stats().Breaker.State; got != "half-open" {
			t.Fatalf("%s: closed by calls from before it opened", got)
		}
		c.Ask(t.Context(), orders(1)) // the second failed probe opens it
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 { // two probes are given up
			ctx, cancel := context.WithCancel(t.Context())
			release[late[0].ID] = make(chan struct{})
			done := make(chan []ask.Result)
			go func() { done <- c.Ask(ctx, late[:1]) }()
			synctest.Wait()
			cancel()
			if r := (<-done)[0]; r.Reason != ask.Stopped {
				t.Fatalf("%+v", r)
			}
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(release[late[0].ID])
		if r := c.Ask(t.Context(), late[:1])[0]; r.Reason != "" {
			t.Fatalf("a probe's place was lost: %+v", r)
		}
	})
}

// Who waits while all probes are out goes on as soon as one has its result.
func TestWaitForProbes(t *testing.T) {
	var h health
	bubble(t, func(w http.ResponseWriter, r *http.Request, o []quote.Order, call int) {
		if !h.is() && call <= 23 {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
		h.handle(w, r, o, call)
	}, func(c *ask.Config) { c.Batch, c.Retries = 1, 0 }, func(t *testing.T, s *candidate, c *ask.Client) {
		h.set(true)
		c.Ask(t.Context(), orders(20))
		h.set(false)
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		probes := make(chan []ask.Result)
		go func() { probes <- c.Ask(t.Context(), orders(3)) }()
		synctest.Wait()
		if r := c.Ask(t.Context(), orders(1))[0]; r.Reason != ask.Open {
			t.Errorf("a fourth probe: %+v", r)
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 100*time.Millisecond {
			t.Errorf("waited %v", d)
		}
		if got := reasons(<-probes); got[""] != 3 || c.Stats().Breaker.State != "closed" {
			t.Errorf("%v, %+v", got, c.Stats().Breaker)
		}
	})
}

// To wait for one's turn takes nothing off the time of a call.
func TestTurnsAreNotTimed(t *testing.T) {
	bubble(t, func(w http.ResponseWriter, r *http.Request, o []quote.Order, _ int) {
		select {
		case <-time.After(600 * time.Millisecond):
			reply(w, answers(o))
		case <-r.Context().Done():
		}
	}, func(c *ask.Config) { c.Concurrency = 2 }, func(t *testing.T, _ *candidate, c *ask.Client) {
		start := time.Now()
		results := make(chan []ask.Result)
		for range 4 {
			go func() { results <- c.Ask(t.Context(), orders(1)) }()
		}
		for range 4 {
			if r := (<-results)[0]; r.Reason != "" || r.Took != 600*time.Millisecond {
				t.Errorf("%+v", r)
			}
		}
		if d := time.Since(start); d != 1200*time.Millisecond {
			t.Errorf("4 calls, 2 at once, took %v", d)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	var h health
	bubble(t, h.handle, func(c *ask.Config) { c.Batch, c.Retries = 1, 0 }, func(t *testing.T, _ *candidate, c *ask.Client) {
		h.set(true)
		c.Ask(t.Context(), orders(40))
		why := errors.New("somebody pressed the switch")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := c.Wait(ctx); !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
	})
}

// A rate is one of orders, in batches no larger than a second's.
func TestRate(t *testing.T) {
	var h health
	bubble(t, h.handle, func(c *ask.Config) { c.Rate = 20 }, func(t *testing.T, s *candidate, c *ask.Client) {
		start := time.Now()
		if got := reasons(c.Ask(t.Context(), orders(200))); got[""] != 200 {
			t.Fatalf("%v", got)
		}
		if d := time.Since(start); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("200 orders at 20 a second took %v", d)
		}
		if n := slices.Max(s.calls()); n != 20 {
			t.Errorf("%d orders in a call", n)
		}
	})
}

// The time for a call is that for its retry too; only one that can still come in
// time is made.
func TestTimeoutIsForAll(t *testing.T) {
	bubble(t, func(w http.ResponseWriter, r *http.Request, _ []quote.Order, call int) {
		select {
		case <-time.After(700 * time.Millisecond):
		case <-r.Context().Done():
		}
		w.WriteHeader(503)
	}, nil, func(t *testing.T, s *candidate, c *ask.Client) {
		start := time.Now()
		r := c.Ask(t.Context(), orders(1))[0]
		if d := time.Since(start); r.Reason != ask.Timeout || d != time.Second || r.Attempt != 2 || len(s.calls()) != 2 {
			t.Errorf("%v after %v: %+v", r.Reason, d, r)
		}
	})
}

// Nobody there to accept: the time to connect is a part of it, and nothing is split.
func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := ask.Defaults("https://candidate.test/quotes")
		config.Retries = 0
		config.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		c, err := ask.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		start := time.Now()
		r := c.Ask(t.Context(), orders(50))
		if d := time.Since(start); r[0].Reason != ask.Failed || d != 250*time.Millisecond || c.Stats().Requests != 1 {
			t.Errorf("%v after %v: %+v", r[0].Reason, d, r[0])
		}
	})
}
