package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

// Channels of orders. Guests have no account and pay more.
const (
	channelAccount = "account"
	channelWeb     = "web"
	channelGuest   = "guest"
)

func knownChannel(s string) bool {
	return s == channelAccount || s == channelWeb || s == channelGuest
}

// Statuses of an order, as they stand in the column.
const (
	statusPlaced           = "placed"
	statusRejected         = "rejected"
	statusValidated        = "validated"
	statusValidationFailed = "validation_failed"
	statusPaid             = "paid"
	statusShipped          = "shipped"
	statusCancelled        = "cancelled"
	statusReturned         = "returned"
)

type lineRequest struct {
	StockCode   string        `json:"stockCode"`
	Description string        `json:"description,omitempty"`
	Quantity    int32         `json:"quantity"`
	UnitPrice   *amount       `json:"unitPrice,omitempty"`
	OccurredAt  *businessTime `json:"occurredAt,omitempty"`
}

type orderRequest struct {
	CustomerID *int32          `json:"customerId,omitempty"`
	CartID     *int32          `json:"cartId,omitempty"`
	InvoiceNo  string          `json:"invoiceNo,omitempty"`
	Channel    string          `json:"channel,omitempty"`
	Country    string          `json:"country,omitempty"`
	Note       string          `json:"note,omitempty"`
	Attributes json.RawMessage `json:"attributes,omitempty"`
	Lines      []lineRequest   `json:"lines"`
	Fees       []feeLine       `json:"fees,omitempty"`
	OccurredAt *businessTime   `json:"occurredAt,omitempty"`
}

func (r *orderRequest) check() error {
	var wrong complaints
	wrong.text(r.InvoiceNo, "invoiceNo", false, 40)
	wrong.text(r.Country, "country", r.CustomerID == nil, 60)
	wrong.text(r.Note, "note", false, 1<<20)
	if r.Channel == "" {
		r.Channel = channelAccount
		if r.CustomerID == nil {
			r.Channel = channelGuest
		}
	}
	wrong.check(knownChannel(r.Channel), "channel", "must be account, web or guest")
	wrong.check((r.Channel == channelGuest) == (r.CustomerID == nil), "channel", "is guest when there is no customerId, and only then")
	if len(r.Attributes) == 0 {
		r.Attributes = json.RawMessage("{}")
	}
	wrong.check(r.Attributes[0] == '{', "attributes", "must be an object")
	wrong.check(len(r.Lines) >= 1 && len(r.Lines) <= maxLines, "lines", "must be 1 to %d", maxLines)
	wrong.check(len(r.Fees) <= maxLines, "fees", "may be %d", maxLines)
	for i := range r.Lines {
		l, prefix := &r.Lines[i], fmt.Sprintf("lines[%d].", i)
		wrong.text(l.StockCode, prefix+"stockCode", true, 40)
		wrong.text(l.Description, prefix+"description", false, 500)
		wrong.quantity(l.Quantity, prefix+"quantity", 1)
		if l.UnitPrice != nil {
			wrong.price(*l.UnitPrice, prefix+"unitPrice", 0)
		}
	}
	for i := range r.Fees {
		r.Fees[i].check(&wrong, fmt.Sprintf("fees[%d].", i))
	}
	return wrong.err()
}

// orderPlaced is the answer to a placed order, and to a rejected one.
type orderPlaced struct {
	ID         int32           `json:"id"`
	Status     string          `json:"status"`
	InvoiceNo  string          `json:"invoiceNo,omitempty"`
	Total      amount          `json:"total"`
	Lines      int             `json:"lines"`
	Fees       int             `json:"fees"`
	Rejections []rejectionLine `json:"rejections,omitempty"`
}

// rejectionLine is one line of a rejected order: what was wanted and what
// there was.
type rejectionLine struct {
	LineNo    int32  `json:"lineNo" db:"line_no"`
	StockCode string `json:"stockCode" db:"stock_code"`
	Wanted    int32  `json:"wanted" db:"wanted"`
	Available int32  `json:"available" db:"available"`
	UnitPrice amount `json:"unitPrice" db:"unit_price"`
}

