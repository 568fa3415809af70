package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/declared"
	"banyan/projections/effects"
	"banyan/projections/service"
)

type runFlags struct {
	untilCaughtUp bool
	stopAtPoison  bool
	assign        string
	instance      string
	listen        string
	noEffects     bool
	batch         int
	smtp          smtpFlags
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Keep the tables up to date, until told to stop",
		Long: `Reads the topics, applies their events exactly once, sends what was promised, and
answers questions over HTTP at --listen: GET /{table}/{key}, and with a header
Banyan-Token only when the commit that the token stands for has been seen.

The first run makes the tables; a file that has changed so that rows would differ
needs projector rebuild. Several runs share the partitions of a projection
through a consumer group; --assign works without one. Whatever happens between
them, the fence in the database lets only one write.

Versions that a rebuild has made are followed as soon as they are there, and old
ones are kept at the head for a rollback.

It prints a line on stdout for each stage it reaches; with --output json as
{"stage", "projection", "version", "url"} with the stages installed, listening,
running, caught-up. Health is at /healthz and /readyz, numbers at /metrics.`,
		Example: `  projector run -f shipping.yaml
  projector run -f projections/ --db postgres://shipping@db/shipping --brokers kafka1:9092
  projector run -f daily_sales.yaml --until-caught-up`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c.Context(), f) },
	}
	cli.Profiled(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.untilCaughtUp, "until-caught-up", false, "end when all that lay in the topics at the start is applied")
	fl.BoolVar(&f.stopAtPoison, "stop-at-poison", false, "end at an event that cannot be applied, instead of parking its key")
	fl.StringVar(&f.assign, "assign", "", "work without a consumer group on these `partitions` of all topics: 0,2,4 or all")
	fl.StringVar(&f.instance, "instance", "", "`name` of this process in the consumer groups, the same after a restart, so that a killed one is replaced at once")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8081", "address of the read API, /healthz, /readyz and /metrics; empty for none")
	fl.BoolVar(&f.noEffects, "no-effects", false, "leave the sending of effects to other runs; they are promised all the same")
	fl.IntVar(&f.batch, "batch", 0, "events in one transaction at most; 0: 5,000")
	f.smtp.register(cmd)
	return cmd
}

// smtpFlags name the server that takes mails.
type smtpFlags struct{ server, user, password, from, tls string }

func (s *smtpFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&s.server, "smtp", "", "the mail server for effects, `host:port`; the password comes from BANYAN_SMTP_PASSWORD")
	fl.StringVar(&s.user, "smtp-user", "", "the login at the mail server; empty: none")
	fl.StringVar(&s.password, "smtp-password", "", "its password; better given as BANYAN_SMTP_PASSWORD")
	fl.StringVar(&s.from, "smtp-from", "", "the sender of mails that name none")
	fl.StringVar(&s.tls, "smtp-tls", "starttls", "none, starttls or tls")
}

func (s *smtpFlags) transport() (*effects.Transport, error) {
	if s.server == "" {
		return &effects.Transport{}, nil
	}
	host, port, ok := strings.Cut(s.server, ":")
	n, err := strconv.Atoi(port)
	var faults []error
	if !ok || err != nil || host == "" || n < 1 || n > 65535 {
		faults = append(faults, fmt.Errorf("--smtp %q: want host:port, such as mail.example.com:587", s.server))
	}
	if s.tls != "none" && s.tls != "starttls" && s.tls != "tls" {
		faults = append(faults, fmt.Errorf("--smtp-tls %q: want none, starttls or tls", s.tls))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, cli.BadInput("%w", err)
	}
	return &effects.Transport{SMTP: &effects.SMTP{Host: host, Port: n, User: s.user, Password: s.password, From: s.from, TLS: s.tls}}, nil
}

// stage is a line of output of a run.
type stage struct {
	Stage      string `json:"stage"`
	Projection string `json:"projection,omitempty"`
	Version    int    `json:"version,omitempty"`
	URL        string `json:"url,omitempty"`
}

