package parity_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"banyan/compare/structure"
	"banyan/shadow/parity"
)

var update = flag.Bool("update", false, "write the golden files")

func TestWorstComeFirst(t *testing.T) {
	price := func(f func(n int) int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var n int
			fmt.Sscanf(r.URL.Path, "/orders/%d", &n)
			says(fmt.Sprintf(`{"lines":[{"price":%d},{"price":%d}]}`, f(n), f(0)))(w, r)
		}
	}
	c := parity.Config{Control: serve(t, price(func(int) int { return 0 })), Candidate: serve(t, price(func(n int) int { return n * 7 % 10 })), Examples: 2}
	r := run(t, c, paths(10))
	f := r.Fields[0]
	if f.Path != "$.lines[*].price" || f.Requests != 9 || f.Differences != 9 || len(f.Examples) != 2 || f.Examples[0].Request != "GET /orders/7" || f.Examples[1].Request != "GET /orders/4" {
		t.Errorf("%+v", f)
	}
}

// Latencies are of the side they are said to be of, and exact.
func TestLatencies(t *testing.T) {
	var clock atomic.Int64
	takes := func(d func(n int64) time.Duration) http.HandlerFunc {
		var n atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) {
			clock.Add(int64(d(n.Add(1))))
			says("1")(w, r)
		}
	}
	c := parity.Config{Concurrency: 1, Now: func() time.Time { return time.Unix(0, clock.Load()) },
		Control:   serve(t, takes(func(n int64) time.Duration { return time.Duration(n) * time.Millisecond })),
		Candidate: serve(t, takes(func(int64) time.Duration { return 7 * time.Second }))}
	r := run(t, c, paths(200))
	if want := (parity.Latency{Calls: 200, P50: 100_000, P95: 190_000, P99: 198_000, Max: 200_000}); r.Latency.Control != want {
		t.Errorf("control: %+v, want %+v", r.Latency.Control, want)
	}
	if want := (parity.Latency{Calls: 200, P50: 7e6, P95: 7e6, P99: 7e6, Max: 7e6}); r.Latency.Candidate != want {
		t.Errorf("candidate: %+v, want %+v", r.Latency.Candidate, want)
	}
}

func TestManyFieldsAreTold(t *testing.T) {
	var n atomic.Int64
	h := func(w http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		for range 100 {
			fmt.Fprintf(&b, `,"k%d":1`, n.Add(1))
		}
		says("{"+b.String()[1:]+"}")(w, r)
	}
	r := run(t, parity.Config{Control: serve(t, h), Candidate: serve(t, h)}, paths(50))
	if len(r.Fields) > 2002 || r.Differing != 50 {
		t.Errorf("%d fields, %d differ", len(r.Fields), r.Differing)
	}
	for _, f := range r.Fields {
		if f.Requests > 50 {
			t.Errorf("%s differs in %d of 50 requests", f.Path, f.Requests)
		}
	}
}

// Golden: who is control and who candidate, in every part of the report.
func TestLabels(t *testing.T) {
	h := func(who string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/orders/3" {
				w.WriteHeader(map[string]int{"control": 404, "candidate": 500}[who])
				return
			}
			says(fmt.Sprintf(`{"of":"%s","lines":[{"price":%s}],"only-%s":true}`, who, map[string]string{"control": "12.75", "candidate": `"12.75"`}[who], who))(w, r)
		}
	}
	control, candidate := serve(t, h("control")), serve(t, h("candidate"))
	c := parity.Config{Control: control, Candidate: candidate, MaxDiffering: 50, Noise: true, Examples: 2, Now: func() time.Time { return time.Time{} },
		Structure: structure.Options{Ignore: []string{"$.updatedAt", "$.of-*"}}}
	r := run(t, c, paths(5))
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	hosts := strings.NewReplacer(control, "http://control.example", candidate, "http://candidate.example")
	golden(t, "labels.txt", hosts.Replace(text.String()))
	golden(t, "labels.json", hosts.Replace(string(asJSON))+"\n")
	atMost80(t, text.String())
}

func atMost80(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(line) > 81 && !strings.Contains(line, "shadow parity") && !strings.HasPrefix(line, "  GET ") {
			t.Errorf("longer than 80 columns: %s", line)
		}
	}
}

// Large numbers and long, hostile texts keep the table in its columns.
func TestTextOfLargeNumbers(t *testing.T) {
	const many = 12_345_678
	long := strings.Repeat("ü", 500) + "\x1b[31m\n"
	d := structure.Difference{Path: "$." + long, General: "$." + long, Cause: structure.Null, Control: long, Candidate: long}
	r := parity.Report{
		Control: "http://a", Candidate: "http://b", Requests: many, Compared: many, Differing: many, Share: 100, Sample: 1, Seed: 1 << 60, Why: []string{strings.Repeat("because it is so ", 30)}, NoiseAsked: true, Noisy: many,
		Excluded: []parity.Exclusion{{Reason: "candidate-unreachable", Requests: many, Example: "GET /" + long, Detail: strings.Repeat("no route to it ", 99)}},
		Fields:   []parity.Field{{Path: d.General, Cause: d.Cause, Requests: many, Share: 0.0001, Differences: many, Examples: []parity.Example{{Request: "GET /" + long, Difference: d, Replay: "shadow parity " + long}}}},
		Noise:    []parity.Noise{{Path: d.General, Cause: d.Cause, Requests: many, Share: 12.345, Excused: many}},
		Rules:    []structure.Use{{Rule: "ignore $." + long, Hid: many}},
		Tokens:   parity.Tokens{Equal: many, Apart: many, ApartDiffering: many, Unknown: many, Again: many, Settled: many},
	}
	r.Latency.Control = parity.Latency{Calls: many, P50: 1, P95: 60_000_000, P99: 59_999_999}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	atMost80(t, text.String())
	if strings.ContainsAny(text.String(), "\x1b") {
		t.Error("an answer can write to the terminal")
	}
	golden(t, "large.txt", text.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update writes it anew): %s", file, diff)
	}
}
