package main

import (
	"context"
	"sync/atomic"
	"time"

	"banyan/projections/service"
	"banyan/shadow"
)

// pace compares fewer customers while the shadow falls behind, and all of them again
// once it has caught up: a candidate that cannot keep pace still sees whole customers,
// always the same. It begins only when the shadow has been up to date once, for the
// way through history is no falling behind; nor is what has piled up while the
// candidate was down, of which nothing is to be lost.
type pace struct {
	most   int64
	maxLag time.Duration
	on     bool
	waits  func() string // why the shadow waits for its candidate
	now    atomic.Int64  // of 10,000; 0 is most
}

// steps are how many of 10,000 customers are compared, worse and worse.
var steps = []int64{shadow.Everybody, 5000, 2500, 1000}

// sample is how many of 10,000 customers are compared at the moment.
func (p *pace) sample() int64 {
	if n := p.now.Load(); n > 0 {
		return min(n, p.most)
	}
	return p.most
}

// watch looks at how far behind the shadow is, until ctx is done.
func (p *pace) watch(ctx context.Context, s *service.Service) error {
	if !p.on || p.maxLag == 0 {
		return nil
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	began, changed := false, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			lag := lagOf(s)
			began = lag < time.Minute || began && p.waits() == ""
			if began && now.Sub(changed) >= p.maxLag/2 {
				if next := p.next(lag); next != p.sample() {
					p.now.Store(next)
					changed = now
				}
			}
		}
	}
}

// next is the step for a lag.
func (p *pace) next(lag time.Duration) int64 {
	at := p.sample()
	switch {
	case lag > p.maxLag:
		for _, s := range steps {
			if s < at {
				return s
			}
		}
	case lag < p.maxLag/10:
		return p.most
	}
	return at
}

// lagOf is how long ago, by the source's clock, the source was where the slowest
// partition is.
func lagOf(s *service.Service) (lag time.Duration) {
	for _, st := range s.Stats() {
		for _, part := range st.Parts {
			lag = max(lag, part.Lag)
		}
	}
	return lag
}