func (a *app) stage(s stage, format string, args ...any) error {
	return a.Print.Line(s, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// running is one run.
type running struct {
	*app
	flags     runFlags
	assign    []int
	transport *effects.Transport
	cluster   *bus.Cluster

	services []*hosted
}

// hosted is one projection in a run.
type hosted struct {
	*opened
	program *declared.Program
	service *service.Service
	// aggregates are the names of the aggregates, by topic.
	aggregates sync.Map
}

func (a *app) run(ctx context.Context, f runFlags) error {
	files, err := a.files()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return cli.BadInput("no projection: name a file with -f; projector init writes a first one")
	}
	a.useMemory(int64(len(files)) * rowsOfRun)
	r := &running{app: a, flags: f}
	var wrong error
	r.transport, err = f.smtp.transport()
	r.assign, wrong = partitions(f.assign)
	if err := errors.Join(err, wrong); err != nil {
		return cli.BadInput("%w", err)
	}
	k, err := a.Reach(ctx, a.flags.kafka)
	if err != nil {
		return err
	}
	if r.cluster, err = k.DialPatiently(ctx, a.Log); err != nil {
		return err
	}
	defer r.cluster.Close()
	programs, err := a.compile(ctx, r.cluster, files, a.inUse)
	if err != nil {
		return err
	}
	defer func() {
		for _, h := range r.services {
			h.pool.Close()
		}
	}()
	if err := r.prepare(ctx, programs); err != nil {
		return err
	}
	err = r.work(ctx)
	if cli.Is[*bus.PartitionsChanged](err) {
		return fmt.Errorf("%w: publish to a new topic and rebuild from it", err)
	}
	if errors.Is(err, control.ErrFenced) {
		return cli.Failed("another projector has taken over, from another group or without one; this one has stopped and written nothing since: %w", err)
	}
	return err
}

// partitions reads --assign: nil is a group, an empty list all.
func partitions(s string) ([]int, error) {
	if s == "" || s == "all" {
		return nil, nil
	}
	var list []int
	for _, text := range strings.Split(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 0 {
			return nil, cli.BadInput("--assign %q: want numbers of partitions such as 0,2,4, or all", s)
		}
		list = append(list, n)
	}
	return list, nil
}

// prepare opens the databases of all projections, checks what only they can tell,
// and makes first versions where there are none: nothing, as long as anything is
// wrong with any of them.
func (r *running) prepare(ctx context.Context, all []compiled) error {
	var wrong []error
	for _, c := range all {
		o, err := r.open(ctx, c.program.Spec().Name)
		if err != nil {
			return err
		}
		if o, err = r.ownRoles(ctx, o); err != nil {
			return err
		}
		r.services = append(r.services, &hosted{opened: o, program: c.program})
		switch err := checkViews(ctx, o, c); {
		case cli.Is[*cli.Error](err):
			wrong = append(wrong, err)
		case err != nil:
			return err
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return cli.BadInput("%w", err)
	}
	for _, h := range r.services {
		if err := r.host(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// host makes a projection's first version where there is none, and prepares its
// service.
func (r *running) host(ctx context.Context, h *hosted) error {
	o, p := h.opened, h.program
	spec := p.Spec()
	since, err := r.since(ctx, spec, o.active.Number == 0)
	if err != nil {
		return err
	}
	v, made, err := service.Install(ctx, o.store, r.cluster, p, since)
	if cli.Is[*control.NameError](err) {
		return cli.BadInput("%w", err)
	}
	if err != nil {
		return err
	}
	if made {
		if err := r.stage(stage{Stage: "installed", Projection: spec.Name, Version: v.Number}, "installed: %s, version %d, in schema %s", spec.Name, v.Number, spec.Name); err != nil {
			return err
		}
	}
	o.active = v
	h.service = &service.Service{
		Store: o.store, Log: r.cluster, Projection: spec.Name, Owner: cli.Owner(), Logger: r.Log,
		Program: func(v control.Version) (projections.Program, error) { return programOf(v, p) },
		Assign:  r.assign, Limits: projections.Limits{Events: r.flags.batch}, Stop: r.flags.stopAtPoison, UntilCaughtUp: r.flags.untilCaughtUp,
	}
	if r.flags.assign == "" {
		h.service.Join = r.join
	}
	if !r.flags.noEffects && spec.Effects {
		h.service.Transport = r.transport
	}
	return nil
}

// since is the mark at which the effects of a new projection begin: the latest
// watermark of its source. Where there is none yet, because the first snapshot is
// not whole, or cdc has stood still for longer than watermarks are kept, nobody
// can tell history from news; a projection with effects waits for one then, since
// it would send all of history otherwise.
func (r *running) since(ctx context.Context, spec projections.Spec, first bool) (control.Mark, error) {
	for told := false; ; {
		m, err := service.Head(ctx, r.cluster, spec.Source)
		if err != nil || m.Generation > 0 || !first || !spec.Effects {
			return m, err
		}
		topic := spec.Source + ".watermarks"
		if r.flags.untilCaughtUp {
			return m, cli.Failed("%s: the topic %s holds no watermark, at which its effects would begin; start cdc first", spec.Name, topic)
		}
		if !told {
			r.Log.Warn("waiting for the first watermark, at which the effects begin; is cdc running, and its snapshot done?", "projection", spec.Name, "topic", topic)
			told = true
		}
		select {
		case <-ctx.Done():
			return m, context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// ownRoles makes the roles of a new projection where the database is the embedded
// one: there is nobody else to ask. In any other, projector init does, or says how.
func (r *running) ownRoles(ctx context.Context, o *opened) (*opened, error) {
	if r.app.flags.db != "" || o.active.Number > 0 {
		return o, nil
	}
	role, err := takeOn(ctx, o.pool, o.name)
	if err != nil || role != "" {
		return o, err
	}
	var login string
	if err := o.pool.QueryRow(ctx, `SELECT session_user`).Scan(&login); err != nil {
		return o, fmt.Errorf("ask the database who we are: %w", err)
	}
	err = o.store.ApplyRoles(ctx, o.name, login)
	o.pool.Close()
	if err != nil {
		return nil, fmt.Errorf("make the roles of %s: %w", o.name, err)
	}
	return r.open(ctx, o.name) // as the owner
}

// programOf is what a version does: the file's program where the version is of the
// file's digest, so that a changed effect counts at once; else what the version
// was made of.
func programOf(v control.Version, p *declared.Program) (projections.Program, error) {
	if v.Digest == p.Spec().Digest {
		return p, nil
	}
	return compileStored(v)
}

// compileStored compiles the definition that a version was made of.
func compileStored(v control.Version) (projections.Program, error) {
	path := fmt.Sprintf("%s, version %d", v.Projection, v.Number)
	f, faults := declared.Load(path, []byte(v.Definition))
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("the definition that version %d of %s was made of: %w", v.Number, v.Projection, err)
	}
	p, faults := declared.Compile(f, nil)
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("the definition that version %d of %s was made of: %w", v.Number, v.Projection, err)
	}
	return p, nil
}

// join takes part in a consumer group.
func (r *running) join(ctx context.Context, m service.Membership, work projections.Work) error {
	cfg := bus.GroupConfig{ID: m.Group, Topics: m.Topics, Instance: r.flags.instance, Stalled: m.Stalled, Applied: m.Applied, Log: r.Log}
	if m.OneOwner {
		cfg.Balancer = bus.OneOwner
	}
	return r.cluster.JoinGroup(ctx, cfg, work)
}

// work runs all services and the HTTP server. The first that ends ends the others.
func (r *running) work(ctx context.Context) error {
	g, within := errgroup.WithContext(ctx)
	all, stop := context.WithCancel(within)
	defer stop()
	g.Go(func() error { return r.serve(all) })
	var left sync.WaitGroup
	for _, h := range r.services {
		left.Add(1)
		if err := r.stage(stage{Stage: "running", Projection: h.name, Version: h.active.Number}, "running: %s, version %d", h.name, h.active.Number); err != nil {
			return err
		}
		g.Go(func() error {
			defer left.Done()
			if err := h.service.Run(all); err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
			return r.stage(stage{Stage: "caught-up", Projection: h.name, Version: h.active.Number}, "caught up: %s", h.name)
		})
	}
	g.Go(func() error {
		left.Wait()
		stop()
		return nil
	})
	err := g.Wait()
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil // told to stop, or done
	}
	return err
}
