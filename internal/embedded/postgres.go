package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Settings of the embedded server: modest, durable, and fit to be the source of
// a capture as well as the store.
const postgresConf = `
# Written by banyan when this server was made; change what you like.
listen_addresses = '127.0.0.1'
wal_level = logical
max_replication_slots = 20
max_wal_senders = 20
max_connections = 100
shared_buffers = '128MB'
max_wal_size = '1GB'
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_line_prefix = '%m [%p] %d '
`

// A Unix socket's path may have 107 bytes on Linux and 103 on macOS; the
// server adds its own file name, lock suffix included.
const scratchSockets = "banyan-sock-"

const longestSocketDir = 103 - len("/.s.PGSQL.65535.lock")

// startPostgres returns the running server and whether this call started it.
func startPostgres(ctx context.Context, o Options, old *PostgresState) (*PostgresState, bool, error) {
	cred := userOf(filepath.Join(o.Dir, "postgres"))
	data, err := placeData(o, cred)
	if err != nil {
		return nil, false, err
	}
	if old != nil && old.DataDir == data && postmasterPID(data) != 0 {
		if p, err := findRunning(ctx, old); err != nil || p != nil {
			return p, false, err
		}
	}
	if pid := postmasterPID(data); pid != 0 {
		// It runs but embedded.json is lost or about another place: what the
		// server itself wrote down says how to reach it.
		p := adopt(o.Dir)
		if p == nil {
			return nil, false, fmt.Errorf("process %d serves %s, but its password file is lost; stop that process first", pid, data)
		}
		p, err := findRunning(ctx, p)
		return p, false, err
	}
	major, err := dataVersion(data)
	if err != nil {
		return nil, false, err
	}
	bin, err := locate(ctx, o, major)
	if err != nil {
		return nil, false, err
	}
	password, err := passwordOf(o.Dir, major != 0)
	if err != nil {
		return nil, false, err
	}
	if major == 0 {
		o.Log.Info("making a Postgres", "version", bin.Version, "dir", data)
		if err := initdb(ctx, bin, data, password, cred); err != nil {
			return nil, false, err
		}
	}
	p := &PostgresState{Version: bin.Version, BinDir: bin.Dir, DataDir: data}
	if old != nil {
		p.Port = old.Port
	}
	if err := clearStalePID(data); err != nil {
		return nil, false, err
	}
	if p.Port, err = keepPort(p.Port); err != nil {
		return nil, false, err
	}
	if p.SocketDir, err = socketDir(o.Dir, old, cred); err != nil {
		return nil, false, err
	}
	p.URL = postgresURL(p.Port, password)
	if err := spawnPostgres(ctx, o, p, cred); err != nil {
		if strings.HasPrefix(filepath.Base(p.SocketDir), scratchSockets) && (old == nil || old.SocketDir != p.SocketDir) {
			err = errors.Join(err, os.RemoveAll(p.SocketDir))
		}
		return nil, false, err
	}
	o.Log.Info("Postgres is ready", "version", p.Version, "port", p.Port)
	return p, true, nil
}

func postgresURL(port int, password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/postgres", RawQuery: "sslmode=disable"}
	return u.String()
}

// findRunning waits until a server whose process lives also answers: another
// caller may have died while it was starting. A nil state says that the process
// went away while we asked.
func findRunning(ctx context.Context, p *PostgresState) (*PostgresState, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := probePostgres(ctx, p)
		pid := postmasterPID(p.DataDir)
		if err == nil && pid != 0 {
			found := *p
			found.PID = pid
			return &found, nil
		}
		if pid == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("process %d serves %s but does not let us in: %w", pid, p.DataDir, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// probePostgres connects with our password and makes sure that it is our data
// directory that answers: the port may be somebody else's by now.
func probePostgres(ctx context.Context, p *PostgresState) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, p.URL)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	var dir string
	if err := c.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != p.DataDir {
		return fmt.Errorf("port %d is another server's: it serves %s", p.Port, dir)
	}
	return nil
}

