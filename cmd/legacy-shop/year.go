package main

import (
	"slices"
	"strings"
	"time"
)

// feeCodes are the stock codes of the year that are no goods.
var feeCodes = map[string]bool{
	"AMAZONFEE": true, "B": true, "BANK CHARGES": true, "C2": true, "CRUK": true, "D": true,
	"DOT": true, "M": true, "m": true, "POST": true, "S": true,
}

// sortRow says what a row of a paper becomes: fees by their code; lines of a
// return on a paper C...; stock adjustments where goods leave without being
// sold, and where nobody got goods for nothing; else lines of an order.
func sortRow(p *paper, r row, nothingPaid bool) kind {
	switch {
	case feeCodes[r.code]:
		return feeLines
	case strings.HasPrefix(p.no, "C") && r.quantity < 0:
		return returnLines
	case r.quantity <= 0, p.customer == "" && nothingPaid:
		return adjustments
	}
	return orderLines
}

// yearPlan makes the steps of a replay from the papers of the real year.
type yearPlan struct {
	*tally
	steps    []*step
	accounts map[string]*account
	country  map[string]string // where a customer lives now
	whole    bool              // with validation, payment, invoice and shipment
}

// planYear gives the steps in business time. Each row of the papers is in
// exactly one of them.
func planYear(papers []*paper, t *tally, whole bool) []*step {
	y := &yearPlan{tally: t, accounts: map[string]*account{}, country: map[string]string{}, whole: whole}
	y.stockUp(papers)
	for _, p := range papers {
		y.paper(p)
	}
	slices.SortStableFunc(y.steps, func(a, b *step) int { return a.when.Compare(b.when) })
	return y.steps
}

func (y *yearPlan) add(when time.Time, rows int, do act, subjects ...subject) {
	y.steps = append(y.steps, &step{when: when, rows: rows, subjects: subjects, do: do})
}

// stockUp lists every product on the day before the first paper, with all the
// pieces that will leave the shop during the year. So nothing is ever refused,
// and no delivery has to be invented that the file does not have.
func (y *yearPlan) stockUp(papers []*paper) {
	byCode := map[string]*productRequest{}
	var list []*productRequest
	for _, p := range papers {
		nothingPaid := p.nothingPaid()
		for _, r := range p.rows {
			what := sortRow(p, r, nothingPaid)
			if what == feeLines {
				continue
			}
			product := byCode[r.code]
			if product == nil {
				product = &productRequest{StockCode: r.code}
				byCode[r.code] = product
				list = append(list, product)
			}
			if product.Description == "" {
				product.Description = r.description
			}
			if product.Price == 0 {
				product.Price = r.price
			}
			if what == orderLines || what == adjustments && r.quantity < 0 {
				product.Stock += max(r.quantity, -r.quantity)
			}
		}
	}
	if len(list) == 0 {
		return
	}
	opening := papers[0].when().Truncate(24 * time.Hour)
	for part := range slices.Chunk(list, 500) {
		products := make([]productRequest, len(part))
		subjects := make([]subject, len(part))
		for i, p := range part {
			p.OccurredAt = at(opening)
			products[i], subjects[i] = *p, productSubject(p.StockCode)
		}
		y.add(opening, 0, y.list(products), subjects...)
	}
}

func (p *paper) nothingPaid() bool {
	for _, r := range p.rows {
		if r.price != 0 {
			return false
		}
	}
	return true
}

func (y *yearPlan) paper(p *paper) {
	when := p.when()
	a := y.account(p, when)
	var sold []lineRequest
	var back []returnLine
	var fees []feeLine
	goods := []subject{orderSubject(p.no)}
	if a != nil {
		goods = append(goods, customerSubject(a.no))
	}
	nothingPaid := p.nothingPaid()
	for _, r := range p.rows {
		switch sortRow(p, r, nothingPaid) {
		case feeLines:
			fees = append(fees, feeLine{r.code, r.description, r.quantity, r.price, at(r.at)})
		case returnLines:
			back = append(back, returnLine{r.code, r.description, r.quantity, r.price, at(r.at)})
			goods = append(goods, productSubject(r.code))
		case adjustments:
			y.add(r.at, 1, y.adjust(r.code, adjustmentRequest{r.quantity, r.price, r.description, p.no, p.country, at(r.at)}), productSubject(r.code))
		case orderLines:
			sold = append(sold, lineRequest{r.code, r.description, r.quantity, &r.price, at(r.at)})
			goods = append(goods, productSubject(r.code))
		}
	}
	if len(sold) > 0 {
		y.sell(p, a, when, orderRequest{InvoiceNo: p.no, Country: p.country, Lines: sold, Fees: fees, OccurredAt: at(when)}, goods)
		fees = nil
	}
	if len(back) > 0 {
		req := returnRequest{InvoiceNo: p.no, Country: p.country, Lines: back, Fees: fees, OccurredAt: at(when)}
		y.add(when, len(back)+len(fees), y.takeBack(nil, a, req, false), goods...)
		fees = nil
	}
	for _, f := range fees {
		var who []subject
		if a != nil {
			who = []subject{customerSubject(a.no)}
		}
		y.add(f.OccurredAt.Time, 1, y.charge(a, feeRequest{InvoiceNo: p.no, Country: p.country, feeLine: f}), who...)
	}
}

// sell places an order and takes it through what must have followed: a file of
// invoices holds only orders that were checked, paid and sent.
func (y *yearPlan) sell(p *paper, a *account, when time.Time, req orderRequest, goods []subject) {
	s := &sale{no: p.no}
	y.add(when, len(req.Lines)+len(req.Fees), y.place(s, a, req), goods...)
	if !y.whole {
		return
	}
	order := orderSubject(p.no)
	after := func(d time.Duration) time.Time { return when.Add(d) }
	y.add(after(time.Minute), 0, y.validate(s, checkResult{Type: "fraud", Result: "passed"}, after(time.Minute)), order)
	y.add(after(2*time.Minute), 0, y.pay(s, 1, "tok_"+p.no, after(2*time.Minute)), order)
	y.add(after(3*time.Minute), 0, y.invoice(s, after(3*time.Minute)), order)
	y.add(after(20*time.Hour), 0, y.ship(s, "Royal Mail", "", after(20*time.Hour)), order)
}

// account registers a customer on the first paper that names one, and moves
// one whose paper names another country than the last.
func (y *yearPlan) account(p *paper, when time.Time) *account {
	if p.customer == "" {
		return nil
	}
	home := addressRequest{Kind: "billing", Street: "not in the file", City: "not in the file", Postcode: "none", Country: p.country, OccurredAt: at(when)}
	a := y.accounts[p.customer]
	if a == nil {
		a = &account{no: p.customer}
		y.accounts[p.customer] = a
		req := customerRequest{CustomerNo: p.customer, Name: "Customer " + p.customer, Country: p.country, Addresses: []addressRequest{home}, OccurredAt: at(when)}
		y.add(when, 0, y.register(a, req), customerSubject(a.no))
	} else if y.country[p.customer] != p.country {
		y.add(when, 0, y.move(a, home), customerSubject(a.no))
	}
	y.country[p.customer] = p.country
	return a
}
