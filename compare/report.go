package compare

import (
	"time"

	"banyan/money"
)

// Report is what can honestly be said of a candidate: the whole content of every
// output, be it a page, Markdown or JSON (whose documented shape this is). The same
// Ledger, Facts and Settings give the same Report, to the byte. It names no customer.
//
// Shares, percentages, elasticities and p-values are floats; money never is.
type Report struct {
	// Schema is the version of this shape: "banyan/shadow-report/1".
	Schema    string    `json:"schema"`
	Candidate Candidate `json:"candidate"`
	// AsOf is the commit time of the last event that was taken in; UTC.
	AsOf   time.Time `json:"asOf"`
	Window Window    `json:"window"`

	Verdict        Verdict        `json:"verdict"`
	Assumptions    []string       `json:"assumptions"`
	Reconciliation Reconciliation `json:"reconciliation"`
	// Currencies are never converted into each other.
	Currencies []Money     `json:"currencies"`
	Guardrails []Guardrail `json:"guardrails"`
	Operations *Operations `json:"operations,omitempty"` // nil for a candidate in process
	Noise      *Noise      `json:"noise,omitempty"`      // nil as long as none was measured
	Inputs     Inputs      `json:"inputs"`
}

// Candidate names who was compared.
type Candidate struct {
	Name  string `json:"name"`
	Build string `json:"build,omitempty"`
	// Mode is "in process", "request" or "stream".
	Mode string `json:"mode"`
}

// Window is what the orders of the report span.
type Window struct {
	FirstDay string `json:"firstDay"` // business days, 2011-10-03; "" where nothing was compared
	LastDay  string `json:"lastDay"`
	Days     int    `json:"days"`     // from the first to the last, both counted
	OpenDays int    `json:"openDays"` // of them, those with orders
	Orders   int64  `json:"orders"`   // consumed
	Compared int64  `json:"compared"`
	Lines    int64  `json:"lines"` // compared
	// Customers are registered ones with a compared line; Guests are guest orders.
	Customers int `json:"customers"`
	Guests    int `json:"guests"`
	Products  int `json:"products"`
}

// Rung is a step of the ladder of verdicts. There is none that says "ship": what
// customers would do at other prices cannot be seen from a shadow.
type Rung string

// The ladder, lowest first.
const (
	Unhealthy  Rung = "unhealthy"
	NoData     Rung = "no data"
	Collecting Rung = "collecting"
	DoNot      Rung = "do not switch"
	Review     Rung = "review"
	Ready      Rung = "ready for a live test"
)

// Verdict is one rung, why, and what would change it.
type Verdict struct {
	Rung Rung `json:"rung"`
	// Sentence says it in one sentence for somebody who reads nothing else.
	Sentence string   `json:"sentence"`
	Why      []string `json:"why"`
	Changes  []string `json:"changes"` // what would change this verdict
	// DaysLeft estimates, on the rung Collecting, how long until there is enough.
	DaysLeft int `json:"daysLeft,omitempty"`
	// Next is the experiment that comes next; on the rung Ready only.
	Next *Experiment `json:"next,omitempty"`
	// HideMoney says that the headline must not be shown: the books do not add up.
	HideMoney bool `json:"hideMoney,omitempty"`
}

// Experiment is the live test that answers what a shadow cannot.
type Experiment struct {
	Design     string  `json:"design"`  // "switchback" or "A/B by customer"
	Segment    string  `json:"segment"` // in which
	Share      float64 `json:"share"`   // of it, in percent, both arms together
	Days       int     `json:"days"`
	Power      float64 `json:"power"`      // to find the difference at fixed demand, 0 to 1
	Detectable float64 `json:"detectable"` // smallest relative effect on revenue, in percent
	Why        string  `json:"why"`        // why this design
	StopIf     string  `json:"stopIf"`
}

