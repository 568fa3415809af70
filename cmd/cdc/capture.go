package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"banyan/cmd/internal/cli"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// capture moves committed transactions of the source into the store. One
// goroutine runs it: the only one that commits.
type capture struct {
	owner  *outbox.Owner
	stream *wal.Stream
	engine *translate.Engine
	reader *reader // of the source's tables
	log    *slog.Logger

	shown   atomic.Pointer[wal.Stream] // the same, for others than the loop
	waiting atomic.Pointer[string]     // why nothing moves, for status; nil while it does
	warned  map[string]*wal.Table      // of added columns, by table
	absorbs []outbox.SnapshotRange     // of later snapshots, not yet passed
	retell  map[string]bool            // aggregates of which the snapshot under way tells all
}

// setStream gives the capture its stream. The HTTP server looks at it too.
func (c *capture) setStream(s *wal.Stream) {
	c.stream = s
	c.shown.Store(s)
}

// streamStatus is what the stream is doing, once there is one. It may be called
// by anybody.
func (c *capture) streamStatus() (wal.Status, bool) {
	s := c.shown.Load()
	if s == nil {
		return wal.Status{}, false
	}
	return s.Status(), true
}

// run is the loop that everything else stands on. Events and position are
// committed together, by the epoch that may; only then is the slot told. Kill
// it anywhere: what was not committed is read again, what was committed is not
// applied twice.
func (c *capture) run(ctx context.Context) error {
	for {
		batch, err := c.next(ctx) // whole transactions, in commit order
		if err != nil {
			return err
		}
		if err := c.commit(ctx, batch); err != nil {
			return err
		}
		c.stream.Ack(batch.End) // only now may the slot move
		if err := c.serveRequests(ctx); err != nil {
			return err
		}
	}
}

// requestEvery bounds how long a request of a command waits for an idle source.
const requestEvery = 300 * time.Millisecond

// next waits for the next batch, and serves requests while there is none.
func (c *capture) next(ctx context.Context) (wal.Batch, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, requestEvery)
		batch, err := c.stream.Next(wait)
		cancel()
		if err == nil {
			return batch, nil
		}
		if ctx.Err() != nil {
			return wal.Batch{}, ctx.Err()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			return wal.Batch{}, fmt.Errorf("read the source: %w", err)
		}
		if err := c.serveRequests(ctx); err != nil {
			return wal.Batch{}, err
		}
	}
}

// commit stores one batch and the position behind it, in one fenced
// transaction. Where it holds a change that stops the run, what was committed
// before that one is stored all the same: the events are as good as any, and
// the next start may have other rules.
func (c *capture) commit(ctx context.Context, batch wal.Batch) error {
	c.warnOfColumns(batch.Txs)
	err := c.store(ctx, batch.Txs, batch.End, batch.EndTime)
	if (cli.Is[*translate.UnknownError](err) || cli.Is[*translate.SchemaError](err)) && len(batch.Txs) > 1 {
		for _, tx := range batch.Txs {
			if err := c.store(ctx, []*wal.Tx{tx}, tx.EndLSN, tx.CommitTime); err != nil {
				return err
			}
		}
		err = nil
	}
	if err != nil {
		return err
	}
	return c.forgetAbsorbs(ctx)
}

func (c *capture) store(ctx context.Context, txs []*wal.Tx, end wal.LSN, at time.Time) error {
	to := c.owner.Position()
	to.End, to.Time = uint64(end), at
	if n := len(txs); n > 0 {
		to.Commit = uint64(txs[n-1].CommitLSN)
	}
	err := c.patiently(ctx, to, func(tx *outbox.Tx) error { return c.engine.Translate(ctx, tx, txs, tx.Put) })
	if err != nil {
		return fmt.Errorf("store the transactions up to %s: %w", end, err)
	}
	return nil
}

// warnOfColumns tells, once per shape of a table, of columns that somebody has
// added and that the rules neither keep nor leave out.
func (c *capture) warnOfColumns(txs []*wal.Tx) {
	for _, tx := range txs {
		changes, ok := tx.InMemory()
		if !ok {
			continue // a table that only huge transactions touch is told of at the next start
		}
		for i := range changes {
			t := changes[i].Table
			if c.warned[t.FullName()] == t {
				continue
			}
			c.warned[t.FullName()] = t
			if name := c.engine.Rules.Renamed(t); name != "" {
				c.log.Warn("a table has another name than in banyan.yaml; it is read on, but cannot be verified before banyan.yaml has its name", "table", t.FullName(), "rules", name, "lsn", tx.CommitLSN)
			}
			for _, name := range c.engine.Rules.Lacks(t.FullName(), t.Uncaptured) {
				c.log.Warn("a column is neither kept nor left out by the rules; its values are not read", "table", t.FullName(), "column", name, "lsn", tx.CommitLSN)
			}
		}
	}
}

// patiently commits, again and again where only time can help: the outbox is
// full until Kafka takes some, the store is restarted. Nothing is lost
// meanwhile; the stream keeps answering the server.
func (c *capture) patiently(ctx context.Context, to outbox.To, fn func(*outbox.Tx) error) error {
	wait := 50 * time.Millisecond
	for {
		err := c.owner.Commit(ctx, to, fn)
		switch {
		case err == nil:
			c.waiting.Store(nil)
			return nil
		case errors.Is(err, outbox.ErrFull):
			c.say("backpressure: the outbox is full, the source waits", err)
			if err := c.owner.WaitRoom(ctx); err != nil {
				return err
			}
		case outbox.Retryable(err):
			c.say("the store does not take a commit, trying again", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait/2 + rand.N(wait/2)):
			}
			wait = min(2*wait, 5*time.Second)
		default:
			return err
		}
	}
}

// say tells once why nothing moves.
func (c *capture) say(what string, err error) {
	text := what + ": " + cli.Redact(err.Error())
	if old := c.waiting.Swap(&text); old == nil {
		c.log.Warn(what, "error", cli.Redact(err.Error()))
	}
}
