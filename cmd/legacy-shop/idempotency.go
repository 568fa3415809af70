package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"
)

const idempotencyHeader = "Idempotency-Key"

// onceOnly runs do in a transaction and answers with what it returns. With an
// Idempotency-Key the answer is kept in the same transaction and given again,
// byte by byte, to the same request; the key with another body is refused. A
// second request that comes while the first is at work waits for it. An error
// keeps nothing, so a failed request may be sent again under its key.
func (s *shop) onceOnly(c echo.Context, body []byte, do func(context.Context, pgx.Tx) (int, any, error)) error {
	key := c.Request().Header.Get(idempotencyHeader)
	if len(key) > 200 {
		return newProblem(http.StatusBadRequest, "malformed-request", "an %s may have 200 bytes", idempotencyHeader)
	}
	ctx := c.Request().Context()
	var status int
	var answer []byte
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if key != "" {
			given, err := s.givenAnswer(ctx, tx, c, key, body, &status)
			if err != nil || given != nil {
				answer = given
				return err
			}
		}
		code, value, err := do(ctx, tx)
		if err != nil {
			return err
		}
		if answer, err = json.Marshal(value); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
		status = code
		if key == "" {
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE idempotency_keys SET status = $2, answer = $3 WHERE key = $1`, key, status, string(answer))
		return err
	})
	if err != nil {
		return err
	}
	return c.JSONBlob(status, answer)
}

// givenAnswer claims the key, or gives the answer that was given under it.
func (s *shop) givenAnswer(ctx context.Context, tx pgx.Tx, c echo.Context, key string, body []byte, status *int) ([]byte, error) {
	endpoint := c.Request().Method + " " + c.Request().URL.Path
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		return nil, fmt.Errorf("compact request: %w", err)
	}
	hash := sha256.Sum256(compact.Bytes())
	tag, err := tx.Exec(ctx, `INSERT INTO idempotency_keys (key, endpoint, request_hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		key, endpoint, hash[:])
	if err != nil || tag.RowsAffected() == 1 {
		return nil, err
	}
	var was struct {
		endpoint string
		hash     []byte
		answer   string
	}
	err = tx.QueryRow(ctx, `SELECT endpoint, request_hash, status, answer FROM idempotency_keys WHERE key = $1`, key).
		Scan(&was.endpoint, &was.hash, status, &was.answer)
	if err != nil {
		return nil, err
	}
	if was.endpoint != endpoint || !bytes.Equal(was.hash, hash[:]) {
		return nil, newProblem(http.StatusUnprocessableEntity, "idempotency-key-reused",
			"the %s was used for another request", idempotencyHeader)
	}
	c.Response().Header().Set("Idempotent-Replayed", "true")
	return []byte(was.answer), nil
}
