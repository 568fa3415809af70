package parity_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"banyan/compare/structure"
	"banyan/shadow/parity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve is a service on loopback.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// says answers everything with this JSON.
func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body)
	}
}

// paths are n requests for orders.
func paths(n int) iter.Seq2[parity.Request, error] {
	var list []parity.Request
	for i := range n {
		list = append(list, parity.Request{Method: "GET", Path: fmt.Sprintf("/orders/%d", i)})
	}
	return parity.List(list)
}

// run compares two services and checks what holds of every report.
func run(t *testing.T, c parity.Config, source iter.Seq2[parity.Request, error]) *parity.Report {
	t.Helper()
	r, err := parity.Run(t.Context(), c, source)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, r)
	return r
}

func checkSums(t interface {
	Errorf(format string, args ...any)
}, r *parity.Report) {
	sum := r.Compared
	for _, e := range r.Excluded {
		sum += e.Requests
	}
	if sum != r.Requests {
		t.Errorf("compared and excluded are %d, requests %d: %+v", sum, r.Requests, r.Excluded)
	}
}

// fields writes the differing fields so that a table can hold them.
func fields(r *parity.Report) []string {
	var out []string
	for _, f := range r.Fields {
		d := f.Examples[0].Difference
		out = append(out, fmt.Sprintf("%s %s %d: %s | %s", f.Path, f.Cause, f.Requests, d.Control, d.Candidate))
	}
	return out
}

func excluded(r *parity.Report) map[string]int {
	out := map[string]int{}
	for _, e := range r.Excluded {
		out[e.Reason] = e.Requests
	}
	return out
}

func TestEqualServicesDifferInNothing(t *testing.T) {
	control := serve(t, says(`{"id":1,"price":2.50,"total":{"amount":2550,"scale":3,"currency":"GBP"}}`))
	candidate := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, `{ "total":{"currency":"GBP","amount":255,"scale":2}, "price":2.5, "id":1 }`)
	})
	r := run(t, parity.Config{Control: control, Candidate: candidate}, paths(100))
	if !r.OK || r.Compared != 100 || r.Differing != 0 || r.Share != 0 || len(r.Fields) > 0 || r.Latency.Control.Calls != 100 || r.Latency.Candidate.Calls != 100 {
		t.Errorf("report: %+v", r)
	}
}

