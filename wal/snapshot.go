package wal

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Snapshot is one session that reads tables as they were at one moment, in one
// read-only REPEATABLE READ transaction, with no lock beyond ACCESS SHARE. It
// serves one goroutine; to read in parallel, open several on the same exported
// snapshot. Close must be called.
type Snapshot struct {
	// LSN bounds what the snapshot holds: nothing that committed at or above
	// it. For an exported snapshot it is the slot's consistent point and exact:
	// all that committed below it is there. For a live one a transaction below
	// it is there if Seen says so.
	LSN LSN
	// Seen is set for a live snapshot only.
	Seen *Visibility
	// next is, for a live snapshot, above every transaction id that was given
	// out when it was taken; Seen knows only of those up to the last that ended.
	next uint64

	conn    *pgx.Conn
	kinds   map[uint32]string // "ONLY " or "" by table
	cursors int
}

// ImportSnapshot joins an exported snapshot, such as that of a Created slot,
// whose export must still stand while this is called.
func ImportSnapshot(ctx context.Context, url string, c *Created) (*Snapshot, error) {
	s, err := openSnapshot(ctx, url, "SET TRANSACTION SNAPSHOT '"+strings.ReplaceAll(c.SnapshotName, "'", "''")+"'")
	if err != nil {
		return nil, fmt.Errorf("join the exported snapshot: %w", err)
	}
	s.LSN = c.ConsistentPoint
	return s, nil
}

// LiveSnapshot takes a snapshot now. It records which transactions the
// snapshot sees, and the LSN read after it was taken, so that a reader of the
// stream can tell which transactions are contained in it.
func LiveSnapshot(ctx context.Context, url string) (*Snapshot, error) {
	s, err := openSnapshot(ctx, url, "")
	if err != nil {
		return nil, fmt.Errorf("take a snapshot: %w", err)
	}
	var seen, lsn string
	var age int32
	// The order matters: a commit that the snapshot sees lies below an LSN that
	// is read later. The other way round one could be missed.
	if err = s.conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_snapshot()::text`).Scan(&seen); err == nil {
		err = s.conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&lsn)
	}
	if err == nil {
		// To a session without an id of its own, age counts back from the next
		// id that the server will give out.
		err = s.conn.QueryRow(ctx, `SELECT pg_catalog.age('3'::pg_catalog.xid)`).Scan(&age)
	}
	if err == nil {
		s.LSN, err = ParseLSN(lsn)
	}
	if err == nil {
		s.Seen, err = ParseVisibility(seen)
	}
	if err == nil {
		s.next = s.Seen.full(uint32(age) + 3)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("take a snapshot: %w", err)
	}
	return s, nil
}

// SettledSnapshot takes a live snapshot that sees every transaction that the
// stream can have brought before the call. A commit is in the log, and may be
// streamed and stored, before it is visible: while it waits for a synchronous
// standby, or for a processor. And a transaction that changed a table before it
// was published will not be streamed with that change. So whatever runs at
// first must have ended, as for a new slot: bound it by ctx. The error is then a
// *UnsettledError.
func SettledSnapshot(ctx context.Context, url string) (*Snapshot, error) {
	s, err := LiveSnapshot(ctx, url)
	if err != nil {
		return nil, err
	}
	next := s.next
	for s.Seen.xmin < next {
		open := s.Seen.xmin
		s.Close()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
			s, err = LiveSnapshot(ctx, url)
		}
		if over(ctx) {
			s.Close()
			return nil, &UnsettledError{XID: open, Err: cmp.Or(context.Cause(ctx), err, context.DeadlineExceeded)}
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// over reports whether ctx has ended or has no time left: a connection that is being
// made looks at the clock itself, and may fail by the deadline before ctx has ended.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

func openSnapshot(ctx context.Context, url, sql string) (*Snapshot, error) {
	conn, err := Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	// A cursor is read to its end here, so plan for that.
	sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + sql + "; SET LOCAL cursor_tuple_fraction = 1"
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		closeSoon(conn.PgConn())
		return nil, err
	}
	return &Snapshot{conn: conn, kinds: map[uint32]string{}}, nil
}

// Time is when the snapshot was taken, by the source's clock.
func (s *Snapshot) Time(ctx context.Context) (time.Time, error) {
	var at time.Time
	if err := s.conn.QueryRow(ctx, `SELECT pg_catalog.transaction_timestamp()`).Scan(&at); err != nil {
		return at, fmt.Errorf("ask the source for the time: %w", err)
	}
	return at.UTC(), nil
}

// Close ends the session. It may be called twice.
func (s *Snapshot) Close() error {
	if s == nil || s.conn == nil {
		return nil
	}
	err := closeSoon(s.conn.PgConn())
	s.conn = nil
	return err
}

// Visibility is what pg_current_snapshot() said: which transactions had ended
// when the snapshot was taken.
type Visibility struct {
	xmin, xmax uint64
	running    map[uint64]bool
	text       string
}

// ParseVisibility reads the text form of pg_snapshot, "xmin:xmax:xip,xip".
func ParseVisibility(text string) (*Visibility, error) {
	bad := func() (*Visibility, error) {
		return nil, fmt.Errorf("snapshot %q: want xmin:xmax:list of running transactions, such as 751:753:751", text)
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return bad()
	}
	v := &Visibility{running: map[uint64]bool{}, text: text}
	var err1, err2 error
	v.xmin, err1 = strconv.ParseUint(parts[0], 10, 64)
	v.xmax, err2 = strconv.ParseUint(parts[1], 10, 64)
	if err1 != nil || err2 != nil || v.xmin > v.xmax {
		return bad()
	}
	if parts[2] == "" {
		return v, nil
	}
	for _, x := range strings.Split(parts[2], ",") {
		n, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return bad()
		}
		v.running[n] = true
	}
	return v, nil
}

// String is the text that ParseVisibility reads.
func (v *Visibility) String() string { return v.text }

// Visible reports whether the committed transaction with this id is contained
// in the snapshot. The stream gives the low 32 bits of the id; the full one is
// that nearest to the snapshot, which is right for any transaction within two
// thousand million of it.
func (v *Visibility) Visible(xid uint32) bool {
	full := v.full(xid)
	return full < v.xmin || full < v.xmax && !v.running[full]
}

func (v *Visibility) full(xid uint32) uint64 {
	return v.xmax + uint64(int64(int32(xid-uint32(v.xmax))))
}