// Reconciliation is the invariant: compared + excluded by reason = consumed, to the
// order, the line and the unit of money; and consumed = what a projection of orders
// says. Where it does not hold the headline is hidden.
type Reconciliation struct {
	OK     bool     `json:"ok"`
	Faults []string `json:"faults,omitempty"`

	Events     []EventRow      `json:"events"` // compared first, then by reason, then consumed
	Currencies []CurrencyRows  `json:"currencies"`
	Projection ProjectionCheck `json:"projection"`
}

// EventRow counts orders.
type EventRow struct {
	What   string `json:"what"` // "compared", a Reason, "consumed"
	Events int64  `json:"events"`
}

// CurrencyRows counts lines and money in one currency.
type CurrencyRows struct {
	Currency string     `json:"currency"`
	Rows     []MoneyRow `json:"rows"` // compared first, then by reason, then consumed
}

// MoneyRow counts lines and what they cost as paid.
type MoneyRow struct {
	What    string       `json:"what"`
	Lines   int64        `json:"lines"`
	Control money.Amount `json:"control"`
}

// ProjectionCheck holds what was consumed against a projection of orders, which
// counts by itself, from the same events up to the same offsets.
type ProjectionCheck struct {
	// State is "equal", "differs", "not comparable" (they stand at different
	// offsets at the moment) or "none" (there is no such projection).
	State  string   `json:"state"`
	Detail string   `json:"detail,omitempty"`
	Rows   []Versus `json:"rows,omitempty"`
}

// Versus is one line of a ProjectionCheck.
type Versus struct {
	Currency string `json:"currency"`
	Ours     Count  `json:"ours"`
	Theirs   Count  `json:"theirs"`
}

// Count is lines and money.
type Count struct {
	Lines   int64        `json:"lines"`
	Control money.Amount `json:"control"`
}

// Money is all that is said of one currency.
type Money struct {
	Currency string   `json:"currency"`
	Headline Headline `json:"headline"`
	// Bounds is Headline.Diff with the lines that the candidate owes a price for:
	// they may have moved by as much as the cap either way.
	Bounds   Bounds       `json:"bounds"`
	Returns  ReturnsView  `json:"returns"`
	Rejected RejectedView `json:"rejected"`

	Demand     DemandView      `json:"demand"`
	Projection ProjectionView  `json:"projection"`
	OwnShop    []OwnElasticity `json:"ownShop"`

	Segments  SegmentsView  `json:"segments"`
	Gainers   []ProductView `json:"gainers"` // products with the largest rise of revenue at fixed demand, at most 10
	Losers    []ProductView `json:"losers"`
	Moves     []MoveBar     `json:"moves"` // histogram of price moves
	Customers CustomersView `json:"customers"`
	Causes    []CauseView   `json:"causes"`
	Days      []DayView     `json:"days"` // in order; of the last 400 at most
	Examples  []ExampleView `json:"examples"`
}

// Headline is exact: sums over the compared lines, gross as placed, at fixed demand.
type Headline struct {
	Lines     int64        `json:"lines"`
	Pieces    int64        `json:"pieces"`
	Control   money.Amount `json:"control"`
	Candidate money.Amount `json:"candidate"`
	Diff      money.Amount `json:"diff"`
	Percent   float64      `json:"percent"` // Diff of Control
	Margin    Margin       `json:"margin"`
	Rise      ChangeView   `json:"rise"`
	Fall      ChangeView   `json:"fall"`
	Same      int64        `json:"same"` // lines
	// Arithmetic is the part of Diff that is no policy: rounding, tax, discounts and
	// surcharges that the candidate does not know, data out of date.
	Arithmetic money.Amount `json:"arithmetic"`
}

// Margin is of the lines whose cost is known.
type Margin struct {
	// Share is how much of Headline.Control has a known cost, in percent.
	Share     float64      `json:"share"`
	Control   money.Amount `json:"control"`
	Candidate money.Amount `json:"candidate"`
	Diff      money.Amount `json:"diff"`
}

// ChangeView counts lines that changed.
type ChangeView struct {
	Lines   int64        `json:"lines"`
	Control money.Amount `json:"control"`
	Diff    money.Amount `json:"diff"`
}

