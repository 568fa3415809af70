package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Incarnation is what cdc follows: which life of which source. It is the JSON
// that cdc answers at Path; unknown fields are left alone.
type Incarnation struct {
	Source     string `json:"source"`
	Generation int    `json:"generation"`
	// LSN is how far cdc's store has come, as Postgres prints it; empty before
	// its first commit.
	LSN string `json:"lsn"`
	// System and Timeline say which server the LSNs of this generation are of:
	// pg_control_system's identifier in decimal digits.
	System   string `json:"system"`
	Timeline int32  `json:"timeline"`
}

// Generations asks cdc, in the background, which incarnation it follows. Only
// what cdc has confirmed at the last time is known: after a failure nothing is,
// until cdc answers again. That is on purpose. Between two generations stands a
// cdc repair, which needs cdc run to end: who went on to use the old generation
// would make tokens that the new one's watermarks have passed already.
type Generations struct {
	ask    string // URL, without a password
	client *http.Client
	req    *http.Request
	log    *slog.Logger
	every  time.Duration
	known  atomic.Pointer[Incarnation]
}

// How Generations asks. What is known is never older than refresh and patience
// together; failures are told once, and then asked about less often.
const (
	refresh      = time.Second
	patience     = 2 * time.Second
	longestPause = 5 * time.Second
	longAnswer   = 64 << 10
)

// NewGenerations prepares to ask the cdc run whose --listen address is base,
// such as http://127.0.0.1:9378. It fails where base is no such URL, and asks
// nothing before Run. A nil log is silent.
func NewGenerations(base string, log *slog.Logger) (*Generations, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		if err == nil {
			base = u.Redacted()
		} else {
			base = "that cannot be read" // and may hold a password anywhere
		}
		return nil, fmt.Errorf("address of cdc %q: want the URL that cdc run listens on, such as http://127.0.0.1:9378", base)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	u = u.JoinPath(Path)
	req, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("address of cdc %q: %w", u.Redacted(), err)
	}
	return &Generations{ask: u.Redacted(), req: req, client: &http.Client{Timeout: patience, Transport: &http.Transport{}}, log: log, every: refresh}, nil
}

// Known is the incarnation that cdc has confirmed last, and false where it has
// not answered. It is safe for concurrent use and never waits.
func (g *Generations) Known() (Incarnation, bool) {
	if i := g.known.Load(); i != nil {
		return *i, true
	}
	return Incarnation{}, false
}

// Run asks until ctx ends, which is no failure: a cdc that is away costs tokens
// and nothing else.
func (g *Generations) Run(ctx context.Context) {
	defer g.client.CloseIdleConnections()
	defer g.known.Store(nil)
	tick := time.NewTimer(0)
	defer tick.Stop()
	pause, said := g.every, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		i, err := g.answer(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.known.Store(nil)
			if said != "away" {
				g.log.Warn("no consistency tokens: cdc does not say which generation it follows; asking on", "url", g.ask, "error", err)
				said = "away"
			}
			tick.Reset(pause)
			pause = min(2*pause, max(longestPause, g.every))
			continue
		}
		g.known.Store(&i)
		if now := fmt.Sprintf("%s %d", i.Source, i.Generation); said != now {
			g.log.Info("consistency tokens are of this generation", "source", i.Source, "generation", i.Generation)
			said = now
		}
		pause = g.every
		tick.Reset(pause)
	}
}

// answer asks once.
func (g *Generations) answer(ctx context.Context) (Incarnation, error) {
	var i Incarnation
	resp, err := g.client.Do(g.req.WithContext(ctx))
	if err != nil {
		return i, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, longAnswer))
	if err != nil {
		return i, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		why, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
		return i, fmt.Errorf("it answers %s %.200s", resp.Status, why)
	}
	if err := json.Unmarshal(body, &i); err != nil {
		return i, fmt.Errorf("read the answer: %w", err)
	}
	if i.Source == "" || i.Generation < 1 || i.System == "" || i.Timeline < 1 {
		return i, errors.New("read the answer: it is not that of cdc run, or of another version")
	}
	return i, nil
}
