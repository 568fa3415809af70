package outbox_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
)

var billing = outbox.Source{Name: "billing"}

// own gives a service's database with an outbox of its own.
func own(t *testing.T) (*pgtest.DB, *outbox.Owner) {
	t.Helper()
	db := pgtest.New(t)
	// A heartbeat is a transaction too: a row waits for one that is older.
	s := open(t, db.URL, outbox.Options{Heartbeat: time.Hour})
	db.Exec(t, `DO $$ BEGIN CREATE ROLE banyan_service LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	if err := s.AllowAppend(testContext(t), "banyan_service"); err != nil {
		t.Fatal(err)
	}
	return db, acquire(t, s, billing)
}

func service(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(testContext(t), db.UserURL("banyan_service", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func begin(t *testing.T, c *pgx.Conn) pgx.Tx {
	t.Helper()
	tx, err := c.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func invoice(key, what string) event.Event {
	return event.Event{ID: event.ID{Aggregate: "Invoice", Key: key}, Type: "InvoiceIssued", Topic: "billing.invoices", Data: fmt.Appendf(nil, `{"what":%q}`, what)}
}

func appendTo(t *testing.T, tx pgx.Tx, events ...event.Event) {
	t.Helper()
	if err := outbox.Append(testContext(t), tx, events...); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func stamp(t *testing.T, o *outbox.Owner, want int) {
	t.Helper()
	n, err := o.Stamp(testContext(t), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if n != want {
		t.Errorf("stamped %d, want %d", n, want)
	}
}

func TestAppendAndStamp(t *testing.T) {
	db, o := own(t)
	early, late := service(t, db), service(t, db)
	tx1, tx2 := begin(t, early), begin(t, late)
	appendTo(t, tx1, invoice("1", "first row"))
	appendTo(t, tx2, invoice("2", "second row"))
	end(t, tx2)
	stamp(t, o, 0) // an older transaction is open: what it writes comes before
	before := o.Position()
	stamp(t, o, 0)
	if o.Position() != before {
		t.Error("an idle outbox moves its position")
	}
	end(t, tx1)
	stamp(t, o, 2)
	tx3 := begin(t, early)
	appendTo(t, tx3, invoice("1", "rolled back"))
	if err := tx3.Rollback(testContext(t)); err != nil {
		t.Fatal(err)
	}
	stamp(t, o, 0)
	got := stored(t, o)
	if len(got) != 2 {
		t.Fatalf("%d events", len(got))
	}
	for _, e := range got {
		if e.ID.Source != "billing" || e.ID.Position.Generation != 1 || e.ID.Position.LSN == 0 || e.Position.LSN != 1 || e.Version != 1 || e.Time.IsZero() || e.Seq != 1 {
			t.Errorf("event %s: %+v", e.ID, e)
		}
	}
	if f, _ := o.Frontier(testContext(t)); !f.Complete || f.LSN != 1 || f.Time.IsZero() {
		t.Errorf("a polled outbox needs no snapshot: %+v", f)
	}
}

// An older transaction can commit its row of an aggregate after a younger one:
// its row has the higher id, and must not overtake the younger's, which waits
// for a third.
func TestStampWaitsForTheLowerRowOfItsAggregate(t *testing.T) {
	db, o := own(t)
	older, younger, third := service(t, db), service(t, db), service(t, db)
	txOlder, txThird := begin(t, older), begin(t, third)
	appendTo(t, txOlder, invoice("9", "gives the older its xid"))
	appendTo(t, txThird, invoice("8", "holds the horizon between the two"))
	txYounger := begin(t, younger)
	appendTo(t, txYounger, invoice("1", "first"))
	end(t, txYounger)
	appendTo(t, txOlder, invoice("1", "second"))
	end(t, txOlder)
	// The older is below the horizon now, the younger above it.
	stamp(t, o, 1) // only the invoice 9
	end(t, txThird)
	stamp(t, o, 3)
	var order []string
	for _, e := range stored(t, o) {
		if e.ID.Key == "1" {
			order = append(order, string(e.Data))
		}
	}
	if len(order) != 2 || order[0] != `{"what":"first"}` {
		t.Errorf("order of invoice 1: %v", order)
	}
}

// Many services write, roll back and dawdle while the owner stamps: every
// committed event comes out once, in commit order per aggregate.
func TestAppendUnderLoad(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx := testContext(t)
	db, o := own(t)
	db.Exec(t, `CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL); INSERT INTO counter SELECT i, 0 FROM generate_series(0, 4) i;
		GRANT ALL ON counter TO banyan_service`)
	var writers sync.WaitGroup
	for w := range 6 {
		c := service(t, db)
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		writers.Go(func() {
			for range 60 {
				tx, err := c.Begin(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if rnd.IntN(3) == 0 { // an xid long before the row
					_, err = tx.Exec(ctx, `SELECT pg_current_xact_id()`)
				}
				id, n := rnd.IntN(5), 0
				if err == nil {
					err = tx.QueryRow(ctx, `UPDATE counter SET n = n + 1 WHERE id = $1 RETURNING n`, id).Scan(&n)
				}
				if err == nil {
					e := invoice(fmt.Sprint(id), fmt.Sprint(n))
					err = outbox.Append(ctx, tx, e)
				}
				if err == nil && rnd.IntN(4) == 0 {
					err = tx.Rollback(ctx)
				} else if err == nil {
					err = tx.Commit(ctx)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { writers.Wait(); close(written) }()
	for finished := false; ; {
		n, err := o.Stamp(ctx, 7)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && finished {
			break
		}
		select {
		case <-written:
			finished = true
		default:
		}
	}
	next := map[string]int{}
	for _, e := range stored(t, o) {
		next[e.ID.Key]++
		if want := fmt.Sprintf(`{"what":"%d"}`, next[e.ID.Key]); string(e.Data) != want {
			t.Fatalf("invoice %s: %s, want %s", e.ID.Key, e.Data, want)
		}
	}
	rows, err := db.Pool(t).Query(ctx, `SELECT id::text, n FROM counter`)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		if next[id] != n {
			t.Errorf("invoice %s: %d events of %d", id, next[id], n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAppendRefusesHalfAnEvent(t *testing.T) {
	db, _ := own(t)
	tx := begin(t, service(t, db))
	defer tx.Rollback(testContext(t))
	if err := outbox.Append(testContext(t), tx, event.Event{Type: "InvoiceIssued"}); err == nil {
		t.Error("an event without aggregate, topic and data was taken")
	}
	if err := outbox.Append(testContext(t), tx); err != nil {
		t.Errorf("no events: %v", err)
	}
}
