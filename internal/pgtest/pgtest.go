// Package pgtest gives a test a real Postgres: New makes a fresh database on a
// server that all tests of the process share, NewServer a server of one's own
// that can be stopped, killed and restarted under the same URL.
//
// Servers are set up for logical decoding (wal_level=logical) and for speed
// (fsync=off: the data is thrown away). They listen on 127.0.0.1 and on a
// private socket, and trust everybody there. A server ends with the test
// process, also when that is killed with SIGKILL: a small shell process waits
// for the end of a pipe that only the test process holds open, then stops the
// server and removes its data. Nothing is asked of a TestMain.
//
// Tests only. BANYAN_TEST_POSTGRES_BIN chooses another directory with initdb
// and postgres.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options of a database.
type Options struct {
	// SQL is executed in the fresh database, as the superuser.
	SQL string
}

// DB is a fresh database. It is dropped, with its replication slots, when the
// test ends.
type DB struct {
	// URL connects as the superuser over TCP, without TLS.
	URL string
	// SocketURL is the same over the server's Unix socket.
	SocketURL string
	// Name of the database, unique on its server.
	Name string

	server *Server
}

var shared struct {
	sync.Mutex
	server *Server
}

var databases atomic.Int64

// New makes a database on the server that this test process shares, starting
// the server if this is the first call.
func New(t testing.TB, opts ...Options) *DB {
	t.Helper()
	return sharedServer(t).NewDB(t, opts...)
}

func sharedServer(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := launch(ServerOptions{})
		if err != nil {
			t.Fatalf("pgtest: start the shared Postgres: %v", err)
		}
		shared.server = s
	}
	return shared.server
}

// NewDB makes a database on this server.
func (s *Server) NewDB(t testing.TB, opts ...Options) *DB {
	t.Helper()
	name := fmt.Sprintf("%s_%d_%d", databaseName(t.Name()), os.Getpid(), databases.Add(1))
	if err := s.admin(30*time.Second, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE template0")
		return err
	}); err != nil {
		t.Fatalf("pgtest: create database %s: %v", name, err)
	}
	db := &DB{URL: s.url(name), SocketURL: s.socketURL(name), Name: name, server: s}
	t.Cleanup(func() { s.drop(t, name) })
	for _, o := range opts {
		if o.SQL != "" {
			db.Exec(t, o.SQL)
		}
	}
	return db
}

// drop removes the database and the slots that would keep it from going. A
// server that the test has stopped keeps them: they go with its data.
func (s *Server) drop(t testing.TB, name string) {
	if !s.Running() {
		return
	}
	err := s.admin(30*time.Second, func(ctx context.Context, c *pgx.Conn) error {
		for {
			if _, err := c.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
				WHERE database = $1 AND active_pid IS NOT NULL`, name); err != nil {
				return fmt.Errorf("end the readers of its slots: %w", err)
			}
			_, err := c.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1`, name)
			if err == nil {
				break
			}
			if ctx.Err() != nil || !strings.Contains(err.Error(), "is active") {
				return fmt.Errorf("drop its slots: %w", err)
			}
		}
		_, err := c.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
		return err
	})
	if err != nil {
		t.Errorf("pgtest: drop database %s: %v", name, err)
	}
}

// admin runs do on a fresh superuser connection to the database postgres.
func (s *Server) admin(limit time.Duration, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	return do(ctx, c)
}

// Server returns the server that the database lives on.
func (db *DB) Server() *Server { return db.server }

// UserURL is URL for another role; the server trusts it without a password
// unless ServerOptions.HBA says otherwise. An empty password is left out.
func (db *DB) UserURL(user, password string) string {
	u, err := url.Parse(db.URL)
	if err != nil {
		return db.URL // made by us, always parses
	}
	u.User = url.User(user)
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// Pool opens a pool of superuser connections that is closed when the test
// ends, before the database is dropped.
func (db *DB) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), db.URL)
	if err != nil {
		t.Fatalf("pgtest: open a pool on %s: %v", db.Name, err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Conn opens one superuser connection that is closed when the test ends.
func (db *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), db.URL)
	if err != nil {
		t.Fatalf("pgtest: connect to %s: %v", db.Name, err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// Exec runs SQL as the superuser on a connection of its own and fails the test
// when the server refuses it. Without arguments the text may hold several
// statements.
func (db *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	db.once(t, sql, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql, args...)
		return err
	})
}

// Column gives the only column of a query, which must be text, row by row. It asks
// as the superuser on a connection of its own, and fails the test when the server
// refuses.
func (db *DB) Column(t testing.TB, sql string, args ...any) (values []string) {
	t.Helper()
	db.once(t, sql, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, sql, args...)
		if err == nil {
			values, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	return values
}

// once runs do on a fresh superuser connection. What it fails with, or two minutes
// without an answer, fails the test.
func (db *DB) once(t testing.TB, sql string, do func(context.Context, *pgx.Conn) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		t.Fatalf("pgtest: connect to %s: %v", db.Name, err)
	}
	defer c.Close(context.Background())
	if err := do(ctx, c); err != nil {
		t.Fatalf("pgtest: %s: %v", firstLine(sql), err)
	}
}

func firstLine(sql string) string {
	line, _, more := strings.Cut(strings.TrimSpace(sql), "\n")
	if more {
		line += " ..."
	}
	return line
}

// databaseName turns a test's name into one that needs no quoting and leaves
// room for a suffix within Postgres's 63 bytes.
func databaseName(test string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(test) {
		if r < 'a' || r > 'z' {
			if r < '0' || r > '9' {
				r = '_'
			}
		}
		b.WriteRune(r)
		if b.Len() == 40 {
			break
		}
	}
	return "t_" + b.String()
}
