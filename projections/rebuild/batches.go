package rebuild

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"banyan/projections"
	"banyan/projections/state"
)

// replayBatches is the rebuild of a program with SQL of its own: it gets the
// history in large batches. Each is committed, into a version that nobody reads,
// so that no transaction grows without bound.
func (b *builder) replayBatches(ctx context.Context) error {
	batcher := b.cfg.Program.(projections.Batcher)
	tables := b.spec.AllTables()
	err := b.inTransaction(ctx, func(tx pgx.Tx) error {
		if err := b.exec(ctx, tx, state.CreateSQL(b.version.Schema, tables)); err != nil {
			return err
		}
		return b.exec(ctx, tx, state.KeySQL(b.version.Schema, tables))
	})
	if err != nil {
		return err
	}
	b.enter(Folding)
	h := b.history()
	replay := &projections.Replay{Log: h.log, Preparer: h.prep, Parts: h.reaches, Marks: h.marks, Cut: h.cut,
		Read: func(n int) { b.told.records(int64(n)) }}
	for events, err := range replay.Events(ctx) {
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Fault != nil {
				return &projections.PoisonError{Event: e, Err: e.Fault}
			}
		}
		if err := b.applyBatch(ctx, batcher, events); err != nil {
			return err
		}
		b.result.Events += int64(len(events))
	}
	if b.result.Parts, err = replay.Stands(); err != nil {
		return err
	}
	b.count()
	return b.inTransaction(ctx, func(tx pgx.Tx) error {
		b.enter(Indexing)
		if err := b.exec(ctx, tx, state.IndexSQL(b.version.Schema, tables)); err != nil {
			return err
		}
		return b.finish(ctx, tx, nil, nil)
	})
}

func (b *builder) applyBatch(ctx context.Context, p projections.Batcher, events []*projections.Event) error {
	return pgx.BeginFunc(ctx, b.cfg.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = off`); err != nil {
			return err
		}
		if err := projections.ApplyBatch(ctx, tx, b.version.Schema, p, events); err != nil {
			return fmt.Errorf("from %s at offset %d: %w", placeOf(events[0]).PartID, events[0].Offset, err)
		}
		return nil
	})
}
