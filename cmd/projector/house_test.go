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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

// binary is projector, built once: what is killed in these tests is a real
// process.
var binary = sync.OnceValues(func() (string, error) { return build(".") })

// binaries is where build puts programs.
var binaries = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "banyan-projector-") })

// build makes the program of a package.
func build(pkg string) (string, error) {
	dir, err := binaries()
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(pkg)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, filepath.Base(path))
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	if msg, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return path, nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// house is a database, a broker, a shop that tells events on it, and a
// directory with the projections of a service.
type house struct {
	t      *testing.T
	dir    string
	db     *pgtest.DB
	broker *kafkatest.Broker
	shop   *shop
	// url is how projector connects to the database; env is added to its
	// environment.
	url string
	env []string
}

// newHouse is a house on the shared server with these projections, each a file.
func newHouse(t *testing.T, projections ...string) *house {
	t.Helper()
	return furnish(t, pgtest.New(t), kafkatest.New(t), projections...)
}

// newServerHouse is one whose database is on a server of its own, to be
// restarted and killed.
func newServerHouse(t *testing.T, projections ...string) *house {
	t.Helper()
	return furnish(t, pgtest.NewServer(t).NewDB(t), kafkatest.New(t), projections...)
}

func furnish(t *testing.T, db *pgtest.DB, broker *kafkatest.Broker, projections ...string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), db: db, url: db.URL, broker: broker}
	h.shop = newShop(t, broker)
	for _, text := range projections {
		h.write(text)
	}
	return h
}

// bare is a house without servers, for commands that need none.
func bare(t *testing.T) *house { return &house{t: t, dir: t.TempDir()} }

// write writes a projection into the folder, under its own name.
func (h *house) write(text string) string {
	h.t.Helper()
	var name string
	for line := range strings.Lines(text) {
		if s, ok := strings.CutPrefix(line, "projection: "); ok {
			name = strings.TrimSpace(s) + ".yaml"
		}
	}
	return h.writeAs(name, text)
}

func (h *house) writeAs(name, text string) string {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return name
}

func (h *house) environ() []string {
	var env []string
	if h.broker != nil {
		env = []string{"BANYAN_DB=" + h.url, "BANYAN_BROKERS=" + strings.Join(h.broker.Addrs, ","), "BANYAN_LISTEN=127.0.0.1:0"}
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
	return fmt.Sprintf("projector %s: exit %d\n--- stdout\n%s--- stderr\n%s", strings.Join(a.args, " "), a.code, a.out, a.err)
}

// projector runs a command to its end, which has to come in good time.
func (h *house) projector(args ...string) answer {
	h.t.Helper()
	cmd := h.command(args...)
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("run projector %v: %v", args, err)
	}
	late := time.AfterFunc(patience+30*time.Second, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	a := answer{args, cmd.ProcessState.ExitCode(), out.String(), errw.String()}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("run projector %v: %v", args, err)
	}
	if !late.Stop() {
		h.t.Fatalf("it does not end: %s", a)
	}
	return a
}

// must runs a command that has to end with the given code.
func (h *house) must(code int, args ...string) answer {
	h.t.Helper()
	a := h.projector(args...)
	if a.code != code {
		h.t.Fatalf("want exit %d from %s", code, a)
	}
	return a
}

// exchange runs swap, rollback or diff to its end, however slow the machine is:
// the shop's clock runs fast, and by it a moment's delay of one version is minutes.
func (h *house) exchange(command string, args ...string) {
	h.t.Helper()
	h.must(0, append([]string{command, "--max-behind", "1000h", "--hold", "1m"}, args...)...)
}

// decode runs a command with --output json and reads what it prints, every field
// of which must have a place in v.
func (h *house) decode(code int, v any, args ...string) {
	h.t.Helper()
	a := h.must(code, append(args, "-o", "json")...)
	d := json.NewDecoder(strings.NewReader(a.out))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		h.t.Fatalf("%v in %s", err, a)
	}
}

// runner is a `projector run` in the background, or another command that takes
// long.
type runner struct {
	h     *house
	cmd   *exec.Cmd
	mu    sync.Mutex
	log   bytes.Buffer
	lines chan string
	said  []string
	ended chan struct{}
}

// start begins a `projector run` and returns at once.
func (h *house) start(args ...string) *runner {
	h.t.Helper()
	return h.begin(append([]string{"run"}, args...)...)
}

