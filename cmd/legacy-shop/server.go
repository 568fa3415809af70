package main

import (
	_ "embed"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

//go:embed openapi.json
var openAPI []byte

// shop is the monolith: its handlers decode, run one transaction, and encode.
type shop struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	now  func() time.Time // when a request names no business time
	hits *accessLog       // nil in a shop that keeps none
}

// routes is the whole REST face of the shop in one place. openapi.json
// describes the same; a test compares the two.
func (s *shop) routes() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = problemHandler(s.log)
	e.Use(s.countHits)
	e.Use(middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(_ echo.Context, err error, stack []byte) error {
			s.log.Error("handler panicked", "err", err, "stack", string(stack))
			return err
		},
	}))

	e.GET("/healthz", s.health)
	e.GET("/openapi.json", func(c echo.Context) error { return c.JSONBlob(http.StatusOK, openAPI) })

	e.POST("/customers", s.registerCustomer)
	e.GET("/customers", s.listCustomers)
	e.GET("/customers/:customerId", s.showCustomer)
	e.PATCH("/customers/:customerId", s.changeCustomer)
	e.DELETE("/customers/:customerId", s.closeAccount)
	e.GET("/customers/:customerId/addresses", s.listAddresses)
	e.POST("/customers/:customerId/addresses", s.addAddress)
	e.PUT("/customers/:customerId/addresses/:addressId", s.moveAddress)

	e.POST("/products", s.listProduct)
	e.POST("/price-lists", s.listProducts)
	e.GET("/products", s.browseProducts)
	e.GET("/products/:stockCode", s.showProduct)
	e.DELETE("/products/:stockCode", s.discontinueProduct)
	e.GET("/products/:stockCode/quote", s.quotePrice)
	e.PUT("/products/:stockCode/price", s.changePrice)
	e.POST("/products/:stockCode/stock-adjustments", s.adjustStock)
	e.GET("/stock-adjustments", s.listAdjustments)

	e.POST("/carts", s.openCart)
	e.GET("/carts/:cartId", s.showCart)
	e.PUT("/carts/:cartId/items/:stockCode", s.putCartItem)
	e.DELETE("/carts/:cartId/items/:stockCode", s.removeCartItem)

	e.POST("/orders", s.placeOrder)
	e.GET("/orders", s.listOrders)
	e.GET("/orders/:orderId", s.showOrder)
	e.DELETE("/orders/:orderId", s.hideOrder)
	e.POST("/orders/:orderId/validations", s.validateOrder)
	e.POST("/orders/:orderId/payment-attempts", s.attemptPayment)
	e.POST("/orders/:orderId/invoices", s.issueInvoice)
	e.POST("/orders/:orderId/shipments", s.shipOrder)
	e.POST("/orders/:orderId/cancellation", s.cancelOrder)

	e.GET("/payments", listOf(s, paymentColumns, func(p paymentLine) int32 { return p.ID }))
	e.GET("/invoices", listOf(s, invoiceColumns, func(i invoiceLine) int32 { return i.ID }))
	e.GET("/shipments", listOf(s, shipmentColumns, func(i shipmentLine) int32 { return i.ID }))

	e.POST("/returns", s.acceptReturn)
	e.GET("/returns", listOf(s, returnColumns, func(r returnSummary) int32 { return r.ID }))
	e.GET("/returns/:returnId", s.showReturn)
	e.POST("/fees", s.chargeFee)
	e.GET("/fees", listOf(s, feeColumns, func(f feeSummary) int32 { return f.ID }))
	return e
}

// health says whether the shop could serve a request now.
func (s *shop) health(c echo.Context) error {
	if err := s.pool.Ping(c.Request().Context()); err != nil {
		s.log.Warn("database does not answer", "err", err)
		return newProblem(http.StatusServiceUnavailable, "unavailable", "the database does not answer")
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// countHits writes every request into the access log, errors included.
func (s *shop) countHits(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		started := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		if s.hits != nil {
			s.hits.add(hit{at: started, method: c.Request().Method, path: c.Path(), status: c.Response().Status, took: time.Since(started)})
		}
		return nil
	}
}
