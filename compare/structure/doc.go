// Package structure compares two JSON documents field by field and says of each
// difference where it is, what both sides have there, and what kind of
// difference it is. Two services that should answer alike rarely differ in
// everything; what a person wants to know is "in 3 % of the orders
// $.lines[*].price is a string now", and that is what this package counts.
//
//	c, err := structure.New(structure.Options{Ignore: []string{"$.items[*].updatedAt"}})
//	result, err := c.JSON(control, candidate)
//	for _, d := range result.Differences { ... }
//
// Documents are read exactly: a number is its digits, never a float64, and an
// object {"amount", "scale", "currency"} is a sum of money (2550 at scale 3 is
// 255 at scale 2). Both are brought into a plain form in which lists are paired
// already, and go-cmp walks it with a Reporter of ours. go-cmp is made for
// tests: it may panic, which is caught here, and it aligns slices in one of two
// ways, chosen at random for each process, which is why the pairing is ours. It
// costs tens of microseconds for a small document: keep it off hot paths.
//
// Two things are not told apart: strings with lone surrogates ("\ud800", which
// encoding/json reads as U+FFFD), and members in another order.
//
// The package changes when what counts as a difference does.
package structure

import "slices"

// Cause is what kind of difference it is. A difference has one cause, the
// first in the order below that fits.
type Cause string

// The causes.
const (
	// Null is null on one side and no member at all on the other.
	Null Cause = "null-absent"
	// Missing is a member or element that only control has.
	Missing Cause = "missing"
	// Extra is a member or element that only candidate has.
	Extra Cause = "extra"
	// Type is another JSON type: a number that became a string, a null where a
	// value was.
	Type Cause = "type"
	// Order is a list with elements that are equal but stand elsewhere.
	Order Cause = "order"
	// Currency is money in another currency, whatever the amounts.
	Currency Cause = "currency"
	// Form is the same said otherwise: white space, letter case, digits of a
	// fraction of a second, and with StrictNumbers 1.0 beside 1.00.
	Form Cause = "form"
	// Zone is the same instant in another time zone.
	Zone Cause = "zone"
	// Rounding is numbers, or money, with different numbers of decimals that are
	// no more than half a unit of the coarser one apart: whichever way halves are
	// rounded, one is the other rounded.
	Rounding Cause = "rounding"
	// Value is everything else.
	Value Cause = "value"
)

// Causes lists all causes, in the order in which they are tried.
func Causes() []Cause {
	return []Cause{Null, Missing, Extra, Type, Order, Currency, Form, Zone, Rounding, Value}
}

// Difference is one place at which two documents differ.
type Difference struct {
	// Path leads to the place: $.lines[2].price, $["a.b"]; in a list that is
	// paired by a key, $.lines[sku=22423].price. An index is that of control,
	// and that of candidate where only candidate has the element.
	Path string `json:"path"`
	// General is Path without what tells elements apart: $.lines[*].price.
	General string `json:"general"`
	Cause   Cause  `json:"cause"`
	// Control and Candidate are JSON texts, cut to a length that can be shown;
	// empty where there is nothing.
	Control   string `json:"control"`
	Candidate string `json:"candidate"`
	// Apart is how far two numbers or sums of money of one currency are apart, as
	// an exact decimal; empty for all else.
	Apart string `json:"apart,omitempty"`
	// Count is how many differences this one stands for: 1 until merged.
	Count int `json:"count"`
	// Rule is the rule that hid the difference; empty where it counts.
	Rule string `json:"rule,omitempty"`
}

// Worse reports whether d is the larger of two differences: numbers further apart,
// or numbers where o is of something that has no size.
func (d Difference) Worse(o Difference) bool {
	a, b := parseDecimal(d.Apart), parseDecimal(o.Apart)
	if !a.sane() || !b.sane() {
		return a.sane() && !b.sane()
	}
	return a.rat().Cmp(b.rat()) > 0
}

// Result is what a comparison has found.
type Result struct {
	// Differences are in the order of the document, at most MaxDifferences.
	Differences []Difference
	// Hidden are differences that a rule took away, at most MaxDifferences.
	Hidden []Difference
	// More counts what was not looked at any more: with that many places apart,
	// no one reads on. Places that a tolerance would let pass count too.
	More int
	// Uses has one entry for each rule of the Options, used or not, in their
	// order; Add sums them over many results.
	Uses []Use
}

// Equal reports whether nothing differs that counts.
func (r Result) Equal() bool { return len(r.Differences) == 0 && r.More == 0 }

// Use says what became of a rule. One that never matched is most likely a typing
// error, and hides nothing.
type Use struct {
	// Rule is the rule as text: "ignore $.items[*].updatedAt".
	Rule string `json:"rule"`
	// Matched counts the places of both documents that it spoke of.
	Matched int `json:"matched"`
	// Hid counts the differences that it took away. Those within elements that have
	// moved are not looked for.
	Hid int `json:"hid"`
}

// Add adds the counts of more to uses, rule by rule, and returns the sum. An
// empty side is zero; otherwise both must come from the same Options.
func Add(uses, more []Use) []Use {
	if len(uses) == 0 {
		return slices.Clone(more)
	}
	for i := range min(len(uses), len(more)) {
		uses[i].Matched += more[i].Matched
		uses[i].Hid += more[i].Hid
	}
	return uses
}

// Merge puts differences of one general path, cause and rule together: the worst
// stands for all, the first among equals, with the Count of them. The order is
// that in which they came.
func Merge(all []Difference) []Difference {
	type kind struct {
		general string
		cause   Cause
		rule    string
	}
	var merged []Difference
	at := map[kind]int{}
	for _, d := range all {
		k := kind{d.General, d.Cause, d.Rule}
		i, known := at[k]
		if !known {
			at[k] = len(merged)
			merged = append(merged, d)
			continue
		}
		d.Count += merged[i].Count
		if d.Worse(merged[i]) {
			merged[i] = d
		}
		merged[i].Count = d.Count
	}
	return merged
}
