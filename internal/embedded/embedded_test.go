package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"

	"banyan/internal/embedded"
)

// TestMain turns this program into the broker when it is started as one, which
// is what cmd/cdc does with its hidden command.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "serve-broker" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := embedded.ServeBroker(ctx, embedded.BrokerOptions{Dir: os.Args[3], Listen: os.Args[5]}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// options of servers in a directory of their own that the server's user can
// enter; whatever still runs there at the end is stopped.
func options(t *testing.T) embedded.Options {
	t.Helper()
	dir, err := embedded.ScratchDir(nil, "banyan-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"postgres.log", "broker.log"} {
				b, _ := os.ReadFile(filepath.Join(dir, name))
				t.Logf("%s:\n%s", name, b)
			}
		}
		if err := embedded.Stop(context.Background(), dir); err != nil {
			t.Error(err)
		}
		if left := processesOf(t, dir); len(left) > 0 {
			t.Errorf("after Stop these still run: %q", left)
		}
		os.RemoveAll(dir)
	})
	return embedded.Options{Dir: dir, Postgres: true, Broker: true, BrokerArgs: []string{"serve-broker"}}
}

// processesOf lists the command lines that name the directory.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(b), dir) {
			found = append(found, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

func start(t *testing.T, o embedded.Options) embedded.State {
	t.Helper()
	s, err := embedded.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServersKeepDataAndAddressOverStopAndKill(t *testing.T) {
	o := options(t)
	s := start(t, o)
	info, err := os.Stat(filepath.Join(o.Dir, embedded.StateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v (%v), want 0600: it holds a password", embedded.StateFile, info.Mode(), err)
	}
	if again := start(t, o); again.Postgres.PID != s.Postgres.PID || again.Broker.PID != s.Broker.PID {
		t.Errorf("a second start made other processes: %+v, then %+v", s.Redacted(), again.Redacted())
	}
	rows := 1
	write(t, s)
	for name, end := range map[string]func(){
		"stop": func() {
			if err := embedded.Stop(t.Context(), o.Dir); err != nil {
				t.Fatal(err)
			}
		},
		"kill -9": func() {
			for _, pid := range []int{s.Postgres.PID, s.Broker.PID} {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if !embedded.WaitGone(pid, 10*time.Second) {
					t.Fatalf("%d survives SIGKILL", pid)
				}
			}
		},
	} {
		end()
		if st, err := embedded.Status(t.Context(), o.Dir); err != nil || st.Postgres.PID != 0 || st.Broker.PID != 0 {
			t.Errorf("after %s: status %+v, %v; want both stopped", name, st.Redacted(), err)
		}
		before := s
		s = start(t, o)
		if s.Postgres.URL != before.Postgres.URL || s.Broker.Addrs[0] != before.Broker.Addrs[0] {
			t.Errorf("after %s the addresses moved", name)
		}
		if st, err := embedded.Status(t.Context(), o.Dir); err != nil || st.Postgres.PID != s.Postgres.PID || st.Broker.PID != s.Broker.PID {
			t.Errorf("after %s and start: status %+v, %v", name, st.Redacted(), err)
		}
		write(t, s)
		rows++
		check(t, s, rows)
	}
}

// write adds one row and one record.
func write(t *testing.T, s embedded.State) {
	t.Helper()
	url, err := embedded.CreateDatabase(t.Context(), s, "shop")
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS a (id serial PRIMARY KEY); INSERT INTO a DEFAULT VALUES"); err != nil {
		t.Fatal(err)
	}
	createTopic(t, s.Broker.Addrs[0])
	produce(t, s.Broker.Addrs[0], 1)
}

func createTopic(t *testing.T, addr string) {
	t.Helper()
	transport := &kafka.Transport{} // the default one keeps connections to brokers that we kill
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(addr), Transport: transport}
	resp, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: "a", NumPartitions: 1, ReplicationFactor: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Errors["a"]; err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		t.Fatal(err)
	}
}

