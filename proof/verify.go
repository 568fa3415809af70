package proof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"banyan/event"
	"banyan/wal"
)

// Verify proves, or says why it cannot. An error means that the surroundings
// failed: the source or Kafka could not be read, or the disk is full. Every
// other outcome is a report.
func Verify(ctx context.Context, cfg Config) (*Report, error) {
	v := &verification{Config: cfg.withDefaults(), collector: newCollector(0)}
	v.collector.examples = v.Config.Examples
	defer v.close()
	start := v.Now()
	unfinished, err := v.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	r := v.report(unfinished)
	r.StartedAt, r.TookSeconds = start.UTC(), v.Now().Sub(start).Seconds()
	return r, nil
}

// verification is one run of Verify.
type verification struct {
	Config
	collector  *collector
	ledger     *ledger
	said, kept *shelf
	tables     *tables
	mark       *Mark
	present    Rules // of Current
	aggregates []*AggregateReport
	compared   bool
	retired    map[string]int64
	counts     map[string]event.Counts
	asked      int64 // offset + 1 of the watermark that Settled was asked about
}

func (v *verification) close() {
	if v.ledger != nil {
		v.ledger.close()
	}
	v.said.close()
	v.kept.close()
}

// run goes through the steps that the package's page describes. It returns the
// reasons why the proof could not be finished.
func (v *verification) run(ctx context.Context) (unfinished []string, err error) {
	if why, err := v.standing(ctx); why != "" || err != nil {
		return []string{why}, err
	}
	if err := v.readTopics(ctx); err != nil {
		return nil, err
	}
	early, err := v.parkedNow(ctx)
	if err != nil {
		return nil, err
	}
	rules, wanted, unfinished, err := v.rules(ctx)
	if err != nil {
		return nil, err
	}
	readings, covered := plan(v.Current, rules, wanted)
	if err := v.readTables(ctx, rules, readings); err != nil {
		if b, ok := errors.AsType[*BlockedError](err); ok {
			return append(unfinished, b.Why), nil
		}
		return nil, err
	}
	last := v.tables.points[len(v.tables.points)-1].lsn
	if why, err := v.wait(ctx, last); why != "" || err != nil {
		return append(unfinished, why), err
	}
	if err := v.readRest(ctx); err != nil {
		return nil, err
	}
	if why, err := v.snapshotRunning(ctx); why != "" || err != nil {
		return append(unfinished, why), err
	}
	if v.Counts != nil {
		if v.counts, err = v.Counts(ctx); err != nil {
			return nil, fmt.Errorf("read the account: %w", err)
		}
	}
	if err := v.compare(ctx, early, covered); err != nil {
		return nil, err
	}
	return unfinished, v.explain(ctx)
}

// standing finds out, before anything is read, whether there can be a proof.
func (v *verification) standing(ctx context.Context) (why string, err error) {
	if why, err := v.snapshotRunning(ctx); why != "" || err != nil {
		return why, err
	}
	if v.present, err = v.Rules(ctx, v.Current); err != nil {
		return "", fmt.Errorf("read the present rules, version %d: %w", v.Current, err)
	}
	return v.wait(ctx, 0)
}

func (v *verification) snapshotRunning(ctx context.Context) (why string, err error) {
	if v.SnapshotRunning == nil {
		return "", nil
	}
	running, err := v.SnapshotRunning(ctx)
	if err != nil {
		return "", fmt.Errorf("ask whether a snapshot is running: %w", err)
	}
	if running {
		return "a snapshot is running: what it has not read yet is in no topic; verify when cdc status says it is complete", nil
	}
	return "", nil
}

// readTopics reads all topics to their present end.
func (v *verification) readTopics(ctx context.Context) error {
	names := slices.Clone(v.Names)
	for t := range v.mark.Seqs {
		names = append(names, t)
	}
	slices.Sort(names)
	v.ledger = &ledger{topics: v.Topics, source: v.Source, dir: v.SpillDir, report: v.collector}
	if err := v.ledger.open(ctx, slices.Compact(names)); err != nil {
		return err
	}
	total, err := v.ledger.extent(ctx)
	if err != nil {
		return err
	}
	// The parts are compared one at a time: about this many entries are held
	// in memory. What comes late is not known yet, hence the room.
	const perPart, room = 50_000, 16
	parts := int(min(256, room+total/perPart))
	if v.said, err = newShelf(v.SpillDir, parts); err != nil {
		return err
	}
	if v.kept, err = newShelf(v.SpillDir, parts); err != nil {
		return err
	}
	v.ledger.shelf = v.said
	return v.read(ctx, total)
}

