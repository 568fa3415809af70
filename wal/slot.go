package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// plugin is the output plugin that every Postgres has.
const plugin = "pgoutput"

// Incarnation is one life of a source: the server's system identifier, its
// timeline and the slot. LSNs of different incarnations must not be compared.
type Incarnation struct {
	SystemID string
	Timeline int32
	Slot     string
}

func (i Incarnation) String() string {
	return fmt.Sprintf("system %s, timeline %d, slot %q", i.SystemID, i.Timeline, i.Slot)
}

// Identify asks the server behind url who it is. The role needs REPLICATION.
func Identify(ctx context.Context, url, slot string) (Incarnation, error) {
	conn, err := connectReplication(ctx, url)
	if err != nil {
		return Incarnation{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return identify(ctx, conn, slot)
}

func identify(ctx context.Context, conn *pgconn.PgConn, slot string) (Incarnation, error) {
	sys, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return Incarnation{}, fmt.Errorf("identify the source: %w", err)
	}
	return Incarnation{SystemID: sys.SystemID, Timeline: sys.Timeline, Slot: slot}, nil
}

// SlotConfig says which slot to make, and where.
type SlotConfig struct {
	URL  string
	Slot string // lower case letters, digits and underscores
	// Temporary makes a slot that goes when Created is closed.
	Temporary bool
}

// Created is a new slot with its exported snapshot. The snapshot can be
// imported, by any number of sessions, until Close. Close must be called; the
// slot itself stays, unless it is temporary.
type Created struct {
	// ConsistentPoint is where the slot starts: a transaction whose commit LSN
	// is below it is in the snapshot, every other one will be streamed.
	ConsistentPoint LSN
	SnapshotName    string
	Incarnation     Incarnation
	conn            *pgconn.PgConn
}

// CreateSlot makes a logical slot and exports its snapshot. It waits for all
// transactions that are now running, however long they take: bound it by ctx.
// A cancelled call leaves no slot.
func CreateSlot(ctx context.Context, cfg SlotConfig) (*Created, error) {
	conn, err := connectReplication(ctx, cfg.URL)
	if err != nil {
		return nil, err
	}
	c, err := createSlot(ctx, conn, cfg)
	if err != nil {
		closeSoon(conn)
		return nil, fmt.Errorf("create replication slot %q: %w", cfg.Slot, err)
	}
	return c, nil
}

// TemporarySlot makes a slot that lives as long as the result, for a reader
// that only needs a snapshot and its exact LSN.
func TemporarySlot(ctx context.Context, url, name string) (*Created, error) {
	return CreateSlot(ctx, SlotConfig{URL: url, Slot: name, Temporary: true})
}

func createSlot(ctx context.Context, conn *pgconn.PgConn, cfg SlotConfig) (*Created, error) {
	inc, err := identify(ctx, conn, cfg.Slot)
	if err != nil {
		return nil, err
	}
	res, err := pglogrepl.CreateReplicationSlot(ctx, conn, quote(cfg.Slot), plugin, pglogrepl.CreateReplicationSlotOptions{
		Temporary: cfg.Temporary, SnapshotAction: "EXPORT_SNAPSHOT", Mode: pglogrepl.LogicalReplication})
	if err != nil {
		return nil, err
	}
	point, err := ParseLSN(res.ConsistentPoint)
	if err != nil {
		return nil, fmt.Errorf("consistent point: %w", err)
	}
	return &Created{ConsistentPoint: point, SnapshotName: res.SnapshotName, Incarnation: inc, conn: conn}, nil
}

// Close ends the export of the snapshot; sessions that have imported it keep
// it. It may be called twice.
func (c *Created) Close() error {
	if c == nil || c.conn == nil {
		return nil
	}
	err := closeSoon(c.conn)
	c.conn = nil
	return err
}

// closeSoon closes a connection whose peer may be gone.
func closeSoon(conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return conn.Close(ctx)
}

// Slot is what the server says about a logical replication slot.
type Slot struct {
	Name     string
	Plugin   string // "" for a physical slot
	Database string // "" for a physical slot
	// Confirmed is confirmed_flush_lsn: everything that ends at or below it
	// was acknowledged and will not be sent again. 0 while the slot is made.
	Confirmed LSN
	// Restart is where the server must begin to read; it holds all WAL from
	// there.
	Restart   LSN
	ActivePID int32 // the session that reads it, 0 for none
	// WALStatus is reserved, extended, unreserved or lost.
	WALStatus string
	// SafeWALSize is how many bytes can still be written before the slot is in
	// danger of being lost; -1 without a limit.
	SafeWALSize int64
	Temporary   bool
	// Server is the end of the server's flushed WAL: Server-Confirmed is the
	// lag in bytes, Server-Restart what the slot holds on disk.
	Server LSN
}

// SlotInfo reads one slot; a missing one is a *SlotMissingError.
func SlotInfo(ctx context.Context, conn *pgx.Conn, name string) (*Slot, error) {
	s := Slot{Name: name}
	var confirmed, restart, server *string
	err := conn.QueryRow(ctx, `
		SELECT coalesce(plugin, ''), coalesce(database, ''), confirmed_flush_lsn::text, restart_lsn::text, coalesce(active_pid, 0),
		       coalesce(wal_status, 'lost'), coalesce(safe_wal_size, -1), temporary,
		       (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END)::text
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, name).
		Scan(&s.Plugin, &s.Database, &confirmed, &restart, &s.ActivePID, &s.WALStatus, &s.SafeWALSize, &s.Temporary, &server)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, &SlotMissingError{Slot: name}
	}
	if err != nil {
		return nil, fmt.Errorf("read replication slot %q: %w", name, err)
	}
	for _, f := range []struct {
		text *string
		to   *LSN
	}{{confirmed, &s.Confirmed}, {restart, &s.Restart}, {server, &s.Server}} {
		if f.text == nil {
			continue
		}
		if *f.to, err = ParseLSN(*f.text); err != nil {
			return nil, fmt.Errorf("read replication slot %q: %w", name, err)
		}
	}
	return &s, nil
}

// DropSlot drops a slot and what WAL it holds. A slot in use is a
// *SlotActiveError, a missing one a *SlotMissingError.
func DropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot($1)`, name)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case ok && pg.Code == "42704":
		return &SlotMissingError{Slot: name}
	case ok && pg.Code == "55006":
		if s, infoErr := SlotInfo(ctx, conn, name); infoErr == nil {
			return &SlotActiveError{Slot: name, PID: s.ActivePID}
		}
	}
	return fmt.Errorf("drop replication slot %q: %w", name, err)
}