func produce(t *testing.T, addr string, n int) {
	t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{Addr: kafka.TCP(addr), Topic: "a", RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond, Transport: transport}
	defer w.Close()
	for range n {
		if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, s embedded.State, want int) {
	t.Helper()
	url, err := embedded.CreateDatabase(t.Context(), s, "shop")
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var rows int
	var level, fsync string
	if err := c.QueryRow(t.Context(), "SELECT count(*), current_setting('wal_level'), current_setting('fsync') FROM a").Scan(&rows, &level, &fsync); err != nil {
		t.Fatal(err)
	}
	if rows != want || level != "logical" || fsync != "on" {
		t.Errorf("%d rows, wal_level %s, fsync %s; want %d, logical, on", rows, level, fsync, want)
	}
	if got := readAll(t, s.Broker.Addrs[0]); got != want {
		t.Errorf("%d records, want %d", got, want)
	}
}

// readAll counts the records from the first to the end that the broker names.
func readAll(t *testing.T, addr string) int {
	t.Helper()
	conn, err := kafka.DialLeader(t.Context(), "tcp", addr, "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	end, err := conn.ReadLastOffset()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for int64(n) < end {
		m, err := conn.ReadMessage(1 << 20)
		if err != nil {
			t.Fatalf("record %d of %d: %v", n, end, err)
		}
		if m.Offset != int64(n) {
			t.Fatalf("record %d has offset %d", n, m.Offset)
		}
		n++
	}
	return n
}

func TestStartsAtOnceGiveOneServer(t *testing.T) {
	o := options(t)
	o.Broker = false
	states := make([]embedded.State, 4)
	errs := make([]error, len(states))
	var wg sync.WaitGroup
	for i := range states {
		wg.Go(func() { states[i], errs[i] = embedded.Start(t.Context(), o) })
	}
	wg.Wait()
	for i := range states {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if states[i].Postgres.PID != states[0].Postgres.PID {
			t.Errorf("two servers: %d and %d", states[0].Postgres.PID, states[i].Postgres.PID)
		}
	}
}

func TestServersAreFoundWithoutTheStateFile(t *testing.T) {
	o := options(t)
	s := start(t, o)
	name := filepath.Join(o.Dir, embedded.StateFile)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	found := start(t, o)
	a, _ := json.Marshal(s)
	b, _ := json.Marshal(found)
	if string(a) != string(b) {
		t.Errorf("found\n%s, want\n%s", b, a)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	// options' cleanup checks that Stop finds both without the file, too.
}

// After a reboot the numbers in every note belong to others.
func TestNumbersOfOtherProcessesAreNotOurServers(t *testing.T) {
	o := options(t)
	s := start(t, o)
	for _, pid := range []int{s.Postgres.PID, s.Broker.PID} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		embedded.WaitGone(pid, 10*time.Second)
	}
	note := filepath.Join(s.Postgres.DataDir, "postmaster.pid")
	b, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n")
	if err := os.WriteFile(note, fmt.Appendf(nil, "%d\n%s", os.Getpid(), rest), 0o600); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(o.Dir, "broker", "serving.lock")
	if err := os.WriteFile(lock, fmt.Appendf(nil, "%d\n%s\n", os.Getpid(), s.Broker.Addrs[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := embedded.Stop(t.Context(), o.Dir); err != nil { // would end this test
		t.Fatal(err)
	}
	if again := start(t, o); again.Postgres.PID == os.Getpid() || again.Broker.PID == os.Getpid() {
		t.Errorf("took the test for a server: %+v", again.Redacted())
	}
}

func TestATakenPortIsReplaced(t *testing.T) {
	o := options(t)
	s := start(t, o)
	if err := embedded.Stop(t.Context(), o.Dir); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{fmt.Sprintf("127.0.0.1:%d", s.Postgres.Port), s.Broker.Addrs[0]} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	again := start(t, o)
	if again.Postgres.Port == s.Postgres.Port || again.Broker.Addrs[0] == s.Broker.Addrs[0] {
		t.Errorf("still on a port that is taken: %+v", again.Redacted())
	}
	write(t, again)
}

func TestALongPathGetsAShortSocket(t *testing.T) {
	o := options(t)
	o.Broker = false
	o.Dir = filepath.Join(o.Dir, strings.Repeat("long", 30))
	// The place for temporary files may be as long.
	tmp := filepath.Join(t.TempDir(), strings.Repeat("tmp", 30))
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	t.Cleanup(func() {
		if err := embedded.Stop(context.Background(), o.Dir); err != nil {
			t.Error(err)
		}
	})
	s := start(t, o)
	c, err := pgx.Connect(t.Context(), strings.Replace(s.Postgres.URL, "sslmode=disable", "host="+s.Postgres.SocketDir, 1))
	if err != nil {
		t.Fatal(err)
	}
	c.Close(context.Background())
	if err := embedded.Stop(t.Context(), o.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Postgres.SocketDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", s.Postgres.SocketDir, err)
	}
}

func TestAPasswordIsAskedForAndNotShown(t *testing.T) {
	o := options(t)
	o.Broker = false
	s := start(t, o)
	c, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://postgres:wrong@127.0.0.1:%d/postgres?sslmode=disable", s.Postgres.Port))
	if err == nil {
		c.Close(context.Background())
		t.Error("a wrong password was let in")
	}
	secret, err := os.ReadFile(filepath.Join(o.Dir, "postgres.password"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(s.Redacted())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(shown), strings.TrimSpace(string(secret))) || !strings.Contains(s.Postgres.URL, strings.TrimSpace(string(secret))) {
		t.Error("Redacted shows the password, or the URL lacks it")
	}
}

func TestWhatCannotWorkSaysWhy(t *testing.T) {
	if _, err := embedded.Start(t.Context(), embedded.Options{}); !errors.Is(err, embedded.ErrNoDir) {
		t.Errorf("without a directory: %v", err)
	}
	o := options(t)
	o.BrokerArgs = []string{"-test.run=^$"} // a program that ends at once
	_, err := embedded.Start(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "ended at once") {
		t.Errorf("with a broken broker: %v", err)
	}
	if left := processesOf(t, o.Dir); len(left) > 0 {
		t.Errorf("half of it runs: %q", left)
	}
	foreign := options(t)
	if err := os.MkdirAll(filepath.Join(foreign.Dir, "postgres"), 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(foreign.Dir, "postgres", "precious.txt")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(t.Context(), foreign); err == nil || !strings.Contains(err.Error(), "precious.txt") {
		t.Errorf("on somebody's folder: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	for _, listen := range []string{"0.0.0.0:0", "127.0.0.1", "127.0.0.1:x"} {
		if err := embedded.ServeBroker(t.Context(), embedded.BrokerOptions{Dir: t.TempDir(), Listen: listen}); err == nil {
			t.Errorf("the broker listens on %q", listen)
		}
	}
}

// A record that was half written when the machine went down must not hide those
// before it, nor those that come after.
func TestBrokerRecoversFromATornTail(t *testing.T) {
	o := options(t)
	o.Postgres = false
	s := start(t, o)
	createTopic(t, s.Broker.Addrs[0])
	produce(t, s.Broker.Addrs[0], 20)
	if err := syscall.Kill(s.Broker.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	embedded.WaitGone(s.Broker.PID, 10*time.Second)
	segments, err := filepath.Glob(filepath.Join(o.Dir, "broker", "*", "*", "*.dat"))
	if err != nil || len(segments) == 0 {
		segments, _ = filepath.Glob(filepath.Join(o.Dir, "broker", "*", "*", "*", "*.dat"))
	}
	if len(segments) != 1 {
		t.Fatalf("segments %q, want one", segments)
	}
	content, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	half := content[:len(content)/20-7]
	if err := os.WriteFile(segments[0], append(content, half...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, o)
	if got := readAll(t, s.Broker.Addrs[0]); got != 20 {
		t.Errorf("%d records after the crash, want 20", got)
	}
	produce(t, s.Broker.Addrs[0], 1)
	if got := readAll(t, s.Broker.Addrs[0]); got != 21 {
		t.Errorf("%d records after one more, want 21", got)
	}
}

// What was acknowledged is there after a SIGKILL in the middle of the work,
// round after round on the same data.
func TestBrokerKeepsWhatItAcknowledgedOverKills(t *testing.T) {
	o := options(t)
	o.Postgres = false
	seed := time.Now().UnixNano()
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	t.Logf("seed %d", seed)
	acknowledged := 0
	const each = 4 // acknowledgements at least, in a round
	for round := range 5 {
		s := start(t, o)
		if round == 0 {
			createTopic(t, s.Broker.Addrs[0])
		}
		done := make(chan int)
		some := make(chan struct{})
		go func() {
			transport := &kafka.Transport{}
			defer transport.CloseIdleConnections()
			w := &kafka.Writer{Addr: kafka.TCP(s.Broker.Addrs[0]), Topic: "a", RequiredAcks: kafka.RequireAll, MaxAttempts: 1,
				BatchTimeout: time.Millisecond, Transport: transport}
			n := 0
			for w.WriteMessages(context.Background(), kafka.Message{Value: []byte("v")}) == nil {
				if n++; n == each {
					close(some)
				}
			}
			w.Close()
			done <- n
		}()
		select {
		case <-some:
		case n := <-done:
			t.Fatalf("round %d: no more than %d records were taken", round, n)
		}
		timer := time.NewTimer(time.Duration(random.IntN(200)) * time.Millisecond)
		<-timer.C
		if err := syscall.Kill(s.Broker.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		acknowledged += <-done
		embedded.WaitGone(s.Broker.PID, 10*time.Second)
		got := readAll(t, start(t, o).Broker.Addrs[0])
		// The last request of each round may have been written and not answered.
		if got < acknowledged || got > acknowledged+round+1 {
			t.Errorf("round %d: %d records, acknowledged %d", round, got, acknowledged)
		}
	}
}

func TestOneProcessServesABroker(t *testing.T) {
	o := options(t)
	o.Postgres = false
	start(t, o)
	err := embedded.ServeBroker(t.Context(), embedded.BrokerOptions{Dir: filepath.Join(o.Dir, "broker"), Listen: "127.0.0.1:0"})
	if !errors.Is(err, embedded.ErrBrokerRuns) {
		t.Errorf("a second broker: %v, want ErrBrokerRuns", err)
	}
}

// Root's own folders are closed to the user that Postgres runs as.
func TestRootInAClosedFolderPlacesTheDataElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("an ordinary user runs Postgres as itself: nothing to place")
		return
	}
	closed := options(t)
	closed.Broker = false
	if err := os.Chmod(closed.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, closed)
	t.Cleanup(func() { // before the cleanup of options
		if err := embedded.Stop(context.Background(), closed.Dir); err != nil {
			t.Error(err)
		}
		os.RemoveAll(s.Postgres.DataDir)
	})
	if strings.HasPrefix(s.Postgres.DataDir, closed.Dir) {
		t.Errorf("the data lie in %s", s.Postgres.DataDir)
	}
	if err := embedded.Stop(t.Context(), closed.Dir); err != nil {
		t.Fatal(err)
	}
	if again := start(t, closed); again.Postgres.DataDir != s.Postgres.DataDir {
		t.Errorf("the data moved to %s", again.Postgres.DataDir)
	}
}

// The same as a plain user, for those who run the tests as root.
func TestAsAPlainUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("the other tests already run as one")
		return
	}
	dir, err := embedded.ScratchDir(embedded.DropRoot(), "banyan-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "tests")
	copyProgram(t, program)
	cmd := exec.Command(program, "-test.run=^(TestServersKeepDataAndAddressOverStopAndKill|TestServersAreFoundWithoutTheStateFile)$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: embedded.DropRoot()}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	from, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFindPostgresTellsItsVersion(t *testing.T) {
	b, err := embedded.Locate(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatalf("on %s: %v", runtime.GOOS, err)
	}
	again, err := embedded.ReadBinaries(b.Dir)
	if err != nil || again != b || b.Major < embedded.OldestPostgres || b.Major > embedded.NewestPostgres {
		t.Errorf("found %+v, read %+v, %v", b, again, err)
	}
}
