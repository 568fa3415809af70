package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

type orderSummary struct {
	ID         int32           `json:"id" db:"id"`
	InvoiceNo  *string         `json:"invoiceNo" db:"invoice_no"`
	CustomerID *int32          `json:"customerId" db:"customer_id"`
	Status     string          `json:"status" db:"status"`
	Channel    string          `json:"channel" db:"channel"`
	Country    string          `json:"country" db:"country"`
	Total      amount          `json:"total" db:"total"`
	PlacedAt   time.Time       `json:"placedAt" db:"placed_at"`
	UpdatedAt  time.Time       `json:"updatedAt" db:"updated_at"`
	Note       *string         `json:"note" db:"note"`
	Attributes json.RawMessage `json:"attributes" db:"attributes"`
}

type orderLine struct {
	LineNo      int32     `json:"lineNo" db:"line_no"`
	StockCode   string    `json:"stockCode" db:"stock_code"`
	Description *string   `json:"description" db:"description"`
	Quantity    int32     `json:"quantity" db:"quantity"`
	UnitPrice   amount    `json:"unitPrice" db:"unit_price"`
	AddedAt     time.Time `json:"addedAt" db:"added_at"`
}

type validationLine struct {
	Type      string     `json:"type" db:"check_type"`
	Result    string     `json:"result" db:"result"`
	Detail    *string    `json:"detail" db:"detail"`
	CheckedAt *time.Time `json:"checkedAt" db:"checked_at"`
}

type attemptLine struct {
	ID          int32     `json:"id" db:"id"`
	Amount      amount    `json:"amount" db:"amount"`
	Result      string    `json:"result" db:"result"`
	Reason      *string   `json:"reason" db:"reason"`
	AttemptedAt time.Time `json:"attemptedAt" db:"attempted_at"`
}

type paymentLine struct {
	ID        int32     `json:"id" db:"id"`
	OrderID   int32     `json:"orderId" db:"order_id"`
	AttemptID int32     `json:"attemptId" db:"attempt_id"`
	Amount    amount    `json:"amount" db:"amount"`
	PaidAt    time.Time `json:"paidAt" db:"paid_at"`
}

type invoiceLine struct {
	ID        int32     `json:"id" db:"id"`
	OrderID   int32     `json:"orderId" db:"order_id"`
	InvoiceNo string    `json:"invoiceNo" db:"invoice_no"`
	Amount    amount    `json:"amount" db:"amount"`
	IssuedAt  time.Time `json:"issuedAt" db:"issued_at"`
}

type shipmentLine struct {
	ID        int32     `json:"id" db:"id"`
	OrderID   int32     `json:"orderId" db:"order_id"`
	Carrier   string    `json:"carrier" db:"carrier"`
	Tracking  *string   `json:"tracking" db:"tracking"`
	ShippedAt time.Time `json:"shippedAt" db:"shipped_at"`
}

type returnSummary struct {
	ID         int32       `json:"id" db:"id"`
	OrderID    *int32      `json:"orderId" db:"order_id"`
	InvoiceNo  string      `json:"invoiceNo" db:"invoice_no"`
	CustomerID *int32      `json:"customerId" db:"customer_id"`
	Country    string      `json:"country" db:"country"`
	Amount     amount      `json:"amount" db:"amount"`
	ReturnedAt time.Time   `json:"returnedAt" db:"returned_at"`
	Lines      []orderLine `json:"lines,omitempty" db:"-"`
}

type feeSummary struct {
	ID          int32     `json:"id" db:"id"`
	OrderID     *int32    `json:"orderId" db:"order_id"`
	ReturnID    *int32    `json:"returnId" db:"return_id"`
	CustomerID  *int32    `json:"customerId" db:"customer_id"`
	InvoiceNo   *string   `json:"invoiceNo" db:"invoice_no"`
	Code        string    `json:"code" db:"code"`
	Description *string   `json:"description" db:"description"`
	Quantity    int32     `json:"quantity" db:"quantity"`
	Price       amount    `json:"price" db:"price"`
	Amount      amount    `json:"amount" db:"amount"`
	ChargedAt   time.Time `json:"chargedAt" db:"charged_at"`
}

