package ask

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Stats is what a Client has done so far. Orders that are asked for again count
// again.
type Stats struct {
	// Candidate is what the candidate calls itself, and Builds which builds of it have
	// answered, in their order, at most MaxBuilds; both as far as it says so.
	Candidate string   `json:"candidate,omitempty"`
	Builds    []string `json:"builds,omitempty"`

	Orders   uint64            `json:"orders"`   // results given
	Answered uint64            `json:"answered"` // those with prices
	Reasons  map[Reason]uint64 `json:"reasons"`  // those without; Orders is the sum of all
	// Requests is all that was sent or tried to; Retries, Splits (halvings of
	// batches) and Witnesses (orders asked again to see whether the candidate
	// answers) say why they are more than the batches.
	Requests  uint64 `json:"requests"`
	Retries   uint64 `json:"retries"`
	Splits    uint64 `json:"splits"`
	Witnesses uint64 `json:"witnesses"`
	// Unasked is answers and prices that nobody had asked for, Duplicates are
	// repeats that were equal; neither did harm.
	Unasked    uint64       `json:"unasked"`
	Duplicates uint64       `json:"duplicates"`
	BytesOut   uint64       `json:"bytesOut"` // bodies, offered
	BytesIn    uint64       `json:"bytesIn"`  // bodies, read
	Open       int          `json:"open"`     // requests, now
	Breaker    BreakerState `json:"breaker"`
	// PerRequest is the time of each request, PerOrder the Took of each order that
	// was answered.
	PerRequest Latency `json:"perRequest"`
	PerOrder   Latency `json:"perOrder"`
}

// Latency is quantiles, each at most 1 % off and never too small; the largest is exact.
type Latency struct {
	Count uint64        `json:"count"`
	P50   time.Duration `json:"p50"`
	P95   time.Duration `json:"p95"`
	P99   time.Duration `json:"p99"`
	Max   time.Duration `json:"max"`
}

// Stats is a copy, all of one moment but for the breaker's part.
func (c *Client) Stats() Stats {
	s := c.count.copy()
	s.Breaker = c.gate.state()
	return s
}

// counts is Stats while it grows.
type counts struct {
	mu       sync.Mutex
	s        Stats
	requests histogram
	orders   histogram
	answer   int64 // bytes of a usual answer
}

func newCounts() *counts {
	return &counts{s: Stats{Reasons: map[Reason]uint64{}}, answer: 4096}
}

func (c *counts) copy() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.s
	s.Reasons, s.Builds = maps.Clone(s.Reasons), slices.Clone(s.Builds)
	s.PerRequest, s.PerOrder = c.requests.latency(), c.orders.latency()
	return s
}

// MaxBuilds is how many builds of a candidate are remembered.
const MaxBuilds = 20

// says notes what the candidate says of itself.
func (c *counts) says(name, build string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name != "" {
		c.s.Candidate = cut(name)
	}
	if build = cut(build); build != "" && len(c.s.Builds) < MaxBuilds && !slices.Contains(c.s.Builds, build) {
		c.s.Builds = append(c.s.Builds, build)
	}
}

func (c *counts) open(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Requests++
	c.s.Open++
	c.s.BytesOut += uint64(bytes)
}

func (c *counts) close(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Open--
	c.requests.add(took, 1)
}

func (c *counts) retried() { c.mu.Lock(); c.s.Retries++; c.mu.Unlock() }
func (c *counts) split()   { c.mu.Lock(); c.s.Splits++; c.mu.Unlock() }
func (c *counts) witness() { c.mu.Lock(); c.s.Witnesses++; c.mu.Unlock() }

func (c *counts) read(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.BytesIn += uint64(bytes)
	c.answer = max(bytes, c.answer-c.answer/64)
}

// usual is how long answers are that do not say.
func (c *counts) usual() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answer
}

func (c *counts) result(r Reason, orders int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Orders += uint64(orders)
	c.s.Reasons[r] += uint64(orders)
}

func (c *counts) matched(results []Result, t tally, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Orders += uint64(len(results))
	c.s.Unasked += t.unasked
	c.s.Duplicates += t.duplicates
	answered := uint64(0)
	for i := range results {
		if r := results[i].Reason; r != "" {
			c.s.Reasons[r]++
		} else {
			answered++
		}
	}
	c.s.Answered += answered
	c.orders.add(took, answered)
}

// histogram has buckets that are each 1 % wider than the one before, from a
// microsecond to half an hour: a quantile is known to 1 %, however many there were,
// in 17 kB.
type histogram struct {
	count   uint64
	max     time.Duration
	buckets [2144]uint64
}

var width = math.Log(1.01)

func (h *histogram) add(d time.Duration, times uint64) {
	if times == 0 {
		return
	}
	i := int(math.Ceil(math.Log(float64(d)/float64(time.Microsecond)) / width))
	h.buckets[max(0, min(i, len(h.buckets)-1))] += times
	h.count += times
	h.max = max(h.max, d)
}

// quantile is the upper end of the bucket in which it lies.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.count)))
	var seen uint64
	for i, n := range h.buckets {
		if seen += n; seen >= rank && n > 0 {
			return min(h.max, time.Duration(math.Exp(float64(i)*width)*float64(time.Microsecond)))
		}
	}
	return h.max
}

func (h *histogram) latency() Latency {
	return Latency{Count: h.count, P50: h.quantile(0.5), P95: h.quantile(0.95), P99: h.quantile(0.99), Max: h.max}
}
