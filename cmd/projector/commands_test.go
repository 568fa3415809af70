package main_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"banyan/cmd/internal/clitest"
)

func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	h := bare(t)
	seen := 0
	var walk func(path []string)
	walk = func(path []string) {
		help := h.must(0, append(slices.Clone(path), "--help")...).Out
		seen++
		if !strings.Contains(help, "Examples:\n  projector") {
			t.Errorf("projector %s --help has no example:\n%s", strings.Join(path, " "), help)
		}
		_, list, group := strings.Cut(help, "Available Commands:\n")
		if !group && !regexp.MustCompile(`--output json|prints \{|\(-o json\)`).MatchString(help) && !slices.Contains(path, "embedded") && !slices.Contains(path, "schema") {
			t.Errorf("projector %s --help does not say what --output json prints:\n%s", strings.Join(path, " "), help)
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

// oneClearError wants what is wrong in one line.
func oneClearError(t *testing.T, a clitest.Answer) {
	t.Helper()
	if lines := strings.Count(a.Err, "\n"); lines != 1 || !strings.HasPrefix(a.Err, "projector: ") || a.Out != "" {
		t.Errorf("want one clear error, got %s", a)
	}
}

func TestWrongInputIsTold(t *testing.T) {
	t.Parallel()
	h := bare(t)
	for _, args := range [][]string{
		{"nothing"}, {"run", "--nothing"}, {"run", "extra"}, {"run", "-o", "xml"}, {"run"}, {"check"}, {"status"}, {"run", "-f", "nowhere.yaml"}, {"run", "-f", "."},
		{"init"}, {"init", "--topics", "shop.customers", "--name", "No Name"}, {"wait"}, {"wait", "shipping", "yesterday"}, {"wait", "shipping", "1:0/1A", "--for", "soon"},
		{"lag", "shipping", "--limit", "some"}, {"parked", "show"}, {"parked", "show", "shipping", "42"}, {"parked", "release", "shipping"}, {"parked", "discard"},
		{"effects", "list", "mails", "--state", "lost"}, {"effects", "resend"}, {"effects", "resend", "mails"}, {"effects", "resend", "mails", "x"}, {"effects", "resend", "mails", "1", "--all"},
		{"rebuild", "shipping", "--memory", "lots"}, {"retire", "shipping"}, {"retire", "shipping", "one"}, {"verify", "shipping", "--version", "x"}, {"swap", "a", "b"},
		{"status", "shipping", "--db", "postgres://host:port:port/db"}, {"status", "shipping", "--db", "not a url"},
	} {
		oneClearError(t, h.must(2, args...))
	}
	h.env = []string{"BANYAN_OUTPUT=xml", "BANYAN_VERBOSE=perhaps"}
	if a := h.must(2, "status"); !strings.Contains(a.Err, "BANYAN_VERBOSE") || !strings.Contains(a.Err, "want text or json") {
		t.Errorf("not both faults of the environment are told: %s", a)
	}
	h.env = nil
	h.write(shippingYAML)
	for want, args := range map[string][]string{
		"--assign":   {"run", "--assign", "0,two"},
		"--smtp":     {"run", "--smtp", "mail.example.com"},
		"--smtp-tls": {"run", "--smtp", "mail.example.com:25", "--smtp-tls", "perhaps"},
	} {
		a := h.must(2, args...)
		if !strings.Contains(a.Err, want+" ") || !strings.Contains(a.Err, "want ") {
			t.Errorf("%s: %s", want, a)
		}
	}
	h.writeAs("copy.yaml", shippingYAML)
	if a := h.must(2, "check"); !strings.Contains(a.Err, "copy.yaml") || !strings.Contains(a.Err, "shipping.yaml") || !strings.Contains(a.Err, `"shipping"`) {
		t.Errorf("two files of one name: %s", a)
	}
}

// Everything that is wrong with the files is told at once, with its place, and
// nothing is made.
func TestWrongFilesAreToldAllAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(100)
	h.write(`projection: wrong
tables:
  customers:
    from: shop.customers
    columns:
      id: bigint key
      country: text = state.country +
      colour: colour
  orders:
    from: shop.orders
    upsert: [OrderPlaced, OrderPayed, OrderShipped, OrderCancelled]
    columns:
      customer_id: bigint key
      status: text
  strangers:
    from: shop.nobody
    columns: {id: bigint key}
  wishes:
    from: shop.customers
    columns: {id: bigint key, name: text = upperr(state.name)}
    retention: {column: born, for: 1d}
`)
	h.writeAs("second.yaml", `projection: second
tables:
  customers: {from: shop.customers, columns: {id: bigint key, name: numeric}}
groups:
  by_status: {from: shop.orders, by: {status: text}, measures: {n: count, best: {max: state.total}}}
views:
  both: SELECT * FROM customers, by_stat
`)
	for _, args := range [][]string{{"check"}, {"run"}} {
		a := h.must(2, args...)
		for _, want := range []string{"wrong.yaml:7:", "wrong.yaml:8:", `"colour"`, "wrong.yaml:16:", `"shop.nobody"`, "wrong.yaml:20:", "upper", "wrong.yaml:21:", `"born"`, "second.yaml:5:"} {
			if !strings.Contains(a.Err, want) {
				t.Errorf("projector %s does not say %q: %s", args[0], want, a)
			}
		}
	}
	// What only the events and the database can tell comes in the next round.
	h.write(`projection: wrong
tables:
  orders:
    from: shop.orders
    upsert: [OrderPlaced, OrderPayed, OrderShipped, OrderCancelled]
    columns:
      customer_id: bigint key
      status: text
`)
	h.writeAs("second.yaml", `projection: second
tables:
  customers: {from: shop.customers, columns: {id: bigint key, name: numeric}}
`)
	a := h.must(2, "run")
	for _, want := range []string{"wrong.yaml:5:", `"OrderPayed"`, "OrderPaid", "wrong.yaml:4:", "customer_id", "order: aligned", "second.yaml:3:", "name"} {
		if !strings.Contains(a.Err, want) {
			t.Errorf("run does not say %q: %s", want, a)
		}
	}
	h.writeAs("wrong.yaml", `projection: wrong
tables:
  customers: {from: shop.customers, columns: {id: bigint key}}
views:
  both: SELECT id, born FROM customers
`)
	h.writeAs("second.yaml", "projection: second\ntables:\n  customers: {from: shop.customers, columns: {id: bigint key}}\n")
	if a := h.must(2, "run"); !strings.Contains(a.Err, "wrong.yaml:5:") || !strings.Contains(a.Err, "born") {
		t.Errorf("a view of what there is not: %s", a)
	}
	if made := h.query(`SELECT nspname FROM pg_namespace WHERE nspname ~ '^(wrong|second)'`); len(made) > 0 {
		t.Errorf("it has made %v", made)
	}
}

func TestTablesOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.trade(50)
	h.db.Exec(t, `CREATE SCHEMA shipping; CREATE TABLE shipping.customers (id text, remark text); INSERT INTO shipping.customers VALUES ('1', 'mine')`)
	a := h.projector("run", "--until-caught-up")
	if a.Code != 1 && a.Code != 2 || !strings.Contains(a.Err, "shipping") {
		t.Errorf("a schema with a table of somebody else: %s", a)
	}
	if got := h.one(`SELECT remark FROM shipping.customers`); got != "mine" {
		t.Errorf("it says %q now", got)
	}
	if made := h.query(`SELECT nspname FROM pg_namespace WHERE nspname = 'shipping_v1'`); len(made) > 0 {
		t.Errorf("it has made %v", made)
	}
	h.db.Exec(t, `DROP SCHEMA shipping CASCADE`)
	h.must(0, "run", "--until-caught-up")

	// And those of ours that somebody has altered are not written.
	h.db.Exec(t, `ALTER TABLE shipping_v1.lines DROP COLUMN quantity CASCADE; ALTER TABLE shipping_v1.customers RENAME COLUMN changes TO turns`)
	a = h.projector("run", "--until-caught-up")
	for _, want := range []string{"lines", "quantity", "customers", "changes", "rebuild"} {
		if !strings.Contains(a.Err, want) {
			t.Errorf("altered tables: %q is not told: %s", want, a)
		}
	}
	if a.Code != 1 && a.Code != 2 {
		t.Errorf("altered tables: %s", a)
	}
}

