// Package parity asks two services the same questions and says where their
// answers differ. It is for a service that is about to take over an endpoint:
// the one that answers today is the control, the new one the candidate, and
// whoever decides sees by field what would change, how often, and for which
// requests.
//
//	list, err := parity.ParseRequests(file)
//	report, err := parity.Run(ctx, parity.Config{Control: "http://shop", Candidate: "http://new"}, parity.List(list))
//	report.WriteText(os.Stdout)
//
// The control is production, so care is taken of it: only methods that change
// nothing are asked unless told otherwise, few requests are under way at a time,
// and a side that does not answer many times in a row is left alone. Redirects
// are answers and are not followed. The candidate's requests carry X-Shadow: 1,
// so that it can leave out what must not happen twice. Nothing else is talked
// to, no proxy either.
//
// # As of the same commit
//
// Two services that both live on one source may answer as of different commits,
// and then differ although both are right. A side that waits (Wait) is sent the
// newest token that is known (package token): that of the request, that of the
// Config, and the one that the other side's answer has just carried. A side that
// is the source itself (Source) is asked for a token with its answer. So the
// second answer is always as of the commit of the first or later. What is not
// guaranteed is that it is not later: between two answers the source may move.
// Where both answers carry tokens, the report says how often they were equal and
// how often apart, and a pair that differs with tokens apart is asked again, up
// to twice, before it counts. Services without tokens are compared as they
// answer, one right after the other, and the one that is asked first changes
// from request to request, so that a moving source is not held against the
// candidate alone.
//
// # Noise
//
// With Noise the control is asked twice, and what it has different with itself
// (the same field, the same cause, in the same request) is shown apart and does
// not count against the candidate.
//
// compared + excluded by reason = requests, always. Examples in a report are
// pieces of real answers: mind who reads it.
//
// The package changes when the way of asking and counting does; what a
// difference is, is the business of compare/structure.
package parity

import (
	"banyan/compare/structure"
)

// Causes that only whole answers have; fields of a body have those of
// compare/structure.
const (
	// Status is another HTTP status; then the rest is not compared.
	Status structure.Cause = "status"
	// NotJSON is one side's body that says it is JSON, or stands beside one that
	// is, and cannot be read as such.
	NotJSON structure.Cause = "not-json"
	// Bytes is bodies that are not JSON and not the same bytes.
	Bytes structure.Cause = "bytes"
)

// Reasons for which a request is not compared. Those of a side that did not
// answer begin with "control-" or "candidate-"; where both have one, the control's
// is counted.
const (
	ReasonMethod   = "method"   // changes something, and was not allowed
	ReasonSampled  = "sampled"  // its key is not in the sample
	ReasonRepeated = "repeated" // was asked before, and Once is set
	ReasonTemplate = "template" // the record lacks a value for it
	ReasonStopped  = "stopped"  // the run ended before it was answered

	FaultTimeout     = "timeout"     // no whole answer within Config.Timeout
	FaultUnreachable = "unreachable" // no connection, or no HTTP
	FaultBroken      = "broken"      // the answer ended too early
	FaultOversize    = "oversize"    // the body is larger than Config.Limit
	FaultBehind      = "behind"      // it did not reach the token within Config.Wait
	FaultParked      = "parked"      // what is asked about is held back there
	FaultBadToken    = "bad-token"   // it does not understand what Banyan-Token said
)
