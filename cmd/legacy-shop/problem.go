package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"
)

// problem is an error as the caller sees it: an RFC 9457 problem document.
type problem struct {
	Type     string         `json:"type"`
	Title    string         `json:"title"`
	Status   int            `json:"status"`
	Detail   string         `json:"detail,omitempty"`
	Instance string         `json:"instance,omitempty"`
	Errors   []fieldProblem `json:"errors,omitempty"`
}

// fieldProblem names one field of the request body and what is wrong with it.
type fieldProblem struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// newProblem makes a problem whose type is a relative URI that the OpenAPI
// document lists.
func newProblem(status int, kind, detail string, args ...any) *problem {
	return &problem{
		Type:   "/problems/" + kind,
		Title:  strings.ReplaceAll(kind, "-", " "),
		Status: status,
		Detail: fmt.Sprintf(detail, args...),
	}
}

func notFound(what string, key any) *problem {
	return newProblem(http.StatusNotFound, "not-found", "there is no %s %v", what, key)
}

func conflict(detail string, args ...any) *problem {
	return newProblem(http.StatusConflict, "conflict", detail, args...)
}

// complaints collects everything that is wrong with a request body, so that
// the caller learns of all of it at once.
type complaints []fieldProblem

func (c *complaints) check(good bool, field, message string, args ...any) {
	if !good {
		*c = append(*c, fieldProblem{field, fmt.Sprintf(message, args...)})
	}
}

func (c complaints) err() error {
	if len(c) == 0 {
		return nil
	}
	p := newProblem(http.StatusUnprocessableEntity, "invalid-request", "%d field(s) of the request are wrong", len(c))
	p.Errors = c
	return p
}

// asProblem turns any error of a handler into what the caller may know of it.
func asProblem(err error) *problem {
	var p *problem
	var he *echo.HTTPError
	var pe *pgconn.PgError
	switch {
	case errors.As(err, &p):
		copied := *p
		return &copied
	case errors.As(err, &he):
		kind := strings.ReplaceAll(strings.ToLower(http.StatusText(he.Code)), " ", "-")
		return newProblem(he.Code, kind, "%v", he.Message)
	case errors.Is(err, pgx.ErrNoRows):
		return newProblem(http.StatusNotFound, "not-found", "there is no such thing")
	case errors.As(err, &pe):
		return databaseProblem(pe)
	case pgconn.Timeout(err) || isConnectionError(err):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "the database does not answer; try again")
	}
	return newProblem(http.StatusInternalServerError, "internal-error", "the shop failed; its log says why")
}

func databaseProblem(pe *pgconn.PgError) *problem {
	switch {
	case pe.Code == "23505":
		return conflict("%s: it is there already (%s)", pe.TableName, pe.ConstraintName)
	case pe.Code == "23503":
		return newProblem(http.StatusUnprocessableEntity, "invalid-request", "%s refers to something that is not there (%s)", pe.TableName, pe.ConstraintName)
	case strings.HasPrefix(pe.Code, "22"):
		return newProblem(http.StatusUnprocessableEntity, "invalid-request", "a value does not fit: %s", pe.Message)
	case strings.HasPrefix(pe.Code, "40"), strings.HasPrefix(pe.Code, "53"), strings.HasPrefix(pe.Code, "57"):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "the database could not do it now; try again")
	}
	return newProblem(http.StatusInternalServerError, "internal-error", "the shop failed; its log says why")
}

// isConnectionError says whether the connection failed rather than the
// statement. Whether a commit under way was done is then unknown, which is what
// the Idempotency-Key is for.
func isConnectionError(err error) bool {
	var ce *pgconn.ConnectError
	var ne *net.OpError
	return errors.As(err, &ce) || errors.As(err, &ne) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || pgconn.SafeToRetry(err)
}

// problemHandler is the shop's one error handler. It logs what was the shop's
// own fault; what the caller did wrong is the caller's to know.
func problemHandler(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		if c.Response().Committed {
			return
		}
		p := asProblem(err)
		p.Instance = c.Request().URL.Path
		if p.Status >= 500 {
			log.Error("request failed", "method", c.Request().Method, "path", c.Request().URL.Path, "err", err)
		}
		if p.Status == http.StatusServiceUnavailable {
			c.Response().Header().Set("Retry-After", "1")
		}
		c.Response().Header().Set(echo.HeaderContentType, "application/problem+json")
		c.Response().WriteHeader(p.Status)
		if c.Request().Method == http.MethodHead {
			return
		}
		if err := c.Echo().JSONSerializer.Serialize(c, p, ""); err != nil {
			log.Debug("answer not written", "err", err)
		}
	}
}
