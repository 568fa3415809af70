package main_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/segmentio/kafka-go"

	"banyan/cmd/internal/clitest"
)

// bare is a house without servers, for commands that need none.
func bare(t *testing.T) *house { return &house{t: t, dir: t.TempDir()} }

func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	h := bare(t)
	seen := 0
	var walk func(path []string)
	walk = func(path []string) {
		help := h.must(0, append(slices.Clone(path), "--help")...).Out
		seen++
		if !strings.Contains(help, "Examples:\n  cdc") {
			t.Errorf("cdc %s --help has no example:\n%s", strings.Join(path, " "), help)
		}
		_, list, group := strings.Cut(help, "Available Commands:\n")
		if !group && !regexp.MustCompile(`--output json|prints \{|\(-o json\)`).MatchString(help) && !slices.Contains(path, "embedded") {
			t.Errorf("cdc %s --help does not say what --output json prints:\n%s", strings.Join(path, " "), help)
		}
		if !group {
			return
		}
		list, _, _ = strings.Cut(list, "\n\n")
		for l := range strings.Lines(list) {
			if name := strings.Fields(l)[0]; name != "help" && name != "completion" {
				walk(append(slices.Clone(path), name))
			}
		}
	}
	walk(nil)
	if seen < 20 {
		t.Errorf("only %d commands were seen", seen)
	}
}

func TestWrongInputIsToldAllAtOnce(t *testing.T) {
	t.Parallel()
	h := bare(t)
	for _, args := range [][]string{{"nothing"}, {"doctor", "--nothing"}, {"doctor", "extra"}, {"doctor", "-o", "xml"}, {"doctor"}, {"run"}, {"tail"}, {"tail", "x", "--from", "yesterday"},
		{"why-not", "--table", "orders"}, {"explain", "no id"}, {"explain"}, {"parked", "release"}, {"parked", "show"}, {"setup", "--apply", "--print-sql"}, {"verify", "--wait", "soon"},
		{"doctor", "--source", "postgres://host:port:port/db"}, {"doctor", "--source", "not a url"}} {
		a := h.must(2, args...)
		if lines := strings.Count(a.Err, "\n"); lines != 1 || !strings.HasPrefix(a.Err, "cdc: ") || a.Out != "" {
			t.Errorf("want one clear error, got %s", a)
		}
	}
	h.env = []string{"BANYAN_OUTPUT=xml", "BANYAN_VERBOSE=perhaps"}
	if a := h.must(2, "doctor"); !strings.Contains(a.Err, "BANYAN_VERBOSE") || !strings.Contains(a.Err, "want text or json") {
		t.Errorf("not both faults of the environment are told: %s", a)
	}
	h.env = nil
	h.write(`version: 1
source: {name: "Sh op", url: "postgres://x@127.0.0.1:1/x"}
unknown: perhaps
colour: red
tables:
  orders: {columns: []}
aggregates:
  order:
    table: public.orders
    events:
      - {type: placed, on: upsert, when: "new.status =="}
`)
	a := h.must(2, "status")
	for _, want := range []string{"banyan.yaml:2:", "banyan.yaml:3:", "banyan.yaml:4:", "banyan.yaml:6:", "banyan.yaml:11:", `"perhaps"`, `"upsert"`} {
		if !strings.Contains(a.Err, want) {
			t.Errorf("%q is not told: %s", want, a)
		}
	}
}

