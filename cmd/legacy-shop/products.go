package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

type productRequest struct {
	StockCode    string        `json:"stockCode"`
	Description  string        `json:"description"`
	Stock        int32         `json:"stock"`
	Price        amount        `json:"price"`
	TierQuantity int32         `json:"tierQuantity,omitempty"`
	TierPrice    *amount       `json:"tierPrice,omitempty"`
	Cost         *amount       `json:"cost,omitempty"`
	OccurredAt   *businessTime `json:"occurredAt,omitempty"`
}

func (r *productRequest) check(wrong *complaints, prefix string) {
	wrong.text(r.StockCode, prefix+"stockCode", true, 40)
	wrong.text(r.Description, prefix+"description", false, 500)
	wrong.check(r.Stock >= 0 && r.Stock <= 100*maxQuantity, prefix+"stock", "must be 0 to %d", 100*maxQuantity)
	wrong.price(r.Price, prefix+"price", 0)
	wrong.check((r.TierQuantity > 0) == (r.TierPrice != nil) && r.TierQuantity >= 0, prefix+"tierQuantity", "and tierPrice go together")
	if r.TierPrice != nil {
		wrong.price(*r.TierPrice, prefix+"tierPrice", 0)
	}
	if r.Cost != nil {
		wrong.price(*r.Cost, prefix+"cost", 0)
	}
}

type productsRequest struct {
	Products []productRequest `json:"products"`
}

type countAnswer struct {
	Count int `json:"count"`
}

type priceRequest struct {
	Price        amount        `json:"price"`
	TierQuantity int32         `json:"tierQuantity,omitempty"`
	TierPrice    *amount       `json:"tierPrice,omitempty"`
	OccurredAt   *businessTime `json:"occurredAt,omitempty"`
}

type productAnswer struct {
	ID           int32     `json:"id" db:"id"`
	StockCode    string    `json:"stockCode" db:"stock_code"`
	Description  string    `json:"description" db:"description"`
	Stock        int32     `json:"stock" db:"stock"`
	Price        amount    `json:"price" db:"price"`
	TierQuantity *int32    `json:"tierQuantity" db:"tier_quantity"`
	TierPrice    *amount   `json:"tierPrice" db:"tier_price"`
	Cost         *amount   `json:"cost" db:"cost"`
	ListedAt     time.Time `json:"listedAt" db:"listed_at"`
	UpdatedAt    time.Time `json:"updatedAt" db:"updated_at"`
}

type quoteAnswer struct {
	StockCode string `json:"stockCode"`
	Channel   string `json:"channel"`
	Quantity  int32  `json:"quantity"`
	UnitPrice amount `json:"unitPrice"`
	Total     amount `json:"total"`
}

// quote is the shop's price of one piece: guests pay 1.97 times the list price,
// rounded half up to the penny; everybody else pays the list price, or the
// tier's from its quantity on.
func quote(p productAnswer, channel string, quantity int32) amount {
	switch {
	case channel == channelGuest:
		return (p.Price*197 + 500) / 1000 * 10
	case p.TierQuantity != nil && p.TierPrice != nil && quantity >= *p.TierQuantity:
		return *p.TierPrice
	}
	return p.Price
}

const productColumns = `id, stock_code, description, stock, (price * 1000)::bigint AS price, tier_quantity,
	(tier_price * 1000)::bigint AS tier_price, (cost * 1000)::bigint AS cost, listed_at, updated_at`

func (s *shop) listProduct(c echo.Context) error {
	var req productRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	req.check(&wrong, "")
	if err := wrong.err(); err != nil {
		return err
	}
	ids, err := s.insertProducts(c, []productRequest{req})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, idAnswer{ids[0]})
}

// listProducts takes a whole price list in one transaction.
func (s *shop) listProducts(c echo.Context) error {
	var req productsRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.check(len(req.Products) >= 1 && len(req.Products) <= 1000, "products", "must be 1 to 1000")
	for i := range req.Products {
		req.Products[i].check(&wrong, fmt.Sprintf("products[%d].", i))
	}
	if err := wrong.err(); err != nil {
		return err
	}
	ids, err := s.insertProducts(c, req.Products)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, countAnswer{len(ids)})
}

func (s *shop) insertProducts(c echo.Context, list []productRequest) ([]int32, error) {
	ids := make([]int32, len(list))
	batch := &pgx.Batch{}
	for i, p := range list {
		batch.Queue(`INSERT INTO products (stock_code, description, stock, price, tier_quantity, tier_price, cost, listed_at, updated_at)
			VALUES ($1, $2, $3, $4::bigint * 0.001, nullif($5, 0), $6::bigint * 0.001, $7::bigint * 0.001, $8, $8) RETURNING id`,
			p.StockCode, p.Description, p.Stock, p.Price, p.TierQuantity, p.TierPrice, p.Cost, p.OccurredAt.or(s.now())).
			QueryRow(func(row pgx.Row) error { return row.Scan(&ids[i]) })
	}
	ctx := c.Request().Context()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() })
	if err != nil {
		return nil, fmt.Errorf("list products: %w", err)
	}
	return ids, nil
}

