package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/bus"
	"banyan/internal/embedded"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

// ground is where projections are measured: a broker with topics, and a server
// for the databases of services, which fsyncs as in production.
type ground struct {
	t       testing.TB
	broker  string // as tables call it
	brokers []string
	pid     int // of the broker; 0 where it is not known
	stores  *pgtest.Server
	cluster *bus.Cluster
}

// newGround uses the broker that it is given, or else an embedded one in a
// process of its own.
func newGround(t testing.TB, kafka *kafkatest.Broker) *ground {
	t.Helper()
	g := &ground{t: t, broker: "Apache Kafka 4"}
	if kafka != nil {
		g.brokers = kafka.Addrs
	} else {
		g.startBroker()
	}
	g.stores = pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{
		"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_wal_size": "2GB", "max_connections": "100"}})
	cluster, err := bus.Dial(context.Background(), bus.Config{Brokers: g.brokers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	g.cluster = cluster
	return g
}

func (g *ground) startBroker() {
	dir := filepath.Join(g.t.TempDir(), "broker")
	st, err := embedded.Start(context.Background(), embedded.Options{Dir: dir, Broker: true, Executable: program(g.t, "cdc")})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		if err := embedded.Stop(context.Background(), dir); err != nil {
			g.t.Error(err)
		}
	})
	g.broker, g.brokers, g.pid = "embedded broker", st.Broker.Addrs, st.Broker.PID
}

// quiet brings the dirty pages to the disk, so that nobody pays for somebody
// else's.
func (g *ground) quiet() {
	g.t.Helper()
	if err := execOn(g.stores.URL(), `CHECKPOINT`); err != nil {
		g.t.Fatal(err)
	}
}

// worker is a program under measurement.
type worker struct {
	name string // in tables
	cmd  func() *exec.Cmd
	// running begins the line on stdout that says that it has started up.
	running string
	// applied counts the events whose effect is committed, as seen from outside.
	applied func(context.Context) (int64, error)
	// check says what is wrong with the result.
	check func() error
}

// trial is what one run of a worker cost. Times are in seconds, sizes in MB.
type trial struct {
	events float64
	lead   float64 // from the start of the process until it runs
	wall   float64 // from the start of the process until all is committed
	cpu    float64 // of the process, user and system
	rss    float64 // its peak
	waste  float64 // MB that it has allocated in all; of a run in this process alone
	// What the servers spent meanwhile, CPU in seconds.
	store, broker float64
}

// rate is events per second once the program has started.
func (t trial) rate() float64 { return t.events / (t.wall - t.lead) }

// life is one process of a worker.
type life struct {
	cmd    *exec.Cmd
	log    *bytes.Buffer
	stages *stageClock
	start  time.Time
	ended  chan error
}

// live starts a process of a worker.
func (g *ground) live(w worker) *life {
	g.t.Helper()
	l := &life{cmd: w.cmd(), log: &bytes.Buffer{}, ended: make(chan error, 1), start: time.Now()}
	l.stages = &stageClock{start: l.start, passed: make(map[string]float64)}
	l.cmd.Stdout, l.cmd.Stderr = l.stages, l.log
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.cmd.Start(); err != nil {
		g.t.Fatalf("%s: %v", w.name, err)
	}
	go func() { l.ended <- l.cmd.Wait() }()
	return l
}

// end sends a signal and waits until the process is gone.
func (l *life) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := l.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	<-l.ended
}

// until waits until so many events are committed, and gives the time since the
// process started and the peak of its memory.
func (g *ground) until(w worker, l *life, want int64) (seconds, rss float64) {
	g.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Minute)
	for {
		select {
		case err := <-l.ended:
			g.t.Fatalf("%s ended: %v\n%s", w.name, err, tailOf(l.log))
		case <-deadline:
			l.end(g.t, syscall.SIGKILL)
			g.t.Fatalf("%s has not applied %d events\n%s", w.name, want, tailOf(l.log))
		case <-tick.C:
		}
		n, err := w.applied(context.Background())
		if err != nil {
			g.t.Fatalf("%s: ask how far it is: %v", w.name, err)
		}
		rss = max(rss, peakRSS(l.cmd.Process.Pid))
		if n >= want {
			return time.Since(l.start).Seconds(), rss
		}
	}
}