func TestSurroundingsThatFail(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	h.must(0, "run", "--until-caught-up")
	const away = clitest.Away
	source, store := "postgres://who@"+away+"/x", "postgres://who@"+away+"/x"
	for _, args := range [][]string{
		{"doctor", "--source", source}, {"preview", "--table", "orders", "--source", source}, {"setup", "--source", source}, {"run", "--source", source}, {"verify", "--source", source}, {"teardown", "--source", source},
		{"status", "--store", store}, {"verify", "--store", store}, {"run", "--store", store}, {"parked", "list", "--store", store}, {"why-not", "--table", "orders", "--key", "1", "--store", store}, {"teardown", "--store", store},
		{"tail", name + ".orders", "--from", "start", "--brokers", away}, {"verify", "--brokers", away}, {"explain", name + "/Order/1@1:0/1.0", "--brokers", away},
	} {
		a := h.must(3, args...)
		if !strings.Contains(a.Err, away) {
			t.Errorf("the error does not name the address: %s", a)
		}
	}
	// Status answers all the same, and says what it could not see.
	var st struct{ Problems []string }
	h.decode(0, &st, "status", "--source", source, "--brokers", away)
	if len(st.Problems) != 2 {
		t.Errorf("status names the problems %q, want two", st.Problems)
	}
	h.must(2, "tail", name+".nothing", "--from", "start")
}

func TestNoPasswordInAnyOutput(t *testing.T) {
	t.Parallel()
	const secret, written = "s3cr:et/p@ss word", "s3cr%3Aet%2Fp%40ss%20word"
	h := newHouse(t, shopSQL)
	name := sourceName()
	t.Cleanup(func() { h.dropRole(name) })
	file := filepath.Join(h.dir, "pw")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.url = h.source.UserURL("postgres", secret)
	h.env = []string{"BANYAN_STORE=" + h.store.UserURL("postgres", secret)} // the last one counts
	do := func(code int, args ...string) {
		t.Helper()
		a := h.must(code, args...)
		for _, s := range []string{secret, written, "s3cr", "p@ss", "p%40ss"} {
			if strings.Contains(a.Out+a.Err, s) {
				t.Errorf("%q stands in the output of cdc %v: %s", s, args, a)
			}
		}
	}
	do(0, "init", "--name", name, "-v")
	b, err := os.ReadFile(filepath.Join(h.dir, "banyan.yaml"))
	if err != nil || strings.Contains(string(b), "s3cr") {
		t.Errorf("the draft holds the password, or %v", err)
	}
	for _, format := range []string{"text", "json"} {
		o := []string{"-v", "-o", format}
		with := func(args ...string) []string { return append(args, o...) }
		do(0, with("setup", "--print-sql")...)
		do(0, with("setup", "--apply", "--role-password-file", file)...)
		do(0, with("doctor")...)
		do(0, with("preview", "--table", "orders")...)
		do(0, with("run", "--until-caught-up")...)
		h.work([]string{`UPDATE orders SET total = total + 1 WHERE id = 1`})
		do(0, with("run", "--until-caught-up")...)
		do(0, with("status")...)
		do(0, with("verify", "--wait", "2m")...)
		do(0, with("parked", "list")...)
		do(0, with("tail", name+".orders", "--from", "start")...)
		do(0, with("why-not", "--table", "orders", "--key", "1")...)
		do(0, with("teardown")...)
		do(0, with("embedded", "status")...)
		// What goes wrong is told without it too.
		const away = clitest.Away
		for _, url := range []string{"postgres://me:" + written + "@" + away + "/x", "postgres://me:" + written + "@" + away + "/x?sslmode=nonsense", "host=127.0.0.1 port=1 user=me password='" + secret + "'",
			"postgres://me@" + away + "/x?password=" + written, "postgres://me:" + secret + "@" + away + ":bad:port/x", h.source.UserURL("nobody_like_that", secret)} {
			for _, args := range [][]string{{"doctor", "--source", url}, {"run", "--source", url}, {"status", "--store", url}, {"setup", "--owner", url}} {
				a := h.cdc(with(args...)...)
				if a.Code != 2 && a.Code != 3 {
					t.Errorf("want exit 2 or 3 from %s", a)
				}
				for _, s := range []string{"s3cr", "p@ss", "p%40ss", "ss word"} {
					if strings.Contains(a.Out+a.Err, s) {
						t.Errorf("%q stands in the output of cdc %s %s <URL>: %s%s", s, args[0], args[1], a.Out, a.Err)
						break
					}
				}
			}
		}
	}
	r := h.start("-v")
	url := r.Listening()
	r.AwaitNext("streaming")
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if _, body := get(t, url+path); strings.Contains(body, "s3cr") {
			t.Errorf("the password stands in %s", path)
		}
	}
	r.Stop()
	if strings.Contains(r.Log(), "s3cr") {
		t.Errorf("the password stands in the log:\n%s", r.Log())
	}
	if dump := h.dump(h.store.URL); strings.Contains(dump, "s3cr") {
		t.Error("the password lies in the store")
	}
}

