package compare

import (
	"cmp"
	"maps"
	"slices"
)

// Scale is the number of decimals of all money in a Ledger, whatever the currency:
// a Units is 10^-4 of it. Prices with more decimals are set aside as TooFine, never
// rounded.
const Scale = 4

// Units is a sum of money in units of 10^-Scale of the currency that the context
// names.
type Units = int64

// Reason says why something that was consumed was not compared.
type Reason string

// The reasons. Those of asking a candidate (timeout, error, refused, redirect,
// oversize, unparsable, no-answer, duplicate-answer, declined, open) come from package
// shadow/ask by the same words.
const (
	// Recorded: the order was told by a snapshot, and what was known before it is not.
	Recorded Reason = "recorded"
	// Released: the order was parked, and was told when it was released: what was known
	// before its commit is not known any more, but what came after it.
	Released Reason = "released"
	// BeforeStart: the order lies before the moment from which on is compared.
	BeforeStart Reason = "before-start"
	// Sampled: the customer is not in the sample.
	Sampled Reason = "sampled"
	// Timeout, Failed, Refused, Redirect, Oversize, Unparsable, NoAnswer,
	// DuplicateAnswer and Declined: the candidate gave no price that can be used.
	Timeout         Reason = "timeout"
	Failed          Reason = "error"
	Refused         Reason = "refused"
	Redirect        Reason = "redirect"
	Oversize        Reason = "oversize"
	Unparsable      Reason = "unparsable"
	NoAnswer        Reason = "no-answer"
	DuplicateAnswer Reason = "duplicate-answer"
	Declined        Reason = "declined"
	// Open: the breaker was open, and nobody was asked.
	Open Reason = "open"
	// SawFuture: the candidate answered as of a position behind the order.
	SawFuture Reason = "saw-future"
	// Unproven: it did not say as of which position, or was silent for too long.
	Unproven Reason = "unproven"
	// WrongCurrency: the price is in another currency than the one that was paid.
	WrongCurrency Reason = "wrong-currency"
	// BadPrice: negative, or beyond the bound of what can be meant.
	BadPrice Reason = "bad-price"
	// TooFine: the candidate's price has more than Scale decimals.
	TooFine Reason = "too-fine"
	// TooLarge: the sum of a line does not fit.
	TooLarge Reason = "too-large"
	// Free: the line was a gift; nobody knows whether it had stayed one.
	Free Reason = "free"
	// NoPrice: the order has no price that can be read for the line, or one of more than
	// Scale decimals.
	NoPrice Reason = "no-actual-price"
	// NotSold: the quantity is not positive.
	NotSold Reason = "not-sold"
	// NoLines: the order has none.
	NoLines Reason = "no-lines"
	// Unreadable: the event's data is not what the mapping says.
	Unreadable Reason = "unreadable"
)

// Missing reports whether the candidate owes the price: such lines widen the bounds.
// All others are set aside for a reason that is the order's own or ours.
func (r Reason) Missing() bool {
	switch r {
	case Timeout, Failed, Refused, Redirect, Oversize, Unparsable, NoAnswer, DuplicateAnswer, Declined, Open, SawFuture, Unproven,
		WrongCurrency, BadPrice, TooFine, TooLarge, Sampled:
		return true
	}
	return false
}

// Tally counts lines and what they cost as they were paid.
type Tally struct {
	Lines   int64 `json:"lines"`
	Control Units `json:"control"`
}

func (t *Tally) add(control Units) { t.Lines++; t.Control += control }

// Ledger is everything that a Report is made of. All of it is whole numbers, so that
// sums do not depend on the order in which lines came.
type Ledger struct {
	// Events counts the orders that were consumed: Compared where at least one line
	// was, else by the reason of their first line.
	Consumed int64            `json:"consumed"`
	Compared int64            `json:"compared"`
	Excluded map[Reason]int64 `json:"excluded"`
	// Books are by currency.
	Books map[string]*Book `json:"-"`
	// FirstDay and LastDay are the business days, counted from 1970-01-01, of the
	// first and last order that was compared.
	FirstDay int32 `json:"firstDay"`
	LastDay  int32 `json:"lastDay"`
	// Unread counts events of returns, refusals, stock and prices whose data could not
	// be read: they are passed over. Orders like that are Excluded as Unreadable.
	Unread int64 `json:"unread,omitempty"`
}