// Bounds of the exact difference, with what is missing.
type Bounds struct {
	Missing int64        `json:"missing"` // lines that the candidate owes
	Control money.Amount `json:"control"` // what was paid for them
	// Cap is how far a missing price is taken to move at most, in percent.
	Cap  float64      `json:"cap"`
	Low  money.Amount `json:"low"`
	High money.Amount `json:"high"`
	// By says where they are missing, those with most lines first.
	By []MissingView `json:"by"`
}

// MissingView is which of the owed lines lie in a segment or size of order.
type MissingView struct {
	Segment string  `json:"segment"`
	Lines   int64   `json:"lines"`
	Share   float64 `json:"share"` // in percent, of all owed lines
}

// ReturnsView are returns, on a line of their own.
type ReturnsView struct {
	Linked   ReturnedView `json:"linked"`
	Unlinked ReturnedView `json:"unlinked"`
}

// ReturnedView sums returns; Low and High bound what they would change in Diff, but for
// products that were never compared, which Unbounded sums.
type ReturnedView struct {
	Lines   int64        `json:"lines"`
	Pieces  int64        `json:"pieces"`
	Control money.Amount `json:"control"`
	Low     money.Amount `json:"low"`
	High    money.Amount `json:"high"`

	Unbounded money.Amount `json:"unbounded"`
}

// RejectedView is demand that was refused for lack of stock.
type RejectedView struct {
	Orders  int64        `json:"orders"`
	Lines   int64        `json:"lines"`
	Wanted  int64        `json:"wanted"`
	Short   int64        `json:"short"`
	Control money.Amount `json:"control"`
}

// DemandView is what a shadow cannot see: how demand would answer.
type DemandView struct {
	// Curve goes from elasticity -5 to 0.
	Curve []CurvePoint `json:"curve"`
	// Band are the elasticities that literature finds plausible, with their sources.
	Band []BandPoint `json:"band"`
	// BandLow and BandHigh are its ends.
	BandLow  float64   `json:"bandLow"`
	BandHigh float64   `json:"bandHigh"`
	Revenue  BreakEven `json:"revenue"`
	Margin   BreakEven `json:"margin"`
	// Capped says that the curve is lower where stock would not have allowed more.
	CappedLines int64 `json:"cappedLines"`
}

// CurvePoint is the difference of revenue and margin at one elasticity, under
// constant elasticity and under linear demand.
type CurvePoint struct {
	Elasticity    float64      `json:"elasticity"`
	Revenue       money.Amount `json:"revenue"`
	Margin        money.Amount `json:"margin"`
	RevenueLinear money.Amount `json:"revenueLinear"`
	MarginLinear  money.Amount `json:"marginLinear"`
	// RevenueCapped and MarginCapped are under constant elasticity, as far as the
	// stock of the moment allows; only at the points of CapGrid and at 0.
	RevenueCapped *money.Amount `json:"revenueCapped,omitempty"`
	MarginCapped  *money.Amount `json:"marginCapped,omitempty"`
}

// BandPoint is an elasticity that somebody has found.
type BandPoint struct {
	Elasticity float64      `json:"elasticity"`
	Source     string       `json:"source"`
	Revenue    money.Amount `json:"revenue"`
	Margin     money.Amount `json:"margin"`
}

// BreakEven says where a difference changes its sign.
type BreakEven struct {
	// Constant are the roots under constant elasticity, Linear under linear demand,
	// between -20 and 0, without those at which nothing changes sign.
	Constant []float64 `json:"constant"`
	Linear   []float64 `json:"linear"`
	// Sentence says it in words: roots, none, or outside the plausible range.
	Sentence string `json:"sentence"`
	// Holds is "gain" or "loss" where the sign is the same over the whole band,
	// "" where it is not.
	Holds string `json:"holds"`
}

