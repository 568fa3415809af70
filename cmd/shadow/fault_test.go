package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/compare"
	"banyan/money"
	"banyan/quote"
)

// books holds a report of the candidate dearer against the shop's own books.
func (h *house) books(r *compare.Report, reason func(l *sold) compare.Reason) {
	h.t.Helper()
	if diff := cmp.Diff(h.shop.expected(reason), said(r)); diff != "" {
		h.t.Errorf("the report is not what the shop's books say (-want +got):\n%s", diff)
	}
	h.sound(r)
}

// sound wants the invariants of a report.
func (h *house) sound(r *compare.Report) {
	h.t.Helper()
	if !r.Reconciliation.OK {
		h.t.Errorf("the reconciliation fails: %v", r.Reconciliation.Faults)
	}
	if p := r.Reconciliation.Projection; p.State != "equal" || p.Detail != "" {
		h.t.Errorf("the projection of orders: %s %s", p.State, p.Detail)
	}
	if r.Window.Orders != int64(h.shop.orders) {
		h.t.Errorf("%d orders were consumed, the shop has %d", r.Window.Orders, h.shop.orders)
	}
	for _, m := range r.Currencies {
		b, diff := m.Bounds, float64(units(m.Headline.Diff))
		room := b.Cap / 100 * float64(units(b.Control))
		if float64(units(b.Low)) > diff-room+100 || float64(units(b.High)) < diff+room-100 { // a penny
			h.t.Errorf("the bounds %s to %s of %s are narrower than what %s may have moved", b.Low, b.High, m.Headline.Diff, b.Control)
		}
	}
}

func TestCandidateThatAnswersWell(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.repeats = 100
	for range 10 {
		h.shop.trade(30)
	}
	r := h.caughtUp(0, "--candidate", newService(t).url(), "--from", "start")
	h.books(r, nil)
	if r.Operations == nil || r.Operations.Answered == 0 || r.Operations.Breaker != "closed" {
		t.Errorf("operations: %+v", r.Operations)
	}
}

// oddities are what a candidate may answer for a single order, and the reason why that
// is not compared; "" is that it is.
var oddities = []struct {
	name   string
	reason compare.Reason
	do     func(o *quote.Order, a quote.Answer) []any
}{
	{"well", "", func(_ *quote.Order, a quote.Answer) []any { return []any{a} }},
	{"another currency", compare.WrongCurrency, unit(func(m *money.Amount) { m.Currency = "USD" })},
	{"an absurd price", compare.BadPrice, unit(func(m *money.Amount) { m.Amount *= 1000 })},
	{"a price that overflows", compare.BadPrice, unit(func(m *money.Amount) { m.Amount, m.Scale = 1<<62, 0 })},
	{"nothing to pay", compare.BadPrice, unit(func(m *money.Amount) { m.Amount = 0 })},
	{"a price finer than money", compare.TooFine, unit(func(m *money.Amount) { m.Amount, m.Scale = m.Amount*1000+1, 6 })},
	{"a total that is not that of the pieces", compare.BadPrice, func(_ *quote.Order, a quote.Answer) []any {
		for i := range a.Lines {
			a.Lines[i].Total = money.Amount{Amount: 1 << 40, Scale: 3, Currency: a.Lines[i].Unit.Currency}
		}
		return []any{a}
	}},
	{"as of tomorrow", compare.SawFuture, asOf("1:FFFFFFFF/0")},
	{"as of another generation", compare.SawFuture, asOf("7:0/1")},
	{"as of nothing", compare.Unproven, asOf("")},
	{"as of long ago", "", asOf("1:0/1")},
	{"declined", compare.Declined, func(o *quote.Order, _ quote.Answer) []any {
		return []any{quote.Answer{ID: o.ID, AsOf: o.AsOf, Declined: "not today"}}
	}},
	{"no answer", compare.NoAnswer, func(*quote.Order, quote.Answer) []any { return nil }},
	{"no lines", compare.NoAnswer, func(o *quote.Order, _ quote.Answer) []any { return []any{quote.Answer{ID: o.ID, AsOf: o.AsOf}} }},
	{"a line nobody asked about", "", func(_ *quote.Order, a quote.Answer) []any {
		a.Lines = append([]quote.Price{{Line: 987, Unit: money.Amount{Amount: 1, Scale: 3, Currency: "GBP"}}}, a.Lines...)
		return []any{a}
	}},
	{"an order nobody asked about", "", func(_ *quote.Order, a quote.Answer) []any {
		other := a
		other.ID += "0"
		return []any{other, a}
	}},
	{"the same twice", "", func(_ *quote.Order, a quote.Answer) []any { return []any{a, a} }},
	{"two different answers", compare.DuplicateAnswer, func(_ *quote.Order, a quote.Answer) []any {
		other := a
		other.Lines = nil
		return []any{a, other}
	}},
}

