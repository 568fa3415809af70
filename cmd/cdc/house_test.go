package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

// binary is cdc, built once: what is killed in these tests is a real process.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "banyan-cdc-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cdc")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	if msg, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cdc: %w\n%s", err, msg)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

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

func (h *house) environ() []string {
	var env []string
	if h.broker != nil {
		env = []string{"BANYAN_SOURCE=" + h.url, "BANYAN_STORE=" + h.store.URL, "BANYAN_BROKERS=" + strings.Join(h.broker.Addrs, ","), "BANYAN_LISTEN=127.0.0.1:0"}
	}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BANYAN_") && !strings.HasPrefix(e, "PG") {
			env = append(env, e)
		}
	}
	return append(env, h.env...)
}

func (h *house) command(args ...string) *exec.Cmd {
	h.t.Helper()
	path, err := binary()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = h.dir, h.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// answer is what a finished command said.
type answer struct {
	args     []string
	code     int
	out, err string
}

func (a answer) String() string {
	return fmt.Sprintf("cdc %s: exit %d\n--- stdout\n%s--- stderr\n%s", strings.Join(a.args, " "), a.code, a.out, a.err)
}

// cdc runs a command to its end.
func (h *house) cdc(args ...string) answer {
	h.t.Helper()
	cmd := h.command(args...)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("run cdc %v: %v", args, err)
	}
	return answer{args, cmd.ProcessState.ExitCode(), out.String(), errw.String()}
}

// must runs a command that has to end with the given code.
func (h *house) must(code int, args ...string) answer {
	h.t.Helper()
	a := h.cdc(args...)
	if a.code != code {
		h.t.Fatalf("want exit %d from %s", code, a)
	}
	return a
}

// runner is a `cdc run` in the background.
type runner struct {
	h     *house
	cmd   *exec.Cmd
	mu    sync.Mutex
	log   bytes.Buffer
	lines chan string
	ended chan struct{}
}

// start begins a `cdc run` and returns at once.
func (h *house) start(args ...string) *runner {
	h.t.Helper()
	r := &runner{h: h, cmd: h.command(append([]string{"run"}, args...)...), lines: make(chan string, 100), ended: make(chan struct{})}
	r.cmd.Stderr = r
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	// The parent-death signal is bound to the thread that starts the process.
	if err := r.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			r.lines <- s.Text()
		}
		close(r.lines)
		_ = r.cmd.Wait() // its exit code is asked for where it matters
	}()
	h.t.Cleanup(func() {
		r.cmd.Process.Signal(syscall.SIGCONT)
		r.cmd.Process.Kill()
		<-r.ended
		if h.t.Failed() {
			h.t.Logf("log of cdc run (pid %d):\n%s", r.cmd.Process.Pid, r.text())
		}
	})
	return r
}

func (r *runner) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *runner) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// await waits for a stage: a line of stdout that begins with word.
func (r *runner) await(word string) string {
	r.h.t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				<-r.ended
				r.h.t.Fatalf("cdc run ended (exit %d) before it said %q:\n%s", r.cmd.ProcessState.ExitCode(), word, r.text())
			}
			if strings.HasPrefix(line, word) {
				return line
			}
		case <-limit:
			r.h.t.Fatalf("cdc run did not say %q in two minutes:\n%s", word, r.text())
		}
	}
}

// signal sends a signal; SIGKILL is a real kill -9.
func (r *runner) signal(s syscall.Signal) {
	r.h.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.h.t.Fatal(err)
	}
}

// end waits for the process and returns its exit code, -1 after a signal.
func (r *runner) end() int {
	r.h.t.Helper()
	go func() {
		for range r.lines { // nobody waits for a stage any more
		}
	}()
	select {
	case <-r.ended:
	case <-time.After(2 * time.Minute):
		r.h.t.Fatalf("cdc run does not end:\n%s", r.text())
	}
	return r.cmd.ProcessState.ExitCode()
}

// stop asks it to end, as an operator does.
func (r *runner) stop() {
	r.h.t.Helper()
	r.signal(syscall.SIGTERM)
	if code := r.end(); code != 0 {
		r.h.t.Fatalf("cdc run, told to stop, exits with %d:\n%s", code, r.text())
	}
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
	s := bufio.NewScanner(strings.NewReader(a.out))
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
