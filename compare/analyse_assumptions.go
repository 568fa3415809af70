package compare

import "fmt"

// assumptions are what a reader must grant, in plain sentences; only those that apply.
func (a *analysis) assumptions() []string {
	var costs, noCosts, guests, caps, returns, rejected, arithmetic bool
	for _, c := range a.findings {
		b := c.book
		costs = costs || b.Known.Lines > 0
		noCosts = noCosts || b.Known.Lines < b.Compared.Lines
		guests = guests || a.report.Window.Guests > 0
		caps = caps || c.money.Demand.CappedLines > 0
		returns = returns || b.Returns.Linked.Lines+b.Returns.Unlinked.Lines > 0
		rejected = rejected || b.Rejected.Lines > 0
		arithmetic = arithmetic || c.money.Headline.Arithmetic.Amount != 0
	}
	missing, _ := a.coverage()
	list := []string{"Demand is taken as it was, which is called fixed demand: customers would have bought the same at the other prices. A shadow cannot see whether they would.",
		"Intervals speak of a next period like this one, with the same range, season and customers of the same kind."}
	for _, s := range []struct {
		applies bool
		text    string
	}{
		{costs, "Costs are those recorded at the time of the order, and stay what they are whatever is sold."},
		{noCosts, "Where a cost is not known a line counts for revenue and not for margin."},
		{guests, "A guest order is a customer of its own: whether two of them are the same person is not known."},
		{caps, "Stock is that of the moment of the order; what was delivered later might have been sold as well."},
		{returns, "Orders count as they were placed. Returns are told apart, and are not taken off."},
		{a.ledger.Unread > 0, fmt.Sprintf("Events of returns, refused orders, stock and prices that could not be read are passed over: there were %s.", counted(a.ledger.Unread))},
		{rejected, "Demand that was refused for lack of stock is told apart. What it would have become is not guessed."},
		{missing > 0, fmt.Sprintf("Where the candidate gave no price that can be used, it is taken to lie within %s of the price that was paid.",
			percentText(a.settings.MissingCap))},
		{arithmetic, "Part of the difference is no policy of the candidate: rounding, tax, discounts and surcharges that it does not know, prices or stock out of date."},
		{a.sampled(), "Only a sample of the customers was compared. The headline is exact for them, and for nobody else."},
		{a.sampled() && a.facts.SampleVaried, "The sample was smaller while the shadow was behind: of some customers only a part of the orders was compared."},
		{len(a.findings) > 1, "Currencies stand beside each other and are never converted."},
	} {
		if s.applies {
			list = append(list, s.text)
		}
	}
	return list
}
