package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/internal/figures"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/declared"
	"banyan/projections/rebuild"
)

type rebuildFlags struct {
	wait, park, planOnly bool
	memory               int64
	patience             time.Duration
}

func (a *app) rebuildCommand() *cobra.Command {
	var f rebuildFlags
	cmd := &cobra.Command{
		Use: "rebuild [NAME]", Short: "Make a new version from history, beside the one that readers see", Args: cobra.MaximumNArgs(1),
		Long: `Reads the history of the topics up to their ends of this moment (the ceiling),
folds it in memory, beyond --memory on disk, writes new tables in one transaction
and leaves them to projector run, which follows them. Readers see the old version
until projector swap. The file of -f is the new definition; without one the
version that readers see is made anew.

An event that cannot be applied ends the rebuild, unless --park sets its key
aside. A rebuild that is killed leaves nothing behind.

--output json prints {projection, version, ceiling, records, events, repeats,
parked, rows, spilledBytes, seconds, caughtUp}; with --plan the plan. Exit code 1
where something stands in the way.`,
		Example: `  projector rebuild shipping --plan
  projector rebuild shipping --wait && projector swap shipping`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withProjection(c.Context(), args, func(ctx context.Context, p *opened) error { return a.rebuild(ctx, p, f) })
		},
	}
	cli.Profiled(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.wait, "wait", false, "wait until the new version, followed by a projector that runs, has all that lies in the topics when it is made")
	fl.DurationVar(&f.patience, "for", 10*time.Minute, "how long to --wait")
	fl.BoolVar(&f.park, "park", false, "park the keys of events that cannot be applied")
	fl.BoolVar(&f.planOnly, "plan", false, "say what would be read, and what stands in the way, and change nothing")
	fl.Int64Var(&f.memory, "memory", 192<<20, "bytes of rows to hold in memory; more go to disk under --data-dir")
	return cmd
}

// rebuilt is what `projector rebuild` says at its end.
type rebuilt struct {
	Projection string           `json:"projection"`
	Version    int              `json:"version"`
	Ceiling    int64            `json:"ceiling"`
	Records    int64            `json:"records"`
	Events     int64            `json:"events"`
	Repeats    int64            `json:"repeats"`
	Parked     int64            `json:"parked"`
	Rows       map[string]int64 `json:"rows"`
	Spilled    int64            `json:"spilledBytes"`
	Seconds    float64          `json:"seconds"`
	CaughtUp   bool             `json:"caughtUp"`
}

func (a *app) rebuild(ctx context.Context, p *opened, f rebuildFlags) error {
	a.useMemory(f.memory)
	cluster, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	program, err := a.program(ctx, cluster, p, func(context.Context, projections.Spec) (bool, error) { return f.park, nil })
	if err != nil {
		return err
	}
	dir, err := a.spillDir()
	if err != nil {
		return err
	}
	phases := a.Print.Phases("rebuild " + p.name)
	cfg := rebuild.Config{DB: p.pool, Log: cluster, Program: program, Park: f.park, Memory: f.memory, Dir: dir, Logger: a.Log, Progress: showProgress(a, phases)}
	plan, err := rebuild.MakePlan(ctx, cfg)
	if err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		a.Log.Warn(w.String())
	}
	if f.planOnly {
		return a.Print.Result(plan, func(w io.Writer) { writePlan(w, plan) })
	}
	res, err := rebuild.Run(ctx, cfg, plan)
	phases.End()
	if err != nil {
		return err
	}
	r := rebuilt{res.Projection, res.Version, plan.Records, res.Records, res.Events, res.Repeats, res.Parked, res.Rows, res.Spilled, res.Took.Seconds(), false}
	if f.wait {
		if err := a.waitForHead(ctx, p, cluster, res.Version, f.patience); err != nil {
			return err
		}
		r.CaughtUp = true
	}
	return a.Print.Result(r, func(w io.Writer) { writeRebuilt(w, r, res) })
}

// program is the definition of -f, or else what the version that readers see was
// made of.
func (a *app) program(ctx context.Context, cluster *bus.Cluster, p *opened, may lenient) (projections.Program, error) {
	files, err := a.files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Name != p.name {
			continue
		}
		all, err := a.compile(ctx, cluster, []*declared.File{f}, may)
		if err != nil {
			return nil, err
		}
		if err := checkViews(ctx, p, all[0]); err != nil {
			return nil, err
		}
		return all[0].program, nil
	}
	return compileStored(p.active)
}

func (a *app) spillDir() (string, error) {
	dir := filepath.Join(a.DataDir, "spill")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for what does not fit into memory: %w", err)
	}
	return dir, nil
}

// showProgress shows the phases, and says why it does not go on, once for each
// reason.
func showProgress(a *app, phases interface {
	Set(phase, unit string, done, total int64)
}) func(rebuild.Progress) {
	said := ""
	return func(p rebuild.Progress) {
		switch p.Phase {
		case rebuild.Folding:
			phases.Set(string(p.Phase), "records", p.Done, p.Ceiling)
		case rebuild.Copying, rebuild.Indexing, rebuild.Comparing:
			phases.Set(string(p.Phase), "rows", p.Rows, p.RowsTotal)
		}
		if p.Stalled != said {
			if said = p.Stalled; said != "" {
				a.Log.Info("what holds it back", "phase", string(p.Phase), "reason", said)
			}
		}
	}
}

