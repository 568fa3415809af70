package token_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/token"
)

// following is what a cdc that follows this database would say, at generation 3.
func following(t testing.TB, pool *pgxpool.Pool) token.Incarnation {
	t.Helper()
	i := token.Incarnation{Source: "shop", Generation: 3, Timeline: 1}
	if err := pool.QueryRow(context.Background(), `SELECT system_identifier::text FROM pg_control_system()`).Scan(&i.System); err != nil {
		t.Fatal(err)
	}
	return i
}

func always(i token.Incarnation) func() (token.Incarnation, bool) {
	return func() (token.Incarnation, bool) { return i, true }
}

// writeRow is a handler that commits and answers with the id of its transaction.
func writeRow(pool *pgxpool.Pool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var xid uint32
		if err := pool.QueryRow(r.Context(), `INSERT INTO acts DEFAULT VALUES RETURNING pg_current_xact_id()::xid`).Scan(&xid); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, xid)
	})
}

// committed reads the log: the end of each transaction's commit record.
func committed(t testing.TB, pool *pgxpool.Pool) map[uint32]uint64 {
	t.Helper()
	rows, err := pool.Query(context.Background(), `SELECT data FROM pg_logical_slot_peek_binary_changes('token', NULL, NULL, 'proto_version', '1', 'publication_names', 'acts')`)
	if err != nil {
		t.Fatal(err)
	}
	ends, xid := map[uint32]uint64{}, uint32(0)
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			t.Fatal(err)
		}
		switch b[0] {
		case 'B': // final LSN, time, xid
			xid = binary.BigEndian.Uint32(b[17:])
		case 'C': // flags, LSN, end LSN, time
			ends[xid] = binary.BigEndian.Uint64(b[10:])
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return ends
}

const actsSQL = `CREATE TABLE acts (id serial PRIMARY KEY); CREATE PUBLICATION acts FOR TABLE acts`

func post(t testing.TB, url string) (header, body string) {
	t.Helper()
	resp, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Get(token.Header), string(b)
}

func TestTokenStandsAtOrBehindTheCommit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.Options{SQL: actsSQL})
	db.Exec(t, `SELECT pg_create_logical_replication_slot('token', 'pgoutput')`)
	pool := db.Pool(t)
	m := &token.Maker{DB: pool, Known: always(following(t, pool)), Timeout: 30 * time.Second}
	srv := httptest.NewServer(m.Middleware(writeRow(pool)))
	defer srv.Close()
	var mu sync.Mutex
	given := map[uint32]token.Token{}
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 25 {
				header, body := post(t, srv.URL)
				got, err := token.Parse(header)
				xid, bad := strconv.ParseUint(body, 10, 32)
				if err != nil || bad != nil {
					t.Errorf("a write is answered with token %q and %q", header, body)
					return
				}
				mu.Lock()
				given[uint32(xid)] = got
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	if len(given) != 200 {
		t.Fatalf("%d tokens were given for 200 writes", len(given))
	}
	var end int64
	if err := pool.QueryRow(context.Background(), `SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint`).Scan(&end); err != nil {
		t.Fatal(err)
	}
	ends := committed(t, pool)
	for xid, got := range given {
		if commit := ends[xid]; commit == 0 || got.LSN < commit || got.LSN > uint64(end) || got.Generation != 3 {
			t.Errorf("transaction %d ends at %s and got token %s, with the log at %s", xid, at(commit), got, at(uint64(end)))
		}
		if got.Passed(&event.Watermark{Generation: 3, LSN: ends[xid] - 1}) {
			t.Errorf("token %s is passed before transaction %d is told", got, xid)
		}
	}
}

func at(lsn uint64) token.Token { return token.Token{Generation: 3, LSN: lsn} }

