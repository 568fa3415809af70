package main_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"banyan/cmd/internal/clitest"
	"banyan/compare"
	"banyan/quote"
)

// oneClearError wants nothing on stdout, and the program's name before what is wrong.
func oneClearError(t *testing.T, a clitest.Answer) {
	t.Helper()
	if !strings.HasPrefix(a.Err, "shadow: ") || a.Out != "" || strings.Contains(a.Err, "goroutine ") {
		t.Errorf("want one clear error, got %s", a)
	}
}

func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	h := bare(t)
	for _, name := range []string{"run", "report", "replay", "aa", "parity", "list", "forget", "embedded"} {
		if a := h.must(0, name, "--help"); !strings.Contains(a.Out, "Usage:") {
			t.Errorf("no help: %s", a)
		}
	}
	if a := h.must(0, "--help"); !strings.Contains(a.Out, "Exit codes") || !strings.Contains(a.Out, "shadow report --out") {
		t.Errorf("the help has neither exit codes nor examples: %s", a)
	}
}

// Each fault is told with its flag, its value and the way out, before anything is
// connected to.
func TestWrongInputIsTold(t *testing.T) {
	t.Parallel()
	h := bare(t)
	settings := h.write("settings.yaml", "minDays: 0\nminClusters: 3\nseed: 1\n")
	mapping := h.write("mapping.yaml", "orders: {placed: [], topic: shadow.orders}\n")
	unknown := h.write("unknown.yaml", "maxRize: 3\n")
	rules := h.write("rules.yaml", "rules:\n  - {name: a, kind: nonsense}\n")
	run := func(args ...string) []string {
		return append([]string{"run", "--candidate", "builtin:demand"}, args...)
	}
	for _, c := range []struct {
		args []string
		say  []string
	}{
		{[]string{"nothing"}, []string{`"nothing"`}},
		{[]string{"run"}, []string{"--candidate http://host/quotes", "builtin:demand", "--candidate-topic"}},
		{[]string{"run", "extra"}, []string{`"extra"`}},
		{run("--nothing"), []string{"--nothing"}},
		{run("-o", "xml"), []string{"xml", "text or json"}},
		{[]string{"run", "--candidate", "builtin:nope"}, []string{"builtin:nope", "demand", "control"}},
		{[]string{"run", "--candidate", "ftp://x/y"}, []string{"ftp://x/y", "http"}},
		{[]string{"run", "--candidate", "localhost:9000"}, []string{"http://host:port/quotes"}},
		{run("--candidate-topic", "shadow.prices.a"), []string{"--candidate-topic shadow.prices.a", "one of them"}},
		{[]string{"run", "--candidate-topic", "shop.prices"}, []string{`"shop.prices"`, `begins with "shadow."`}},
		{[]string{"run", "--candidate-topic", "shadow."}, []string{`begins with "shadow."`}},
		{run("--from", "yesterday"), []string{"--from", "yesterday", "start or now"}},
		{run("--sample", "0"), []string{"--sample 0", "more than 0"}},
		{run("--sample", "101"), []string{"--sample 101", "at most 100"}},
		{run("--timeout", "0s"), []string{"--timeout 0s", "such as 1s"}},
		{run("--rate", "-1"), []string{"--rate -1", "0 for no limit"}},
		{run("--max-lag", "-1m"), []string{"--max-lag -1m", "0 for never"}},
		{run("--out", "x"), []string{"--out x", "--until-caught-up", "shadow report"}},
		{run("--name", "No Name"), []string{"--name No Name", "small letters"}},
		{run("--name", "my_orders"), []string{"--name my_orders", "another one"}},
		{run("--name", "a_v1"), []string{"--name a_v1", "versions"}},
		{run("--settings", "nowhere.yaml"), []string{"--settings", "nowhere.yaml"}},
		{run("--settings", settings), []string{"minDays: 0", "at least 1", "minClusters: 3", "at least 30"}},
		{run("--settings", unknown), []string{"unknown.yaml", "maxRize"}},
		{run("--mapping", mapping), []string{"orders.placed", "shadow.orders"}},
		{run("--mapping", "nowhere.yaml"), []string{"--mapping", "nowhere.yaml"}},
		{run("--rules", rules), []string{"--rules", "nonsense"}},
		{run("--rules", "nowhere.yaml"), []string{"--rules", "nowhere.yaml"}},
		{[]string{"replay"}, []string{"arg"}},
		{[]string{"replay", "nonsense"}, []string{`"nonsense"`, "topic/partition/offset"}},
		{[]string{"replay", "shop.orders/-1/4"}, []string{"shop.orders/-1/4", "topic/partition/offset"}},
		{[]string{"replay", "shop.orders/1/x"}, []string{"shop.orders/1/x"}},
		{[]string{"forget"}, []string{"arg"}},
		{[]string{"list", "extra"}, []string{`"extra"`}},
		{[]string{"report", "--db", "postgres://host:port:port/db"}, []string{"--db"}},
		{[]string{"parity"}, []string{"--from"}},
		{[]string{"parity", "--from", "x", "--control", "shop", "--candidate", "http://x"}, []string{"shop"}},
		{[]string{"parity", "--from", "x", "--send", "nonsense"}, []string{"--send", "nonsense"}},
		{[]string{"parity", "--from", "x", "--token", "nonsense"}, []string{"--token", "nonsense"}},
		{[]string{"parity", "--from", "nowhere.txt", "--control", "http://x", "--candidate", "http://y"}, []string{"--from", "nowhere.txt"}},
		{[]string{"parity", "--replay", "GET", "--control", "http://x", "--candidate", "http://y"}, []string{"--replay"}},
	} {
		a := h.must(2, c.args...)
		oneClearError(t, a)
		for _, want := range c.say {
			if !strings.Contains(a.Err, want) {
				t.Errorf("it does not say %q: %s", want, a)
			}
		}
	}
	a := h.must(2, "run", "--candidate", "builtin:nope", "--from", "x", "--sample", "200", "--timeout", "-1s", "--out", "d", "--name", "A", "--settings", settings, "--mapping", mapping)
	for _, want := range []string{"builtin:nope", "--from", "--sample 200", "--timeout -1s", "--out d", "--name A", "minDays", "minClusters", "orders.placed", "shadow.orders"} {
		if !strings.Contains(a.Err, want) {
			t.Errorf("not all faults are told at once, %q is missing: %s", want, a)
		}
	}
}

