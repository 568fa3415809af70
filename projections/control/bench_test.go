package control

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/internal/pgtest"
)

// benchmarkBatch is an empty batch over n partitions: BEGIN and the fence in one
// round trip, COMMIT in another.
func benchmarkBatch(b *testing.B, n int) {
	db := pgtest.New(b)
	ctx := context.Background()
	c, err := pgxpool.ParseConfig(db.URL)
	must(b, err)
	Configure(c, Settings{})
	pool, err := pgxpool.NewWithConfig(ctx, c)
	must(b, err)
	b.Cleanup(pool.Close)
	s, err := Open(ctx, pool)
	must(b, err)
	must(b, s.Migrate(ctx))
	must(b, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, _, err := s.Declare(ctx, tx, Declaration{Projection: "shipping"})
		return err
	}))
	var starts []Start
	var ids []PartID
	for i := range n {
		ids = append(ids, PartID{"shop.orders", i})
		starts = append(starts, Start{PartID{"shop.orders", i}, 0})
	}
	must(b, s.EnsureParts(ctx, pool, "shipping", 1, starts))
	parts, err := s.TakeOver(ctx, "shipping", 1, ids, "bench")
	must(b, err)
	conn, err := pool.Acquire(ctx)
	must(b, err)
	defer conn.Release()
	steps := make([]Step, n)
	for b.Loop() {
		for i := range parts {
			steps[i] = step(&parts[i], 100, uint64(parts[i].Next))
			steps[i].Anchor = "shop/Order/1234@1:0/1A2B3C8.0"
			parts[i].Next, parts[i].Seq = steps[i].To, steps[i].Seq
		}
		tx, err := s.Begin(ctx, conn, "shipping", 1, steps)
		must(b, err)
		must(b, tx.Commit(ctx))
	}
}
