package wal_test

import (
	"context"
	"testing"
	"time"

	"banyan/internal/pgtest"
	"banyan/wal"
)

// BenchmarkDrain reads a backlog of one-row transactions, acknowledging every
// batch, as fast as the stream gives it.
func BenchmarkDrain(b *testing.B) {
	const rows = 100_000
	r := newRig(b, pgtest.New(b), wal.Capture{"public.a": {"id", "v", "at"}},
		`CREATE TABLE a (id int PRIMARY KEY, v text, at timestamptz DEFAULT now())`)
	r.exec(`DO $$ BEGIN FOR i IN 1..100000 LOOP INSERT INTO a VALUES (i, 'some text of a usual length'); COMMIT; END LOOP; END $$`)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	base := r.cfg.Slot
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		copied := base + "_" + string(rune('a'+i%26))
		r.exec(`SELECT pg_copy_logical_replication_slot($1, $2)`, base, copied)
		r.cfg.Slot = copied
		b.StartTimer()
		s := r.open()
		for n := int64(0); n < rows; {
			batch, err := s.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			for _, tx := range batch.Txs {
				n += tx.Len
			}
			s.Ack(batch.End)
		}
		b.StopTimer()
		s.Close()
		eventually(b, "the copy to be free", func() bool { return r.slot().ActivePID == 0 })
		r.exec(`SELECT pg_drop_replication_slot($1)`, copied)
		b.StartTimer()
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
