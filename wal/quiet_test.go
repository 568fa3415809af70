package wal_test

import (
	"context"
	"testing"
	"time"

	"banyan/internal/pgtest"
	"banyan/wal"
)

func TestQuietSeesWhatTheSlotHasNotConfirmed(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE told (id int PRIMARY KEY); CREATE TABLE other (id int); CREATE PUBLICATION quiet_pub FOR TABLE told`})
	slot, err := wal.CreateSlot(t.Context(), wal.SlotConfig{URL: db.URL, Slot: "quiet_" + db.Name})
	if err != nil {
		t.Fatal(err)
	}
	slot.Close()
	conn, err := wal.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	ask := func() (bool, wal.LSN) {
		t.Helper()
		s, err := wal.SlotInfo(t.Context(), conn, "quiet_"+db.Name)
		if err != nil {
			t.Fatal(err)
		}
		quiet, err := wal.Quiet(t.Context(), conn, "quiet_"+db.Name, "quiet_pub", s.Server)
		if err != nil {
			t.Fatal(err)
		}
		return quiet, s.Server
	}
	db.Exec(t, `INSERT INTO other SELECT generate_series(1, 100)`)
	quiet, before := ask()
	if !quiet {
		t.Error("changes of a neighbour table are taken for changes of a captured one")
	}
	db.Exec(t, `INSERT INTO told VALUES (1)`)
	if quiet, _ := ask(); quiet {
		t.Error("a change of a captured table is not seen")
	}
	if quiet, err := wal.Quiet(t.Context(), conn, "quiet_"+db.Name, "quiet_pub", before); err != nil || !quiet {
		t.Errorf("a change behind the LSN that was asked for counts: %v, %v", quiet, err)
	}
	db.Exec(t, `TRUNCATE told`)
	if quiet, _ := ask(); quiet {
		t.Error("a truncate is not seen")
	}
}

// Whoever commits and then reads the server's position gets one that others may
// have moved on: it has to be passed soon, not with the next transaction.
func TestAMoveSoonAfterATransactionIsOfferedSoon(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.mine": {"id"}}, `CREATE TABLE mine (id int PRIMARY KEY); CREATE TABLE others (id int PRIMARY KEY)`)
	r.cfg.IdleInterval = time.Hour
	s := r.open()
	r.exec(`INSERT INTO mine VALUES (1)`)
	r.collect(s, 1)
	r.exec(`INSERT INTO others VALUES (1)`)
	var text string
	if err := r.conn.QueryRow(t.Context(), `SELECT pg_current_wal_flush_lsn()::text`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	wanted, err := wal.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("the position %s was not passed: %v", wanted, err)
		}
		if b.End >= wanted {
			return
		}
	}
}
