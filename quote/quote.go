// Package quote is what a candidate pricing service is asked, and what it answers:
// orders as they were placed, with what was known strictly before their commits, in;
// a unit price for each of their lines, with the trail of rules that led to it, out.
//
// The same words are spoken in process (Candidate), over HTTP (Handler and
// openapi.json) and, as far as they apply, in the events that a candidate publishes
// by itself. Whoever asks is package shadow; an example of whoever answers is package
// pricing.
//
// A candidate prices what was known before the order, nothing later. It proves that
// by saying as of which position it answered: AsOf. One that has no state of its own
// echoes the order's.
package quote

import (
	"time"

	"banyan/money"
)

// Order is one order to be priced.
type Order struct {
	// ID is the id of the event that tells of the order, and the idempotency key of
	// asking: the same ID has the same content, always.
	ID string `json:"id"`
	// Order is the order's own key.
	Order string `json:"order"`
	// AsOf is the position of the order's commit, generation:LSN. What the context
	// says was known strictly before it, and an answer may rest on nothing that is
	// not: its own AsOf must not be greater, and is equal only where nothing of the
	// order's own transaction was used.
	AsOf string `json:"asOf"`
	// Customer is a salted digest of the customer's key, the same for all orders of
	// a customer within a run; empty for a guest.
	Customer string `json:"customer,omitempty"`
	// PlacedAt is when the business took the order, CommittedAt when the source
	// committed it; UTC.
	PlacedAt    time.Time `json:"placedAt"`
	CommittedAt time.Time `json:"committedAt"`
	Channel     string    `json:"channel,omitempty"`
	Country     string    `json:"country,omitempty"`
	// Currency is the one that the prices are wanted in, ISO 4217.
	Currency string `json:"currency"`
	Lines    []Line `json:"lines"`

	// WantTrail asks for the rules of each price. In process nobody asks for them
	// while history is gone through; over HTTP the answer may always have them.
	WantTrail bool `json:"-"`
}

// Line is one line of an Order.
type Line struct {
	Line     int64  `json:"line"`
	Product  string `json:"product"` // its key
	Quantity int64  `json:"quantity"`
	// Known is what was known of the product strictly before the order's commit.
	Known Product `json:"known"`
}

// Product is what was known of a product. What was not known is absent: the zero
// Amount, a nil Stock.
type Product struct {
	Code         string       `json:"code,omitempty"`
	Description  string       `json:"description,omitempty"`
	List         money.Amount `json:"list,omitzero"`
	TierQuantity int64        `json:"tierQuantity,omitempty"` // pieces from which Tier is the price; 0 for none
	Tier         money.Amount `json:"tier,omitzero"`
	Cost         money.Amount `json:"cost,omitzero"`
	Stock        *int64       `json:"stock,omitempty"` // pieces
	// Demand is what was asked for before this order, by business time.
	Demand Demand `json:"demand"`
}

// Demand is recent demand for a product in pieces, by the business days that end
// with the order's own: orders strictly before this one. Refused are pieces that were
// wanted and refused for lack of stock in the last 28 days.
type Demand struct {
	Days1   int64 `json:"days1"`
	Days7   int64 `json:"days7"`
	Days28  int64 `json:"days28"`
	Refused int64 `json:"refused"`
}

// Answer is what a candidate says to an Order.
type Answer struct {
	// ID is the order's, echoed.
	ID string `json:"id"`
	// AsOf is the position as of which the candidate answered, in the form of the
	// order's; a candidate without a state of its own echoes that. An answer without
	// it proves nothing, and is set aside as unproven.
	AsOf string `json:"asOf,omitempty"`
	// Declined, where it is not empty, says why the candidate has no prices for this
	// order. Lines are not looked at then.
	Declined string  `json:"declined,omitempty"`
	Lines    []Price `json:"lines,omitempty"`
}

// Price is what a candidate would have charged for a line.
type Price struct {
	Line int64 `json:"line"` // that of the order
	// Unit is the price of one piece.
	Unit money.Amount `json:"unit"`
	// Total is what the line would have cost, where that is not exactly the quantity
	// times Unit because the candidate rounds in another order. Zero: it is.
	Total money.Amount `json:"total,omitzero"`
	// Rule is the name of the rule that decided: the last in the trail that changed
	// the price, or that which held it. A rounding that only brings what another rule
	// has moved into shape decides nothing.
	Rule string `json:"rule,omitempty"`
	// Trail is how the price came about, in the order of the rules.
	Trail []Step `json:"trail,omitempty"`
	// SawStock is the stock that the price was made with, where the candidate has
	// its own idea of it.
	SawStock *int64 `json:"sawStock,omitempty"`
	// Propensity is the probability with which the candidate chooses this price, as
	// decimal text in (0, 1]; empty for one that does not draw lots, whose
	// propensity is 1. Nothing uses it yet; a later test with drawn lots cannot be
	// analysed without it.
	Propensity string `json:"propensity,omitempty"`
}

// Step is one rule's part in a price.
type Step struct {
	Rule string `json:"rule"`
	// Since is the day from which the rule holds, such as 2026-11-01.
	Since string       `json:"since,omitempty"`
	From  money.Amount `json:"from"`
	To    money.Amount `json:"to"`
	// Clamp marks a floor or a ceiling that held the price.
	Clamp bool   `json:"clamp,omitempty"`
	Why   string `json:"why,omitempty"`
}

// Candidate prices orders in process. Price fills into, which is empty but for the
// memory of its slices; an error declines the order. It must be a function of the
// order and the Candidate's own configuration alone, must not keep o or into, and is
// called from one goroutine.
type Candidate interface {
	// Name is what reports call the candidate, Build what tells this version of it
	// from another: rules, dates, a commit.
	Name() string
	Build() string
	Price(o *Order, into *Answer) error
}

// Request is the body of POST /quotes.
type Request struct {
	Orders []Order `json:"orders"`
}

// Response is the answer to it: an Answer for each of the orders, in any order.
type Response struct {
	Candidate string   `json:"candidate,omitempty"` // name
	Build     string   `json:"build,omitempty"`
	Answers   []Answer `json:"answers"`
}