// Book is the part of a Ledger in one currency. The maps of rows are kept apart from
// it in the database, so that only what has changed is written.
type Book struct {
	Currency string `json:"currency"`
	// Consumed is Compared and all of Excluded together: the invariant.
	Consumed Tally            `json:"consumed"`
	Compared Tally            `json:"compared"`
	Excluded map[Reason]Tally `json:"excluded"`
	// ByPartition is what was consumed of each partition of the topic of orders, to
	// be held against what a projection of orders says of it.
	ByPartition map[int]Tally `json:"byPartition"`
	// Volume is the sum of all amounts without their signs: it bounds every other sum
	// here, so that none can overflow unseen.
	Volume Units `json:"volume"`
	// Pieces and Candidate belong to the lines that were compared.
	Pieces    int64 `json:"pieces"`
	Candidate Units `json:"candidate"`
	// Known are those of them whose cost was known.
	Known Known `json:"known"`
	// Rise and Fall are lines with a higher or lower price; the rest is equal.
	Rise Change `json:"rise"`
	Fall Change `json:"fall"`
	// Causes say why prices differ.
	Causes map[Cause]Change `json:"causes"`
	// Below counts lines whose candidate price lies below a known cost, ControlBelow
	// those of which the price that was paid does, and NewBelow those that only the
	// candidate sells so.
	Below        Change `json:"below"`
	ControlBelow Change `json:"controlBelow"`
	NewBelow     Change `json:"newBelow"`
	// Pairs is the sum of the squares of the differences of an order in one product.
	Pairs Square `json:"pairs"`
	// Caps is what stock would have allowed, by the elasticity of CapGrid.
	Caps []Cap `json:"caps"`
	// MissingBy counts lines that the candidate owes, by segment ("country=France")
	// and by size of the order ("size=10 to 19 lines").
	MissingBy map[string]Tally `json:"missingBy"`

	Returns  Returns  `json:"returns"`
	Rejected Rejected `json:"rejected"`
	// Worst are the comparisons with the largest differences, at most MaxWorst.
	Worst []Example `json:"worst"`

	// Rows, each of its own in the database.
	Clusters map[string]*Cluster `json:"-"`
	Products map[string]*Product `json:"-"`
	Moves    map[int64]*Move     `json:"-"`
	Days     map[int32]*Day      `json:"-"`

	changed Changes // since TakeChanges
}

// Known is what was compared of lines whose cost is known.
type Known struct {
	Lines     int64 `json:"lines"`
	Control   Units `json:"control"`
	Candidate Units `json:"candidate"`
	Cost      Units `json:"cost"`
}

// Change counts lines and what they change, candidate minus control.
type Change struct {
	Lines   int64 `json:"lines"`
	Control Units `json:"control"`
	Diff    Units `json:"diff"`
}

func (c *Change) add(control, diff Units) { c.Lines++; c.Control += control; c.Diff += diff }

// Cluster is one customer, or one guest order, which is a cluster of its own: what
// happens to lines of one cluster is not independent.
type Cluster struct {
	Guest   bool  `json:"guest,omitempty"`
	Orders  int64 `json:"orders"`
	Lines   int64 `json:"lines"`
	Control Units `json:"control"`
	Diff    Units `json:"diff"`
	// Known is the part of Diff on lines whose cost is known: what changes in margin.
	Known Units `json:"known"`
	// Rise and Fall count lines; Highest is the largest relative rise, in ppm.
	Rise    int64 `json:"rise,omitempty"`
	Fall    int64 `json:"fall,omitempty"`
	Highest int64 `json:"highest,omitempty"`
	// Owed is the control of lines that the candidate owes a price for.
	Owed Units `json:"owed,omitempty"`
	// Segments are the parts of it by segment, such as "country=France".
	Segments map[string]Part `json:"segments,omitempty"`

	recent
}

// Part is what of a cluster lies in a segment.
type Part struct {
	Orders  int64 `json:"orders"`
	Control Units `json:"control"`
	Diff    Units `json:"diff"`
}

// Product is one product over all customers.
type Product struct {
	Code        string `json:"code,omitempty"`
	Description string `json:"description,omitempty"`
	Lines       int64  `json:"lines"`
	Pieces      int64  `json:"pieces"`
	Control     Units  `json:"control"`
	Diff        Units  `json:"diff"`
	Known       Known  `json:"known"`
	// Lowest and Highest are the extreme relative moves of its price, in ppm.
	Lowest  int64 `json:"lowest"`
	Highest int64 `json:"highest"`
	// All and Registered are the moments of how quantity goes with price over lines:
	// of everybody, and of customers who are registered.
	All        Moments `json:"all"`
	Registered Moments `json:"registered"`
	// Months are pieces and money by month (year*12 + month-1).
	Months map[int32]Sales `json:"months,omitempty"`

	dirty bool
}

