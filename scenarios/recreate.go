package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// rebuilt is what `projector rebuild --output json` says.
type rebuilt struct {
	Version int     `json:"version"`
	Records int64   `json:"records"`
	Events  int64   `json:"events"`
	Seconds float64 `json:"seconds"`
}

// recreate makes a read model anew from history, beside the one in use, while the
// shop goes on selling and readers go on reading; then the old tables are dropped.
func (t *tour) recreate(ctx context.Context) error {
	t.title("Delete and recreate a read model, while orders come in (rebuild, swap)")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sold := make(chan error, 1)
	var r replayed
	go func() {
		var err error
		r, err = t.replay(ctx, "--generate", "2", "--seed", fmt.Sprint(t.seed+1), "--start", t.firstDay().AddDate(0, 0, t.days).Format(time.DateOnly))
		if err != nil {
			cancel(fmt.Errorf("the shop's next days: %w", err))
		}
		sold <- err
	}()
	readers := make(chan reading, 1)
	reads, stopReading := context.WithCancel(ctx)
	go func() { readers <- t.keepReading(reads) }()

	err := t.exchange(ctx)
	err = errors.Join(err, <-sold)
	stopReading()
	seen := <-readers
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err = errors.Join(err, seen.err); err != nil {
		return err
	}
	say(t.out, fmt.Sprintf("meanwhile  %d REST calls to the shop; a reader asked %d times:", r.Calls, seen.times))
	say(t.out, fmt.Sprintf("           no error, no step back, slowest answer %s", round(seen.slowest)))
	if seen.back > 0 {
		return &notProved{fmt.Sprintf("%d answers were older than the one before", seen.back)}
	}
	return nil
}

// exchange rebuilds daily_sales, compares, swaps, and drops the old version.
func (t *tour) exchange(ctx context.Context) error {
	const name = "daily_sales"
	text, err := t.command(ctx, t.projector, []string{"rebuild", name, "--wait", "-f", "projections", "-o", "json"})
	if err != nil {
		return err
	}
	made, err := object[rebuilt](text)
	if err != nil {
		return fmt.Errorf("read the answer of projector rebuild: %w", err)
	}
	say(t.out, fmt.Sprintf("rebuild    version %d from %d events of history, in %.1f s", made.Version, made.Events, made.Seconds))
	text, err = t.command(ctx, t.projector, []string{"diff", name, "-f", "projections", "-o", "json"}, 1)
	if err != nil {
		return err
	}
	d, err := object[struct {
		Tables []struct{ Rows, Proved, Missing, Extra, Different int64 }
	}](text)
	if err != nil {
		return fmt.Errorf("read the answer of projector diff: %w", err)
	}
	var rows, differ int64
	for _, table := range d.Tables {
		rows, differ = rows+table.Rows, differ+table.Missing+table.Extra+table.Different
	}
	say(t.out, fmt.Sprintf("diff       %d of %d rows differ from those in use", differ, rows))
	if differ > 0 {
		return &notProved{text}
	}
	text, err = t.command(ctx, t.projector, []string{"swap", name, "-f", "projections", "-o", "json"})
	if err != nil {
		return err
	}
	s, err := object[struct {
		From, To   int
		HeldMillis float64
	}](text)
	if err != nil {
		return fmt.Errorf("read the answer of projector swap: %w", err)
	}
	if _, err := t.command(ctx, t.projector, []string{"retire", name, fmt.Sprint(s.From), "-f", "projections"}); err != nil {
		return err
	}
	say(t.out, fmt.Sprintf("swap       readers see version %d; writing paused for %.0f ms; %d is dropped", s.To, s.HeldMillis, s.From))
	return nil
}

// reading is what a reader saw who asked again and again.
type reading struct {
	times   int
	back    int // answers that were older than the one before
	slowest time.Duration
	err     error
}

// keepReading asks daily_sales for its number of lines, which only grows, until
// ctx is done.
func (t *tour) keepReading(ctx context.Context) reading {
	var r reading
	conn, err := pgx.Connect(ctx, t.database("projection_daily_sales"))
	if err != nil {
		return reading{err: err}
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	last := int64(-1)
	for ctx.Err() == nil {
		began := time.Now()
		var lines int64
		err := conn.QueryRow(ctx, `SELECT coalesce(sum(rows), 0)::bigint FROM daily_sales.daily_sales`).Scan(&lines)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			r.err = fmt.Errorf("read daily_sales: %w", err)
			return r
		}
		r.times++
		r.slowest = max(r.slowest, time.Since(began))
		if lines < last {
			r.back++
		}
		last = lines
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return r
}
