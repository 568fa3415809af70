package wal

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// sessionSettings make the text form of every value the same in a snapshot and
// in the stream, whatever the role's or the database's own settings are, and
// keep timeouts of the application from ending our long work. Where row security
// would hide rows from the role, a query fails instead of reading less than the
// WAL speaks of.
const sessionSettings = `SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET timezone = 'UTC';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET search_path = '';
SET row_security = off;
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0`

const (
	applicationName = "banyan"
	connectTimeout  = 15 * time.Second
	// A walsender sends each small message by itself; a large buffer takes as
	// many of them as have arrived with one read.
	readBuffer = 256 << 10
)

// Connect opens an ordinary SQL session with the settings that all our sessions
// share. TLS, passwords and hosts are those of the URL (sslmode, sslrootcert,
// PGPASSFILE and so on, as libpq reads them). The caller closes it.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the source's URL: %w", err)
	}
	prepare(&cfg.Config)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	return conn, nil
}

// connectReplication opens a session that understands replication commands.
func connectReplication(ctx context.Context, url string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the source's URL: %w", err)
	}
	prepare(cfg)
	cfg.RuntimeParams["replication"] = "database"
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(newPacedReader(r), w)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the source for replication: %w", err)
	}
	return conn, nil
}

func prepare(cfg *pgconn.Config) {
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > connectTimeout {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = applicationName
	}
	// By SET and not as startup parameters, because a connection pooler in
	// between refuses unknown ones.
	cfg.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		if _, err := c.Exec(ctx, sessionSettings).ReadAll(); err != nil {
			return fmt.Errorf("set up the session: %w", err)
		}
		return nil
	}
}

// quote writes an identifier, or a qualified one, so that any name is safe.
func quote(names ...string) string { return pgx.Identifier(names).Sanitize() }
