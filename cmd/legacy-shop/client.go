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
	"sync/atomic"
	"time"
)

// client calls a shop over REST. It is safe for many goroutines.
type client struct {
	target string
	http   *http.Client
	calls  atomic.Int64
	watch  func(method, path string, body []byte) // for tests; may be nil
}

func newClient(target string, workers int) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = workers, workers
	transport.DisableCompression = true
	return &client{target: strings.TrimRight(target, "/"), http: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// call sends one request and decodes the answer into answer when that is not
// nil. A refusal is a *problem; anything else that goes wrong is a *failure of
// the surroundings.
func (c *client) call(ctx context.Context, method, path, key string, request, answer any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return fmt.Errorf("write request: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, c.target+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set(idempotencyHeader, key)
	}
	if c.watch != nil {
		c.watch(method, path, body)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return surroundings("call the shop: %w", err)
	}
	defer resp.Body.Close()
	c.calls.Add(1)
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return surroundings("read the shop's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return refusal(method, path, resp, got)
	}
	if answer == nil || len(got) == 0 {
		return nil
	}
	if err := json.Unmarshal(got, answer); err != nil {
		return surroundings("%s %s: the answer is not the shop's: %w", method, path, err)
	}
	return nil
}

// refusal makes an error of an answer that is not a success.
func refusal(method, path string, resp *http.Response, body []byte) error {
	p := &problem{}
	if json.Unmarshal(body, p) != nil || p.Status == 0 {
		return surroundings("%s %s: %s, which is not an answer of a shop", method, path, resp.Status)
	}
	for i, f := range p.Errors {
		if i == 3 {
			p.Detail += "; ..."
			break
		}
		p.Detail += fmt.Sprintf("; %s %s", f.Field, f.Message)
	}
	if p.Status >= 500 {
		return surroundings("%s %s: %w", method, path, p)
	}
	return answerIsNo("%s %s: %w", method, path, p)
}

// refusedWith says whether an error is the shop's answer with that status.
func refusedWith(err error, status int) bool {
	var p *problem
	return errors.As(err, &p) && p.Status == status
}
