package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/pricing"
)

// shadowPrefix begins the name of every topic that a candidate may write to.
const shadowPrefix = "shadow."

type runFlags struct {
	source        string
	topic         string
	untilCaughtUp bool
	every         time.Duration
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Live on the shop's events and propose prices as events",
		Long: `Reads the topics <source>.prices, .stock and .orders from their beginning, keeps
list prices, stock and demand in memory, and publishes a PriceProposed whenever
the price that it would charge for a product changes. Each says up to which
position of the source it knew the shop; nothing later is in it.

After each round it writes a PricingProgress to every partition of its topic:
all that was proposed below that position lies before it. So a reader can tell
that a price has not changed from not having heard yet.

It goes on after a restart where its topic ends. Only one may write to a topic
at a time; a second one is noticed and refused. The topic's name must begin with
"shadow.": a candidate never writes where the shop reads.

It prints a line on stdout for each stage it reaches; with --output json as
{"stage", "topic", "build", "asOf"} with the stages running and caught-up.`,
		Example: `  pricing run
  pricing run --brokers kafka1:9092,kafka2:9092 --rules rules.yaml
  pricing run --topic shadow.prices.bolder --rules bolder.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.run(c.Context(), f) },
	}
	cli.Profiled(cmd)
	a.rulesFlag(cmd)
	a.kafka.ClientID = "banyan-pricing"
	a.KafkaFlags(cmd, &a.kafka)
	fl := cmd.Flags()
	fl.StringVar(&f.source, "source", "shop", "the `name` of the source whose topics are read")
	fl.StringVar(&f.topic, "topic", "shadow.prices.demand", "the topic to propose in; it begins with shadow.")
	fl.DurationVar(&f.every, "every", 200*time.Millisecond, "how long a round lasts at least: proposals come this late, and progress this often")
	fl.BoolVar(&f.untilCaughtUp, "until-caught-up", false, "end when all is proposed that the source had told at the start")
	return cmd
}

// check tells all that is wrong with the flags.
func (f *runFlags) check() error {
	var faults []string
	if !strings.HasPrefix(f.topic, shadowPrefix) || strings.Trim(f.topic[len(shadowPrefix):], ".") == "" {
		faults = append(faults, fmt.Sprintf("--topic %q: want a name that begins with %q, such as %sprices.demand: a candidate never writes where the shop reads", f.topic, shadowPrefix, shadowPrefix))
	}
	if f.source == "" || f.source+"." == shadowPrefix {
		faults = append(faults, fmt.Sprintf("--source %q: want the name of a source, such as shop", f.source))
	}
	if f.every < 10*time.Millisecond || f.every > time.Minute {
		faults = append(faults, fmt.Sprintf("--every %s: want 10ms to 1m", f.every))
	}
	if faults != nil {
		return cli.BadInput("%s", strings.Join(faults, "\n"))
	}
	return nil
}

func (a *app) run(ctx context.Context, f runFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	d, err := a.candidate()
	if err != nil {
		return err
	}
	k, err := a.Reach(ctx, a.kafka)
	if err != nil {
		return err
	}
	cluster, err := k.DialPatiently(ctx, a.Log)
	if err != nil {
		return err
	}
	defer cluster.Close()
	warnings, err := cluster.EnsureTopics(ctx, []bus.TopicSpec{bus.BusinessTopic(f.topic, bus.Partitions)})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		a.Log.Warn("the topic is not as it should be", "topic", f.topic, "warning", w)
	}
	p, err := openProposals(ctx, cluster, f.topic, d, a.Log)
	if err != nil {
		return err
	}
	if err := a.stage(stage{Stage: "running", Topic: f.topic, Build: d.Build(), AsOf: p.asOf()}, "running: %s into %s", d.Build(), f.topic); err != nil {
		return err
	}
	err = a.work(ctx, cluster, f, p)
	if ctx.Err() != nil {
		return nil // told to stop
	}
	return err
}

// work is the life of the service: rounds, each up to a watermark.
//
// A round ends when everything that the watermark covers has been read from every
// partition, and not before; only then is anything of it published, and progress
// last. So whatever lies in the topic below a progress is complete, wherever the
// service was killed: what is missing of a round is made again, the same to the
// byte, since it depends on the events and on their order alone.
func (a *app) work(ctx context.Context, cluster *bus.Cluster, f runFlags, p *proposals) error {
	ctx, stop := context.WithCancel(ctx)
	r, err := startReading(ctx, cluster, f.source, a.Log)
	defer func() { stop(); r.wait() }()
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		w, err := r.nextMark(ctx, f.untilCaughtUp)
		if err != nil {
			return err
		}
		pace := time.NewTimer(f.every)
		for facts, err := range r.upTo(ctx, w) {
			if err != nil {
				return err
			}
			if err := p.take(ctx, facts); err != nil {
				return err
			}
		}
		if err := p.endRound(ctx, w); err != nil {
			return err
		}
		if first {
			if err := a.stage(stage{Stage: "caught-up", Topic: f.topic, AsOf: p.asOf()}, "caught up: %s", p.asOf()); err != nil {
				return err
			}
			if f.untilCaughtUp {
				return nil
			}
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// topics are those that are read.
func topics(source string) []string {
	names := slices.Clone(pricing.Topics)
	for i := range names {
		names[i] = source + "." + names[i]
	}
	return names
}