// A year of history at once, and all that one may ask of it then.
func TestYearAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.src.Tick = 105 * time.Minute
	h.shop.repeats = 100
	for range 10 {
		h.shop.trade(500)
	}
	s := newService(t)
	args := []string{"--name", "dearer", "--candidate", s.url()}
	r := h.caughtUp(0, append(args, "--from", "start")...)
	h.books(r, nil)
	if r.Window.Days < 360 {
		t.Errorf("a year has %d days", r.Window.Days)
	}
	// Another one, in process, beside it.
	h.must(0, "run", "--until-caught-up", "--candidate", "builtin:demand", "--out", "first")
	h.must(0, "report", "--name", "demand", "--out", "second")
	h.must(0, "report", "--name", "demand", "--out", "third", "--seed", "1")
	for _, name := range []string{"report.html", "report.json", "report.md", "lines.csv"} {
		first, second := h.read("second", name), h.read("third", name)
		if first != second || first != h.read("first", name) || len(first) < 100 {
			t.Errorf("%s is another one the second time, or empty", name)
		}
	}
	h.shut("first")
	demand := h.report(0, "demand")
	h.sound(demand)
	h.linesAddUp(demand, "first")
	if a := h.must(2, "report"); !strings.Contains(a.Err, "dearer, demand") {
		t.Errorf("it does not say which shadows there are: %s", a)
	}
	if a := h.must(0, "list"); !strings.Contains(a.Out, "builtin:demand") || !strings.Contains(a.Out, s.addr) {
		t.Errorf("list: %s", a)
	}
	h.replays(s)
	h.noise(s)
	// Another candidate under the same name.
	if a := h.must(1, "run", "--until-caught-up", "--candidate", s.url(), "--name", "demand"); !strings.Contains(a.Err, "--name of its own") || !strings.Contains(a.Err, "shadow forget demand") {
		t.Errorf("another candidate: %s", a)
	}
	if a := h.must(1, "run", "--until-caught-up", "--candidate", "builtin:demand", "--sample", "50"); !strings.Contains(a.Err, "sample") {
		t.Errorf("another sample: %s", a)
	}
	if a := h.must(1, "forget", "nobody"); !strings.Contains(a.Err, "shadow list") {
		t.Errorf("forget: %s", a)
	}
	h.must(0, "forget", "demand")
	h.must(1, "report", "--name", "demand")
	if left := h.query(`SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'shadow_demand%'`); len(left) > 0 {
		t.Errorf("forgotten, and still there: %v", left)
	}
	again := h.caughtUp(0, "--name", "demand", "--candidate", "builtin:demand")
	if again.Window.Orders != demand.Window.Orders || again.Currencies[0].Headline != demand.Currencies[0].Headline {
		t.Error("made anew it says something else")
	}
	h.books(h.report(0, "dearer"), nil)
}

