package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"banyan/bus"
	"banyan/internal/embedded"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// config reads banyan.yaml and lays flags and environment over it.
func (a *app) config() (*translate.Config, error) {
	b, err := os.ReadFile(a.flags.config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, badInput("there is no %s: `cdc init --source postgres://...` writes a first draft, --config names another file", a.flags.config)
	}
	if err != nil {
		return nil, badInput("read the configuration: %w", err)
	}
	cfg, err := translate.Load(a.flags.config, b)
	if err != nil {
		return nil, badInput("%w", err)
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
		return nil, badInput("no source: give --source, BANYAN_SOURCE or source.url in %s", a.flags.config)
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
	return "", badInput("no source: give --source postgres://user@host/database, or BANYAN_SOURCE")
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
	needStore, needBroker := cfg.Store.URL == "", len(cfg.Kafka.Brokers) == 0
	if !needStore && !needBroker {
		return nil
	}
	state, err := embedded.Start(ctx, embedded.Options{Dir: a.flags.dataDir, Postgres: needStore, Broker: needBroker, Log: a.log})
	if err != nil {
		return fmt.Errorf("start the embedded servers: %w", err)
	}
	if needStore {
		if cfg.Store.URL, err = embedded.CreateDatabase(ctx, state, storeDatabase); err != nil {
			return err
		}
	}
	if needBroker {
		cfg.Kafka.Brokers = state.Broker.Addrs
	}
	return nil
}

// storeDatabase is the store's database in the embedded Postgres.
const storeDatabase = "banyan"

func (a *app) openStore(ctx context.Context, cfg *translate.Config) (*outbox.Store, error) {
	return outbox.Open(ctx, cfg.Store.URL, outbox.Options{
		MaxBytes: cfg.Store.MaxBytes, TraceAge: cfg.Store.Provenance.Age, TraceBytes: cfg.Store.Provenance.Bytes,
		Partitions: bus.Partitions, Log: a.log,
	})
}

func (a *app) dialBus(ctx context.Context, cfg *translate.Config) (*bus.Cluster, error) {
	tls, err := bus.LoadTLS(cfg.Kafka.TLS.CA, cfg.Kafka.TLS.Cert, cfg.Kafka.TLS.Key)
	if err != nil {
		return nil, badInput("kafka.tls: %w", err)
	}
	return bus.Dial(ctx, bus.Config{Brokers: cfg.Kafka.Brokers, TLS: tls, ClientID: "banyan-cdc-" + cfg.Source.Name})
}

// reachBus connects to Kafka for a command that needs nothing else.
func (a *app) reachBus(ctx context.Context) (*bus.Cluster, error) {
	if len(a.flags.brokers) > 0 {
		return a.dialBus(ctx, &translate.Config{Kafka: translate.KafkaConfig{Brokers: a.flags.brokers}})
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	cfg.Store.URL = "none" // is not needed
	if err := a.servers(ctx, cfg); err != nil {
		return nil, err
	}
	return a.dialBus(ctx, cfg)
}
