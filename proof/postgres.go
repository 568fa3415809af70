package proof

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/wal"
)

// Postgres is the source's database. Its role needs REPLICATION and SELECT on
// the tables; nothing is written and no lock beyond ACCESS SHARE is taken.
type Postgres struct {
	URL string
	// Wait bounds how long to wait for the transactions that are open when a
	// slot is made, 30 seconds by default.
	Wait time.Duration
}

// Snapshot makes a temporary slot, joins the snapshot that it exports, and
// drops the slot at once: from then on no WAL is held back, and vacuum only as
// long as the result is open.
func (p Postgres) Snapshot(ctx context.Context) (Snapshot, error) {
	wait := p.Wait
	if wait <= 0 {
		wait = 30 * time.Second
	}
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	slot, err := wal.TemporarySlot(within, p.URL, "banyan_verify_"+strings.ToLower(rand.Text()))
	if err != nil {
		if ctx.Err() == nil && errors.Is(within.Err(), context.DeadlineExceeded) {
			return nil, &BlockedError{p.blocked(ctx, wait)}
		}
		return nil, err
	}
	snap, err := wal.ImportSnapshot(ctx, p.URL, slot)
	// A transaction that has joined keeps the snapshot; the export may go.
	if e := slot.Close(); err == nil && e != nil {
		err = errors.Join(fmt.Errorf("drop the temporary slot: %w", e), snap.Close())
	}
	if err != nil {
		return nil, err
	}
	return &postgresSnapshot{snap}, nil
}

// blocked names the transaction that a new slot waits for.
func (p Postgres) blocked(ctx context.Context, waited time.Duration) string {
	why := fmt.Sprintf("no snapshot with a known LSN could be had in %s: one waits until every transaction that is open when it is asked for has ended", waited)
	const sql = `SELECT l.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''),
			coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), '')
		FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
		ORDER BY a.xact_start NULLS LAST, l.transactionid::text::bigint LIMIT 1`
	var pid *int32
	var user, app, since string
	conn, err := wal.Connect(ctx, p.URL)
	if err == nil {
		defer conn.Close(context.WithoutCancel(ctx))
		err = conn.QueryRow(ctx, sql).Scan(&pid, &user, &app, &since)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return why + "; it has ended by now, verify again"
	case err != nil:
		return why
	case pid == nil:
		return why + "; a prepared transaction is open (pg_prepared_xacts)"
	}
	why += fmt.Sprintf("; process %d", *pid)
	if user != "" {
		why += fmt.Sprintf(" of %s (%q)", user, app)
	}
	why += " has one open"
	if since != "" {
		why += " since " + since
	}
	return why
}

type postgresSnapshot struct{ *wal.Snapshot }

func (s *postgresSnapshot) LSN() uint64 { return uint64(s.Snapshot.LSN) }
