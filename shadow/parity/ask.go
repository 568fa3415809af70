package parity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"banyan/compare/structure"
	"banyan/token"
)

// Headers that the requests carry.
const (
	waitHeader   = "Banyan-Wait"
	shadowHeader = "X-Shadow"
	userAgent    = "banyan-shadow-parity"
)

// asker asks both sides. It is safe for concurrent use.
type asker struct {
	config             Config // with its defaults
	control, candidate *url.URL
	comparer           *structure.Comparer
	client             *http.Client
}

// side is which of the two is asked.
type side struct {
	name   string
	base   *url.URL
	use    TokenUse
	shadow bool
}

func (a *asker) controlSide() side {
	return side{name: "control", base: a.control, use: a.config.ControlToken}
}

func (a *asker) candidateSide() side {
	return side{name: "candidate", base: a.candidate, use: a.config.CandidateToken, shadow: true}
}

// newClient talks to nobody but the two: no proxy, no redirect.
func newClient(c Config) *http.Client {
	dialer := &net.Dialer{Timeout: c.Timeout}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: c.Timeout,
			MaxIdleConnsPerHost: c.Concurrency, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 256 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is what one side said, or why there is nothing to compare.
type answer struct {
	fault  string // "" where it is whole
	detail string // of the fault
	status int
	header http.Header
	body   []byte
	token  token.Token // zero where it carries none
	took   time.Duration

	parsed   bool
	document *structure.Document
	unread   error
}

// ask asks one side once, and has an answer in any case.
func (a *asker) ask(ctx context.Context, s side, r Request, t token.Token) *answer {
	began := a.config.Now()
	call, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	ans, err := a.call(call, s, r, t)
	ans.took = a.config.Now().Sub(began)
	if err == nil {
		return ans
	}
	ans.detail = err.Error()
	var opaque *url.Error
	if errors.As(err, &opaque) {
		ans.detail = opaque.Err.Error() // the URL may hold a password
	}
	switch {
	case ctx.Err() != nil:
		ans.fault = ReasonStopped
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		ans.fault = FaultTimeout
	case ans.status > 0:
		ans.fault = FaultBroken
	default:
		ans.fault = FaultUnreachable
	}
	return ans
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// call fails where no whole answer came.
func (a *asker) call(ctx context.Context, s side, r Request, t token.Token) (*answer, error) {
	ans := &answer{}
	req, err := http.NewRequestWithContext(ctx, r.Method, strings.TrimSuffix(s.base.String(), "/")+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return ans, err
	}
	req.Header = a.header(s, r, t)
	resp, err := a.client.Do(req)
	if err != nil {
		return ans, err
	}
	defer resp.Body.Close()
	ans.status, ans.header = resp.StatusCode, resp.Header
	ans.body, err = io.ReadAll(io.LimitReader(resp.Body, a.config.Limit+1))
	if err != nil {
		return ans, fmt.Errorf("read the body: %w", err)
	}
	if int64(len(ans.body)) > a.config.Limit {
		ans.fault, ans.detail, ans.body = FaultOversize, fmt.Sprintf("its body is larger than %d bytes", a.config.Limit), nil
		return ans, nil
	}
	if t, err := token.Parse(resp.Header.Get(token.Header)); err == nil {
		ans.token = t
	}
	if req.Header.Get(token.Header) != "" {
		ans.fault, ans.detail = tokenFault(ans)
		if ans.fault == FaultBadToken && s.use == Source {
			ans.detail += "; it is no source: tell parity that " + s.name + " waits"
		}
	}
	return ans, nil
}

// header is what goes with a request to a side.
func (a *asker) header(s side, r Request, t token.Token) http.Header {
	h := http.Header{}
	h.Set("User-Agent", userAgent)
	for name, values := range a.config.Send {
		h[name] = slices.Clone(values)
	}
	if len(r.Body) > 0 && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	if s.shadow {
		h.Set(shadowHeader, "1")
	}
	switch {
	case s.use == Source:
		h.Set(token.Header, token.Wanted)
	case s.use == Wait && t != token.Token{}:
		h.Set(token.Header, t.String())
		h.Set(waitHeader, a.config.Wait.String())
	}
	return h
}

// tokenFault recognises the answers of a side that could not answer as of the
// token: they are problems (RFC 9457) of our own types.
func tokenFault(ans *answer) (fault, detail string) {
	if ans.status < http.StatusBadRequest || media(ans.header) != "application/problem+json" {
		return "", ""
	}
	var problem struct{ Type, Detail string }
	if json.Unmarshal(ans.body, &problem) != nil {
		return "", ""
	}
	for _, f := range []string{FaultBehind, FaultParked, FaultBadToken} {
		if problem.Type == "urn:banyan:"+f {
			return f, problem.Detail
		}
	}
	return "", ""
}

// media is the media type of a body, without its parameters; as it is where it
// cannot be read.
func media(h http.Header) string {
	text := h.Get("Content-Type")
	if m, _, err := mime.ParseMediaType(text); err == nil {
		return m
	}
	return text
}

func isJSON(media string) bool {
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

// read parses the body once.
func (ans *answer) read(c *structure.Comparer) (*structure.Document, error) {
	if !ans.parsed {
		ans.parsed = true
		ans.document, ans.unread = c.Parse(ans.body)
	}
	return ans.document, ans.unread
}
