package ask_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banyan/money"
	"banyan/quote"
	"banyan/shadow/ask"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// order makes the nth order, of two lines.
func order(n int) quote.Order {
	stock := int64(40)
	at := time.Date(2026, 11, 1, 12, 0, n%60, 0, time.UTC)
	return quote.Order{
		ID: fmt.Sprintf("shop/Order/%d@1:0/1A2B3C8.0", n), Order: fmt.Sprint(n), AsOf: "1:0/1A2B3C8",
		Customer: "9f2c", PlacedAt: at, CommittedAt: at, Channel: "web", Country: "GB", Currency: "GBP",
		Lines: []quote.Line{
			{Line: 1, Product: "22423", Quantity: 6, Known: quote.Product{Code: "22423", Description: "REGENCY CAKESTAND 3 TIER",
				List: pounds(12750), TierQuantity: 16, Tier: pounds(10950), Cost: pounds(7000), Stock: &stock, Demand: quote.Demand{Days1: 3, Days7: 20, Days28: 90}}},
			{Line: 2, Product: "85123A", Quantity: 12, Known: quote.Product{Code: "85123A", List: pounds(2550)}},
		},
	}
}

func orders(n int) []quote.Order {
	all := make([]quote.Order, n)
	for i := range all {
		all[i] = order(i)
	}
	return all
}

func pounds(thousandths int64) money.Amount {
	return money.Amount{Amount: thousandths, Scale: 3, Currency: "GBP"}
}

// answer prices an order as its list says.
func answer(o quote.Order) quote.Answer {
	a := quote.Answer{ID: o.ID, AsOf: o.AsOf}
	for _, l := range o.Lines {
		a.Lines = append(a.Lines, quote.Price{Line: l.Line, Unit: l.Known.List, Rule: "list"})
	}
	return a
}

func answers(all []quote.Order) (r quote.Response) {
	r.Answers = []quote.Answer{}
	for _, o := range all {
		r.Answers = append(r.Answers, answer(o))
	}
	return r
}

// candidate is a service that behaves as handle says, which gets the orders and the
// number of the call, from 1.
type candidate struct {
	handle func(w http.ResponseWriter, r *http.Request, orders []quote.Order, call int)

	mu    sync.Mutex
	asked []int // orders of each call
	open  int
	peak  int
	gone  chan struct{} // closed when the test ends: a hanging handler's way out
}

func (c *candidate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request quote.Request
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	c.mu.Lock()
	c.asked = append(c.asked, len(request.Orders))
	call := len(c.asked)
	c.open++
	c.peak = max(c.peak, c.open)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.open--
		c.mu.Unlock()
	}()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.handle(w, r, request.Orders, call)
}

// calls is how many orders each call had that arrived.
func (c *candidate) calls() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client may be gone
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, s) //nolint:errcheck // the client may be gone
}

// hang holds the call until its client or the test is gone.
func (c *candidate) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-c.gone:
	}
}

// serve starts a candidate on loopback.
func serve(t testing.TB, handle func(w http.ResponseWriter, r *http.Request, orders []quote.Order, call int)) (*candidate, string) {
	c := &candidate{handle: handle, gone: make(chan struct{})}
	s := httptest.NewServer(c)
	t.Cleanup(func() {
		close(c.gone)
		s.Close()
	})
	return c, s.URL + "/quotes"
}

