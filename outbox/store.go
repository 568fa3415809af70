package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options of a store. The zero value is good.
type Options struct {
	// Heartbeat is how often an owner renews its lease, 1 s by default, and
	// Expiry how long after its last heartbeat it counts as gone, 5 s.
	Heartbeat, Expiry time.Duration
	// MaxBytes is the disk budget of events that wait for the broker, 10 GiB
	// by default. A single commit may exceed it; the next is refused.
	MaxBytes int64
	// SlabBytes is the size at which the next slab is begun: by default 64 MiB,
	// or a sixteenth of MaxBytes where that is less.
	SlabBytes int64
	// TraceAge and TraceBytes bound the provenance that is kept: 24 hours and
	// 1 GiB by default. Both are rounded up to whole slabs, by an eighth.
	TraceAge   time.Duration
	TraceBytes int64
	// Partitions of a topic that the store has not seen before: 6 by default.
	// It is recorded with the topic and never changes.
	Partitions int
	// Twins keeps published events until their effect on the `.latest` twin
	// is acknowledged too.
	Twins bool
	// CacheBytes bounds the memory for aggregate states, 64 MiB by default;
	// negative means none.
	CacheBytes int64
	// Log gets what an operator should know: takeovers, lost connections.
	// Nothing is logged where it is nil.
	Log *slog.Logger
	// Host names this machine in the lease; os.Hostname where it is empty.
	Host string
}

func (o Options) withDefaults() Options {
	if o.Heartbeat <= 0 {
		o.Heartbeat = time.Second
	}
	if o.Expiry <= 0 {
		o.Expiry = 5 * o.Heartbeat
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 10 << 30
	}
	if o.SlabBytes <= 0 {
		o.SlabBytes = min(64<<20, max(o.MaxBytes/16, 256<<10))
	}
	if o.TraceAge <= 0 {
		o.TraceAge = 24 * time.Hour
	}
	if o.TraceBytes <= 0 {
		o.TraceBytes = 1 << 30
	}
	if o.Partitions <= 0 {
		o.Partitions = 6
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	return o
}

// Store is the schema banyan of one database. Its methods read, or leave
// requests; they need no ownership and are safe for concurrent use.
type Store struct {
	opts   Options
	config *pgx.ConnConfig
	pool   *pgxpool.Pool
}

// Open connects to the database and makes or migrates the schema banyan. Two
// that open at once migrate once. It fails with a *SchemaError where the schema
// holds something else or is newer than this program. The caller closes the
// store, after its owner.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("store url: %w", err)
	}
	sessionSettings(pc.ConnConfig)
	pc.MaxConns = max(pc.MaxConns, 8)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{opts: opts.withDefaults(), config: pc.ConnConfig.Copy(), pool: pool}
	if err := s.migrate(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return s, nil
}

// sessionSettings are those of every session of the store. A commit that is
// acknowledged is on disk, whatever the server's or the role's default is.
func sessionSettings(c *pgx.ConnConfig) {
	if c.RuntimeParams == nil {
		c.RuntimeParams = map[string]string{}
	}
	set := c.RuntimeParams
	set["timezone"] = "UTC"
	set["statement_timeout"] = "0"
	set["lock_timeout"] = "0"
	set["idle_in_transaction_session_timeout"] = "0"
	set["client_encoding"] = "UTF8"
	if set["application_name"] == "" {
		set["application_name"] = "banyan"
	}
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
			WHERE current_setting('synchronous_commit') = 'off'`).ReadAll()
		return err
	}
}

// Close ends the store's connections. An owner must be closed before.
func (s *Store) Close() { s.pool.Close() }

// Ping reports whether the store answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ask the store: %w", err)
	}
	return nil
}
