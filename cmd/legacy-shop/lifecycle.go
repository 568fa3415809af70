package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"
)

// What happens to an order after it was placed. Each step is a transaction of
// its own and starts by locking the order.

type checkResult struct {
	Type   string `json:"type"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
}

type validationRequest struct {
	Checks     []checkResult `json:"checks"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

type statusAnswer struct {
	OrderID int32  `json:"orderId"`
	Status  string `json:"status"`
}

type paymentRequest struct {
	CardToken  string        `json:"cardToken"`
	Amount     *amount       `json:"amount,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

type paymentAnswer struct {
	AttemptID int32  `json:"attemptId"`
	PaymentID *int32 `json:"paymentId,omitempty"`
	Result    string `json:"result"`
	Reason    string `json:"reason,omitempty"`
	Amount    amount `json:"amount"`
	Status    string `json:"status"`
}

type invoiceRequest struct {
	InvoiceNo  string        `json:"invoiceNo,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

type invoiceAnswer struct {
	ID        int32  `json:"id"`
	InvoiceNo string `json:"invoiceNo"`
	Amount    amount `json:"amount"`
}

type shipmentRequest struct {
	Carrier    string        `json:"carrier"`
	Tracking   string        `json:"tracking,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

type cancellationRequest struct {
	Reason     string        `json:"reason,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

// orderHead is what the steps need to know of an order.
type orderHead struct {
	id        int32
	status    string
	total     amount
	invoiceNo *string
}

func lockOrder(ctx context.Context, tx pgx.Tx, id int32) (orderHead, error) {
	o := orderHead{id: id}
	err := tx.QueryRow(ctx, `SELECT status, (total * 1000)::bigint, invoice_no FROM orders
		WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE`, id).Scan(&o.status, &o.total, &o.invoiceNo)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, notFound("order", id)
	}
	return o, err
}

// must refuses a step that the order's status does not allow.
func (o orderHead) must(step string, allowed ...string) error {
	if slices.Contains(allowed, o.status) {
		return nil
	}
	return conflict("order %d is %s; only an order that is %s can be %s", o.id, o.status, strings.Join(allowed, " or "), step)
}

func queueStatus(batch *pgx.Batch, order int32, status string, when time.Time) {
	batch.Queue(`UPDATE orders SET status = $2, updated_at = $3 WHERE id = $1`, order, status, when)
}

// validateOrder records results of checks. When none is pending any more the
// order is validated, or its validation has failed.
func (s *shop) validateOrder(c echo.Context) error {
	id, err := pathID(c, "orderId")
	if err != nil {
		return err
	}
	var req validationRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.check(len(req.Checks) >= 1 && len(req.Checks) <= 20, "checks", "must be 1 to 20")
	for i, check := range req.Checks {
		prefix := fmt.Sprintf("checks[%d].", i)
		wrong.text(check.Type, prefix+"type", true, 40)
		wrong.text(check.Detail, prefix+"detail", false, 500)
		wrong.check(check.Result == "passed" || check.Result == "failed", prefix+"result", "must be passed or failed")
	}
	if err := wrong.err(); err != nil {
		return err
	}
	answer := statusAnswer{id, statusPlaced}
	ctx, when := c.Request().Context(), req.OccurredAt.or(s.now())
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		o, err := lockOrder(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := o.must("validated", statusPlaced); err != nil {
			return err
		}
		var pending, failed int
		batch := &pgx.Batch{}
		for _, check := range req.Checks {
			batch.Queue(`INSERT INTO order_validations (order_id, check_type, result, detail, checked_at) VALUES ($1, $2, $3, nullif($4,''), $5)
				ON CONFLICT (order_id, check_type) DO UPDATE SET result = excluded.result, detail = excluded.detail, checked_at = excluded.checked_at`,
				id, check.Type, check.Result, check.Detail, when)
		}
		batch.Queue(`SELECT count(*) FILTER (WHERE result = 'pending'), count(*) FILTER (WHERE result = 'failed')
			FROM order_validations WHERE order_id = $1`, id).QueryRow(func(row pgx.Row) error { return row.Scan(&pending, &failed) })
		if err := tx.SendBatch(ctx, batch).Close(); err != nil || pending > 0 {
			return err
		}
		if answer.Status = statusValidated; failed > 0 {
			answer.Status = statusValidationFailed
		}
		_, err = tx.Exec(ctx, `UPDATE orders SET status = $2, updated_at = $3 WHERE id = $1`, id, answer.Status, when)
		return err
	})
	if err != nil {
		return fmt.Errorf("validate order: %w", err)
	}
	return c.JSON(http.StatusOK, answer)
}

// attemptPayment asks the card company, which here is a rule: a token that
// begins with tok_declined is declined, every other is approved.
func (s *shop) attemptPayment(c echo.Context) error {
	id, err := pathID(c, "orderId")
	if err != nil {
		return err
	}
	var req paymentRequest
	body, err := decode(c, &req)
	if err != nil {
		return err
	}
	var wrong complaints
	wrong.text(req.CardToken, "cardToken", true, 100)
	if req.Amount != nil {
		wrong.price(*req.Amount, "amount", 0)
	}
	if err := wrong.err(); err != nil {
		return err
	}
	return s.onceOnly(c, body, func(ctx context.Context, tx pgx.Tx) (int, any, error) {
		answer, err := s.pay(ctx, tx, id, req)
		if err != nil {
			return 0, nil, fmt.Errorf("attempt payment: %w", err)
		}
		return http.StatusCreated, answer, nil
	})
}

func (s *shop) pay(ctx context.Context, tx pgx.Tx, id int32, req paymentRequest) (*paymentAnswer, error) {
	o, err := lockOrder(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	if err := o.must("paid", statusValidated); err != nil {
		return nil, err
	}
	if req.Amount != nil && *req.Amount != o.total {
		return nil, newProblem(http.StatusUnprocessableEntity, "invalid-request", "order %d costs %s, not %s", id, o.total, *req.Amount)
	}
	answer := &paymentAnswer{Result: "approved", Amount: o.total, Status: statusPaid}
	if strings.HasPrefix(req.CardToken, "tok_declined") {
		answer.Result, answer.Reason, answer.Status = "declined", "insufficient funds", o.status
	}
	when := req.OccurredAt.or(s.now())
	err = tx.QueryRow(ctx, `INSERT INTO payment_attempts (order_id, card_token, amount, result, reason, attempted_at)
		VALUES ($1, $2, $3::bigint * 0.001, $4, nullif($5,''), $6) RETURNING id`,
		id, req.CardToken, o.total, answer.Result, answer.Reason, when).Scan(&answer.AttemptID)
	if err != nil || answer.Result == "declined" {
		return answer, err
	}
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO payments (order_id, attempt_id, amount, paid_at) VALUES ($1, $2, $3::bigint * 0.001, $4) RETURNING id`,
		id, answer.AttemptID, o.total, when).QueryRow(func(row pgx.Row) error { return row.Scan(&answer.PaymentID) })
	queueStatus(batch, id, statusPaid, when)
	return answer, tx.SendBatch(ctx, batch).Close()
}

// issueInvoice writes the one invoice of an order. Its number is the request's,
// else the order's, else the next one of the shop.
func (s *shop) issueInvoice(c echo.Context) error {
	id, err := pathID(c, "orderId")
	if err != nil {
		return err
	}
	var req invoiceRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.text(req.InvoiceNo, "invoiceNo", false, 40)
	if err := wrong.err(); err != nil {
		return err
	}
	var answer invoiceAnswer
	ctx, when := c.Request().Context(), req.OccurredAt.or(s.now())
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		o, err := lockOrder(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := o.must("invoiced", statusValidated, statusPaid, statusShipped); err != nil {
			return err
		}
		number := req.InvoiceNo
		if number == "" && o.invoiceNo != nil {
			number = *o.invoiceNo
		}
		answer.Amount = o.total
		err = tx.QueryRow(ctx, `WITH next AS (SELECT nextval('invoices_id_seq')::integer AS id)
			INSERT INTO invoices (id, order_id, invoice_no, amount, issued_at)
			SELECT id, $1, coalesce(nullif($2,''), (900000 + id)::text), $3::bigint * 0.001, $4 FROM next
			WHERE NOT EXISTS (SELECT FROM invoices WHERE order_id = $1) RETURNING id, invoice_no`,
			id, number, o.total, when).Scan(&answer.ID, &answer.InvoiceNo)
		if errors.Is(err, pgx.ErrNoRows) {
			return conflict("order %d has its invoice", id)
		}
		if err != nil || o.invoiceNo != nil && *o.invoiceNo == answer.InvoiceNo {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE orders SET invoice_no = $2, updated_at = $3 WHERE id = $1`, id, answer.InvoiceNo, when)
		return err
	})
	if err != nil {
		return fmt.Errorf("issue invoice: %w", err)
	}
	return c.JSON(http.StatusCreated, answer)
}