// Each cause, through real servers, and with control and candidate where they
// belong whoever is asked first.
func TestCausesOfWholeAnswers(t *testing.T) {
	with := func(status int, contentType, body string, more ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			for i := 0; i+1 < len(more); i += 2 {
				w.Header().Set(more[i], more[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	const js = "application/json"
	for _, tc := range []struct {
		name               string
		control, candidate http.HandlerFunc
		want               []string
	}{
		{"the long that became a string", with(200, js, `{"id":17}`), with(200, js, `{"id":"17"}`), []string{`$.id type 2: 17 | "17"`}},
		{"missing", with(200, js, `{"a":1}`), with(200, js, `{}`), []string{`$.a missing 2: 1 | `}},
		{"extra", with(200, js, `{}`), with(200, js, `{"a":1}`), []string{`$.a extra 2:  | 1`}},
		{"null", with(200, js, `{"a":null}`), with(200, js, `{}`), []string{`$.a null-absent 2: null | `}},
		{"order", with(200, js, `[1,2]`), with(200, js, `[2,1]`), []string{`$ order 2: [1,2] | [2,1]`}},
		{"rounding", with(200, js, `[1.25]`), with(200, js, `[1.3]`), []string{`$[*] rounding 2: 1.25 | 1.3`}},
		{"currency", with(200, js, `{"amount":1,"scale":0,"currency":"GBP"}`), with(200, js, `{"amount":1,"scale":0,"currency":"EUR"}`),
			[]string{`$ currency 2: {"amount":1,"currency":"GBP","scale":0} | {"amount":1,"currency":"EUR","scale":0}`}},
		{"zone", with(200, js, `["2011-01-04T10:00:00Z"]`), with(200, js, `["2011-01-04T12:00:00+02:00"]`), []string{`$[*] zone 2: "2011-01-04T10:00:00Z" | "2011-01-04T12:00:00+02:00"`}},
		{"form", with(200, js, `["a b"]`), with(200, js, `["A  B"]`), []string{`$[*] form 2: "a b" | "A  B"`}},
		{"value", with(200, js, `[1]`), with(200, js, `[3]`), []string{`$[*] value 2: 1 | 3`}},
		{"status", with(200, js, `[1]`), with(500, "text/plain", `oh`), []string{`status status 2: 200 | 500`}},
		{"equal faults are equal", with(404, js, `{"e":1}`), with(404, js, `{"e":1}`), nil},
		{"content type", with(200, js, `[1]`), with(200, "text/html; charset=UTF-8", `<html>`),
			[]string{`body not-json 2: "[1]" | "<html>" (at byte 0: invalid character '<' looking for beginning of value)`, `header Content-Type value 2: "application/json" | "text/html; charset=utf-8"`}},
		{"content type only", with(200, js, `[1]`), with(200, "text/plain", `[1]`), []string{`header Content-Type value 2: "application/json" | "text/plain"`}},
		{"candidate is no JSON", with(200, js, `{"a":1}`), with(200, js, `{"a":1`), []string{`body not-json 2: "{\"a\":1}" | "{\"a\":1" (at byte 6: unexpected EOF)`}},
		{"control is no JSON", with(200, js, ``), with(200, js, `{}`), []string{`body not-json 2: (empty) | "{}"`}},
		{"both are no JSON alike", with(200, js, `{`), with(200, js, `{`), nil},
		{"bytes", with(200, "text/plain", "a"), with(200, "text/plain", "b"), []string{`body bytes 2: "a" | "b"`}},
		{"redirect", with(302, "text/plain", "", "Location", "/a"), with(302, "text/plain", "", "Location", "/b"), []string{`header Location value 2: "/a" | "/b"`}},
		{"redirect and not", with(302, js, "", "Location", "/a"), with(200, js, "1"), []string{`status status 2: 302 | 200`}},
		{"a chosen header", with(200, js, "1", "Cache-Control", "no-store"), with(200, js, "1"), []string{`header Cache-Control missing 2: "no-store" | `}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := parity.Config{Control: serve(t, tc.control), Candidate: serve(t, tc.candidate), Headers: []string{"Content-Type", "cache-control"}}
			r := run(t, c, paths(2)) // one with control first, one with candidate first
			if diff := cmp.Diff(tc.want, fields(r)); diff != "" {
				t.Error(diff)
			}
			if r.Compared != 2 || r.OK != (len(tc.want) == 0) || r.Differing != len(tc.want[:min(1, len(tc.want))])*2 {
				t.Errorf("compared %d, differing %d, OK %v", r.Compared, r.Differing, r.OK)
			}
		})
	}
}

// Redirects are compared and never followed, and each may name itself in them.
func TestRedirectsAreAnswers(t *testing.T) {
	var followed atomic.Bool
	here := func(prefix string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/away") {
				followed.Store(true)
			}
			http.Redirect(w, r, "http://"+r.Host+prefix+"/away?x=1", http.StatusFound)
		}
	}
	c := parity.Config{Control: serve(t, here("/api")) + "/api", Candidate: serve(t, here("")), Headers: []string{"Location"}}
	// The body of http.Redirect names the host too: HEAD has none.
	r := run(t, c, parity.List([]parity.Request{{Method: "HEAD", Path: "/a"}, {Method: "HEAD", Path: "/b"}}))
	if !r.OK || r.Compared != 2 || followed.Load() {
		t.Errorf("OK %v, followed %v, fields %v", r.OK, followed.Load(), fields(r))
	}
}

func TestOnlyWhatChangesNothingIsAsked(t *testing.T) {
	var wrong atomic.Int64
	var bodies atomic.Int64
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" && r.Method != "HEAD" && r.Method != "OPTIONS" {
			wrong.Add(1)
		}
		if b, _ := io.ReadAll(r.Body); string(b) == `{"sku": "A"}` && r.Header.Get("Content-Type") == "application/json" {
			bodies.Add(1)
		}
		says("1")(w, r)
	}
	list, err := parity.ParseRequests(strings.NewReader("# all kinds\n\nGET /a\n/b\nHEAD /a\nOPTIONS /a\nPOST /quotes {\"sku\": \"A\"}\nPUT /a\nDELETE /a\nPATCH /a\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := parity.Config{Control: serve(t, h), Candidate: serve(t, h)}
	r := run(t, c, parity.List(list))
	if wrong.Load() > 0 || r.Compared != 4 || excluded(r)[parity.ReasonMethod] != 4 || !r.OK {
		t.Errorf("%d were asked that change something; compared %d, excluded %v", wrong.Load(), r.Compared, excluded(r))
	}
	c.Methods = []string{"POST"}
	if r := run(t, c, parity.List(list)); wrong.Load() != 2 || bodies.Load() != 2 || r.Compared != 1 || excluded(r)[parity.ReasonMethod] != 7 {
		t.Errorf("allowed: %d asked, %d with the body, excluded %v", wrong.Load(), bodies.Load(), excluded(r))
	}
}

func TestHeadersOfRequests(t *testing.T) {
	check := func(shadow string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Shadow") != shadow || r.Header.Get("Authorization") != "Bearer s3cret" || r.Header.Get("Accept") != "application/json" {
				t.Errorf("headers at %q: %v", shadow, r.Header)
			}
			says(`{"who":"`+shadow+`"}`)(w, r)
		}
	}
	control, candidate := serve(t, check("")), serve(t, check("1"))
	c := parity.Config{Control: strings.Replace(control, "//", "//me:s3cret@", 1), Candidate: candidate,
		Send: http.Header{"authorization": {"Bearer s3cret"}, "Accept": {"application/json"}}}
	r := run(t, c, paths(6))
	var out strings.Builder
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil || r.Differing != 6 {
		t.Fatal(err, r.Differing)
	}
	if all := out.String() + string(b); strings.Contains(all, "s3cret") || !strings.Contains(all, "Authorization: ...") || !strings.Contains(all, "Accept: application/json") || !strings.Contains(all, "X-Shadow: 1") {
		t.Errorf("a secret is shown, or too little:\n%s", all)
	}
}

