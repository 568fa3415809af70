package main_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/cmd/internal/clitest"
	"banyan/compare"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

func TestMain(m *testing.M) { clitest.Main(m) }

// patience is how long a test waits for what must come.
const patience = clitest.Patience

// quick is within how long a run that is told to stop has to end, on a loaded machine
// too; those that wait for what will not come take minutes.
const quick = 20 * time.Second

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

func (h *house) command(args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := clitest.Command(h.t, ".", args...)
	cmd.Dir = h.dir
	if h.broker != nil {
		cmd.Env = append(cmd.Env, "BANYAN_DB="+h.url, "BANYAN_BROKERS="+strings.Join(h.broker.Addrs, ","))
	}
	cmd.Env = append(cmd.Env, h.env...)
	return cmd
}

// do runs a command to its end, which has to come in good time.
func (h *house) do(args ...string) clitest.Answer {
	h.t.Helper()
	return clitest.Run(h.t, patience, h.command(args...))
}

// must runs a command that has to end with the given code.
func (h *house) must(code int, args ...string) clitest.Answer {
	h.t.Helper()
	return h.do(args...).Must(h.t, code)
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
	h.must(code, args...).Decode(h.t, r)
	return r
}

// start begins a `shadow run` and returns at once.
func (h *house) start(args ...string) *clitest.Process {
	h.t.Helper()
	return clitest.Start(h.t, h.command(append([]string{"run"}, args...)...))
}

func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	clitest.Eventually(h.t, patience, what, is)
}

// query gives the first column of each row as text.
func (h *house) query(sql string, args ...any) []string {
	h.t.Helper()
	return h.db.Column(h.t, sql, args...)
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

// lots is a source of chance that many goroutines may ask.
func lots(t *testing.T) func(n int) int {
	t.Helper()
	rng := randtest.New(t)
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

// ledgerOf reads a row of the ledger.
func ledgerOf(t *testing.T, row string) *compare.Ledger {
	t.Helper()
	var l struct{ Ledger *compare.Ledger }
	if err := json.Unmarshal([]byte(row), &l); err != nil {
		t.Fatal(err)
	}
	return l.Ledger
}
