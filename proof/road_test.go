package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

const roadSQL = `
CREATE TABLE orders (id serial PRIMARY KEY, status text NOT NULL, total numeric(12,3), note text, placed_at timestamp NOT NULL DEFAULT '2026-03-01');
CREATE TABLE order_items (order_id int REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE, line_no int, sku text, quantity int, PRIMARY KEY (order_id, line_no));
INSERT INTO orders (status, total) SELECT 'placed', g * 1.005 FROM generate_series(1, 300) g;
INSERT INTO order_items SELECT g, n, 'sku' || n, n FROM generate_series(1, 300) g, generate_series(1, 3) n;
CREATE PUBLICATION p FOR TABLE orders, order_items WITH (publish_via_partition_root = true)`

const roadRules = `
version: 1
source: {name: shop, url: "postgres://cdc@db/shop", slot: road, publication: p}
unknown: park
tables:
  public.orders:
    columns: [id, status, total, note, placed_at]
    money: {total: {scale: 3, currency: GBP}}
  public.order_items:
    columns: [order_id, line_no, sku, quantity]
aggregates:
  Order:
    table: public.orders
    key: [id]
    topic: shop.orders
    children:
      - {table: public.order_items, as: lines, key: [order_id, line_no], parent: {order_id: id}}
    events:
      - {type: OrderPlaced, on: insert, absorb: [public.order_items]}
      - {type: OrderRemoved, on: delete, absorb: [public.order_items]}
      - {type: OrderChanged, on: update, when: new.status != "odd", absorb: [public.order_items]}
      - {type: LineAdded, on: {table: public.order_items, op: insert}}
      - {type: LineChanged, on: {table: public.order_items, op: update}}
      - {type: LineRemoved, on: {table: public.order_items, op: delete}}
`

// road is the whole way as cdc run goes it: slot, snapshot, stream, rules,
// store, relay, Kafka.
type road struct {
	t       *testing.T
	db      *pgtest.DB
	bus     *bus.Cluster
	store   *outbox.Store
	owner   *outbox.Owner
	engine  *translate.Engine
	catalog *wal.Catalog
}

func newRoad(t *testing.T) *road {
	ctx := t.Context()
	r := &road{t: t, db: pgtest.New(t, pgtest.Options{SQL: roadSQL})}
	var err error
	if r.bus, err = bus.Dial(ctx, bus.Config{Brokers: kafkatest.New(t).Addrs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.bus.Close)
	if _, err := r.bus.EnsureTopics(ctx, []bus.TopicSpec{bus.BusinessTopic("shop.orders", 6), bus.WatermarkTopic("shop.watermarks")}); err != nil {
		t.Fatal(err)
	}
	conn, err := wal.Connect(ctx, r.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if r.catalog, err = wal.Inspect(ctx, conn); err != nil {
		t.Fatal(err)
	}
	if r.store, err = outbox.Open(ctx, pgtest.New(t).URL, outbox.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.store.Close)
	if r.owner, err = r.store.Acquire(ctx, outbox.Source{Name: "shop", SystemID: "1", Timeline: 1, Slot: "road"}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.owner.Close(context.Background()) })
	r.engine = &translate.Engine{Rules: r.compile(roadRules, 1), Source: "shop", Generation: r.owner.Generation(), SpillDir: t.TempDir()}
	from := r.snapshot()
	// What is done behind the back of the publication must stay unseen until verify sees it.
	stream, err := wal.Open(ctx, wal.StreamConfig{URL: r.db.URL, Slot: "road", Publication: "p", WatchInterval: time.Hour, Capture: r.engine.Rules.Capture(),
		From: from, SpillDir: t.TempDir(), IdleInterval: 20 * time.Millisecond, StatusInterval: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r.background("capture", func(ctx context.Context) error { return errors.Join(r.capture(ctx, stream), stream.Close()) })
	relay := &outbox.Relay{Backlog: r.owner, Publisher: r.bus, Source: "shop", Watermarks: "shop.watermarks"}
	r.background("relay", relay.Run)
	return r
}

// background runs f until the test ends, and waits for it.
func (r *road) background(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("%s: %v", name, err)
		}
	})
}

