package projections_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/outbox"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/service"
)

// memory is a log whose records are there already, in slices as a fetch brings
// them: what is measured is the runner and the database.
type memory struct {
	parts [][]event.Record
	mark  []event.Record
}

func (m *memory) of(topic string, part int) []event.Record {
	if topic == orders {
		return m.parts[part]
	}
	return m.mark
}

func (m *memory) Partitions(_ context.Context, topic string) (int, error) {
	if topic == orders {
		return len(m.parts), nil
	}
	return 1, nil
}

func (m *memory) Ends(_ context.Context, topic string, part int) (int64, int64, error) {
	return 0, int64(len(m.of(topic, part))), nil
}

func (m *memory) Read(_ context.Context, topic string, part int, from, until int64) iter.Seq2[event.Record, error] {
	return func(yield func(event.Record, error) bool) {
		for _, r := range m.of(topic, part)[from:until] {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m *memory) Tail(ctx context.Context, topic string, part int, from int64, _ func(error)) iter.Seq2[[]event.Record, error] {
	return func(yield func([]event.Record, error) bool) {
		all := m.of(topic, part)[from:]
		for len(all) > 0 {
			n := min(len(all), 8000)
			if !yield(all[:n:n], nil) {
				return
			}
			all = all[n:]
		}
		if yield(nil, nil) {
			<-ctx.Done()
			yield(nil, context.Cause(ctx))
		}
	}
}

func fillMemory(b *testing.B, events, keys int) *memory {
	m := &memory{parts: make([][]event.Record, 6)}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	seqs := make([]int64, 6)
	for i := range events {
		key := fmt.Sprint(i * 7919 % keys)
		part := outbox.PartitionOf(key, 6)
		seqs[part]++
		pos := event.Position{Generation: 1, LSN: uint64(0x1000000 + 64*i)}
		e := event.Event{ID: event.ID{Source: "shop", Aggregate: "Order", Key: key, Position: pos}, Type: "OrderPlaced", Version: 1, Topic: orders,
			Time: at.Add(time.Duration(i) * time.Millisecond), Position: pos, Rules: 1, Partition: part, Seq: seqs[part], Writer: 1,
			Data: fmt.Appendf(nil, `{"occurredAt":"2026-01-01T00:00:00Z","state":{"id":%d,"customer":%d,"amount":%d,"currency":"GBP","status":"placed"},"changed":["status"]}`, i, i%1000, i%500)}
		r := e.Record()
		r.Partition, r.Offset = part, seqs[part]-1
		m.parts[part] = append(m.parts[part], r)
	}
	w := event.Watermark{Source: "shop", Generation: 1, LSN: uint64(0x1000000 + 64*events), Time: at, Writer: 1, Seqs: map[string][]int64{orders: seqs}}
	value, err := w.MarshalJSON()
	if err != nil {
		b.Fatal(err)
	}
	m.mark = []event.Record{{Key: []byte("shop"), Value: value}}
	return m
}

// BenchmarkLive folds history that lies in memory into a real database as a live
// runner does: batches of 5,000 behind the fence, without waiting for the disk.
func BenchmarkLive(b *testing.B) {
	for _, keys := range []int{1000, 100_000} {
		for _, aligned := range []bool{false, true} {
			b.Run(fmt.Sprintf("keys=%d/aligned=%v", keys, aligned), func(b *testing.B) {
				const events = 400_000
				m := fillMemory(b, events, keys)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					run := benchRunner(b, m, aligned)
					b.StartTimer()
					began := time.Now()
					if err := run.Run(b.Context(), map[string][]int{orders: {0, 1, 2, 3, 4, 5}}); err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(events/time.Since(began).Seconds(), "events/s")
				}
			})
		}
	}
}

func benchRunner(b *testing.B, m *memory, aligned bool) *projections.Runner {
	db := pgtest.New(b)
	cfg, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		b.Fatal(err)
	}
	control.Configure(cfg, control.Settings{})
	cfg.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	store, err := control.Open(b.Context(), pool)
	if err == nil {
		err = store.Migrate(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	p := counting(b, func(f *projections.Fold[tally]) { f.Aligned = aligned })
	v, _, err := service.Install(b.Context(), store, m, p, control.Mark{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := projections.NewRunner(projections.Options{Program: p, Version: v, Store: store, Pool: pool, Log: m, Owner: "bench", Until: projections.Until{CaughtUp: true}})
	if err != nil {
		b.Fatal(err)
	}
	return r
}