type adjustmentSummary struct {
	ID         int32     `json:"id" db:"id"`
	StockCode  string    `json:"stockCode" db:"stock_code"`
	Quantity   int32     `json:"quantity" db:"quantity"`
	Price      amount    `json:"price" db:"price"`
	Reason     *string   `json:"reason" db:"reason"`
	InvoiceNo  *string   `json:"invoiceNo" db:"invoice_no"`
	AdjustedAt time.Time `json:"adjustedAt" db:"adjusted_at"`
}

type orderDetail struct {
	orderSummary
	Lines       []orderLine      `json:"lines"`
	Rejections  []rejectionLine  `json:"rejections"`
	Validations []validationLine `json:"validations"`
	Attempts    []attemptLine    `json:"paymentAttempts"`
	Payments    []paymentLine    `json:"payments"`
	Invoices    []invoiceLine    `json:"invoices"`
	Shipments   []shipmentLine   `json:"shipments"`
	Fees        []feeSummary     `json:"fees"`
	Returns     []returnSummary  `json:"returns"`
}

// The lists, each with one condition of its own, so that the order and the
// pages read the same columns.
const (
	orderColumns = `SELECT id, invoice_no, customer_id, status, channel, country, (total * 1000)::bigint AS total,
		placed_at, updated_at, note, attributes FROM orders WHERE deleted_at IS NULL AND `
	paymentColumns  = `SELECT id, order_id, attempt_id, (amount * 1000)::bigint AS amount, paid_at FROM payments WHERE `
	attemptColumns  = `SELECT id, (amount * 1000)::bigint AS amount, result, reason, attempted_at FROM payment_attempts WHERE `
	invoiceColumns  = `SELECT id, order_id, invoice_no, (amount * 1000)::bigint AS amount, issued_at FROM invoices WHERE `
	shipmentColumns = `SELECT id, order_id, carrier, tracking, shipped_at FROM shipments WHERE `
	returnColumns   = `SELECT id, order_id, invoice_no, customer_id, country, (amount * 1000)::bigint AS amount, returned_at FROM returns WHERE `
	feeColumns      = `SELECT id, order_id, return_id, customer_id, invoice_no, code, description, quantity,
		(price * 1000)::bigint AS price, (amount * 1000)::bigint AS amount, charged_at FROM fees WHERE `
	adjustmentColumns = `SELECT a.id, p.stock_code, a.quantity, (a.price * 1000)::bigint AS price, a.reason, a.invoice_no, a.adjusted_at
		FROM stock_adjustments a JOIN products p ON p.id = a.product_id WHERE `
)

// rowsOf runs a query and reads every row into a T by the names of its columns.
func rowsOf[T any](ctx context.Context, s *shop, sql string, args ...any) ([]T, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if list == nil {
		list = []T{}
	}
	return list, err
}

// listOf makes the handler of a list in pages, with an optional ?orderId=.
func listOf[T any](s *shop, columns string, id func(T) int32) echo.HandlerFunc {
	sql := columns + `($3 = 0 OR order_id = $3) AND id > $1 ORDER BY id LIMIT $2`
	return func(c echo.Context) error {
		limit, after, err := window(c)
		if err != nil {
			return err
		}
		var order int64
		if q := c.QueryParam("orderId"); q != "" {
			if order, err = strconv.ParseInt(q, 10, 32); err != nil || order <= 0 {
				return newProblem(http.StatusUnprocessableEntity, "invalid-request", "orderId %q is no number of an order", q)
			}
		}
		list, err := rowsOf[T](c.Request().Context(), s, sql, after, limit+1, int32(order))
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		return c.JSON(http.StatusOK, makePage(list, limit, id))
	}
}

func (s *shop) listAdjustments(c echo.Context) error {
	limit, after, err := window(c)
	if err != nil {
		return err
	}
	list, err := rowsOf[adjustmentSummary](c.Request().Context(), s, adjustmentColumns+`($3 = '' OR p.stock_code = $3) AND a.id > $1 ORDER BY a.id LIMIT $2`,
		after, limit+1, c.QueryParam("stockCode"))
	if err != nil {
		return fmt.Errorf("list stock adjustments: %w", err)
	}
	return c.JSON(http.StatusOK, makePage(list, limit, func(a adjustmentSummary) int32 { return a.ID }))
}

