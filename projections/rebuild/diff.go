package rebuild

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/projections/control"
	"banyan/projections/state"
)

// DiffConfig says which versions to compare.
type DiffConfig struct {
	SwapConfig
	// Examples is how many rows are shown of each table; 10 where zero, none
	// where negative.
	Examples int
	// Explain replays the history to find the last event that has changed each
	// example in the new version.
	Explain bool
}

// Diff compares the active version with another one, as Swap would choose it, at
// equal offsets: both stop at one mark for a moment, a snapshot of the database is
// taken, and they go on. Tables are compared in the columns that both have.
func Diff(ctx context.Context, cfg DiffConfig) (*Comparison, error) {
	cfg.SwapConfig = cfg.SwapConfig.withDefaults()
	began := time.Now()
	store, err := control.Open(ctx, cfg.DB)
	if err != nil {
		return nil, err
	}
	s := &swapper{cfg: cfg.SwapConfig, store: store, doing: "compare"}
	if err := s.choose(ctx, []control.State{control.Following, control.Kept}); err != nil {
		return nil, err
	}
	if s.program[1], err = cfg.Program(s.to); err != nil {
		return nil, fmt.Errorf("version %d of %s: %w", s.to.Number, cfg.Projection, err)
	}
	var snap *snapshot
	if err := s.meet(ctx, func(ctx context.Context, at control.Mark, _ time.Time) error {
		snap, err = takeSnapshot(ctx, cfg.DB)
		return err
	}); err != nil {
		return nil, fmt.Errorf("compare versions %d and %d of %s: %w", s.from.Number, s.to.Number, cfg.Projection, err)
	}
	defer snap.close()
	c := &Comparison{Projection: cfg.Projection, Old: s.from.Number, New: s.to.Number, Tables: []TableReport{}, Gone: []string{}, Added: []string{}}
	d := &differ{cfg: cfg, swapper: s, snap: snap, c: c}
	if err := d.tables(ctx); err != nil {
		return nil, err
	}
	c.Took = time.Since(began)
	return c, nil
}

// snapshot is a moment of the database that several connections can look at.
type snapshot struct {
	db    *pgxpool.Pool
	conns []*pgxpool.Conn
	id    string
}

// takeSnapshot begins a REPEATABLE READ transaction and takes its snapshot.
func takeSnapshot(ctx context.Context, db *pgxpool.Pool) (*snapshot, error) {
	s := &snapshot{db: db}
	conn, err := s.open(ctx)
	if err == nil {
		err = conn.QueryRow(ctx, `SELECT pg_export_snapshot()`).Scan(&s.id)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("take a snapshot: %w", err)
	}
	return s, nil
}

// open gives another connection that sees the same moment.
func (s *snapshot) open(ctx context.Context) (*pgx.Conn, error) {
	pooled, err := s.db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the projection's database: %w", err)
	}
	s.conns = append(s.conns, pooled)
	conn := pooled.Conn()
	sql := `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0`
	if s.id != "" {
		// The first statement of the transaction has to be this one.
		sql = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '` + s.id + `'; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0`
	}
	if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("look at a moment of the database: %w", err)
	}
	return conn, nil
}

func (s *snapshot) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, c := range s.conns {
		if _, err := c.Exec(ctx, `ROLLBACK`); err != nil {
			c.Conn().Close(ctx)
		}
		c.Release()
	}
	s.conns = nil
}

type differ struct {
	cfg DiffConfig
	*swapper
	snap *snapshot
	c    *Comparison
}

// tables compares what both have.
func (d *differ) tables(ctx context.Context) error {
	a, err := d.snap.open(ctx)
	if err != nil {
		return err
	}
	b, err := d.snap.open(ctx)
	if err != nil {
		return err
	}
	before, err := readCatalog(ctx, a, d.from.Schema)
	if err != nil {
		return err
	}
	after, err := readCatalog(ctx, a, d.to.Schema)
	if err != nil {
		return err
	}
	d.c.Gone, d.c.Added = append(d.c.Gone, lost(before, after)...), append(d.c.Added, lost(after, before)...)
	wanted := make(map[string][]state.Key)
	shapes := make(map[string]*state.Shape)
	var examples []*keyedDifference
	for _, t := range d.program[1].Spec().AllTables() {
		old, ok := before[t.Name]
		if !ok {
			continue
		}
		common, ok := shared(t.Name, old, after[t.Name])
		if !ok {
			d.c.Gone = append(d.c.Gone, t.Name+" (its key is another)")
			continue
		}
		common.Hidden = t.Hidden
		shape, err := state.Compile(common)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		r := TableReport{Table: t.Name, Hidden: t.Hidden, Examples: []Difference{}}
		cmp := &comparer{shape: shape, examples: exampleCount(d.cfg.Examples)}
		shown, err := cmp.compare(&r, state.Scan(ctx, b, d.to.Schema, common), state.Scan(ctx, a, d.from.Schema, common))
		if err != nil {
			return fmt.Errorf("compare table %s: %w", t.Name, err)
		}
		for i := range shown {
			r.Examples = append(r.Examples, shown[i].Difference)
			wanted[t.Name] = append(wanted[t.Name], shown[i].key)
			examples = append(examples, &shown[i])
		}
		shapes[t.Name] = shape
		d.c.Tables = append(d.c.Tables, r)
	}
	if !d.cfg.Explain || len(examples) == 0 {
		return nil
	}
	return d.explain(ctx, wanted)
}

func exampleCount(n int) int {
	switch {
	case n < 0:
		return 0
	case n == 0:
		return maxExamples
	}
	return n
}

// explain replays the new version's history up to the offsets of the snapshot and
// writes down which event changed each example last.
func (d *differ) explain(ctx context.Context, wanted map[string][]state.Key) error {
	conn, err := d.snap.open(ctx)
	if err != nil {
		return err
	}
	v := &verifier{cfg: VerifyConfig{DB: d.cfg.DB, Log: d.cfg.Log, Program: d.program[1]}.withDefaults(), store: d.store, version: d.to,
		spec: d.program[1].Spec(), report: &Report{}}
	if err := v.read(ctx, conn); err != nil {
		return err
	}
	last, err := v.lastEvents(ctx, wanted)
	if err != nil {
		return fmt.Errorf("find the events behind the differences: %w", err)
	}
	for i := range d.c.Tables {
		t := &d.c.Tables[i]
		for j := range t.Examples {
			t.Examples[j].Event = last[t.Table][wanted[t.Table][j]]
		}
	}
	return nil
}