func TestDatabaseWithoutRights(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	// The file speaks of every type: of one that never happened there would be a warning too.
	for _, status := range []string{"placed", "paid", "shipped", "cancelled"} {
		for len(h.shop.been(status)) == 0 {
			h.shop.trade(20)
		}
	}
	role := "nobody_" + h.db.Name
	h.db.Exec(t, `CREATE ROLE `+role+` LOGIN`)
	t.Cleanup(func() { h.db.Exec(t, `DROP ROLE `+role) })
	h.url = h.db.UserURL(role, "")
	a := h.projector("run", "--until-caught-up")
	if a.Code == 0 || strings.Count(a.Err, "\n") != 1 || !strings.Contains(a.Err, role) || !strings.Contains(a.Err, "CREATE") && !strings.Contains(a.Err, "GRANT") && !strings.Contains(a.Err, "init") {
		t.Errorf("the way out is not told: %s", a)
	}
	if made := h.query(`SELECT nspname FROM pg_namespace WHERE nspname ~ '^(banyan|shipping)'`); len(made) > 0 {
		t.Errorf("it has made %v", made)
	}
}

func TestSurroundingsThatFail(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.trade(20)
	h.must(0, "run", "--until-caught-up")
	const away = clitest.Away
	db := "postgres://who@" + away + "/x"
	for _, args := range [][]string{
		{"status", "--db", db}, {"lag", "--db", db}, {"run", "--db", db}, {"wait", "shipping", "1:0/1", "--db", db}, {"parked", "list", "--db", db}, {"effects", "list", "--db", db},
		{"verify", "--db", db}, {"rebuild", "--db", db}, {"swap", "--db", db}, {"lint", "--db", db},
		{"check", "--brokers", away}, {"lag", "--brokers", away}, {"verify", "--brokers", away}, {"rebuild", "--brokers", away}, {"init", "--topics", "shop.orders", "--brokers", away},
	} {
		a := h.must(3, args...)
		if !strings.Contains(a.Err, away) {
			t.Errorf("the error does not name the address: %s", a)
		}
	}
	for _, args := range [][]string{{"status", "nobody"}, {"lag", "nobody"}, {"parked", "list", "nobody"}, {"verify", "nobody"}, {"swap", "nobody"}, {"wait", "nobody", "1:0/1"}} {
		if a := h.must(1, args...); !strings.Contains(a.Err, "nobody") {
			t.Errorf("a projection that is not there: %s", a)
		}
	}
	if a := h.must(2, "init", "--topics", "shop.order"); !strings.Contains(a.Err, "shop.orders") {
		t.Errorf("a topic that is not there: %s", a)
	}
}