func (s *shop) shipOrder(c echo.Context) error {
	id, err := pathID(c, "orderId")
	if err != nil {
		return err
	}
	var req shipmentRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.text(req.Carrier, "carrier", true, 60)
	wrong.text(req.Tracking, "tracking", false, 60)
	if err := wrong.err(); err != nil {
		return err
	}
	var shipment int32
	ctx, when := c.Request().Context(), req.OccurredAt.or(s.now())
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		o, err := lockOrder(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := o.must("shipped", statusPaid); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(`INSERT INTO shipments (order_id, carrier, tracking, shipped_at) VALUES ($1, $2, nullif($3,''), $4) RETURNING id`,
			id, req.Carrier, req.Tracking, when).QueryRow(func(row pgx.Row) error { return row.Scan(&shipment) })
		queueStatus(batch, id, statusShipped, when)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("ship order: %w", err)
	}
	return c.JSON(http.StatusCreated, idAnswer{shipment})
}

// cancelOrder gives the goods of an order that is not paid yet back to the
// stock.
func (s *shop) cancelOrder(c echo.Context) error {
	id, err := pathID(c, "orderId")
	if err != nil {
		return err
	}
	var req cancellationRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.text(req.Reason, "reason", false, 500)
	if err := wrong.err(); err != nil {
		return err
	}
	ctx, when := c.Request().Context(), req.OccurredAt.or(s.now())
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		o, err := lockOrder(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := o.must("cancelled", statusPlaced, statusValidated, statusValidationFailed); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(`SELECT p.id FROM products p WHERE p.id IN (SELECT product_id FROM order_items WHERE order_id = $1) ORDER BY p.id FOR NO KEY UPDATE`, id)
		batch.Queue(`UPDATE orders SET status = 'cancelled', updated_at = $2,
			attributes = attributes || jsonb_strip_nulls(jsonb_build_object('cancelReason', nullif($3,''))) WHERE id = $1`, id, when, req.Reason)
		batch.Queue(`UPDATE products p SET stock = p.stock + i.quantity, updated_at = $2
			FROM (SELECT product_id, sum(quantity)::integer AS quantity FROM order_items WHERE order_id = $1 GROUP BY product_id) i
			WHERE p.id = i.product_id`, id, when)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("cancel order: %w", err)
	}
	return c.JSON(http.StatusOK, statusAnswer{id, statusCancelled})
}

// hideOrder is the soft delete of an order that came to nothing.
func (s *shop) hideOrder(c echo.Context) error {
	id, err := pathID(c, "orderId")
	if err != nil {
		return err
	}
	ctx, when := c.Request().Context(), at(s.now()).or(s.now())
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		o, err := lockOrder(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := o.must("deleted", statusCancelled, statusRejected); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE orders SET deleted_at = $2, updated_at = $2 WHERE id = $1`, id, when)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete order: %w", err)
	}
	return c.NoContent(http.StatusNoContent)
}

// onlyOne turns a statement that hit no row into the given error.
func onlyOne(otherwise error) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != 1 {
			return otherwise
		}
		return nil
	}
}
