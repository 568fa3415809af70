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
	// MissingDiscount: the customer paid the price of the quantity tier, the
	// candidate charges the list price.
	MissingDiscount Cause = "missing-discount"
	// StalePrice: it is an older list price.
	StalePrice Cause = "stale-price"
	// StaleStock: the candidate says that it saw another stock than there was.
	StaleStock Cause = "stale-stock"
	// Policy is everything else: the candidate means it.
	Policy Cause = "policy"
)