func writePlan(w io.Writer, plan *rebuild.Plan) {
	fmt.Fprintf(w, "%s, version %d (readers see %d): %s records up to the ceiling\n", plan.Projection, plan.Version, plan.Active, figures.Thousands(plan.Records))
	rows := [][]string{{"partition", "first", "ceiling"}}
	for _, p := range plan.Parts {
		rows = append(rows, []string{p.PartID.String(), fmt.Sprint(p.First), fmt.Sprint(p.Ceiling)})
	}
	_ = figures.Table(w, "  ", figures.Numbers, rows)
	fmt.Fprintln(w, "nothing stands in the way; nothing was changed")
}

func writeRebuilt(w io.Writer, r rebuilt, res *rebuild.Result) {
	rate := float64(r.Records) / max(0.001, r.Seconds)
	fmt.Fprintf(w, "%s, version %d: %s records in %s (%s/s), %s events applied\n", r.Projection, r.Version, figures.Thousands(r.Records),
		figures.Round(res.Took), figures.Thousands(int64(rate)), figures.Thousands(r.Events))
	for _, table := range sorted(r.Rows) {
		fmt.Fprintf(w, "  %s: %s rows\n", table, figures.Thousands(r.Rows[table]))
	}
	if r.Parked > 0 {
		fmt.Fprintf(w, "  %s events are parked\n", figures.Thousands(r.Parked))
	}
	if r.CaughtUp {
		fmt.Fprintf(w, "it has caught up: projector diff %s shows what will look different, projector swap %s changes readers over\n", r.Projection, r.Projection)
		return
	}
	fmt.Fprintf(w, "projector run follows it from here; projector swap %s changes readers over\n", r.Projection)
}

// waitForHead waits until a version has applied all that the topics held at some
// moment since. Somebody has to run it: where nobody does, it says so, early where
// nobody runs the version that readers see either.
func (a *app) waitForHead(ctx context.Context, p *opened, cluster *bus.Cluster, version int, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	meter := a.Print.Meter("catching up", "records behind", 0)
	defer meter.End()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	// The ends of this moment: a topic that grows has no other.
	ends := map[control.PartID]int64{}
	for {
		parts, err := p.store.Parts(ctx, p.pool, p.name, version)
		if err != nil {
			return err
		}
		var behind int64
		for _, part := range parts {
			end, known := ends[part.PartID]
			if !known {
				if _, end, err = cluster.Ends(ctx, part.Topic, part.Part); err != nil {
					return err
				}
				ends[part.PartID] = end
			}
			behind += max(0, end-part.Next)
		}
		if behind == 0 {
			return nil
		}
		meter.Set(behind, 0)
		followed, err := p.store.Alive(ctx, p.name, version)
		if err != nil {
			return err
		}
		served, err := p.store.Alive(ctx, p.name, p.active.Number)
		if err != nil {
			return err
		}
		if waited := time.Since(began); !followed && (waited > rebuild.PickUp || !served && waited > 5*time.Second) {
			return cli.Failed("version %d of %s is made, and %d records behind, and nobody follows it: start projector run", version, p.name, behind)
		}
		select {
		case <-ctx.Done():
			return cli.AnswerNo("version %d of %s is made, and still %d records behind after %s", version, p.name, behind, patience)
		case <-tick.C:
		}
	}
}

type swapFlags struct {
	to       int
	force    bool
	hold     time.Duration
	behind   time.Duration
	examples int
}

func (a *app) swapConfig(p *opened, cluster *bus.Cluster, f swapFlags) rebuild.SwapConfig {
	return rebuild.SwapConfig{DB: p.pool, Log: cluster, Projection: p.name, To: f.to, Force: f.force, Hold: f.hold, MaxBehind: f.behind, Owner: cli.Owner(), Logger: a.Log,
		Program: func(v control.Version) (projections.Program, error) { return compileStored(v) }}
}

func (a *app) swapCommand() *cobra.Command {
	return a.exchangeCommand("swap", "Let readers see the new version, from one moment to the next", rebuild.Swap, `Both versions stop at one mark for a moment, and one transaction points the views
that readers use at the new tables: nobody sees an error or a step back, nothing
is sent twice. The old version is followed on, for projector rollback, until
projector retire. Where readers would lose a table or a column it is refused,
unless --force.`)
}

func (a *app) rollbackCommand() *cobra.Command {
	return a.exchangeCommand("rollback", "Let readers see the version again that they saw before the swap", rebuild.Rollback, `The same transaction as projector swap, the other way round: the version before
was followed on and stands at the head.`)
}

