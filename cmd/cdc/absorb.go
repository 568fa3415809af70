package main

import (
	"context"
	"slices"

	"banyan/event"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// loadAbsorbs tells the engine what later snapshots have seen already of
// transactions that the stream still brings.
func (c *capture) loadAbsorbs(ctx context.Context) error {
	ranges, err := c.owner.Store().SnapshotRanges(ctx, 0)
	if err != nil {
		return err
	}
	c.absorbs = c.absorbs[:0]
	c.engine.Absorbs = nil
	for _, r := range ranges {
		if r.Visible == "" {
			continue
		}
		seen, err := wal.ParseVisibility(r.Visible)
		if err != nil {
			return err
		}
		c.absorbs = append(c.absorbs, r)
		c.engine.Absorbs = append(c.engine.Absorbs, translate.Absorb{
			Aggregate: r.Aggregate,
			Holds:     func(key []string) bool { return r.N == 0 && r.From == "" || event.JoinKey(key...) == r.From },
			Visible:   seen.Visible,
			All:       r.N == 0 && r.From == "",
		})
	}
	return nil
}

// forgetAbsorbs drops what no transaction to come can have in common with a
// snapshot: all of them commit behind the point where it was taken.
func (c *capture) forgetAbsorbs(ctx context.Context) error {
	pos := c.owner.Position()
	var numbers []int
	for _, r := range c.absorbs {
		if pos.End >= r.EndLSN && !slices.Contains(numbers, r.Snapshot) {
			numbers = append(numbers, r.Snapshot)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	err := c.patiently(ctx, pos, func(tx *outbox.Tx) error {
		for _, n := range numbers {
			if err := tx.ForgetRanges(ctx, n, pos.End+1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.loadAbsorbs(ctx)
}
