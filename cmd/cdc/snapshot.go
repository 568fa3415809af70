package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"banyan/cmd/internal/cli"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// reader reads the tables of the source.
type reader struct {
	url  string
	slot string
	// repair accepts the slot that is there as one to be dropped.
	repair bool
	print  *cli.Printer
	log    *slog.Logger
}

const (
	rootsPerRange = 2000
	// A part of a range is committed when its rows take about this much.
	chunkBytes = 8 << 20
	// Workers that copy tables side by side under one snapshot.
	snapshotWorkers = 4
	// Making a slot waits for every transaction that is open.
	slotPatience = 10 * time.Minute
)

// chunk is some aggregates that one worker has read.
type chunk struct {
	aggregate string
	trees     []*wal.Tree
}

// firstSnapshot makes the slot and records every aggregate as it was at the
// slot's consistent point. It begins anew where an earlier attempt was cut
// short: what that has recorded is compared, so nothing is told twice.
func (c *capture) firstSnapshot(ctx context.Context, rules recordedRules) error {
	number, err := c.announceSnapshot(ctx)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	c.log.Info("making the replication slot; it waits for the transactions that are open now", "slot", c.reader.slot)
	slot, err := wal.CreateSlot(wait, wal.SlotConfig{URL: c.reader.url, Slot: c.reader.slot})
	if err != nil {
		return err
	}
	defer slot.Close()
	at := translate.SnapshotPoint{Number: number, LSN: slot.ConsistentPoint}
	c.engine.Snapshot = number
	return c.takeSnapshot(ctx, slot, at, rules)
}

// announceSnapshot writes down, before there is a slot, that we are going to
// make one: so that a slot found later is known to be ours.
func (c *capture) announceSnapshot(ctx context.Context) (number int, err error) {
	last, err := c.owner.Store().LastSnapshot(ctx)
	if err != nil {
		return 0, err
	}
	if err := c.dropLeftover(ctx, last); err != nil {
		return 0, err
	}
	pos, kind := c.owner.Position(), outbox.SnapshotFirst
	if c.owner.Generation() > 1 {
		kind = outbox.SnapshotRepair
	}
	err = c.patiently(ctx, pos, func(tx *outbox.Tx) (err error) {
		if last.Number > 0 && last.Running() {
			if err := tx.DropSnapshot(ctx, last.Number); err != nil {
				return err
			}
		}
		number, err = tx.StartSnapshot(ctx, kind, pos.End)
		return err
	})
	return number, err
}

// dropLeftover removes the slot of an attempt that was cut short. A slot that
// we cannot know to be ours is refused.
func (c *capture) dropLeftover(ctx context.Context, last outbox.Snapshot) error {
	conn, err := wal.Connect(ctx, c.reader.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = wal.SlotInfo(ctx, conn, c.reader.slot)
	if _, missing := errors.AsType[*wal.SlotMissingError](err); missing {
		return nil
	}
	if err != nil {
		return err
	}
	if !c.reader.repair && (last.Number == 0 || !last.Running()) {
		return cli.AnswerNo("replication slot %q exists already, but this store has never made it: another cdc with another store may read it; "+
			"choose another source.slot, or drop it if nobody does: SELECT pg_drop_replication_slot('%s')", c.reader.slot, c.reader.slot)
	}
	c.log.Info("dropping the slot that is there; a new one is made with a new snapshot", "slot", c.reader.slot)
	return dropSlot(ctx, conn, c.reader.slot)
}

// dropSlot ends whoever reads the slot and drops it.
func dropSlot(ctx context.Context, conn *pgx.Conn, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		if _, err := wal.TerminateSlotUser(ctx, conn, slot); err != nil {
			return err
		}
		err := wal.DropSlot(ctx, conn, slot)
		if _, active := errors.AsType[*wal.SlotActiveError](err); !active {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond): // its session is ending
		}
	}
}

// takeSnapshot copies the tables in parallel and commits what they hold, one
// chunk after the other, all at the slot's consistent point.
func (c *capture) takeSnapshot(ctx context.Context, slot *wal.Created, at translate.SnapshotPoint, rules recordedRules) error {
	pos := outbox.To{Commit: uint64(slot.ConsistentPoint), End: uint64(slot.ConsistentPoint)}
	readers, err := c.importSnapshots(ctx, slot)
	if err != nil {
		return err
	}
	defer func() {
		for _, r := range readers {
			r.Close()
		}
	}()
	if pos.Time, err = readers[0].Time(ctx); err != nil {
		return err
	}
	at.Time = pos.Time
	if err := c.retellMisfits(ctx, rules); err != nil {
		return err
	}
	defer func() { c.retell = nil }()
	if err := c.patiently(ctx, pos, rules.put(ctx, c.engine)); err != nil {
		return err
	}
	jobs, total, err := c.jobs(ctx, readers[0])
	if err != nil {
		return err
	}
	chunks := make(chan chunk, len(readers))
	m := c.reader.print.Meter("snapshot", "aggregates", total)
	g, within := errgroup.WithContext(ctx)
	g.Go(func() error { return copyTables(within, readers, jobs, chunks) })
	g.Go(func() error { return c.recordChunks(within, chunks, pos, at, m) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("snapshot %d: %w", at.Number, err)
	}
	m.End()
	return c.finishSnapshot(ctx, pos, at)
}

// importSnapshots opens sessions that all see the slot's snapshot.
func (c *capture) importSnapshots(ctx context.Context, slot *wal.Created) (readers []*wal.Snapshot, err error) {
	for range snapshotWorkers {
		s, err := wal.ImportSnapshot(ctx, c.reader.url, slot)
		if err != nil {
			if len(readers) > 0 {
				c.log.Warn("fewer sessions than wished copy the tables", "sessions", len(readers), "error", cli.Redact(err.Error()))
				break
			}
			return nil, err
		}
		readers = append(readers, s)
	}
	return readers, slot.Close()
}

// job is one range to be read.
type job struct {
	unit wal.Unit
	r    wal.Range
}

// jobs cuts all units into ranges.
func (c *capture) jobs(ctx context.Context, s *wal.Snapshot) (jobs []job, total int64, err error) {
	for _, u := range c.engine.Rules.Units() {
		ranges, err := s.Ranges(ctx, u, rootsPerRange)
		if err != nil {
			return nil, 0, err
		}
		for _, r := range ranges {
			jobs = append(jobs, job{u, r})
			total += r.Rows
		}
	}
	return jobs, total, nil
}

// copyTables reads the ranges, a worker per session, and closes chunks when all
// are read.
func copyTables(ctx context.Context, readers []*wal.Snapshot, jobs []job, chunks chan<- chunk) error {
	defer close(chunks)
	todo := make(chan job, len(jobs))
	for _, j := range jobs {
		todo <- j
	}
	close(todo)
	workers, ctx := errgroup.WithContext(ctx)
	for _, s := range readers {
		workers.Go(func() error {
			for j := range todo {
				if err := readChunks(ctx, s, j, chunks); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return workers.Wait()
}

// readChunks reads one range and hands it over in parts of bounded size.
func readChunks(ctx context.Context, s *wal.Snapshot, j job, chunks chan<- chunk) error {
	part, size := chunk{aggregate: j.unit.Aggregate}, int64(0)
	hand := func() error {
		if len(part.trees) == 0 {
			return nil
		}
		select {
		case chunks <- part:
			part, size = chunk{aggregate: j.unit.Aggregate}, 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := s.Read(ctx, j.unit, j.r, func(t *wal.Tree) error {
		part.trees = append(part.trees, t)
		if size += t.Size(); size >= chunkBytes {
			return hand()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return hand()
}

// recordChunks commits what the workers have read; the position stays.
func (c *capture) recordChunks(ctx context.Context, chunks <-chan chunk, pos outbox.To, at translate.SnapshotPoint, m *cli.Meter) error {
	for part := range chunks {
		if err := c.patiently(ctx, pos, func(tx *outbox.Tx) error { return c.record(ctx, tx, part, at) }); err != nil {
			return err
		}
		m.Add(int64(len(part.trees)))
	}
	return ctx.Err()
}

func (c *capture) record(ctx context.Context, tx *outbox.Tx, part chunk, at translate.SnapshotPoint) error {
	at.Retell = c.retell[part.aggregate]
	r, err := c.engine.Recorder(tx, part.aggregate, at, tx.Put)
	if err != nil {
		return err
	}
	for _, t := range part.trees {
		if err := r.Add(ctx, t); err != nil {
			return err
		}
	}
	return r.Close(ctx)
}

// finishSnapshot removes what the snapshot has not seen and marks it complete.
func (c *capture) finishSnapshot(ctx context.Context, pos outbox.To, at translate.SnapshotPoint) error {
	return c.patiently(ctx, pos, func(tx *outbox.Tx) error {
		for _, u := range c.engine.Rules.Units() {
			if err := c.engine.Absent(ctx, tx, u.Aggregate, at, tx.Put); err != nil {
				return err
			}
		}
		return tx.FinishSnapshot(ctx, at.Number)
	})
}

// resnapshot reads aggregates again while the stream stands still, and
// remembers what the snapshot has seen, so that the stream does not apply it a
// second time. also runs in the commit that begins it: events that name a rule
// set never come before the rule set.
func (c *capture) resnapshot(ctx context.Context, aggregates []again, also func(*outbox.Tx) error) error {
	last, err := c.owner.Store().LastSnapshot(ctx)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	s, err := wal.SettledSnapshot(wait, c.reader.url)
	if err != nil {
		return err
	}
	defer s.Close()
	pos, number := c.owner.Position(), 0
	err = c.patiently(ctx, pos, func(tx *outbox.Tx) (err error) {
		if last.Number > 0 && last.Running() {
			if err := tx.DropSnapshot(ctx, last.Number); err != nil {
				return err
			}
		}
		if number, err = tx.StartSnapshot(ctx, outbox.SnapshotRequest, pos.End); err != nil {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return err
	}
	at := translate.SnapshotPoint{Number: number, LSN: wal.LSN(pos.End), Time: pos.Time}
	c.engine.Snapshot = max(c.engine.Snapshot, number)
	c.retell = map[string]bool{}
	defer func() { c.retell = nil }()
	for _, u := range c.engine.Rules.Units() {
		i := slices.IndexFunc(aggregates, func(a again) bool { return a.aggregate == u.Aggregate })
		if i < 0 {
			continue
		}
		c.retell[u.Aggregate] = aggregates[i].retell
		if err := c.reread(ctx, s, u, pos, at); err != nil {
			return fmt.Errorf("snapshot %d: %w", number, err)
		}
	}
	if err := c.closeResnapshot(ctx, s, aggregates, pos, at); err != nil {
		return fmt.Errorf("snapshot %d: %w", number, err)
	}
	return c.loadAbsorbs(ctx)
}

func (c *capture) reread(ctx context.Context, s *wal.Snapshot, u wal.Unit, pos outbox.To, at translate.SnapshotPoint) error {
	ranges, err := s.Ranges(ctx, u, rootsPerRange)
	if err != nil {
		return err
	}
	var jobs []job
	var total int64
	for _, r := range ranges {
		jobs = append(jobs, job{u, r})
		total += r.Rows
	}
	m := c.reader.print.Meter("snapshot of "+u.Aggregate, "aggregates", total)
	defer m.End()
	chunks := make(chan chunk, 1)
	g, within := errgroup.WithContext(ctx)
	g.Go(func() error { return copyTables(within, []*wal.Snapshot{s}, jobs, chunks) })
	g.Go(func() error { return c.recordChunks(within, chunks, pos, at, m) })
	return g.Wait()
}

// closeResnapshot removes what is gone, keeps what the snapshot has seen for
// the transactions that were under way, and marks it complete.
func (c *capture) closeResnapshot(ctx context.Context, s *wal.Snapshot, aggregates []again, pos outbox.To, at translate.SnapshotPoint) error {
	return c.patiently(ctx, pos, func(tx *outbox.Tx) error {
		for _, a := range aggregates {
			if err := c.engine.Absent(ctx, tx, a.aggregate, at, tx.Put); err != nil {
				return err
			}
			if err := tx.RangeDone(ctx, outbox.SnapshotRange{Snapshot: at.Number, Aggregate: a.aggregate, Visible: s.Seen.String(), EndLSN: uint64(s.LSN)}); err != nil {
				return err
			}
		}
		return tx.FinishSnapshot(ctx, at.Number)
	})
}
