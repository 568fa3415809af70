package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// maxBody bounds a request body. The longest order of the real year, 1,114
// lines, takes 150 KiB.
const maxBody = 4 << 20

// businessTime is when something happened in the shop's own clock. The tables
// hold it without a zone; it is UTC.
type businessTime struct{ time.Time }

// UnmarshalJSON reads RFC 3339, or the same without a zone, which means UTC.
func (b *businessTime) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil || s == "" {
		return err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", s)
	}
	if err != nil || t.Year() < 1900 || t.Year() > 2200 {
		return fmt.Errorf("%q is not a time such as 2010-12-01T08:26:00Z", s)
	}
	b.Time = t.UTC().Truncate(time.Microsecond)
	return nil
}

// or gives the time itself, or d when the request named none.
func (b *businessTime) or(d time.Time) time.Time {
	if b == nil || b.IsZero() {
		return d.UTC().Truncate(time.Microsecond)
	}
	return b.Time
}

// at makes the field occurredAt of a request.
func at(t time.Time) *businessTime { return &businessTime{t} }

// decode reads the one JSON value of a request body into v and returns its
// bytes. Unknown fields are refused: a misspelt field must not be lost.
func decode(c echo.Context, v any) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxBody))
	if err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			return nil, newProblem(http.StatusRequestEntityTooLarge, "too-large", "a request body may have %d bytes", maxBody)
		}
		return nil, newProblem(http.StatusBadRequest, "malformed-request", "the body could not be read")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return nil, newProblem(http.StatusBadRequest, "malformed-request", "the body is not the JSON that is wanted: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, newProblem(http.StatusBadRequest, "malformed-request", "the body goes on after its JSON value")
	}
	return body, nil
}

// pathID reads a number of the path.
func pathID(c echo.Context, name string) (int32, error) {
	n, err := strconv.ParseInt(c.Param(name), 10, 32)
	if err != nil || n <= 0 {
		return 0, newProblem(http.StatusNotFound, "not-found", "%q is no %s", c.Param(name), name)
	}
	return int32(n), nil
}

// pathCode reads a stock code of the path.
func pathCode(c echo.Context) (string, error) {
	code, err := url.PathUnescape(c.Param("stockCode"))
	if err != nil {
		return "", newProblem(http.StatusNotFound, "not-found", "%q is no stock code", c.Param("stockCode"))
	}
	return code, nil
}

// page is one page of a list. Next is the cursor of the following page, empty
// on the last.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// window reads ?limit= and ?after=.
func window(c echo.Context) (limit int, after int32, err error) {
	limit = 50
	var wrong complaints
	if s := c.QueryParam("limit"); s != "" {
		n, err := strconv.Atoi(s)
		wrong.check(err == nil && n >= 1 && n <= 500, "limit", "must be 1 to 500")
		limit = n
	}
	if s := c.QueryParam("after"); s != "" {
		n, err := strconv.ParseInt(s, 10, 32)
		wrong.check(err == nil && n >= 0, "after", "must be the value of next of the page before")
		after = int32(n)
	}
	return limit, after, wrong.err()
}

// makePage cuts the one row too many that a list query asks for.
func makePage[T any](rows []T, limit int, id func(T) int32) page[T] {
	p := page[T]{Items: rows}
	if len(rows) > limit {
		p.Items = rows[:limit]
		p.Next = strconv.Itoa(int(id(p.Items[limit-1])))
	}
	if p.Items == nil {
		p.Items = []T{}
	}
	return p
}

// text checks a string that goes into a column: length in bytes, no NUL.
func (c *complaints) text(s, field string, required bool, max int) {
	c.check(!required || strings.TrimSpace(s) != "", field, "must not be empty")
	c.check(len(s) <= max, field, "may have %d bytes", max)
	c.check(!strings.ContainsRune(s, 0), field, "must not contain a NUL")
}

// Bounds of whole numbers and prices in requests. With them quantity * price
// stays within 64 bits, and a stock within the integer of its column.
const (
	maxQuantity = 1_000_000
	maxLines    = 5_000
)

func (c *complaints) quantity(n int32, field string, min int32) {
	c.check(n >= min && n <= maxQuantity, field, "must be %d to %d", min, maxQuantity)
}

func (c *complaints) price(a amount, field string, min amount) {
	c.check(a >= min && a <= maxAmount, field, "must be %s to %s", min, maxAmount)
}
