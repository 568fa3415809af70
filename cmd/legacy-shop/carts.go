package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

// A cart is request and response only: it says what somebody might buy, and
// nothing has happened until it is ordered.

type cartRequest struct {
	CustomerID *int32        `json:"customerId,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

type cartItemRequest struct {
	Quantity int32 `json:"quantity"`
}

type cartAnswer struct {
	ID         int32      `json:"id" db:"id"`
	CustomerID *int32     `json:"customerId" db:"customer_id"`
	Status     string     `json:"status" db:"status"`
	CreatedAt  time.Time  `json:"createdAt" db:"created_at"`
	Items      []cartItem `json:"items" db:"-"`
}

type cartItem struct {
	StockCode string `json:"stockCode" db:"stock_code"`
	Quantity  int32  `json:"quantity" db:"quantity"`
	UnitPrice amount `json:"unitPrice" db:"-"`
}

func (s *shop) openCart(c echo.Context) error {
	var req cartRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var id int32
	err := s.pool.QueryRow(c.Request().Context(), `INSERT INTO carts (customer_id, created_at) VALUES ($1, $2) RETURNING id`,
		req.CustomerID, req.OccurredAt.or(s.now())).Scan(&id)
	if err != nil {
		return fmt.Errorf("open cart: %w", err)
	}
	return c.JSON(http.StatusCreated, idAnswer{id})
}

func (s *shop) showCart(c echo.Context) error {
	id, err := pathID(c, "cartId")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	rows, err := s.pool.Query(ctx, `SELECT id, customer_id, status, created_at FROM carts WHERE id = $1`, id)
	if err != nil {
		return fmt.Errorf("read cart: %w", err)
	}
	cart, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[cartAnswer])
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound("cart", id)
	}
	if err != nil {
		return fmt.Errorf("read cart: %w", err)
	}
	channel := channelAccount
	if cart.CustomerID == nil {
		channel = channelGuest
	}
	cart.Items = []cartItem{}
	rows, err = s.pool.Query(ctx, `SELECT p.stock_code, i.quantity, (p.price * 1000)::bigint, p.tier_quantity, (p.tier_price * 1000)::bigint
		FROM cart_items i JOIN products p ON p.id = i.product_id WHERE i.cart_id = $1 ORDER BY p.id`, id)
	if err != nil {
		return fmt.Errorf("read cart: %w", err)
	}
	var item cartItem
	var p productAnswer
	_, err = pgx.ForEachRow(rows, []any{&item.StockCode, &item.Quantity, &p.Price, &p.TierQuantity, &p.TierPrice}, func() error {
		item.UnitPrice = quote(p, channel, item.Quantity)
		cart.Items = append(cart.Items, item)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read cart: %w", err)
	}
	return c.JSON(http.StatusOK, cart)
}

func (s *shop) putCartItem(c echo.Context) error {
	id, err := pathID(c, "cartId")
	if err != nil {
		return err
	}
	code, err := pathCode(c)
	if err != nil {
		return err
	}
	var req cartItemRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.quantity(req.Quantity, "quantity", 1)
	if err := wrong.err(); err != nil {
		return err
	}
	tag, err := s.pool.Exec(c.Request().Context(), `INSERT INTO cart_items (cart_id, product_id, quantity)
		SELECT c.id, p.id, $3 FROM carts c, products p
		WHERE c.id = $1 AND c.status = 'open' AND p.stock_code = $2 AND p.deleted_at IS NULL
		ON CONFLICT (cart_id, product_id) DO UPDATE SET quantity = excluded.quantity`, id, code, req.Quantity)
	if err != nil {
		return fmt.Errorf("put into cart: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return newProblem(http.StatusNotFound, "not-found", "there is no open cart %d or no product %s", id, code)
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *shop) removeCartItem(c echo.Context) error {
	id, err := pathID(c, "cartId")
	if err != nil {
		return err
	}
	code, err := pathCode(c)
	if err != nil {
		return err
	}
	tag, err := s.pool.Exec(c.Request().Context(), `DELETE FROM cart_items i USING carts c, products p
		WHERE i.cart_id = c.id AND i.product_id = p.id AND c.id = $1 AND c.status = 'open' AND p.stock_code = $2`, id, code)
	if err != nil {
		return fmt.Errorf("take out of cart: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return newProblem(http.StatusNotFound, "not-found", "product %s is not in an open cart %d", code, id)
	}
	return c.NoContent(http.StatusNoContent)
}