// shut wants a folder of reports that names no customer.
func (h *house) shut(dir string) {
	h.t.Helper()
	files, err := os.ReadDir(h.dir + "/" + dir)
	if err != nil || len(files) != 4 {
		h.t.Errorf("%d files in the folder of reports (%v)", len(files), err)
	}
	if html := h.read(dir, "report.html"); strings.Contains(html, "<script src") || strings.Contains(html, "customer_id") {
		h.t.Error("the page loads something, or names a customer")
	}
}

// linesAddUp wants lines.csv to have each line, and its sums to be the report's.
func (h *house) linesAddUp(r *compare.Report, dir string) {
	h.t.Helper()
	rows, err := csv.NewReader(strings.NewReader(h.read(dir, "lines.csv"))).ReadAll()
	if err != nil {
		h.t.Fatal(err)
	}
	col := func(name string) int {
		i := slices.Index(rows[0], name)
		if i < 0 {
			h.t.Fatalf("lines.csv has no column %s: %v", name, rows[0])
		}
		return i
	}
	type sums struct{ lines, control, candidate, diff, excluded int64 }
	got, want := map[string]sums{}, map[string]sums{}
	for _, row := range rows[1:] {
		c := row[col("currency")]
		if c == "" {
			continue // an order without lines
		}
		n := got[c]
		if row[col("excluded")] != "" {
			n.excluded++
		} else {
			n.lines++
			n.control += parseUnits(h.t, row[col("control_total")])
			n.candidate += parseUnits(h.t, row[col("candidate_total")])
			n.diff += parseUnits(h.t, row[col("diff")])
		}
		got[c] = n
	}
	for currency, books := range said(r) {
		want[currency] = sums{books.Compared, books.Control, books.Candidate, books.Candidate - books.Control, books.Consumed - books.Compared}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		h.t.Errorf("lines.csv sums up to %v, the report says %v", got, want)
	}
}

// parseUnits reads a decimal in compare.Units.
func parseUnits(t *testing.T, text string) int64 {
	t.Helper()
	sign := int64(1)
	if strings.HasPrefix(text, "-") {
		sign, text = -1, text[1:]
	}
	whole, rest, _ := strings.Cut(text, ".")
	var n int64
	if _, err := fmt.Sscan(strings.TrimLeft(whole+(rest + "0000")[:4], "0")+" ", &n); err != nil && strings.Trim(whole+rest, "0") != "" {
		t.Fatalf("no amount: %q", text)
	}
	return sign * n
}

// replays does comparisons again: in process by itself, over HTTP where the candidate
// is named.
func (h *house) replays(s *service) {
	h.t.Helper()
	places := func(name string) []string {
		return h.query(`SELECT 'shop.orders/' || part || '/' || off FROM shadow_` + name + `_v1.journal ORDER BY md5(part || '/' || off) LIMIT 3`)
	}
	verdict := func(code int, args ...string) string {
		var v struct{ Verdict string }
		a := h.must(code, append([]string{"replay", "-o", "json"}, args...)...)
		if err := json.Unmarshal([]byte(a.Out), &v); err != nil {
			h.t.Errorf("%v: %s", err, a)
		}
		return v.Verdict
	}
	for _, at := range places("demand") {
		if v := verdict(0, "--name", "demand", at); v != "same" {
			h.t.Errorf("replay of %s: %s", at, v)
		}
	}
	for _, at := range places("dearer") {
		if v := verdict(0, "--name", "dearer", at, "--candidate", s.url()); v != "same" {
			h.t.Errorf("replay of %s over HTTP: %s", at, v)
		}
	}
	// A candidate that has changed its mind.
	s.misbehave(eachAnswer(func(_ *quote.Order, a quote.Answer) []any {
		for i := range a.Lines {
			a.Lines[i].Unit.Amount++
		}
		return []any{a}
	}))
	at := h.query(`SELECT 'shop.orders/' || part || '/' || off FROM shadow_dearer_v1.journal WHERE convert_from(data, 'UTF8') LIKE '%"rule":"dearer"%' ORDER BY part, off LIMIT 1`)[0]
	if v := verdict(1, "--name", "dearer", at, "--candidate", s.url()); v != "differs" {
		h.t.Errorf("replay of %s with another mind: %s", at, v)
	}
	s.misbehave(nil)
	if v := verdict(0, "--name", "dearer", at); v != "same" { // as a report's own line asks
		h.t.Errorf("replay of %s with the candidate where it was: %s", at, v)
	}
	for _, at := range []string{"shop.orders/0/999999", "shop.orders/77/0"} {
		if a := h.must(1, "replay", "--name", "demand", at); !strings.Contains(a.Err, at) {
			h.t.Errorf("replay of what is not there: %s", a)
		}
	}
	if a := h.must(2, "replay", "--name", "demand", "shop.prices/0/1"); !strings.Contains(a.Err, "shop.orders") {
		h.t.Errorf("replay of a price: %s", a)
	}
	if a := h.must(1, "replay", "--name", "nobody", at); !strings.Contains(a.Err, "no such shadow") {
		h.t.Errorf("replay of no shadow: %s", a)
	}
}

