// Package ask asks a candidate pricing service over HTTP what orders would have
// cost, in such a way that it can hurt nobody: not the candidate, with calls it
// cannot bear; not what it shares a machine or a database with; not whoever asks,
// with answers that never end. Nothing but the candidate's address is ever called.
//
// A Client has a bound on open calls, a timeout on each, a budget for retries, a cap
// on answers, and a breaker that leaves a failing candidate alone. Every order gets a
// Result; one without prices has a Reason. What may be lost and what may be asked
// again is for the caller to say, who knows how long it can wait:
//
//	for {
//		if err := client.Wait(ctx); err != nil { // while the breaker is open
//			return err
//		}
//		results := client.Ask(ctx, orders)
//		// Keep those that are not Transient, and ask for the rest again: those that
//		// were Pinned three times no more, as the candidate cannot bear them; those
//		// that were Shared twice one by one, as a candidate that dies of an order can
//		// tell nobody which it was. To wait for the others costs nothing but time.
//	}
package ask

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/ratelimiter"

	"banyan/quote"
)

// ErrClosed is why orders are Stopped that a closed Client is asked for.
var ErrClosed = errors.New("the client is closed")

// Client asks one candidate. It is safe for concurrent use.
type Client struct {
	config    Config
	url       *url.URL // without user and password
	headers   http.Header
	transport *http.Transport

	queue  bulkhead.Bulkhead[any] // calls that are made or wait
	calls  bulkhead.Bulkhead[any] // calls that are made
	rate   ratelimiter.RateLimiter[any]
	gate   *gate
	budget *budget
	count  *counts
	known  atomic.Pointer[known]

	mu       sync.Mutex
	lots     *rand.Rand
	suspects map[string]bool // ids of orders that failed alone

	life    context.Context
	end     context.CancelCauseFunc
	running sync.WaitGroup
}

// known is an order that the candidate has answered.
type known struct {
	order quote.Order
	at    time.Time
}

// New makes a Client, and connects to nothing yet. The error is Check's. Whoever
// made it closes it.
func New(config Config) (*Client, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	u, err := parse(config.URL)
	if err != nil {
		return nil, err
	}
	c := &Client{
		config:    config,
		headers:   headers(u, config.ID),
		transport: newTransport(config),
		queue:     bulkhead.New[any](2 * uint(config.Concurrency)),
		calls:     bulkhead.New[any](uint(config.Concurrency)),
		gate:      newGate(config.Breaker, config.Seed),
		budget:    newBudget(config.RetryShare, config.RetryMin),
		count:     newCounts(),
		lots:      rand.New(rand.NewPCG(config.Seed, 2)),
		suspects:  map[string]bool{},
	}
	u.User = nil
	c.url = u
	if config.Rate > 0 {
		c.rate = ratelimiter.NewSmoothWithMaxRate[any](time.Duration(float64(time.Second) / config.Rate))
	}
	c.life, c.end = context.WithCancelCause(context.Background())
	return c, nil
}

// Target is the candidate's URL for people to read, without what may be secret in it.
func (c *Client) Target() string { return show(c.config.URL) }

// Close stops what is being asked, waits for it, and closes the connections. It may
// be called twice.
func (c *Client) Close() {
	c.mu.Lock()
	c.end(ErrClosed)
	c.mu.Unlock()
	c.running.Wait()
	c.transport.CloseIdleConnections()
}

// begin joins the caller's context with the client's life.
func (c *Client) begin(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		cancel(ErrClosed)
		return ctx, func() {}
	}
	c.running.Add(1)
	stop := context.AfterFunc(c.life, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		c.running.Done()
	}
}

// Ask asks for orders, in calls of Config.Batch of them, at most Config.Concurrency
// at once, and returns a Result for each, in their order. It takes as long as it has
// to, which the context can end. It keeps none of the orders; the answers are the
// caller's. The IDs must differ.
func (c *Client) Ask(ctx context.Context, orders []quote.Order) []Result {
	ctx, done := c.begin(ctx)
	defer done()
	results := make([]Result, len(orders))
	batches := c.cut(orders)
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(batches) {
				return
			}
			b := batches[i]
			c.turn(ctx, orders[b.from:b.to], results[b.from:b.to])
		}
	}
	var others sync.WaitGroup
	for range min(len(batches), c.config.Concurrency) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	return results
}

// turn asks for a batch unless too many wait already.
func (c *Client) turn(ctx context.Context, orders []quote.Order, results []Result) {
	if !c.queue.TryAcquirePermit() {
		s := search{client: c}
		s.fail(outcome{reason: Full, err: errors.New("too many wait for the candidate already")}, results, false)
		return
	}
	defer c.queue.ReleasePermit()
	c.batch(ctx, orders, results)
}

// span is orders from, up to but not with to.
type span struct{ from, to int }

// cut makes batches.
func (c *Client) cut(orders []quote.Order) []span {
	most := c.config.batch()
	batches := make([]span, 0, len(orders)/most+1)
	from, lines := 0, 0
	for i := range orders {
		n := len(orders[i].Lines)
		if i > from && (i-from == most || lines+n > c.config.Lines) {
			batches = append(batches, span{from, i})
			from, lines = i, 0
		}
		lines += n
	}
	if from < len(orders) {
		batches = append(batches, span{from, len(orders)})
	}
	return batches
}

// Wait blocks until the breaker would let a call through, at once where it is
// closed. It promises nothing: another caller may be faster. The error is the cause
// that the context ended for, or ErrClosed.
func (c *Client) Wait(ctx context.Context) error {
	ctx, done := c.begin(ctx)
	defer done()
	return c.gate.wait(ctx)
}

// jitter is how long a retry waits.
func (c *Client) jitter() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return 10*time.Millisecond + time.Duration(c.lots.Int64N(int64(40*time.Millisecond)))
}
