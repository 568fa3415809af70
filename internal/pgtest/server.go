package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/internal/embedded"
)

// ServerOptions of a private server.
type ServerOptions struct {
	// Settings are written to postgresql.conf after our own, so they win:
	// {"wal_level": "replica"}.
	Settings map[string]string
	// BinDir holds initdb and postgres of another version. Empty takes the one
	// that the tests use.
	BinDir string
	// HBA replaces pg_hba.conf, which trusts everybody on 127.0.0.1 and on the
	// socket. Keep one line that lets the superuser postgres in by trust:
	// readiness checks and NewDB use it.
	HBA string
}

// Mode is how a server is asked to stop.
type Mode int

// The three ways of pg_ctl stop.
const (
	Fast      Mode = iota // ends the sessions, writes a checkpoint
	Smart                 // waits until every session has gone by itself
	Immediate             // like a crash: the next start recovers from the WAL
)

func (m Mode) signal() syscall.Signal {
	switch m {
	case Smart:
		return syscall.SIGTERM
	case Immediate:
		return syscall.SIGQUIT
	default:
		return syscall.SIGINT
	}
}

// Server is a running Postgres server.
type Server struct {
	// Dir holds data/ (the data directory), sock/ and server.log.
	Dir string
	// Port on 127.0.0.1; it stays the same over restarts.
	Port int
	// Bin says which programs run.
	Bin embedded.Binaries

	mu   sync.Mutex
	pid  int // 0 while stopped
	tend *os.File
}

// NewServer starts a server that belongs to this test and ends with it.
func NewServer(t testing.TB, opts ...ServerOptions) *Server {
	t.Helper()
	var o ServerOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	s, err := launch(o)
	if err != nil {
		t.Fatalf("pgtest: start a Postgres: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pgtest: end of the server's log:\n%s", s.logTail())
		}
		if err := s.stop(syscall.SIGQUIT); err != nil {
			t.Errorf("pgtest: %v", err)
		}
		s.tend.Close()
		os.RemoveAll(s.Dir)
	})
	return s
}

// URL connects to the database postgres as the superuser.
func (s *Server) URL() string { return s.url("postgres") }

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.Port, database)
}

func (s *Server) socketURL(database string) string {
	q := url.Values{"host": {filepath.Join(s.Dir, "sock")}, "port": {strconv.Itoa(s.Port)}}
	return "postgres://postgres@/" + database + "?" + q.Encode()
}

// Running reports whether the server's process lives.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid != 0 && !embedded.Gone(s.pid)
}

// Start starts a stopped or killed server and returns when it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Stop stops the server and returns when its process has ended. Stopping a
// stopped server does nothing.
func (s *Server) Stop(t testing.TB, mode Mode) {
	t.Helper()
	if err := s.stop(mode.signal()); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Restart stops the server the fast way and starts it again.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t, Fast)
	s.Start(t)
}

// Kill ends the postmaster with SIGKILL; its backends notice and go.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.stop(syscall.SIGKILL); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

func (s *Server) stop(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return nil
	}
	if err := syscall.Kill(s.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop Postgres: %w", err)
	}
	if !embedded.WaitGone(s.pid, time.Minute) {
		return fmt.Errorf("stop Postgres: process %d is still there a minute after %v; its log ends:\n%s", s.pid, sig, s.logTail())
	}
	s.pid = 0
	return nil
}

// start retries for a while: after a SIGKILL the old backends still hold the
// shared memory for some milliseconds, and a new postmaster refuses to start.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 && !embedded.Gone(s.pid) {
		return nil
	}
	deadline := time.Now().Add(time.Minute)
	for {
		pid, err := s.spawn()
		if err != nil {
			return err
		}
		err = s.awaitReady(pid, deadline)
		if err == nil {
			s.pid = pid
			return nil
		}
		if time.Now().After(deadline) || !strings.Contains(s.logTail(), "shared memory block") {
			return fmt.Errorf("start Postgres: %w; its log ends:\n%s", err, s.logTail())
		}
	}
}

func (s *Server) spawn() (int, error) {
	log, err := os.OpenFile(filepath.Join(s.Dir, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.Bin.Dir, "postgres"), "-D", filepath.Join(s.Dir, "data"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.Env = plainEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: embedded.DropRoot()}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start postgres: %w", err)
	}
	// We collect the process ourselves (embedded.Gone), which needs no goroutine
	// that a leak check of the test would find.
	pid := cmd.Process.Pid
	return pid, cmd.Process.Release()
}

