package parity

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"banyan/compare/structure"
	"banyan/token"
)

// TokenUse says what a side makes of the header Banyan-Token.
type TokenUse string

// The uses of a token.
const (
	// Wait is a side that waits until it has seen the commit of the token, such as
	// the read API of a projection.
	Wait TokenUse = "wait"
	// Source is the side that commits: it is always new, and says with a token how
	// new (token.Maker). It is sent "wanted".
	Source TokenUse = "source"
	// None is a side that is sent no token.
	None TokenUse = "none"
)

// Config says what is asked, how, and what is allowed to differ. Only Control
// and Candidate are needed.
type Config struct {
	// Control and Candidate are base URLs: the path of a request is put behind.
	Control, Candidate string
	// Methods are the methods that are asked, in capitals. Nil is GET, HEAD and
	// OPTIONS. Whoever allows more lets both services do things twice.
	Methods []string
	// Send goes with every request to both sides: Accept, Authorization. Values
	// are not shown in reports but for those of Accept.
	Send http.Header
	// Headers are the response headers that are compared; nil is Content-Type. The
	// Location of a redirect always is, without the base URL.
	Headers []string

	// Token is the commit that all answers must have seen at least; zero is none.
	Token token.Token
	// ControlToken and CandidateToken are Source and Wait where empty: the monolith
	// commits and the new service follows.
	ControlToken, CandidateToken TokenUse
	// Wait is how long a side may wait for a token, sent as Banyan-Wait; 5 s where
	// zero.
	Wait time.Duration

	// Timeout is for one call, from the dial to the end of the body; 10 s where
	// zero.
	Timeout time.Duration
	// Concurrency is how many requests are under way at a time; 4 where zero.
	Concurrency int
	// PerSecond is how many requests are begun in a second at most; 0 sets no
	// limit beside Concurrency.
	PerSecond float64
	// Limit is how many bytes a body may have; 1 MiB where zero.
	Limit int64
	// GiveUp is how many requests in a row one side may leave unanswered before
	// the run ends; 50 where zero.
	GiveUp int

	// Noise asks the control twice.
	Noise bool
	// Sample is the percentage of keys that is asked about; 0 is all. A key is in
	// or out as a whole, and with the same Seed always.
	Sample float64
	// Seed draws the sample.
	Seed uint64
	// Once asks a request that comes again, with the same method, path and body,
	// only the first time: a topic has several events of one key.
	Once bool

	// Structure says what is no difference in a JSON body.
	Structure structure.Options
	// MaxDiffering is the percentage of compared requests that may differ for the
	// report to be OK.
	MaxDiffering float64
	// MaxUnanswered is the percentage of asked requests that may go uncompared
	// because a side did not answer.
	MaxUnanswered float64

	// Examples is how many requests are kept for each field and cause; 3 where
	// zero.
	Examples int
	// Replay writes the command that repeats one request; nil is
	// "shadow parity --control ... --candidate ... --replay 'GET /orders/1'".
	Replay func(Request) string
	// Log hears, at the end, what became of each rule of Structure. Nil is silent.
	Log *slog.Logger
	// Now is the clock for latencies; time.Now where nil.
	Now func() time.Time
}

// The defaults. A second service beside production gets little at a time.
const (
	defaultWait        = 5 * time.Second
	defaultTimeout     = 10 * time.Second
	defaultConcurrency = 4
	maxConcurrency     = 256
	defaultLimit       = 1 << 20
	maxLimit           = 64 << 20
	defaultGiveUp      = 50
	defaultExamples    = 3
	maxExamples        = 100
)

