package ask

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"banyan/quote"
)

// idle is how long an unused connection is kept.
const idle = 30 * time.Second

// newTransport speaks HTTP/1.1 to one host and nothing else: no proxy, no other
// protocol, no compression (the cap on answers is one on what is in memory then).
// It is used without an http.Client, and so follows no redirect and keeps no cookie.
func newTransport(c Config) *http.Transport {
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: c.Connect}).DialContext
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, c.Connect)
			defer cancel()
			return dial(ctx, network, address)
		},
		TLSHandshakeTimeout:    c.Connect,
		Protocols:              http1(),
		DisableCompression:     true,
		MaxIdleConns:           c.Concurrency,
		MaxIdleConnsPerHost:    c.Concurrency,
		MaxConnsPerHost:        c.Concurrency,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         32 << 10,
	}
}

func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// headers are those of every request.
func headers(u *url.URL, id string) http.Header {
	h := http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/json"},
		"User-Agent":   {"banyan-shadow"},
		"X-Shadow":     {"1"},
	}
	if id != "" {
		h.Set("X-Shadow-Client", id)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: h}
		r.SetBasicAuth(u.User.Username(), password)
	}
	return h
}

// outcome is what became of a call.
type outcome struct {
	reason   Reason // empty for an answer
	err      error
	status   int
	response *quote.Response
	spoilt   error     // what is wrong with those answers that the response is without
	began    time.Time // of the first request
	attempts int
	// sent says that the candidate has had the orders, or a part of them.
	sent bool
	// again says that the call may be tried again.
	again bool
}

// call asks for the orders once, and again where that is allowed.
func (c *Client) call(ctx context.Context, orders []quote.Order, settle func(outcome) verdict) outcome {
	if err := c.calls.AcquirePermit(ctx); err != nil {
		return stopped(ctx)
	}
	defer c.calls.ReleasePermit()
	if c.rate != nil {
		if err := c.rate.AcquirePermits(ctx, uint(len(orders))); err != nil {
			return stopped(ctx)
		}
	}
	// The breaker is asked last: it may have opened while this call waited.
	leave, ok := c.gate.enter()
	if !ok {
		return outcome{reason: Open, err: errors.New("the candidate failed too often, and is left alone for a while")}
	}
	o := c.tries(ctx, orders)
	c.gate.settle(leave, settle(o))
	return o
}

func stopped(ctx context.Context) outcome {
	return outcome{reason: Stopped, err: context.Cause(ctx)}
}

// tries makes a request, and another within the same time, where its kind and the
// budget allow.
func (c *Client) tries(parent context.Context, orders []quote.Order) (o outcome) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(parent, c.config.Timeout)
	defer cancel()
	body, key := encode(orders), key(orders)
	c.budget.called()
	sent := false
	for attempt := 1; ; attempt++ {
		start := time.Now()
		c.count.open(len(body))
		o = c.request(ctx, body, key)
		if o.reason != "" && parent.Err() != nil {
			o = outcome{reason: Stopped, err: context.Cause(parent), sent: o.sent}
		}
		c.count.close(time.Since(start))
		sent = sent || o.sent
		o.began, o.attempts, o.sent = began, attempt, sent
		if !o.again || attempt > c.config.Retries || !c.budget.take() {
			return o
		}
		if !sleep(ctx, c.jitter()) {
			c.budget.giveBack()
			return o
		}
		c.count.retried()
		if c.rate != nil {
			c.rate.ReservePermits(uint(len(orders))) // later calls wait for it
		}
	}
}

// sleep says whether it came to its end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// key is the idempotency key of a call: the same orders, the same key.
func key(orders []quote.Order) string {
	h := sha256.New()
	for i := range orders {
		io.WriteString(h, orders[i].ID) //nolint:errcheck // a hash takes all
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// trail is what happened to a request; the transport's goroutines write it.
type trail struct{ reused, wrote, heard atomic.Bool }

func (t *trail) follow(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { t.reused.Store(i.Reused) },
		WroteHeaders:         func() { t.wrote.Store(true) },
		GotFirstResponseByte: func() { t.heard.Store(true) },
	})
}

// request makes one request.
func (c *Client) request(ctx context.Context, body []byte, key string) outcome {
	var t trail
	r, err := http.NewRequestWithContext(t.follow(ctx), http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return outcome{reason: Failed, err: errors.New("make the request: the URL cannot be used")}
	}
	// Without it the transport would repeat requests on its own, as they have an
	// Idempotency-Key: uncounted, and as often as there are connections.
	r.GetBody = nil
	r.Header = c.headers.Clone()
	r.Header["Idempotency-Key"] = []string{key}
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return c.broke(ctx, &t, err)
	}
	// Closed before its end, a body takes its connection along.
	defer response.Body.Close()
	o := c.read(ctx, response)
	o.status, o.sent = response.StatusCode, true
	return o
}