func (a *app) exchangeCommand(name, short string, do func(context.Context, rebuild.SwapConfig) (*rebuild.Swapped, error), long string) *cobra.Command {
	var f swapFlags
	cmd := &cobra.Command{
		Use: name + " [NAME]", Short: short, Args: cobra.MaximumNArgs(1),
		Long: long + `

--output json prints {projection, from, to, token, heldMillis, gone}. Exit code 1
where the versions do not meet in time, or something stands in the way; then
nothing has changed.`,
		Example: fmt.Sprintf("  projector %s shipping", name),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				cluster, err := a.dial(ctx)
				if err != nil {
					return err
				}
				defer cluster.Close()
				s, err := do(ctx, a.swapConfig(p, cluster, f))
				if err != nil {
					return err
				}
				shown := map[string]any{"projection": s.Projection, "from": s.From, "to": s.To, "token": s.At.String(), "heldMillis": float64(s.Held.Microseconds()) / 1000, "gone": append([]string{}, s.Gone...)}
				return a.Print.Result(shown, func(w io.Writer) {
					fmt.Fprintf(w, "readers of %s see version %d since %s; both versions stood still for %s\n", s.Projection, s.To, s.At, figures.Round(s.Held))
					for _, g := range s.Gone {
						fmt.Fprintln(w, a.Print.Warn("gone: "+g))
					}
					fmt.Fprintf(w, "version %d is followed on: projector rollback %s goes back, projector retire %s %d gives it up\n", s.From, s.Projection, s.Projection, s.From)
				})
			})
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.to, "to", 0, "the number of the version; 0: the newest, or the one before")
	fl.BoolVar(&f.force, "force", false, "go on although readers lose tables or columns, or parked events their effects")
	f.meeting(fl)
	return cmd
}

// meeting declares how two versions are brought to one mark.
func (f *swapFlags) meeting(fl *pflag.FlagSet) {
	fl.DurationVar(&f.hold, "hold", 10*time.Second, "how long both versions may stand still at most")
	fl.DurationVar(&f.behind, "max-behind", 5*time.Second, "how far the new version may be behind when they are asked to meet")
}

func (a *app) diffCommand() *cobra.Command {
	var f swapFlags
	var explain bool
	cmd := &cobra.Command{
		Use: "diff [NAME]", Short: "Which rows will look different after a swap, and which event made them so", Args: cobra.MaximumNArgs(1),
		Long: `Compares the version that readers see with the new one at the same offsets, in the
tables and columns that both have. --output json prints {projection, old, new,
tables: [{table, rows, proved, missing, extra, different, examples}], gone,
added}. Exit code 1 where they differ.`,
		Example: "  projector diff shipping --explain",
		RunE: func(c *cobra.Command, args []string) error {
			return a.withProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				cluster, err := a.dial(ctx)
				if err != nil {
					return err
				}
				defer cluster.Close()
				d, err := rebuild.Diff(ctx, rebuild.DiffConfig{SwapConfig: a.swapConfig(p, cluster, f), Examples: f.examples, Explain: explain})
				if err != nil {
					return err
				}
				if err := a.Print.Result(d, func(w io.Writer) { a.writeDiff(w, d) }); err != nil {
					return err
				}
				if len(d.Gone) > 0 || different(d.Tables) {
					return cli.ErrNo
				}
				return nil
			})
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.to, "to", 0, "the number of the version; 0: the newest")
	fl.IntVar(&f.examples, "examples", 10, "rows to show of each table")
	fl.BoolVar(&explain, "explain", false, "replay the history to name the last event of each example")
	f.meeting(fl)
	return cmd
}

func different(tables []rebuild.TableReport) bool {
	for _, t := range tables {
		if t.Missing+t.Extra+t.Different > 0 {
			return true
		}
	}
	return false
}

func (a *app) writeDiff(w io.Writer, d *rebuild.Comparison) {
	fmt.Fprintf(w, "%s: version %d (readers) against version %d, at the same offsets\n", d.Projection, d.Old, d.New)
	a.writeTables(w, d.Tables, "new", "old")
	for _, g := range d.Gone {
		fmt.Fprintln(w, a.Print.Warn("readers lose "+g))
	}
	for _, g := range d.Added {
		fmt.Fprintln(w, "readers gain "+g)
	}
}

func (a *app) retireCommand() *cobra.Command {
	return &cobra.Command{
		Use: "retire NAME VERSION", Short: "Give a version up: drop its tables", Args: cobra.ExactArgs(2),
		Long: `Ends a version that readers do not see and drops its schema. There is no way back
to it then, but a rebuild. --output json prints {projection, version}.`,
		Example: "  projector retire shipping 1",
		RunE: func(c *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return cli.BadInput("VERSION %q: want a number of projector status", args[1])
			}
			return a.withProjection(c.Context(), args[:1], func(ctx context.Context, p *opened) error {
				if n == p.active.Number {
					return cli.AnswerNo("version %d of %s is the one that readers see: swap first", n, p.name)
				}
				if err := rebuild.Retire(ctx, p.pool, p.name, n); err != nil {
					if errors.Is(err, control.ErrNotFound) {
						return cli.BadInput("%s has no version %d: projector status lists them", p.name, n)
					}
					return err
				}
				return a.Print.Result(map[string]any{"projection": p.name, "version": n}, func(w io.Writer) { fmt.Fprintf(w, "version %d of %s is gone\n", n, p.name) })
			})
		},
	}
}
