package ask

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"banyan/money"
	"banyan/quote"
)

// anOrder draws one with all that text can hold.
func anOrder(t *rapid.T) quote.Order {
	word := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{0,12}`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	number := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64())
	sum := rapid.Custom(func(t *rapid.T) money.Amount {
		return money.Amount{Amount: number.Draw(t, "amount"), Scale: rapid.IntRange(-1, 18).Draw(t, "scale"), Currency: word.Draw(t, "currency")}
	})
	maybe := rapid.OneOf(rapid.Just(money.Amount{}), sum)
	at := rapid.Custom(func(t *rapid.T) time.Time {
		zone := time.UTC
		if rapid.Bool().Draw(t, "elsewhere") {
			zone = time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "hours")*3600)
		}
		return time.Unix(rapid.Int64Range(-62e9, 253e9).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")).In(zone)
	})
	line := rapid.Custom(func(t *rapid.T) quote.Line {
		return quote.Line{Line: number.Draw(t, "line"), Product: word.Draw(t, "product"), Quantity: number.Draw(t, "quantity"), Known: quote.Product{
			Code: word.Draw(t, "code"), Description: word.Draw(t, "description"), List: maybe.Draw(t, "list"),
			TierQuantity: number.Draw(t, "tier quantity"), Tier: maybe.Draw(t, "tier"), Cost: maybe.Draw(t, "cost"),
			Stock:  rapid.Ptr(number, true).Draw(t, "stock"),
			Demand: quote.Demand{Days1: number.Draw(t, "1"), Days7: number.Draw(t, "7"), Days28: number.Draw(t, "28"), Refused: number.Draw(t, "refused")},
		}}
	})
	return quote.Order{ID: word.Draw(t, "id"), Order: word.Draw(t, "order"), AsOf: word.Draw(t, "as of"), Customer: word.Draw(t, "customer"),
		PlacedAt: at.Draw(t, "placed"), CommittedAt: at.Draw(t, "committed"), Channel: word.Draw(t, "channel"), Country: word.Draw(t, "country"),
		Currency: word.Draw(t, "currency"), Lines: rapid.SliceOfN(line, -1, 4).Draw(t, "lines"), WantTrail: rapid.Bool().Draw(t, "trail")}
}

// The requests are those of encoding/json, byte for byte.
func TestEncodeIsThatOfTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := rapid.SliceOfN(rapid.Custom(anOrder), 1, 3).Draw(t, "orders")
		if rapid.Bool().Draw(t, "without lines") {
			orders[0].Lines = nil
		}
		want, err := json.Marshal(quote.Request{Orders: orders})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(encode(orders))); d != "" {
			t.Fatal(d)
		}
	})
}

// Quantiles are those of the values themselves, at most 1 % above.
func TestHistogram(t *testing.T) {
	const seed = 20261129
	lots := rand.New(rand.NewPCG(seed, 0))
	var h histogram
	if got := h.latency(); got != (Latency{}) {
		t.Errorf("of nothing: %+v", got)
	}
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(1000 + lots.ExpFloat64()*float64(20*time.Millisecond))
		all = append(all, d)
		h.add(d, 1)
	}
	slices.Sort(all)
	got := h.latency()
	for name, x := range map[string][2]time.Duration{"p50": {got.P50, all[4999]}, "p95": {got.P95, all[9499]}, "p99": {got.P99, all[9899]}} {
		if x[0] < x[1] || float64(x[0]) > 1.0101*float64(x[1]) {
			t.Errorf("%s is %v, want %v (seed %d)", name, x[0], x[1], seed)
		}
	}
	if got.Max != all[9999] || got.Count != 10_000 {
		t.Errorf("%+v", got)
	}
	h = histogram{}
	h.add(0, 3) // below the first bucket
	h.add(100*time.Hour, 1)
	if got := h.latency(); got.P50 != time.Microsecond || got.Max != 100*time.Hour || got.P99 != 1808*time.Second && got.P99 < 30*time.Minute {
		t.Errorf("%+v", got)
	}
}

func TestBudget(t *testing.T) {
	b := newBudget(0.1, 1)
	took := 0
	for range 1000 {
		b.called()
		if b.take() {
			took++
		}
	}
	if took != 101 {
		t.Errorf("%d retries of 1000 calls, want a tenth and one", took)
	}
	for range 100_000 {
		b.called()
	}
	for took = 0; b.take(); took++ {
	}
	if took != savings {
		t.Errorf("%d retries were saved up, want %d", took, savings)
	}
}

func TestCheck(t *testing.T) {
	if err := Defaults("http://localhost:9000/quotes").Check(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"empty", func(c *Config) { *c = Config{} }, []string{"URL is empty", "Timeout is 0s", "Connect is 0s", "Concurrency is 0", "Batch is 0",
			"Lines is 0", "MaxBody is 0", "Breaker.FailureRatio is 0", "Breaker.MinCalls is 0", "Breaker.Window is 0s", "Breaker.Delay is 0s", "Breaker.Probes is 0"}},
		{"scheme", func(c *Config) { c.URL = "file:///etc/passwd" }, []string{"asked by http or https"}},
		{"no host", func(c *Config) { c.URL = "http:///quotes" }, []string{"the host is missing"}},
		{"fragment", func(c *Config) { c.URL = "http://h/quotes#a" }, []string{"never sent"}},
		{"password", func(c *Config) { c.URL = "ftp://me:secret@h/quotes?token=secret" }, []string{"URL is ftp://...@h/quotes: "}},
		{"unreadable, with a question", func(c *Config) { c.URL = "http://me:secret?x@h/" }, []string{"URL is http://...@h/: it cannot be read"}},
		{"unreadable", func(c *Config) { c.URL = "http://me:sec%ret@h:x/" }, []string{"URL is http://...@h:x/: it cannot be read"}},
		{"header", func(c *Config) { c.ID = "a\r\nb" }, []string{`ID is "a\r\nb": it goes into a header`}},
		{"connect", func(c *Config) { c.Connect = 2 * time.Second }, []string{"Connect is 2s: it must be above 0 and within Timeout"}},
		{"bounds", func(c *Config) {
			c.Concurrency, c.Batch, c.Retries, c.RetryShare, c.RetryMin, c.Rate = 2000, 5000, 9, 0.9, -1, -1
		}, []string{"Concurrency is 2000: it must be 1 to 1024", "Batch is 5000: it must be 1 to 1000", "Retries is 9", "RetryShare is 0.9", "RetryMin is -1", "Rate is -1"}},
		{"breaker", func(c *Config) { c.Breaker.MaxDelay = time.Second }, []string{"Breaker.MaxDelay is 1s: it must be at least Delay"}},
		{"hanging candidate", func(c *Config) { c.Concurrency = 1 }, []string{"Breaker.MinCalls is 20: a candidate that hangs would never open the breaker, as only 10 calls"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Defaults("http://localhost:9000/quotes")
			tc.change(&c)
			_, err := New(c)
			if err == nil {
				t.Fatal("no fault")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in\n%v", want, err)
				}
			}
			if n := strings.Count(err.Error(), "\n") + 1; n != len(tc.want) {
				t.Errorf("%d faults, want %d:\n%v", n, len(tc.want), err)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec%ret") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

// No part of what may be secret in a URL is shown, whatever its form.
func FuzzShow(f *testing.F) {
	for _, s := range []string{"http://u:p@h/q", "http://h/q?t=u:p@x", "//@", "u:p@h", "http://a@b@c", "?", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		shown := show("http://SECRET" + s + "@host/x")
		if strings.Contains(shown, "SECRET") && !strings.ContainsAny(s, "/?#") {
			t.Errorf("%q is shown as %q", s, shown)
		}
	})
}

// some reports whether prices are of some of the lines, in their order.
func some(lines []quote.Line, prices []quote.Price) bool {
	for _, l := range lines {
		if len(prices) > 0 && prices[0].Line == l.Line {
			prices = prices[1:]
		}
	}
	return len(prices) == 0
}

// A candidate that has no price for one product has one for the others.
func TestLineWithoutPriceLeavesTheOthers(t *testing.T) {
	order := quote.Order{ID: "a", Lines: []quote.Line{{Line: 1}, {Line: 2}, {Line: 3}}}
	c := &Client{count: newCounts()}
	response := quote.Response{Answers: []quote.Answer{{ID: "a", Lines: []quote.Price{{Line: 3}, {Line: 9}, {Line: 1}}}}}
	results := make([]Result, 1)
	c.match([]quote.Order{order}, outcome{response: &response, status: 200}, results, time.Millisecond)
	r := results[0]
	if r.Reason != "" || len(r.Answer.Lines) != 2 || r.Answer.Lines[0].Line != 1 || r.Answer.Lines[1].Line != 3 {
		t.Errorf("got %+v with %+v, want lines 1 and 3", r, r.Answer)
	}
}

// What a candidate sends goes to the reader of answers, and then to match: neither
// may panic, and each order gets an answer that is its own, or a reason.
func FuzzMatch(f *testing.F) {
	orders := []quote.Order{{ID: "a", Lines: []quote.Line{{Line: 1}, {Line: 2}}}, {ID: "b", Lines: []quote.Line{{Line: 1}}}}
	price := `{"line":1,"unit":{"amount":1,"scale":2,"currency":"GBP"}}`
	for _, s := range []string{"{}", `{"answers":[{"id":"b","lines":[` + price + `]},{"id":"a","lines":[` + price + `]},{"id":"c"}]}`,
		`{"answers":[{"id":"b","lines":[` + price + `]},{"id":"b","declined":"no"},null,3]}`, `{"answers":[{"id":"a","lines":null},{"id":"b","lines":[` + price + `,` + price + `]}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		response, err := quote.DecodeResponse(body)
		c := &Client{count: newCounts()}
		results := make([]Result, len(orders))
		c.match(orders, outcome{response: &response, spoilt: err, status: 200}, results, time.Millisecond)
		for i, r := range results {
			switch {
			case r.Reason != "" && (r.Err == nil || r.Answer != nil && r.Reason != Declined):
				t.Errorf("order %d: %+v", i, r)
			case r.Reason == "" && (r.Answer.ID != orders[i].ID || !some(orders[i].Lines, r.Answer.Lines)):
				t.Errorf("order %d has the answer %+v", i, r.Answer)
			}
		}
	})
}