// placeData returns the data directory's real path and makes room for it. It is
// <dir>/postgres, except for root when the server's user cannot get there: then
// that is a link to a place that this user can reach.
func placeData(o Options, cred *syscall.Credential) (string, error) {
	link := filepath.Join(o.Dir, "postgres")
	if real, err := filepath.EvalSymlinks(link); err == nil {
		if err := ReachableBy(cred, filepath.Dir(real)); err != nil {
			return "", fmt.Errorf("%w; let others enter it (chmod o+x) or choose another directory", err)
		}
		return real, nil
	}
	real := link
	if parent, err := filepath.EvalSymlinks(o.Dir); err == nil {
		real = filepath.Join(parent, "postgres") // as the server will report it
	}
	if closed := ReachableBy(cred, o.Dir); closed != nil {
		const shelf = "/var/lib/banyan"
		if err := makeDir(shelf); err != nil {
			return "", errors.Join(closed, err)
		}
		if err := ReachableBy(cred, shelf); err != nil {
			return "", errors.Join(closed, err)
		}
		place, err := os.MkdirTemp(shelf, "postgres-")
		if err != nil {
			return "", fmt.Errorf("%w, and no other place was found: %w", closed, err)
		}
		if err := os.Symlink(place, link); err != nil {
			return "", fmt.Errorf("link the data: %w", err)
		}
		o.Log.Warn("the data of Postgres lies elsewhere", "because", closed.Error(), "place", place, "link", link)
		real = place
	} else if err := os.Mkdir(real, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the data directory: %w", err)
	}
	if cred != nil {
		if err := os.Chown(real, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", fmt.Errorf("give the data directory to the server's user: %w", err)
		}
	}
	return real, nil
}

// dataVersion is the major version that made the data directory, 0 for an
// empty one.
func dataVersion(data string) (int, error) {
	b, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the data: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read the version of the data in %s: %w", data, err)
	}
	return major, nil
}

// passwordOf reads the superuser's password or, for a server that is yet to be
// made, draws one.
func passwordOf(dir string, made bool) (string, error) {
	name := filepath.Join(dir, "postgres.password")
	b, err := os.ReadFile(name)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if made || !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the superuser's password: %w", err)
	}
	password := rand.Text()
	return password, replaceFile(name, []byte(password+"\n"))
}

// initdb fills the data directory. It works beside it and renames at the end,
// so that a crash in the middle leaves an empty one, not half a server.
func initdb(ctx context.Context, bin Binaries, data, password string, cred *syscall.Credential) error {
	work, err := ScratchDir(cred, "banyan-initdb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	pw := filepath.Join(work, "pw")
	if err := os.WriteFile(pw, []byte(password), 0o600); err != nil {
		return fmt.Errorf("pass the password to initdb: %w", err)
	}
	if cred != nil {
		if err := os.Chown(pw, int(cred.Uid), int(cred.Gid)); err != nil {
			return fmt.Errorf("pass the password to initdb: %w", err)
		}
	}
	// A crash of ours can have left files; initdb itself cleans up after its
	// own failures.
	if err := empty(data); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin.Dir, "initdb"), "-D", data, "-U", "postgres",
		"-A", "scram-sha-256", "--pwfile="+pw, "-E", "UTF8", "--no-locale", "--no-instructions")
	cmd.Dir, cmd.Env = work, serverEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it removes what it made
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb in %s: %w\n%s", data, err, out)
	}
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("configure the server: %w", err)
	}
	_, err = conf.WriteString(postgresConf)
	if err = errors.Join(err, conf.Close()); err != nil {
		return fmt.Errorf("configure the server: %w", err)
	}
	return nil
}

// empty removes what an interrupted initdb left, which has no PG_VERSION yet or
// it would not have been asked for.
func empty(data string) error {
	entries, err := os.ReadDir(data)
	if err != nil {
		return fmt.Errorf("look into %s: %w", data, err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "base", "global", "pg_wal", "pg_tblspc", "pg_stat", "pg_xact", "pg_multixact", "pg_commit_ts", "pg_dynshmem", "pg_logical",
			"pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans", "pg_twophase",
			"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf":
			if err := os.RemoveAll(filepath.Join(data, e.Name())); err != nil {
				return fmt.Errorf("clean up after an interrupted initdb: %w", err)
			}
		default:
			return fmt.Errorf("%s holds %s, which is no part of a Postgres: choose another directory", data, e.Name())
		}
	}
	return nil
}

func serverEnv() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