func TestWhereThereIsNoToken(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	pool := db.Pool(t)
	here := following(t, pool)
	elsewhere, promoted := here, here
	elsewhere.System, promoted.Timeline = "1", 2
	make := func(known func() (token.Incarnation, bool), settings string) error {
		t.Helper()
		conn, err := pgxpool.New(context.Background(), db.URL+settings)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = (&token.Maker{DB: conn, Known: known}).Make(context.Background())
		return err
	}
	if err := make(func() (token.Incarnation, bool) { return here, false }, ""); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("before cdc has answered: %v", err)
	}
	for _, mode := range []string{"on", "local", "remote_write", "remote_apply"} {
		if err := make(always(here), "&synchronous_commit="+mode); err != nil {
			t.Errorf("synchronous_commit %s: %v", mode, err)
		}
	}
	if err := make(always(here), "&synchronous_commit=off"); !errors.Is(err, token.ErrAsynchronous) {
		t.Errorf("synchronous_commit off: %v", err)
	}
	for _, i := range []token.Incarnation{elsewhere, promoted} {
		if e := (*token.OtherServerError)(nil); !errors.As(make(always(i), ""), &e) || e.System != here.System || e.Timeline != 1 || e.Followed != i {
			t.Errorf("cdc follows %+v: %v", i, e)
		}
	}
	if err := make(always(here), "&default_transaction_read_only=on"); err != nil {
		t.Errorf("in a session that only reads: %v", err)
	}
	// The service's role needs no rights of its own.
	role := "plain_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	db.Exec(t, `CREATE ROLE `+role+` LOGIN`)
	plain, err := pgxpool.New(context.Background(), db.UserURL(role, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := (&token.Maker{DB: plain, Known: always(here)}).Make(context.Background()); err != nil {
		t.Errorf("as a role without rights: %v", err)
	}
	plain.Close()
	db.Exec(t, `DROP ROLE `+role)
}

// fixed is a database at one LSN; its asks are counted, and it may fail or hang.
type fixed struct {
	system string
	asks   int
	err    error
	hang   bool
}

func (f *fixed) QueryRow(ctx context.Context, _ string, _ ...any) pgx.Row {
	f.asks++
	if f.hang {
		<-ctx.Done()
		return row{err: ctx.Err()}
	}
	return row{f.system, f.err}
}

type row struct {
	system string
	err    error
}

func (r row) Scan(dest ...any) error {
	if r.err == nil {
		*dest[0].(*int64), *dest[1].(*string), *dest[2].(*string), *dest[3].(*string) = 0x1A2B3C8, "on", r.system, "00000002"
	}
	return r.err
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	source := token.Incarnation{Source: "shop", Generation: 3, System: "7", Timeline: 2}
	const given = "3:0/1A2B3C8"
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	created := answer(http.StatusCreated)
	for name, tc := range map[string]struct {
		method, header string
		do             http.HandlerFunc
		status         int
		want           string
	}{
		"POST":                   {"POST", "", created, 201, given},
		"PUT":                    {"PUT", "", created, 201, given},
		"PATCH":                  {"PATCH", "", created, 201, given},
		"DELETE":                 {"DELETE", "", answer(204), 204, given},
		"method of their own":    {"MOVE", "", created, 201, given},
		"GET":                    {"GET", "", answer(200), 200, ""},
		"GET with a token":       {"GET", given, answer(200), 200, ""},
		"GET that wants one":     {"GET", "wanted", answer(200), 200, given},
		"GET that wants it much": {"GET", " Wanted ", answer(200), 200, given},
		"HEAD":                   {"HEAD", "", answer(200), 200, ""},
		"HEAD that wants one":    {"HEAD", "wanted", answer(200), 200, given},
		"OPTIONS":                {"OPTIONS", "", answer(204), 204, ""},
		"refused":                {"POST", "", answer(409), 409, given},
		"failed":                 {"POST", "", answer(500), 500, ""},
		"silent handler":         {"POST", "", func(http.ResponseWriter, *http.Request) {}, 200, given},
		"no WriteHeader":         {"POST", "", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }, 200, given},
		"token of somebody below": {"POST", "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(token.Header, "9:0/9")
			w.WriteHeader(200)
		}, 200, given},
		"flushed before a byte": {"POST", "", func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			w.(http.Flusher).Flush()
			io.WriteString(w, "x")
		}, 200, given},
		"early hints": {"POST", "", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(202)
		}, 202, given},
	} {
		db := &fixed{system: "7"}
		srv := httptest.NewServer((&token.Maker{DB: db, Known: always(source)}).Middleware(tc.do))
		req, err := http.NewRequest(tc.method, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.header != "" {
			req.Header.Set(token.Header, tc.header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
		srv.Close()
		asks := 0
		if tc.want != "" {
			asks = 1
		}
		if got := resp.Header.Get(token.Header); got != tc.want || resp.StatusCode != tc.status || db.asks != asks {
			t.Errorf("%s: %d, token %q, %d asks; want %d, %q, %d", name, resp.StatusCode, got, db.asks, tc.status, tc.want, asks)
		}
	}
}

func TestTokenNeverHoldsAnAnswerUpOrFailsIt(t *testing.T) {
	t.Parallel()
	source := token.Incarnation{Source: "shop", Generation: 3, System: "7", Timeline: 2}
	db, log := &fixed{system: "7"}, &buffer{}
	m := &token.Maker{DB: db, Known: always(source), Timeout: 20 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))}
	h := m.Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") }))
	ask := func(ctx context.Context) string {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/", nil))
		if w.Code != 200 || w.Body.String() != "done" {
			t.Errorf("the answer is %d %s", w.Code, w.Body)
		}
		return w.Header().Get(token.Header)
	}
	warned := func(want int) {
		t.Helper()
		if n := strings.Count(log.String(), "without a consistency token"); n != want {
			t.Errorf("%d warnings, want %d:\n%s", n, want, log)
		}
	}
	ctx := context.Background()
	for range 3 {
		if got := ask(ctx); got == "" {
			t.Error("no token")
		}
	}
	warned(0)
	db.hang = true
	for range 3 {
		if got := ask(ctx); got != "" {
			t.Errorf("token %s of a database that hangs", got)
		}
	}
	warned(1)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	ask(gone)
	db.hang, db.err = false, errors.New("no connection")
	for range 3 {
		ask(ctx)
	}
	warned(2)
	db.err = nil
	ask(ctx)
	db.err = errors.New("no connection")
	ask(ctx)
	warned(3)
	db.err, db.system = nil, "8"
	ask(ctx)
	warned(4)
	m.Known = func() (token.Incarnation, bool) { return token.Incarnation{}, false }
	asks := db.asks
	if got := ask(ctx); got != "" || db.asks != asks {
		t.Errorf("token %q while the generation is unknown, after %d asks", got, db.asks-asks)
	}
	warned(4)
}

// What a token costs an answer: a write over HTTP, without and with one.
func BenchmarkAnswer(b *testing.B) {
	pool := pgtest.New(b, pgtest.Options{SQL: actsSQL}).Pool(b)
	m := &token.Maker{DB: pool, Known: always(following(b, pool))}
	for _, tc := range []struct {
		name string
		h    http.Handler
	}{{"without", writeRow(pool)}, {"with", m.Middleware(writeRow(pool))}} {
		b.Run(tc.name, func(b *testing.B) {
			srv := httptest.NewServer(tc.h)
			defer srv.Close()
			for b.Loop() {
				if header, _ := post(b, srv.URL); (header != "") != (tc.name == "with") {
					b.Fatalf("token %q", header)
				}
			}
		})
	}
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := m.Make(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
