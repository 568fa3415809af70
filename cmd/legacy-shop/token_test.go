package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"banyan/internal/pgtest"
	"banyan/token"
)

// lastCommit is the end of the last transaction that changed customers.
func (s *testShop) lastCommit() (end uint64) {
	s.t.Helper()
	rows, err := s.pool.Query(context.Background(), `SELECT data FROM pg_logical_slot_peek_binary_changes('token', NULL, NULL, 'proto_version', '1', 'publication_names', 'customers')`)
	if err != nil {
		s.t.Fatal(err)
	}
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			s.t.Fatal(err)
		}
		if b[0] == 'C' { // commit: flags, LSN, end LSN
			end = binary.BigEndian.Uint64(b[10:])
		}
	}
	if rows.Err() != nil || end == 0 {
		s.t.Fatalf("the log has no commit (%v)", rows.Err())
	}
	return end
}

func TestAnswersCarryTokens(t *testing.T) {
	db := pgtest.New(t)
	serveShop(t, db.URL) // makes the tables
	db.Exec(t, `CREATE PUBLICATION customers FOR TABLE customers`)
	db.Exec(t, `SELECT pg_create_logical_replication_slot('token', 'pgoutput')`)
	s := &testShop{t: t, pool: db.Pool(t)}
	followed := token.Incarnation{Source: "shop", Generation: 5, System: s.sql(`SELECT system_identifier FROM pg_control_system()`), Timeline: 1}
	var away atomic.Bool
	cdc := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() || r.URL.Path != token.Path {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(followed)
	}))
	defer cdc.Close()
	s.url = serveShop(t, db.URL, "--token-from", cdc.URL)
	const customer = `{"name":"Ann","country":"EIRE"}`
	var made customerRegistered
	write := func() answer {
		t.Helper()
		a := s.ask("POST", "/customers", customer)
		if err := json.Unmarshal(a.body, &made); a.status != 201 || err != nil {
			t.Fatalf("POST /customers: %d %s", a.status, a.body)
		}
		return a
	}
	until(t, "tokens are given", func() bool { return write().header.Get(token.Header) != "" })

	got, err := token.Parse(write().header.Get(token.Header))
	if err != nil || got.Generation != 5 || got.LSN < s.lastCommit() {
		t.Errorf("the token is %s (%v), want generation 5 and an LSN from %X on", got, err, s.lastCommit())
	}
	for _, c := range []struct {
		method, path, body, header string
		status                     int
		token                      bool
	}{
		{"GET", "/customers", "", "", 200, false},
		{"GET", "/customers", "", "wanted", 200, true},
		{"PATCH", "/customers/1", `{"email":"ann@example.com"}`, "", 204, true},
		{"PATCH", "/customers/1", `{"colour":"red"}`, "", 400, true},
		{"DELETE", "/customers/1", "", "", 204, true},
	} {
		a := s.ask(c.method, c.path, c.body, token.Header, c.header)
		now, err := token.Parse(a.header.Get(token.Header))
		if a.status != c.status || (err == nil) != c.token || c.token && now.Compare(got) < 0 {
			t.Errorf("%s %s: %d %s, token %q; want %d and a token: %t", c.method, c.path, a.status, a.body, a.header.Get(token.Header), c.status, c.token)
		}
	}
	away.Store(true)
	until(t, "tokens end while cdc is away", func() bool { return write().header.Get(token.Header) == "" })
	away.Store(false)
	until(t, "tokens come back", func() bool { return write().header.Get(token.Header) != "" })
}

func TestWithoutTheFlagThereAreNoTokens(t *testing.T) {
	s := startShop(t)
	if a := s.ask("GET", "/customers", "", token.Header, token.Wanted); a.status != 200 || a.header.Get(token.Header) != "" {
		t.Errorf("%d, token %q", a.status, a.header.Get(token.Header))
	}
	if strings.Contains(s.sql(`SELECT string_agg(query, ';') FROM pg_stat_activity WHERE datname = current_database()`), "wal_flush_lsn") {
		t.Error("the log's end was asked for")
	}
}
