package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// order makes up one order and what becomes of it.
func (m *madeUp) order(when time.Time) {
	var a *account
	req := orderRequest{Channel: channelGuest, Country: "United Kingdom", OccurredAt: at(when)}
	if !m.percent(22) {
		a = m.known(when)
		req.Channel, req.Country = channelAccount, ""
		if m.percent(40) {
			req.Channel = channelWeb
		}
	}
	lines := m.between(1, 9)
	if req.Channel == channelAccount && m.percent(6) {
		lines = m.between(25, 50)
	}
	req.Lines = m.basket(lines, req.Channel)
	req.Attributes, req.Note = m.attributes(), m.note()
	if m.percent(12) {
		code, price := "POST", amount(18_000)
		if a == nil {
			code, price = "DOT", amount(m.between(300, 4_000))*10
		}
		req.Fees = []feeLine{{Code: code, Description: "POSTAGE", Quantity: 1, Price: price}}
	}
	if req.Channel == channelWeb {
		m.fromCart(a, req, when)
		return
	}
	s, subjects := m.newSale(a, req)
	m.add(when, len(req.Lines)+len(req.Fees), m.place(s, a, req), subjects...)
	m.becomes(s, a, req, when)
}

// known is a customer who was registered before that moment: one of the first,
// or one of an earlier day.
func (m *madeUp) known(when time.Time) *account {
	days := int(when.Sub(m.start).Hours() / 24)
	n := firstCustomers + days*6/7*2 // two a day at least, but none on a Saturday
	return m.accounts[m.rnd.IntN(min(n, len(m.accounts)))]
}

// basket is n different products, in the quantities that a channel buys.
func (m *madeUp) basket(n int, channel string) []lineRequest {
	lines := make([]lineRequest, 0, n)
	taken := map[string]bool{}
	for len(lines) < n {
		g := m.products[m.rnd.IntN(firstProducts)]
		if m.percent(50) {
			g = m.products[m.rnd.IntN(firstProducts/5)] // a few sell best
		}
		if taken[g.code] || g.rare && m.percent(60) {
			continue
		}
		taken[g.code] = true
		quantity := m.between(1, 6)
		if channel == channelAccount {
			quantity = []int{6, 12, 12, 24, 48}[m.rnd.IntN(5)]
		}
		if g.rare {
			quantity = min(quantity, 12)
		}
		line := lineRequest{StockCode: g.code, Description: g.name, Quantity: int32(quantity)}
		if m.percent(3) { // staff gave a present, or made a price
			line.UnitPrice = ptr(amount(m.between(0, 1)) * g.cheap)
		}
		lines = append(lines, line)
	}
	return lines
}

// note is empty mostly, a line sometimes, and now and then a mail thread of
// some kilobytes, which Postgres keeps out of line.
func (m *madeUp) note() string {
	switch p := m.rnd.IntN(100); {
	case p < 84:
		return ""
	case p < 95:
		return pick(m, []string{"please ring the bell", "leave with the neighbour", "call before delivery", "gift, no invoice in the parcel"})
	}
	var b strings.Builder
	for i := range m.between(60, 200) {
		fmt.Fprintf(&b, "> %03d %s %s: about the %s %s, ref %x\n", i, pick(m, firstNames), pick(m, lastNames), pick(m, adjectives), pick(m, things), m.rnd.Uint32())
	}
	return b.String()
}

// newSale numbers an order, and names what its placing touches.
func (m *madeUp) newSale(a *account, req orderRequest) (*sale, []subject) {
	m.orders++
	s := &sale{no: fmt.Sprintf("%d-%d", m.seed, m.orders)}
	subjects := []subject{orderSubject(s.no)}
	if a != nil {
		subjects = append(subjects, customerSubject(a.no))
	}
	for _, l := range req.Lines {
		subjects = append(subjects, productSubject(l.StockCode))
	}
	return s, subjects
}

// fromCart fills a cart in the minutes before, looks at it, and orders it. One
// in ten carts is left standing.
func (m *madeUp) fromCart(a *account, req orderRequest, when time.Time) {
	s, subjects := m.newSale(a, req)
	var cart idAnswer
	begun := when.Add(-time.Duration(len(req.Lines)+1) * time.Minute)
	m.add(begun, 0, func(ctx context.Context, c *client) error {
		return c.call(ctx, http.MethodPost, "/carts", "", cartRequest{CustomerID: &a.id, OccurredAt: at(begun)}, &cart)
	}, subjects[:2]...)
	for i, l := range req.Lines[:min(4, len(req.Lines))] {
		m.add(begun.Add(time.Duration(i+1)*time.Minute), 0, func(ctx context.Context, c *client) error {
			return c.call(ctx, http.MethodPut, fmt.Sprintf("/carts/%d/items/%s", cart.ID, l.StockCode), "", cartItemRequest{l.Quantity}, nil)
		}, orderSubject(s.no), productSubject(l.StockCode))
	}
	if m.percent(10) {
		return
	}
	req.CartID = &cart.ID
	m.add(when, len(req.Lines)+len(req.Fees), m.place(s, a, req), subjects...)
	m.becomes(s, a, req, when)
}

