package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// SlotMissingError says that the replication slot does not exist. What was
// committed since it went cannot be streamed any more.
type SlotMissingError struct{ Slot string }

func (e *SlotMissingError) Error() string {
	return fmt.Sprintf("replication slot %q does not exist: it was never made, or somebody dropped it; "+
		"make a new one and compare with a new snapshot (cdc repair), because changes since the last stored position may be gone", e.Slot)
}

// SlotLostError says that the server has removed WAL that the slot needed
// (wal_status is lost). The slot can only be dropped.
type SlotLostError struct {
	Slot      string
	Confirmed LSN // up to here the slot was consumed
}

func (e *SlotLostError) Error() string {
	return fmt.Sprintf("replication slot %q is lost: the server removed WAL after %s that it needed (max_slot_wal_keep_size); "+
		"drop the slot, make a new one and compare with a new snapshot (cdc repair)", e.Slot, e.Confirmed)
}

// SlotAheadError says that the slot was consumed further than our own stored
// position. The server would silently start at Confirmed, and the changes
// between would be lost.
type SlotAheadError struct {
	Slot      string
	Confirmed LSN
	From      LSN
}

func (e *SlotAheadError) Error() string {
	return fmt.Sprintf("replication slot %q is consumed up to %s, but our stored position is %s: somebody else read the slot, or an old copy of the store is in use; "+
		"the changes between cannot be streamed any more: make a new slot and compare with a new snapshot (cdc repair)", e.Slot, e.Confirmed, e.From)
}

// SlotUnfitError says that the slot is not one that we can read: another
// plugin, another database, a physical slot.
type SlotUnfitError struct {
	Slot string
	What string // "output plugin", "database" or "type"
	Got  string
	Want string
}

func (e *SlotUnfitError) Error() string {
	return fmt.Sprintf("replication slot %q has %s %q, want %q: choose another slot name, or drop that slot if nobody uses it", e.Slot, e.What, e.Got, e.Want)
}

// SlotActiveError says that another session is reading the slot.
type SlotActiveError struct {
	Slot string
	PID  int32
}

func (e *SlotActiveError) Error() string {
	return fmt.Sprintf("replication slot %q is in use by server process %d: stop the other reader, or end it with SELECT pg_terminate_backend(%d)", e.Slot, e.PID, e.PID)
}

// IncarnationError says that the server behind the URL is not the one that the
// position belongs to. LSNs of two incarnations must not be compared.
type IncarnationError struct{ Want, Got Incarnation }

func (e *IncarnationError) Error() string {
	return fmt.Sprintf("the source is another incarnation: expected %s, found %s (restored, failed over or upgraded?); "+
		"its positions cannot be compared with ours: start a new generation with a new slot and a new snapshot (cdc repair)", e.Want, e.Got)
}

// PublicationError says that the publication does not exist or does not
// publish all that is to be captured. Changes would be missing silently.
type PublicationError struct {
	Publication string
	Problems    []string
	// Later is true where it did fit when the stream was opened: then changes
	// may be missing already.
	Later bool
}

func (e *PublicationError) Error() string {
	out := "run setup again"
	if e.Later {
		out = "somebody has changed it while the stream ran, and what was committed since may be missing: run setup again, then cdc repair, which compares with a new snapshot"
	}
	return fmt.Sprintf("publication %q does not fit: %s; %s", e.Publication, strings.Join(e.Problems, "; "), out)
}

// DecodeError says that the stream holds something that cannot be understood.
// Nothing after LSN is handed out.
type DecodeError struct {
	LSN LSN
	Err error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("cannot understand the change stream at %s: %v; nothing was skipped: report this with the server's version, "+
		"or make a new slot and compare with a new snapshot (cdc repair)", e.LSN, e.Err)
}

func (e *DecodeError) Unwrap() error { return e.Err }

// UnsettledError says that no snapshot could be had in time that sees all that
// was streamed, because a transaction that was open before has not ended.
type UnsettledError struct {
	XID uint64 // the oldest that is open
	Err error
}

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("transaction %d of the source has been open for too long: a new look at the tables must wait until it has ended (SELECT * FROM pg_stat_activity WHERE backend_xid = '%d', or pg_prepared_xacts)", e.XID, uint32(e.XID))
}

func (e *UnsettledError) Unwrap() error { return e.Err }

// ErrClosed is what Next returns after Close.
var ErrClosed = errors.New("the stream is closed")

// errServerEnded is a server that ends the copy mode in an orderly way, as a
// shutdown does.
var errServerEnded = errors.New("the server ended the stream")

// errNotWaitedFor ends a connection on which the server waits for an
// acknowledgement that we cannot give yet.
var errNotWaitedFor = errors.New("the server waits for an acknowledgement that is not possible yet, as in a shutdown; it is let go")

// errSilent is a connection on which nothing arrives although we asked.
var errSilent = errors.New("the server has been silent for too long")

// transient tells whether trying again can help: the server restarts, the
// network breaks. What the server refuses on principle is permanent.
func transient(err error) bool {
	if errors.Is(err, errServerEnded) || errors.Is(err, errNotWaitedFor) || errors.Is(err, errSilent) {
		return true
	}
	if _, ok := errors.AsType[*SlotActiveError](err); ok {
		return true
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:2] {
		case "08", "53", "57":
			return true
		}
		return pg.Code == "55006" // slot is active
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) // no socket file while the server is down
}
