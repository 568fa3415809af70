package ask

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// gate is the breaker. The library counts failures in its window, and probes; how
// long the gate is open is decided here, because the library asks no function for
// the delay when permits are taken by hand (it would wait for its own minute), and
// draws its jitter from a source without a seed.
//
// Permits are taken by hand because a result must be thrown away where it says
// nothing: a call from before a change of state, or one that its caller gave up.
type gate struct {
	config Breaker

	mu      sync.Mutex
	breaker circuitbreaker.CircuitBreaker[any]
	lots    *rand.Rand
	// era counts changes of state: a permit settles nothing but its own era's.
	era      uint64
	since    time.Time
	ready    time.Time // when an open gate lets probes through
	probes   int       // out
	failed   int       // openings in a row, without a closing between them
	openings uint64
	changed  chan struct{} // closed at each change of what is above
}

// permit is leave to make a call; each is settled once.
type permit struct {
	era   uint64
	probe bool
}

// verdict is what a call says of the candidate.
type verdict int

const (
	worked verdict = iota
	broken
	void // says nothing
)

func newGate(c Breaker, seed uint64) *gate {
	g := &gate{config: c, lots: rand.New(rand.NewPCG(seed, 1)), since: time.Now(), changed: make(chan struct{})}
	// The probes fail under the same ratio as all calls.
	needed := c.Probes - int(math.Ceil(c.FailureRatio*float64(c.Probes))) + 1
	g.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(c.FailureRatio, uint(c.MinCalls), c.Window).
		WithSuccessThresholdRatio(uint(needed), uint(c.Probes)).
		WithDelay(math.MaxInt64). // enter ends it
		OnStateChanged(g.change).
		Build()
	return g
}

// change is called by the breaker, while whoever moved it holds mu.
func (g *gate) change(e circuitbreaker.StateChangedEvent) {
	g.era++
	g.probes = 0
	g.since = time.Now()
	switch e.NewState {
	case circuitbreaker.OpenState:
		g.openings++
		g.ready = g.since.Add(g.delay())
		g.failed++
	case circuitbreaker.ClosedState:
		g.failed = 0
	}
}

func (g *gate) delay() time.Duration {
	d := min(float64(g.config.Delay)*math.Pow(2, float64(min(g.failed, 60))), float64(g.config.MaxDelay))
	return time.Duration(d * (0.9 + 0.2*g.lots.Float64()))
}

// enter asks for leave to make a call.
func (g *gate) enter() (permit, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.breaker.IsOpen() && !time.Now().Before(g.ready) {
		g.breaker.HalfOpen()
		g.wake()
	}
	if !g.breaker.TryAcquirePermit() {
		return permit{}, false
	}
	p := permit{era: g.era, probe: g.breaker.IsHalfOpen()}
	if p.probe {
		g.probes++
	}
	return p, true
}

// settle says what the call has shown. A probe that shows nothing counts as broken:
// the library knows no other way to give its permit back.
func (g *gate) settle(p permit, v verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.era != g.era || v == void && !p.probe {
		return
	}
	if p.probe {
		g.probes--
	}
	if v == worked {
		g.breaker.RecordSuccess()
	} else {
		g.breaker.RecordFailure()
	}
	if p.probe || p.era != g.era {
		g.wake()
	}
}

func (g *gate) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// closed says that all is well.
func (g *gate) closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.breaker.IsClosed()
}

// look says whether a call would be let through now; if not, when to look again, and
// what is closed when something changes before.
func (g *gate) look() (ready bool, again time.Duration, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.breaker.State() {
	case circuitbreaker.OpenState:
		again = time.Until(g.ready)
		return again <= 0, again, g.changed
	case circuitbreaker.HalfOpenState:
		return g.probes < g.config.Probes, time.Minute, g.changed
	}
	return true, 0, g.changed
}

// wait blocks until a call would be let through, or the context ends.
func (g *gate) wait(ctx context.Context) error {
	for {
		ready, again, changed := g.look()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ready {
			return nil
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// BreakerState is what the breaker does now.
type BreakerState struct {
	State    string        `json:"state"`          // closed, open or half-open
	Since    time.Time     `json:"since"`          // when that began
	Openings uint64        `json:"openings"`       // so far
	Opens    time.Duration `json:"opens,omitzero"` // until probes are let through
}

func (g *gate) state() BreakerState {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := BreakerState{State: g.breaker.State().String(), Since: g.since.UTC(), Openings: g.openings}
	if g.breaker.IsOpen() {
		s.Opens = max(0, time.Until(g.ready))
	}
	return s
}