func (r *road) compile(yaml string, version int) *translate.Rules {
	r.t.Helper()
	cfg, err := translate.Load("banyan.yaml", []byte(yaml))
	if err != nil {
		r.t.Fatal(err)
	}
	var tables []*wal.Table
	for _, t := range cfg.Tables {
		table, err := r.catalog.Table(t.Name, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		tables = append(tables, table)
	}
	rules, _, err := translate.Compile(cfg, tables, version)
	if err != nil {
		r.t.Fatal(err)
	}
	return rules
}

// snapshot makes the slot and records every aggregate.
func (r *road) snapshot() wal.LSN {
	ctx := r.t.Context()
	slot, err := wal.CreateSlot(ctx, wal.SlotConfig{URL: r.db.URL, Slot: "road"})
	if err != nil {
		r.t.Fatal(err)
	}
	snap, err := wal.ImportSnapshot(ctx, r.db.URL, slot)
	if err != nil {
		r.t.Fatal(err)
	}
	defer snap.Close()
	if err := slot.Close(); err != nil {
		r.t.Fatal(err)
	}
	to := outbox.To{Commit: uint64(slot.ConsistentPoint), End: uint64(slot.ConsistentPoint), Time: time.Now()}
	err = r.owner.Commit(ctx, to, func(tx *outbox.Tx) error {
		n, err := tx.StartSnapshot(ctx, outbox.SnapshotFirst, to.End)
		if err != nil {
			return err
		}
		at := translate.SnapshotPoint{Number: n, LSN: slot.ConsistentPoint, Time: to.Time}
		r.engine.Snapshot = n
		for _, u := range r.engine.Rules.Units() {
			rec, err := r.engine.Recorder(tx, u.Aggregate, at, tx.Put)
			if err == nil {
				err = snap.Read(ctx, u, wal.Range{}, func(tree *wal.Tree) error { return rec.Add(ctx, tree) })
			}
			if err == nil {
				err = rec.Close(ctx)
			}
			if err != nil {
				return err
			}
		}
		return tx.FinishSnapshot(ctx, n)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return slot.ConsistentPoint
}

func (r *road) capture(ctx context.Context, stream *wal.Stream) error {
	for {
		batch, err := stream.Next(ctx)
		if err != nil {
			return err
		}
		to := r.owner.Position()
		to.End, to.Time = uint64(batch.End), batch.EndTime
		if n := len(batch.Txs); n > 0 {
			to.Commit = uint64(batch.Txs[n-1].CommitLSN)
		}
		err = r.owner.Commit(ctx, to, func(tx *outbox.Tx) error { return r.engine.Translate(ctx, tx, batch.Txs, tx.Put) })
		if err != nil {
			return err
		}
		stream.Ack(batch.End)
	}
}

func (r *road) verify() *Report {
	r.t.Helper()
	topics := Kafka(r.bus)
	rep, err := Verify(r.t.Context(), Config{Source: "shop", Generation: r.owner.Generation(), Topics: topics, Database: Postgres{URL: r.db.URL},
		Current: 1, Rules: func(_ context.Context, v int) (Rules, error) { return r.compile(roadRules, v), nil },
		Names: []string{"shop.orders"}, TopicOf: map[string]string{"Order": "shop.orders"}, Watermark: Watermarks(topics, "shop"),
		Parked: func(ctx context.Context) (all []event.ParkedAt, err error) {
			chains, err := r.store.ParkedChains(ctx, "", event.Ref{}, 100)
			for _, c := range chains {
				all = append(all, event.ParkedAt{Ref: c.Ref, LSN: c.First.LSN})
			}
			return all, err
		},
		Counts: r.store.Counts, Wait: time.Minute, SpillDir: r.t.TempDir(), RowsPerRange: 50, Values: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// trade places, changes and removes orders and their lines until ctx ends.
func trade(ctx context.Context, url string, number int, rnd *rand.Rand) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		id := 1 + 2*rnd.IntN(149) + number // each trader has orders of its own
		some := []string{
			`WITH o AS (INSERT INTO orders (status, total, note) VALUES ('placed', 12.345, 'with "lines"') RETURNING id)
				INSERT INTO order_items SELECT id, n, 'sku' || n, n FROM o, generate_series(1, 2) n`,
			`UPDATE orders SET status = 'paid', total = total + 0.005 WHERE id = $1`,
			`UPDATE orders SET note = repeat(md5(random()::text), 300) WHERE id = $1`,
			`INSERT INTO order_items SELECT id, 10, 'extra', 1 FROM orders WHERE id = $1 ON CONFLICT (order_id, line_no) DO UPDATE SET quantity = order_items.quantity + 1`,
			`DELETE FROM order_items WHERE order_id = $1 AND line_no = 10`,
			`DELETE FROM orders WHERE id = $1 AND id % 5 = 0`,
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + rnd.IntN(3) {
			sql := some[rnd.IntN(len(some))]
			var args []any
			if strings.Contains(sql, "$1") {
				args = []any{id}
			}
			if _, err := tx.Exec(ctx, sql, args...); err != nil {
				return err
			}
		}
		if rnd.IntN(6) == 0 {
			err = tx.Rollback(ctx)
		} else {
			err = tx.Commit(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func TestProofOfTheWholeRoad(t *testing.T) {
	r := newRoad(t)
	rep := r.verify()
	if rep.Verdict != Proved || rep.Aggregates[0].Keys != 300 || rep.Aggregates[0].Rows != 1200 {
		t.Fatalf("after the snapshot: %s", text(rep))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for i := range 2 {
		go func() { done <- trade(ctx, r.db.URL, i, rand.New(rand.NewPCG(seed, uint64(i)))) }()
	}
	stop := sync.OnceFunc(func() {
		if len(done) > 0 {
			t.Errorf("a trader gave up: %v", <-done)
			done <- nil
		}
		cancel()
		for range 2 {
			<-done
		}
	})
	defer stop()
	for i := range 3 {
		if rep = r.verify(); rep.Verdict != Proved {
			t.Fatalf("run %d: %s", i, text(rep))
		}
	}
	if !slices.ContainsFunc(rep.Account, func(a TableAccount) bool { return a.Table == "public.order_items" && a.Changes > 0 && a.Balanced }) {
		t.Errorf("account %+v", rep.Account)
	}

	// A change that no rule knows.
	r.db.Exec(t, `UPDATE orders SET status = 'odd' WHERE id = 299`)
	r.db.Exec(t, `UPDATE orders SET status = 'odd' WHERE id = 300`)
	rep = r.verify()
	if a := rep.Aggregates[0]; rep.Verdict != Parked || a.Parked < 1 || a.Proved+a.Parked != a.Keys {
		t.Fatalf("with something odd: %s", text(rep))
	}

	stop()

	// A child changes behind the back of the publication.
	r.db.Exec(t, `BEGIN; INSERT INTO orders (id, status) VALUES (1000000, 'placed'); INSERT INTO order_items VALUES (1000000, 1, 'a', 1); COMMIT`)
	r.db.Exec(t, `ALTER PUBLICATION p DROP TABLE order_items`)
	r.db.Exec(t, `UPDATE order_items SET quantity = 2 WHERE order_id = 1000000`)
	r.db.Exec(t, `ALTER PUBLICATION p ADD TABLE order_items`)
	rep = r.verify()
	i := slices.IndexFunc(rep.Aggregates[0].Examples, func(e Example) bool { return e.Key == "1000000" })
	if a := rep.Aggregates[0]; rep.Verdict != Differs || a.Different != 1 || a.Missing+a.Extra != 0 || i < 0 || fmt.Sprint(a.Examples[i].Fields) != "[lines]" {
		t.Fatalf("with a line that was not told: %s", text(rep))
	}
}