func TestEachIsAskedFirstHalfOfTheTime(t *testing.T) {
	var first [2]atomic.Int64
	var turn atomic.Int64
	h := func(i int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if turn.Add(1)%2 == 1 {
				first[i].Add(1)
			}
			says("1")(w, r)
		}
	}
	run(t, parity.Config{Control: serve(t, h(0)), Candidate: serve(t, h(1)), Concurrency: 1}, paths(10))
	if first[0].Load() != 5 || first[1].Load() != 5 {
		t.Errorf("control was first %d times, candidate %d", first[0].Load(), first[1].Load())
	}
}

func TestNoiseDoesNotCount(t *testing.T) {
	var n atomic.Int64
	h := func(price string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			says(fmt.Sprintf(`{"requestID":%d,"price":%s}`, n.Add(1), price))(w, r)
		}
	}
	c := parity.Config{Control: serve(t, h("1")), Candidate: serve(t, h("1")), Noise: true}
	r := run(t, c, paths(20))
	if !r.OK || r.Differing != 0 || r.Noisy != 20 || len(r.Noise) != 1 || r.Noise[0].Path != "$.requestID" || r.Noise[0].Requests != 20 || r.Noise[0].Excused != 20 {
		t.Errorf("noise: %+v", r)
	}
	// What the control has not with itself counts, at the same field too.
	c.Candidate = serve(t, func(w http.ResponseWriter, r *http.Request) {
		says(fmt.Sprintf(`{"requestID":"%d","price":2}`, n.Add(1)))(w, r)
	})
	r = run(t, c, paths(20))
	if r.Differing != 20 || len(r.Fields) != 2 || r.Fields[0].Path != "$.price" || r.Fields[1].Path != "$.requestID" || r.Fields[1].Cause != structure.Type {
		t.Errorf("beside noise: %v", fields(r))
	}
	c.Noise = false
	c.Candidate = serve(t, h("1"))
	if r := run(t, c, paths(20)); r.Differing != 20 {
		t.Errorf("without asking twice, %d differ", r.Differing)
	}
}

func TestOnlyOnce(t *testing.T) {
	u := serve(t, says("1"))
	list := []parity.Request{{Method: "GET", Path: "/a"}, {Method: "GET", Path: "/b"}, {Method: "GET", Path: "/a"}, {Method: "HEAD", Path: "/a"}, {Method: "GET", Path: "/a"}}
	if r := run(t, parity.Config{Control: u, Candidate: u, Once: true}, parity.List(list)); r.Compared != 3 || excluded(r)[parity.ReasonRepeated] != 2 {
		t.Errorf("compared %d, %v", r.Compared, excluded(r))
	}
}

