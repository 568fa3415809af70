package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/cmd/internal/clitest"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

func TestMain(m *testing.M) { clitest.Main(m) }

// house is one source, one store, one broker, and a directory to work in.
type house struct {
	t      *testing.T
	dir    string
	source *pgtest.DB
	store  *pgtest.DB
	broker *kafkatest.Broker
	// url is how cdc connects to the source; env is added to its environment.
	url string
	env []string
}

// shopSQL is a shop in short: the shapes that the rules care about.
const shopSQL = `
CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, email text, password_hash text, updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE products (id serial PRIMARY KEY, sku text NOT NULL UNIQUE, stock int NOT NULL, price numeric(12,3) NOT NULL);
CREATE TABLE orders (id serial PRIMARY KEY, customer_id int REFERENCES customers, status text NOT NULL, total numeric(12,3) NOT NULL, note text, placed_at timestamp NOT NULL DEFAULT now());
CREATE TABLE order_items (order_id int NOT NULL REFERENCES orders, line_no int NOT NULL, product_id int NOT NULL REFERENCES products, quantity int NOT NULL, unit_price numeric(12,3) NOT NULL, PRIMARY KEY (order_id, line_no));
INSERT INTO customers (name, email, password_hash) SELECT 'customer ' || i, 'c' || i || '@example.com', 'secret-hash-' || i FROM generate_series(1, 20) i;
INSERT INTO products (sku, stock, price) SELECT 'sku-' || i, 1000000, i * 1.125 FROM generate_series(1, 20) i;
INSERT INTO orders (customer_id, status, total) SELECT 1 + i % 20, (ARRAY['placed','paid','shipped','cancelled'])[1 + i % 4], i FROM generate_series(1, 40) i;
INSERT INTO order_items SELECT o.id, l, 1 + (o.id + l) % 20, l, 2.5 FROM orders o, generate_series(1, 3) l;
`

func newHouse(t *testing.T, sql string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), source: pgtest.New(t, pgtest.Options{SQL: sql}), store: pgtest.New(t), broker: kafkatest.New(t)}
	h.url = h.source.URL
	return h
}

// command prepares a cdc that works in the house.
func (h *house) command(args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := clitest.Command(h.t, ".", args...)
	cmd.Dir = h.dir
	if h.broker != nil {
		cmd.Env = append(cmd.Env, "BANYAN_SOURCE="+h.url, "BANYAN_STORE="+h.store.URL, "BANYAN_BROKERS="+strings.Join(h.broker.Addrs, ","), "BANYAN_LISTEN=127.0.0.1:0")
	}
	cmd.Env = append(cmd.Env, h.env...)
	return cmd
}

// cdc runs a command to its end. The longest is verify --wait 2m, which then may hold
// its snapshot for five minutes.
func (h *house) cdc(args ...string) clitest.Answer {
	h.t.Helper()
	return clitest.Run(h.t, 7*time.Minute, h.command(args...))
}

// must runs a command that has to end with the given code.
func (h *house) must(code int, args ...string) clitest.Answer {
	h.t.Helper()
	return h.cdc(args...).Must(h.t, code)
}

// start begins a `cdc run` and returns at once.
func (h *house) start(args ...string) *clitest.Process {
	h.t.Helper()
	return clitest.Start(h.t, h.command(append([]string{"run"}, args...)...))
}

func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	clitest.Eventually(h.t, clitest.Patience, what, is)
}

// proved runs verify and wants its best verdict.
func (h *house) proved() {
	h.t.Helper()
	h.must(0, "verify", "--wait", "2m")
}

// event is one line of `cdc tail -o json`.
type line struct {
	Topic     string
	Partition int
	ID, Type  string
	Key       string
	Seq       int64
	Position  string
	Rules     int
	Cause     string
	Data      struct {
		State   map[string]any
		Last    map[string]any
		Changed []string
	}
}

// tail reads topics from their start to their end.
func (h *house) tail(args ...string) []line {
	h.t.Helper()
	a := h.must(0, append([]string{"tail", "--from", "start", "-o", "json"}, args...)...)
	var lines []line
	s := bufio.NewScanner(strings.NewReader(a.Out))
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var l line
		d := json.NewDecoder(bytes.NewReader(s.Bytes()))
		d.UseNumber() // some numbers fit no float
		if err := d.Decode(&l); err != nil {
			h.t.Fatalf("%v in %s", err, s.Text())
		}
		lines = append(lines, l)
	}
	return lines
}

// topics names the business topics of the configuration.
func (h *house) topics() []string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "banyan.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for l := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(l), "topic: "); ok {
			names = append(names, strings.TrimSpace(strings.Split(name, "#")[0]))
		}
	}
	return names
}

// uniqueIDs reads everything back and wants every id once.
func (h *house) uniqueIDs() {
	h.t.Helper()
	seen := map[string]string{}
	for _, l := range h.tail(h.topics()...) {
		at := fmt.Sprintf("%s/%d seq %d", l.Topic, l.Partition, l.Seq)
		if before, twice := seen[l.ID]; twice {
			h.t.Errorf("event %s lies at %s and at %s", l.ID, before, at)
		}
		seen[l.ID] = at
	}
	if len(seen) == 0 {
		h.t.Error("no events at all")
	}
}

// edit changes banyan.yaml.
func (h *house) edit(old, new string) {
	h.t.Helper()
	path := filepath.Join(h.dir, "banyan.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		h.t.Fatalf("banyan.yaml has no %q:\n%s", old, b)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// load changes the source from several sessions until ctx ends, and returns a
// function that waits for the sessions. Sessions whose server goes away come
// back.
func (h *house) load(ctx context.Context, sessions int) (wait func() int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for i := range sessions {
		wg.Go(func() {
			n := h.session(ctx, i)
			mu.Lock()
			total += n
			mu.Unlock()
		})
	}
	return func() int {
		wg.Wait()
		return total
	}
}

// newServerHouse is a house whose source and store are on a server of their
// own, to be restarted and killed.
func newServerHouse(t *testing.T) *house {
	t.Helper()
	s := pgtest.NewServer(t)
	h := &house{t: t, dir: t.TempDir(), source: s.NewDB(t, pgtest.Options{SQL: shopSQL}), store: s.NewDB(t), broker: kafkatest.New(t)}
	h.url = h.source.URL
	return h
}