// broke is a request that had no response.
func (c *Client) broke(ctx context.Context, t *trail, err error) outcome {
	o := outcome{reason: Failed, sent: t.wrote.Load()}
	stale := t.reused.Load() && !t.heard.Load()
	switch {
	case ctx.Err() != nil:
		o.reason, o.err = Timeout, fmt.Errorf("no answer within %v", c.config.Timeout)
	case !o.sent && !stale:
		o.err, o.again = fmt.Errorf("connect: %w", err), true
	case stale:
		// Connections that the candidate closed while nobody used them come in
		// herds, as after its restart: the retry must not meet the next.
		c.transport.CloseIdleConnections()
		o.err, o.again = fmt.Errorf("the connection was closed: %w", err), true
	default:
		o.err = fmt.Errorf("the connection broke: %w", err)
	}
	return o
}

// read makes an outcome of a response.
func (c *Client) read(ctx context.Context, r *http.Response) outcome {
	status := r.StatusCode
	switch {
	case status >= 500:
		return outcome{reason: Failed, err: c.said(r), again: status == http.StatusServiceUnavailable}
	case status >= 400:
		return outcome{reason: Refused, err: c.said(r)}
	case status >= 300:
		return outcome{reason: Redirected, err: fmt.Errorf("status %d to %s: give the address that answers", status, show(cut(r.Header.Get("Location"))))}
	case status != http.StatusOK:
		return outcome{reason: Unparsable, err: fmt.Errorf("status %d: want 200", status)}
	case !isJSON(r.Header.Get("Content-Type")):
		return outcome{reason: Unparsable, err: fmt.Errorf("content type %q: want application/json", cut(r.Header.Get("Content-Type")))}
	case r.Header.Get("Content-Encoding") != "":
		return outcome{reason: Unparsable, err: fmt.Errorf("content encoding %q was not asked for", cut(r.Header.Get("Content-Encoding")))}
	}
	body, err := c.body(r)
	switch {
	case errors.Is(err, errOversize):
		return outcome{reason: Oversize, err: err}
	case err != nil && ctx.Err() != nil:
		return outcome{reason: Timeout, err: fmt.Errorf("no whole answer within %v", c.config.Timeout)}
	case err != nil:
		return outcome{reason: Failed, err: fmt.Errorf("the answer broke off: %w", err)}
	}
	response, err := quote.DecodeResponse(body)
	if err != nil {
		err = fmt.Errorf("read the answer: %w", first(err))
	}
	if err != nil && len(response.Answers) == 0 {
		return outcome{reason: Unparsable, err: err}
	}
	c.count.says(response.Candidate, response.Build)
	return outcome{response: &response, spoilt: err}
}

// first is short where much is wrong.
func first(err error) error {
	if all, ok := errors.AsType[quote.Faults](err); ok && len(all) > 1 {
		return fmt.Errorf("%w (the first of several)", all[0])
	}
	return err
}

var errOversize = errors.New("the answer is too large")

// body reads at most MaxBody, and a byte to know that there is more.
func (c *Client) body(r *http.Response) ([]byte, error) {
	limit := c.config.MaxBody
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, of which %d are read", errOversize, r.ContentLength, limit)
	}
	size := r.ContentLength
	if size < 0 {
		size = c.count.usual()
	}
	// One byte more than there is, for ReadFrom to find the end without growing.
	buffer := bytes.NewBuffer(make([]byte, 0, min(size, limit)+bytes.MinRead))
	n, err := buffer.ReadFrom(io.LimitReader(r.Body, limit+1))
	c.count.read(n)
	if n > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", errOversize, limit)
	}
	return buffer.Bytes(), err
}

// said is an error status, with the beginning of what came with it.
func (c *Client) said(r *http.Response) error {
	text := make([]byte, 4096)
	n, _ := io.ReadFull(r.Body, text) // an answer this short leaves its connection usable
	c.count.read(int64(n))
	var p quote.Problem
	if err := json.Unmarshal(text[:n], &p); err == nil && p.Detail != "" {
		if len(p.Errors) > 0 {
			p.Detail += ": " + p.Errors[0].Field + ": " + p.Errors[0].Want
		}
		text = append(text[:0], p.Detail...)
		n = len(text)
	}
	if words := cut(strings.TrimSpace(string(text[:n]))); words != "" {
		return fmt.Errorf("status %d: %s", r.StatusCode, strconv.Quote(words))
	}
	return fmt.Errorf("status %d", r.StatusCode)
}

// cut is the first of what a stranger wrote.
func cut(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json"))
}
