package ask

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"banyan/quote"
)

// freshness is how old the witness may become.
const freshness = time.Minute

// match gives each order its answer, wherever it stands in the response. One without
// may be an order whose answer could not be read: nobody can say which of them that
// was, but the candidate did answer, and the others are not to suffer for it.
func (c *Client) match(orders []quote.Order, o outcome, results []Result, took time.Duration) {
	answers := o.response.Answers
	var t tally
	if !aligned(orders, answers) {
		t.align(orders, answers, results)
	} else {
		for i := range answers {
			results[i].Answer = &answers[i]
		}
	}
	for i := range results {
		r := &results[i]
		r.Status, r.Took = o.status, took
		switch {
		case r.Reason != "":
		case r.Answer == nil && o.spoilt != nil:
			r.Reason, r.Err, r.Suspicion = Unparsable, o.spoilt, Pinned
		default:
			r.Reason, r.Err = t.check(&orders[i], r.Answer)
		}
		if r.Reason != "" && r.Reason != Declined {
			r.Answer = nil
		}
	}
	c.remember(orders, results)
	c.count.matched(results, t, took)
}

// tally counts what is odd about an answer and does no harm.
type tally struct {
	unasked    uint64 // answers and prices that nobody asked for
	duplicates uint64 // repeats that are equal
}

// aligned is the usual case: an answer for each order, in their order.
func aligned(orders []quote.Order, answers []quote.Answer) bool {
	if len(orders) != len(answers) {
		return false
	}
	for i := range orders {
		if orders[i].ID != answers[i].ID {
			return false
		}
	}
	return true
}

// align finds the answers of the orders by their ids.
func (t *tally) align(orders []quote.Order, answers []quote.Answer, results []Result) {
	places := make(map[string]int, len(orders))
	for i := range orders {
		places[orders[i].ID] = i
	}
	for i := range answers {
		place, ok := places[answers[i].ID]
		if !ok {
			t.unasked++
			continue
		}
		r := &results[place]
		switch {
		case r.Answer == nil:
			r.Answer = &answers[i]
		case reflect.DeepEqual(r.Answer, &answers[i]):
			t.duplicates++
		default:
			r.Reason, r.Err = Duplicate, errors.New("the candidate gave two different answers to the order")
		}
	}
}

// check looks whether the answer has prices, and brings them into the order of the
// lines. A line that the candidate has no price for is missing in it; no line is in it
// twice, says quote.DecodeResponse.
func (t *tally) check(o *quote.Order, a *quote.Answer) (Reason, error) {
	switch {
	case a == nil:
		return NoAnswer, errors.New("the order is missing in the answer")
	case a.Declined != "":
		return Declined, fmt.Errorf("the candidate declined: %s", cut(a.Declined))
	case straight(o.Lines, a.Lines):
		return "", nil
	}
	prices := make(map[int64]quote.Price, len(a.Lines))
	for _, p := range a.Lines {
		prices[p.Line] = p
	}
	lines := make([]quote.Price, 0, len(o.Lines))
	for _, l := range o.Lines {
		if p, ok := prices[l.Line]; ok {
			lines = append(lines, p)
		}
	}
	if len(lines) == 0 {
		return NoAnswer, errors.New("none of the order's lines has a price in the answer")
	}
	t.unasked += uint64(max(0, len(a.Lines)-len(lines)))
	a.Lines = lines
	return "", nil
}

func straight(lines []quote.Line, prices []quote.Price) bool {
	if len(lines) != len(prices) {
		return false
	}
	for i := range lines {
		if lines[i].Line != prices[i].Line {
			return false
		}
	}
	return true
}

// remember keeps an order that was answered, as the next witness.
func (c *Client) remember(orders []quote.Order, results []Result) {
	if w := c.known.Load(); w != nil && time.Since(w.at) < freshness {
		return
	}
	for i := range results {
		if results[i].Reason == "" {
			c.known.Store(&known{order: clone(orders[i]), at: time.Now()})
			return
		}
	}
}

func clone(o quote.Order) quote.Order {
	o.Lines = slices.Clone(o.Lines)
	for i := range o.Lines {
		if stock := o.Lines[i].Known.Stock; stock != nil {
			copied := *stock
			o.Lines[i].Known.Stock = &copied
		}
	}
	return o
}
