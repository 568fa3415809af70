package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/bus"
	"banyan/event"
	"banyan/internal/kafkatest"
	"banyan/internal/pgtest"
	"banyan/wal"
)

// pipeline is the whole road in small: one table, one topic, a translation by
// hand and no store. What the proof says of it hangs on the real Postgres and
// on the real protocol of Kafka, and on nothing of ours but wal and bus.
type pipeline struct {
	t      *testing.T
	db     *pgtest.DB
	bus    *bus.Cluster
	unit   wal.Unit
	seqs   []int64
	lose   atomic.Int64 // records to lose
	cancel context.CancelFunc
	done   chan error
}

const accountsSQL = `CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL, balance numeric(12,2) NOT NULL);
	INSERT INTO accounts SELECT g, 'owner ' || g, g FROM generate_series(1, 500) g;
	CREATE PUBLICATION p FOR TABLE accounts WITH (publish_via_partition_root = true)`

func newPipeline(t *testing.T) *pipeline {
	ctx := t.Context()
	db := pgtest.New(t, pgtest.Options{SQL: accountsSQL})
	cluster, err := bus.Dial(ctx, bus.Config{Brokers: kafkatest.New(t).Addrs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	specs := []bus.TopicSpec{bus.BusinessTopic("bank.accounts", 3), bus.WatermarkTopic("bank.watermarks")}
	if _, err := cluster.EnsureTopics(ctx, specs); err != nil {
		t.Fatal(err)
	}
	p := &pipeline{t: t, db: db, bus: cluster, seqs: make([]int64, 3)}
	conn, err := wal.Connect(ctx, db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	cat, err := wal.Inspect(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	table, err := cat.Table("public.accounts", []string{"id", "owner", "balance"})
	if err != nil {
		t.Fatal(err)
	}
	p.unit = wal.Unit{Aggregate: "Account", Root: wal.UnitTable{Table: table, Key: []int{0}}}
	p.start()
	return p
}

// start takes the first snapshot and begins to stream.
func (p *pipeline) start() {
	slot, err := wal.CreateSlot(p.t.Context(), wal.SlotConfig{URL: p.db.URL, Slot: "pipeline"})
	if err != nil {
		p.t.Fatal(err)
	}
	snap, err := wal.ImportSnapshot(p.t.Context(), p.db.URL, slot)
	if err != nil {
		p.t.Fatal(err)
	}
	slot.Close()
	var events []event.Event
	err = snap.Read(p.t.Context(), p.unit, wal.Range{}, func(tree *wal.Tree) error {
		pos := event.Position{Generation: 1, LSN: uint64(slot.ConsistentPoint), Snapshot: 1}
		events = append(events, accountEvent("AccountRecorded", tree.Row, pos, false))
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(snap.Close(), p.publish(p.t.Context(), events), p.mark(p.t.Context(), slot.ConsistentPoint, time.Now())); err != nil {
		p.t.Fatal(err)
	}
	s, err := wal.Open(p.t.Context(), wal.StreamConfig{URL: p.db.URL, Slot: "pipeline", Publication: "p", From: slot.ConsistentPoint,
		Capture:  wal.Capture{"public.accounts": {"id", "owner", "balance"}},
		SpillDir: p.t.TempDir(), IdleInterval: 20 * time.Millisecond, StatusInterval: 50 * time.Millisecond})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan error, 1)
	go func() { p.done <- errors.Join(p.run(ctx, s), s.Close()) }()
	p.t.Cleanup(p.stop)
}

// stop ends the stream. It may be called twice.
func (p *pipeline) stop() {
	if p.done == nil {
		return
	}
	p.cancel()
	if err := <-p.done; err != nil && !errors.Is(err, context.Canceled) {
		p.t.Error(err)
	}
	p.done = nil
}

func (p *pipeline) run(ctx context.Context, s *wal.Stream) error {
	for {
		batch, err := s.Next(ctx)
		if err != nil {
			return err
		}
		var events []event.Event
		for _, tx := range batch.Txs {
			for c, err := range tx.All() {
				if err != nil {
					return err
				}
				pos := event.Position{Generation: 1, LSN: uint64(tx.CommitLSN), Ordinal: c.Ordinal}
				if c.New == nil || c.Old != nil && string(c.Old[0].Bytes) != string(c.New[0].Bytes) {
					events = append(events, accountEvent("AccountClosed", c.Old, pos, true))
				}
				if c.New != nil {
					events = append(events, accountEvent("AccountChanged", c.New, pos, false))
				}
			}
		}
		if err := p.publish(ctx, events); err != nil {
			return err
		}
		if err := p.mark(ctx, batch.End, batch.EndTime); err != nil {
			return err
		}
		s.Ack(batch.End)
	}
}

func (p *pipeline) mark(ctx context.Context, lsn wal.LSN, at time.Time) error {
	w := event.Watermark{Source: "bank", Generation: 1, LSN: uint64(lsn), Time: at, Writer: 1, Seqs: map[string][]int64{"bank.accounts": p.seqs}}
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	_, err = p.bus.Produce(ctx, "bank.watermarks", 0, []event.Record{{Value: b}})
	return err
}

func (p *pipeline) publish(ctx context.Context, events []event.Event) error {
	records := make([][]event.Record, len(p.seqs))
	for i := range events {
		e := &events[i]
		e.Partition = int(e.ID.Key[len(e.ID.Key)-1]) % len(p.seqs)
		p.seqs[e.Partition]++
		e.Seq = p.seqs[e.Partition]
		if p.lose.Load() > 0 {
			p.lose.Add(-1)
			continue
		}
		records[e.Partition] = append(records[e.Partition], e.Record())
	}
	for n, rs := range records {
		for some := range slices.Chunk(rs, 1000) {
			if _, err := p.bus.Produce(ctx, "bank.accounts", n, some); err != nil {
				return err
			}
		}
	}
	return nil
}

func accountEvent(typ string, row wal.Row, pos event.Position, gone bool) event.Event {
	data := `{"state":` + accountState(row) + `,"changed":[]}`
	if gone {
		data = `{"state":null,"last":null}`
	}
	return event.Event{ID: event.ID{Source: "bank", Aggregate: "Account", Key: event.JoinKey(string(row[0].Bytes)), Position: pos},
		Type: typ, Version: 1, Topic: "bank.accounts", Time: time.Unix(0, 0), Position: pos, Rules: 1, Writer: 1, Data: []byte(data)}
}

func accountState(row wal.Row) string {
	owner, _ := json.Marshal(string(row[1].Bytes))
	return fmt.Sprintf(`{"id":%s,"owner":%s,"balance":"%s"}`, row[0].Bytes, owner, row[2].Bytes)
}

// Units and Expected make the pipeline Rules.
func (p *pipeline) Units() []wal.Unit { return []wal.Unit{p.unit} }

func (p *pipeline) Expected(_ string, tree *wal.Tree) (string, []byte, error) {
	return event.JoinKey(string(tree.Row[0].Bytes)), []byte(accountState(tree.Row)), nil
}

func (p *pipeline) config() Config {
	topics := Kafka(p.bus)
	return Config{Source: "bank", Generation: 1, Topics: topics, Database: Postgres{URL: p.db.URL}, Current: 1,
		Rules:     func(context.Context, int) (Rules, error) { return p, nil },
		Names:     []string{"bank.accounts"},
		TopicOf:   map[string]string{"Account": "bank.accounts"},
		Watermark: Watermarks(topics, "bank"),
		Wait:      time.Minute, RowsPerRange: 97, SpillDir: p.t.TempDir(),
	}
}

func (p *pipeline) verify(change ...func(*Config)) *Report {
	p.t.Helper()
	cfg := p.config()
	for _, c := range change {
		c(&cfg)
	}
	r, err := Verify(p.t.Context(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// customers write to the accounts until they are told to stop: inserts,
// updates, deletes, moved keys, and rollbacks.
func customers(t *testing.T, url string, n int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range n {
		seed := rand.Uint64()
		t.Logf("customer %d: seed %d", i, seed)
		all.Go(func() {
			if err := customer(ctx, url, i, rand.New(rand.NewPCG(seed, 1))); err != nil && ctx.Err() == nil {
				t.Errorf("customer %d: %v", i, err)
			}
		})
	}
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); all.Wait() }) }
	t.Cleanup(stop)
	return stop
}

func customer(ctx context.Context, url string, number int, rnd *rand.Rand) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + rnd.IntN(4) {
			// Each customer has keys of its own, so that none waits.
			id := number*1_000_000 + rnd.IntN(400) + 1
			sql := []string{
				`INSERT INTO accounts VALUES ($1::int, 'né "' || $1::int || '"', 1.10) ON CONFLICT (id) DO UPDATE SET balance = accounts.balance + 1.05`,
				`UPDATE accounts SET balance = balance - 0.35, owner = owner || 'x' WHERE id = $1::int`,
				`DELETE FROM accounts WHERE id = $1::int`,
				`UPDATE accounts SET id = id + 1000 WHERE id = $1::int AND NOT EXISTS (SELECT FROM accounts WHERE id = $1::int + 1000)`,
			}[rnd.IntN(4)]
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return err
			}
		}
		if rnd.IntN(5) == 0 {
			err = tx.Rollback(ctx)
		} else {
			err = tx.Commit(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func TestProofOfALiveSource(t *testing.T) {
	p := newPipeline(t)
	stop := customers(t, p.db.URL, 2)
	for i := range 3 {
		r := p.verify(func(c *Config) {
			if i == 2 {
				c.MaxAge = time.Nanosecond // every range under its own snapshot
			}
		})
		if r.Verdict != Proved {
			t.Fatalf("run %d: %s: %s", i, r.Verdict, text(r))
		}
		if a := r.Aggregates[0]; a.Keys < 100 || a.Proved != a.Keys || i == 2 && len(r.Points) < 5 {
			t.Errorf("run %d: %+v, %d points", i, a, len(r.Points))
		}
	}
	stop()

	// Somebody sends every record a second time, as a relay does after a crash.
	_, end, err := p.bus.Ends(t.Context(), "bank.accounts", 0)
	if err != nil {
		t.Fatal(err)
	}
	var again []event.Record
	for rec, err := range p.bus.Read(t.Context(), "bank.accounts", 0, 0, end) {
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, rec)
	}
	for some := range slices.Chunk(again, 1000) { // one request takes 1 MB, and the customers had time for more
		if _, err := p.bus.Produce(t.Context(), "bank.accounts", 0, some); err != nil {
			t.Fatal(err)
		}
	}
	r := p.verify()
	if r.Verdict != Proved || r.Topics[0].Repeats != int64(len(again)) {
		t.Fatalf("%s, %d repeats, want %d: %s", r.Verdict, r.Topics[0].Repeats, len(again), text(r))
	}
	keys := r.Aggregates[0].Keys

	// Rows change behind the back of the publication.
	p.db.Exec(t, `DELETE FROM accounts WHERE id IN (401, 402, 403); INSERT INTO accounts VALUES (401, 'a', 1), (402, 'b', 2)`)
	p.db.Exec(t, `ALTER PUBLICATION p DROP TABLE accounts`)
	p.db.Exec(t, `DELETE FROM accounts WHERE id = 401; UPDATE accounts SET balance = 3 WHERE id = 402; INSERT INTO accounts VALUES (403, 'c', 3)`)
	p.db.Exec(t, `ALTER PUBLICATION p ADD TABLE accounts`)
	r = p.verify(func(c *Config) { c.Values = true })
	a := r.Aggregates[0]
	if r.Verdict != Differs || a.Extra != 1 || a.Different != 1 || a.Missing != 1 || a.Proved != a.Keys-3 || a.Keys > keys+3 {
		t.Fatalf("%s: %s", r.Verdict, text(r))
	}
	for i, want := range []string{
		`{"kind":"different","key":"402","rules":1,"fields":["balance"],"rowsState":{"balance":"3.00","id":402,"owner":"b"},"eventState":{"balance":"2.00","id":402,"owner":"b"}}`,
		`{"kind":"extra","key":"401","rules":1,"eventState":{"balance":"1.00","id":401,"owner":"a"}}`,
		`{"kind":"missing","key":"403","rules":1,"why":"its last event removes it"}`,
	} {
		a.Examples[i].Event = ""
		if b, err := json.Marshal(a.Examples[i]); err != nil || string(b) != want {
			t.Errorf("example %d is %s, %v; want %s", i, b, err, want)
		}
	}

	// A record is lost on its way.
	p.lose.Store(1)
	p.db.Exec(t, `UPDATE accounts SET balance = 7 WHERE id = 402`)
	p.db.Exec(t, `UPDATE accounts SET balance = 8 WHERE id = 402`)
	r = p.verify()
	if r.Verdict != Differs || r.Topics[0].Gaps != 1 || r.Aggregates[0].Different != 0 {
		t.Fatalf("%s: %s", r.Verdict, text(r))
	}

	p.stop()
	r = p.verify(func(c *Config) { c.Wait = 300 * time.Millisecond })
	if r.Verdict != Differs || !strings.Contains(text(r), "cdc run is not working") {
		t.Fatalf("%s: %s", r.Verdict, text(r))
	}
}

func text(r *Report) string {
	var b strings.Builder
	if err := Render(&b, r, nil); err != nil {
		return err.Error()
	}
	return b.String()
}
