package ask

import (
	"time"

	"banyan/quote"
)

// Reason says why an order has no prices; it is empty for one that has. The texts
// are keys in reports and do not change.
type Reason string

// The reasons. Those down to Unparsable are about a whole call, the next about an
// order within a good answer, the last about calls that were not made.
const (
	// Timeout is a call that took longer than it may, wherever it hung.
	Timeout Reason = "timeout"
	// Failed is a status of 500 or more, a connection that did not come about, or
	// one that broke.
	Failed Reason = "error"
	// Refused is a status from 400 to 499.
	Refused Reason = "refused"
	// Redirected is a status from 300 to 399, which is never followed.
	Redirected Reason = "redirect"
	// Oversize is an answer above Config.MaxBody, which is not read to its end.
	Oversize Reason = "oversize"
	// Unparsable is an answer that is not what openapi.json says.
	Unparsable Reason = "unparsable"

	// NoAnswer is an answer in which the order, or one of its lines, is missing.
	NoAnswer Reason = "no-answer"
	// Duplicate is two different answers to one order, or prices of one line.
	Duplicate Reason = "duplicate-answer"
	// Declined is a candidate that says it has no prices; the Answer says why.
	Declined Reason = "declined"

	// Open is a breaker that left the candidate alone.
	Open Reason = "open"
	// Full is a queue that was full: more callers than Config.Concurrency bears.
	Full Reason = "full"
	// Stopped is the caller's context that ended, or Close.
	Stopped Reason = "stopped"
)

// Suspicion says how far the failure of a call is known to be an order's own doing.
type Suspicion int

const (
	// Clear is an order that was not asked, or of which nothing bad is known.
	Clear Suspicion = iota
	// Shared is one that was in a call that failed, with others.
	Shared
	// Alone is one that was alone in a call that failed; it may still be the
	// candidate. Asked again by itself, it is Pinned or it is not.
	Alone
	// Pinned is one that was alone in a call that failed, while the candidate
	// answered others just before or after it.
	Pinned
)

// String is clear, shared, alone or pinned.
func (s Suspicion) String() string { return [...]string{"clear", "shared", "alone", "pinned"}[s] }

// Result is what became of an order.
type Result struct {
	// Answer is the candidate's, for a Reason that is empty or Declined. It has the
	// lines that were asked, in the order of the order, but for those that the
	// candidate has no price for. Nothing else about it is checked: not AsOf, nor the
	// currency.
	Answer *quote.Answer
	Reason Reason
	// Err is the Reason in more words, for people.
	Err error
	// Status is the candidate's HTTP status; 0 where there was none.
	Status int
	// Took is the time from the first request that carried the order to its result.
	Took time.Duration
	// Attempt is how many requests of this Ask carried the order.
	Attempt int
	// Suspicion is Clear unless the Reason is about a whole call.
	Suspicion Suspicion
}

// Transient says that to ask again later may bring another result. It is so while
// nothing has been found out about the order itself: the candidate is down, or as a
// whole not what it should be (a redirect, another path). A Pinned timeout or error
// is Transient too, as load may be its reason: count how often, and give up.
func (r *Result) Transient() bool {
	switch r.Reason {
	case Timeout, Failed, Open, Full, Stopped:
		return true
	case Refused, Redirected, Oversize, Unparsable:
		return r.Suspicion != Pinned
	}
	return false
}