func TestReadAPI(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.shop.register(5)
	r := h.start()
	url := r.Listening()
	h.passed("shipping", "ledger")
	token := h.shop.settle()
	code, header, body := ask(t, url+"/customers/3", "Banyan-Token", token)
	if code != 200 || header.Get("Content-Type") != "application/json" || !strings.Contains(body, `"name":"customer 3"`) {
		t.Errorf("%d %s", code, body)
	}
	if !strings.HasPrefix(header.Get("Banyan-Token"), "1:0/") || header.Get("Banyan-Age") == "" {
		t.Errorf("headers: %v", header)
	}
	for path, want := range map[string]struct {
		code int
		say  string
	}{
		"/customers/three":     {400, "three"},
		"/customers/3/4":       {400, "key"},
		"/customers/99":        {404, "99"},
		"/customers?colour=no": {400, "colour"},
		"/nothing/1":           {404, ""},
		"/people/3":            {200, "country"},
		"/":                    {200, "customers"},
		"/healthz":             {200, ""},
	} {
		code, header, body := ask(t, url+path)
		if code != want.code || !strings.Contains(body, want.say) {
			t.Errorf("%s: %d %s, want %d %q", path, code, body, want.code, want.say)
		}
		if code == 400 && (header.Get("Content-Type") != "application/problem+json" || !json.Valid([]byte(body))) {
			t.Errorf("%s: %s", path, header.Get("Content-Type"))
		}
	}
	for _, bad := range []string{"yesterday", "1:0", "1:0/XYZ", "-1:0/1", "1:0/1/2", "99999999999999999999:0/1"} {
		code, header, body := ask(t, url+"/customers/3", "Banyan-Token", bad)
		if code != 400 || header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, "Banyan-Token") {
			t.Errorf("token %q: %d %s", bad, code, body)
		}
	}
	code, header, body = ask(t, url+"/customers/3", "Banyan-Token", "1:0/FFFFFFF0", "Banyan-Wait", "50ms")
	if code != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "lsnBytes") {
		t.Errorf("a token of the future: %d %s", code, body)
	}
	h.eventually("/readyz says 200", func() bool { code, _, _ := ask(t, url+"/readyz"); return code == 200 })
	_, _, body = ask(t, url+"/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	for _, want := range []string{`banyan_projection_events_total{projection="shipping",state="active",version="1"}`, "banyan_projection_lag_records", "banyan_projection_parked_keys"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics does not have %s", want)
		}
	}
	r.Stop()
}