// placeOrder writes the order, its lines, its open validations, its fees and
// the stock of its products in one transaction.
func (s *shop) placeOrder(c echo.Context) error {
	var req orderRequest
	body, err := decode(c, &req)
	if err != nil {
		return err
	}
	if err := req.check(); err != nil {
		return err
	}
	return s.onceOnly(c, body, func(ctx context.Context, tx pgx.Tx) (int, any, error) {
		answer, err := s.place(ctx, tx, &req)
		if err != nil {
			return 0, nil, fmt.Errorf("place order: %w", err)
		}
		return http.StatusCreated, answer, nil
	})
}

func (s *shop) place(ctx context.Context, tx pgx.Tx, req *orderRequest) (*orderPlaced, error) {
	p := placing{req: req, when: req.OccurredAt.or(s.now())}
	if err := p.lookUp(ctx, tx); err != nil {
		return nil, err
	}
	if err := p.price(); err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	answer := &orderPlaced{ID: p.orderID, InvoiceNo: req.InvoiceNo, Total: p.total}
	if answer.Rejections = p.shortages(); answer.Rejections != nil {
		answer.Status = statusRejected
		p.queueOrder(batch, statusRejected)
		p.queueRejections(batch, answer.Rejections)
	} else {
		answer.Status, answer.Lines, answer.Fees = statusPlaced, len(req.Lines), len(req.Fees)
		p.queueOrder(batch, statusPlaced)
		p.queueLines(batch)
		queueFees(batch, req.Fees, feeOf{order: &p.orderID, customer: req.CustomerID, invoiceNo: req.InvoiceNo, country: p.country, when: p.when})
	}
	return answer, tx.SendBatch(ctx, batch).Close()
}

// placing is one order on its way into the tables.
type placing struct {
	req      *orderRequest
	when     time.Time
	orderID  int32
	country  string
	products map[string]*productAnswer
	order    []*productAnswer // by id, the order of their locks
	wanted   map[int32]int64
	units    []amount
	total    amount
}

// lookUp draws the order's number, checks customer and cart, and locks the
// products by id, so that two orders never wait for each other in a circle.
func (p *placing) lookUp(ctx context.Context, tx pgx.Tx) error {
	batch := &pgx.Batch{}
	batch.Queue(`SELECT nextval('orders_id_seq')::integer`).QueryRow(func(row pgx.Row) error { return row.Scan(&p.orderID) })
	p.country = p.req.Country
	if p.req.CustomerID != nil {
		batch.Queue(`SELECT country FROM customers WHERE id = $1 AND deleted_at IS NULL`, *p.req.CustomerID).QueryRow(func(row pgx.Row) error {
			var country string
			err := row.Scan(&country)
			if errors.Is(err, pgx.ErrNoRows) {
				return newProblem(http.StatusUnprocessableEntity, "invalid-request", "there is no customer %d", *p.req.CustomerID)
			}
			if p.country == "" {
				p.country = country
			}
			return err
		})
	}
	if p.req.CartID != nil {
		batch.Queue(`UPDATE carts SET status = 'ordered' WHERE id = $1 AND status = 'open'`, *p.req.CartID).Exec(onlyOne(
			newProblem(http.StatusUnprocessableEntity, "invalid-request", "there is no open cart %d", *p.req.CartID)))
	}
	codes := make([]string, 0, len(p.req.Lines))
	p.products = make(map[string]*productAnswer, len(p.req.Lines))
	for i := range p.req.Lines {
		code := p.req.Lines[i].StockCode
		if _, seen := p.products[code]; !seen {
			p.products[code] = nil
			codes = append(codes, code)
		}
	}
	batch.Queue(`SELECT id, stock_code, stock, (price * 1000)::bigint, tier_quantity, (tier_price * 1000)::bigint
		FROM products WHERE stock_code = ANY($1) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE`, codes).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			q := &productAnswer{}
			if err := rows.Scan(&q.ID, &q.StockCode, &q.Stock, &q.Price, &q.TierQuantity, &q.TierPrice); err != nil {
				return err
			}
			p.products[q.StockCode] = q
			p.order = append(p.order, q)
		}
		return rows.Err()
	})
	return tx.SendBatch(ctx, batch).Close()
}

