package ask

import (
	"context"
	"math/bits"
	"net/http"
	"time"

	"banyan/quote"
)

// mayBeAnOrder says that the call may have failed for one of its orders: the
// candidate had it, and its failure is not one of the whole service. No connection,
// 503, 429, a redirect or another path are nobody's doing.
func (o outcome) mayBeAnOrder() bool {
	switch o.reason {
	case Timeout, Failed:
		return o.sent && o.status != http.StatusServiceUnavailable
	case Oversize, Unparsable:
		return true
	case Refused:
		return o.status == http.StatusBadRequest || o.status == http.StatusRequestEntityTooLarge ||
			o.status == http.StatusUnprocessableEntity
	}
	return false
}

// search finds the orders for which the call of a batch fails, by asking halves of
// it. Before anything is halved, the witness is asked: one order that the candidate
// has answered before. If that fails as well, it is the candidate, nothing is
// halved, and no order is blamed. So a candidate that is down costs two calls a
// batch until its breaker opens, and an order it cannot bear costs at most
//
//	2 + 2*ceil(log2(orders of the batch))
//
// calls. Three times as many is all that a batch may cost: what it leaves in the
// dark is Shared. The first batches of a run have no witness: they are halved until
// one half works, or ceil(log2(orders)) + 2 calls have failed with none that did.
type search struct {
	client *Client
	ctx    context.Context
	left   int  // calls that may still be made
	blind  int  // failed calls that are still borne while nothing has worked
	worked bool // the candidate has answered something since the batch began
	began  time.Time
	over   bool // it is the candidate
	last   outcome
	// suspect is set once a call has failed that may have for an order. The first
	// call has all orders, so all of them are.
	suspect bool
}

// batch asks for orders that fit one call, and fills in their results.
func (c *Client) batch(ctx context.Context, orders []quote.Order, results []Result) {
	halvings := bits.Len(uint(len(orders) - 1)) // ceil(log2)
	s := search{client: c, ctx: ctx, left: 3 * (2 + 2*halvings), blind: halvings + 2}
	if len(orders) == 1 && c.suspected(orders[0].ID) {
		// It may be one that the candidate dies of, and a witness that is asked after
		// it tells nothing then. So it is asked before.
		s.witness()
	}
	s.ask(orders, results)
	for i := range results {
		r := &results[i]
		if r.Suspicion == Alone {
			if s.worked {
				r.Suspicion = Pinned
			}
			c.suspect(orders[i].ID)
		}
	}
	if len(results) == 1 && results[0].Reason == "" {
		c.acquit(orders[0].ID)
	}
}

// suspects is the most orders that are remembered for having failed alone.
const suspects = 1000

func (c *Client) suspect(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.suspects) == suspects { // begin anew: those that matter come back
		clear(c.suspects)
	}
	c.suspects[id] = true
}

func (c *Client) suspected(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.suspects[id]
}

func (c *Client) acquit(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.suspects, id)
}

func (s *search) ask(orders []quote.Order, results []Result) {
	if s.over || s.left <= 0 || s.last.reason != "" && !s.client.gate.closed() {
		s.fail(s.last, results, false)
		return
	}
	s.left--
	o := s.client.call(s.ctx, orders, s.verdict)
	if s.began.IsZero() {
		s.began = o.began
	}
	for i := range results {
		results[i].Attempt += o.attempts
	}
	if o.reason == "" {
		s.worked = true
		s.client.match(orders, o, results, time.Since(s.began))
		return
	}
	s.last = o
	if !o.mayBeAnOrder() {
		s.over = true
		s.fail(o, results, false)
		return
	}
	s.suspect = true
	s.blind--
	s.witness()
	if s.over || len(orders) == 1 {
		s.fail(o, results, len(orders) == 1)
		return
	}
	s.client.count.split()
	half := len(orders) / 2
	s.ask(orders[:half], results[:half])
	s.ask(orders[half:], results[half:])
}

// verdict is what the breaker is told of a call. A failure says nothing about the
// candidate once it is known that it answers: an order it cannot bear may fail many
// calls, and closes nobody's door.
func (s *search) verdict(o outcome) verdict {
	switch {
	case o.reason == "":
		return worked
	case o.reason == Stopped || s.worked && o.mayBeAnOrder():
		return void
	}
	return broken
}

// witness finds out whether the candidate answers at all.
func (s *search) witness() {
	if s.worked || s.over {
		return
	}
	w := s.client.known.Load()
	if w == nil {
		s.over = s.blind <= 0
		return
	}
	s.left--
	s.client.count.witness()
	o := s.client.call(s.ctx, []quote.Order{w.order}, s.verdict)
	s.worked = o.reason == ""
	if s.over = !s.worked; s.last.reason == "" {
		s.last = o
	}
}

// fail gives the orders the outcome of a call that they were in, or that stands for
// the one that is not made any more. Alone is an order that was the whole call.
func (s *search) fail(o outcome, results []Result, alone bool) {
	r := Result{Reason: o.reason, Err: o.err, Status: o.status}
	switch {
	case alone:
		r.Suspicion = Alone
	case s.suspect:
		r.Suspicion = Shared
	}
	if !s.began.IsZero() {
		r.Took = time.Since(s.began)
	}
	for i := range results {
		r.Attempt = results[i].Attempt
		results[i] = r
	}
	s.client.count.result(r.Reason, len(results))
}
