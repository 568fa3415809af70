package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// config reads banyan.yaml and lays flags and environment over it.
func (a *app) config() (*translate.Config, error) {
	b, err := os.ReadFile(a.flags.config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.BadInput("there is no %s: `cdc init --source postgres://...` writes a first draft, --config names another file", a.flags.config)
	}
	if err != nil {
		return nil, cli.BadInput("read the configuration: %w", err)
	}
	cfg, err := translate.Load(a.flags.config, b)
	if err != nil {
		return nil, cli.BadInput("%w", err)
	}
	if a.flags.source != "" {
		cfg.Source.URL = a.flags.source
	}
	if a.flags.store != "" {
		cfg.Store.URL = a.flags.store
	}
	if len(a.flags.brokers) > 0 {
		cfg.Kafka.Brokers = a.flags.brokers
	}
	if cfg.Source.URL == "" {
		return nil, cli.BadInput("no source: give --source, BANYAN_SOURCE or source.url in %s", a.flags.config)
	}
	return cfg, nil
}

// sourceURL is the source where no configuration is needed.
func (a *app) sourceURL() (string, error) {
	if a.flags.source != "" {
		return a.flags.source, nil
	}
	if _, err := os.Stat(a.flags.config); err == nil {
		cfg, err := a.config()
		if err != nil {
			return "", err
		}
		return cfg.Source.URL, nil
	}
	return "", cli.BadInput("no source: give --source postgres://user@host/database, or BANYAN_SOURCE")
}

// inspect reads the catalog of the source.
func (a *app) inspect(ctx context.Context, url string) (*wal.Catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := wal.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return wal.Inspect(ctx, conn)
}

// servers makes sure that the embedded servers which the configuration needs
// are running, and writes their addresses into it.
func (a *app) servers(ctx context.Context, cfg *translate.Config) error {
	store := ""
	if cfg.Store.URL == "" {
		store = storeDatabase
	}
	url, brokers, err := a.Servers(ctx, store, len(cfg.Kafka.Brokers) == 0)
	if err != nil {
		return err
	}
	if url != "" {
		cfg.Store.URL = url
	}
	if len(brokers) > 0 {
		cfg.Kafka.Brokers = brokers
	}
	return nil
}

// storeDatabase is the store's database in the embedded Postgres.
const storeDatabase = "banyan"

func (a *app) openStore(ctx context.Context, cfg *translate.Config) (*outbox.Store, error) {
	return outbox.Open(ctx, cfg.Store.URL, outbox.Options{
		MaxBytes: cfg.Store.MaxBytes, TraceAge: cfg.Store.Provenance.Age, TraceBytes: cfg.Store.Provenance.Bytes,
		Partitions: bus.Partitions, Log: a.Log,
	})
}

// withStore reads the configuration and opens the store for a command that does
// not run: it looks, asks or removes.
func (a *app) withStore(ctx context.Context, do func(*translate.Config, *outbox.Store) error) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := a.servers(ctx, cfg); err != nil {
		return err
	}
	store, err := a.openStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	return do(cfg, store)
}

// kafka is how the configuration says to reach Kafka.
func kafka(cfg *translate.Config) cli.Kafka {
	k := cfg.Kafka
	return cli.Kafka{Brokers: k.Brokers, CA: k.TLS.CA, Cert: k.TLS.Cert, Key: k.TLS.Key, ClientID: "banyan-cdc-" + cfg.Source.Name}
}

// reachBus connects to Kafka for a command that needs nothing else.
func (a *app) reachBus(ctx context.Context) (*bus.Cluster, error) {
	if len(a.flags.brokers) > 0 {
		return kafka(&translate.Config{Kafka: translate.KafkaConfig{Brokers: a.flags.brokers}}).Dial(ctx)
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	cfg.Store.URL = "none" // is not needed
	if err := a.servers(ctx, cfg); err != nil {
		return nil, err
	}
	return kafka(cfg).Dial(ctx)
}
