package proof

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"testing"
	"time"

	"banyan/event"
	"banyan/wal"
)

// year is a shop's year, made while it is read: so that what is measured is
// the proof alone.
type year struct{ events, keys, partitions int }

func (y year) state(key int) string {
	return fmt.Sprintf(`{"id":%d,"invoice_no":"5%05d","status":"shipped","customer_id":%d,"placed_at":"2026-01-01T00:00:00Z","note":null,"lines":[`+
		`{"line_no":1,"product_id":"85123A","quantity":6,"unit_price":{"amount":2550,"scale":3,"currency":"GBP"}},`+
		`{"line_no":2,"product_id":"71053","quantity":6,"unit_price":{"amount":3390,"scale":3,"currency":"GBP"}}]}`, key, key, key%4000)
}

func (y year) Partitions(_ context.Context, topic string) (int, error) { return y.partitions, nil }

func (y year) Ends(context.Context, string, int) (int64, int64, error) {
	return 0, int64(y.events / y.partitions), nil
}

func (y year) Read(_ context.Context, topic string, p int, from, until int64) iter.Seq2[event.Record, error] {
	return func(yield func(event.Record, error) bool) {
		keys := y.keys / y.partitions
		for o := from; o < until; o++ {
			key := int(o)%keys*y.partitions + p
			pos := event.Position{Generation: 1, LSN: uint64(o + 1)}
			e := event.Event{ID: event.ID{Source: "shop", Aggregate: "Order", Key: fmt.Sprint(key), Position: pos}, Position: pos, Type: "OrderPlaced",
				Version: 1, Rules: 1, Writer: 1, Seq: o + 1, Time: time.Unix(0, 0), Partition: p,
				Data: []byte(`{"occurredAt":"2026-01-01T00:00:00Z","total":{"amount":25500,"scale":3,"currency":"GBP"},"state":` + y.state(key) + `,"changed":["status"]}`)}
			r := e.Record()
			r.Offset = o
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (y year) LSN() uint64  { return 1 << 40 }
func (y year) Close() error { return nil }

func (y year) Ranges(context.Context, wal.Unit, int64) ([]wal.Range, error) {
	return []wal.Range{{Rows: int64(y.keys)}}, nil
}

// yearTables is the same year as the tables have it.
type yearTables struct{ year }

func (y yearTables) Snapshot(context.Context) (Snapshot, error) { return y, nil }

func (y yearTables) Read(_ context.Context, _ wal.Unit, _ wal.Range, fn func(*wal.Tree) error) error {
	for key := range y.keys {
		row := wal.Row{{Kind: wal.Text, Bytes: fmt.Append(nil, key)}, {Kind: wal.Text, Bytes: []byte(y.state(key))}}
		if err := fn(&wal.Tree{Row: row}); err != nil {
			return err
		}
	}
	return nil
}

func (y year) Units() []wal.Unit {
	return []wal.Unit{{Aggregate: "Order", Root: wal.UnitTable{Table: &wal.Table{Schema: "public", Name: "orders"}, Key: []int{0}}}}
}

func (y year) Expected(_ string, t *wal.Tree) (string, []byte, error) {
	return string(t.Row[0].Bytes), t.Row[1].Bytes, nil
}

// BenchmarkYear proves 1.8 million events of 600,000 keys, about 1 kB each.
func BenchmarkYear(b *testing.B) {
	y := year{events: 1_800_000, keys: 600_000, partitions: 6}
	for b.Loop() {
		r, err := Verify(context.Background(), Config{Source: "shop", Generation: 1, Topics: y, Database: yearTables{y}, Current: 1,
			Rules: func(context.Context, int) (Rules, error) { return y, nil }, Names: []string{"shop.orders"}, SpillDir: b.TempDir(),
			Watermark: func(context.Context) (*Mark, error) {
				return &Mark{Watermark: event.Watermark{Source: "shop", Generation: 1, LSN: 1 << 41}}, nil
			}})
		if err != nil || r.Verdict != Proved || r.Aggregates[0].Proved != int64(y.keys) {
			b.Fatal(err, r)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(y.events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(m.Sys)/(1<<20), "MB-of-memory")
}
