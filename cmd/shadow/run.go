package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/declared"
	"banyan/projections/service"
	"banyan/shadow"
)

type runFlags struct {
	candidateFlags
	from          string
	untilCaughtUp bool
	live          string
	instance      string
	mapping       string
	sample        float64
	maxLag        time.Duration
	noJournal     bool
	out           string
	settings      settingsFlags
}

func (a *app) runCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Compare the live orders with a candidate, until told to stop",
		Long: `Reads the events, has each order priced by the candidate with what was known before
the order's commit, and keeps what would have changed in a ledger: nothing is lost
or counted twice, whatever is killed. Run it twice and one of both stands by.

Three ways to be a candidate:
  --candidate http://host/quotes      is asked, many orders a call (GET /openapi.json of
                                      pricing serve says how)
  --candidate-topic shadow.prices...  publishes prices, which are joined as of each order
  --candidate builtin:demand          lives in this process

--from start compares all of history, --from now only orders from here on; history
is read in both cases, for what was known. A candidate in process starts at the
start, others from now, unless it is said.

It prints a line on stdout for each stage it reaches; with --output json as
{"stage", "url", "detail"}. With --until-caught-up it ends with a report. Exit code 1
says that a guardrail or the reconciliation fails.`,
		Example: `  shadow run --candidate http://localhost:9000/quotes --live :8090
  shadow run --candidate-topic shadow.prices.demand
  shadow run --candidate builtin:demand --from start --until-caught-up`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c.Context(), f) },
	}
	cli.Profiled(cmd)
	f.candidateFlags.register(cmd)
	f.settings.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "", "start or now: from which orders on is compared; decided once, at the first run")
	fl.BoolVar(&f.untilCaughtUp, "until-caught-up", false, "end with a report when all that lay in the topics at the start is compared")
	fl.StringVar(&f.live, "live", "", "serve a page that follows the run at this `address`, and /healthz, /readyz, /metrics; :8090 is loopback only")
	fl.StringVar(&f.instance, "instance", "", "`name` of this process in the consumer group, the same after a restart, so that a killed one is replaced at once")
	fl.StringVar(&f.mapping, "mapping", "", "`file` that says where in the events things stand; empty: the shop's (docs/shadow.md)")
	fl.Float64Var(&f.sample, "sample", 100, "percent of customers that are compared, whole customers, always the same")
	fl.DurationVar(&f.maxLag, "max-lag", 30*time.Minute, "with a candidate that is asked: when the shadow falls further behind, fewer customers are compared; 0: never")
	fl.BoolVar(&f.noJournal, "no-journal", false, "keep no line for each comparison; lines.csv and replays then lack what was recorded")
	fl.StringVar(&f.out, "out", "", "with --until-caught-up: also write the report into this `folder`")
	return cmd
}