// price gives every line its price, the agreed one or the shop's own, and adds
// up the order.
func (p *placing) price() error {
	var wrong complaints
	p.units = make([]amount, len(p.req.Lines))
	p.wanted = make(map[int32]int64, len(p.products))
	for i := range p.req.Lines {
		l := &p.req.Lines[i]
		product := p.products[l.StockCode]
		if product == nil {
			wrong.check(false, fmt.Sprintf("lines[%d].stockCode", i), "there is no product %s", l.StockCode)
			continue
		}
		if p.units[i] = quote(*product, p.req.Channel, l.Quantity); l.UnitPrice != nil {
			p.units[i] = *l.UnitPrice
		}
		p.wanted[product.ID] += int64(l.Quantity)
		p.addUp(p.units[i], l.Quantity)
	}
	for i := range p.req.Fees {
		p.addUp(p.req.Fees[i].Price, p.req.Fees[i].Quantity)
	}
	wrong.check(p.total >= 0 && p.total <= maxAmount, "lines", "and fees add up to a total outside 0 to %s", maxAmount)
	return wrong.err()
}

// addUp saturates just outside what a column can hold; the caller refuses that.
func (p *placing) addUp(unit amount, quantity int32) {
	p.total = max(-maxAmount-1, min(maxAmount+1, p.total+unit*amount(quantity)))
}

// shortages lists all lines of an order that cannot be filled, or nothing.
func (p *placing) shortages() []rejectionLine {
	short := false
	for _, product := range p.order {
		short = short || p.wanted[product.ID] > int64(product.Stock)
	}
	if !short {
		return nil
	}
	list := make([]rejectionLine, len(p.req.Lines))
	for i, l := range p.req.Lines {
		list[i] = rejectionLine{int32(i + 1), l.StockCode, l.Quantity, p.products[l.StockCode].Stock, p.units[i]}
	}
	return list
}

func (p *placing) queueOrder(batch *pgx.Batch, status string) {
	batch.Queue(`INSERT INTO orders (id, invoice_no, customer_id, status, channel, country, total, placed_at, updated_at, note, attributes)
		VALUES ($1, nullif($2,''), $3, $4, $5, $6, $7::bigint * 0.001, $8, $8, nullif($9,''), $10)`,
		p.orderID, p.req.InvoiceNo, p.req.CustomerID, status, p.req.Channel, p.country, p.total, p.when, p.req.Note, p.req.Attributes)
}

func (p *placing) queueRejections(batch *pgx.Batch, list []rejectionLine) {
	for i, l := range list {
		batch.Queue(`INSERT INTO order_rejections (order_id, line_no, product_id, wanted, available, unit_price)
			VALUES ($1, $2, $3, $4, $5, $6::bigint * 0.001)`, p.orderID, l.LineNo, p.products[p.req.Lines[i].StockCode].ID, l.Wanted, l.Available, l.UnitPrice)
	}
}

func (p *placing) queueLines(batch *pgx.Batch) {
	n := len(p.req.Lines)
	ids, texts, quantities := make([]int32, n), make([]string, n), make([]int32, n)
	prices, times := make([]int64, n), make([]time.Time, n)
	for i, l := range p.req.Lines {
		ids[i], texts[i], quantities[i] = p.products[l.StockCode].ID, l.Description, l.Quantity
		prices[i], times[i] = int64(p.units[i]), l.OccurredAt.or(p.when)
	}
	batch.Queue(`INSERT INTO order_items (order_id, line_no, product_id, description, quantity, unit_price, added_at)
		SELECT $1, u.line, u.product, nullif(u.description,''), u.quantity, u.price * 0.001, u.added
		FROM unnest($2::integer[], $3::text[], $4::integer[], $5::bigint[], $6::timestamp[])
			WITH ORDINALITY AS u(product, description, quantity, price, added, line)`, p.orderID, ids, texts, quantities, prices, times)
	batch.Queue(`INSERT INTO order_validations (order_id, check_type, result, checked_at)
		VALUES ($1, 'inventory', 'passed', $2), ($1, 'details', 'pending', NULL), ($1, 'fraud', 'pending', NULL)`, p.orderID, p.when)
	taken := make([]int32, len(p.order))
	locked := make([]int32, len(p.order))
	for i, product := range p.order {
		locked[i], taken[i] = product.ID, -int32(p.wanted[product.ID])
	}
	queueStock(batch, locked, taken, p.when)
}

// queueStock adds to the stock of products, all of which the transaction has
// locked. A negative number takes away.
func queueStock(batch *pgx.Batch, products, added []int32, when time.Time) {
	batch.Queue(`UPDATE products p SET stock = p.stock + u.added, updated_at = $3
		FROM unnest($1::integer[], $2::integer[]) AS u(id, added) WHERE p.id = u.id`, products, added, when)
}