// begin begins a command and returns at once.
func (h *house) begin(args ...string) *runner {
	h.t.Helper()
	return h.spawn(h.command(args...))
}

func (h *house) spawn(cmd *exec.Cmd) *runner {
	h.t.Helper()
	r := &runner{h: h, cmd: cmd, lines: make(chan string, 1000), ended: make(chan struct{})}
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
		r.cmd.Process.Signal(syscall.SIGCONT)
		r.cmd.Process.Kill()
		<-r.ended
		if h.t.Failed() {
			h.t.Logf("log of %s (pid %d):\n%s", r, r.cmd.Process.Pid, r.text())
		}
	})
	return r
}

func (r *runner) String() string {
	return filepath.Base(r.cmd.Path) + " " + strings.Join(r.cmd.Args[1:], " ")
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

// await waits for a stage: a line of stdout that begins with word, in whatever
// order they come.
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

// awaitLog waits until the log has a text.
func (r *runner) awaitLog(text string) {
	r.h.t.Helper()
	r.h.eventually(fmt.Sprintf("%s says %q:\n%s", r, text, r.text()), func() bool { return strings.Contains(r.text(), text) })
}

// listening waits for the address of the read API.
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

// stop asks it to end, as an operator does.
func (r *runner) stop() {
	r.h.t.Helper()
	r.signal(syscall.SIGTERM)
	if code := r.end(); code != 0 {
		r.h.t.Fatalf("%s, told to stop, exits with %d:\n%s", r, code, r.text())
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

// query gives the first column of each row as text, on a connection of its own
// past any proxy.
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

// one gives the only row's only column.
func (h *house) one(sql string, args ...any) string {
	h.t.Helper()
	all := h.query(sql, args...)
	if len(all) != 1 {
		h.t.Fatalf("%s: %d rows, want one", sql, len(all))
	}
	return all[0]
}

// passed waits until the projections have passed all that the shop has told.
func (h *house) passed(projections ...string) {
	h.t.Helper()
	token := h.shop.settle()
	for _, p := range projections {
		h.must(0, "wait", p, token, "--for", patience.String())
	}
}

// exact waits until the projections have passed all that the shop has told, wants
// exactly the rows that the shop's own books say, and the proof of projector
// verify. The shop must have closed for that time.
func (h *house) exact(projections ...string) {
	h.t.Helper()
	h.passed(projections...)
	for _, p := range projections {
		h.booked(p)
		h.must(0, "verify", p)
	}
}

// exactNow is exact where nobody runs the projection: a job does it.
func (h *house) exactNow(projections ...string) {
	h.t.Helper()
	h.shop.settle()
	h.must(0, "run", "--until-caught-up")
	h.exact(projections...)
}

// decodeLoosely reads JSON with more in it than v has a place for.
func decodeLoosely(text string, v any) error {
	return json.Unmarshal([]byte(text), v)
}

// booked compares the rows that readers see with the shop's books.
func (h *house) booked(projection string) {
	h.t.Helper()
	h.shop.mu.Lock()
	defer h.shop.mu.Unlock()
	h.compare(projection)
}

func (h *house) compare(projection string) {
	h.t.Helper()
	all := h.shop.expected(projection)
	if len(all) == 0 {
		h.t.Fatalf("the shop keeps no books for %s", projection)
	}
	for table, b := range all {
		got := sorted(h.query(fmt.Sprintf(`SELECT concat_ws('|', %s) FROM %s.%s`, b.columns, projection, table)))
		if diff := cmp.Diff(b.rows, got); diff != "" {
			h.t.Errorf("seed %d: %s.%s: %d rows, want %d; (-want +got):\n%.4000s", h.shop.seed, projection, table, len(got), len(b.rows), diff)
		}
	}
}

// exactWhileOpen is exact for a shop that stays open: it closes for as long as
// that takes.
func (h *house) exactWhileOpen(projections ...string) {
	h.t.Helper()
	h.shop.mu.Lock()
	defer h.shop.mu.Unlock()
	token, err := h.shop.stocktake()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range projections {
		h.must(0, "wait", p, token, "--for", patience.String())
		h.compare(p)
	}
}

func sorted(rows []string) []string {
	slices.Sort(rows)
	return rows
}

// fetch asks over HTTP and gives status, headers and body.
func fetch(ctx context.Context, url string, headers ...string) (int, http.Header, string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, "", err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(body), err
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