// stage is what a run prints when it gets somewhere.
type stage struct {
	Stage  string `json:"stage"`
	URL    string `json:"url,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func (a *app) stage(s stage, format string, args ...any) error {
	return a.Print.Line(s, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// running is a run under way.
type running struct {
	*app
	flags   *runFlags
	who     *chosen
	cluster *bus.Cluster
	store   *control.Store
	opts    shadow.Options
	pace    *pace

	shadow, orders *service.Service
}

func (a *app) run(ctx context.Context, f *runFlags) error {
	who, err := f.chosen(ctx, a)
	if err != nil {
		return err
	}
	defer who.close()
	r := &running{app: a, flags: f, who: who}
	if r.cluster, err = a.dial(ctx); err != nil {
		return err
	}
	defer r.cluster.Close()
	if err := r.never(ctx); err != nil {
		return err
	}
	if r.store, err = a.open(ctx); err != nil {
		return err
	}
	defer r.store.Pool().Close()
	a.useMemory()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if who.stream != nil {
		who.stream.Log = r.cluster
		if f.untilCaughtUp {
			who.stream.Patience = f.patience
		}
	}
	if err := r.work(ctx); err != nil {
		return r.explain(err)
	}
	switch {
	case !f.untilCaughtUp:
		return nil
	case ctx.Err() != nil:
		return cli.Failed("told to stop before all was compared: there is no report, and what is compared is kept")
	}
	return a.finish(ctx, r.store, r.opts.Name, f.out, f.settings)
}

// check reports all that is wrong with the flags.
func (f *runFlags) check() []error {
	var faults []error
	if f.from != "" && f.from != "start" && f.from != "now" {
		faults = append(faults, fmt.Errorf("--from %q: want start or now", f.from))
	}
	if !(f.sample > 0 && f.sample <= 100) { // NaN neither
		faults = append(faults, fmt.Errorf("--sample %g: want more than 0 and at most 100 percent", f.sample))
	}
	if f.maxLag < 0 {
		faults = append(faults, fmt.Errorf("--max-lag %s: want a time such as 30m, or 0 for never", f.maxLag))
	}
	if !(f.rate >= 0) {
		faults = append(faults, fmt.Errorf("--rate %g: want orders a second, or 0 for no limit", f.rate))
	}
	if f.timeout <= 0 {
		faults = append(faults, fmt.Errorf("--timeout %s: want some time for the candidate, such as 1s", f.timeout))
	}
	if f.patience < 0 {
		faults = append(faults, fmt.Errorf("--patience %s: want a time such as 30s", f.patience))
	}
	if f.out != "" && !f.untilCaughtUp {
		faults = append(faults, fmt.Errorf("--out %s: it goes with --until-caught-up; shadow report writes one at any time", f.out))
	}
	if _, err := f.settings.settings(); err != nil {
		faults = append(faults, err)
	}
	if _, err := readMapping(f.mapping); err != nil {
		faults = append(faults, err)
	}
	return faults
}

// chosen is the candidate, where nothing at all is wrong with the flags; the caller
// calls its close.
func (f *runFlags) chosen(ctx context.Context, a *app) (*chosen, error) {
	faults := f.check()
	asked := f.candidateFlags
	if asked.timeout <= 0 || !(asked.rate >= 0) { // which is told already
		asked.timeout, asked.rate = time.Second, 0
	}
	who, err := a.choose(ctx, &asked)
	if err != nil {
		faults = append(faults, err)
	}
	name := a.flags.name
	if name == "" && who != nil {
		name = who.name
	}
	if err := checkName(name); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		if who != nil {
			who.close()
		}
		return nil, cli.BadInput("%w", err)
	}
	return who, nil
}

// checkName refuses names that the projections of a shadow cannot have.
func checkName(name string) error {
	if name == "" {
		return nil
	}
	err := errors.Join(control.CheckName(shadow.Prefix+name), control.CheckName(shadow.OrdersName(shadow.Options{Name: name})))
	switch {
	case strings.HasSuffix(name, "_orders"):
		return fmt.Errorf("--name %s: names that end in _orders are those of what counts a shadow's orders; give another one", name)
	case err != nil:
		return fmt.Errorf("--name %s: %w", name, err)
	}
	return nil
}

// explain makes of what a run ended with what a person can act on.
func (r *running) explain(err error) error {
	switch {
	case cli.Is[*bus.PartitionsChanged](err):
		return fmt.Errorf("%w: shadow forget %s, and run it anew", err, r.opts.Name)
	case errors.Is(err, control.ErrFenced):
		return cli.Failed("another shadow run has taken over, from another group; this one has stopped and written nothing since: %w", err)
	}
	return err
}

// prepare makes the shadow's state and the projection of orders beside it where they
// are not there yet, nothing where anything is wrong.
func (r *running) prepare(ctx context.Context) error {
	made, err := r.install(ctx)
	if made && cli.Is[*control.DigestError](err) {
		// Another process has made it in the meantime, with a salt of its own.
		_, err = r.install(ctx)
	}
	if cli.Is[*control.DigestError](err) {
		return cli.AnswerNo("shadow %s compares something else already (another candidate, other rules, mapping or sample): give this one a --name of its own, or shadow forget %s", r.opts.Name, r.opts.Name)
	}
	return err
}

// install is prepare once; anew reports whether it has found no such shadow.
func (r *running) install(ctx context.Context) (anew bool, err error) {
	if anew, err = r.options(ctx); err != nil {
		return anew, err
	}
	program, err := shadow.NewComparator(r.opts, r.who.who, nil, "")
	if err != nil {
		return anew, cli.BadInput("%w", err)
	}
	orders, err := ordersProgram(r.opts)
	if err != nil {
		return anew, err
	}
	for _, p := range []projections.Program{program, orders} {
		v, made, err := service.Install(ctx, r.store, r.cluster, p, control.Mark{})
		if err != nil {
			return anew, err
		}
		if made && p == projections.Program(program) {
			if err := r.stage(stage{Stage: "installed", Detail: r.opts.Name}, "installed: shadow %s, in schema %s", r.opts.Name, v.Schema); err != nil {
				return anew, err
			}
		}
	}
	r.services(program, orders)
	return anew, nil
}

// options are those of the flags or, of a shadow that is there already, with the salt
// and the beginning that it was made with; anew where there is none.
func (r *running) options(ctx context.Context) (anew bool, err error) {
	o := shadow.DefaultOptions()
	if o.Mapping, err = readMapping(r.flags.mapping); err != nil {
		return false, err
	}
	o.Name, o.Candidate, o.Journal = r.flagName(), r.who.is, !r.flags.noJournal
	o.Sample = int64(r.flags.sample*shadow.Everybody/100 + 0.5)
	set, err := r.flags.settings.settings()
	if err != nil {
		return false, cli.BadInput("%w", err)
	}
	o.Segments, o.Taxes = set.Segments, ppm(set.TaxRates)
	v, err := r.store.Active(ctx, shadow.Prefix+o.Name)
	switch {
	case err == nil:
		var was shadow.Options
		if err := json.Unmarshal([]byte(v.Definition), &was); err != nil {
			return false, fmt.Errorf("read what shadow %s was made of: %w", o.Name, err)
		}
		o.Salt, o.Since = was.Salt, was.Since
	case errors.Is(err, control.ErrNotFound):
		anew, o.Salt = true, rand.Text()
		if r.flags.from == "now" || r.flags.from == "" && r.who.who.InProcess == nil && !r.who.who.Control {
			if o.Since, err = service.Head(ctx, r.cluster, o.Mapping.Source); err != nil {
				return false, err
			}
		}
	default:
		return false, err
	}
	r.opts = o
	return anew, nil
}

func (r *running) flagName() string {
	if r.app.flags.name != "" {
		return r.app.flags.name
	}
	return r.who.name
}

func ppm(percent []float64) []int64 {
	var all []int64
	for _, p := range percent {
		all = append(all, int64(p*10_000+0.5))
	}
	return all
}

func ordersProgram(o shadow.Options) (*declared.Program, error) {
	f, faults := declared.Load(shadow.OrdersName(o)+".yaml", []byte(shadow.OrdersProjection(o)))
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("the projection of orders: %w", err)
	}
	p, faults := declared.Compile(f, nil)
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("the projection of orders: %w", err)
	}
	return p, nil
}

// together is how long events wait for others: each batch writes every product that it
// has met, so that many small ones cost far more than a few large ones.
const together = 500 * time.Millisecond

// services says how the two are followed.
func (r *running) services(program *shadow.Comparator, orders *declared.Program) {
	limits := projections.Limits{Events: 60_000, Bytes: 64 << 20, Buffer: 48 << 20, Age: together}
	if r.who.request != nil {
		limits = projections.Limits{Events: 5000, Bytes: 6 << 20, Buffer: 16 << 20, Age: together}
	}
	r.pace = &pace{most: r.opts.Sample, maxLag: r.flags.maxLag, on: r.who.request != nil && !r.flags.untilCaughtUp, waits: r.waits}
	who := r.who.who
	who.Sample = r.pace.sample
	r.shadow = &service.Service{
		Store: r.store, Log: r.cluster, Projection: program.Spec().Name, Owner: cli.Owner(), Logger: r.Log, Stop: true, Limits: limits,
		UntilCaughtUp: r.flags.untilCaughtUp, Join: r.join,
		Program: func(v control.Version) (projections.Program, error) {
			return shadow.NewComparator(r.opts, who, r.store.Pool(), v.Schema)
		},
	}
	r.orders = &service.Service{
		Store: r.store, Log: r.cluster, Projection: orders.Spec().Name, Owner: cli.Owner(), Logger: r.Log,
		UntilCaughtUp: r.flags.untilCaughtUp, Join: r.join, Limits: projections.Limits{Buffer: 16 << 20},
		Program: func(control.Version) (projections.Program, error) { return orders, nil },
	}
}

// join takes part in a consumer group.
func (r *running) join(ctx context.Context, m service.Membership, work projections.Work) error {
	cfg := bus.GroupConfig{ID: m.Group, Topics: m.Topics, Instance: r.flags.instance, Stalled: m.Stalled, Applied: m.Applied, Log: r.Log}
	if m.OneOwner {
		cfg.Balancer = bus.OneOwner
	}
	return r.cluster.JoinGroup(ctx, cfg, work)
}

// work runs the shadow, the projection of orders and the page, until ctx is done or
// both have caught up. The first that fails ends the others.
func (r *running) work(ctx context.Context) error {
	g, within := errgroup.WithContext(ctx)
	all, stop := context.WithCancel(within)
	defer stop()
	g.Go(func() error { return r.serve(all) })
	g.Go(func() error { return r.pace.watch(all, r.shadow) })
	g.Go(func() error { return r.tellWaits(all) })
	if err := r.stage(stage{Stage: "running", Detail: r.opts.Name}, "running: shadow %s against %s", r.opts.Name, r.who.who.Who.Name); err != nil {
		return err
	}
	g.Go(func() error {
		defer stop()
		both, within := errgroup.WithContext(all)
		both.Go(func() error { return r.shadow.Run(within) })
		both.Go(func() error { return r.orders.Run(within) })
		return both.Wait()
	})
	err := g.Wait()
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil // told to stop, or done
	}
	return err
}
