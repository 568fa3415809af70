package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/doctor"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

type runFlags struct {
	untilCaughtUp bool
	repair        bool // accept the source as a new generation
	listen        string
	memory        int64
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Snapshot, then stream, until told to stop",
		Long: `Reads the source and publishes its business events. The first run makes the
replication slot and records every aggregate as it is under the slot's own
snapshot; after that it streams. A changed banyan.yaml takes effect from the
next transaction; aggregates that need data which the store lacks are read
again first.

Two runs on one source are safe: one works, the other waits and takes over.

It prints a line on stdout for each stage it reaches; with --output json as
{"stage", "lsn", "url"} with the stages waiting, snapshot, streaming, caught-up.
The health of the run is at /healthz and /readyz, its numbers for Prometheus at
/metrics of --listen, and what consistency tokens need at /generation.`,
		Example: `  cdc run
  cdc run --until-caught-up
  cdc run --brokers kafka1:9092,kafka2:9092 --store postgres://banyan@db/banyan --listen 127.0.0.1:9378`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c.Context(), f) },
	}
	cli.Profiled(cmd)
	cmd.Flags().BoolVar(&f.untilCaughtUp, "until-caught-up", false, "end when all that was committed before the start of streaming is published")
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:9378", "address of /healthz, /readyz, /metrics and /generation; empty for none")
	cmd.Flags().Int64Var(&f.memory, "memory", 64<<20, "bytes of transactions to hold in memory; larger ones go to disk")
	return cmd
}

func (a *app) repairCommand() *cobra.Command {
	f := runFlags{untilCaughtUp: true, repair: true}
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Accept the source as a new generation, and publish only what differs",
		Long: `For a source that cdc run refuses: its slot is lost, was dropped or made anew,
or the server was restored, failed over or upgraded. What was committed in
between cannot be streamed any more; repair makes a new slot, reads everything
under its snapshot, compares it with what the store knows, and publishes the
differences as <Aggregate>Recorded, <Aggregate>Corrected and <Aggregate>Removed
under a new generation. What is equal is not told again.

It drops the slot of that name, if there is one, and ends when all is published;
then cdc run goes on. The output is that of cdc run: with --output json a line
per stage, as {"stage", "lsn", "url"}.`,
		Example: `  cdc repair && cdc verify`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.run(c.Context(), f) },
	}
	cmd.Flags().Int64Var(&f.memory, "memory", 64<<20, "bytes of transactions to hold in memory; larger ones go to disk")
	return cmd
}

// stage is a line of output of a run.
type stage struct {
	Stage string `json:"stage"`
	LSN   string `json:"lsn,omitempty"`
	URL   string `json:"url,omitempty"`
}

