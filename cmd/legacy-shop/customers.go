package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

type addressRequest struct {
	Kind       string        `json:"kind"`
	Street     string        `json:"street"`
	City       string        `json:"city"`
	Postcode   string        `json:"postcode"`
	Country    string        `json:"country"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

func (r *addressRequest) check(wrong *complaints, prefix string) {
	wrong.check(r.Kind == "billing" || r.Kind == "shipping", prefix+"kind", "must be billing or shipping")
	wrong.text(r.Street, prefix+"street", true, 200)
	wrong.text(r.City, prefix+"city", true, 200)
	wrong.text(r.Postcode, prefix+"postcode", true, 20)
	wrong.text(r.Country, prefix+"country", true, 60)
}

type customerRequest struct {
	CustomerNo string           `json:"customerNo,omitempty"`
	Name       string           `json:"name"`
	Email      string           `json:"email,omitempty"`
	Phone      string           `json:"phone,omitempty"`
	Password   string           `json:"password,omitempty"`
	Country    string           `json:"country"`
	Newsletter bool             `json:"newsletter,omitempty"`
	Addresses  []addressRequest `json:"addresses,omitempty"`
	OccurredAt *businessTime    `json:"occurredAt,omitempty"`
}

type customerChange struct {
	Name       *string       `json:"name,omitempty"`
	Email      *string       `json:"email,omitempty"`
	Phone      *string       `json:"phone,omitempty"`
	Password   *string       `json:"password,omitempty"`
	Newsletter *bool         `json:"newsletter,omitempty"`
	OccurredAt *businessTime `json:"occurredAt,omitempty"`
}

type customerAnswer struct {
	ID           int32           `json:"id" db:"id"`
	CustomerNo   *string         `json:"customerNo" db:"customer_no"`
	Name         string          `json:"name" db:"name"`
	Email        *string         `json:"email" db:"email"`
	Phone        *string         `json:"phone" db:"phone"`
	Country      string          `json:"country" db:"country"`
	Newsletter   bool            `json:"newsletter" db:"newsletter"`
	RegisteredAt time.Time       `json:"registeredAt" db:"registered_at"`
	UpdatedAt    time.Time       `json:"updatedAt" db:"updated_at"`
	Addresses    []addressAnswer `json:"addresses,omitempty" db:"-"`
}

type addressAnswer struct {
	ID        int32     `json:"id" db:"id"`
	Kind      string    `json:"kind" db:"kind"`
	Street    string    `json:"street" db:"street"`
	City      string    `json:"city" db:"city"`
	Postcode  string    `json:"postcode" db:"postcode"`
	Country   string    `json:"country" db:"country"`
	ValidFrom time.Time `json:"validFrom" db:"valid_from"`
}

// customerRegistered carries the numbers of the addresses, in the order of the
// request.
type customerRegistered struct {
	ID         int32   `json:"id"`
	AddressIDs []int32 `json:"addressIds"`
}

// idAnswer is the answer to a request that made something with a number.
type idAnswer struct {
	ID int32 `json:"id"`
}

const (
	customerColumns = `id, customer_no, name, email, phone, country, newsletter, registered_at, updated_at`
	addressColumns  = `id, kind, street, city, postcode, country, valid_from`
	insertAddress   = `INSERT INTO addresses (customer_id, kind, street, city, postcode, country, valid_from)
		VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id`
)

func (s *shop) registerCustomer(c echo.Context) error {
	var req customerRequest
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	wrong.text(req.CustomerNo, "customerNo", false, 20)
	wrong.text(req.Name, "name", true, 200)
	wrong.text(req.Email, "email", false, 200)
	wrong.text(req.Phone, "phone", false, 50)
	wrong.text(req.Country, "country", true, 60)
	wrong.check(len(req.Addresses) <= 20, "addresses", "may be 20")
	wrong.check(req.Password == "" || len(req.Password) >= 8 && len(req.Password) <= 200, "password", "must have 8 to 200 bytes")
	for i := range req.Addresses {
		req.Addresses[i].check(&wrong, fmt.Sprintf("addresses[%d].", i))
	}
	if err := wrong.err(); err != nil {
		return err
	}
	hash, err := hashPassword(req.Password)
	if err != nil {
		return err
	}
	when := req.OccurredAt.or(s.now())
	answer := customerRegistered{AddressIDs: make([]int32, len(req.Addresses))}
	ctx := c.Request().Context()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO customers
			(customer_no, name, email, phone, password_hash, country, newsletter, registered_at, updated_at)
			VALUES (nullif($1,''), $2, nullif($3,''), nullif($4,''), nullif($5,''), $6, $7, $8, $8) RETURNING id`,
			req.CustomerNo, req.Name, req.Email, req.Phone, hash, req.Country, req.Newsletter, when).Scan(&answer.ID)
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		for i, a := range req.Addresses {
			batch.Queue(insertAddress, answer.ID, a.Kind, a.Street, a.City, a.Postcode, a.Country, a.OccurredAt.or(when)).
				QueryRow(func(row pgx.Row) error { return row.Scan(&answer.AddressIDs[i]) })
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("register customer: %w", err)
	}
	return c.JSON(http.StatusCreated, answer)
}

