package compare

import (
	"errors"
	"fmt"
	"time"

	"banyan/compare/stats"
)

// Schema is the version of a Report's shape.
const Schema = "banyan/shadow-report/1"

// dayForm is how business days are written.
const dayForm = "2006-01-02"

// Analyse makes a Report of a ledger: what happened exactly, what can be estimated,
// and a verdict. It reads no clock and draws no chance that Settings.Seed does not fix:
// the same input gives the same Report, to the byte, whatever the names of customers
// are. The ledger is not changed. Errors are those of Settings.Check, and a ledger that
// is missing.
//
// With sampling the headline is exact for the customers in the sample, and for nobody
// else; what all customers come to is an estimate, a row of ProjectionView.Intervals.
func Analyse(l *Ledger, f Facts, s Settings) (*Report, error) {
	if l == nil {
		return nil, errors.New("analyse: there is no ledger")
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("analyse: settings: %w", err)
	}
	a := &analysis{ledger: l, facts: f, settings: s}
	a.report = &Report{
		Schema: Schema, Candidate: f.Candidate, AsOf: f.AsOf.UTC(), Window: windowOf(l),
		Reconciliation: reconcile(l, f.Projection), Currencies: []Money{},
		Operations: f.Operations, Noise: f.Noise,
	}
	for _, currency := range l.Currencies() {
		if l.Books[currency].silent() {
			continue
		}
		c, err := a.study(l.Books[currency])
		if err != nil {
			return nil, fmt.Errorf("analyse %s: %w", currency, err)
		}
		a.findings = append(a.findings, c)
	}
	a.report.Guardrails = a.guardrails()
	a.report.Assumptions = a.assumptions()
	a.report.Verdict = a.verdict()
	for _, c := range a.findings {
		a.report.Currencies = append(a.report.Currencies, c.money)
	}
	inputs, err := a.inputs()
	if err != nil {
		return nil, fmt.Errorf("analyse: digest the inputs: %w", err)
	}
	a.report.Inputs = inputs
	return a.report, nil
}

// silent says that there is nothing in a book to report but what was set aside, as in
// that of lines of which nobody knows the currency. The reconciliation has it all the
// same.
func (b *Book) silent() bool {
	return b.Compared.Lines == 0 && owed(b).Lines == 0 && b.Rejected.Lines == 0 && b.Returns.Linked.Lines+b.Returns.Unlinked.Lines == 0
}

// analysis is the work on one Report.
type analysis struct {
	ledger   *Ledger
	facts    Facts
	settings Settings
	report   *Report
	findings []*finding
}

// finding is what is known of one currency: the part of the Report, and what the
// verdict needs of it in numbers.
type finding struct {
	book  *Book
	money Money
	sums  clusterSums
	// sequence is the anytime-valid one of the total difference, known that of the
	// lines whose cost is known: there it is the difference of margin.
	sequence, known stats.Interval
	// many and knownMany are the same without the customers with the largest sums;
	// Everything where even the rest is too skewed.
	many, knownMany stats.Interval
	// twoWay is by customer and product.
	twoWay stats.Interval
	// margin is the sign of its difference over the whole band, studied that between
	// the two studies of the literature alone.
	margin, studied stats.Sign
	// stockTurns is the elasticity in the band at which stock turns a gain of margin
	// into a loss; 0 for none.
	stockTurns float64
	// moved is how many products have another price.
	moved int
	// owed is what the bounds allow for.
	owed Tally
	slip stats.Interval // of the difference, with what is owed
}

// study fills the part of the Report that is of one currency.
func (a *analysis) study(b *Book) (*finding, error) {
	c := &finding{book: b, sums: sumsOf(b), margin: stats.Mixed}
	for _, p := range b.Products {
		if p.Diff != 0 || p.Lowest != 0 || p.Highest != 0 {
			c.moved++
		}
	}
	c.owed = owed(b)
	c.money = Money{Currency: b.Currency, Headline: headline(b), Returns: returnsOf(b), Rejected: rejectedOf(b)}
	c.bounds(a.settings.MissingCap)
	c.demand()
	if err := a.project(c); err != nil {
		return nil, err
	}
	own, err := ownElasticity(b)
	if err != nil {
		return nil, err
	}
	c.money.OwnShop = own
	c.money.Segments = segmentsOf(b, a.settings.Segments)
	c.money.Gainers, c.money.Losers = movers(b)
	c.money.Moves = histogram(b)
	c.money.Customers = customersOf(b)
	c.money.Causes = causesOf(b)
	c.money.Days = daysOf(b)
	c.money.Examples = examplesOf(b, a.facts.Replay)
	return c, nil
}

// windowOf says what the orders span. A customer with orders in two currencies is one.
func windowOf(l *Ledger) Window {
	w := Window{Orders: l.Consumed, Compared: l.Compared}
	if l.Compared > 0 {
		w.FirstDay, w.LastDay = dayText(l.FirstDay), dayText(l.LastDay)
		w.Days = int(l.LastDay) - int(l.FirstDay) + 1
	}
	customers, products, days := map[string]bool{}, map[string]bool{}, map[int32]bool{}
	for _, b := range l.Books {
		w.Lines += b.Compared.Lines
		for name, c := range b.Clusters {
			if c.Lines > 0 {
				customers[name] = c.Guest
			}
		}
		for name := range b.Products {
			products[name] = true
		}
		for day, d := range b.Days {
			if d.Lines > 0 {
				days[day] = true
			}
		}
	}
	for _, guest := range customers {
		if guest {
			w.Guests++
		} else {
			w.Customers++
		}
	}
	w.Products, w.OpenDays = len(products), len(days)
	return w
}

func dayText(day int32) string { return dayOf(day).Format(dayForm) }

func dayOf(day int32) time.Time { return time.Unix(int64(day)*86_400, 0).UTC() }

// headline is exact.
func headline(b *Book) Headline {
	h := Headline{
		Lines: b.Compared.Lines, Pieces: b.Pieces,
		Control: b.exactly(b.Compared.Control), Candidate: b.exactly(b.Candidate),
		Diff: b.exactly(b.Diff()), Percent: percentOf(b.Diff(), b.Compared.Control),
		Margin: Margin{
			Share:     percentOf(b.Known.Control, b.Compared.Control),
			Control:   b.exactly(b.Known.Control - b.Known.Cost),
			Candidate: b.exactly(b.Known.Candidate - b.Known.Cost),
			Diff:      b.exactly(b.KnownDiff()),
		},
		Rise: b.changeView(b.Rise), Fall: b.changeView(b.Fall),
		Same: b.Compared.Lines - b.Rise.Lines - b.Fall.Lines,
	}
	var arithmetic Units
	for cause, c := range b.Causes {
		if cause != Policy {
			arithmetic += c.Diff
		}
	}
	h.Arithmetic = b.exactly(arithmetic)
	return h
}

// Diff is what the candidate changes in revenue at fixed demand.
func (b *Book) Diff() Units { return b.Candidate - b.Compared.Control }

// KnownDiff is Diff on the lines whose cost is known. Quantities and costs stay, so
// that it is the change of their margin as well.
func (b *Book) KnownDiff() Units { return b.Known.Candidate - b.Known.Control }

func (b *Book) changeView(c Change) ChangeView {
	return ChangeView{Lines: c.Lines, Control: b.exactly(c.Control), Diff: b.exactly(c.Diff)}
}
