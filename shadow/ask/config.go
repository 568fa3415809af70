package ask

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strings"
	"time"

	"banyan/quote"
)

// Config says how a candidate is asked. Defaults gives one that harms nobody; New
// checks what has been made of it.
type Config struct {
	// URL is where orders are posted, http or https. A user and password in it are
	// sent as basic authentication, and shown nowhere.
	URL string
	// ID tells the candidate who asks, in the header X-Shadow-Client; it may be empty.
	ID string
	// Timeout is for a whole call: connect, both bodies, and its retry.
	Timeout time.Duration
	// Connect is for the connection alone, TLS too.
	Connect time.Duration
	// Concurrency is how many calls are open at once, from all of Ask together. As
	// many may wait for their turn; what comes then is turned away as Full.
	Concurrency int
	// Batch is the most orders of a call, Lines the most lines (an order with more
	// goes alone). With a Rate a call has no more orders than a second allows.
	Batch, Lines int
	// MaxBody is the most bytes of an answer that are read.
	MaxBody int64
	// Retries is how often a call is tried again within its Timeout, and only where
	// no connection came about, it turned out to be closed already, or the candidate
	// says 503.
	Retries int
	// RetryShare bounds the retries of all calls: that share of the calls, and
	// RetryMin on top of it, once.
	RetryShare float64
	RetryMin   int
	Breaker    Breaker
	// Rate is the most orders a second, split and repeated ones included; 0 is no limit.
	Rate float64
	// Seed is that of the jitter.
	Seed uint64
	// Dial opens connections; nil is a net.Dialer with Connect. Whatever it is, the
	// candidate's is the only address that it is called with.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Breaker says when a candidate is left alone, and for how long.
type Breaker struct {
	// FailureRatio of at least MinCalls calls within Window opens the breaker.
	FailureRatio float64
	MinCalls     int
	Window       time.Duration
	// Delay is how long it is open the first time. Each time that the probes fail it
	// is twice as long, up to MaxDelay, a tenth more or less by lot.
	Delay, MaxDelay time.Duration
	// Probes is how many calls are let through after that. They close the breaker
	// unless FailureRatio of them fails.
	Probes int
}

// Defaults is the configuration for a candidate at the URL: of a candidate that
// nobody knows yet, and that may share its machine or database with something live.
func Defaults(url string) Config {
	return Config{
		URL:         url,
		Timeout:     time.Second,
		Connect:     250 * time.Millisecond,
		Concurrency: 32,
		Batch:       100,
		Lines:       1000, // a kilobyte of MaxBody for each, which a trail of six rules fits
		MaxBody:     1 << 20,
		Retries:     1,
		RetryShare:  0.1,
		RetryMin:    1,
		Breaker: Breaker{FailureRatio: 0.5, MinCalls: 20, Window: 10 * time.Second,
			Delay: 5 * time.Second, MaxDelay: time.Minute, Probes: 3},
	}
}

// Check tells all that is wrong with the configuration: the field, its value, and
// what it may be.
func (c Config) Check() error {
	var faults []error
	want := func(ok bool, field string, value any, must string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s is %v: %s", field, value, must))
		}
	}
	_, err := parse(c.URL)
	want(err == nil, "URL", show(c.URL), fmt.Sprint(err))
	want(!strings.ContainsFunc(c.ID, func(r rune) bool { return r < ' ' || r > '~' }), "ID", fmt.Sprintf("%q", c.ID),
		"it goes into a header: use printable ASCII")
	want(c.Timeout > 0, "Timeout", c.Timeout, "give the candidate some time, such as 1s")
	want(c.Connect > 0 && c.Connect <= c.Timeout, "Connect", c.Connect, "it must be above 0 and within Timeout")
	want(c.Concurrency >= 1 && c.Concurrency <= 1024, "Concurrency", c.Concurrency, "it must be 1 to 1024")
	want(c.Batch >= 1 && c.Batch <= quote.MaxOrders, "Batch", c.Batch, fmt.Sprintf("it must be 1 to %d", quote.MaxOrders))
	want(c.Lines >= 1 && c.Lines <= quote.MaxLines, "Lines", c.Lines, fmt.Sprintf("it must be 1 to %d", quote.MaxLines))
	want(c.MaxBody >= 1024 && c.MaxBody <= 1<<30, "MaxBody", c.MaxBody, "it must be 1 KiB to 1 GiB")
	want(c.Retries >= 0 && c.Retries <= 3, "Retries", c.Retries, "it must be 0 to 3")
	want(c.RetryShare >= 0 && c.RetryShare <= 0.5, "RetryShare", c.RetryShare, "it must be 0 to 0.5, a share of the calls")
	want(c.RetryMin >= 0 && c.RetryMin <= 100, "RetryMin", c.RetryMin, "it must be 0 to 100")
	want(c.Rate == 0 || c.Rate >= 0.001 && c.Rate <= 1e6, "Rate", c.Rate, "it must be 0 for no limit, or 0.001 to 1000000 orders a second")

	b := c.Breaker
	want(b.FailureRatio > 0 && b.FailureRatio <= 1, "Breaker.FailureRatio", b.FailureRatio, "it must be above 0, and 1 at most")
	want(b.MinCalls >= 1, "Breaker.MinCalls", b.MinCalls, "it must be at least 1")
	want(b.Window >= 10*time.Millisecond, "Breaker.Window", b.Window, "it must be at least 10ms")
	want(b.Delay > 0, "Breaker.Delay", b.Delay, "it must be above 0")
	want(b.MaxDelay >= b.Delay, "Breaker.MaxDelay", b.MaxDelay, "it must be at least Delay")
	want(b.Probes >= 1, "Breaker.Probes", b.Probes, "it must be at least 1")
	if len(faults) == 0 {
		// A candidate that hangs fails Concurrency calls in each Timeout, no more.
		possible := float64(c.Concurrency) * (float64(b.Window) / float64(c.Timeout))
		want(possible >= float64(b.MinCalls), "Breaker.MinCalls", b.MinCalls, fmt.Sprintf(
			"a candidate that hangs would never open the breaker, as only %d calls time out within Window: raise Concurrency or Window, or lower Timeout or MinCalls",
			int(math.Floor(possible))))
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("how the candidate is asked: %w", errors.Join(faults...))
}

// batch is how many orders go into a call.
func (c Config) batch() int {
	if c.Rate > 0 {
		return max(1, min(c.Batch, int(c.Rate)))
	}
	return c.Batch
}

// parse reads a candidate's URL. The error does not quote it: there may be a
// password in it.
func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("it cannot be read: write it as http://host:port/quotes")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("a candidate is asked by http or https: write it as http://host:port/quotes")
	case u.Hostname() == "":
		return nil, errors.New("the host is missing: write it as http://host:port/quotes")
	case u.Fragment != "":
		return nil, errors.New("leave out what follows #: it is never sent")
	}
	return u, nil
}

// show is a URL for people to read: without user, password and query, which may
// hold what is nobody's business.
func show(text string) string {
	if text == "" {
		return "empty"
	}
	if u, err := url.Parse(text); err == nil {
		shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, Opaque: u.Opaque}
		if u.User != nil {
			shown.User = url.User("...")
		}
		return shown.String()
	}
	// What cannot be read may have its password anywhere before the last @.
	scheme, rest, ok := strings.Cut(text, "//")
	if !ok {
		scheme, rest = "", text
	}
	at := strings.LastIndex(rest, "@")
	if at >= 0 {
		rest = "..." + rest[at:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	if ok {
		return scheme + "//" + rest
	}
	return rest
}