func unit(f func(m *money.Amount)) func(*quote.Order, quote.Answer) []any {
	return func(_ *quote.Order, a quote.Answer) []any {
		for i := range a.Lines {
			f(&a.Lines[i].Unit)
		}
		return []any{a}
	}
}

func asOf(text string) func(*quote.Order, quote.Answer) []any {
	return func(_ *quote.Order, a quote.Answer) []any {
		a.AsOf = text
		return []any{a}
	}
}

// Every oddity in one history, each in its orders: what can be used is compared, what
// cannot is excluded by its reason, and widens the bounds.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(600)
	s := newService(t)
	s.misbehave(eachAnswer(func(o *quote.Order, a quote.Answer) []any { return oddities[orderNumber(o)%len(oddities)].do(o, a) }))
	r := h.caughtUp(1, "--candidate", s.url(), "--from", "start")
	h.books(r, func(l *sold) compare.Reason { return oddities[l.order%len(oddities)].reason })
	rails := map[string]bool{}
	for _, g := range r.Guardrails {
		rails[g.Name] = g.OK
	}
	for _, name := range []string{"answers in another currency", "answers that knew later events", "lines without an answer"} {
		if ok, there := rails[name]; ok || !there {
			t.Errorf("the guardrail %q holds, or is not there: %v", name, rails)
		}
	}
	if notes := strings.Join(r.Operations.Notes, " "); !strings.Contains(notes, "nobody had asked for") || !strings.Contains(notes, "twice") {
		t.Errorf("the report does not say what was passed over: %q", notes)
	}
}

// What cannot be read at all costs the order that it is said of, and no other.
func TestUnreadableAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(250)
	s := newService(t)
	kinds := []any{
		map[string]any{"asOf": "yesterday"}, "text", 17,
		map[string]any{"lines": []any{map[string]any{"line": 1, "unit": map[string]any{"amount": -5, "scale": 3, "currency": "GBP"}}}},
		map[string]any{"lines": []any{map[string]any{"line": 1, "unit": map[string]any{"amount": 1.5, "scale": 3, "currency": "GBP"}}}},
		map[string]any{"lines": []any{map[string]any{"line": 1, "unit": map[string]any{"amount": "9", "scale": 3, "currency": "GBP"}}}},
		map[string]any{"lines": []any{map[string]any{"line": 1, "unit": map[string]any{"amount": 9}}}},
	}
	s.misbehave(eachAnswer(func(o *quote.Order, a quote.Answer) []any {
		if n := orderNumber(o); n%10 == 3 {
			bad := kinds[n/10%len(kinds)]
			if m, ok := bad.(map[string]any); ok {
				all := map[string]any{"id": o.ID}
				for k, v := range m {
					all[k] = v
				}
				return []any{all}
			}
			return []any{bad}
		}
		return []any{a}
	}))
	r := h.caughtUp(1, "--candidate", s.url(), "--from", "start")
	h.books(r, func(l *sold) compare.Reason {
		if l.order%10 == 3 {
			return compare.Unparsable
		}
		return ""
	})
}

