package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// Options of Start. Only Dir is required.
type Options struct {
	// Dir holds everything: embedded.json, the data, the logs. It is made if
	// missing.
	Dir string
	// Postgres and Broker say what to start.
	Postgres, Broker bool
	// Log hears what is downloaded, started or found. Nil is silent.
	Log *slog.Logger
	// Executable and BrokerArgs are the command that serves the broker; it must
	// end in ServeBroker. Start appends --dir and --listen. The defaults are
	// this very program and "embedded serve-broker".
	Executable string
	BrokerArgs []string
	// BinDir holds initdb and postgres. Empty looks on the machine, then
	// fetches.
	BinDir string
	// RepositoryURL is the Maven repository to fetch Postgres from; empty means
	// Maven Central.
	RepositoryURL string
	// CacheDir keeps fetched binaries. Empty means the user's cache directory.
	CacheDir string
}

// State says what runs, and where. It is what embedded.json holds; the file has
// mode 0600 because the URL contains the password.
type State struct {
	Postgres *PostgresState `json:"postgres,omitempty"`
	Broker   *BrokerState   `json:"broker,omitempty"`
}

// PostgresState is one Postgres server.
type PostgresState struct {
	PID       int    `json:"pid"` // 0 while stopped
	Port      int    `json:"port"`
	SocketDir string `json:"socketDir"`
	URL       string `json:"url"` // superuser, with its password, database postgres
	Version   string `json:"version"`
	BinDir    string `json:"binDir"`
	DataDir   string `json:"dataDir"`
}

// BrokerState is one broker.
type BrokerState struct {
	PID   int      `json:"pid"` // 0 while stopped
	Addrs []string `json:"addrs"`
}

// ErrNoDir says that Options.Dir is empty.
var ErrNoDir = errors.New("no directory given for the embedded servers")

// Redacted is the state without the password, for printing.
func (s State) Redacted() State {
	if s.Postgres == nil {
		return s
	}
	p := *s.Postgres
	if u, err := url.Parse(p.URL); err == nil {
		p.URL = u.Redacted()
	} else {
		p.URL = "unreadable"
	}
	s.Postgres = &p
	return s
}

// Start makes sure that what the options ask for runs, and returns when it
// answers. Servers that run already are used as they are. Two calls at once on
// one directory take turns. The servers outlive the caller: Stop ends them.
// When one of them cannot be started, those that this call did start are
// stopped again.
func Start(ctx context.Context, o Options) (State, error) {
	if o.Dir == "" {
		return State{}, ErrNoDir
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return State{}, fmt.Errorf("resolve %s: %w", o.Dir, err)
	}
	o.Dir = dir
	if err := makeDir(dir); err != nil {
		return State{}, err
	}
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	state, err := load(dir)
	if err != nil {
		return State{}, err
	}
	var undo []func() error
	if o.Postgres {
		p, started, err := startPostgres(ctx, o, state.Postgres)
		if err != nil {
			return State{}, fmt.Errorf("start the embedded Postgres: %w", err)
		}
		if state.Postgres = p; started {
			undo = append(undo, func() error { return stopPostgres(context.WithoutCancel(ctx), state.Postgres) })
		}
	}
	if o.Broker {
		b, started, err := startBroker(ctx, o, state.Broker)
		if err != nil {
			return State{}, rollBack(fmt.Errorf("start the embedded broker: %w", err), undo)
		}
		if state.Broker = b; started {
			undo = append(undo, func() error { return stopBroker(context.WithoutCancel(ctx), dir) })
		}
	}
	if err := save(dir, state); err != nil {
		return State{}, rollBack(err, undo)
	}
	return state, nil
}

func rollBack(err error, undo []func() error) error {
	for _, f := range undo {
		err = errors.Join(err, f())
	}
	return err
}

// Stop ends the servers of the directory, in order, and returns when their
// processes are gone. Data, port and password stay for the next Start. Stopping
// what does not run is no error.
func Stop(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("resolve the directory: %w", err)
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := load(dir)
	if err != nil {
		return err
	}
	// The broker first: what reads from Postgres to feed it is stopped by then,
	// and its data rest on nothing in Postgres.
	var failed error
	if err := stopBroker(ctx, dir); err != nil {
		failed = fmt.Errorf("stop the embedded broker: %w", err)
	} else if state.Broker != nil {
		state.Broker.PID = 0
	}
	if state.Postgres == nil {
		state.Postgres = adopt(dir)
	}
	if err := stopPostgres(ctx, state.Postgres); err != nil {
		failed = errors.Join(failed, fmt.Errorf("stop the embedded Postgres: %w", err))
	} else if state.Postgres != nil {
		state.Postgres.PID = 0
	}
	return errors.Join(failed, save(dir, state))
}

// Status says what runs now. A PID of 0 stands for a server that is stopped, a
// nil for one that was never started here. It starts and changes nothing.
func Status(ctx context.Context, dir string) (State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return State{}, fmt.Errorf("resolve the directory: %w", err)
	}
	state, err := load(dir)
	if err != nil {
		return State{}, err
	}
	if p := state.Postgres; p != nil {
		p.PID = 0
		if pid := postmasterPID(p.DataDir); pid != 0 && probePostgres(ctx, p) == nil {
			p.PID = pid
		}
	}
	if b := state.Broker; b != nil {
		b.PID = 0
		if lock := readBrokerLock(dir); lock.held && probeBroker(ctx, lock.addr) == nil {
			b.PID, b.Addrs = lock.pid, []string{lock.addr}
		}
	}
	return state, nil
}

// CreateDatabase makes the database on the embedded Postgres if it is not there
// and returns the URL to it, password included.
func CreateDatabase(ctx context.Context, s State, name string) (string, error) {
	if s.Postgres == nil || s.Postgres.PID == 0 {
		return "", fmt.Errorf("create database %s: the embedded Postgres does not run", name)
	}
	c, err := pgx.Connect(ctx, s.Postgres.URL)
	if err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	var exists bool
	if err := c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return "", fmt.Errorf("look for database %s: %w", name, err)
	}
	if !exists {
		if _, err := c.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0"); err != nil {
			return "", fmt.Errorf("create database %s: %w", name, err)
		}
	}
	u, err := url.Parse(s.Postgres.URL)
	if err != nil {
		return "", errors.New("the URL in embedded.json is unreadable")
	}
	u.Path = "/" + name
	return u.String(), nil
}