// client asks the candidate at the URL; change, where given, changes its defaults.
func client(t testing.TB, url string, change func(*ask.Config)) *ask.Client {
	t.Helper()
	config := ask.Defaults(url)
	config.Timeout = 10 * time.Second // none of a test's good calls times out on a busy machine
	config.Connect = 5 * time.Second
	config.Breaker.Window = time.Minute
	if change != nil {
		change(&config)
	}
	c, err := ask.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// reasons of results in short: "" is left out where all are good.
func reasons(results []ask.Result) map[ask.Reason]int {
	m := map[ask.Reason]int{}
	for _, r := range results {
		m[r.Reason]++
	}
	return m
}

func TestGoodAnswers(t *testing.T) {
	s, url := serve(t, func(w http.ResponseWriter, r *http.Request, all []quote.Order, call int) {
		for name, want := range map[string]string{"X-Shadow": "1", "X-Shadow-Client": "run-7", "User-Agent": "banyan-shadow",
			"Content-Type": "application/json", "Accept-Encoding": "", "Cookie": ""} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("header %s is %q, want %q", name, got, want)
			}
		}
		if key := r.Header.Get("Idempotency-Key"); len(key) != 32 {
			t.Errorf("idempotency key %q", key)
		}
		if user, password, _ := r.BasicAuth(); user != "shop" || password != "secret" {
			t.Errorf("basic authentication as %q %q", user, password)
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		response := answers(all)
		slices.Reverse(response.Answers) // any order is good
		slices.Reverse(response.Answers[0].Lines)
		reply(w, response)
	})
	c := client(t, strings.Replace(url, "http://", "http://shop:secret@", 1), func(c *ask.Config) { c.ID, c.Batch = "run-7", 30 })
	all := orders(100)
	for i, r := range c.Ask(t.Context(), all) {
		if r.Reason != "" || r.Answer.ID != all[i].ID || r.Answer.Lines[0].Unit != pounds(12750) || r.Attempt != 1 || r.Took <= 0 {
			t.Fatalf("order %d: %+v", i, r)
		}
	}
	calls := s.calls()
	slices.Sort(calls)
	if want := []int{10, 30, 30, 30}; !slices.Equal(calls, want) {
		t.Errorf("calls of %v orders, want %v", calls, want)
	}
	st := c.Stats()
	if st.Orders != 100 || st.Answered != 100 || len(st.Reasons) != 0 || st.Requests != 4 || st.PerRequest.Count != 4 ||
		st.PerOrder.Count != 100 || st.Open != 0 || st.BytesIn == 0 || st.BytesOut == 0 || st.PerOrder.P99 > st.PerOrder.Max {
		t.Errorf("stats %+v", st)
	}
	if strings.Contains(c.Target(), "secret") || !strings.Contains(c.Target(), "/quotes") {
		t.Errorf("target %s", c.Target())
	}
	if got := c.Ask(t.Context(), nil); len(got) != 0 {
		t.Errorf("no orders have results: %v", got)
	}
}

// An order with many lines goes alone, and lines fill a batch as orders do.
func TestBatchesByLines(t *testing.T) {
	s, url := serve(t, func(w http.ResponseWriter, _ *http.Request, all []quote.Order, _ int) { reply(w, answers(all)) })
	c := client(t, url, func(c *ask.Config) { c.Lines, c.Concurrency, c.Breaker.Window = 4, 1, 10*time.Minute })
	all := orders(4)
	all[1].Lines = nil
	for line := range int64(9) {
		all[1].Lines = append(all[1].Lines, quote.Line{Line: line + 1, Product: "1", Quantity: 1, Known: quote.Product{List: pounds(1)}})
	}
	if got := reasons(c.Ask(t.Context(), all)); got[""] != 4 {
		t.Errorf("%v", got)
	}
	if want := []int{1, 1, 2}; !slices.Equal(s.calls(), want) {
		t.Errorf("calls of %v orders, want %v", s.calls(), want)
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	const most = 4
	full := make(chan struct{})
	var once sync.Once
	var c *candidate
	c, url := serve(t, func(w http.ResponseWriter, r *http.Request, all []quote.Order, _ int) {
		c.mu.Lock()
		if c.open == most {
			once.Do(func() { close(full) })
		}
		c.mu.Unlock()
		select { // so that others have every chance to come in too
		case <-full:
		case <-r.Context().Done():
		}
		reply(w, answers(all))
	})
	a := client(t, url, func(c *ask.Config) { c.Concurrency, c.Batch = most, 1 })
	var others sync.WaitGroup
	for range 2 { // twice as many may wait as are open
		others.Go(func() {
			if got := reasons(a.Ask(t.Context(), orders(50))); got[""] != 50 {
				t.Errorf("%v", got)
			}
		})
	}
	others.Wait()
	if c.peak != most {
		t.Errorf("%d calls were open at once, want %d", c.peak, most)
	}
}

func TestTooManyCallersAreTurnedAway(t *testing.T) {
	hold := make(chan struct{})
	_, url := serve(t, func(w http.ResponseWriter, r *http.Request, all []quote.Order, _ int) {
		<-hold
		reply(w, answers(all))
	})
	c := client(t, url, func(c *ask.Config) { c.Concurrency, c.Breaker.Window = 1, 10*time.Minute })
	results := make(chan ask.Result)
	for range 3 {
		go func() { results <- c.Ask(t.Context(), orders(1))[0] }()
	}
	if r := <-results; r.Reason != ask.Full || !r.Transient() || r.Suspicion != ask.Clear { // the third, while the others wait
		t.Errorf("%+v", r)
	}
	close(hold)
	for range 2 {
		if r := <-results; r.Reason != "" {
			t.Errorf("%+v", r)
		}
	}
}

// Nothing but the candidate is ever called, whatever it says.
func TestNothingElseIsContacted(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody else was called") }))
	defer elsewhere.Close()
	_, url := serve(t, func(w http.ResponseWriter, r *http.Request, all []quote.Order, call int) {
		switch call % 4 {
		case 1:
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		case 2:
			w.Header().Set("Link", "<"+elsewhere.URL+">; rel=preload")
			w.Header().Set("Alt-Svc", `h2="`+strings.TrimPrefix(elsewhere.URL, "http://")+`"`)
			reply(w, answers(all))
		case 3:
			http.Error(w, "no", http.StatusServiceUnavailable)
		default:
			w.Header().Set("Connection", "close")
			reply(w, answers(all))
		}
	})
	var mu sync.Mutex
	dialled := map[string]int{}
	c := client(t, url, func(c *ask.Config) {
		c.Batch = 1
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			dialled[network+" "+address]++
			mu.Unlock()
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}
	})
	c.Ask(t.Context(), orders(40))
	mu.Lock()
	defer mu.Unlock()
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	if len(dialled) != 1 || dialled["tcp "+host] == 0 {
		t.Errorf("dialled %v, want only %s", dialled, host)
	}
}

