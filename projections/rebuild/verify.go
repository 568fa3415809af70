package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
)

// VerifyConfig says which version is verified, against what, and what it may take.
type VerifyConfig struct {
	// DB is the projection's database; reading is enough.
	DB *pgxpool.Pool
	// Log holds the topics.
	Log projections.Log
	// Program is what the version was made with.
	Program projections.Program
	// Version is its number; 0 is the active one.
	Version int
	// Memory, Dir and Workers as in Config.
	Memory  int64
	Dir     string
	Workers int
	// Examples is how many rows are shown of each table; 10 where zero, none
	// where negative.
	Examples int
	// Progress and ProgressEvery as in Config.
	Progress      func(Progress)
	ProgressEvery time.Duration
	Logger        *slog.Logger // discarded where nil
}

func (c VerifyConfig) withDefaults() VerifyConfig {
	c.Memory = cmp.Or(max(c.Memory, 0), 192<<20)
	c.Dir = cmp.Or(c.Dir, os.TempDir())
	c.Workers = cmp.Or(max(c.Workers, 0), runtime.GOMAXPROCS(0))
	c.ProgressEvery = cmp.Or(max(c.ProgressEvery, 0), time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Verify folds the history of a version anew, up to exactly where it stands, and
// compares every row of every table, hidden ones too. One moment of the database
// gives the offsets, the chains and the rows, so the version may go on meanwhile.
//
// An error is one of reading; what is wrong with the rows, or with the history, is
// in the report.
func Verify(ctx context.Context, cfg VerifyConfig) (*Report, error) {
	cfg = cfg.withDefaults()
	began := time.Now()
	store, err := control.Open(ctx, cfg.DB)
	if err != nil {
		return nil, err
	}
	v := &verifier{cfg: cfg, store: store, spec: cfg.Program.Spec()}
	v.report = &Report{Verdict: Proved, Reasons: []string{}, Projection: v.spec.Name, Parts: []ProvedPart{}, Tables: []TableReport{}, Parked: []ParkedKey{}}
	if err := v.choose(ctx); err != nil {
		return nil, err
	}
	v.report.Version = v.version.Number
	if err := v.verify(ctx); err != nil {
		return nil, fmt.Errorf("verify version %d of %s: %w", v.version.Number, v.spec.Name, err)
	}
	v.report.Took = time.Since(began)
	v.report.Seconds = v.report.Took.Seconds()
	return v.report, nil
}

// verifier is one verification.
type verifier struct {
	cfg     VerifyConfig
	store   *control.Store
	spec    projections.Spec
	version control.Version
	report  *Report
	told    teller

	// of the snapshot
	parts   []control.Part
	firings []control.Firing
	chains  []control.ParkedEvent
	settled []control.Settled
	cutoffs map[string]time.Time
}

func (v *verifier) choose(ctx context.Context) (err error) {
	if v.cfg.Version == 0 {
		v.version, err = v.store.Active(ctx, v.spec.Name)
		return err
	}
	v.version, err = v.store.Version(ctx, v.spec.Name, v.cfg.Version)
	return err
}

// unproven gives the verdict that nothing can be said.
func (v *verifier) unproven(format string, args ...any) {
	v.report.Verdict = Unproven
	v.report.Reasons = append(v.report.Reasons, fmt.Sprintf(format, args...))
}

func (v *verifier) verify(ctx context.Context) error {
	switch {
	case v.version.State == control.Building:
		v.unproven("version %d is being built", v.version.Number)
	case v.version.State == control.Retired:
		v.unproven("version %d is retired: nothing keeps its rows up to date", v.version.Number)
	case v.version.Digest != v.spec.Digest:
		v.unproven("version %d was made of another definition than the one given", v.version.Number)
	}
	if _, ok := v.cfg.Program.(projections.Batcher); ok {
		v.unproven("the program works with SQL of its own, which only a database can repeat: rebuild it and compare the versions (projector diff)")
	}
	if v.report.Verdict != Proved {
		return nil
	}
	snap, err := takeSnapshot(ctx, v.cfg.DB)
	if err != nil {
		return err
	}
	defer snap.close()
	conn, err := snap.open(ctx)
	if err != nil {
		return err
	}
	if err := v.read(ctx, conn); err != nil {
		return err
	}
	h, err := v.history(nil)
	if err != nil {
		return err
	}
	defer h.close()
	v.told = teller{meter: h.meter, to: v.cfg.Progress}
	defer v.told.regularly(v.cfg.ProgressEvery, func(Progress) {})()
	v.told.enter(Folding)
	if err := h.fold(ctx); err != nil {
		if why, ok := v.historyFault(err); ok {
			v.unproven("%s", why)
			return nil
		}
		return err
	}
	v.report.Events = h.applied()
	if !v.sameHistory(h.parts()) {
		return nil
	}
	v.told.rows(0, h.rows(v.spec.AllTables()))
	v.told.enter(Comparing)
	if err := v.compare(ctx, conn, h); err != nil {
		return err
	}
	v.told.enter(Done)
	return h.close()
}

// sameHistory looks whether the topics hold what the version has applied.
func (v *verifier) sameHistory(now []control.Part) bool {
	for i, p := range v.parts {
		if n := now[i]; n.Seq != p.Seq || n.Anchor != p.Anchor {
			v.unproven("%s was read up to offset %d, to event %q with seq %d; the version has applied %q with seq %d: the topic is another one",
				p.PartID, p.Next, n.Anchor, n.Seq, p.Anchor, p.Seq)
			return false
		}
	}
	return true
}

// historyFault says in words what keeps the history from being folded.
func (v *verifier) historyFault(err error) (string, bool) {
	var fault *projections.Fault
	var poison *projections.PoisonError
	var shared *SharedKeyError
	switch {
	case errors.As(err, &fault):
		return fault.Error(), true
	case errors.As(err, &poison):
		return fmt.Sprintf("%v; the version has applied it, so the program is not the one that it was made with, or is not a function of its rows and events", poison), true
	case errors.As(err, &shared):
		return shared.Error(), true
	}
	return "", false
}

// read takes everything but the rows out of the snapshot.
func (v *verifier) read(ctx context.Context, conn *pgx.Conn) (err error) {
	name, number := v.spec.Name, v.version.Number
	if v.parts, err = v.store.Parts(ctx, conn, name, number); err != nil {
		return err
	}
	if v.settled, err = v.store.Settlements(ctx, conn, name, number); err != nil {
		return err
	}
	if v.cutoffs, err = v.store.Cutoffs(ctx, conn, name, number); err != nil {
		return err
	}
	if v.spec.Timers {
		if v.firings, err = allFirings(ctx, v.store, conn, name); err != nil {
			return err
		}
	}
	chains, err := v.store.Chains(ctx, conn, name, number)
	if err != nil {
		return err
	}
	for _, c := range chains {
		events, err := v.store.Chain(ctx, conn, name, number, c.Ref, 0)
		if err != nil {
			return err
		}
		v.chains = append(v.chains, events...)
		v.report.Parked = append(v.report.Parked, ParkedKey{c.Aggregate, c.Key, int(c.Events), c.Reason})
	}
	var passed control.Mark
	for i, p := range v.parts {
		v.report.Parts = append(v.report.Parts, ProvedPart{p.Topic, p.Part, p.Next})
		if i == 0 || p.Passed.Compare(passed) < 0 {
			passed = p.Passed
		}
	}
	if passed.Generation > 0 {
		v.report.Token = passed.String()
	}
	return nil
}

// passed is the mark that all partitions have passed.
func (v *verifier) passed() (m control.Mark) {
	for i, p := range v.parts {
		if i == 0 || p.Passed.Compare(m) < 0 {
			m = p.Passed
		}
	}
	return m
}

// history is the fold of all that the version has applied.
func (v *verifier) history(wrap func(*state.Bulk) (state.Space, func(*projections.Event))) (*history, error) {
	prep, err := projections.NewPreparer(v.cfg.Program)
	if err != nil {
		return nil, err
	}
	h := &history{log: v.cfg.Log, program: v.cfg.Program, prep: prep, firings: v.firings, chains: v.chains, settled: v.settled, past: true,
		idle: v.passed(), memory: v.cfg.Memory, dir: v.cfg.Dir, workers: v.cfg.Workers, wrap: wrap}
	total := int64(0)
	for _, p := range v.parts {
		h.reaches = append(h.reaches, projections.Reach{PartID: p.PartID, From: 0, Until: p.Next})
		total += p.Next
	}
	h.meter = newMeter(v.spec.Name, v.version.Number, total, time.Now)
	return h, nil
}

// compare looks at all tables.
func (v *verifier) compare(ctx context.Context, conn *pgx.Conn, h *history) error {
	wanted := make(map[string][]state.Key)
	differs := false
	for _, t := range v.spec.AllTables() {
		shape, err := state.Compile(t)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		r := TableReport{Table: t.Name, Hidden: t.Hidden, Examples: []Difference{}}
		c := &comparer{shape: shape, examples: exampleCount(v.cfg.Examples), counted: func(n int64) { v.told.rows(n, 0) }}
		shown, err := c.compare(&r, v.kept(shape, h.each(t.Name)), v.kept(shape, state.Scan(ctx, conn, v.version.Schema, t)))
		if why, ok := v.historyFault(err); ok {
			v.unproven("%s", why)
			return nil
		}
		if err != nil {
			return fmt.Errorf("compare table %s: %w", t.Name, err)
		}
		for _, d := range shown {
			r.Examples = append(r.Examples, d.Difference)
			wanted[t.Name] = append(wanted[t.Name], d.key)
		}
		if n := r.Missing + r.Extra + r.Different; n > 0 {
			differs = true
			v.report.Reasons = append(v.report.Reasons, fmt.Sprintf("table %s: %d rows missing, %d extra, %d different", t.Name, r.Missing, r.Extra, r.Different))
		}
		v.report.Tables = append(v.report.Tables, r)
	}
	if !differs {
		return nil
	}
	v.report.Verdict = Differs
	if len(wanted) == 0 {
		return nil
	}
	last, err := v.lastEvents(ctx, wanted)
	if err != nil {
		return fmt.Errorf("find the events behind the differences: %w", err)
	}
	for i := range v.report.Tables {
		t := &v.report.Tables[i]
		for j := range t.Examples {
			t.Examples[j].Event = last[t.Table][wanted[t.Table][j]]
		}
	}
	return nil
}

// kept leaves out the rows that were past their retention when the runner last
// deleted such.
func (v *verifier) kept(shape *state.Shape, rows iter.Seq2[state.Entry, error]) iter.Seq2[state.Entry, error] {
	t := shape.Table()
	cutoff, ok := v.cutoffs[t.Name]
	if t.Retain == nil || !ok {
		return rows
	}
	column := shape.Column(t.Retain.Column)
	return func(yield func(state.Entry, error) bool) {
		for e, err := range rows {
			if err == nil {
				if at, ok := e.Row[column].(time.Time); ok && at.Before(cutoff) {
					continue
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// lastEvents folds once more and notes which event changed each of some rows last.
func (v *verifier) lastEvents(ctx context.Context, wanted map[string][]state.Key) (map[string]map[state.Key]string, error) {
	shapes := make(map[string]*state.Shape)
	for _, t := range v.spec.AllTables() {
		shape, err := state.Compile(t)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Name, err)
		}
		shapes[t.Name] = shape
	}
	var spaces []*watched
	h, err := v.history(func(b *state.Bulk) (state.Space, func(*projections.Event)) {
		w := watch(b, shapes, wanted)
		spaces = append(spaces, w)
		return w, func(e *projections.Event) { w.event = e.ID.String() }
	})
	if err != nil {
		return nil, err
	}
	defer h.close()
	if err := h.fold(ctx); err != nil {
		return nil, err
	}
	last := make(map[string]map[state.Key]string)
	for table, keys := range wanted {
		last[table] = make(map[state.Key]string)
		for _, k := range keys {
			for _, w := range spaces {
				if id := w.tables[table].last[k]; id != "" {
					last[table][k] = id
				}
			}
		}
	}
	return last, nil
}
