package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// The acts of customers and staff, each one REST call, as steps of a replay.
// What an act learns, such as the number of an order, stands in an account or
// a sale, which later steps of the same subject read.

// act is the work of a step.
type act func(ctx context.Context, c *client) error

// account is a customer as the replay knows one. The id is known once the
// registration is done.
type account struct {
	no        string
	id        int32
	addresses []int32
}

// sale is an order as the replay knows it.
type sale struct {
	no     string // names it in the replay and in its idempotency keys
	id     int32
	status string
	total  amount
}

// is says whether the order has that status, so that a later step makes sense.
func (s *sale) is(status string) bool { return s.status == status }

func (t *tally) register(a *account, req customerRequest) act {
	return func(ctx context.Context, c *client) error {
		var got customerRegistered
		if err := c.call(ctx, http.MethodPost, "/customers", "", req, &got); err != nil {
			return notTwice(err)
		}
		a.id, a.addresses = got.ID, got.AddressIDs
		t.more(&t.customers)
		return nil
	}
}

// move changes the first address of a customer.
func (t *tally) move(a *account, req addressRequest) act {
	return func(ctx context.Context, c *client) error {
		if len(a.addresses) == 0 {
			return nil
		}
		return c.call(ctx, http.MethodPut, fmt.Sprintf("/customers/%d/addresses/%d", a.id, a.addresses[0]), "", req, nil)
	}
}

// place sends an order. A guest has no account. The shop's total must be that
// of the lines and fees where all prices were agreed.
func (t *tally) place(s *sale, a *account, req orderRequest) act {
	return func(ctx context.Context, c *client) error {
		if a != nil {
			req.CustomerID = &a.id
		}
		var got orderPlaced
		if err := c.call(ctx, http.MethodPost, "/orders", "order-"+s.no, req, &got); err != nil {
			return err
		}
		t.more(&t.orders)
		s.id, s.status, s.total = got.ID, got.Status, got.Total
		if got.Status == statusRejected {
			t.more(&t.rejected)
			return nil
		}
		if got.Lines != len(req.Lines) || got.Fees != len(req.Fees) {
			return answerIsNo("order %s: %d lines and %d fees were sent, the shop has %d and %d", s.no, len(req.Lines), len(req.Fees), got.Lines, got.Fees)
		}
		var fees amount
		for _, f := range req.Fees {
			fees += f.Price * amount(f.Quantity)
		}
		if agreed, all := agreedTotal(req.Lines); all && agreed+fees != got.Total {
			return answerIsNo("order %s: lines and fees add up to %s, the shop says %s", s.no, agreed+fees, got.Total)
		}
		t.add(orderLines, got.Lines, got.Total-fees)
		t.add(feeLines, got.Fees, fees)
		return nil
	}
}

// agreedTotal adds up lines with agreed prices; all is false when one has none.
func agreedTotal(lines []lineRequest) (sum amount, all bool) {
	for _, l := range lines {
		if l.UnitPrice == nil {
			return 0, false
		}
		sum += *l.UnitPrice * amount(l.Quantity)
	}
	return sum, true
}

func (s *sale) path(rest string) string { return fmt.Sprintf("/orders/%d%s", s.id, rest) }

func (t *tally) validate(s *sale, fraud checkResult, when time.Time) act {
	return func(ctx context.Context, c *client) error {
		if !s.is(statusPlaced) {
			return nil
		}
		req := validationRequest{Checks: []checkResult{{Type: "details", Result: "passed"}, fraud}, OccurredAt: at(when)}
		var got statusAnswer
		if err := c.call(ctx, http.MethodPost, s.path("/validations"), "", req, &got); err != nil {
			return err
		}
		s.status = got.Status
		return nil
	}
}

// pay makes the n-th attempt to pay an order.
func (t *tally) pay(s *sale, n int, token string, when time.Time) act {
	return func(ctx context.Context, c *client) error {
		if !s.is(statusValidated) {
			return nil
		}
		req := paymentRequest{CardToken: token, Amount: &s.total, OccurredAt: at(when)}
		var got paymentAnswer
		if err := c.call(ctx, http.MethodPost, s.path("/payment-attempts"), fmt.Sprintf("payment-%s-%d", s.no, n), req, &got); err != nil {
			return err
		}
		if s.status = got.Status; s.is(statusPaid) {
			t.more(&t.paid)
		} else {
			t.more(&t.declined)
		}
		return nil
	}
}

func (t *tally) invoice(s *sale, when time.Time) act {
	return func(ctx context.Context, c *client) error {
		if !s.is(statusPaid) {
			return nil
		}
		return c.call(ctx, http.MethodPost, s.path("/invoices"), "", invoiceRequest{OccurredAt: at(when)}, nil)
	}
}