// get asks and returns status and body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	r := h.start()
	url := r.Listening()
	r.AwaitNext("streaming")
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Errorf("it listens on %s, not on loopback", url)
	}
	if code, body := get(t, url+"/healthz"); code != 200 {
		t.Errorf("/healthz says %d %s", code, body)
	}
	h.eventually("/readyz says 200", func() bool { code, _ := get(t, url+"/readyz"); return code == 200 })
	h.sayGeneration(url, name, 1)
	h.work([]string{`UPDATE orders SET status = 'paid' WHERE id = 4`})
	h.status(0)
	_, body := get(t, url+"/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
	for _, want := range []string{`banyan_source_connected{source="` + name + `"} 1`, `banyan_relay_lag_events{source="` + name + `"} 0`, "banyan_capture_lag_bytes", "banyan_relay_lag_seconds", "banyan_outbox_limit_bytes"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	h.broker.Stop(t)
	h.work([]string{`UPDATE orders SET status = 'shipped' WHERE id = 4`})
	var why string
	h.eventually("/readyz says that Kafka is away", func() bool {
		code, text := get(t, url+"/readyz")
		why = text
		return code == 503 && strings.Contains(text, "Kafka")
	})
	t.Log(why)
	if code, _ := get(t, url+"/healthz"); code != 200 {
		t.Errorf("/healthz says %d while Kafka is away", code)
	}
	h.broker.Start(t)
	h.eventually("/readyz says 200 again", func() bool { code, _ := get(t, url+"/readyz"); return code == 200 })
	r.Stop()
}

// sayGeneration wants the run at url to tell what consistency tokens need.
func (h *house) sayGeneration(url, source string, generation int) {
	h.t.Helper()
	var got struct {
		Source, LSN, System  string
		Generation, Timeline int
	}
	code, body := get(h.t, url+"/generation")
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
		h.t.Fatalf("/generation says %d %s (%v)", code, body, err)
	}
	var system string
	var stored bool
	if err := h.source.Pool(h.t).QueryRow(context.Background(), `SELECT system_identifier::text, $1::text::pg_lsn BETWEEN '0/1' AND pg_current_wal_insert_lsn() FROM pg_control_system()`, got.LSN).
		Scan(&system, &stored); err != nil {
		h.t.Fatal(err)
	}
	if got.Source != source || got.Generation != generation || got.System != system || got.Timeline != 1 || !stored {
		h.t.Errorf("/generation says %s, want source %s, generation %d, system %s and an LSN of its log", body, source, generation, system)
	}
}

// traces are what cdc could leave in a source: schema, slots, publications, roles.
func (h *house) traces(name string) string {
	h.t.Helper()
	var other string
	if err := h.source.Pool(h.t).QueryRow(context.Background(), `SELECT concat_ws(';',
		(SELECT string_agg(slot_name, ',') FROM pg_replication_slots WHERE database = current_database()),
		(SELECT string_agg(pubname, ',') FROM pg_publication),
		(SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolname = 'banyan_' || $1))`, name).Scan(&other); err != nil {
		h.t.Fatal(err)
	}
	// A dump may hold a random key.
	return regexp.MustCompile(`(?m)^\\(un)?restrict .*\n`).ReplaceAllString(h.dump(h.source.URL, "--schema-only"), "") + other
}

