package parity

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
	"sync"
	"time"
)

// Run asks both sides what the source says and reports what differed. The
// source is read from one goroutine, which Run waits for: one that blocks has to
// end with ctx.
//
// Where ctx ends, or the source fails, the report tells what was seen until
// then, is not OK, and comes with the error. Bad configuration gives no report
// and all faults in one error. Run leaves no goroutine and no connection behind.
func Run(ctx context.Context, c Config, source iter.Seq2[Request, error]) (*Report, error) {
	a, err := c.prepare()
	if err != nil {
		return nil, fmt.Errorf("parity: %w", err)
	}
	defer a.client.CloseIdleConnections()
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()

	f := &feeder{asker: a, source: source, ordered: make(chan *job, 2*a.config.Concurrency), work: make(chan *job), seen: map[uint64]bool{}}
	var owned sync.WaitGroup
	owned.Go(func() { f.feed(runCtx) })
	for range a.config.Concurrency {
		owned.Go(func() {
			for j := range f.work {
				j.done <- a.pair(runCtx, j.number, j.asked, j.request)
			}
		})
	}
	t := newTally(a.config)
	for j := range f.ordered { // in the order of the source, so that the report is
		if t.add(<-j.done); t.stopped != "" {
			cancel()
		}
	}
	owned.Wait()
	if f.err != nil {
		t.stopped = f.err.Error()
		err = fmt.Errorf("parity: read the requests: %w", f.err)
	}
	if ctx.Err() != nil {
		t.stopped = "it was interrupted"
		err = fmt.Errorf("parity: %w", context.Cause(ctx))
	}
	rep := t.report(a)
	for _, u := range rep.Rules {
		a.config.Log.Info("rule of comparison", "rule", u.Rule, "matched", u.Matched, "hid", u.Hid)
	}
	return rep, err
}

// job is a request under way; done gets its one outcome and never blocks.
type job struct {
	number, asked int // among all, and among those that are asked
	request       Request
	done          chan *outcome
}

// feeder reads the source, leaves out what is not to be asked, and hands out
// the rest.
type feeder struct {
	*asker
	source  iter.Seq2[Request, error]
	ordered chan *job // all, in the order of the source; closed at the end
	work    chan *job // those to ask; closed at the end
	seen    map[uint64]bool
	err     error // of the source; to be read after the end
}

func (f *feeder) feed(ctx context.Context) {
	defer close(f.ordered)
	defer close(f.work)
	var tick *time.Ticker
	if f.config.PerSecond > 0 {
		tick = time.NewTicker(time.Duration(float64(time.Second) / f.config.PerSecond))
		defer tick.Stop()
	}
	number, asked := 0, 0
	for r, err := range f.source {
		if ctx.Err() != nil {
			return
		}
		reason, err := f.reason(r, err)
		if err != nil {
			f.err = err
			return
		}
		j := &job{number: number, asked: asked, request: r, done: make(chan *outcome, 1)}
		number++
		select {
		case f.ordered <- j:
		case <-ctx.Done():
			return
		}
		if reason != "" {
			j.done <- &outcome{request: r, number: j.number, excluded: reason}
			continue
		}
		asked++
		if !f.hand(ctx, j, tick) {
			j.done <- &outcome{request: r, number: j.number, excluded: ReasonStopped}
			return
		}
	}
}

// hand gives a job to whoever is free, at its time; false where ctx ended.
func (f *feeder) hand(ctx context.Context, j *job, tick *time.Ticker) bool {
	if tick != nil && j.asked > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	select {
	case f.work <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// reason says why a request is not asked, "" where it is; an error ends the run.
func (f *feeder) reason(r Request, err error) (string, error) {
	if skip, ok := errors.AsType[*SkipError](err); ok {
		return skip.Reason, nil
	}
	if err != nil {
		return "", err
	}
	if err := r.check(); err != nil {
		return "", err
	}
	switch {
	case !slices.Contains(f.config.Methods, r.Method):
		return ReasonMethod, nil
	case !f.config.sampled(r):
		return ReasonSampled, nil
	case f.config.Once && f.repeated(r):
		return ReasonRepeated, nil
	}
	return "", nil
}

// repeated remembers 8 bytes of each request. Two that share them by chance cost
// one question, and are counted.
func (f *feeder) repeated(r Request) bool {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.String()))
	sum := h.Sum64()
	if f.seen[sum] {
		return true
	}
	f.seen[sum] = true
	return false
}
