package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// LeaseKind says what its holder does.
type LeaseKind string

// Kinds of leases.
const (
	Owning  LeaseKind = "owner"   // runs a version
	Sending LeaseKind = "sender"  // sends effects
	Loading LeaseKind = "rebuild" // builds a version
)

// Lease shows that a process lives: a session advisory lock on a connection of
// its own, which the server gives back when that connection ends, however it
// ends. Nothing that must be right rests on it; the fence does that. Between us
// and the server there may be no pooler that shares sessions.
type Lease struct {
	ID int64

	mu   sync.Mutex // one at a time on the connection
	conn *pgx.Conn
}

// Living is a lease whose holder lives, or lived until lately.
type Living struct {
	ID         int64
	Projection string
	Version    int
	Kind       LeaseKind
	Owner      string
	Note       string // what it does or waits for, for people
	Since      time.Time
	Alive      bool
}

// Lease takes a lease, of which a version can have many; version is 0 for a
// sender, who sends for the projection. It takes a connection out of the pool
// until Close, and forgets the dead ones of the same kind and version.
func (s *Store) Lease(ctx context.Context, projection string, version int, kind LeaseKind, owner string) (*Lease, error) {
	conn, err := s.ownConn(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a lease of %s: %w", projection, err)
	}
	l := &Lease{conn: conn}
	if err := l.take(ctx, projection, version, kind, owner); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("take a lease of %s: %w", projection, err)
	}
	return l, nil
}

func (l *Lease) take(ctx context.Context, projection string, version int, kind LeaseKind, owner string) error {
	// The number is drawn and locked before the row shows, so that nobody sees
	// it unlocked and takes it for dead.
	if err := l.conn.QueryRow(ctx, `SELECT nextval(pg_get_serial_sequence('banyan.lease', 'id'))`).Scan(&l.ID); err != nil {
		return err
	}
	if _, err := l.conn.Exec(ctx, `SELECT pg_advisory_lock(banyan.lease_class(), $1::integer)`, l.ID); err != nil {
		return err
	}
	if _, err := l.conn.Exec(ctx, `DELETE FROM banyan.lease WHERE projection = $1 AND version = $2 AND kind = $3 AND NOT banyan.lease_alive(id)
		AND NOT EXISTS (SELECT FROM banyan.effect e WHERE e.projection = $1 AND e.sender = lease.id AND e.state = 'sending')`,
		projection, version, kind); err != nil {
		return err
	}
	_, err := l.conn.Exec(ctx, `INSERT INTO banyan.lease (id, projection, version, kind, owner) OVERRIDING SYSTEM VALUE
		VALUES ($1, $2, $3, $4, $5)`, l.ID, projection, version, kind, owner)
	return err
}

// Renew reports whether the lease is still held: an error means that its
// connection is lost and others take its holder for dead.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.conn.Ping(ctx); err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	return nil
}

// Note writes down, for status, what the holder does or why it stands still. It
// stays readable after the holder has gone, until another takes a lease.
func (l *Lease) Note(ctx context.Context, note string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.conn.Exec(ctx, `UPDATE banyan.lease SET note = $2 WHERE id = $1`, l.ID, note); err != nil {
		return fmt.Errorf("write the note of a lease: %w", err)
	}
	return nil
}

// Close gives the lease back. The row stays with its note, as that of a dead one.
// It may be called twice.
func (l *Lease) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.conn.IsClosed() {
		// The server notices the end of a session in its own time; this is at once.
		// Where it fails, the end of the session does it.
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, _ = l.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	}
	closeConn(l.conn)
}

// Leases lists the leases of a projection ("" for all), the lately dead too.
func (s *Store) Leases(ctx context.Context, projection string) ([]Living, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, projection, version, kind, owner, note, since, banyan.lease_alive(id)
		FROM banyan.lease WHERE $1 IN ('', projection) ORDER BY projection, version, id`, projection)
	if err == nil {
		var all []Living
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (l Living, err error) {
			err = r.Scan(&l.ID, &l.Projection, &l.Version, &l.Kind, &l.Owner, &l.Note, &l.Since, &l.Alive)
			l.Since = l.Since.UTC()
			return l, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("list leases: %w", err)
}

// Alive reports whether anybody lives who runs this version.
func (s *Store) Alive(ctx context.Context, projection string, version int) (alive bool, err error) {
	if err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM banyan.lease
		WHERE projection = $1 AND version = $2 AND kind = $3 AND banyan.lease_alive(id))`, projection, version, Owning).Scan(&alive); err != nil {
		return false, fmt.Errorf("look who runs version %d of %s: %w", version, projection, err)
	}
	return alive, nil
}