func TestTeardownLeavesNothing(t *testing.T) {
	t.Parallel()
	h, name := newHouse(t, shopSQL+`GRANT SELECT ON orders TO pg_monitor; COMMENT ON TABLE orders IS 'kept'; CREATE PUBLICATION of_another FOR TABLE orders`), sourceName()
	t.Cleanup(func() { h.dropRole(name) })
	owner, before, storeBefore := h.url, h.traces(name), h.dump(h.store.URL, "--schema-only")
	h.must(0, "doctor")
	h.must(0, "init", "--name", name)
	h.must(0, "doctor")
	h.must(0, "setup", "--print-sql")
	preview := h.must(0, "preview", "--table", "orders")
	if !strings.Contains(preview.Out, "OrderRecorded") && !strings.Contains(preview.Out, "Order") {
		t.Errorf("preview shows no events: %s", preview)
	}
	if now := h.traces(name); now != before {
		t.Errorf("commands that change nothing have changed the source:\n%s", now)
	}
	if now := h.dump(h.store.URL, "--schema-only"); strings.Contains(now, "banyan") || len(now) > len(storeBefore)+200 {
		t.Errorf("commands that need no store have made one:\n%s", now)
	}
	if topics := h.kafkaTopics(); len(topics) > 0 {
		t.Errorf("there are topics already: %v", topics)
	}

	h.must(0, "setup", "--apply")
	if a := h.must(0, "setup", "--apply"); !strings.Contains(a.Out, "nothing to do") {
		t.Errorf("a second setup says %s", a)
	}
	h.asRole(name)
	r := h.start()
	r.Await("streaming")
	if a := h.must(1, "teardown", "--apply", "--owner", owner); !strings.Contains(a.Err, "a run lives") {
		t.Errorf("teardown beside a run says %s", a)
	}
	h.proved()
	r.Stop()
	during := h.traces(name)
	list := h.must(0, "teardown", "--owner", owner)
	for _, want := range []string{"DROP PUBLICATION banyan_" + name, "DROP ROLE banyan_" + name, "pg_drop_replication_slot('banyan_" + name, "schema banyan", "kept: " + name + ".watermarks", "nothing was changed"} {
		if !strings.Contains(strings.ReplaceAll(list.Out, `"`, ""), want) {
			t.Errorf("teardown does not list %q: %s", want, list)
		}
	}
	if h.traces(name) != during {
		t.Error("teardown without --apply has changed something")
	}
	h.must(0, "teardown", "--apply", "--owner", owner)
	if now := h.traces(name); now != before {
		t.Errorf("teardown has left something: before\n%s\nnow\n%s", before, now)
	}
	if now := h.dump(h.store.URL, "--schema-only"); strings.Contains(now, "banyan") {
		t.Errorf("the store is still there:\n%s", now)
	}
	if topics := h.kafkaTopics(); !slices.Contains(topics, name+".orders") {
		t.Errorf("the topics went too: %v", topics)
	}
	h.url = owner
	h.must(0, "teardown", "--apply", "--topics")
	if topics := h.kafkaTopics(); len(topics) > 0 {
		t.Errorf("--topics has left %v", topics)
	}
	h.must(0, "teardown", "--apply") // of nothing
}

func (h *house) kafkaTopics() (names []string) {
	h.t.Helper()
	c, err := kafka.Dial("tcp", h.broker.Addrs[0])
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	parts, err := c.ReadPartitions()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range parts {
		if !slices.Contains(names, p.Topic) {
			names = append(names, p.Topic)
		}
	}
	return names
}