func (t *tally) ship(s *sale, carrier, tracking string, when time.Time) act {
	return func(ctx context.Context, c *client) error {
		if !s.is(statusPaid) {
			return nil
		}
		req := shipmentRequest{Carrier: carrier, Tracking: tracking, OccurredAt: at(when)}
		if err := c.call(ctx, http.MethodPost, s.path("/shipments"), "", req, nil); err != nil {
			return err
		}
		s.status = statusShipped
		t.more(&t.shipped)
		return nil
	}
}

// cancel calls off an order that nobody has paid.
func (t *tally) cancel(s *sale, reason string, when time.Time) act {
	return func(ctx context.Context, c *client) error {
		if s.is(statusPaid) || s.is(statusRejected) || s.is(statusShipped) || s.is(statusCancelled) {
			return nil
		}
		req := cancellationRequest{Reason: reason, OccurredAt: at(when)}
		if err := c.call(ctx, http.MethodPost, s.path("/cancellation"), "", req, nil); err != nil {
			return err
		}
		s.status = statusCancelled
		t.more(&t.cancelled)
		return nil
	}
}

// takeBack sends a credit note. With a sale it is sent only when that was
// shipped, and example marks the order to show when all of it came back.
func (t *tally) takeBack(s *sale, a *account, req returnRequest, example bool) act {
	return func(ctx context.Context, c *client) error {
		if s != nil {
			if !s.is(statusShipped) {
				return nil
			}
			req.OrderID = &s.id
		}
		if a != nil {
			req.CustomerID = &a.id
		}
		var got returnAccepted
		if err := c.call(ctx, http.MethodPost, "/returns", "", req, &got); err != nil {
			return err
		}
		var lines, fees amount
		for _, l := range req.Lines {
			lines += l.UnitPrice * amount(l.Quantity)
		}
		for _, f := range req.Fees {
			fees += f.Price * amount(f.Quantity)
		}
		if got.Lines != len(req.Lines) || got.Fees != len(req.Fees) || got.Amount != lines+fees {
			return answerIsNo("return %s: the shop has %d lines, %d fees and %s of it", req.InvoiceNo, got.Lines, got.Fees, got.Amount)
		}
		t.more(&t.returns)
		t.add(returnLines, got.Lines, lines)
		t.add(feeLines, got.Fees, fees)
		if s != nil {
			s.status = got.Status
		}
		if example && s.is(statusReturned) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.example = s.id
		}
		return nil
	}
}

// lookUpPrices fills in what the order's lines cost.
func (s *sale) lookUpPrices(ctx context.Context, c *client, lines []returnLine) error {
	var order orderDetail
	if err := c.call(ctx, http.MethodGet, s.path(""), "", nil, &order); err != nil {
		return err
	}
	paid := map[string]amount{}
	for _, l := range order.Lines {
		paid[l.StockCode] = l.UnitPrice
	}
	for i := range lines {
		lines[i].UnitPrice = paid[lines[i].StockCode]
	}
	return nil
}

func (t *tally) adjust(code string, req adjustmentRequest) act {
	return func(ctx context.Context, c *client) error {
		if err := c.call(ctx, http.MethodPost, productPath(code, "/stock-adjustments"), "", req, nil); err != nil {
			return err
		}
		t.add(adjustments, 1, req.Price*amount(req.Quantity))
		return nil
	}
}

func (t *tally) charge(a *account, req feeRequest) act {
	return func(ctx context.Context, c *client) error {
		if a != nil {
			req.CustomerID = &a.id
		}
		if err := c.call(ctx, http.MethodPost, "/fees", "", req, nil); err != nil {
			return err
		}
		t.add(feeLines, 1, req.Price*amount(req.Quantity))
		return nil
	}
}

// list puts products into the price list.
func (t *tally) list(products []productRequest) act {
	return func(ctx context.Context, c *client) error {
		return notTwice(c.call(ctx, http.MethodPost, "/price-lists", "", productsRequest{products}, nil))
	}
}

// notTwice explains why a shop refuses products or customers: it has them, so
// it had this replay before.
func notTwice(err error) error {
	if refusedWith(err, http.StatusConflict) {
		return answerIsNo("the shop has these products or customers already: replay into an empty shop, or with another --seed (%w)", err)
	}
	return err
}

// send is an act without anything to count or to learn.
func send(method, path string, req any) act {
	return func(ctx context.Context, c *client) error { return c.call(ctx, method, path, "", req, nil) }
}

func productPath(code, rest string) string { return "/products/" + url.PathEscape(code) + rest }
