package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier is the part of a pgx pool that Maker needs. The pool must not be one
// whose connections the handlers still hold while they write their answers.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Maker makes tokens in the service that writes to the source's database.
//
// A token holds for what was committed synchronously before it was made: with
// synchronous_commit off a commit is answered before it is flushed, and the
// flushed LSN, which the token carries, may lie below it. Maker gives no token
// where its own connection has the setting off. A transaction that switches it
// off for itself is not seen: whoever does that must not rely on the token.
//
// The insert LSN would cover such commits too, but it can stand behind a page
// header that nothing follows, and then an idle source never reaches it.
type Maker struct {
	// DB asks the database that the handlers write to, as their role.
	DB Querier
	// Known is the incarnation of the source, false while nobody knows:
	// Generations.Known.
	Known func() (Incarnation, bool)
	// Log hears why there are no tokens, once for each reason in a row. Nil is
	// silent.
	Log *slog.Logger
	// Timeout is how long an answer waits for its token at most; 0 is
	// DefaultTimeout. Then it goes out without one.
	Timeout time.Duration

	said atomic.Pointer[string] // the last reason; nil while tokens are made
}

// DefaultTimeout is many round trips to a database that is well, and little to
// one who waits for a page.
const DefaultTimeout = 250 * time.Millisecond

// ErrUnknown says that the generation is not known: cdc has not answered.
var ErrUnknown = errors.New("no token: the generation of the source is not known")

// ErrAsynchronous says that commits are answered before they are flushed.
var ErrAsynchronous = errors.New("no token: synchronous_commit is off, so that a commit can be answered before the log holds it; " +
	"set it on, for this role or database, to have tokens")

// OtherServerError says that the database is on another server, or on another
// life of it, than the one that cdc follows: its LSNs mean nothing there. The
// address of cdc is wrong, or the server was restored or failed over, and cdc
// has still to be told (cdc repair).
type OtherServerError struct {
	System   string // of the database
	Timeline int32
	Followed Incarnation
}

func (e *OtherServerError) Error() string {
	return fmt.Sprintf("no token: this database is on system %s, timeline %d, and cdc follows source %s on system %s, timeline %d",
		e.System, e.Timeline, e.Followed.Source, e.Followed.System, e.Followed.Timeline)
}

// The name of a WAL file begins with the timeline.
const ask = `SELECT (lsn - '0/0')::bigint, current_setting('synchronous_commit'), (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
	substr(pg_catalog.pg_walfile_name(lsn), 1, 8) FROM pg_catalog.pg_current_wal_flush_lsn() lsn`

// Make makes a token for everything that was committed before the call. It
// costs one round trip to the database. Errors are ErrUnknown,
// ErrAsynchronous, an *OtherServerError, or the database's.
func (m *Maker) Make(ctx context.Context) (Token, error) {
	source, ok := m.Known()
	if !ok {
		return Token{}, ErrUnknown
	}
	var lsn int64
	var mode, system, line string
	if err := m.DB.QueryRow(ctx, ask).Scan(&lsn, &mode, &system, &line); err != nil {
		return Token{}, fmt.Errorf("no token: ask for the flushed LSN: %w", err)
	}
	timeline, err := strconv.ParseInt(line, 16, 32)
	if err != nil {
		return Token{}, fmt.Errorf("no token: read the timeline: %w", err)
	}
	if mode == "off" {
		return Token{}, ErrAsynchronous
	}
	if system != source.System || int32(timeline) != source.Timeline {
		return Token{}, &OtherServerError{system, int32(timeline), source}
	}
	return Token{source.Generation, uint64(lsn)}, nil
}

// Middleware puts a token on the answers of next: on every answer below 500 to
// a method that changes something, and on those to GET, HEAD, OPTIONS and TRACE
// where the request asks for it with Banyan-Token: wanted. The token is made
// when next begins to answer, so next has to commit before. Where none can be
// made in time, the answer goes out without one.
//
// It fits every router; echo takes it as echo.WrapMiddleware(m.Middleware), or,
// so that errors are answered inside, around the whole echo.
func (m *Maker) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if safe(r.Method) && !strings.EqualFold(strings.TrimSpace(r.Header.Get(Header)), Wanted) {
			next.ServeHTTP(w, r)
			return
		}
		mw := &writer{ResponseWriter: w, mark: func() { m.mark(r.Context(), w.Header()) }}
		next.ServeHTTP(mw, r)
		mw.begin(http.StatusOK) // what net/http does for a handler that is silent
	})
}

func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// mark sets the header, or says why it cannot.
func (m *Maker) mark(ctx context.Context, h http.Header) {
	h.Del(Header) // of a proxied answer
	limit := m.Timeout
	if limit <= 0 {
		limit = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t, err := m.Make(ctx)
	if err == nil {
		h.Set(Header, t.String())
		m.said.Store(nil)
		return
	}
	if m.Log == nil || errors.Is(err, ErrUnknown) || errors.Is(err, context.Canceled) {
		return // Generations tells the first; the client has gone at the other
	}
	why := err.Error()
	if before := m.said.Swap(&why); before == nil || *before != why {
		m.Log.Warn("an answer goes out without a consistency token", "error", why)
	}
}

// writer marks an answer at the last moment before its header is sent.
type writer struct {
	http.ResponseWriter
	mark  func()
	begun bool
}

func (w *writer) begin(status int) {
	// An informational answer is not the answer yet.
	if w.begun || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	w.begun = true
	if status < 500 {
		w.mark()
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *writer) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// FlushError sends what was written, the header first.
func (w *writer) FlushError() error {
	w.begin(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() } // an http.Flusher cannot say so

// Unwrap lets http.ResponseController reach what is below.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