// A single order that the candidate cannot bear, in each way that a call can fail.
func TestOrdersThatACandidateCannotBear(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(250)
	s := newService(t)
	ways := []struct {
		reason compare.Reason
		do     trouble
	}{
		{compare.Failed, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, "no", http.StatusInternalServerError)
		}},
		{compare.Failed, func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }},
		{compare.Timeout, s.hang},
		{compare.Refused, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, "no", http.StatusBadRequest)
		}},
		{compare.Oversize, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/json")
			for range 40 {
				if _, err := fmt.Fprint(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		}},
		{compare.Unparsable, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"answers":[{"id":"a","lines":[{"line":1,"unit":{"amount":NaN,"scale":3,"currency":"GBP"}}]}]}`)
		}},
		{compare.Unparsable, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { fmt.Fprint(w, "<html>hello</html>") }},
	}
	at := func(n int) int { // which way an order fails, -1 for none
		if n%17 != 11 || n/17 >= len(ways) {
			return -1
		}
		return n / 17
	}
	s.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		for i, way := range ways {
			next = wrapped(holding(func(n int) bool { return at(n) == i }, way.do), next)
		}
		next.ServeHTTP(w, r)
	})
	r := h.caughtUp(1, "--candidate", s.url(), "--from", "start", "--timeout", "500ms")
	h.books(r, func(l *sold) compare.Reason {
		if i := at(l.order); i >= 0 {
			return ways[i].reason
		}
		return ""
	})
}

func wrapped(do trouble, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(w, r, next) })
}

// A candidate that is down as a whole, in each way, is waited for: the shadow says why,
// keeps its offsets, ends at once when it is told to, and loses nothing.
func TestCandidateThatIsDownIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name string
		why  string // that the shadow gives
		do   func(s *service) trouble
	}{
		{"nobody there", "connect", nil},
		{"hangs", "no answer", func(s *service) trouble { return s.hang }},
		{"error", "500", func(*service) trouble {
			return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				http.Error(w, "no", http.StatusInternalServerError)
			}
		}},
		{"unavailable", "503", func(*service) trouble {
			return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				http.Error(w, "no", http.StatusServiceUnavailable)
			}
		}},
		{"redirect", "redirect", func(*service) trouble {
			return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect)
			}
		}},
		{"not found", "404", func(*service) trouble {
			return func(w http.ResponseWriter, r *http.Request, _ http.Handler) { http.NotFound(w, r) }
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.shop.trade(60)
			s := newService(t)
			args := []string{"--candidate", s.url(), "--from", "start", "--timeout", "300ms", "--max-lag", "0", "--live", "127.0.0.1:0"}
			r := h.start(args...)
			live := r.Listening()
			h.eventually("history is compared", func() bool { return h.consumed() == h.shop.orders })
			before, busy := h.judged(), h.goroutines(live)
			if way.do == nil {
				s.down()
			} else {
				s.misbehave(way.do(s))
			}
			h.shop.trade(60)
			var why string
			h.eventually("/readyz says why the shadow waits", func() bool {
				code, body := h.ask(live + "/readyz")
				why = body
				return code == 503 && strings.Contains(body, way.why)
			})
			if _, page := h.ask(live + "/"); !strings.Contains(page, "asked again") && !strings.Contains(page, "breaker is open") {
				t.Errorf("the live page does not say that the shadow waits (%s)", why)
			}
			if _, metrics := h.ask(live + "/metrics"); !strings.Contains(metrics, "banyan_shadow_paused 1") {
				t.Errorf("the metrics do not say that the shadow waits")
			}
			if now := h.goroutines(live); now > busy+100 { // 32 connections have two each
				t.Errorf("%d goroutines while the candidate is down, %d before", now, busy)
			}
			if got := h.judged(); got != before {
				t.Errorf("%d orders were taken in while the candidate was down, %d before", got, before)
			}
			r.StopWithin(quick)
			r = h.start(args...)
			live = r.Listening()
			h.eventually("/readyz says again why", func() bool { code, body := h.ask(live + "/readyz"); return code == 503 && len(body) > 5 })
			if way.do == nil {
				s.up()
			} else {
				s.misbehave(nil)
			}
			h.eventually("all is compared", func() bool { return h.consumed() == h.shop.orders })
			h.eventually("/readyz says ready", func() bool { code, _ := h.ask(live + "/readyz"); return code == 200 })
			r.StopWithin(quick)
			h.books(h.caughtUp(0, args...), nil)
		})
	}
}

// goroutines is how many a run has.
func (h *house) goroutines(live string) (n int) {
	h.t.Helper()
	_, metrics := h.ask(live + "/metrics")
	for line := range strings.Lines(metrics) {
		if text, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			if _, err := fmt.Sscan(text, &n); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	if n == 0 {
		h.t.Errorf("the metrics do not count goroutines")
	}
	return n
}

// consumed is how many orders the shadow has taken in.
func (h *house) consumed() int { h.t.Helper(); return int(h.ledger().Consumed) }

// judged counts those of them of which the candidate had to be asked first: a batch that
// ends behind others, such as orders of gifts only, needs nobody's answer.
func (h *house) judged() int {
	h.t.Helper()
	l := h.ledger()
	n := l.Consumed
	for _, r := range []compare.Reason{compare.Recorded, compare.Released, compare.BeforeStart, compare.Sampled, compare.Free, compare.NoPrice, compare.NotSold, compare.NoLines, compare.Unreadable} {
		n -= l.Excluded[r]
	}
	return int(n)
}

// ledger is the one that is committed, zero before the first batch.
func (h *house) ledger() *compare.Ledger {
	h.t.Helper()
	l := new(compare.Ledger)
	for _, row := range h.query(`SELECT convert_from(data, 'UTF8') FROM shadow_` + h.onlyShadow() + `_v1.state WHERE kind = 'ledger'`) {
		l = ledgerOf(h.t, row)
	}
	return l
}

// A candidate that is slow, loses answers and fails at random: nearly all is compared
// all the same, and the truth lies within the bounds where an order has met its bad
// luck too often.
func TestFlakyCandidate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	lot := lots(t)
	s := newService(t)
	s.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch lot(16) {
		case 0:
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		case 1:
			http.Error(w, "no", http.StatusInternalServerError)
			return
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(&torn{w}, r) })
		case 4:
			<-time.After(time.Duration(lot(400)) * time.Millisecond)
		}
		next.ServeHTTP(w, r)
	})
	h.shop.trade(900) // so that an order or two with bad luck are few of the rarer currency too
	a := h.do("run", "--until-caught-up", "--candidate", s.url(), "--from", "start", "--timeout", "200ms")
	r := h.report(a.Code, "")
	h.sound(r)
	for _, m := range r.Currencies {
		truth := h.shop.expected(nil)[m.Currency]
		got := said(r)[m.Currency]
		if got.Consumed != truth.Consumed || got.Paid != truth.Paid || got.Compared+got.Missing != truth.Compared || got.Missing*20 > truth.Compared {
			t.Errorf("%s: %+v, want about %+v", m.Currency, got, truth)
		}
		if diff := truth.Candidate - truth.Control; diff < units(m.Bounds.Low) || diff > units(m.Bounds.High) {
			t.Errorf("%s: the truth, %d, is not between %s and %s", m.Currency, diff, m.Bounds.Low, m.Bounds.High)
		}
		for why := range got.Excluded {
			if why.Missing() && why != compare.Failed && why != compare.Timeout {
				t.Errorf("%s: lines are excluded as %s", m.Currency, why)
			}
		}
	}
}

// torn is a connection that breaks in the middle of the answer.
type torn struct{ http.ResponseWriter }

func (w *torn) Write(b []byte) (int, error) {
	_, _ = w.ResponseWriter.Write(b[:len(b)/2])
	panic(http.ErrAbortHandler)
}
