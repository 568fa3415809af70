package outbox_test

import (
	"testing"

	"banyan/outbox"
)

// What a snapshot of the generation before has seen says nothing of the
// transactions of the new one, whose xids may be the same; and the number of a
// snapshot that was cut short is not given again, since states carry it.
func TestNewGenerationForgetsRangesAndKeepsNumbers(t *testing.T) {
	ctx := testContext(t)
	_, s, o := start(t, outbox.Options{})
	var first, second int
	err := o.Commit(ctx, at(1), func(tx *outbox.Tx) (err error) {
		if first, err = tx.StartSnapshot(ctx, outbox.SnapshotRequest, 100); err != nil {
			return err
		}
		if err := tx.RangeDone(ctx, outbox.SnapshotRange{Snapshot: first, Aggregate: "Order", Visible: "700:900:", EndLSN: 1 << 40}); err != nil {
			return err
		}
		if err := tx.FinishSnapshot(ctx, first); err != nil {
			return err
		}
		second, err = tx.StartSnapshot(ctx, outbox.SnapshotRequest, 100) // is cut short
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(ctx); err != nil {
		t.Fatal(err)
	}
	restored := shop
	restored.Timeline, restored.NewGeneration = 2, true
	o2 := acquire(t, s, restored)
	if ranges, err := s.SnapshotRanges(ctx, 0); err != nil || len(ranges) > 0 {
		t.Errorf("generation 2 begins with ranges of generation 1: %+v %v", ranges, err)
	}
	var third int
	err = o2.Commit(ctx, outbox.To{Commit: 1, End: 1, Time: day}, func(tx *outbox.Tx) (err error) {
		third, err = tx.StartSnapshot(ctx, outbox.SnapshotRepair, 1)
		return err
	})
	if err != nil || third <= second {
		t.Errorf("snapshot %d after snapshot %d: %v", third, second, err)
	}
}
