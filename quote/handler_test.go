package quote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/money"
)

func source(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parrot charges the list price, declines orders by fax and panics at orders of
// doom. It notices when it is asked from two sides at once.
type parrot struct {
	busy  sync.Mutex
	twice bool
}

func (p *parrot) Name() string  { return "parrot" }
func (p *parrot) Build() string { return "1" }

func (p *parrot) Price(o *Order, into *Answer) error {
	if !p.busy.TryLock() {
		p.twice = true
		return errors.New("one at a time")
	}
	defer p.busy.Unlock()
	switch o.Channel {
	case "fax":
		into.Lines = append(into.Lines, Price{})
		return errors.New("no prices for orders by fax")
	case "doom":
		panic("doom")
	}
	into.AsOf = o.AsOf
	for _, l := range o.Lines {
		price := Price{Line: l.Line, Unit: l.Known.List, Rule: "list"}
		if o.WantTrail {
			price.Trail = []Step{{Rule: "list", From: l.Known.List, To: l.Known.List}}
		}
		into.Lines = append(into.Lines, price)
	}
	return nil
}

func ask(t *testing.T, h http.Handler, method, target, body string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set(ShadowHeader, "1")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	if got := resp.Header.Get(ShadowHeader); got != "1" {
		t.Errorf("%s %s: %s comes back as %q", method, target, ShadowHeader, got)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// orderJSON is an order by a channel, whose text can be changed.
func orderJSON(id, channel string, change ...string) string {
	text := fmt.Sprintf(`{"id":%q,"order":"7","asOf":"1:0/400","placedAt":"2010-12-01T08:26:00Z","committedAt":"2010-12-01T08:26:01Z","channel":%q,"currency":"GBP",`+
		`"lines":[{"line":1,"product":"17","quantity":2,"known":{"list":{"amount":2550,"scale":3,"currency":"GBP"},"demand":{"days7":3}}}],"later":{"field":1}}`, id, channel)
	return strings.NewReplacer(change...).Replace(text)
}

func TestQuotes(t *testing.T) {
	h := Handler(&parrot{}, Options{})
	resp, body := ask(t, h, "POST", "/quotes", `{"orders":[`+orderJSON("a", "account")+`,`+orderJSON("b", "fax")+`]}`)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
	}
	got, err := DecodeResponse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	list := money.Amount{Amount: 2550, Scale: 3, Currency: "GBP"}
	want := Response{Candidate: "parrot", Build: "1", Answers: []Answer{
		{ID: "a", AsOf: "1:0/400", Lines: []Price{{Line: 1, Unit: list, Rule: "list", Trail: []Step{{Rule: "list", From: list, To: list}}}}},
		{ID: "b", Declined: "no prices for orders by fax"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if _, body = ask(t, h, "POST", "/quotes?trail=false", `{"orders":[`+orderJSON("a", "account")+`]}`); strings.Contains(body, "trail") {
		t.Errorf("the trail comes unasked: %s", body)
	}
}

func TestBadRequests(t *testing.T) {
	h := Handler(&parrot{}, Options{})
	one := func(change ...string) string { return `{"orders":[` + orderJSON("a", "account", change...) + `]}` }
	for name, tc := range map[string]struct {
		body string
		want FieldProblem
	}{
		"no JSON":         {"hello", FieldProblem{"body", "", "want JSON: invalid character 'h' looking for beginning of value"}},
		"nothing":         {"", FieldProblem{"body", "", "want JSON: unexpected end of JSON input"}},
		"two values":      {one() + "{}", FieldProblem{"body", "", "want JSON: invalid character '{' after top-level value"}},
		"a list":          {"[]", FieldProblem{"body", "array", "want an object"}},
		"null":            {"null", FieldProblem{"orders", "0 orders", "want 1 to 1000 in one request"}},
		"no orders":       {`{"orders":[]}`, FieldProblem{"orders", "0 orders", "want 1 to 1000 in one request"}},
		"too many orders": {`{"orders":[` + strings.Repeat("{},", MaxOrders) + `{}]}`, FieldProblem{"orders", "1001 orders", "want 1 to 1000 in one request"}},
		"quantity zero":   {one(`"quantity":2`, `"quantity":0`), FieldProblem{"orders[0].lines[0].quantity", "0", "want at least 1 piece"}},
		"quantity null":   {one(`"quantity":2`, `"quantity":null`), FieldProblem{"orders[0].lines[0].quantity", "0", "want at least 1 piece"}},
		"a float": {one(`"quantity":2`, `"quantity":2.0`), FieldProblem{"orders.lines.quantity", "2.0",
			"want a whole number, without fraction or exponent, in 64 bits"}},
		"an exponent": {one(`"amount":2550`, `"amount":255e1`), FieldProblem{"orders.lines.known.list.amount", "255e1",
			"want a whole number, without fraction or exponent, in 64 bits"}},
		"a text for a number": {one(`"line":1`, `"line":"1"`), FieldProblem{"orders.lines.line", "string",
			"want a whole number, without fraction or exponent, in 64 bits"}},
		"too large": {one(`"amount":2550`, `"amount":9223372036854775808`), FieldProblem{"orders.lines.known.list.amount", "9223372036854775808",
			"want a whole number, without fraction or exponent, in 64 bits"}},
		"no amount": {one(`"amount":2550,`, ""), FieldProblem{"orders[0].lines[0].known.list", "",
			`want all of an amount: {"amount": 2550, "scale": 3, "currency": "GBP"}`}},
		"amount null": {one(`"amount":2550,`, `"amount":null,`), FieldProblem{"orders[0].lines[0].known.list", "",
			`want all of an amount: {"amount": 2550, "scale": 3, "currency": "GBP"}`}},
		"below zero":    {one(`"amount":2550`, `"amount":-1`), FieldProblem{"orders[0].lines[0].known.list.amount", "-1", "want 0 or more"}},
		"scale":         {one(`"scale":3`, `"scale":19`), FieldProblem{"orders[0].lines[0].known.list.scale", "19", "want 0 to 18"}},
		"currency":      {one(`,"currency":"GBP","lines"`, `,"currency":"gbp","lines"`), FieldProblem{"orders[0].currency", "gbp", "want a currency of ISO 4217, such as GBP"}},
		"position":      {one("1:0/400", "1:0/400.0"), FieldProblem{"orders[0].asOf", "1:0/400.0", "want generation:LSN, such as 1:0/1A2B3C8"}},
		"time":          {one("08:26:01Z", "8:26"), FieldProblem{"orders[0].committedAt", "2010-12-01T8:26", wantTime}},
		"time missing":  {one(`"placedAt":"2010-12-01T08:26:00Z",`, ""), FieldProblem{"orders[0].placedAt", "", wantTime}},
		"demand":        {one(`"days7":3`, `"days7":-3`), FieldProblem{"orders[0].lines[0].known.demand.days7", "-3", "want 0 or more"}},
		"no product":    {one(`"product":"17"`, `"product":""`), FieldProblem{"orders[0].lines[0].product", "", "want the product's key"}},
		"no id":         {one(`"id":"a"`, `"id":""`), FieldProblem{"orders[0].id", "", "want the id of the event that tells of the order"}},
		"a line twice":  {one(`"lines":[`, `"lines":[{"line":1,"product":"3","quantity":1},`), FieldProblem{"orders[0].lines[1].line", "1", "want another number for each line"}},
		"no lines":      {one(`"lines":[`, `"lines":[],"other":[`), FieldProblem{"orders[0].lines", "0 lines", "want 1 to 10000"}},
		"a long name":   {one(`"order":"7"`, `"order":"`+strings.Repeat("7", 1001)+`"`), FieldProblem{"orders[0].order", strings.Repeat("7", 80) + "...", "want at most 1000 bytes"}},
		"NaN":           {one(`"quantity":2`, `"quantity":NaN`), FieldProblem{"body", "", "want JSON: invalid character 'N' looking for beginning of value"}},
		"lines a text":  {one(`"lines":[`, `"lines":"none","other":[`), FieldProblem{"orders.lines", "string", "want a list"}},
		"known a list":  {one(`"known":{`, `"known":[],"other":{`), FieldProblem{"orders.lines.known", "array", "want an object"}},
		"currency a nr": {one(`,"currency":"GBP","lines"`, `,"currency":3,"lines"`), FieldProblem{"orders.currency", "number", "want a text"}},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := ask(t, h, "POST", "/quotes", tc.body)
			var p Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if resp.StatusCode != 400 || p.Status != 400 || p.Type != "/problems/invalid-request" || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("status %d, %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
			}
			if diff := cmp.Diff([]FieldProblem{tc.want}, p.Errors); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestOtherProblems(t *testing.T) {
	var log bytes.Buffer
	h := Handler(&parrot{}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, tc := range []struct {
		method, target, body string
		status               int
		kind, allow          string
	}{
		{"GET", "/quotes", "", 405, "method-not-allowed", "POST"},
		{"DELETE", "/healthz", "", 405, "method-not-allowed", "GET"},
		{"PUT", "/openapi.json", "", 405, "method-not-allowed", "GET"},
		{"GET", "/nowhere", "", 404, "not-found", ""},
		{"POST", "/quotes?trail=perhaps", "{}", 400, "invalid-request", ""},
		{"POST", "/quotes", strings.Repeat(" ", MaxBody+1), 413, "too-large", ""},
		{"POST", "/quotes", `{"orders":[` + orderJSON("a", "doom") + `]}`, 500, "candidate-failed", ""},
	} {
		resp, body := ask(t, h, tc.method, tc.target, tc.body)
		var p Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s %s: %v: %s", tc.method, tc.target, err, body)
		}
		if resp.StatusCode != tc.status || p.Status != tc.status || p.Type != "/problems/"+tc.kind || p.Title == "" || p.Detail == "" || resp.Header.Get("Allow") != tc.allow {
			t.Errorf("%s %s: status %d, Allow %q: %s", tc.method, tc.target, resp.StatusCode, resp.Header.Get("Allow"), body)
		}
	}
	if !strings.Contains(log.String(), "panic: doom") {
		t.Errorf("the log does not tell of the panic: %s", log.String())
	}
	// It goes on.
	if resp, body := ask(t, h, "POST", "/quotes", `{"orders":[`+orderJSON("a", "account")+`]}`); resp.StatusCode != 200 {
		t.Errorf("after a panic: %d %s", resp.StatusCode, body)
	}
	resp, body := ask(t, h, "POST", "/quotes", strings.Repeat(" ", MaxBody-200)+`{"orders":[`+orderJSON("a", "x")+`]}`)
	if want := 413; len(orderJSON("a", "x"))+13+MaxBody-200 > MaxBody && resp.StatusCode != want {
		t.Errorf("just above the limit: %d %s", resp.StatusCode, body)
	}
}

func TestHealthAndOpenAPI(t *testing.T) {
	h := Handler(&parrot{}, Options{})
	if resp, body := ask(t, h, "GET", "/healthz", ""); resp.StatusCode != 200 || body != `{"build":"1","candidate":"parrot","status":"ok"}`+"\n" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := ask(t, h, "GET", "/openapi.json", ""); resp.StatusCode != 200 || body != string(openAPI) {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(body))
	}
	if resp, _ := ask(t, h, "HEAD", "/healthz", ""); resp.StatusCode != 200 {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
}

// TestCandidateIsAskedByOneAtATime asks from many sides.
func TestCandidateIsAskedByOneAtATime(t *testing.T) {
	p := &parrot{}
	srv := httptest.NewServer(Handler(p, Options{}))
	defer srv.Close()
	body := `{"orders":[` + strings.Repeat(orderJSON("a", "account")+",", 99) + orderJSON("a", "account") + `]}`
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				resp, err := srv.Client().Post(srv.URL+"/quotes", "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Errorf("%d %v", resp.StatusCode, err)
				}
				resp.Body.Close()
			}
		})
	}
	all.Wait()
	if p.twice {
		t.Error("two have asked at once")
	}
}

func BenchmarkHandler(b *testing.B) {
	h := Handler(&parrot{}, Options{})
	body := `{"orders":[` + strings.Repeat(orderJSON("a", "account")+",", 99) + orderJSON("a", "account") + `]}`
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/quotes?trail=false", strings.NewReader(body)))
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/order")
}
