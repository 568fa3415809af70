package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is what reads and changes need: a pool, a connection or a transaction.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Beginner begins transactions: a pool or a connection.
type Beginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

// Store is the schema banyan of one database. It is safe for concurrent use.
// Methods that take a transaction do their work in it and leave its end to the
// caller; the others have one of their own.
type Store struct {
	pool  *pgxpool.Pool
	marks markCache
	seen  passedCache
}

// Settings of a projection's connections.
type Settings struct {
	// Application is shown in pg_stat_activity and by errors that name who holds
	// a lock: "projector shipping on host-a, process 4711".
	Application string
	// Role, where it is not "", is the one that each session takes on: the
	// projection's owner. The login has to be a member of it.
	Role string
	// Idle is how long a session may sit in an open transaction before the server
	// ends it, 15 s by default: as long can a frozen owner hold a partition.
	Idle time.Duration
}

// Open gives the store of a database. It only looks: *SchemaError where the
// schema banyan was made by a newer program or holds something else. Where there
// is none yet, or an older one, Migrate makes it; a reader asks Migrated. The
// pool stays the caller's.
func Open(ctx context.Context, pool *pgxpool.Pool) (*Store, error) {
	return nil, nil
}

// Migrate brings the schema banyan to the version of this program, in one
// transaction. Two that migrate at once migrate once. Where the role lacks the
// right to make the schema, the *SchemaError has the SQL that helps.
func (s *Store) Migrate(ctx context.Context) error { return nil }

// Migrated reports whether the schema is there in this program's version.
func (s *Store) Migrated(ctx context.Context) (bool, error) { return false, nil }

// Pool is the pool that Open was given.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Configure sets what the sessions of a projection's pool need.
func Configure(c *pgxpool.Config, set Settings) {}