func (s *shop) listCustomers(c echo.Context) error {
	limit, after, err := window(c)
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(c.Request().Context(), `SELECT `+customerColumns+` FROM customers
		WHERE id > $1 AND deleted_at IS NULL AND ($2 = '' OR customer_no = $2) ORDER BY id LIMIT $3`,
		after, c.QueryParam("customerNo"), limit+1)
	if err != nil {
		return fmt.Errorf("list customers: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[customerAnswer])
	if err != nil {
		return fmt.Errorf("list customers: %w", err)
	}
	return c.JSON(http.StatusOK, makePage(list, limit, func(a customerAnswer) int32 { return a.ID }))
}

func (s *shop) showCustomer(c echo.Context) error {
	id, err := pathID(c, "customerId")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	rows, err := s.pool.Query(ctx, `SELECT `+customerColumns+` FROM customers WHERE id = $1 AND deleted_at IS NULL`, id)
	if err != nil {
		return fmt.Errorf("read customer: %w", err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[customerAnswer])
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound("customer", id)
	}
	if err != nil {
		return fmt.Errorf("read customer: %w", err)
	}
	if a.Addresses, err = s.addresses(c, id); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, a)
}

func (s *shop) addresses(c echo.Context, customer int32) ([]addressAnswer, error) {
	rows, err := s.pool.Query(c.Request().Context(), `SELECT `+addressColumns+` FROM addresses WHERE customer_id = $1 ORDER BY id`, customer)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[addressAnswer])
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return list, nil
}

func (s *shop) changeCustomer(c echo.Context) error {
	id, err := pathID(c, "customerId")
	if err != nil {
		return err
	}
	var req customerChange
	if _, err := decode(c, &req); err != nil {
		return err
	}
	var wrong complaints
	if req.Name != nil {
		wrong.text(*req.Name, "name", true, 200)
	}
	if req.Email != nil {
		wrong.text(*req.Email, "email", true, 200)
	}
	if req.Phone != nil {
		wrong.text(*req.Phone, "phone", false, 50)
	}
	var hash *string
	if req.Password != nil {
		wrong.check(len(*req.Password) >= 8 && len(*req.Password) <= 200, "password", "must have 8 to 200 bytes")
	}
	if err := wrong.err(); err != nil {
		return err
	}
	if req.Password != nil {
		h, err := hashPassword(*req.Password)
		if err != nil {
			return err
		}
		hash = &h
	}
	tag, err := s.pool.Exec(c.Request().Context(), `UPDATE customers SET name = coalesce($2, name), email = coalesce($3, email),
		phone = coalesce($4, phone), password_hash = coalesce($5, password_hash), newsletter = coalesce($6, newsletter), updated_at = $7
		WHERE id = $1 AND deleted_at IS NULL`, id, req.Name, req.Email, req.Phone, hash, req.Newsletter, req.OccurredAt.or(s.now()))
	if err != nil {
		return fmt.Errorf("change customer: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return notFound("customer", id)
	}
	return c.NoContent(http.StatusNoContent)
}

// closeAccount keeps the row: old orders point at it.
func (s *shop) closeAccount(c echo.Context) error {
	id, err := pathID(c, "customerId")
	if err != nil {
		return err
	}
	tag, err := s.pool.Exec(c.Request().Context(), `UPDATE customers SET deleted_at = $2, updated_at = $2 WHERE id = $1 AND deleted_at IS NULL`,
		id, at(s.now()).or(s.now()))
	if err != nil {
		return fmt.Errorf("close account: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return notFound("customer", id)
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *shop) listAddresses(c echo.Context) error {
	id, err := pathID(c, "customerId")
	if err != nil {
		return err
	}
	list, err := s.addresses(c, id)
	if err != nil {
		return err
	}
	if list == nil {
		list = []addressAnswer{}
	}
	return c.JSON(http.StatusOK, page[addressAnswer]{Items: list})
}

func (s *shop) addAddress(c echo.Context) error {
	id, err := pathID(c, "customerId")
	if err != nil {
		return err
	}
	req, err := decodeAddress(c)
	if err != nil {
		return err
	}
	var address int32
	err = s.pool.QueryRow(c.Request().Context(), insertAddress, id, req.Kind, req.Street, req.City, req.Postcode, req.Country,
		req.OccurredAt.or(s.now())).Scan(&address)
	if err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	return c.JSON(http.StatusCreated, idAnswer{address})
}

// moveAddress overwrites the address and the customer's country with it: the
// old one is gone, as in many an old shop.
func (s *shop) moveAddress(c echo.Context) error {
	id, err := pathID(c, "customerId")
	if err != nil {
		return err
	}
	address, err := pathID(c, "addressId")
	if err != nil {
		return err
	}
	req, err := decodeAddress(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	when := req.OccurredAt.or(s.now())
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE customers SET country = CASE WHEN $2 = 'billing' THEN $3 ELSE country END, updated_at = $4
			WHERE id = $1 AND deleted_at IS NULL`, id, req.Kind, req.Country, when)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return notFound("customer", id)
		}
		tag, err = tx.Exec(ctx, `UPDATE addresses SET kind = $3, street = $4, city = $5, postcode = $6, country = $7, valid_from = $8
			WHERE id = $1 AND customer_id = $2`, address, id, req.Kind, req.Street, req.City, req.Postcode, req.Country, when)
		if err == nil && tag.RowsAffected() == 0 {
			return notFound("address", address)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("move customer: %w", err)
	}
	return c.NoContent(http.StatusNoContent)
}

func decodeAddress(c echo.Context) (addressRequest, error) {
	var req addressRequest
	if _, err := decode(c, &req); err != nil {
		return req, err
	}
	var wrong complaints
	req.check(&wrong, "")
	return req, wrong.err()
}