// ProjectionView is what a next period like this one would bring: an estimate, with
// its uncertainty, at fixed demand.
type ProjectionView struct {
	Clusters int `json:"clusters"`
	// PerCluster is the mean difference of a customer (or guest order).
	PerCluster money.Amount `json:"perCluster"`
	// Intervals of the total, 95 %, by method.
	Intervals []Interval `json:"intervals"`
	// Sequence is the anytime-valid one, which may be looked at as often as one
	// likes; the verdict uses no other.
	Sequence Interval `json:"sequence"`
	// SequenceKnown is the same of the lines whose cost is known, where some are and
	// some are not: at fixed demand it is the difference of margin.
	SequenceKnown *Interval `json:"sequenceKnown,omitempty"`
	// PerWeek is the run rate with the weekly pattern; nil under two full weeks.
	PerWeek *Interval `json:"perWeek,omitempty"`
	// Winsorized is a sensitivity: the total with clusters capped; finance's total
	// is the headline.
	Winsorized *Winsorized `json:"winsorized,omitempty"`
	Skewness   float64     `json:"skewness"`
	// Needed is how many clusters the skewness asks for (n > 355 skew^2).
	Needed int `json:"needed"`
	// TopShare is how much of the absolute difference the top 1 % of clusters have,
	// in percent.
	TopShare float64 `json:"topShare"`
	// Thin says why no estimate should be trusted; empty where it may.
	Thin []string `json:"thin"`
}

// Interval is an estimate with its bounds. One of too few values has no bounds, and Low
// and High are zero Amounts without a currency; see Known.
type Interval struct {
	Method   string       `json:"method"`
	Estimate money.Amount `json:"estimate"`
	Low      money.Amount `json:"low"`
	High     money.Amount `json:"high"`
	Note     string       `json:"note,omitempty"`
}

// Known reports whether the interval has bounds.
func (i Interval) Known() bool { return i.Low.Currency != "" }

// Winsorized is a total whose clusters are cut at a value.
type Winsorized struct {
	Percentile float64      `json:"percentile"`
	Low        money.Amount `json:"low"`
	High       money.Amount `json:"high"`
	Total      money.Amount `json:"total"`
}

// OwnElasticity is one of several answers to how this shop's demand goes with price;
// there is no "the" number.
type OwnElasticity struct {
	Method   string  `json:"method"`
	Estimate float64 `json:"estimate"`
	Error    float64 `json:"error"` // standard error, clustered by product; 0 where there is none
	Products int     `json:"products"`
	Rows     int64   `json:"rows"`
	Trap     string  `json:"trap"` // what misleads in it
}

// SegmentsView are segments that were named before, with corrected significance.
type SegmentsView struct {
	Looked int           `json:"looked"` // how many were looked at
	Rows   []SegmentView `json:"rows"`
}

// SegmentView is one segment.
type SegmentView struct {
	Segment  string       `json:"segment"` // "country=France"
	Clusters int          `json:"clusters"`
	Control  money.Amount `json:"control"`
	Diff     money.Amount `json:"diff"`
	Percent  float64      `json:"percent"`
	P        float64      `json:"p"`    // two-sided, of no difference, by cluster
	Holm     float64      `json:"holm"` // corrected for a decision
	BH       float64      `json:"bh"`   // corrected for exploration
	Thin     bool         `json:"thin"` // too few clusters; no p-values
}

// ProductView is one product.
type ProductView struct {
	Product     string       `json:"product"` // its key
	Code        string       `json:"code"`
	Description string       `json:"description"`
	Lines       int64        `json:"lines"`
	Pieces      int64        `json:"pieces"`
	Control     money.Amount `json:"control"`
	Diff        money.Amount `json:"diff"`
	Percent     float64      `json:"percent"`
}

// MoveBar is a bar of the histogram of price moves, From to before To, in percent.
// From and To of the bar of prices that stay are both 0, and that before it ends short
// of 0. The first begins at -100, the least there is; the last is open to its side and
// has both at its beginning.
type MoveBar struct {
	From    float64      `json:"from"`
	To      float64      `json:"to"`
	Lines   int64        `json:"lines"`
	Control money.Amount `json:"control"`
	Diff    money.Amount `json:"diff"`
}

