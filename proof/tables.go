package proof

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"banyan/event"
	"banyan/wal"
)

// Source takes snapshots of the database.
type Source interface {
	// Snapshot takes a new one. An error that is a *BlockedError leaves the
	// proof unfinished; any other one ends it.
	Snapshot(ctx context.Context) (Snapshot, error)
}

// Snapshot shows the source as it was at one place of its log.
type Snapshot interface {
	// LSN is that place: what committed below it is shown, nothing else.
	LSN() uint64
	// Ranges parts the roots of a unit. They fit later snapshots too, and
	// leave no key out.
	Ranges(ctx context.Context, unit wal.Unit, rows int64) ([]wal.Range, error)
	// Read gives the aggregates of one range. A tree is valid until fn
	// returns.
	Read(ctx context.Context, unit wal.Unit, r wal.Range, fn func(*wal.Tree) error) error
	// Close lets the source go. It may be called twice.
	Close() error
}

// Rules is one version of the rules; *translate.Rules is one.
type Rules interface {
	// Units are the aggregates, and how they are read.
	Units() []wal.Unit
	// Expected gives the key and the state that the rules make of rows.
	Expected(aggregate string, tree *wal.Tree) (key string, state []byte, err error)
}

// BlockedError says that no snapshot could be had in time.
type BlockedError struct{ Why string }

func (e *BlockedError) Error() string { return e.Why }

// reading is one pass over the tables of an aggregate, for all versions of the
// rules that read the same rows.
type reading struct {
	aggregate string
	unit      wal.Unit
	main      bool
	versions  []int
}

// plan finds which aggregates are to be read with which versions of the rules.
// A version that is not to be had is left out: its keys will be unproven.
func plan(current int, rules map[int]Rules, wanted map[string]map[int]bool) (readings []reading, covered map[string]map[int]bool) {
	covered = map[string]map[int]bool{}
	for _, unit := range rules[current].Units() {
		agg := unit.Aggregate
		all := []reading{{aggregate: agg, unit: unit, main: true, versions: []int{current}}}
		covered[agg] = map[int]bool{current: true}
		for _, v := range sorted(wanted[agg]) {
			if v == current || rules[v] == nil {
				continue
			}
			units := rules[v].Units()
			i := slices.IndexFunc(units, func(u wal.Unit) bool { return u.Aggregate == agg })
			if i < 0 {
				continue
			}
			covered[agg][v] = true
			if j := slices.IndexFunc(all, func(r reading) bool { return reflect.DeepEqual(r.unit, units[i]) }); j >= 0 {
				all[j].versions = append(all[j].versions, v)
			} else {
				all = append(all, reading{aggregate: agg, unit: units[i], versions: []int{v}})
			}
		}
		readings = append(readings, all...)
	}
	return readings, covered
}

func sorted(set map[int]bool) []int {
	var list []int
	for v := range set {
		list = append(list, v)
	}
	slices.Sort(list)
	return list
}

// tables reads the source. It holds one snapshot at a time, none for longer
// than maxAge and the range that is being read.
type tables struct {
	source  Source
	rules   map[int]Rules
	shelf   *shelf
	maxAge  time.Duration
	perRead int64
	pace    pace
	values  bool
	now     func() time.Time
	rows    map[string]int64 // by aggregate
	points  []Point

	snap  Snapshot
	taken time.Time
	buf   []byte
	canon []byte
}

// read reads everything of the plan. It always lets the source go.
func (t *tables) read(ctx context.Context, readings []reading, progress func(done, total int64)) (err error) {
	defer func() {
		if e := t.release(); err == nil {
			err = e
		}
	}()
	// Where there is nothing to read, the point is still to be had.
	if err := t.fresh(ctx); err != nil {
		return err
	}
	type job struct {
		reading *reading
		rg      wal.Range
	}
	var jobs []job
	var done, total int64
	for i := range readings {
		r := &readings[i]
		ranges, err := t.snap.Ranges(ctx, r.unit, t.perRead)
		if err != nil {
			return fmt.Errorf("part the rows of %s: %w", r.aggregate, err)
		}
		for _, rg := range ranges {
			jobs = append(jobs, job{r, rg})
			total += rg.Rows
		}
	}
	for _, j := range jobs {
		progress(done, total)
		if err := t.fresh(ctx); err != nil {
			return err
		}
		err := t.snap.Read(ctx, j.reading.unit, j.rg, func(tree *wal.Tree) error { return t.take(ctx, j.reading, tree) })
		if err != nil {
			return fmt.Errorf("read the rows of %s: %w", j.reading.aggregate, err)
		}
		done += j.rg.Rows
	}
	progress(total, total)
	return nil
}

// fresh takes a snapshot where there is none, or where the one at hand is too
// old.
func (t *tables) fresh(ctx context.Context) error {
	if t.snap != nil && t.now().Sub(t.taken) < t.maxAge {
		return nil
	}
	if err := t.release(); err != nil {
		return err
	}
	snap, err := t.source.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("take a snapshot of the source: %w", err)
	}
	t.snap, t.taken = snap, t.now()
	t.points = append(t.points, Point{LSN: wal.LSN(snap.LSN()).String(), lsn: snap.LSN()})
	return nil
}

func (t *tables) release() error {
	if t.snap == nil {
		return nil
	}
	err := t.snap.Close()
	t.points[len(t.points)-1].HeldSeconds = t.now().Sub(t.taken).Seconds()
	t.snap = nil
	if err != nil {
		return fmt.Errorf("let the source go: %w", err)
	}
	return nil
}

// take tells one aggregate by every version of the reading, and keeps it.
func (t *tables) take(ctx context.Context, r *reading, tree *wal.Tree) error {
	n := size(tree)
	t.rows[r.aggregate] += n
	t.points[len(t.points)-1].Rows += n
	row := row{point: len(t.points) - 1, main: r.main}
	row.Aggregate = r.aggregate
	parts := make([]string, 0, len(r.unit.Root.Key))
	for _, c := range r.unit.Root.Key {
		parts = append(parts, string(tree.Row[c].Bytes))
	}
	row.Key = event.JoinKey(parts...)
	for _, v := range r.versions {
		tl := telling{rules: v}
		_, state, err := t.rules[v].Expected(r.aggregate, tree)
		if err == nil {
			tl.state, t.canon, err = hashState(state, t.canon)
		}
		switch {
		case err != nil:
			tl.mute = true
		default:
			tl.marks = marksOf(t.canon)
			if t.values {
				tl.json = slices.Clone(t.canon)
			}
		}
		row.tellings = append(row.tellings, tl)
	}
	t.buf = row.append(t.buf[:0])
	if err := t.shelf.add(row.Ref, t.buf); err != nil {
		return err
	}
	return t.pace.take(ctx, n, t.now)
}

// size counts the rows of a tree.
func size(t *wal.Tree) int64 {
	n := int64(1)
	for _, list := range t.Children {
		for i := range list {
			n += size(&list[i])
		}
	}
	return n
}

// pace keeps a reader from being faster than so many rows a second; 0 is no
// bound.
type pace struct {
	rate  int64
	start time.Time
	done  int64
}

func (p *pace) take(ctx context.Context, n int64, now func() time.Time) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	if p.start.IsZero() {
		p.start = now()
	}
	p.done += n
	ahead := time.Duration(float64(p.done)/float64(p.rate)*float64(time.Second)) - now().Sub(p.start)
	if ahead < 10*time.Millisecond {
		return ctx.Err()
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
