package rebuild

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
)

// MakePlan looks at the topics and the database, changes nothing, and says what a
// rebuild will read. All that stands in the way comes at once, as a *Refused.
func MakePlan(ctx context.Context, cfg Config) (*Plan, error) {
	cfg = cfg.withDefaults()
	prep, err := projections.NewPreparer(cfg.Program)
	if err != nil {
		return nil, err
	}
	spec := cfg.Program.Spec()
	store, err := control.Open(ctx, cfg.DB)
	if err != nil {
		return nil, err
	}
	p := &planner{cfg: cfg, spec: spec, prep: prep, store: store, plan: &Plan{Projection: spec.Name, MadeAt: time.Now().UTC()}}
	if err := p.versions(ctx); err != nil {
		return nil, err
	}
	if err := p.database(ctx); err != nil {
		return nil, err
	}
	// The watermark first: whatever it covers lies before the ends that are asked
	// for after it.
	if err := p.watermark(ctx); err != nil {
		return nil, err
	}
	for _, topic := range spec.Topics {
		if err := p.topic(ctx, topic); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(p.plan.Parts, func(a, b PlannedPart) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Part, b.Part))
	})
	p.disk()
	if len(p.faults) > 0 {
		return nil, &Refused{"rebuild " + spec.Name, p.faults}
	}
	return p.plan, nil
}

type planner struct {
	cfg    Config
	spec   projections.Spec
	prep   *projections.Preparer
	store  *control.Store
	plan   *Plan
	faults []Fault
	active []control.Part
	size   int64 // of the active version in the database
}

func (p *planner) fault(field, what, do string) { p.faults = append(p.faults, Fault{field, what, do}) }
func (p *planner) warn(field, what, do string) {
	p.plan.Warnings = append(p.plan.Warnings, Fault{field, what, do})
}

// versions looks at what there is already.
func (p *planner) versions(ctx context.Context) error {
	migrated, err := p.store.Migrated(ctx)
	if err != nil {
		return err
	}
	var all []control.Version
	if migrated {
		if all, err = p.store.Versions(ctx, p.spec.Name); err != nil {
			return err
		}
	}
	p.plan.Version = 1
	for _, v := range all {
		p.plan.Version = max(p.plan.Version, v.Number+1)
		switch v.State {
		case control.Active:
			p.plan.Active = v.Number
			if v.Source != p.spec.Source {
				p.fault("source", fmt.Sprintf("version %d follows the watermarks of %q, this one those of %q", v.Number, v.Source, p.spec.Source),
					"two versions of one projection need one source, or their tokens cannot be compared: give the new one another name")
			}
			if p.active, err = p.store.Parts(ctx, p.cfg.DB, p.spec.Name, v.Number); err != nil {
				return err
			}
		case control.Building:
			if err := p.building(ctx, v); err != nil {
				return err
			}
		case control.Retired: // whoever retired it was killed before it was dropped
			p.plan.Leftover = append(p.plan.Leftover, v.Number)
		}
	}
	if p.plan.Active == 0 && len(p.faults) == 0 {
		p.fault("projection "+p.spec.Name, "it has no version yet", "projector run makes the first; a rebuild makes one beside it")
	}
	return nil
}

// building sorts out a version that another rebuild has begun.
func (p *planner) building(ctx context.Context, v control.Version) error {
	leases, err := p.store.Leases(ctx, p.spec.Name)
	if err != nil {
		return err
	}
	for _, l := range leases {
		if l.Version == v.Number && l.Kind == control.Loading && l.Alive {
			p.fault(fmt.Sprintf("version %d", v.Number), fmt.Sprintf("%s is building it since %s: %s", l.Owner, l.Since.UTC().Format(time.RFC3339), l.Note),
				"wait for it, or stop that process")
			return nil
		}
	}
	p.plan.Leftover = append(p.plan.Leftover, v.Number)
	return nil
}

// database looks at rights and room.
func (p *planner) database(ctx context.Context) error {
	var may bool
	var who, name string
	if err := p.cfg.DB.QueryRow(ctx, `SELECT has_database_privilege(current_database(), 'CREATE'), current_user::text, current_database()::text`).
		Scan(&may, &who, &name); err != nil {
		return fmt.Errorf("look at the rights in the database: %w", err)
	}
	if !may {
		p.fault("database "+name, fmt.Sprintf("the role %s may not make schemas there", who),
			fmt.Sprintf("as its owner: GRANT CREATE ON DATABASE %s TO %s", pgIdent(name), pgIdent(who)))
	}
	if p.plan.Active > 0 {
		if err := p.cfg.DB.QueryRow(ctx, `SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'`,
			fmt.Sprintf("%s_v%d", p.spec.Name, p.plan.Active)).Scan(&p.size); err != nil {
			return fmt.Errorf("measure the active version: %w", err)
		}
	}
	return nil
}

func pgIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// watermark finds the mark that an aligned projection is cut at.
func (p *planner) watermark(ctx context.Context) error {
	w, err := latestMark(ctx, p.cfg.Log, p.spec.Source, p.cfg.MarkWait, p.spec.Aligned)
	if err != nil {
		p.fault("topic "+p.spec.Source+".watermarks", err.Error(), "is cdc running, and does this broker hold its topics?")
		return nil
	}
	if w == nil {
		if p.spec.Aligned {
			p.fault("topic "+p.spec.Source+".watermarks", "it holds no watermark, and without one nobody knows up to where the topics are complete",
				"start cdc, which sends one at least once a second")
		}
		return nil
	}
	p.plan.mark = w
	if !p.spec.Aligned {
		return nil
	}
	p.plan.Cut = control.MarkOf(w)
	if p.spec.Timers && p.plan.Active > 0 {
		// What fires by the clock while nothing happens, the active version alone
		// decides: nothing is built beyond what it has passed.
		for _, part := range p.active {
			if part.Passed.Compare(p.plan.Cut) < 0 {
				p.plan.Cut = part.Passed
			}
		}
	}
	return nil
}

// latestMark gives the latest watermark of a source; nil where there is none, after
// waiting where it is needed.
func latestMark(ctx context.Context, log projections.Log, source string, wait time.Duration, need bool) (*event.Watermark, error) {
	const lookBack = 16 // a stopped owner's marks can lie behind the last
	topic := source + ".watermarks"
	deadline := time.Now().Add(wait)
	for {
		first, next, err := log.Ends(ctx, topic, 0)
		if err != nil {
			if need {
				return nil, fmt.Errorf("read the watermarks: %w", err)
			}
			return nil, nil
		}
		var best *event.Watermark
		for rec, err := range log.Read(ctx, topic, 0, max(first, next-lookBack), next) {
			if err != nil {
				return nil, fmt.Errorf("read the watermarks: %w", err)
			}
			w := new(event.Watermark)
			if err := json.Unmarshal(rec.Value, w); err != nil {
				return nil, fmt.Errorf("offset %d: %w", rec.Offset, err)
			}
			if best == nil || w.Writer >= best.Writer && !best.After(w) {
				best = w
			}
		}
		if best != nil || !need || time.Now().After(deadline) {
			return best, nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// topic captures the ends of a topic's partitions and looks whether its history
// is whole.
func (p *planner) topic(ctx context.Context, topic string) error {
	n, err := p.cfg.Log.Partitions(ctx, topic)
	if err != nil {
		p.fault("topic "+topic, err.Error(), "cdc makes the topics of its source; is the name right?")
		return ctx.Err()
	}
	had := 0
	for _, part := range p.active {
		if part.Topic == topic {
			had++
		}
	}
	if had > 0 && had != n {
		p.fault("topic "+topic, fmt.Sprintf("it has %d partitions, and had %d when version %d was made", n, had, p.plan.Active),
			"keys have moved between partitions, so their events are no longer in one order; publish to a new topic and read that")
	}
	for part := range n {
		id := control.PartID{Topic: topic, Part: part}
		first, next, err := p.cfg.Log.Ends(ctx, topic, part)
		if err != nil {
			return fmt.Errorf("ask for the ends of %s: %w", id, err)
		}
		p.plan.Parts = append(p.plan.Parts, PlannedPart{PartID: id, First: first, Ceiling: next})
		p.plan.Records += next - first
		if first > 0 && !projections.IsLatest(topic) {
			if err := p.begins(ctx, id, first, next); err != nil {
				return err
			}
		}
	}
	return nil
}

// begins looks whether a partition that does not begin at offset 0 begins with
// its first event all the same.
func (p *planner) begins(ctx context.Context, id control.PartID, first, next int64) error {
	for rec, err := range p.cfg.Log.Read(ctx, id.Topic, id.Part, first, next) {
		if err != nil {
			return fmt.Errorf("read the first record of %s: %w", id, err)
		}
		if seq, ok := rec.Seq(); ok && seq == 1 {
			return nil
		}
		break
	}
	do := "set retention.ms=-1 on it; what is gone can only come from its .latest twin, or from a new snapshot of the source"
	if p.spec.NotFromLatest != "" {
		do = fmt.Sprintf("its .latest twin is no help, because this projection %s; a new snapshot of the source is all that is left, and set retention.ms=-1", p.spec.NotFromLatest)
	}
	p.fault("topic "+id.Topic, fmt.Sprintf("partition %d begins at offset %d: what came before was deleted by its retention", id.Part, first), do)
	return nil
}

// disk compares what there is with what the active version takes.
func (p *planner) disk() {
	info, err := os.Stat(p.cfg.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no directory")
	}
	if err != nil {
		p.fault("spill directory "+p.cfg.Dir, err.Error(), "name one that exists and has room")
		return
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(p.cfg.Dir, &fs); err != nil {
		return
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	if want := p.size - p.cfg.Memory; want > free {
		p.warn("spill directory "+p.cfg.Dir, fmt.Sprintf("%d MiB are free there; the active version takes %d MiB in the database, and %d MiB of rows fit into memory",
			free>>20, p.size>>20, p.cfg.Memory>>20), "name another one, or allow more memory")
	}
}

// fits reports, as ErrStale, whether a plan is one of this program.
func (p *Plan) fits(spec projections.Spec) error {
	if p == nil || p.Projection != spec.Name {
		return fmt.Errorf("%w: it is not one of projection %s", ErrStale, spec.Name)
	}
	for _, topic := range spec.Topics {
		if !slices.ContainsFunc(p.Parts, func(q PlannedPart) bool { return q.Topic == topic }) {
			return fmt.Errorf("%w: it does not read %s", ErrStale, topic)
		}
	}
	return nil
}
