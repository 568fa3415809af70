package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"banyan/token"
)

//go:embed schema.sql
var schemaSQL string

// schemaLock is the advisory lock under which one of several starting shops
// creates the tables.
const schemaLock = 7_326_201

type serveFlags struct {
	database, listen string
	connections      int32
	stopTimeout      time.Duration
	tokenFrom        string // URL of cdc run; empty for no tokens
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --database URL",
		Short: "Serve the shop over HTTP until told to stop",
		Long: `Serves the shop over HTTP. The tables are created when they are absent. When it
is ready, one line on stdout says where it listens. SIGTERM or SIGINT lets the
requests at work finish, then it exits with 0.

With --token-from the answers to requests that change something carry a
consistency token in the header Banyan-Token; others do where the request says
Banyan-Token: wanted. Whoever shows it to a service built from the shop's events
reads there what was committed here. It takes one more round trip to the
database. While cdc does not answer there are no tokens; nothing else changes.

Every flag can be given as BANYAN_SHOP_..., such as BANYAN_SHOP_DATABASE.
Exit codes: 0 stopped as asked, 2 wrong input, 3 no database or no port.`,
		Example: `  legacy-shop serve --database postgres://shop@127.0.0.1/shop --listen 127.0.0.1:8080
  legacy-shop serve --database postgres://shop@127.0.0.1/shop --token-from http://127.0.0.1:9378
  BANYAN_SHOP_DATABASE=postgres://... legacy-shop serve --listen 127.0.0.1:0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.database == "" {
				return badInput("--database (or BANYAN_SHOP_DATABASE) is missing: the URL of the shop's Postgres database")
			}
			if f.connections < 2 {
				return badInput("--connections must be at least 2")
			}
			return serve(cmd.Context(), cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.database, "database", "", "URL of the shop's Postgres database")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	flags.Int32Var(&f.connections, "connections", 10, "most connections to the database")
	flags.DurationVar(&f.stopTimeout, "stop-timeout", 10*time.Second, "how long a stop waits for requests at work")
	flags.StringVar(&f.tokenFrom, "token-from", "", "`URL` on which cdc run listens: give consistency tokens; empty for none")
	return cmd
}

func serve(ctx context.Context, cmd *cobra.Command, f serveFlags) error {
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	var generations *token.Generations // nil: no tokens
	if f.tokenFrom != "" {
		var err error
		if generations, err = token.NewGenerations(f.tokenFrom, log); err != nil {
			return badInput("--token-from: %w", err)
		}
	}
	pool, err := openDatabase(ctx, f.database, f.connections)
	if err != nil {
		return err
	}
	defer pool.Close()
	listener, err := net.Listen("tcp", f.listen)
	if err != nil {
		return surroundings("listen: %w", err)
	}
	hits := openAccessLog(pool, log)
	defer hits.close()
	s := &shop{pool: pool, log: log, now: time.Now, hits: hits}
	handler, stopTokens := withTokens(s.routes(), generations, pool, log)
	defer stopTokens()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(cmd.OutOrStdout(), "listening on http://%s\n", listener.Addr())

	select {
	case err := <-served:
		return surroundings("serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), f.stopTimeout)
	defer cancel()
	err = server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("requests were cut off", "after", f.stopTimeout)
		err = server.Close()
	}
	<-served
	if err != nil {
		return surroundings("stop: %w", err)
	}
	return nil
}

// withTokens puts consistency tokens on the answers of h, and asks for their
// generation until stop is called, which waits.
func withTokens(h http.Handler, g *token.Generations, pool *pgxpool.Pool, log *slog.Logger) (handler http.Handler, stop func()) {
	if g == nil {
		return h, func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() { g.Run(ctx) })
	m := &token.Maker{DB: pool, Known: g.Known, Log: log}
	return m.Middleware(h), func() {
		cancel()
		asking.Wait()
	}
}

// openDatabase connects and makes sure that the tables are there. The caller
// closes the pool.
func openDatabase(ctx context.Context, database string, connections int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, badInput("--database: %w", err) // pgx leaves the password out
	}
	config.MaxConns = connections
	config.ConnConfig.RuntimeParams["application_name"] = "legacy-shop"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, surroundings("connect to the database: %w", err)
	}
	if err := createTables(ctx, pool); err != nil {
		pool.Close()
		return nil, surroundings("prepare the database: %w", err)
	}
	return pool, nil
}

// createTables runs schema.sql when the table orders is absent. A shop with
// tables is left as it is: its role may not be allowed to change them.
func createTables(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, schemaLock); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass('orders') IS NOT NULL`).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := tx.Exec(ctx, schemaSQL); err != nil {
				return fmt.Errorf("create tables: %w", err)
			}
		}
		_, err := tx.Exec(ctx, `DELETE FROM access_log WHERE at < (now() AT TIME ZONE 'UTC') - $1::interval`, keepHits)
		return err
	})
}