// Moments are sums over lines of x, the natural logarithm of the price paid, and y,
// that of the quantity, each rounded to LogUnit, so that they are whole numbers.
type Moments struct {
	N  int64 `json:"n"`
	X  int64 `json:"x"`
	Y  int64 `json:"y"`
	XX int64 `json:"xx"`
	XY int64 `json:"xy"`
	YY int64 `json:"yy"`
}

// LogUnit is what logarithms in Moments are counted in.
const LogUnit = 1e-4

// Sales is what was sold.
type Sales struct {
	Pieces  int64 `json:"pieces"`
	Control Units `json:"control"`
}

// Move is all compared lines whose price moves by about the same factor: bins are
// BinWidth ppm wide, and the exact factor of a bin is Candidate/Control. At
// elasticity 0 and, for revenue, at -1 what is computed of moves is exact.
type Move struct {
	Lines     int64 `json:"lines"`
	Pieces    int64 `json:"pieces"`
	Control   Units `json:"control"`
	Candidate Units `json:"candidate"`
	Known     Known `json:"known"`

	dirty bool
}

// BinWidth is the width of a Move's bin in ppm of the control price: 0.01 %.
const BinWidth = 100

// Day is one business day.
type Day struct {
	Orders  int64 `json:"orders"`
	Lines   int64 `json:"lines"`
	Control Units `json:"control"`
	Diff    Units `json:"diff"`
	Known   Units `json:"known"` // of Diff, on lines whose cost is known

	recent
}

// CapGrid are the elasticities, in thousandths, for which it is kept what stock would
// not have allowed. Demand only rises where a price falls.
var CapGrid = []int64{-500, -1000, -1760, -2620, -4000}

// Cap is what demand beyond the stock would have brought, had it been met, at one
// elasticity of CapGrid: to be subtracted from what the elasticity promises.
type Cap struct {
	Lines   int64 `json:"lines"`
	Revenue Units `json:"revenue"`
	// Margin and Loss are of the lines whose cost is known: what those beyond their
	// cost would have earned, and what the others would have lost. Each only grows, so
	// that the order of lines makes no difference where it is as large as can be.
	Margin Units `json:"margin"`
	Loss   Units `json:"loss,omitempty"`
}

// margin is what is to be subtracted from a margin.
func (c Cap) margin() float64 { return float64(c.Margin) - float64(c.Loss) }

// Returns are goods that came back. Their sums are negative, as on a credit note.
type Returns struct {
	Linked   Returned `json:"linked"`   // the order that they belong to is known
	Unlinked Returned `json:"unlinked"` // it is not
}

// Returned is a sum of returns. Low and High bound what the candidate's prices would
// have changed in it: a product's lowest and highest move, applied to what was paid.
type Returned struct {
	Events  int64 `json:"events"`
	Lines   int64 `json:"lines"`
	Pieces  int64 `json:"pieces"`
	Control Units `json:"control"`
	Low     Units `json:"low"`
	High    Units `json:"high"`
	// Unbounded is the part of Control in products that were never compared: nothing
	// bounds what they would change.
	Unbounded Units `json:"unbounded,omitempty"`
}

// Rejected is demand that was refused for lack of stock: listed, never imputed.
type Rejected struct {
	Events int64 `json:"events"`
	Lines  int64 `json:"lines"`
	Wanted int64 `json:"wanted"` // pieces
	Short  int64 `json:"short"`  // pieces that were not there
	// Control is what the wanted pieces would have cost at the price of the day.
	Control Units `json:"control"`
}

// MaxWorst is how many examples a Book keeps of the largest differences.
const MaxWorst = 20

// Example is one comparison for people to look at; shadow replay shows it again.
type Example struct {
	// At is topic/partition/offset.
	At    string `json:"at"`
	Event string `json:"event"` // its id
	Lines int64  `json:"lines"`
	// Control and Diff are of all lines that were compared; Line is the one that
	// differs most.
	Control Units       `json:"control"`
	Diff    Units       `json:"diff"`
	Line    ExampleLine `json:"line"`
}

// ExampleLine is the line of an Example that differs most.
type ExampleLine struct {
	Line        int64  `json:"line"`
	Product     string `json:"product"`
	Description string `json:"description,omitempty"`
	Quantity    int64  `json:"quantity"`
	Control     Units  `json:"control"`   // price of one piece
	Candidate   Units  `json:"candidate"` // price of one piece
	Cause       Cause  `json:"cause"`
	Rule        string `json:"rule,omitempty"`
}

// Currencies are those of the books, sorted.
func (l *Ledger) Currencies() []string { return sortedKeys(l.Books) }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
