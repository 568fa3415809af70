package wal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// source is the seam behind which the messages of pgoutput come from. The
// walsender is one; another can decode stretches of the WAL through SQL, which
// yields the same bytes.
type source interface {
	// next returns the next message, valid until the next call. Without bytes
	// only the position moved: all that committed below lsn has been returned.
	// The error is errWoken where there was nothing to read in time.
	next() (lsn LSN, message []byte, err error)
}

// errWoken says that next has nothing and that its caller has other work.
var errWoken = errors.New("woken")

// walsender is a replication session in copy mode. One goroutine owns it; only
// wake may be called by others.
type walsender struct {
	conn     *pgconn.PgConn
	interval time.Duration // between status updates

	replyAsked bool      // the server wants a status now
	serverTime time.Time // of the last message that carried one
	heard      bool      // something arrived since the last status
	silent     int       // statuses without an answer

	woken    atomic.Bool
	deadline time.Time // what the connection's read deadline was set to last

	reported LSN // flush position of the last status
	sent     time.Time
}

const (
	maxStatusInterval = 10 * time.Second
	// A status at an unanswered interval asks for a reply; after as many
	// without any the connection is taken for dead, as TCP alone takes minutes
	// to notice a peer that vanished.
	silentLimit = 4
)

// startWalsender begins streaming from a position that the slot has not passed.
func startWalsender(ctx context.Context, conn *pgconn.PgConn, slot, publication string, from LSN) (*walsender, error) {
	timeout, err := senderTimeout(ctx, conn)
	if err != nil {
		return nil, err
	}
	args := []string{"proto_version '1'", "publication_names '" + strings.ReplaceAll(quote(publication), "'", "''") + "'"}
	err = pglogrepl.StartReplication(ctx, conn, quote(slot), pglogrepl.LSN(from), pglogrepl.StartReplicationOptions{PluginArgs: args})
	if err != nil {
		return nil, fmt.Errorf("start replication from %s: %w", from, err)
	}
	w := &walsender{conn: conn, interval: maxStatusInterval, reported: from, sent: time.Now(), heard: true}
	if timeout > 0 {
		w.interval = min(w.interval, timeout/4)
	}
	return w, nil
}

// senderTimeout reads wal_sender_timeout; 0 means none.
func senderTimeout(ctx context.Context, conn *pgconn.PgConn) (time.Duration, error) {
	res, err := conn.Exec(ctx, `SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'`).ReadAll()
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	if len(res) != 1 || len(res[0].Rows) != 1 {
		return 0, errors.New("read wal_sender_timeout: the server does not know it")
	}
	ms, err := strconv.Atoi(string(res[0].Rows[0][0]))
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func (w *walsender) next() (LSN, []byte, error) {
	if w.woken.Swap(false) {
		w.deadline = time.Time{} // the wake-up has spoilt it
		return 0, nil, errWoken
	}
	m, err := w.conn.ReceiveMessage(context.Background())
	if err != nil {
		if pgconn.Timeout(err) {
			w.woken.Store(false)
			w.deadline = time.Time{}
			return 0, nil, errWoken
		}
		return 0, nil, err
	}
	w.heard, w.silent = true, 0
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return w.data(m.Data)
	case *pgproto3.ErrorResponse:
		return 0, nil, pgconn.ErrorResponseToPgError(m)
	case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		return 0, nil, errWoken
	case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return 0, nil, errServerEnded
	}
	return 0, nil, fmt.Errorf("unexpected message %T in the replication stream", m)
}

func (w *walsender) data(b []byte) (LSN, []byte, error) {
	if len(b) == 0 {
		return 0, nil, errShort
	}
	switch b[0] {
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(b[1:])
		if err == nil && len(x.WALData) == 0 {
			err = errShort
		}
		return LSN(x.WALStart), x.WALData, err
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(b[1:])
		if err != nil {
			return 0, nil, err
		}
		w.serverTime = k.ServerTime.UTC()
		w.replyAsked = w.replyAsked || k.ReplyRequested
		return LSN(k.ServerWALEnd), nil, nil
	}
	return 0, nil, fmt.Errorf("replication message of unknown type %q", b[0])
}

// until sets how long next may wait. It costs a call into the runtime, so it
// is only made when the time changes.
func (w *walsender) until(t time.Time) error {
	if t.Equal(w.deadline) {
		return nil
	}
	w.deadline = t
	return w.conn.Conn().SetReadDeadline(t)
}

// wake makes next return soon, from any goroutine. The flag is set before the
// deadline: whichever way it crosses with until, either the flag is seen or
// the deadline is the later one.
func (w *walsender) wake() {
	w.woken.Store(true)
	_ = w.conn.Conn().SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
}

// status reports positions: written is what has arrived here, flushed what the
// consumer has made durable. All three positions are always set: pglogrepl
// takes a zero flush for "flushed as written". While the caller is not reading,
// silence means nothing.
func (w *walsender) status(written, flushed LSN, now time.Time, reading bool) error {
	ask := !w.heard && reading
	if ask {
		if w.silent++; w.silent > silentLimit {
			return fmt.Errorf("%w (%v)", errSilent, time.Duration(silentLimit)*w.interval)
		}
	}
	// A peer that vanished does not read either; do not block on it for ever.
	if err := w.conn.Conn().SetWriteDeadline(now.Add(2 * w.interval)); err != nil {
		return fmt.Errorf("send the status: %w", err)
	}
	err := pglogrepl.SendStandbyStatusUpdate(context.Background(), w.conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: pglogrepl.LSN(max(written, flushed)),
		WALFlushPosition: pglogrepl.LSN(flushed),
		WALApplyPosition: pglogrepl.LSN(flushed),
		ClientTime:       now,
		ReplyRequested:   ask,
	})
	if err != nil {
		return fmt.Errorf("send the status: %w", err)
	}
	w.replyAsked, w.heard, w.sent, w.reported = false, false, now, flushed
	return nil
}
