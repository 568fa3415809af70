package bench_test

import (
	"fmt"
	"testing"
	"time"

	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
)

// workload is the shape of a backlog.
type workload struct {
	name, what string
	rowsPerTx  int
}

// raceConfig is one race.
type raceConfig struct {
	workload
	rows, rounds int
	kafka        *kafkatest.Broker // nil: the embedded broker
	profile      string            // prefix of CPU profiles; "" for none
}

// The contenders, as the table names them.
const (
	contenderCDC         = "cdc run"
	contenderRecvlogical = "pg_recvlogical"
	contenderPeek        = "SQL decoding"
)

// field is where a race takes place: a source, a server for the stores, and one
// house per round. Both servers fsync, as in production.
type field struct {
	t      testing.TB
	cfg    raceConfig
	source *pgtest.DB
	stores *pgtest.Server
	houses []*house
	end    string // LSN behind the backlog
}

// race makes the backlog and drains it, round by round, in turn.
func race(t testing.TB, cfg raceConfig) *results {
	t.Helper()
	real := map[string]string{"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "wal_sender_timeout": "0", "autovacuum": "off"}
	f := &field{t: t, cfg: cfg, source: pgtest.NewServer(t, pgtest.ServerOptions{Settings: real}).NewDB(t, pgtest.Options{SQL: schema}),
		stores: pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB", "max_wal_size": "1GB"}})}
	for n := range cfg.rounds {
		f.houses = append(f.houses, f.newHouse(n+1))
	}
	res := &results{workload: cfg.workload, rows: cfg.rows, broker: "embedded broker"}
	if cfg.kafka != nil {
		res.broker = "Apache Kafka 4"
	}
	f.load()
	for n, h := range f.houses {
		turns := []func() measure{func() measure { return f.cdc(h) }, func() measure { return f.recvlogical(h) }, func() measure { return f.peek(h) }}
		names := []string{contenderCDC, contenderRecvlogical, contenderPeek}
		f.copySlots(h)
		round := make(map[string]measure)
		for i := range turns {
			if n%2 == 1 { // who is first changes from round to round
				i = len(turns) - 1 - i
			}
			f.quiet()
			round[names[i]] = turns[i]()
		}
		res.rounds = append(res.rounds, round)
		f.clear(h)
	}
	return res
}

// schema is one table of about 190 bytes a row, as wide as an order is.
const schema = `
CREATE TABLE orders (id bigserial PRIMARY KEY, customer_id int NOT NULL, status text NOT NULL, total numeric(12,3) NOT NULL, placed_at timestamptz NOT NULL, note text NOT NULL);
CREATE PUBLICATION banyan_bench FOR TABLE orders WITH (publish_via_partition_root = true);`

const rules = `version: 1
source: {name: %[1]s, slot: %[1]s, publication: banyan_bench}
tables:
  public.orders: {columns: [id, customer_id, status, total, placed_at, note], money: {total: {currency: GBP, scale: 3}}}
aggregates:
  Order:
    table: public.orders
    key: [id]
    topic: %[1]s.orders
    events:
      - {type: OrderPlaced, on: insert, occurred_at: new.placed_at, fields: {total: new.total}}
`

// load makes the backlog in four sessions at once. How safely they commit
// leaves no trace in the log, so they do not wait for the disk.
func (f *field) load() {
	f.t.Helper()
	const sessions = 4
	if f.cfg.rows%f.cfg.rowsPerTx != 0 {
		f.t.Fatalf("%d rows do not make whole transactions of %d", f.cfg.rows, f.cfg.rowsPerTx)
	}
	start := time.Now()
	done := make(chan error, sessions)
	for s := range sessions {
		n := f.share(s, sessions)
		go func() {
			done <- f.exec(`SET synchronous_commit = off`, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
				INSERT INTO orders (customer_id, status, total, placed_at, note)
				SELECT i %% 1000, 'placed', i * 0.125, now(), md5(i::text) || md5(r::text) || md5('%d') FROM generate_series(1, %d) r;
				COMMIT; END LOOP; END $$`, n, s, f.cfg.rowsPerTx))
		}()
	}
	for range sessions {
		if err := <-done; err != nil {
			f.t.Fatalf("make the backlog: %v", err)
		}
	}
	f.end = f.text(`SELECT pg_current_wal_insert_lsn()`)
	if got := f.text(`SELECT count(*) FROM orders`); got != fmt.Sprint(f.cfg.rows) {
		f.t.Fatalf("the backlog has %s rows, want %d", got, f.cfg.rows)
	}
	f.t.Logf("%s: %d rows in %.1f s", f.cfg.name, f.cfg.rows, time.Since(start).Seconds())
}

// share is how many transactions one of the sessions makes.
func (f *field) share(session, sessions int) int {
	txs := f.cfg.rows / f.cfg.rowsPerTx
	n := txs / sessions
	if session < txs%sessions {
		n++
	}
	return n
}

// quiet brings both servers' dirty pages to the disk, so that nobody pays for
// somebody else's.
func (f *field) quiet() {
	f.t.Helper()
	if err := f.exec(`CHECKPOINT`); err != nil {
		f.t.Fatal(err)
	}
	if err := execOn(f.stores.URL(), `CHECKPOINT`); err != nil {
		f.t.Fatal(err)
	}
}