func TestExplainAndWhyNot(t *testing.T) {
	t.Parallel()
	h, name := ruled(t, shopSQL, shopRules)
	r := h.start()
	r.Await("streaming")
	h.work([]string{
		`BEGIN; INSERT INTO orders (id, customer_id, status, total) VALUES (900, 1, 'placed', 12.5); INSERT INTO order_items VALUES (900, 1, 2, 3, 2.5), (900, 2, 3, 1, 1); COMMIT`,
		`UPDATE customers SET updated_at = now() + interval '1 h' WHERE id = 2`,
		`UPDATE customers SET password_hash = 'x' WHERE id = 3`,
		`UPDATE orders SET status = 'mislaid' WHERE id = 4`,
		`BEGIN; UPDATE customers SET name = 'never' WHERE id = 5; ROLLBACK`,
	})
	h.status(1)
	list := h.wantTypes(name+".orders", "900", "OrderPlaced")
	a := h.must(0, "explain", list[0].ID)
	for _, want := range []string{"OrderPlaced of ", "partition ", "offset ", "xid ", "rule set 1", "Order.events[0] OrderPlaced", "insert public.orders 900 (used)", "insert public.order_items 900,1 (absorbed)", "total=12.500"} {
		if !strings.Contains(a.Out, want) {
			t.Errorf("explain does not say %q: %s", want, a)
		}
	}
	if strings.Contains(a.Out, "password_hash") {
		t.Errorf("explain shows a column that is left out: %s", a)
	}
	recorded := h.wantTypes(name+".orders", "8", "OrderRecorded")
	if a := h.must(0, "explain", recorded[0].ID); !strings.Contains(a.Out, "recorded by snapshot 1") {
		t.Errorf("explain of a snapshot's event says %s", a)
	}
	var x map[string]any
	h.decode(0, &x, "explain", list[0].ID)
	h.must(1, "explain", name+"/Order/12345@1:0/1.0")
	h.must(2, "explain", "other/Order/1@1:0/1.0")

	for _, tc := range []struct {
		table, key string
		code       int
		says       []string
	}{
		{"orders", "900", 0, []string{"insert of public.orders 900: used", "OrderPlaced"}},
		{"order_items", "900,2", 0, []string{"absorbed", list[0].ID}},
		{"public.customers", "2", 0, []string{"ignored", "bookkeeping"}},
		{"customers", "3", 0, []string{"ignored", "no kept column changed"}},
		{"orders", "4", 0, []string{"parked", "no rule knows", "parked now: Order/4"}},
		{"customers", "5", 1, []string{"no change of it is known since", name + "/Customer/5@"}},
		{"customers", "777", 1, []string{"no change of this row was seen"}},
		{"nothing", "1", 2, nil},
	} {
		a := h.must(tc.code, "why-not", "--table", tc.table, "--key", tc.key)
		for _, want := range tc.says {
			if !strings.Contains(a.Out, want) {
				t.Errorf("why-not does not say %q: %s", want, a)
			}
		}
		if tc.code < 2 {
			var v struct{ Changes []json.RawMessage }
			h.decode(tc.code, &v, "why-not", "--table", tc.table, "--key", tc.key)
			if (len(v.Changes) > 0) != (tc.code == 0) {
				t.Errorf("why-not of %s %s knows %d changes", tc.table, tc.key, len(v.Changes))
			}
		}
	}
	r.Stop()
}

func TestJSONOfEveryCommandParses(t *testing.T) {
	t.Parallel()
	h, name := newHouse(t, shopSQL), sourceName()
	t.Cleanup(func() { h.dropRole(name) })
	whole := func(code int, args ...string) {
		t.Helper()
		var v any
		h.decode(code, &v, args...)
	}
	stream := func(code, atLeast int, args ...string) {
		t.Helper()
		a := h.must(code, append(args, "-o", "json")...)
		n := 0
		for l := range strings.Lines(a.Out) {
			n++
			if !json.Valid([]byte(l)) {
				t.Errorf("cdc %v prints %s", args, l)
			}
		}
		if n < atLeast {
			t.Errorf("cdc %v prints %d lines, want %d: %s", args, n, atLeast, a)
		}
	}
	whole(0, "doctor")
	whole(0, "init", "--name", name)
	stream(0, 40, "preview", "--table", "orders", "--limit", "100")
	whole(0, "setup", "--print-sql")
	whole(0, "setup", "--apply")
	h.asRole(name)
	stream(0, 4, "run", "--until-caught-up")
	whole(0, "status")
	whole(0, "verify", "--wait", "2m")
	whole(0, "parked", "list")
	whole(1, "why-not", "--table", "orders", "--key", "1")
	stream(0, 40, "tail", name+".orders", "--from", "start")
	whole(0, "explain", h.of(name+".orders", "1")[0].ID)
	whole(0, "embedded", "status")
	h.url = h.source.URL
	whole(0, "teardown")
	whole(0, "teardown", "--apply", "--topics")
}
