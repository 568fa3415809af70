package translate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"banyan/event"
	"banyan/wal"
)

// shopOrders are transactions as the shop places orders: one order, three lines,
// two checks, three products whose stock falls.
func shopOrders(b *testing.B, n int) (*database, []*wal.Tx, []*wal.Tx) {
	b.Helper()
	db := newDatabase(shopTables(b))
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	p := &player{db: db, lsn: 0x100, xid: 700}
	const products = 300
	for i := range products {
		must(db.insert("public.products", map[string]string{"id": fmt.Sprint(i), "stock_code": fmt.Sprintf("P%05d", i), "description": "WHITE HANGING HEART T-LIGHT HOLDER",
			"stock": "100000", "price": "2.550", "listed_at": "2010-11-01 08:00:00", "updated_at": "2010-11-01 08:00:00"}))
	}
	births := []*wal.Tx{p.tx()}
	var txs []*wal.Tx
	for i := range n {
		id := fmt.Sprint(i)
		must(db.insert("public.orders", map[string]string{"id": id, "customer_id": "1", "status": "placed", "channel": "web", "country": "United Kingdom",
			"total": "46.590", "placed_at": "2010-12-01 08:26:00", "updated_at": "2010-12-01 08:26:00", "attributes": "{}"}))
		for l := range 3 {
			product := fmt.Sprint((i*3 + l) % products)
			must(db.insert("public.order_items", map[string]string{"order_id": id, "line_no": fmt.Sprint(l + 1), "product_id": product, "quantity": "2",
				"unit_price": "2.550", "description": "WHITE HANGING HEART T-LIGHT HOLDER", "added_at": "2010-12-01 08:26:00"}))
			must(db.update("public.products", product, map[string]string{"stock": fmt.Sprint(100000 - i), "updated_at": "2010-12-01 08:26:00"}, nil, nil))
		}
		for _, check := range []string{"fraud", "inventory"} {
			must(db.insert("public.order_validations", map[string]string{"order_id": id, "check_type": check, "result": "pending"}))
		}
		txs = append(txs, p.tx())
	}
	return db, births, txs
}

// BenchmarkOrders measures the way through memory, in batches of 200
// transactions of nine row changes that give four events each.
func BenchmarkOrders(b *testing.B) {
	_, births, txs := shopOrders(b, 200)
	rules := shopRules(b)
	b.ReportAllocs()
	rows := 0
	start := time.Now()
	for b.Loop() {
		b.StopTimer()
		m := newMemory()
		e := &Engine{Rules: rules, Source: "shop", Generation: 1}
		if err := e.Translate(context.Background(), m, births, m.put); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := e.Translate(context.Background(), m, txs, func(context.Context, *event.Step) error { return nil }); err != nil {
			b.Fatal(err)
		}
		rows += len(txs) * 9
	}
	_ = start
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}

// BenchmarkSingleRows measures transactions of one insert without children.
func BenchmarkSingleRows(b *testing.B) {
	db := newDatabase(shopTables(b))
	p := &player{db: db, lsn: 0x100, xid: 700}
	var txs []*wal.Tx
	for i := range 2000 {
		if err := db.insert("public.fees", map[string]string{"id": fmt.Sprint(i), "order_id": "1", "code": "POST", "quantity": "1", "price": "18.000", "amount": "18.000", "charged_at": "2010-12-01 08:26:00"}); err != nil {
			b.Fatal(err)
		}
		txs = append(txs, p.tx())
	}
	e := &Engine{Rules: shopRules(b), Source: "shop", Generation: 1}
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		if err := e.Translate(context.Background(), NoPast{}, txs, func(context.Context, *event.Step) error { return nil }); err != nil {
			b.Fatal(err)
		}
		rows += len(txs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}

// BenchmarkOnDisk measures one transaction of 20,000 inserts over the disk.
func BenchmarkOnDisk(b *testing.B) {
	db := newDatabase(shopTables(b))
	for i := range 20000 {
		if err := db.insert("public.fees", map[string]string{"id": fmt.Sprint(i), "order_id": "1", "code": "POST", "quantity": "1", "price": "18.000", "amount": "18.000", "charged_at": "2010-12-01 08:26:00"}); err != nil {
			b.Fatal(err)
		}
	}
	tx := (&player{db: db, lsn: 0x100, xid: 700}).tx()
	e := &Engine{Rules: shopRules(b), Source: "shop", Generation: 1, SpillDir: b.TempDir()}
	e.onDisk = true
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		if err := e.Translate(context.Background(), NoPast{}, []*wal.Tx{tx}, func(context.Context, *event.Step) error { return nil }); err != nil {
			b.Fatal(err)
		}
		rows += 20000
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}