func (s *shop) browseProducts(c echo.Context) error {
	limit, after, err := window(c)
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(c.Request().Context(), `SELECT `+productColumns+` FROM products
		WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2`, after, limit+1)
	if err != nil {
		return fmt.Errorf("browse products: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[productAnswer])
	if err != nil {
		return fmt.Errorf("browse products: %w", err)
	}
	return c.JSON(http.StatusOK, makePage(list, limit, func(p productAnswer) int32 { return p.ID }))
}

func (s *shop) product(c echo.Context) (productAnswer, error) {
	code, err := pathCode(c)
	if err != nil {
		return productAnswer{}, err
	}
	rows, err := s.pool.Query(c.Request().Context(), `SELECT `+productColumns+` FROM products WHERE stock_code = $1 AND deleted_at IS NULL`, code)
	if err != nil {
		return productAnswer{}, fmt.Errorf("read product: %w", err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[productAnswer])
	if errors.Is(err, pgx.ErrNoRows) {
		return p, notFound("product", code)
	}
	if err != nil {
		return p, fmt.Errorf("read product: %w", err)
	}
	return p, nil
}

func (s *shop) showProduct(c echo.Context) error {
	p, err := s.product(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, p)
}

func (s *shop) quotePrice(c echo.Context) error {
	quantity, channel := int64(1), c.QueryParam("channel")
	var wrong complaints
	if q := c.QueryParam("quantity"); q != "" {
		n, err := strconv.ParseInt(q, 10, 32)
		wrong.check(err == nil && n >= 1 && n <= maxQuantity, "quantity", "must be 1 to %d", maxQuantity)
		quantity = n
	}
	if channel == "" {
		channel = channelAccount
	}
	wrong.check(knownChannel(channel), "channel", "must be account, web or guest")
	if err := wrong.err(); err != nil {
		return err
	}
	p, err := s.product(c)
	if err != nil {
		return err
	}
	unit := quote(p, channel, int32(quantity))
	return c.JSON(http.StatusOK, quoteAnswer{p.StockCode, channel, int32(quantity), unit, unit * amount(quantity)})
}

func (s *shop) changePrice(c echo.Context) error {
	code, err := pathCode(c)
	if err != nil {
		return err
	}
	var req priceRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.price(req.Price, "price", 0)
	wrong.check((req.TierQuantity > 0) == (req.TierPrice != nil) && req.TierQuantity >= 0, "tierQuantity", "and tierPrice go together")
	if req.TierPrice != nil {
		wrong.price(*req.TierPrice, "tierPrice", 0)
	}
	if err := wrong.err(); err != nil {
		return err
	}
	tag, err := s.pool.Exec(c.Request().Context(), `UPDATE products SET price = $2::bigint * 0.001, tier_quantity = nullif($3, 0),
		tier_price = $4::bigint * 0.001, updated_at = $5 WHERE stock_code = $1 AND deleted_at IS NULL`,
		code, req.Price, req.TierQuantity, req.TierPrice, req.OccurredAt.or(s.now()))
	if err != nil {
		return fmt.Errorf("change price: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return notFound("product", code)
	}
	return c.NoContent(http.StatusNoContent)
}

// discontinueProduct keeps the row: old order lines point at it.
func (s *shop) discontinueProduct(c echo.Context) error {
	code, err := pathCode(c)
	if err != nil {
		return err
	}
	tag, err := s.pool.Exec(c.Request().Context(), `UPDATE products SET deleted_at = $2, updated_at = $2 WHERE stock_code = $1 AND deleted_at IS NULL`,
		code, at(s.now()).or(s.now()))
	if err != nil {
		return fmt.Errorf("discontinue product: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return notFound("product", code)
	}
	return c.NoContent(http.StatusNoContent)
}

type adjustmentRequest struct {
	Quantity   int32         `json:"quantity"`
	Price      amount        `json:"price"`
	Reason     string        `json:"reason,omitempty"`
	InvoiceNo  string        `json:"invoiceNo,omitempty"`
	Country    string        `json:"country,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

// adjustStock books a delivery (positive) or a loss (negative). The stock never
// goes below zero: what is not there cannot be lost.
func (s *shop) adjustStock(c echo.Context) error {
	code, err := pathCode(c)
	if err != nil {
		return err
	}
	var req adjustmentRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.quantity(req.Quantity, "quantity", -maxQuantity)
	wrong.check(req.Quantity != 0, "quantity", "must not be 0")
	wrong.price(req.Price, "price", 0)
	wrong.text(req.Reason, "reason", false, 500)
	wrong.text(req.InvoiceNo, "invoiceNo", false, 40)
	wrong.text(req.Country, "country", false, 60)
	if err := wrong.err(); err != nil {
		return err
	}
	ctx, when := c.Request().Context(), req.OccurredAt.or(s.now())
	var id int32
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var product int32
		err := tx.QueryRow(ctx, `UPDATE products SET stock = stock + $2, updated_at = $3
			WHERE stock_code = $1 AND stock + $2 >= 0 RETURNING id`, code, req.Quantity, when).Scan(&product)
		if errors.Is(err, pgx.ErrNoRows) {
			return adjustmentRefused(c, tx, code)
		}
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `INSERT INTO stock_adjustments (product_id, quantity, price, reason, invoice_no, country, adjusted_at)
			VALUES ($1, $2, $3::bigint * 0.001, nullif($4,''), nullif($5,''), nullif($6,''), $7) RETURNING id`,
			product, req.Quantity, req.Price, req.Reason, req.InvoiceNo, req.Country, when).Scan(&id)
	})
	if err != nil {
		return fmt.Errorf("adjust stock: %w", err)
	}
	return c.JSON(http.StatusCreated, idAnswer{id})
}

func adjustmentRefused(c echo.Context, tx pgx.Tx, code string) error {
	var stock int32
	err := tx.QueryRow(c.Request().Context(), `SELECT stock FROM products WHERE stock_code = $1`, code).Scan(&stock)
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound("product", code)
	}
	if err != nil {
		return err
	}
	return conflict("product %s has only %d pieces in stock", code, stock)
}
