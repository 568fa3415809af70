package readapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/internal/pgtest"
	"banyan/projections/control"
	"banyan/projections/state"
	"banyan/token"
)

// place is a projection that stands where the test puts it.
type place struct {
	mu     sync.Mutex
	at     control.Mark
	moved  chan struct{}
	parked map[event.Ref]string
	broken error
}

func (p *place) Passed(context.Context) (control.Mark, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at, p.broken
}

func (p *place) Wait(ctx context.Context, m control.Mark, r event.Ref) error {
	for {
		p.mu.Lock()
		at, moved, reason := p.at, p.moved, p.parked[r]
		p.mu.Unlock()
		if reason != "" {
			return &control.ParkedError{Projection: "shop", Hindrance: control.Hindrance{Ref: r, Reason: reason}}
		}
		if at.Compare(m) >= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return &control.BehindError{Projection: "shop", Want: m, At: at, Age: time.Second}
		case <-moved:
		}
	}
}

func (p *place) move(to control.Mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = to
	close(p.moved)
	p.moved = make(chan struct{})
}

const rows = `
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id bigint PRIMARY KEY, name text, balance numeric(12,3), since date);
INSERT INTO shop.customers SELECT i, 'name ' || i, i + 0.125, date '2026-01-01' + i::int FROM generate_series(1, 250) i;
CREATE TABLE shop.lines (order_id bigint, line text, quantity int, PRIMARY KEY (order_id, line));
INSERT INTO shop.lines VALUES (7, 'a', 1), (7, 'b/c', 2), (7, 'd,e', 3), (8, '', 4);
`

