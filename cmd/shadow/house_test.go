package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/compare"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

// binaries is where the program lies, built once: what is killed in these tests is a
// real process.
var binaries = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "banyan-shadow-") })

var binary = sync.OnceValues(func() (string, error) {
	dir, err := binaries()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "shadow")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	if msg, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build shadow: %w\n%s", err, msg)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// house is a database, a broker, a shop that tells events on it, and a directory for
// reports, settings and mappings.
type house struct {
	t      *testing.T
	dir    string
	db     *pgtest.DB
	broker *kafkatest.Broker
	shop   *shop
	// url is how shadow connects to the database; env is added to its environment.
	url string
	env []string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), db: pgtest.New(t), broker: kafkatest.New(t)}
	h.url = h.db.URL
	h.shop = newShop(t, h.broker)
	return h
}

// bare is a house without servers, for commands that need none.
func bare(t *testing.T) *house { return &house{t: t, dir: t.TempDir()} }

// write writes a file into the folder and gives its path.
func (h *house) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *house) read(name ...string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{h.dir}, name...)...))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func (h *house) environ() []string {
	var env []string
	if h.broker != nil {
		env = []string{"BANYAN_DB=" + h.url, "BANYAN_BROKERS=" + strings.Join(h.broker.Addrs, ",")}
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
	return fmt.Sprintf("shadow %s: exit %d\n--- stdout\n%.5000s--- stderr\n%.5000s", strings.Join(a.args, " "), a.code, a.out, a.err)
}

// do runs a command to its end, which has to come in good time.
func (h *house) do(args ...string) answer {
	h.t.Helper()
	cmd := h.command(args...)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("run shadow %v: %v", args, err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	a := answer{args, cmd.ProcessState.ExitCode(), out.String(), errw.String()}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("run shadow %v: %v", args, err)
	}
	if !late.Stop() {
		h.t.Fatalf("it does not end: %s", a)
	}
	return a
}

// must runs a command that has to end with the given code.
func (h *house) must(code int, args ...string) answer {
	h.t.Helper()
	a := h.do(args...)
	if a.code != code {
		h.t.Fatalf("want exit %d from %s", code, a)
	}
	return a
}

// caughtUp runs a shadow until it has caught up, wants that exit code, and gives its
// report.
func (h *house) caughtUp(code int, args ...string) *compare.Report {
	h.t.Helper()
	h.must(code, append([]string{"run", "--until-caught-up"}, args...)...)
	return h.report(code, nameOf(args))
}

// nameOf is the --name among arguments.
func nameOf(args []string) string {
	for i := range args {
		if args[i] == "--name" {
			return args[i+1]
		}
	}
	return ""
}

// report reads the report of a shadow.
func (h *house) report(code int, name string, args ...string) *compare.Report {
	h.t.Helper()
	args = append([]string{"report", "-o", "json"}, args...)
	if name != "" {
		args = append(args, "--name", name)
	}
	r := &compare.Report{}
	a := h.must(code, args...)
	d := json.NewDecoder(strings.NewReader(a.out))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		h.t.Fatalf("%v in %s", err, a)
	}
	return r
}

// runner is a `shadow run` in the background.
type runner struct {
	h     *house
	cmd   *exec.Cmd
	mu    sync.Mutex
	log   bytes.Buffer
	lines chan string
	said  []string
	ended chan struct{}
}

// start begins a `shadow run` and returns at once.
func (h *house) start(args ...string) *runner {
	h.t.Helper()
	r := &runner{h: h, cmd: h.command(append([]string{"run"}, args...)...), lines: make(chan string, 1000), ended: make(chan struct{})}
	r.cmd.Stderr = r
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
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
		_ = r.cmd.Process.Signal(syscall.SIGCONT)
		_ = r.cmd.Process.Kill()
		<-r.ended
		if h.t.Failed() {
			h.t.Logf("log of %s (pid %d):\n%.2500s", r, r.cmd.Process.Pid, r.text())
		}
	})
	return r
}

func (r *runner) String() string { return "shadow " + strings.Join(r.cmd.Args[1:], " ") }

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
	for _, line := range r.said {
		if strings.HasPrefix(line, word) {
			return line
		}
	}
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				<-r.ended
				r.h.t.Fatalf("%s ended (exit %d) before it said %q:\n%s", r, r.cmd.ProcessState.ExitCode(), word, r.text())
			}
			r.said = append(r.said, line)
			if strings.HasPrefix(line, word) {
				return line
			}
		case <-limit:
			r.h.t.Fatalf("%s did not say %q in %s:\n%s", r, word, patience, r.text())
		}
	}
}

// listening waits for the address of the live page.
func (r *runner) listening() string {
	r.h.t.Helper()
	return strings.TrimPrefix(r.await("listening on "), "listening on ")
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
	limit := time.After(patience)
	for open := true; open; {
		var line string
		select {
		case line, open = <-r.lines:
			r.said = append(r.said, line)
		case <-limit:
			r.h.t.Fatalf("%s does not end:\n%s", r, r.text())
		}
	}
	<-r.ended
	return r.cmd.ProcessState.ExitCode()
}

// kill is kill -9, and waits.
func (r *runner) kill() {
	r.h.t.Helper()
	r.signal(syscall.SIGKILL)
	r.end()
}

// quick is within how long a run that is told to stop has to end, on a loaded machine
// too; those that wait for what will not come take minutes.
const quick = 20 * time.Second

// stop asks it to end, as an operator does.
func (r *runner) stop() {
	r.h.t.Helper()
	began := time.Now()
	r.signal(syscall.SIGTERM)
	if code := r.end(); code != 0 {
		r.h.t.Fatalf("%s, told to stop, exits with %d:\n%s", r, code, r.text())
	}
	if took := time.Since(began); took > quick {
		r.h.t.Errorf("%s, told to stop, takes %s", r, took)
	}
}

// eventually asks until it is true; there is no signal for what others do.
func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-limit:
			h.t.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

// query gives the first column of each row as text.
func (h *house) query(sql string, args ...any) []string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, h.db.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close(context.Background())
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	return all
}

// ask asks over HTTP and gives status and body; status 0 where nobody answers.
func (h *house) ask(url string) (int, string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}

// seed is BANYAN_SEED, or a new one; it is printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s := os.Getenv("BANYAN_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BANYAN_SEED=%d", n)
	return n
}

// random is a source of chance of the test's own, printed.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed(t), 1))
}

// within is a moment at random: what is killed is killed wherever it is then.
func within(rng *rand.Rand, limit time.Duration) <-chan time.Time {
	return time.After(time.Duration(rng.Int64N(int64(limit))))
}

// lots is a source of chance that many goroutines may ask.
func lots(t *testing.T) func(n int) int {
	t.Helper()
	rng := random(t)
	var mu sync.Mutex
	return func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
}

// onlyShadow is the name of the first shadow in the database.
func (h *house) onlyShadow() string {
	h.t.Helper()
	names := h.query(`SELECT projection FROM banyan.version WHERE state = 'active' AND projection LIKE 'shadow\_%' AND projection NOT LIKE '%\_orders' ORDER BY projection`)
	if len(names) == 0 {
		return ""
	}
	return strings.TrimPrefix(names[0], "shadow_")
}

// ledgerOrders is how many orders a row of the ledger counts.
func ledgerOrders(t *testing.T, row string) int {
	t.Helper()
	var l struct{ Ledger *compare.Ledger }
	if err := json.Unmarshal([]byte(row), &l); err != nil {
		t.Fatal(err)
	}
	return int(l.Ledger.Consumed)
}