// keepPort returns the port that was used before if it is free, or another:
// whatever was written down about the old one still holds, where possible.
func keepPort(port int) (int, error) {
	if port != 0 {
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return FreePort()
}

func socketDir(dir string, old *PostgresState, cred *syscall.Credential) (string, error) {
	sock := filepath.Join(dir, "run")
	if len(sock) > longestSocketDir || ReachableBy(cred, dir) != nil {
		if old != nil && old.SocketDir != "" {
			if _, err := os.Stat(old.SocketDir); err == nil {
				return old.SocketDir, nil
			}
		}
		return scratchDir(cred, scratchSockets, longestSocketDir)
	}
	if err := os.Mkdir(sock, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the socket directory: %w", err)
	}
	if cred != nil {
		if err := os.Chown(sock, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", fmt.Errorf("give the socket directory to the server's user: %w", err)
		}
	}
	return sock, nil
}

// spawnPostgres starts the server and waits until it answers. After a SIGKILL
// the backends of the old one hold its shared memory for some milliseconds, and
// a new one refuses to start: that is tried again.
func spawnPostgres(ctx context.Context, o Options, p *PostgresState, cred *syscall.Credential) error {
	logName := filepath.Join(o.Dir, "postgres.log")
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	for deadline := time.Now().Add(time.Minute); ; {
		cmd := exec.Command(filepath.Join(p.BinDir, "postgres"), "-D", p.DataDir, "-p", strconv.Itoa(p.Port), "-k", p.SocketDir)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = p.DataDir, log, log, serverEnv()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: cred}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start postgres: %w", err)
		}
		p.PID = cmd.Process.Pid
		if err := cmd.Process.Release(); err != nil {
			return fmt.Errorf("start postgres: %w", err)
		}
		err := awaitPostgres(ctx, p)
		if err == nil || !errors.Is(err, errEndedAtOnce) {
			return err
		}
		said := tail(logName)
		if time.Now().After(deadline) || !strings.Contains(said, "shared memory block") {
			return fmt.Errorf("%w; %s ends:\n%s", err, logName, said)
		}
	}
}

var errEndedAtOnce = errors.New("the server ended at once")

// awaitPostgres has no limit but the context's: recovery after a crash can take
// long, and only a dead process is a failure.
func awaitPostgres(ctx context.Context, p *PostgresState) error {
	for {
		probe := probePostgres(ctx, p)
		if probe == nil {
			return nil
		}
		if Gone(p.PID) {
			return errEndedAtOnce
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for Postgres: %w (%w)", ctx.Err(), probe), stopPostgres(context.WithoutCancel(ctx), p))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stopPostgres asks for a fast shutdown and insists after a while; an immediate
// one loses nothing either, the next start recovers.
func stopPostgres(ctx context.Context, p *PostgresState) error {
	if p == nil {
		return nil
	}
	pid := postmasterPID(p.DataDir)
	if pid == 0 {
		return nil
	}
	for _, step := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGINT, time.Minute}, {syscall.SIGQUIT, 20 * time.Second}} {
		if err := syscall.Kill(pid, step.sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
		if waitGone(ctx, pid, step.wait) {
			if strings.HasPrefix(filepath.Base(p.SocketDir), scratchSockets) {
				return os.RemoveAll(p.SocketDir)
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for process %d to end: %w", pid, ctx.Err())
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// adopt puts a state together from what the running server and we wrote down
// beside embedded.json. Nil when there is not enough.
func adopt(dir string) *PostgresState {
	data, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return nil
	}
	lines := pidFile(data)
	password, err := passwordOf(dir, true)
	if err != nil || len(lines) < 5 {
		return nil
	}
	port, err := strconv.Atoi(lines[3])
	if err != nil {
		return nil
	}
	p := &PostgresState{Port: port, SocketDir: lines[4], DataDir: data, URL: postgresURL(port, password)}
	if opts, err := os.ReadFile(filepath.Join(data, "postmaster.opts")); err == nil {
		program, _, _ := strings.Cut(string(opts), " ")
		if b, err := ReadBinaries(filepath.Dir(program)); err == nil {
			p.BinDir, p.Version = b.Dir, b.Version
		}
	}
	return p
}

// pidFile is the server's own note: process, data directory, start, port,
// socket directory, address, shared memory, status.
func pidFile(data string) []string {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(b), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// postmasterPID is the live process that serves the data directory, or 0. The
// note may be old and the number somebody else's: the command line decides.
func postmasterPID(data string) int {
	lines := pidFile(data)
	if len(lines) == 0 {
		return 0
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil || pid <= 1 || Gone(pid) || !strings.Contains(commandLine(pid), data) {
		return 0
	}
	return pid
}

// clearStalePID removes the server's note when its number now belongs to a
// process that is something else, as happens after a reboot: the server would
// refuse to start. In every other case the note stays, because it also keeps a
// new server from the data while backends of a killed one still write.
func clearStalePID(data string) error {
	lines := pidFile(data)
	if len(lines) == 0 || postmasterPID(data) != 0 {
		return nil
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil || pid <= 1 || Gone(pid) {
		return nil
	}
	if err := os.Remove(filepath.Join(data, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the note of a server that is gone: %w", err)
	}
	return nil
}

// userOf is whom the server runs as: for root, the owner of data that exist
// already, so that data made by a user go on working under sudo.
func userOf(data string) *syscall.Credential {
	cred := DropRoot()
	if cred == nil {
		return nil
	}
	info, err := os.Stat(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return cred
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
		cred.Uid, cred.Gid = st.Uid, st.Gid
	}
	return cred
}