// newShop serves two tables; get asks it.
func newShop(t *testing.T) (*place, func(path string, headers ...string) (*http.Response, string)) {
	t.Helper()
	db := pgtest.New(t, pgtest.Options{SQL: rows})
	p := &place{at: control.Mark{Generation: 1, LSN: 0x100, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, moved: make(chan struct{}), parked: map[event.Ref]string{}}
	s, err := New(db.Pool(t), p, []Resource{
		{Path: "customers", View: pgx.Identifier{"shop", "customers"}, Aggregate: "Customer", Table: state.Table{Name: "customers", Key: []string{"id"}, Columns: []state.Column{
			{Name: "id", Type: "bigint", NotNull: true}, {Name: "name", Type: "text"}, {Name: "balance", Type: "numeric(12,3)"}, {Name: "since", Type: "date"}}}},
		{Path: "lines", View: pgx.Identifier{"shop", "lines"}, Table: state.Table{Name: "lines", Key: []string{"order_id", "line"}, Columns: []state.Column{
			{Name: "order_id", Type: "bigint", NotNull: true}, {Name: "line", Type: "text", NotNull: true}, {Name: "quantity", Type: "integer"}}}},
	}, Options{Wait: time.Minute, Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 7, 500e6, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	srv := httptest.NewServer(s)
	t.Cleanup(func() { srv.Close(); cancel(); <-done })
	return p, func(path string, headers ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(b)
	}
}

func TestOneRowAndItsAge(t *testing.T) {
	t.Parallel()
	_, get := newShop(t)
	res, body := get("/customers/42")
	if diff := cmp.Diff(`{"id":42,"name":"name 42","balance":42.125,"since":"2026-02-12"}`+"\n", body); diff != "" || res.StatusCode != 200 {
		t.Errorf("%d %s", res.StatusCode, diff)
	}
	if tok, age := res.Header.Get(token.Header), res.Header.Get("Banyan-Age"); tok != "1:0/100" || age != "2.500" {
		t.Errorf("token %q, age %q", tok, age)
	}
	for path, want := range map[string]string{
		"/lines/7/a":                `"quantity":1`,
		"/lines/7/b%2Fc":            `"quantity":2`,
		"/lines/7/" + "d,e":         `"quantity":3`,
		"/lines/8/":                 "wants a key of 2 parts", // an empty part can't be told from none
		"/lines/7":                  "wants a key of 2 parts",
		"/customers/43/x":           "wants a key of 1 parts",
		"/customers/999":            "no row 999",
		"/customers/forty":          `forty\" is no bigint`,
		"/customers/1%20OR%201=1":   "is no bigint",
		"/nothing/1":                `\"nothing\" is not served`,
		"/customers/42?limit=1":     "one row takes no parameters",
		"/customers?limit=0":        `limit: \"0\"`,
		"/customers?colour=red":     "colour: /customers has no such column; it has id, name, balance, since",
		"/customers?id=x&name=y":    `id: \"x\" is no bigint`,
		"/lines?after=7":            `after: \"7\"`,
		"/customers?after=1;DROP+":  "semicolon",
		"/customers?after=1%3BDROP": "is no bigint",
	} {
		res, body := get(path)
		if !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", path, res.StatusCode, body, want)
		}
		if res.StatusCode != 200 && (res.StatusCode < 400 || res.StatusCode >= 500 || res.Header.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s: %d %s", path, res.StatusCode, res.Header.Get("Content-Type"))
		}
	}
}

func TestPagesFollowOneAnother(t *testing.T) {
	t.Parallel()
	_, get := newShop(t)
	seen, after := 0, ""
	for {
		path := "/customers?limit=100"
		if after != "" {
			path += "&after=" + url.QueryEscape(after)
		}
		_, body := get(path)
		var page []struct{ ID json.Number }
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if len(page) == 0 {
			break
		}
		seen += len(page)
		after = page[len(page)-1].ID.String()
	}
	if seen != 250 {
		t.Errorf("%d rows on all pages, want 250", seen)
	}
	if _, body := get("/lines?order_id=7&after=7," + url.QueryEscape(event.JoinKey("b/c"))); !strings.Contains(body, `"d,e"`) || strings.Contains(body, `"a"`) {
		t.Errorf("behind a composite key: %s", body)
	}
}

func TestTokenIsWaitedFor(t *testing.T) {
	t.Parallel()
	p, get := newShop(t)
	if res, body := get("/customers/1", token.Header, "1:0/200", "Banyan-Wait", "0s"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" ||
		!strings.Contains(body, `"passed":"1:0/100"`) || !strings.Contains(body, `"lsnBytes":256`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	answered := make(chan int, 1)
	go func() {
		res, _ := get("/customers/1", token.Header, "1:0/200")
		answered <- res.StatusCode
	}()
	select {
	case code := <-answered:
		t.Fatalf("answered %d before the token was passed", code)
	case <-time.After(50 * time.Millisecond): // it is waiting, or not even there yet: either way it may not answer
	}
	p.move(control.Mark{Generation: 1, LSN: 0x200})
	if code := <-answered; code != 200 {
		t.Errorf("answered %d after the token was passed", code)
	}
	p.move(control.Mark{Generation: 2, LSN: 0x10})
	if res, _ := get("/customers/1", token.Header, "1:0/FFFF", "Banyan-Wait", "0s"); res.StatusCode != 200 {
		t.Errorf("a newer generation does not pass an older token: %d", res.StatusCode)
	}
	for _, bad := range []string{"x", "1", "1:0", "0:0/1", "1:0/1G", "-1:0/1"} {
		if res, body := get("/customers/1", token.Header, bad); res.StatusCode != 400 || !strings.Contains(body, "Banyan-Token") {
			t.Errorf("token %q: %d %s", bad, res.StatusCode, body)
		}
	}
	if res, body := get("/customers/1", token.Header, "2:0/10", "Banyan-Wait", "ages"); res.StatusCode != 400 || !strings.Contains(body, "Banyan-Wait") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestParkedKeyIsSaidToBe(t *testing.T) {
	t.Parallel()
	p, get := newShop(t)
	p.parked[event.Ref{Aggregate: "Customer", Key: "7"}] = "name is too long"
	if res, body := get("/customers/7", token.Header, "1:0/100"); res.StatusCode != 409 || !strings.Contains(body, "name is too long") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, _ := get("/customers/8", token.Header, "1:0/100"); res.StatusCode != 200 {
		t.Errorf("another key: %d", res.StatusCode)
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	t.Parallel()
	_, get := newShop(t)
	res, _ := get("/customers/1")
	for _, m := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		req, err := http.NewRequestWithContext(t.Context(), m, res.Request.URL.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if got.StatusCode != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", m, got.StatusCode)
		}
	}
}

func TestNewNamesAllFaults(t *testing.T) {
	t.Parallel()
	one := Resource{Path: "a", View: pgx.Identifier{"s", "a"}, Table: state.Table{Name: "a", Key: []string{"id"}, Columns: []state.Column{{Name: "id", Type: "bigint", NotNull: true}}}}
	bad := one
	bad.Path = "a/b"
	if _, err := New(nil, &place{moved: make(chan struct{})}, []Resource{one, one, bad}, Options{}); err == nil || !strings.Contains(err.Error(), "two of them") || !strings.Contains(err.Error(), "one segment") {
		t.Errorf("%v", err)
	}
}