func tailOf(log *bytes.Buffer) string {
	lines := strings.Split(strings.TrimRight(log.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// measure runs a worker from its start until it has committed so many events.
func (g *ground) measure(w worker, want int64) trial {
	g.t.Helper()
	g.quiet()
	store := serverOf(g.stores)
	before := [2]float64{store.cpu(g.t), cpuOf(g.pid)}
	l := g.live(w)
	m := trial{events: float64(want)}
	m.wall, m.rss = g.until(w, l, want)
	m.store, m.broker = store.cpu(g.t)-before[0], cpuOf(g.pid)-before[1]
	l.end(g.t, syscall.SIGTERM)
	m.lead, m.cpu = l.stages.at(w.running), used(l.cmd)
	if w.check != nil {
		if err := w.check(); err != nil {
			g.t.Fatalf("%s: %v", w.name, err)
		}
	}
	return m
}

// service is a projection with a database of its own.
type service struct {
	name string
	db   *pgtest.DB
	pool *pgxpool.Pool
	dir  string
}

// newService writes the projection's file and makes a database for it.
func (g *ground) newService(name, yaml string) *service {
	g.t.Helper()
	s := &service{name: name, db: g.stores.NewDB(g.t), dir: g.t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.dir, name+".yaml"), []byte(yaml), 0o644); err != nil {
		g.t.Fatal(err)
	}
	s.pool = s.db.Pool(g.t)
	return s
}

// install makes the first version of a service's projection, and applies next to
// nothing.
func (g *ground) install(s *service) {
	g.t.Helper()
	l := g.live(worker{name: "projector run", cmd: func() *exec.Cmd { return g.projector(s, "run", "--listen", "") }})
	g.reach(l, "running:")
	l.end(g.t, syscall.SIGTERM)
}

// projector is a command of projector for a service.
func (g *ground) projector(s *service, args ...string) *exec.Cmd {
	cmd := exec.Command(program(g.t, "projector"), append(args, "-f", s.name+".yaml")...)
	cmd.Dir = s.dir
	cmd.Env = append(ownEnvironment(), "BANYAN_DB="+s.db.URL, "BANYAN_BROKERS="+strings.Join(g.brokers, ","))
	return cmd
}

// ownEnvironment is ours without what would tell programs where to connect.
func ownEnvironment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BANYAN_") && !strings.HasPrefix(e, "PG") {
			env = append(env, e)
		}
	}
	return env
}

// worker is projector run for a service, measured by the offsets that it commits
// with its rows.
func (g *ground) worker(name string, s *service, d *told, args ...string) worker {
	return worker{
		name: name, running: "running:",
		cmd:     func() *exec.Cmd { return g.projector(s, append([]string{"run", "--listen", ""}, args...)...) },
		applied: s.applied,
	}
}

// listening is projector run with its read API on a free port.
func (g *ground) listening(s *service) func() *exec.Cmd {
	return func() *exec.Cmd { return g.projector(s, "run", "--listen", "127.0.0.1:0") }
}

// applied sums the offsets that the versions' rows stand at, of the version that
// readers see.
func (s *service) applied(ctx context.Context) (int64, error) {
	var there bool
	if err := s.pool.QueryRow(ctx, `SELECT to_regclass('banyan.part') IS NOT NULL`).Scan(&there); err != nil || !there {
		return 0, err
	}
	var n int64
	err := s.pool.QueryRow(ctx, `SELECT coalesce(sum(p.next_offset), 0)::bigint FROM banyan.part p
		JOIN banyan.version v ON (v.projection, v.number) = (p.projection, p.version) WHERE v.projection = $1 AND v.state = 'active'`, s.name).Scan(&n)
	return n, err
}

// holds checks what the service's table has: a row for each key, and all events
// counted.
func (s *service) holds(d *told, table, column string) func() error {
	return func() error {
		var rows, events int64
		if err := s.pool.QueryRow(context.Background(), fmt.Sprintf(`SELECT count(*), coalesce(sum(%s), 0)::bigint FROM %s`, column, table)).Scan(&rows, &events); err != nil {
			return err
		}
		if rows != int64(d.distinct) || events != d.total() {
			return fmt.Errorf("%s has %d rows that counted %d events, want %d and %d", table, rows, events, d.distinct, d.total())
		}
		return nil
	}
}
