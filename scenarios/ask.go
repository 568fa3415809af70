package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// tokenHeader carries consistency tokens: what a client has seen, or wants to see.
const tokenHeader = "Banyan-Token"

// ask sends one REST request; body and answer, where they are not nil, are JSON.
// It returns the status and the header of the answer. A status that is not among
// want is an error.
func ask(ctx context.Context, method, url string, header map[string]string, body, answer any, want ...int) (int, http.Header, error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, fmt.Errorf("write the body of %s %s: %w", method, url, err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, sent)
	if err != nil {
		return 0, nil, err
	}
	req.Close = true // a server that is stopped waits for connections that nobody uses
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	for _, status := range want {
		if res.StatusCode != status {
			continue
		}
		if answer == nil {
			return status, res.Header, nil
		}
		if err := json.Unmarshal(b, answer); err != nil {
			return 0, nil, fmt.Errorf("read the answer to %s %s: %w", method, url, err)
		}
		return status, res.Header, nil
	}
	return 0, nil, fmt.Errorf("%s %s: %s: %s", method, url, res.Status, strings.TrimSpace(string(b)))
}

// token asks the shop for the token of all that was committed until now. The shop
// gives none before it has asked cdc which generation it follows.
func (t *tour) token(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, header, err := ask(ctx, http.MethodGet, t.target+"/customers/1", map[string]string{tokenHeader: "wanted"}, nil, nil, http.StatusOK, http.StatusNotFound)
		if err != nil {
			return "", err
		}
		if token := header.Get(tokenHeader); token != "" {
			return token, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.New("the shop gives no tokens")
		case <-tick.C:
		}
	}
}

// read runs one query in a database and gives its rows as text.
func (t *tour) read(ctx context.Context, database, sql string, args ...any) ([][]string, error) {
	conn, err := pgx.Connect(ctx, t.database(database))
	if err != nil {
		return nil, fmt.Errorf("connect to the database %s: %w", database, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return texts(ctx, conn, sql, args...)
}

// readAt is read in the database of a projection, as soon as its readers see what
// the token stands for.
func (t *tour) readAt(ctx context.Context, token, projection, sql string) ([][]string, error) {
	conn, err := pgx.Connect(ctx, t.database("projection_"+projection))
	if err != nil {
		return nil, fmt.Errorf("connect to the database of %s: %w", projection, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SELECT banyan.wait($1, $2, '60 s')`, projection, token); err != nil {
		return nil, fmt.Errorf("wait until readers of %s see %s: %w", projection, token, err)
	}
	return texts(ctx, conn, sql)
}

func texts(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([][]string, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) ([]string, error) {
		row := make([]string, len(r.FieldDescriptions()))
		into := make([]any, len(row))
		for i := range row {
			into[i] = &row[i]
		}
		return row, r.Scan(into...)
	})
}

// objects reads JSON objects, one after the other.
func objects[T any](text string) ([]T, error) {
	var all []T
	d := json.NewDecoder(strings.NewReader(text))
	for {
		var one T
		switch err := d.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, one)
	}
}

// object reads one.
func object[T any](text string) (one T, err error) {
	return one, json.Unmarshal([]byte(text), &one)
}

// round gives a duration as people say it.
func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