// Whole keys are in the sample or not, and the report does not depend on how
// many requests are under way.
func TestSameSeedSameReport(t *testing.T) {
	u := serve(t, says(`{"a":1}`))
	odd := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "1") {
			says(`{"a":"1"}`)(w, r)
			return
		}
		says(`{"a":1}`)(w, r)
	})
	records := func(yield func(map[string]string, error) bool) {
		for i := range 3000 {
			if !yield(map[string]string{"key": fmt.Sprint(i / 3), "line": fmt.Sprint(i % 3)}, nil) {
				return
			}
		}
	}
	tmpl, err := parity.ParseTemplate("/orders/{key}/lines/{line}")
	if err != nil {
		t.Fatal(err)
	}
	still := func() time.Time { return time.Time{} }
	var first []byte
	for _, concurrency := range []int{1, 8, 32} {
		c := parity.Config{Control: u, Candidate: odd, Sample: 20, Seed: 7, Concurrency: concurrency, Now: still, Replay: func(r parity.Request) string { return r.String() }}
		r := run(t, c, tmpl.Requests(records))
		if r.Compared%3 != 0 || r.Compared < 450 || r.Compared > 750 || r.Compared+excluded(r)[parity.ReasonSampled] != 3000 {
			t.Errorf("a sample of 20 %% of 3000 is %d", r.Compared)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if diff := cmp.Diff(string(first), string(b)); diff != "" {
			t.Errorf("with %d under way: %s", concurrency, diff)
		}
		c.Seed = 8
		if other := run(t, c, tmpl.Requests(records)); other.Fields[0].Examples[0].Request == r.Fields[0].Examples[0].Request && other.Compared == r.Compared {
			t.Error("another seed draws the same")
		}
	}
}

func TestPerSecond(t *testing.T) {
	u := serve(t, says("1"))
	began := time.Now()
	run(t, parity.Config{Control: u, Candidate: u, PerSecond: 50}, paths(6))
	if took := time.Since(began); took < 80*time.Millisecond {
		t.Errorf("6 requests at 50 a second took %s", took)
	}
}

// Whatever the two answer, every request is compared or excluded, and counted
// once.
func TestEveryRequestIsCounted(t *testing.T) {
	answer := func(side int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch kind := r.URL.Query().Get([]string{"a", "b"}[side]); kind {
			case "gone":
				panic(http.ErrAbortHandler)
			case "huge":
				w.Write(make([]byte, 200))
			case "broken":
				w.Header().Set("Content-Length", "9")
				io.WriteString(w, "1")
			default:
				says(kind)(w, r)
			}
		}
	}
	control, candidate := serve(t, answer(0)), serve(t, answer(1))
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"1", "2", "gone", "huge", "broken", "{"})
		type ask struct{ method, a, b string }
		asks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ask {
			return ask{rapid.SampledFrom([]string{"GET", "GET", "GET", "POST"}).Draw(t, "method"), kind.Draw(t, "a"), kind.Draw(t, "b")}
		}), 0, 20).Draw(t, "asks")
		var list []parity.Request
		fail := func(s string) bool { return s == "gone" || s == "huge" || s == "broken" }
		compared, differing := 0, 0
		for i, q := range asks {
			list = append(list, parity.Request{Method: q.method, Path: fmt.Sprintf("/%d?a=%s&b=%s", i, strings.Replace(q.a, "{", "%7B", 1), strings.Replace(q.b, "{", "%7B", 1))})
			if q.method == "GET" && !fail(q.a) && !fail(q.b) {
				if compared++; q.a != q.b {
					differing++
				}
			}
		}
		r, err := parity.Run(context.Background(), parity.Config{Control: control, Candidate: candidate, Limit: 100, Noise: rapid.Bool().Draw(t, "noise"), Concurrency: rapid.IntRange(1, 5).Draw(t, "concurrency")}, parity.List(list))
		if err != nil {
			t.Fatal(err)
		}
		checkSums(t, r)
		if r.Requests != len(list) || r.Compared != compared || r.Differing != differing {
			t.Fatalf("requests %d of %d, compared %d of %d, differing %d of %d", r.Requests, len(list), r.Compared, compared, r.Differing, differing)
		}
	})
}