// noise wants control against control to be zero, and a candidate that contradicts
// itself to be found.
func (h *house) noise(s *service) {
	h.t.Helper()
	for _, args := range [][]string{{"--name", "demand"}, {"--name", "dearer", "--candidate", s.url()}} {
		var n compare.Noise
		a := h.must(0, append([]string{"aa", "-o", "json"}, args...)...)
		if err := json.Unmarshal([]byte(a.Out), &n); err != nil || n.Lines == 0 || n.Differ != 0 || n.RepeatLines == 0 || n.RepeatDiffer != 0 {
			h.t.Errorf("%v %+v: %s", err, n, a)
		}
	}
	if r := h.report(0, "demand"); r.Noise == nil || r.Noise.Differ != 0 || r.Verdict.Rung == compare.Unhealthy {
		h.t.Errorf("the report does not know of the noise floor: %+v %v", r.Noise, r.Verdict)
	}
	var calls atomic.Int64
	s.misbehave(eachAnswer(func(_ *quote.Order, a quote.Answer) []any {
		for i := range a.Lines {
			a.Lines[i].Unit.Amount += calls.Add(1) // and so never the same twice
		}
		return []any{a}
	}))
	if a := h.must(1, "aa", "--name", "dearer", "--candidate", s.url()); !strings.Contains(a.Out, "differ") {
		h.t.Errorf("a candidate that contradicts itself: %s", a)
	}
	if r := h.report(1, "dearer"); r.Noise == nil || r.Noise.RepeatDiffer == 0 {
		h.t.Errorf("the report does not know that the candidate contradicts itself: %+v", r.Noise)
	}
	s.misbehave(nil)
	h.must(0, "aa", "--name", "dearer", "--candidate", s.url())
}

// While a run goes on: reports, the page, metrics, and what is refused.
func TestBesideARun(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := h.start("--candidate", "builtin:demand", "--live", "127.0.0.1:0")
	live := r.Listening()
	h.shop.underLoad(func() {
		for range 4 {
			h.consumes()
			if r := h.report(0, ""); !r.Reconciliation.OK || r.Reconciliation.Projection.State == "differs" {
				t.Errorf("a report beside a run: %+v", r.Reconciliation)
			}
		}
		h.must(0, "list")
		if a := h.must(1, "forget", "demand"); !strings.Contains(a.Err, "stop it first") {
			t.Errorf("a shadow is forgotten while it runs: %s", a)
		}
		if code, page := h.ask(live + "/"); code != 200 || !strings.Contains(page, "demand") {
			t.Errorf("the live page: %d %.500s", code, page)
		}
		_, metrics := h.ask(live + "/metrics")
		if problems, err := promlint.New(strings.NewReader(metrics)).Lint(); err != nil || len(problems) > 0 {
			t.Errorf("promlint: %v, %v", problems, err)
		}
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/nothing": 404} {
			h.eventually(fmt.Sprintf("%s says %d", path, want), func() bool { code, _ := h.ask(live + path); return code == want })
		}
	})
	h.eventually("all is compared", func() bool { return h.consumed() == h.shop.orders })
	r.StopWithin(quick)
	h.asClean("demand", "--candidate", "builtin:demand")
	h.must(0, "forget", "demand")
}