func (s *shop) listOrders(c echo.Context) error {
	limit, after, err := window(c)
	if err != nil {
		return err
	}
	var customer int64
	if q := c.QueryParam("customerId"); q != "" {
		if customer, err = strconv.ParseInt(q, 10, 32); err != nil || customer <= 0 {
			return newProblem(http.StatusUnprocessableEntity, "invalid-request", "customerId %q is no number of a customer", q)
		}
	}
	list, err := rowsOf[orderSummary](c.Request().Context(), s,
		orderColumns+`id > $1 AND ($3 = '' OR status = $3) AND ($4 = 0 OR customer_id = $4) ORDER BY id LIMIT $2`,
		after, limit+1, c.QueryParam("status"), int32(customer))
	if err != nil {
		return fmt.Errorf("list orders: %w", err)
	}
	return c.JSON(http.StatusOK, makePage(list, limit, func(o orderSummary) int32 { return o.ID }))
}

// showOrder reads the order and all that hangs on it.
func (s *shop) showOrder(c echo.Context) error {
	id, err := pathID(c, "orderId")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	heads, err := rowsOf[orderSummary](ctx, s, orderColumns+`id = $1`, id)
	if err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	if len(heads) == 0 {
		return notFound("order", id)
	}
	d := orderDetail{orderSummary: heads[0]}
	var failed error
	keep := func(err error) { failed = errors.Join(failed, err) }
	d.Lines, err = rowsOf[orderLine](ctx, s, `SELECT i.line_no, p.stock_code, i.description, i.quantity, (i.unit_price * 1000)::bigint AS unit_price, i.added_at
		FROM order_items i JOIN products p ON p.id = i.product_id WHERE i.order_id = $1 ORDER BY i.line_no`, id)
	keep(err)
	d.Rejections, err = rowsOf[rejectionLine](ctx, s, `SELECT r.line_no, p.stock_code, r.wanted, r.available, (r.unit_price * 1000)::bigint AS unit_price
		FROM order_rejections r JOIN products p ON p.id = r.product_id WHERE r.order_id = $1 ORDER BY r.line_no`, id)
	keep(err)
	d.Validations, err = rowsOf[validationLine](ctx, s, `SELECT check_type, result, detail, checked_at FROM order_validations WHERE order_id = $1 ORDER BY check_type`, id)
	keep(err)
	d.Attempts, err = rowsOf[attemptLine](ctx, s, attemptColumns+`order_id = $1 ORDER BY id`, id)
	keep(err)
	d.Payments, err = rowsOf[paymentLine](ctx, s, paymentColumns+`order_id = $1 ORDER BY id`, id)
	keep(err)
	d.Invoices, err = rowsOf[invoiceLine](ctx, s, invoiceColumns+`order_id = $1 ORDER BY id`, id)
	keep(err)
	d.Shipments, err = rowsOf[shipmentLine](ctx, s, shipmentColumns+`order_id = $1 ORDER BY id`, id)
	keep(err)
	d.Fees, err = rowsOf[feeSummary](ctx, s, feeColumns+`order_id = $1 ORDER BY id`, id)
	keep(err)
	d.Returns, err = rowsOf[returnSummary](ctx, s, returnColumns+`order_id = $1 ORDER BY id`, id)
	keep(err)
	if failed != nil {
		return fmt.Errorf("read order: %w", failed)
	}
	return c.JSON(http.StatusOK, d)
}

func (s *shop) showReturn(c echo.Context) error {
	id, err := pathID(c, "returnId")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	heads, err := rowsOf[returnSummary](ctx, s, returnColumns+`id = $1`, id)
	if err != nil {
		return fmt.Errorf("read return: %w", err)
	}
	if len(heads) == 0 {
		return notFound("return", id)
	}
	heads[0].Lines, err = rowsOf[orderLine](ctx, s, `SELECT i.line_no, p.stock_code, i.description, i.quantity, (i.unit_price * 1000)::bigint AS unit_price, i.added_at
		FROM return_items i JOIN products p ON p.id = i.product_id WHERE i.return_id = $1 ORDER BY i.line_no`, id)
	if err != nil {
		return fmt.Errorf("read return: %w", err)
	}
	return c.JSON(http.StatusOK, heads[0])
}