func (a *app) stage(s stage, format string, args ...any) error {
	return a.Print.Line(s, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

func (a *app) run(ctx context.Context, f runFlags) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	cat, rules, err := a.compile(ctx, cfg)
	if err != nil {
		return err
	}
	if err := refuseBlocked(doctor.Examine(cat, runOptions(cfg))); err != nil {
		return err
	}
	if err := a.servers(ctx, cfg); err != nil {
		return err
	}
	cluster, err := kafka(cfg).DialPatiently(ctx, a.Log)
	if err != nil {
		return err
	}
	defer cluster.Close()
	store, err := a.openStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	inc, err := wal.Identify(ctx, cfg.Source.URL, cfg.Source.Slot)
	if err != nil {
		return err
	}
	owner, err := store.Acquire(ctx, outbox.Source{Name: cfg.Source.Name, SystemID: inc.SystemID, Timeline: inc.Timeline, Slot: inc.Slot, NewGeneration: f.repair}, func(h outbox.Holder) {
		_ = a.stage(stage{Stage: "waiting"}, "waiting: %s works on this source; this one takes over when it ends", h)
	})
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	r := &running{app: a, cfg: cfg, rules: rules, cluster: cluster, owner: owner, inc: inc, flags: f}
	err = r.run(ctx)
	if errors.Is(err, outbox.ErrFenced) {
		return cli.Failed("another cdc has taken over this source; this one has stopped and written nothing since: %w", err)
	}
	return err
}

// runOptions are the doctor's questions for a run: setup must have been done.
func runOptions(cfg *translate.Config) doctor.Options {
	opts := doctorOptions(cfg)
	opts.AfterSetup = true
	return opts
}

// refuseBlocked turns a doctor's verdict into an error that names each reason.
func refuseBlocked(r doctor.Report) error {
	if r.Verdict != doctor.Blocked {
		return nil
	}
	errs := []error{errors.New("doctor says blocked (cdc doctor tells more):")}
	for _, f := range r.Findings {
		if f.Severity == doctor.Error {
			errs = append(errs, fmt.Errorf("  %s: %s", f.Object, f.Message))
			for _, sql := range f.Fix {
				errs = append(errs, fmt.Errorf("    %s;", sql))
			}
		}
	}
	return &cli.Error{Code: cli.CodeNo, Err: errors.Join(errs...)}
}

// running is one run, once it owns the store.
type running struct {
	*app
	cfg     *translate.Config
	rules   *translate.Rules
	cluster *bus.Cluster
	owner   *outbox.Owner
	inc     wal.Incarnation
	flags   runFlags

	capture *capture
	relay   *outbox.Relay
}

// run starts the three that work: capture, which alone commits; the relay; and
// the HTTP server. The first that ends ends the others, and run waits for all.
func (r *running) run(ctx context.Context) error {
	if err := r.ensureTopics(ctx); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	r.relay = &outbox.Relay{
		Backlog: r.owner, Publisher: r.cluster, Source: r.cfg.Source.Name, Watermarks: r.cfg.Source.Name + ".watermarks",
		Twin: outbox.LatestTwin, Log: r.Log,
	}
	g, within := errgroup.WithContext(ctx)
	stop, cancel := context.WithCancelCause(within)
	defer cancel(nil)
	g.Go(func() error { return r.relay.Run(stop) })
	g.Go(func() error { return r.serve(stop) })
	g.Go(func() error {
		err := r.captureAll(stop)
		if err == nil {
			cancel(errCaughtUp)
		}
		return err
	})
	g.Go(func() error {
		select {
		case <-r.owner.Lost():
			return outbox.ErrFenced
		case <-stop.Done():
			return nil
		}
	})
	err := g.Wait()
	if ctx.Err() != nil || errors.Is(err, errCaughtUp) || context.Cause(stop) == errCaughtUp && errors.Is(err, context.Canceled) {
		return nil // told to stop, or done
	}
	return err
}

var errCaughtUp = errors.New("caught up")

func (r *running) ensureTopics(ctx context.Context) error {
	specs := []bus.TopicSpec{bus.WatermarkTopic(r.cfg.Source.Name + ".watermarks")}
	seen := map[string]bool{}
	for _, t := range r.rules.Topics() {
		if !seen[t.Name] {
			seen[t.Name] = true
			specs = append(specs, bus.BusinessTopic(t.Name, bus.Partitions), bus.LatestTopic(outbox.LatestTwin(t.Name), bus.Partitions))
		}
	}
	warnings, err := r.cluster.EnsureTopics(ctx, specs)
	for _, w := range warnings {
		r.Log.Warn(w)
	}
	return err
}

// recordHeadroom is left in a record for key and headers, beside the event.
const recordHeadroom = 32 << 10

// prepare makes engine and capture, as far as they need no slot yet.
func (r *running) prepare(ctx context.Context) error {
	last, err := r.owner.Store().LastSnapshot(ctx)
	if err != nil {
		return err
	}
	r.capture = &capture{
		owner: r.owner, log: r.Log, warned: map[string]*wal.Table{},
		reader: &reader{url: r.cfg.Source.URL, slot: r.cfg.Source.Slot, repair: r.flags.repair, print: r.Print, log: r.Log},
		engine: &translate.Engine{Rules: r.rules, Source: r.cfg.Source.Name, Generation: r.owner.Generation(), Snapshot: last.Number, MaxEvent: bus.MaxRequestBytes - recordHeadroom,
			SpillDir: filepath.Join(r.app.DataDir, "spill")},
	}
	return nil
}

// captureAll takes the first snapshot where it is due, brings changed rules
// into effect, and streams.
func (r *running) captureAll(ctx context.Context) error {
	c := r.capture
	due, err := c.firstSnapshotDue(ctx)
	if err != nil {
		return err
	}
	if due {
		if err := r.stage(stage{Stage: "snapshot"}, "snapshot: recording what is there"); err != nil {
			return err
		}
		if err := c.firstSnapshot(ctx, r.recorded()); err != nil {
			return err
		}
	} else if err := c.adoptRules(ctx, r.recorded()); err != nil {
		return err
	}
	if err := c.loadAbsorbs(ctx); err != nil {
		return err
	}
	target, err := sourceEnd(ctx, r.cfg.Source.URL)
	if err != nil {
		return err
	}
	if err := r.openStream(ctx); err != nil {
		return err
	}
	defer c.stream.Close()
	from := wal.LSN(r.owner.Position().End)
	if err := r.stage(stage{Stage: "streaming", LSN: from.String()}, "streaming from %s", from); err != nil {
		return err
	}
	if !r.flags.untilCaughtUp {
		return c.run(ctx)
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var g errgroup.Group
	g.Go(func() error {
		err := r.waitPublished(within, target)
		cancel(errCaughtUp)
		return err
	})
	err = c.run(within)
	cancel(err)
	if waitErr := g.Wait(); context.Cause(within) != errCaughtUp {
		return err
	} else if waitErr != nil {
		return waitErr
	}
	return r.stage(stage{Stage: "caught-up", LSN: target.String()}, "caught up with %s", target)
}

// openStream opens the slot from the stored position. A reader that a stopped
// predecessor left behind is ended: it has lost the store, so it can do nothing
// with what it reads.
func (r *running) openStream(ctx context.Context) error {
	cfg := wal.StreamConfig{
		URL: r.cfg.Source.URL, Slot: r.cfg.Source.Slot, Publication: r.cfg.Source.Publication, Capture: r.rules.Capture(),
		From: wal.LSN(r.owner.Position().End), Expect: r.inc, SpillDir: filepath.Join(r.app.DataDir, "spill", "wal"), MemoryLimit: r.flags.memory, Log: r.Log,
	}
	stream, err := wal.Open(ctx, cfg)
	if busy, ok := errors.AsType[*wal.SlotActiveError](err); ok {
		r.Log.Warn("ending the reader that a predecessor left on the slot", "slot", busy.Slot, "pid", busy.PID)
		if err := endReader(ctx, cfg.URL, cfg.Slot); err != nil {
			return err
		}
		stream, err = wal.Open(ctx, cfg)
	}
	if err != nil {
		return err
	}
	r.capture.setStream(stream)
	return nil
}

// endReader ends the session that reads the slot and waits until it is gone. A
// session whose client has stopped may have to be told twice: at the first time
// it tries to tell its client why.
func endReader(ctx context.Context, url, slot string) error {
	conn, err := wal.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		pid, err := wal.TerminateSlotUser(ctx, conn, slot)
		if err != nil || pid == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end server process %d, which reads slot %q: it does not end", pid, slot)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// waitPublished waits until everything below target is on the bus.
func (r *running) waitPublished(ctx context.Context, target wal.LSN) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for wal.LSN(r.relay.Progress().Watermark) < target {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// sourceEnd is the end of the source's flushed WAL.
func sourceEnd(ctx context.Context, url string) (wal.LSN, error) {
	conn, err := wal.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var text string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_flush_lsn()::text`).Scan(&text); err != nil {
		return 0, fmt.Errorf("ask the source for the end of its WAL: %w", err)
	}
	return wal.ParseLSN(text)
}