// becomes plays what follows an order: checks, payment, invoice, parcel, and
// for some a cancellation or a return.
func (m *madeUp) becomes(s *sale, a *account, req orderRequest, when time.Time) {
	order := orderSubject(s.no)
	goods := []subject{order}
	for _, l := range req.Lines {
		goods = append(goods, productSubject(l.StockCode))
	}
	fraud := checkResult{Type: "fraud", Result: "passed"}
	if m.percent(3) {
		fraud.Result, fraud.Detail = "failed", "card reported stolen"
	}
	checked := when.Add(time.Duration(m.between(1, 20)) * time.Minute)
	m.add(checked, 0, m.validate(s, fraud, checked), order)

	paid := checked.Add(time.Duration(m.between(1, 30)) * time.Minute)
	cancelled := checked.Add(5 * time.Hour)
	if !m.percent(3) { // else somebody changes their mind before paying
		attempt := 1
		if m.percent(8) {
			m.add(paid, 0, m.pay(s, attempt, "tok_declined_"+s.no, paid), order)
			attempt, paid = 2, paid.Add(10*time.Minute)
		}
		if attempt == 1 || m.percent(75) {
			m.add(paid, 0, m.pay(s, attempt, "tok_"+s.no, paid), order)
		}
	}
	m.add(cancelled, 0, m.cancel(s, "not paid", cancelled), goods...)
	if m.percent(30) {
		later := cancelled.Add(24 * time.Hour)
		m.add(later, 0, func(ctx context.Context, c *client) error {
			if !s.is(statusCancelled) {
				return nil
			}
			return c.call(ctx, http.MethodDelete, s.path(""), "", nil, nil)
		}, order)
	}
	billed := paid.Add(2 * time.Minute)
	m.add(billed, 0, m.invoice(s, billed), order)
	sent := nextWorkingDay(when).Add(time.Duration(m.between(9*60, 16*60)) * time.Minute)
	m.add(sent, 0, m.ship(s, pick(m, carriers), "PX"+s.no, sent), order)
	if m.percent(8) {
		m.comesBack(s, a, req, sent.AddDate(0, 0, m.between(1, 9)), m.percent(50), false)
	}
}

func nextWorkingDay(t time.Time) time.Time {
	t = t.Truncate(24*time.Hour).AddDate(0, 0, 1)
	if t.Weekday() == time.Saturday {
		t = t.AddDate(0, 0, 1)
	}
	return t
}

// comesBack returns an order, or the first of its lines. Staff look up what was
// paid, but one customer in eight comes without a word of which order it was.
func (m *madeUp) comesBack(s *sale, a *account, req orderRequest, when time.Time, whole, example bool) {
	back := req.Lines
	if !whole {
		back = back[:1]
	}
	ret := returnRequest{InvoiceNo: m.paper("C"), OccurredAt: at(when)}
	subjects := []subject{orderSubject(s.no)}
	for _, l := range back {
		ret.Lines = append(ret.Lines, returnLine{StockCode: l.StockCode, Description: l.Description, Quantity: -l.Quantity})
		subjects = append(subjects, productSubject(l.StockCode))
	}
	linked, owner := s, (*account)(nil)
	if a != nil {
		subjects = append(subjects, customerSubject(a.no))
		if !whole && m.percent(25) {
			linked, owner = nil, a
		}
	}
	takeBack := m.takeBack(linked, owner, ret, example)
	m.add(when, len(ret.Lines), func(ctx context.Context, c *client) error {
		if !s.is(statusShipped) {
			return nil
		}
		if err := s.lookUpPrices(ctx, c, ret.Lines); err != nil {
			return err
		}
		return takeBack(ctx, c)
	}, subjects...)
}

// wholeStory is the one order that is sure to go all the way: declined once,
// paid, invoiced, sent, and all of it returned.
func (m *madeUp) wholeStory(day time.Time) {
	m.shown = true
	a, when := m.accounts[0], day.Add(10*time.Hour)
	first, second := m.products[0], m.products[1]
	req := orderRequest{Channel: channelAccount, OccurredAt: at(when), Note: "gift, no invoice in the parcel",
		Fees: []feeLine{{Code: "POST", Description: "POSTAGE", Quantity: 1, Price: 18_000}},
		Lines: []lineRequest{
			{StockCode: first.code, Description: first.name, Quantity: 12, UnitPrice: ptr(first.cheap)},
			{StockCode: second.code, Description: second.name, Quantity: 2, UnitPrice: ptr(second.price)},
		}}
	s, subjects := m.newSale(a, req)
	m.add(when, 3, m.place(s, a, req), subjects...)
	order := orderSubject(s.no)
	minute := func(n int) time.Time { return when.Add(time.Duration(n) * time.Minute) }
	m.add(minute(5), 0, m.validate(s, checkResult{Type: "fraud", Result: "passed"}, minute(5)), order)
	m.add(minute(9), 0, m.pay(s, 1, "tok_declined_"+s.no, minute(9)), order)
	m.add(minute(12), 0, m.pay(s, 2, "tok_"+s.no, minute(12)), order)
	m.add(minute(13), 0, m.invoice(s, minute(13)), order)
	sent := nextWorkingDay(when).Add(9 * time.Hour)
	m.add(sent, 0, m.ship(s, carriers[0], "PX"+s.no, sent), order)
	m.comesBack(s, a, req, sent.AddDate(0, 0, 1), true, true)
}
