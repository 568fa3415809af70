package shadow

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"banyan/compare"
	"banyan/quote"
	"banyan/shadow/ask"
)

// Request is the Pricer that asks over HTTP. It gives an order up only where the
// candidate answers others and fails at this one again and again; as long as the
// candidate is down as a whole, it waits, for hours if it must, and says so.
type Request struct {
	Client *ask.Client
	// Attempts is how often an order that the candidate fails at, while it answers
	// others, is asked for before it is given up; 3 where zero.
	Attempts int
	// Killed, where set, gives the reason why nobody may be asked for now, "" where
	// one may: the kill switch.
	Killed func() string

	Log *slog.Logger // nil is silent

	last  string // why the last call that failed did
	waits waiting
}

// Price asks until every order has a final result.
func (r *Request) Price(ctx context.Context, orders []quote.Order) ([]Got, error) {
	got := make([]Got, len(orders))
	left := make([]pending, len(orders))
	for i := range orders {
		left[i].at = i
	}
	defer r.pause("")
	for pause := 50 * time.Millisecond; len(left) > 0; {
		if err := r.ready(ctx); err != nil {
			return nil, err
		}
		before := len(left)
		within, end := r.unlessKilled(ctx)
		left = r.round(within, orders, left, got)
		end()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if len(left) == before {
			if !waitFor(ctx, pause) {
				return nil, context.Cause(ctx)
			}
			pause = min(2*pause, 2*time.Second)
			continue
		}
		pause = 50 * time.Millisecond
		r.pause("")
	}
	return got, nil
}

// pending is an order that has no final result yet.
type pending struct {
	at     int
	shared int // how often it was in a call that failed with others
	pinned int // how often it failed while others were answered
}

// round asks once for all that is left, those that have failed twice in company one
// by one, and gives back what is left then.
func (r *Request) round(ctx context.Context, orders []quote.Order, left []pending, got []Got) []pending {
	var together, alone []pending
	for _, p := range left {
		if p.shared >= 2 {
			alone = append(alone, p)
		} else {
			together = append(together, p)
		}
	}
	var still []pending
	take := func(some []pending) {
		if len(some) == 0 || ctx.Err() != nil {
			still = append(still, some...)
			return
		}
		batch := make([]quote.Order, len(some))
		for i, p := range some {
			batch[i] = orders[p.at]
		}
		for i, res := range r.Client.Ask(ctx, batch) {
			if p := some[i]; r.final(&p, &res) {
				got[p.at] = Got{Answer: res.Answer, Reason: compare.Reason(res.Reason)}
			} else {
				still = append(still, p)
			}
		}
	}
	take(together)
	for i := range alone {
		take(alone[i : i+1])
	}
	return still
}

// final reports whether a result will not change, and counts what speaks against the
// order.
func (r *Request) final(p *pending, res *ask.Result) bool {
	if !res.Transient() {
		return true
	}
	switch res.Suspicion {
	case ask.Shared:
		p.shared++
	case ask.Pinned:
		p.pinned++
	}
	most := r.Attempts
	if most <= 0 {
		most = 3
	}
	if p.pinned >= most {
		return true
	}
	why := string(res.Reason)
	if res.Err != nil {
		why += ": " + res.Err.Error()
	}
	if res.Err != nil && res.Reason != ask.Open {
		r.last = " (" + why + ")"
	}
	r.pause("the candidate is asked again: " + why)
	return false
}

// ready waits until somebody may be asked: for the kill switch and the breaker.
func (r *Request) ready(ctx context.Context) error {
	for r.Killed != nil {
		why := r.Killed()
		if why == "" {
			break
		}
		r.pause(why)
		if !waitFor(ctx, 200*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	if s := r.Client.Stats().Breaker; s.State == "open" {
		r.pause(fmt.Sprintf("the breaker is open: the candidate has failed too often%s; it is tried again in %s", r.last, s.Opens.Round(time.Millisecond)))
	}
	return r.Client.Wait(ctx)
}

// unlessKilled gives a context that ends when the kill switch is turned on, so that
// what is being asked stops at once. The caller calls end, which waits.
func (r *Request) unlessKilled(ctx context.Context) (within context.Context, end func()) {
	if r.Killed == nil {
		return ctx, func() {}
	}
	within, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for waitFor(within, 200*time.Millisecond) {
			if r.Killed() != "" {
				cancel()
			}
		}
	}()
	return within, func() {
		cancel()
		<-done
	}
}

func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// pause notes why the shadow waits, "" where it does not.
func (r *Request) pause(reason string) { r.waits.set(reason, r.Log) }

// Paused gives why the shadow waits for the candidate, "" where it does not, and how
// long it has waited in all.
func (r *Request) Paused() (reason string, all time.Duration) { return r.waits.get() }

// Named is what the candidate calls itself, and the builds that have answered since
// this process began.
func (r *Request) Named() (name string, builds []string) {
	s := r.Client.Stats()
	return s.Candidate, s.Builds
}

// Operations is how asking went since this process began.
func (r *Request) Operations() *compare.Operations {
	s := r.Client.Stats()
	_, paused := r.Paused()
	o := &compare.Operations{Asked: int64(s.Orders), Answered: int64(s.Answered), Breaker: s.Breaker.State, Openings: int64(s.Breaker.Openings),
		P50: milliseconds(s.PerRequest.P50), P95: milliseconds(s.PerRequest.P95), P99: milliseconds(s.PerRequest.P99),
		Paused: paused.Round(100 * time.Millisecond).Seconds(), Sampled: 100, Errors: []compare.EventRow{}, Notes: []string{"calls are counted since the run was last started; the books count everything"}}
	for _, reason := range sortedKeys(s.Reasons) {
		o.Errors = append(o.Errors, compare.EventRow{What: string(reason), Events: int64(s.Reasons[reason])})
	}
	if s.Unasked > 0 {
		o.Notes = append(o.Notes, fmt.Sprintf("%d answers or prices that nobody had asked for were passed over", s.Unasked))
	}
	if s.Duplicates > 0 {
		o.Notes = append(o.Notes, fmt.Sprintf("%d answers came twice, the same", s.Duplicates))
	}
	return o
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
