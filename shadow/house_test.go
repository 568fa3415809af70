package shadow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/compare"
	"banyan/internal/pgtest"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/projectiontest"
	"banyan/projections/service"
)

// house is a database with shadows in it.
type house struct {
	t     *testing.T
	db    *pgtest.DB
	pool  *pgxpool.Pool
	store *control.Store
	log   *projectiontest.Log
	src   *projectiontest.Source
	lose  atomic.Int64 // how many answers of commits get lost from now on
}

func newHouse(t *testing.T, db *pgtest.DB, s *shop) *house {
	t.Helper()
	h := &house{t: t, db: db, log: s.log, src: s.src}
	cfg, err := pgxpool.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	control.Configure(cfg, control.Settings{Application: "test"})
	cfg.MaxConns = 16
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &deafConn{Conn: c, lose: &h.lose}, nil
	}
	if h.pool, err = pgxpool.NewWithConfig(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.pool.Close)
	if h.store, err = control.Open(t.Context(), h.pool); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// deafConn loses the answer to a commit, and the connection with it, where it is told
// to: the server has committed, and nobody hears of it.
type deafConn struct {
	net.Conn
	lose *atomic.Int64
	deaf atomic.Bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	if strings.Contains(strings.ToLower(string(b)), "commit\x00") && c.lose.Load() > 0 && c.lose.Add(-1) >= 0 {
		c.deaf.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		c.Close()
		return 0, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return n, err
}

func (h *house) install(p projections.Program) control.Version {
	h.t.Helper()
	v, _, err := service.Install(h.t.Context(), h.store, h.log, p, control.Mark{})
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// shadow installs a shadow and gives what makes its Program.
func (h *house) shadow(o Options, who Candidates) (v control.Version, program func() *Comparator) {
	h.t.Helper()
	program = func() *Comparator {
		c, err := NewComparator(o, who, h.pool, v.Schema)
		if err != nil {
			h.t.Fatal(err)
		}
		return c
	}
	v = h.install(program())
	return v, program
}

func (h *house) runner(p projections.Program, v control.Version, change func(*projections.Options)) *projections.Runner {
	h.t.Helper()
	o := projections.Options{Program: p, Version: v, Store: h.store, Pool: h.pool, Log: h.log, Owner: "test", Poison: projections.Stop, Logger: h.logger()}
	if change != nil {
		change(&o)
	}
	r, err := projections.NewRunner(o)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *house) parts(p projections.Program) map[string][]int {
	parts := map[string][]int{}
	for _, t := range p.Spec().Topics {
		for i := range h.src.Partitions {
			parts[t] = append(parts[t], i)
		}
	}
	return parts
}

// catchUp runs until all that is told is applied.
func (h *house) catchUp(p projections.Program, v control.Version, change func(*projections.Options)) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	err := h.runner(p, v, func(o *projections.Options) {
		o.Until.CaughtUp = true
		if change != nil {
			change(o)
		}
	}).Run(ctx, h.parts(p))
	if err != nil {
		h.t.Fatal(err)
	}
}

var errStopped = errors.New("stopped by the test")

// start runs until stop, which gives what Run said.
func (h *house) start(r *projections.Runner, parts map[string][]int) (stop func() error, done <-chan struct{}) {
	ctx, cancel := context.WithCancelCause(h.t.Context())
	ended := make(chan struct{})
	var err error
	go func() { defer close(ended); err = r.Run(ctx, parts) }()
	var once sync.Once
	stop = func() error {
		once.Do(func() { cancel(errStopped); <-ended })
		return err
	}
	h.t.Cleanup(func() { stop() })
	return stop, ended
}

// eventually looks again and again, for what no signal tells of.
func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	eventually(h.t, what, is)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// picture is what shadow.Read says, by a connection that no test has cut.
func (h *house) picture(name string) *Picture {
	h.t.Helper()
	pool := h.db.Pool(h.t)
	store, err := control.Open(h.t.Context(), pool)
	if err != nil {
		h.t.Fatal(err)
	}
	p, err := Read(h.t.Context(), store, name)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// journal gives the bytes of a journal, by topic/partition/offset.
func (h *house) journal(v control.Version) (all [][]byte) {
	h.t.Helper()
	rows, err := h.db.Conn(h.t).Query(h.t.Context(), `SELECT data FROM `+table(v.Schema, tableJournal)+` ORDER BY part, off`)
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (h *house) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{h.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// testWriter logs where a failed test shows it.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", b)
	}
	return len(b), nil
}

func named(name string) Options {
	o := DefaultOptions()
	o.Name, o.Salt, o.Candidate = name, "salt", "thrifty"
	return o
}

var thriftyOne = Candidates{Who: compare.Candidate{Name: "thrifty"}, InProcess: thrifty{}}

// text is a journal as one text, for a diff.
func text(journal [][]byte) string {
	var b strings.Builder
	for _, e := range journal {
		fmt.Fprintf(&b, "%s\n", e)
	}
	return b.String()
}