func (s *Server) awaitReady(pid int, deadline time.Time) error {
	for {
		err := s.admin(time.Until(deadline), func(ctx context.Context, c *pgx.Conn) error { return c.Ping(ctx) })
		if err == nil {
			return nil
		}
		if embedded.Gone(pid) {
			return errors.New("the server ended at once")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not answer: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *Server) logTail() string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

func launch(o ServerOptions) (*Server, error) {
	bin, err := chooseBinaries(o.BinDir)
	if err != nil {
		return nil, err
	}
	cred := embedded.DropRoot()
	dir, err := embedded.ScratchDir(cred, "pgtest-")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, Bin: bin}
	if err := s.watch(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := s.initialise(o, cred); err != nil {
		s.tend.Close()
		return nil, err
	}
	if err := s.start(); err != nil {
		s.tend.Close()
		return nil, err
	}
	return s, nil
}

func chooseBinaries(dir string) (embedded.Binaries, error) {
	if dir == "" {
		dir = os.Getenv("BANYAN_TEST_POSTGRES_BIN")
	}
	if dir != "" {
		return embedded.ReadBinaries(dir)
	}
	// Whoever has Go and nothing else can run the tests: the first time this
	// downloads a Postgres into the cache directory.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	return embedded.Locate(ctx, embedded.Options{})
}

func (s *Server) initialise(o ServerOptions, cred *syscall.Credential) error {
	cmd := exec.Command(filepath.Join(s.Bin.Dir, "initdb"), "-D", filepath.Join(s.Dir, "data"),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions")
	cmd.Dir, cmd.Env = s.Dir, plainEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// As late as can be: until the server listens, another may draw the same.
	port, err := embedded.FreePort()
	if err != nil {
		return err
	}
	s.Port = port
	sock := filepath.Join(s.Dir, "sock")
	if err := os.Mkdir(sock, 0o755); err != nil {
		return fmt.Errorf("make the socket directory: %w", err)
	}
	// The socket lies in a directory of the server's user; tests of another user
	// must reach it.
	if err := os.Chmod(s.Dir, 0o755); err != nil {
		return fmt.Errorf("open the server's directory: %w", err)
	}
	if cred != nil {
		if err := os.Chown(sock, int(cred.Uid), int(cred.Gid)); err != nil {
			return fmt.Errorf("give the socket directory to the server: %w", err)
		}
	}
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.Port),
		"unix_socket_directories": sock,
		"wal_level":               "logical",
		"max_replication_slots":   "40",
		"max_wal_senders":         "40",
		"max_connections":         "200",
		"shared_buffers":          "64MB",
		"max_wal_size":            "2GB",
		"fsync":                   "off",
		"full_page_writes":        "off",
		"autovacuum_naptime":      "10min",
		"timezone":                "UTC",
		"log_line_prefix":         "%m [%p] %d ",
	}
	for k, v := range o.Settings {
		settings[k] = v
	}
	var conf strings.Builder
	for _, k := range sortedKeys(settings) {
		fmt.Fprintf(&conf, "%s = '%s'\n", k, strings.ReplaceAll(settings[k], "'", "''"))
	}
	if err := appendFile(filepath.Join(s.Dir, "data", "postgresql.conf"), conf.String()); err != nil {
		return err
	}
	if o.HBA != "" {
		if err := os.WriteFile(filepath.Join(s.Dir, "data", "pg_hba.conf"), []byte(o.HBA), 0o600); err != nil {
			return fmt.Errorf("write pg_hba.conf: %w", err)
		}
	}
	return nil
}

// watch starts the shell that ends the server with us. It holds the reading
// end of a pipe whose only writer is this process: however we die, it reads the
// end of file, and acts.
func (s *Server) watch() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the watcher's pipe: %w", err)
	}
	defer r.Close()
	// The command line shows whether the number is still our server's.
	const script = `read _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
cmd=$( (tr '\0' ' ' <"/proc/$pid/cmdline" || ps -ww -o command= -p "$pid") 2>/dev/null )
case "$cmd" in *"$1/data"*)
  kill -QUIT "$pid" 2>/dev/null
  n=0
  while kill -0 "$pid" 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
esac
rm -rf "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, "pgtest-watcher", s.Dir)
	cmd.Stdin = r
	cmd.Env = plainEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // not in the group that Ctrl-C reaches
	if err := cmd.Start(); err != nil {
		w.Close()
		return fmt.Errorf("start the watcher: %w", err)
	}
	s.tend = w
	return cmd.Process.Release()
}

// plainEnv keeps PG* variables of the developer away from the server.
func plainEnv() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