// CustomersView is how many customers would have seen what.
type CustomersView struct {
	Rise    float64 `json:"rise"`    // percent of clusters that pay more in sum
	Fall    float64 `json:"fall"`    // percent that pay less
	Highest float64 `json:"highest"` // largest relative rise of a single price, in percent
	Worst   float64 `json:"worst"`   // largest relative rise of a customer's total, in percent
}

// CauseView is one cause.
type CauseView struct {
	Cause   Cause        `json:"cause"`
	Lines   int64        `json:"lines"`
	Control money.Amount `json:"control"`
	Diff    money.Amount `json:"diff"`
	Means   string       `json:"means"` // in words
}

// DayView is one business day.
type DayView struct {
	Day     string       `json:"day"`
	Orders  int64        `json:"orders"`
	Lines   int64        `json:"lines"`
	Control money.Amount `json:"control"`
	Diff    money.Amount `json:"diff"`
}

// ExampleView is a comparison to look at.
type ExampleView struct {
	At      string       `json:"at"` // topic/partition/offset
	Event   string       `json:"event"`
	Replay  string       `json:"replay"` // the command that shows it again
	Lines   int64        `json:"lines"`
	Control money.Amount `json:"control"`
	Diff    money.Amount `json:"diff"`
	Line    LineView     `json:"line"` // that differs most
}

// LineView is one line of an example.
type LineView struct {
	Line        int64        `json:"line"`
	Product     string       `json:"product"`
	Description string       `json:"description"`
	Quantity    int64        `json:"quantity"`
	Control     money.Amount `json:"control"`
	Candidate   money.Amount `json:"candidate"`
	Cause       Cause        `json:"cause"`
	Rule        string       `json:"rule"`
}

// Guardrail is a bound that must hold whatever the money says. They are not corrected
// for their number, and are one-sided in the harmful direction.
type Guardrail struct {
	Name   string `json:"name"`
	Limit  string `json:"limit"`
	Value  string `json:"value"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Operations is how asking the candidate went.
type Operations struct {
	Asked    int64      `json:"asked"` // orders
	Answered int64      `json:"answered"`
	Errors   []EventRow `json:"errors"` // by reason
	P50      float64    `json:"p50"`    // of a call, in milliseconds
	P95      float64    `json:"p95"`
	P99      float64    `json:"p99"`
	Breaker  string     `json:"breaker"` // closed, open, half-open
	Openings int64      `json:"openings"`
	Paused   float64    `json:"paused"`  // seconds
	Sampled  float64    `json:"sampled"` // percent of customers compared
	Notes    []string   `json:"notes,omitempty"`
}

// Noise is the noise floor: control against control, and, where asked, the candidate
// twice on the same orders.
type Noise struct {
	Lines  int64          `json:"lines"`
	Differ int64          `json:"differ"`
	Diff   []money.Amount `json:"diff"` // by currency
	At     string         `json:"at"`   // position up to which it was measured
	// Repeat counts lines on which the candidate, asked twice, disagreed with itself.
	RepeatLines  int64 `json:"repeatLines"`
	RepeatDiffer int64 `json:"repeatDiffer"`
}

// Inputs say what the report was made of, so that anybody can make it again.
type Inputs struct {
	// Digest is of everything that went in: offsets, settings, build, seed and the
	// ledger itself.
	Digest   string      `json:"digest"`
	Topics   []TopicSpan `json:"topics"`
	Position string      `json:"position"` // of the source: all before it is in
	Seed     uint64      `json:"seed"`
	Build    string      `json:"build"` // of shadow
	Settings Settings    `json:"settings"`
	SignedBy string      `json:"signedBy,omitempty"`
}

// TopicSpan is what was read of a partition: offsets From to before Until.
type TopicSpan struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	From      int64  `json:"from"`
	Until     int64  `json:"until"`
}
