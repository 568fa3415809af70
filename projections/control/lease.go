package control

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
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
// ends. Nothing that must be right rests on it; the fence does that.
type Lease struct {
	ID   int64
	conn *pgxpool.Conn
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

// Lease takes a lease, of which a version can have many. It needs a connection
// of the pool until Close.
func (s *Store) Lease(ctx context.Context, projection string, version int, kind LeaseKind, owner string) (*Lease, error) {
	return nil, nil
}

// Renew reports whether the lease is still held: an error means that its
// connection is lost and others take its holder for dead.
func (l *Lease) Renew(ctx context.Context) error { return nil }

// Note writes down, for status, what the holder does or why it stands still. It
// stays readable after the holder has gone, until another takes a lease.
func (l *Lease) Note(ctx context.Context, note string) error { return nil }

// Close gives the lease back.
func (l *Lease) Close() {}

// Leases lists the leases of a projection ("" for all), dead ones too.
func (s *Store) Leases(ctx context.Context, projection string) ([]Living, error) { return nil, nil }

// Alive reports whether anybody lives who runs this version.
func (s *Store) Alive(ctx context.Context, projection string, version int) (bool, error) {
	return false, nil
}
