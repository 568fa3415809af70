package control

import (
	"context"
	"fmt"
	"strconv"
	"sync"
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
	pool *pgxpool.Pool
	// patience is how long TakeOver and PlaceHold wait for the open batch of
	// another owner: longer than the server lets a frozen one sit in it.
	patience time.Duration

	mu    sync.Mutex
	marks map[versionKey]savedMark
	seen  map[string]*seenMark
}

// versionKey names a version.
type versionKey struct {
	projection string
	number     int
}

// Open gives the store of a database. It only looks: *SchemaError where the
// schema banyan was made by a newer program or holds something else. Where there
// is none yet, or an older one, Migrate makes it; a reader asks Migrated. The
// pool stays the caller's.
func Open(ctx context.Context, pool *pgxpool.Pool) (*Store, error) {
	steps, err := migrations()
	if err != nil {
		return nil, err
	}
	if _, err := lookAtSchema(ctx, pool, steps); err != nil {
		return nil, fmt.Errorf("open the control store: %w", err)
	}
	return &Store{pool: pool, patience: 20 * time.Second, marks: map[versionKey]savedMark{}, seen: map[string]*seenMark{}}, nil
}

// Pool is the pool that Open was given.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

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

// Configure sets what the sessions of a projection's pool need.
func Configure(c *pgxpool.Config, set Settings) {
	if set.Idle <= 0 {
		set.Idle = 15 * time.Second
	}
	if c.ConnConfig.RuntimeParams == nil {
		c.ConnConfig.RuntimeParams = map[string]string{}
	}
	p := c.ConnConfig.RuntimeParams
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	// Offset and rows are one transaction: a crash of the server loses both of
	// the last fraction of a second, and the records are read again. What must
	// not be lost (promises of effects, take-overs, versions) turns it on for
	// its own transaction.
	p["synchronous_commit"] = "off"
	// A frozen owner (stopped, swapped out, cut off) holds the rows of its
	// partitions as long as its transaction is open.
	p["idle_in_transaction_session_timeout"] = ms(set.Idle)
	// Nobody holds a lock for long on purpose; waiting longer is a fault that
	// somebody has to hear of.
	p["lock_timeout"] = "10000"
	// The longest statement of a live projection takes well under a second. A
	// rebuild that copies sets its own.
	p["statement_timeout"] = "60000"
	// A peer that is gone without a word is noticed by the kernel within the
	// same time as one that is silent.
	p["tcp_user_timeout"] = ms(set.Idle)
	p["tcp_keepalives_idle"] = "10"
	p["tcp_keepalives_interval"] = "5"
	p["timezone"] = "UTC"
	p["client_encoding"] = "UTF8"
	if set.Application != "" {
		p["application_name"] = set.Application
	}
	if set.Role != "" {
		p["role"] = set.Role
	}
}

// ownConn takes a connection out of the pool for good: one with a state of its
// own, a lock or a channel to listen to.
func (s *Store) ownConn(ctx context.Context) (*pgx.Conn, error) {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return c.Hijack(), nil
}

// closeConn says goodbye to the server, or leaves without a word where it does
// not listen.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn.Close(ctx) // whatever it says, the connection is gone
}

// notify tells all who watch, when the transaction commits.
func notify(ctx context.Context, db DB, kind ChangeKind, projection string) error {
	if _, err := db.Exec(ctx, `SELECT pg_notify('banyan_control', $1)`, string(kind)+" "+projection); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// durable makes the commit of a transaction wait for the disk.
func durable(ctx context.Context, db DB) error {
	if _, err := db.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`); err != nil {
		return fmt.Errorf("make the commit durable: %w", err)
	}
	return nil
}

// utc is a time of the database, the zero time for NULL.
func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// orNull is a time for the database, NULL for the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
