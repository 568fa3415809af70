package bench_test

import (
	"bytes"
	"context"
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

	"github.com/jackc/pgx/v5"

	"banyan/bus"
	"banyan/internal/embedded"
	"banyan/internal/pgtest"
)

// programs are our commands, each built once.
var programs struct {
	sync.Mutex
	dir   string // removed with the tests
	paths map[string]string
}

// program builds a command of this module where it is not built yet.
func program(t testing.TB, name string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if path, ok := programs.paths[name]; ok {
		return path
	}
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "banyan-bench-")
		if err != nil {
			t.Fatal(err)
		}
		programs.dir, programs.paths = dir, map[string]string{}
	}
	path := filepath.Join(programs.dir, name)
	if msg, err := exec.Command("go", "build", "-o", path, "../cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, msg)
	}
	programs.paths[name] = path
	return path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if programs.dir != "" {
		os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

// house is what one drain needs for itself: a slot that was made before the
// backlog, a store that knows its position, and a broker with its topics.
type house struct {
	name  string // of the source, the slot and the topics
	dir   string
	cdc   string
	store *pgtest.DB
	// brokers are where the house publishes; a broker of its own runs only
	// during its round.
	brokers []string
	own     bool
}

// newHouse lets cdc make the slot and take its snapshot of the empty table.
func (f *field) newHouse(n int) *house {
	f.t.Helper()
	h := &house{name: fmt.Sprintf("%s_%d", strings.ToLower(f.cfg.name), n), dir: f.t.TempDir(), cdc: program(f.t, "cdc"), store: f.stores.NewDB(f.t)}
	if err := os.WriteFile(filepath.Join(h.dir, "banyan.yaml"), fmt.Appendf(nil, rules, h.name), 0o644); err != nil {
		f.t.Fatal(err)
	}
	if f.cfg.kafka != nil {
		h.brokers = f.cfg.kafka.Addrs
	} else {
		h.own = true
		f.t.Cleanup(func() { h.stopBroker(f.t) })
	}
	h.startBroker(f.t)
	var log bytes.Buffer
	cmd := f.command(h, "run", "--until-caught-up")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("take the snapshot of the empty table: %v\n%s", err, &log)
	}
	h.stopBroker(f.t)
	return h
}

func (h *house) startBroker(t testing.TB) {
	t.Helper()
	if !h.own {
		return
	}
	st, err := embedded.Start(context.Background(), embedded.Options{Dir: filepath.Join(h.dir, "broker"), Broker: true, Executable: h.cdc})
	if err != nil {
		t.Fatal(err)
	}
	h.brokers = st.Broker.Addrs
}

// brokerPID is the process of the house's own broker, 0 where it has none.
func (h *house) brokerPID(t testing.TB) int {
	t.Helper()
	if !h.own {
		return 0
	}
	st, err := embedded.Status(context.Background(), filepath.Join(h.dir, "broker"))
	if err != nil || st.Broker == nil {
		t.Fatalf("ask for the broker: %+v, %v", st, err)
	}
	return st.Broker.PID
}

func (h *house) stopBroker(t testing.TB) {
	t.Helper()
	if !h.own {
		return
	}
	if err := embedded.Stop(context.Background(), filepath.Join(h.dir, "broker")); err != nil {
		t.Error(err)
	}
}

// command is cdc, with an environment that says where everything is.
func (f *field) command(h *house, args ...string) *exec.Cmd {
	cmd := exec.Command(h.cdc, args...)
	cmd.Dir = h.dir
	cmd.Env = append(ownEnvironment(), "BANYAN_SOURCE="+f.source.URL, "BANYAN_STORE="+h.store.URL, "BANYAN_BROKERS="+strings.Join(h.brokers, ","), "BANYAN_LISTEN=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// records counts what lies in the house's topic of events.
func (h *house) records(ctx context.Context, c *bus.Cluster) (int64, error) {
	ends, err := c.AllEnds(ctx, h.name+".orders")
	var n int64
	for _, r := range ends {
		n += r.Next
	}
	return n, err
}

// copySlots copies the house's slot for the others, before cdc moves it.
func (f *field) copySlots(h *house) {
	f.t.Helper()
	for _, suffix := range []string{"_recv", "_peek"} {
		f.text(`SELECT slot_name FROM pg_copy_logical_replication_slot($1, $2)`, h.name, h.name+suffix)
	}
}

// clear drops what a round leaves behind, so that the next finds the disk as
// this one did.
func (f *field) clear(h *house) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, slot := range []string{h.name, h.name + "_recv", h.name + "_peek"} {
		for {
			err := f.exec(`SELECT pg_drop_replication_slot('` + slot + `')`)
			if err == nil {
				break
			}
			select { // the server notices in its own time that a reader has gone
			case <-ctx.Done():
				f.t.Fatalf("drop slot %s: %v", slot, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if err := execOn(h.store.URL, `DROP SCHEMA banyan CASCADE`); err != nil {
		f.t.Fatal(err)
	}
	if h.own {
		h.stopBroker(f.t)
		if err := os.RemoveAll(filepath.Join(h.dir, "broker")); err != nil {
			f.t.Fatal(err)
		}
		h.own = false
	}
}

func (f *field) exec(sql ...string) error { return execOn(f.source.URL, sql...) }

// execOn runs statements one by one in one session.
func execOn(url string, sql ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	for _, statement := range sql {
		if _, err = c.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
			break
		}
	}
	return errors.Join(err, c.Close(ctx))
}

// text is the one value that a query gives.
func (f *field) text(sql string, args ...any) string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, f.source.URL)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close(ctx)
	var s string
	if err := c.QueryRow(ctx, `SELECT q::text FROM (`+sql+`) x(q)`, args...).Scan(&s); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return s
}
