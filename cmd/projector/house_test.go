package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/cmd/internal/clitest"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

func TestMain(m *testing.M) { clitest.Main(m) }

// patience is how long a test waits for what must come.
const patience = clitest.Patience

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

// program prepares a program that works in the house: that of a package of commands.
func (h *house) program(pkg string, args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := clitest.Command(h.t, pkg, args...)
	cmd.Dir = h.dir
	if h.broker != nil {
		cmd.Env = append(cmd.Env, "BANYAN_DB="+h.url, "BANYAN_BROKERS="+strings.Join(h.broker.Addrs, ","), "BANYAN_LISTEN=127.0.0.1:0")
	}
	cmd.Env = append(cmd.Env, h.env...)
	return cmd
}

func (h *house) command(args ...string) *exec.Cmd {
	h.t.Helper()
	return h.program(".", args...)
}

// projector runs a command to its end, which has to come in good time.
func (h *house) projector(args ...string) clitest.Answer {
	h.t.Helper()
	return clitest.Run(h.t, patience+30*time.Second, h.command(args...))
}

// must runs a command that has to end with the given code.
func (h *house) must(code int, args ...string) clitest.Answer {
	h.t.Helper()
	return h.projector(args...).Must(h.t, code)
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
	h.must(code, append(args, "-o", "json")...).Decode(h.t, v)
}

// start begins a `projector run` and returns at once.
func (h *house) start(args ...string) *clitest.Process {
	h.t.Helper()
	return h.begin(append([]string{"run"}, args...)...)
}

// begin begins a command and returns at once.
func (h *house) begin(args ...string) *clitest.Process {
	h.t.Helper()
	return clitest.Start(h.t, h.command(args...))
}

func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	clitest.Eventually(h.t, patience, what, is)
}

// query gives the first column of each row as text, on a connection of its own
// past any proxy.
func (h *house) query(sql string, args ...any) []string {
	h.t.Helper()
	return h.db.Column(h.t, sql, args...)
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