func (c Config) withDefaults() Config {
	if c.Methods == nil {
		c.Methods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	}
	if c.Headers == nil {
		c.Headers = []string{"Content-Type"}
	}
	send := http.Header{}
	for name, values := range c.Send {
		send[canonical(name)] = append(send[canonical(name)], values...)
	}
	c.Send = send
	c.ControlToken = cmp.Or(c.ControlToken, Source)
	c.CandidateToken = cmp.Or(c.CandidateToken, Wait)
	c.Wait = cmp.Or(c.Wait, defaultWait)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.Concurrency = cmp.Or(c.Concurrency, defaultConcurrency)
	c.Limit = cmp.Or(c.Limit, defaultLimit)
	c.GiveUp = cmp.Or(c.GiveUp, defaultGiveUp)
	c.Examples = cmp.Or(c.Examples, defaultExamples)
	c.Sample = cmp.Or(c.Sample, 100)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate names every fault at once, each with its field, its value and the
// way out. Run does it too.
func (c Config) Validate() error {
	_, err := c.prepare()
	return err
}

// prepare checks a Config and makes of it what asks.
func (c Config) prepare() (*asker, error) {
	c = c.withDefaults()
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	a := &asker{config: c}
	var err error
	if a.control, err = base("Control", c.Control); err != nil {
		faults = append(faults, err)
	}
	if a.candidate, err = base("Candidate", c.Candidate); err != nil {
		faults = append(faults, err)
	}
	if a.comparer, err = structure.New(c.Structure); err != nil {
		fault("Structure: %w", err)
	}
	c.checkAsking(fault)
	c.checkSizes(fault)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	a.client = newClient(c)
	return a, nil
}

// base reads a base URL. What cannot be read is not shown: a password may be in
// it.
func base(field, text string) (*url.URL, error) {
	const want = "want the URL that requests are put behind, such as http://127.0.0.1:8080"
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, fmt.Errorf("%s is empty: %s", field, want)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read as a URL: %s", field, want)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%s %q: %s", field, withoutSecrets(*u), want)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%s %q has a query or a fragment: leave them to the requests", field, withoutSecrets(*u))
	}
	return u, nil
}

// withoutSecrets is a URL without what may be secret in it: password, query and fragment.
func withoutSecrets(u url.URL) string {
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	return u.Redacted()
}

func (c Config) checkAsking(fault func(format string, args ...any)) {
	if len(c.Methods) == 0 {
		fault("Methods is empty: leave it nil for GET, HEAD and OPTIONS, or name some")
	}
	for _, m := range c.Methods {
		if !isMethod(m) {
			fault("Methods: %q is no method: want capitals, such as GET", m)
		}
	}
	own := []string{token.Header, waitHeader, shadowHeader, "Host", "Content-Length"}
	for _, name := range slices.Sorted(keys(c.Send)) {
		switch {
		case !isHeader(name):
			fault("Send: %q is no name of a header", name)
		case slices.ContainsFunc(own, func(o string) bool { return strings.EqualFold(o, name) }):
			fault("Send: %s is set by parity itself: leave it out", name)
		}
		for _, v := range c.Send[name] {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				fault("Send: the value of %s has a control character: take it out", name)
			}
		}
	}
	for _, name := range c.Headers {
		if !isHeader(name) {
			fault("Headers: %q is no name of a header: want one such as Cache-Control", name)
		}
	}
	for _, u := range []struct {
		field string
		use   TokenUse
	}{{"ControlToken", c.ControlToken}, {"CandidateToken", c.CandidateToken}} {
		if u.use != Wait && u.use != Source && u.use != None {
			fault("%s %q: want %s, %s or %s", u.field, u.use, Wait, Source, None)
		}
	}
	if c.Wait < 0 {
		fault("Wait %s is negative: want a duration such as 5s", c.Wait)
	}
	if c.Timeout <= c.Wait {
		fault("Timeout %s is not longer than Wait %s: whoever waits could not answer any more; make it at least %s", c.Timeout, c.Wait, c.Wait+time.Second)
	}
}

func (c Config) checkSizes(fault func(format string, args ...any)) {
	within := func(field string, n, low, high int64) {
		if n < low || n > high {
			fault("%s %d: want %d to %d", field, n, low, high)
		}
	}
	within("Concurrency", int64(c.Concurrency), 1, maxConcurrency)
	within("Limit", c.Limit, 1, maxLimit)
	within("GiveUp", int64(c.GiveUp), 1, math.MaxInt32)
	within("Examples", int64(c.Examples), 1, maxExamples)
	percent := func(field string, v float64) {
		if !(v >= 0 && v <= 100) { // so that NaN is none
			fault("%s %v: want a percentage, 0 to 100", field, v)
		}
	}
	percent("Sample", c.Sample)
	percent("MaxDiffering", c.MaxDiffering)
	percent("MaxUnanswered", c.MaxUnanswered)
	const fastest = 1e6
	if !(c.PerSecond >= 0 && c.PerSecond <= fastest) || c.PerSecond > 0 && c.PerSecond < 1.0/3600 {
		fault("PerSecond %v: want 0 for no limit, or requests a second, up to %.0f and one an hour at least", c.PerSecond, fastest)
	}
}

func isMethod(m string) bool {
	return m != "" && !strings.ContainsFunc(m, func(r rune) bool { return r < 'A' || r > 'Z' })
}

func isHeader(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

func keys(h http.Header) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range h {
			if !yield(name) {
				return
			}
		}
	}
}

// canonical is the name of a header as net/http stores it.
func canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }
