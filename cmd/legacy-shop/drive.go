package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// subject is something that a step of a replay changes or reads: one product,
// one customer, one order. Steps that share a subject happen one after the
// other, in business time, whatever the number of workers; all others may
// overtake each other.
type subject struct {
	kind byte
	name string
}

func productSubject(code string) subject { return subject{'p', code} }
func customerSubject(no string) subject  { return subject{'c', no} }
func orderSubject(no string) subject     { return subject{'o', no} }

// step is one thing that a customer or a member of staff did.
type step struct {
	when     time.Time
	rows     int // how many rows of the file it settles, for the progress
	subjects []subject
	do       func(ctx context.Context, c *client) error

	before []*step // the unfinished steps that share a subject
	done   chan struct{}
	over   atomic.Bool
}

// driver sends the steps of a replay in business time.
type driver struct {
	client   *client
	workers  int
	speed    float64 // business seconds per second; +Inf does not wait
	progress io.Writer
	now      func() time.Time
}

// drive sends all steps, which must be in the order of business time, and
// returns the first error. The dispatcher takes the steps in order, and a
// worker waits for the earlier steps of its subjects: those were taken before,
// so the first unfinished step always has a worker and nothing can lock up.
func (d *driver) drive(ctx context.Context, steps []*step) error {
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan *step, d.workers)
	bar := newProgress(d.progress, d.now, steps)
	group.Go(func() error {
		defer close(queue)
		return d.dispatch(ctx, steps, queue)
	})
	var workers sync.WaitGroup
	for range d.workers {
		workers.Add(1)
		group.Go(func() error {
			defer workers.Done()
			for s := range queue {
				if err := s.perform(ctx, d.client); err != nil {
					return err
				}
				bar.finished(s)
			}
			return nil
		})
	}
	stopped := make(chan struct{})
	go func() {
		workers.Wait()
		close(stopped)
	}()
	group.Go(func() error {
		bar.run(stopped)
		return nil
	})
	return group.Wait()
}

func (d *driver) dispatch(ctx context.Context, steps []*step, queue chan<- *step) error {
	if len(steps) == 0 {
		return nil
	}
	started, first := d.now(), steps[0].when
	last := map[subject]*step{}
	for _, s := range steps {
		if !math.IsInf(d.speed, 1) {
			due := started.Add(time.Duration(float64(s.when.Sub(first)) / d.speed))
			if err := pause(ctx, due.Sub(d.now())); err != nil {
				return err
			}
		}
		s.done = make(chan struct{})
		for _, subject := range s.subjects {
			if earlier := last[subject]; earlier != nil && earlier != s && !earlier.over.Load() {
				s.before = append(s.before, earlier)
			}
			last[subject] = s
		}
		select {
		case queue <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// perform waits for the earlier steps of the same subjects, then does its own.
func (s *step) perform(ctx context.Context, c *client) error {
	for _, earlier := range s.before {
		select {
		case <-earlier.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.before = nil
	if err := s.do(ctx, c); err != nil {
		return err
	}
	s.do = nil // lets its request be freed
	s.over.Store(true)
	close(s.done)
	return nil
}

// progress tells how far a replay is, with its rate and what is left to wait.
type progress struct {
	out     io.Writer
	now     func() time.Time
	started time.Time
	steps   int64
	rows    int64
	stepsOK atomic.Int64
	rowsOK  atomic.Int64
}

const progressEvery = 5 * time.Second

func newProgress(out io.Writer, now func() time.Time, steps []*step) *progress {
	p := &progress{out: out, now: now, started: now(), steps: int64(len(steps))}
	for _, s := range steps {
		p.rows += int64(s.rows)
	}
	return p
}

func (p *progress) finished(s *step) {
	p.stepsOK.Add(1)
	p.rowsOK.Add(int64(s.rows))
}

// run prints a line every few seconds until the replay has stopped.
func (p *progress) run(stopped <-chan struct{}) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintln(p.out, p.line())
		case <-stopped:
			return
		}
	}
}

func (p *progress) line() string {
	took := p.now().Sub(p.started).Seconds()
	done, rows := p.stepsOK.Load(), p.rowsOK.Load()
	left := "unknown"
	if done > 0 {
		left = time.Duration(took / float64(done) * float64(p.steps-done) * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("replay: step %d of %d (%.1f %%), row %d of %d, %.0f steps/s, %.0f rows/s, left %s",
		done, p.steps, 100*float64(done)/float64(max(p.steps, 1)), rows, p.rows, float64(done)/took, float64(rows)/took, left)
}