func (v *verification) read(ctx context.Context, total int64) error {
	var done int64
	return v.ledger.read(ctx, func(n int64) {
		done += n
		v.Progress(Progress{Phase: "topics", Done: done, Total: total, What: "records"})
	})
}

// rules gets every version that the topics name.
func (v *verification) rules(ctx context.Context) (map[int]Rules, map[string]map[int]bool, []string, error) {
	rules := map[int]Rules{v.Current: v.present}
	wanted, err := versions(v.said)
	if err != nil {
		return nil, nil, nil, err
	}
	var unfinished []string
	tried := map[int]bool{v.Current: true}
	for _, u := range v.present.Units() {
		v.aggregates = append(v.aggregates, &AggregateReport{Aggregate: u.Aggregate, Table: u.Root.Table.FullName(), Topic: v.TopicOf[u.Aggregate]})
		for _, n := range sorted(wanted[u.Aggregate]) {
			if tried[n] {
				continue
			}
			tried[n] = true
			r, err := v.Rules(ctx, n)
			if err != nil {
				unfinished = append(unfinished, fmt.Sprintf("the rules of version %d cannot be read any more: %v", n, err))
				continue
			}
			rules[n] = r
		}
	}
	return rules, wanted, unfinished, nil
}

func (v *verification) readTables(ctx context.Context, rules map[int]Rules, readings []reading) error {
	v.ledger.late = true
	v.tables = &tables{source: v.Database, rules: rules, shelf: v.kept, maxAge: v.MaxAge, perRead: v.RowsPerRange,
		pace: pace{rate: v.Rate}, values: v.Values, now: v.Now, rows: map[string]int64{}}
	err := v.tables.read(ctx, readings, func(done, total int64) {
		v.Progress(Progress{Phase: "tables", Done: done, Total: total, What: "rows"})
	})
	if err == nil && len(v.tables.points) > 1 {
		v.Log.Info("took more than one snapshot of the source to keep each short", "snapshots", len(v.tables.points))
	}
	return err
}

// pollEvery is how often a watermark is looked for; cdc run writes one at
// least once a second.
const pollEvery = 100 * time.Millisecond