func TestTheCallerStops(t *testing.T) {
	began := make(chan struct{}, 1)
	var s *candidate
	s, url := serve(t, func(_ http.ResponseWriter, r *http.Request, _ []quote.Order, _ int) {
		began <- struct{}{}
		s.hang(r)
	})
	c := client(t, url, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	for _, r := range c.Ask(ctx, orders(3)) {
		if r.Reason != ask.Stopped || !r.Transient() {
			t.Errorf("%+v", r)
		}
	}
	go func() {
		<-began
		c.Close()
		if st := c.Stats(); st.Open != 0 || st.Orders == 3 {
			t.Errorf("Close has not waited: %+v", st)
		}
	}()
	if r := c.Ask(t.Context(), orders(1))[0]; r.Reason != ask.Stopped || r.Err == nil || r.Err.Error() != ask.ErrClosed.Error() {
		t.Errorf("while it closes: %+v", r)
	}
	c.Close()
	if r := c.Ask(t.Context(), orders(1))[0]; r.Reason != ask.Stopped {
		t.Errorf("after it: %+v", r)
	}
	if err := c.Wait(t.Context()); err == nil || err.Error() != ask.ErrClosed.Error() {
		t.Errorf("wait of a closed client: %v", err)
	}
	if state := c.Stats().Breaker.State; state != "closed" {
		t.Errorf("the breaker took it for the candidate's failure: %s", state)
	}
}

// listed prices as the list says, and knows no product 9.
type listed struct{}

func (listed) Name() string  { return "listed" }
func (listed) Build() string { return "1" }
func (listed) Price(o *quote.Order, into *quote.Answer) error {
	*into = answer(*o)
	if o.Lines[0].Product == "9" {
		return fmt.Errorf("product 9 is not known")
	}
	return nil
}

// The two ends that this house has understand each other.
func TestWithTheHandler(t *testing.T) {
	s := httptest.NewServer(quote.Handler(listed{}, quote.Options{}))
	t.Cleanup(s.Close)
	c := client(t, s.URL+quote.QuotesPath, nil)
	all := orders(250)
	all[7].Lines[0].Product = "9"
	all[160].Lines[1].Quantity = 0 // the handler refuses the whole request
	for i, r := range c.Ask(t.Context(), all) {
		switch i {
		case 7:
			if r.Reason != ask.Declined || !strings.Contains(r.Err.Error(), "product 9") {
				t.Errorf("order %d: %+v", i, r)
			}
		case 160:
			if r.Reason != ask.Refused || r.Suspicion != ask.Pinned || r.Transient() || !strings.Contains(r.Err.Error(), "lines[1].quantity") {
				t.Errorf("order %d: %+v", i, r)
			}
		default:
			if r.Reason != "" || r.Answer.AsOf != all[i].AsOf {
				t.Errorf("order %d: %+v", i, r)
			}
		}
	}
	if r := client(t, s.URL+"/elsewhere", nil).Ask(t.Context(), all[:1])[0]; r.Reason != ask.Refused || !r.Transient() ||
		r.Err.Error() != `status 404: "there is nothing at /elsewhere; /openapi.json says what there is"` {
		t.Errorf("%+v", r)
	}
}
