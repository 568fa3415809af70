package compare

// Cause says why a candidate's price differs from the one that was paid.
type Cause string

// The causes, in the order in which they are tried: what is arithmetic is told apart
// from what is policy, so that a difference in rounding is not taken for a better idea.
const (
	Same Cause = "same"
	// Rounding: the prices are equal once rounded to the currency's minor unit, or
	// the totals differ by no more than rounding each piece instead of the line.
	Rounding Cause = "rounding"
	// TaxOrder: one price is the other with a configured tax on it or taken off.
	TaxOrder Cause = "tax"
	// MissingDiscount: the customer paid less than the list price, as for many pieces,
	// and the candidate charges the list price.
	MissingDiscount Cause = "missing-discount"
	// MissingSurcharge: the customer paid more than the list price, as guests do in
	// some shops, and the candidate charges the list price. Without it what the
	// candidate does not know would be told apart where it adds to the difference, and
	// taken for policy where it subtracts.
	MissingSurcharge Cause = "missing-surcharge"
	// StalePrice: it is an older list price.
	StalePrice Cause = "stale-price"
	// StaleStock: the candidate says that it saw another stock than there was.
	StaleStock Cause = "stale-stock"
	// Policy is everything else: the candidate means it.
	Policy Cause = "policy"
)

// Clues are what is known about a line when its cause is looked for. Prices that are
// not known are 0.
type Clues struct {
	List         Units
	Previous     Units // the list price before List
	Tier         Units
	TierQuantity int64
	Stock        *int64
	SawStock     *int64 // what the candidate says it saw
	// Minor is how many decimals the currency's minor unit has.
	Minor int
	// Taxes are rates in ppm.
	Taxes []int64
}

// Cause says why the prices of a line differ.
func (c *Clues) Cause(n *Line) Cause {
	switch {
	case n.Quoted == n.Paid && n.Candidate == n.Control:
		return Same
	case c.rounding(n):
		return Rounding
	case c.tax(n):
		return TaxOrder
	case n.Candidate == c.List && n.Control < c.List:
		return MissingDiscount
	case n.Candidate == c.List && n.Control > c.List:
		return MissingSurcharge
	case c.Previous != 0 && n.Candidate == c.Previous && c.Previous != c.List:
		return StalePrice
	case c.SawStock != nil && (c.Stock == nil || *c.SawStock != *c.Stock):
		return StaleStock
	case n.Quoted == n.Paid:
		return Same
	}
	return Policy
}

// penny is the currency's minor unit in Units.
func (c *Clues) penny() Units {
	u := Units(Whole)
	for range c.Minor {
		u /= 10
	}
	return max(u, 1)
}

// rounding reports whether the candidate's price is the one that was paid, rounded by
// the piece or by the line: it is whole in minor units, and what was paid is not.
func (c *Clues) rounding(n *Line) bool {
	penny := c.penny()
	if penny == 1 {
		return false
	}
	each := magnitude(n.Candidate - n.Control)
	pieces := each*2 <= penny && n.Control%penny != 0 && n.Candidate%penny == 0
	line := each*2 <= penny && n.Paid%penny != 0 && n.Quoted%penny == 0 && magnitude(n.Quoted-n.Paid)*2 <= penny
	return pieces || line
}

// tax reports whether one price is the other with a tax on it, to the penny.
func (c *Clues) tax(n *Line) bool {
	near := c.penny() / 2
	for _, ppm := range c.Taxes {
		_, tax := share(n.Control, ppm)
		on := capped(n.Control, tax)
		_, tax = share(n.Candidate, ppm)
		off := capped(n.Candidate, tax)
		if magnitude(on-n.Candidate) <= near || magnitude(off-n.Control) <= near {
			return true
		}
	}
	return false
}