// wait waits for a watermark at or above an LSN, and says why it did not come.
func (v *verification) wait(ctx context.Context, lsn uint64) (why string, err error) {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	var first *Mark
	for deadline := time.Now().Add(v.Wait); ; {
		w, err := v.Watermark(ctx)
		if err != nil {
			return "", fmt.Errorf("read the watermarks: %w", err)
		}
		v.mark = w
		if first == nil {
			first = w
		}
		if w != nil && v.Generation == 0 {
			v.Generation = w.Generation
		}
		if w != nil && w.Generation == v.Generation && w.LSN >= lsn {
			return "", nil
		}
		if w != nil && w.Generation > v.Generation {
			return fmt.Sprintf("the topics are at generation %d, the source that was asked is generation %d: its log has begun anew", w.Generation, v.Generation), nil
		}
		if settled, err := v.settled(ctx, first, w, lsn); err != nil || settled {
			return "", err
		}
		if w != nil && lsn > 0 {
			v.Progress(Progress{Phase: "waiting", Done: int64(w.LSN - min(first.LSN, w.LSN)), Total: int64(lsn - min(first.LSN, lsn)), What: "bytes"})
		}
		if time.Now().After(deadline) {
			return v.late(first, w, lsn), nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// settled asks whether the watermark holds for lsn although it says less: once
// it does not move, for the question costs the source a little.
func (v *verification) settled(ctx context.Context, first, w *Mark, lsn uint64) (bool, error) {
	if v.Settled == nil || w == nil || w.Generation != v.Generation || first.Offset != w.Offset || v.asked == w.Offset+1 {
		return false, nil
	}
	ok, err := v.Settled(ctx, w, lsn)
	if err != nil {
		return false, fmt.Errorf("ask whether anything was committed since the last watermark: %w", err)
	}
	v.asked = w.Offset + 1
	return ok, nil
}

// late says why a watermark did not come in time.
func (v *verification) late(first, w *Mark, lsn uint64) string {
	switch {
	case w == nil:
		return fmt.Sprintf("no watermark in %s: cdc run is not working, or its first snapshot is not complete", v.Wait)
	case w.Generation < v.Generation:
		return fmt.Sprintf("the topics are still at generation %d, the source is at %d: its repair is not complete", w.Generation, v.Generation)
	case first.Offset == w.Offset:
		return fmt.Sprintf("cdc run is not working: its last watermark says %s, of %s, and %s is to be reached",
			wal.LSN(w.LSN), w.Time.UTC().Format(time.RFC3339), wal.LSN(lsn))
	}
	return fmt.Sprintf("cdc run is behind: in %s it came from %s to %s, and %s is to be reached, %d bytes further; verify again when it has caught up, or wait longer",
		v.Wait, wal.LSN(first.LSN), wal.LSN(w.LSN), wal.LSN(lsn), lsn-w.LSN)
}

// readRest reads what was published since, and holds the watermark to its
// word.
func (v *verification) readRest(ctx context.Context) error {
	total, err := v.ledger.extent(ctx)
	if err != nil {
		return err
	}
	if err := v.read(ctx, total); err != nil {
		return err
	}
	v.ledger.short(&v.mark.Watermark)
	return nil
}

func (v *verification) parkedNow(ctx context.Context) ([]event.ParkedAt, error) {
	list := slices.Clone(v.mark.Parked)
	if v.Parked == nil {
		return list, nil
	}
	more, err := v.Parked(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the parked keys: %w", err)
	}
	return append(list, more...), nil
}

// compare settles every key.
func (v *verification) compare(ctx context.Context, early []event.ParkedAt, covered map[string]map[int]bool) error {
	now, err := v.parkedNow(ctx)
	if err != nil {
		return err
	}
	last := v.tables.points[len(v.tables.points)-1].lsn
	c := &comparison{source: v.Source, said: v.said, rows: v.kept, report: v.collector, names: v.ledger.names, limit: v.Examples,
		aggregates: map[string]*AggregateReport{}, parked: map[event.Ref]bool{}, maybe: map[event.Ref]bool{},
		covered: covered, retired: map[string]int64{}}
	if v.Parked == nil {
		// It is wrong for one key in a hundred; a list is better.
		c.filter = v.mark.Filter
	}
	for _, p := range v.tables.points {
		c.points = append(c.points, event.Position{Generation: v.Generation, LSN: p.lsn})
	}
	for _, a := range v.aggregates {
		a.Rows = v.tables.rows[a.Aggregate]
		c.aggregates[a.Aggregate] = a
	}
	for _, k := range early {
		c.maybe[k.Ref] = true
	}
	for _, k := range now {
		if k.LSN < last {
			c.parked[k.Ref] = true
		}
	}
	v.retired, v.compared = c.retired, true
	return c.run(func(done, total int64) {
		v.Progress(Progress{Phase: "comparing", Done: done, Total: total, What: "parts"})
	})
}

func (v *verification) report(unfinished []string) *Report {
	r := &Report{Source: v.Source, Generation: v.Generation, Points: []Point{}, Topics: []TopicReport{}, Aggregates: []AggregateReport{},
		Account: accounts(v.counts), Faults: v.collector.faults}
	if v.tables != nil {
		r.Points = append(r.Points, v.tables.points...)
		if n := len(r.Points); n > 0 {
			r.LSN = r.Points[n-1].LSN
		}
	}
	if v.mark != nil {
		r.Watermark = wal.LSN(v.mark.LSN).String()
	}
	for _, t := range v.collector.topics {
		r.Topics = append(r.Topics, *t)
	}
	for _, a := range v.aggregates {
		if v.compared {
			a.finish()
			r.Aggregates = append(r.Aggregates, *a)
		}
	}
	if r.Faults == nil {
		r.Faults = []Fault{}
	}
	slices.SortFunc(r.Faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	r.NotProved = v.limits(r)
	r.judge(unfinished)
	return r
}

// limits says what the verdict does not mean.
func (v *verification) limits(r *Report) []string {
	list := []string{
		"that the rules are wise: it is proved that the events carry what the rules make of the rows, not that this is what the business means",
		"columns that the rules leave out, and tables that no rule names",
		"how each state was reached: what happened before the first snapshot, and whether every step in between was told, is the account's to say",
	}
	if len(r.Points) > 1 {
		list = append(list, fmt.Sprintf("one moment: the tables were read at %d LSNs, to hold no snapshot for longer than %s; every key is proved at the one that its rows were read at", len(r.Points), v.MaxAge))
	}
	for _, a := range sortedKeys(v.retired) {
		list = append(list, fmt.Sprintf("%s: %s, which no present rule tells", a, count(v.retired[a], "key", "keys")))
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
