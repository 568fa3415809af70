package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

// A return is written as a credit note: its quantities are negative, as they
// stand on the paper.

type returnLine struct {
	StockCode   string        `json:"stockCode"`
	Description string        `json:"description,omitempty"`
	Quantity    int32         `json:"quantity"`
	UnitPrice   amount        `json:"unitPrice"`
	OccurredAt  *businessTime `json:"occurredAt,omitempty"`
}

type returnRequest struct {
	OrderID    *int32        `json:"orderId,omitempty"`
	CustomerID *int32        `json:"customerId,omitempty"`
	InvoiceNo  string        `json:"invoiceNo"`
	Country    string        `json:"country,omitempty"`
	Lines      []returnLine  `json:"lines"`
	Fees       []feeLine     `json:"fees,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

func (r *returnRequest) check() error {
	var wrong complaints
	wrong.text(r.InvoiceNo, "invoiceNo", true, 40)
	wrong.text(r.Country, "country", r.CustomerID == nil && r.OrderID == nil, 60)
	wrong.check(len(r.Lines) >= 1 && len(r.Lines) <= maxLines, "lines", "must be 1 to %d", maxLines)
	wrong.check(len(r.Fees) <= maxLines, "fees", "may be %d", maxLines)
	for i, l := range r.Lines {
		prefix := fmt.Sprintf("lines[%d].", i)
		wrong.text(l.StockCode, prefix+"stockCode", true, 40)
		wrong.text(l.Description, prefix+"description", false, 500)
		wrong.check(l.Quantity <= -1 && l.Quantity >= -maxQuantity, prefix+"quantity", "must be %d to -1", -maxQuantity)
		wrong.price(l.UnitPrice, prefix+"unitPrice", 0)
	}
	for i := range r.Fees {
		r.Fees[i].check(&wrong, fmt.Sprintf("fees[%d].", i))
	}
	return wrong.err()
}

type returnAccepted struct {
	ID     int32  `json:"id"`
	Amount amount `json:"amount"`
	Lines  int    `json:"lines"`
	Fees   int    `json:"fees"`
	Status string `json:"orderStatus,omitempty"`
}

// acceptReturn books a credit note and puts the goods back. With an orderId no
// more can come back than was shipped, and the order is returned when nothing
// is left of it at the customer's.
func (s *shop) acceptReturn(c echo.Context) error {
	var req returnRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	if err := req.check(); err != nil {
		return err
	}
	var answer *returnAccepted
	ctx := c.Request().Context()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		answer, err = s.takeBack(ctx, tx, &req)
		return err
	})
	if err != nil {
		return fmt.Errorf("accept return: %w", err)
	}
	return c.JSON(http.StatusCreated, answer)
}

func (s *shop) takeBack(ctx context.Context, tx pgx.Tx, req *returnRequest) (*returnAccepted, error) {
	when := req.OccurredAt.or(s.now())
	if req.OrderID != nil {
		if err := linkReturn(ctx, tx, req); err != nil {
			return nil, err
		}
	}
	products, back, err := lockReturned(ctx, tx, req)
	if err != nil {
		return nil, err
	}
	answer := &returnAccepted{Lines: len(req.Lines), Fees: len(req.Fees)}
	for _, l := range req.Lines {
		answer.Amount += l.UnitPrice * amount(l.Quantity)
	}
	for _, f := range req.Fees {
		answer.Amount += f.Price * amount(f.Quantity)
	}
	err = tx.QueryRow(ctx, `INSERT INTO returns (order_id, invoice_no, customer_id, country, amount, returned_at)
		SELECT $1, $2, $3, coalesce(nullif($4,''), (SELECT country FROM customers WHERE id = $3), (SELECT country FROM orders WHERE id = $1), ''),
			$5::bigint * 0.001, $6 RETURNING id, country`,
		req.OrderID, req.InvoiceNo, req.CustomerID, req.Country, answer.Amount, when).Scan(&answer.ID, &req.Country)
	if err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	queueReturnLines(batch, answer.ID, req, products, when)
	queueFees(batch, req.Fees, feeOf{order: req.OrderID, ret: &answer.ID, customer: req.CustomerID, invoiceNo: req.InvoiceNo, country: req.Country, when: when})
	ids, added := make([]int32, 0, len(back)), make([]int32, 0, len(back))
	for id, n := range back {
		ids, added = append(ids, id), append(added, n)
	}
	queueStock(batch, ids, added, when)
	if req.OrderID != nil {
		batch.Queue(`UPDATE orders SET status = CASE WHEN
				(SELECT sum(quantity) FROM order_items WHERE order_id = $1) +
				(SELECT sum(i.quantity) FROM return_items i JOIN returns r ON r.id = i.return_id WHERE r.order_id = $1) <= 0
			THEN 'returned' ELSE status END, updated_at = $2 WHERE id = $1 RETURNING status`, *req.OrderID, when).
			QueryRow(func(row pgx.Row) error { return row.Scan(&answer.Status) })
	}
	return answer, tx.SendBatch(ctx, batch).Close()
}

// linkReturn locks the order of a return, completes the request from it, and
// refuses what was not bought or came back already.
func linkReturn(ctx context.Context, tx pgx.Tx, req *returnRequest) error {
	o, err := lockOrder(ctx, tx, *req.OrderID)
	if err != nil {
		return err
	}
	if err := o.must("returned", statusShipped); err != nil {
		return err
	}
	left := map[string]int64{}
	var customer *int32
	batch := &pgx.Batch{}
	batch.Queue(`SELECT customer_id FROM orders WHERE id = $1`, o.id).QueryRow(func(row pgx.Row) error { return row.Scan(&customer) })
	batch.Queue(`SELECT p.stock_code, sum(i.quantity) FROM (
			SELECT product_id, quantity FROM order_items WHERE order_id = $1
			UNION ALL
			SELECT i.product_id, i.quantity FROM return_items i JOIN returns r ON r.id = i.return_id WHERE r.order_id = $1
		) i JOIN products p ON p.id = i.product_id GROUP BY p.stock_code`, o.id).Query(func(rows pgx.Rows) error {
		var code string
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&code, &n}, func() error {
			left[code] = n
			return nil
		})
		return err
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	var wrong complaints
	wrong.check(req.CustomerID == nil || customer != nil && *customer == *req.CustomerID, "customerId", "is not the customer of order %d", o.id)
	for i, l := range req.Lines {
		left[l.StockCode] += int64(l.Quantity)
		wrong.check(left[l.StockCode] >= 0, fmt.Sprintf("lines[%d].quantity", i), "is more than is left of %s in order %d", l.StockCode, o.id)
	}
	req.CustomerID = customer
	return wrong.err()
}

// lockReturned locks the products of a return by id and adds up what comes
// back of each.
func lockReturned(ctx context.Context, tx pgx.Tx, req *returnRequest) (products map[string]int32, back map[int32]int32, err error) {
	codes := make([]string, len(req.Lines))
	for i, l := range req.Lines {
		codes[i] = l.StockCode
	}
	products, back = map[string]int32{}, map[int32]int32{}
	rows, err := tx.Query(ctx, `SELECT id, stock_code FROM products WHERE stock_code = ANY($1) ORDER BY id FOR NO KEY UPDATE`, codes)
	if err != nil {
		return nil, nil, err
	}
	var id int32
	var code string
	if _, err := pgx.ForEachRow(rows, []any{&id, &code}, func() error {
		products[code] = id
		return nil
	}); err != nil {
		return nil, nil, err
	}
	var wrong complaints
	for i, l := range req.Lines {
		id, known := products[l.StockCode]
		wrong.check(known, fmt.Sprintf("lines[%d].stockCode", i), "there is no product %s", l.StockCode)
		back[id] -= l.Quantity
		wrong.check(back[id] <= 100*maxQuantity, fmt.Sprintf("lines[%d].quantity", i), "adds up to more than %d", 100*maxQuantity)
	}
	return products, back, wrong.err()
}

func queueReturnLines(batch *pgx.Batch, id int32, req *returnRequest, products map[string]int32, when time.Time) {
	for i, l := range req.Lines {
		batch.Queue(`INSERT INTO return_items (return_id, line_no, product_id, description, quantity, unit_price, added_at)
			VALUES ($1, $2, $3, nullif($4,''), $5, $6::bigint * 0.001, $7)`,
			id, i+1, products[l.StockCode], l.Description, l.Quantity, l.UnitPrice, l.OccurredAt.or(when))
	}
}

// feeLine is a charge that is no product: postage, a bank's charge, a manual
// correction, a discount. Its price may be negative.
type feeLine struct {
	Code        string        `json:"code"`
	Description string        `json:"description,omitempty"`
	Quantity    int32         `json:"quantity"`
	Price       amount        `json:"price"`
	OccurredAt  *businessTime `json:"occurredAt,omitempty"`
}

func (f *feeLine) check(wrong *complaints, prefix string) {
	wrong.text(f.Code, prefix+"code", true, 40)
	wrong.text(f.Description, prefix+"description", false, 500)
	wrong.check(f.Quantity != 0, prefix+"quantity", "must not be 0")
	wrong.quantity(f.Quantity, prefix+"quantity", -maxQuantity)
	wrong.price(f.Price, prefix+"price", -maxAmount)
	total := f.Price * amount(f.Quantity)
	wrong.check(total >= -maxAmount && total <= maxAmount, prefix+"quantity", "times price must be at most %s", maxAmount)
}

type feeRequest struct {
	OrderID    *int32 `json:"orderId,omitempty"`
	CustomerID *int32 `json:"customerId,omitempty"`
	InvoiceNo  string `json:"invoiceNo,omitempty"`
	Country    string `json:"country,omitempty"`
	feeLine
}

// feeOf says what fees hang on.
type feeOf struct {
	order, ret, customer *int32
	invoiceNo, country   string
	when                 time.Time
}

func queueFees(batch *pgx.Batch, fees []feeLine, of feeOf) {
	for _, f := range fees {
		queueFee(batch, f, of)
	}
}

func queueFee(batch *pgx.Batch, f feeLine, of feeOf) *pgx.QueuedQuery {
	return batch.Queue(`INSERT INTO fees (order_id, return_id, customer_id, invoice_no, code, description, quantity, price, amount, country, charged_at)
		VALUES ($1, $2, $3, nullif($4,''), $5, nullif($6,''), $7, $8::bigint * 0.001, $9::bigint * 0.001, nullif($10,''), $11) RETURNING id`,
		of.order, of.ret, of.customer, of.invoiceNo, f.Code, f.Description, f.Quantity, f.Price, f.Price*amount(f.Quantity), of.country, f.OccurredAt.or(of.when))
}

// chargeFee books a fee that belongs to no order, or to one that exists.
func (s *shop) chargeFee(c echo.Context) error {
	var req feeRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	req.feeLine.check(&wrong, "")
	wrong.text(req.InvoiceNo, "invoiceNo", false, 40)
	wrong.text(req.Country, "country", false, 60)
	if err := wrong.err(); err != nil {
		return err
	}
	var id int32
	batch := &pgx.Batch{}
	queueFee(batch, req.feeLine, feeOf{order: req.OrderID, customer: req.CustomerID, invoiceNo: req.InvoiceNo, country: req.Country, when: s.now().UTC()}).
		QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
	if err := s.pool.SendBatch(c.Request().Context(), batch).Close(); err != nil {
		return fmt.Errorf("charge fee: %w", err)
	}
	return c.JSON(http.StatusCreated, idAnswer{id})
}