// TerminateSlotUser ends the session that reads the slot, if there is one, and
// returns its process id, or 0. The role must be a member of the reader's role.
func TerminateSlotUser(ctx context.Context, conn *pgx.Conn, name string) (int32, error) {
	s, err := SlotInfo(ctx, conn, name)
	if err != nil || s.ActivePID == 0 {
		return 0, err
	}
	if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend($1)`, s.ActivePID); err != nil {
		return 0, fmt.Errorf("end the reader of replication slot %q: %w", name, err)
	}
	return s.ActivePID, nil
}

// usable checks that the slot can be read by us from a position on.
func (s *Slot) usable(database string, from LSN) error {
	switch {
	case s.Plugin == "":
		return &SlotUnfitError{Slot: s.Name, What: "type", Got: "physical", Want: "logical"}
	case s.Plugin != plugin:
		return &SlotUnfitError{Slot: s.Name, What: "output plugin", Got: s.Plugin, Want: plugin}
	case s.Database != database:
		return &SlotUnfitError{Slot: s.Name, What: "database", Got: s.Database, Want: database}
	case s.WALStatus == "lost":
		return &SlotLostError{Slot: s.Name, Confirmed: s.Confirmed}
	case s.Confirmed > from:
		return &SlotAheadError{Slot: s.Name, Confirmed: s.Confirmed, From: from}
	case s.ActivePID != 0:
		return &SlotActiveError{Slot: s.Name, PID: s.ActivePID}
	}
	return nil
}
