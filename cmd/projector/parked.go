package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/internal/figures"
	"banyan/projections/control"
)

func (a *app) parkedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "Events that could not be applied, kept in order until somebody decides",
		Long: `An event that cannot be applied parks its key: this event and all later ones of
the same aggregate are kept in order, while other keys flow on. Mend the
projection (a changed file is a rebuild; a database that was full or a
constraint needs none) and release; or discard: the rows stay as they are until
the next event of the key.

A key is written Aggregate/key, as in projector parked list.`,
		Example: `  projector parked list shipping
  projector parked show shipping Customer/42
  projector parked release shipping Customer/42
  projector parked release shipping --all`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.parkedList(), a.parkedShow(),
		a.parkedAsk(control.Release, "release", "Apply the parked events of a key, in order",
			"  projector parked release shipping Customer/42\n  projector parked release shipping --all"),
		a.parkedAsk(control.Discard, "discard", "Give the parked events of a key up",
			"  projector parked discard shipping Customer/42"))
	return cmd
}

// chainShown is a chain as `projector parked list` prints it.
type chainShown struct {
	Key    string    `json:"key"`
	Events int64     `json:"events"`
	Topic  string    `json:"topic"`
	Part   int       `json:"partition"`
	Since  time.Time `json:"since"`
	First  string    `json:"first"`
	Type   string    `json:"type"`
	Reason string    `json:"reason"`
}

func (a *app) parkedList() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "List the parked keys, how much waits behind them, and why", Args: cobra.MaximumNArgs(1),
		Long: `Lists the parked keys of the version that readers see. --output json prints
[{key, events, topic, partition, since, first, type, reason}]. Exit code 1 where
there are any.`,
		Example: "  projector parked list shipping\n  projector parked list -o json",
		RunE: func(c *cobra.Command, args []string) error {
			return a.withProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				chains, err := p.store.Chains(ctx, p.pool, p.name, p.active.Number)
				if err != nil {
					return err
				}
				shown := []chainShown{}
				var events int64
				for _, ch := range chains {
					shown = append(shown, chainShown{ch.Aggregate + "/" + ch.Key, ch.Events, ch.Topic, ch.Part, ch.Since, ch.First, ch.Type, ch.Reason})
					events += ch.Events
				}
				if err := a.Print.Result(shown, func(w io.Writer) { writeChains(w, p.name, shown, events) }); err != nil {
					return err
				}
				if len(shown) > 0 {
					return cli.ErrNo
				}
				return nil
			})
		},
	}
}

func writeChains(w io.Writer, name string, chains []chainShown, events int64) {
	if len(chains) == 0 {
		fmt.Fprintln(w, "nothing is parked")
		return
	}
	rows := [][]string{{"key", "events", "since", "first", "reason"}}
	for _, c := range chains {
		rows = append(rows, []string{c.Key, fmt.Sprint(c.Events), c.Since.Format(time.RFC3339), c.Type, c.Reason})
	}
	_ = figures.Table(w, "", figures.Numbers, rows)
	fmt.Fprintf(w, "%s keys stand still with %s events; all other keys flow. projector parked show %s KEY tells more\n",
		figures.Thousands(int64(len(chains))), figures.Thousands(events), name)
}

// parseRef reads Aggregate/key.
func parseRef(s string) (event.Ref, error) {
	aggregate, key, ok := strings.Cut(s, "/")
	if !ok || aggregate == "" || key == "" {
		return event.Ref{}, cli.BadInput("key %q: want Aggregate/key, such as Customer/42", s)
	}
	return event.Ref{Aggregate: aggregate, Key: key}, nil
}

// eventShown is a parked event as `projector parked show` prints it.
type eventShown struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Topic     string          `json:"topic"`
	Partition int             `json:"partition"`
	Offset    int64           `json:"offset"`
	Seq       int64           `json:"seq"`
	Since     time.Time       `json:"since"`
	Reason    string          `json:"reason"`
	Data      json.RawMessage `json:"data"`
}

func (a *app) parkedShow() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "show [NAME] KEY", Short: "Show a parked chain: its events, where they lie, and why", Args: cobra.RangeArgs(1, 2),
		Long: `Shows the events of a chain in order. --output json prints [{id, type, topic,
partition, offset, seq, since, reason, data}].`,
		Example: "  projector parked show shipping Customer/42",
		RunE: func(c *cobra.Command, args []string) error {
			ref, err := parseRef(args[len(args)-1])
			if err != nil {
				return err
			}
			return a.withProjection(c.Context(), args[:len(args)-1], func(ctx context.Context, p *opened) error {
				chain, err := p.store.Chain(ctx, p.pool, p.name, p.active.Number, ref, limit)
				if err != nil {
					return err
				}
				if len(chain) == 0 {
					return cli.AnswerNo("%s/%s is not parked in %s", ref.Aggregate, ref.Key, p.name)
				}
				var shown []eventShown
				for _, e := range chain {
					s := eventShown{e.ID, e.Type, e.Topic, e.Part, e.Offset, e.Seq, e.ParkedAt, e.Reason, nil}
					if json.Valid(e.Record.Value) {
						s.Data = e.Record.Value
					}
					shown = append(shown, s)
				}
				return a.Print.Result(shown, func(w io.Writer) {
					for i, e := range shown {
						fmt.Fprintf(w, "%d. %s %s\n   %s\n   at %s/%d offset %d, parked %s\n   %s\n", i+1, e.Type, e.ID, e.Reason, e.Topic, e.Partition, e.Offset, e.Since.Format(time.RFC3339), e.Data)
					}
				})
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many events at most")
	return cmd
}

// settled is what became of the chains that were asked for.
type settled struct {
	Keys   int      `json:"keys"`
	Events int64    `json:"events"`
	Stuck  []string `json:"stuck"`
}

// parkedAsk makes the command that leaves a request for the running owner and
// waits for its answer.
func (a *app) parkedAsk(kind control.RequestKind, name, short, example string) *cobra.Command {
	var all bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: name + " [NAME] KEY | --all", Short: short, Args: cobra.MaximumNArgs(2), Example: example,
		Long: short + `.

The running projector does it between two batches; the command waits for it.
--output json prints {keys, events, stuck}. Exit code 1 where a key stays
parked, 3 where no run works.`,
		RunE: func(c *cobra.Command, args []string) error {
			var refs []event.Ref
			if !all {
				if len(args) == 0 {
					return cli.BadInput("name one KEY, or give --all")
				}
				ref, err := parseRef(args[len(args)-1])
				if err != nil {
					return err
				}
				refs, args = append(refs, ref), args[:len(args)-1]
			}
			return a.withProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				return a.ask(ctx, p, kind, refs, wait)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all parked keys")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for the running projector")
	return cmd
}

func (a *app) ask(ctx context.Context, p *opened, kind control.RequestKind, refs []event.Ref, wait time.Duration) error {
	alive, err := p.store.Alive(ctx, p.name, p.active.Number)
	if err != nil {
		return err
	}
	if !alive {
		return cli.Failed("no projector runs %s, and only its owner can %s: start projector run", p.name, kind)
	}
	id, err := p.store.Ask(ctx, p.name, p.active.Number, kind, refs...)
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	done, err := p.store.Await(limit, id)
	if err != nil {
		return fmt.Errorf("wait for the running projector: %w", err)
	}
	r := settled{Stuck: []string{}}
	for _, q := range done {
		if q.Error != "" {
			r.Stuck = append(r.Stuck, fmt.Sprintf("%s/%s: %s", q.Aggregate, q.Key, q.Error))
			continue
		}
		r.Keys++
		r.Events += q.Events
	}
	if err := a.Print.Result(r, func(w io.Writer) {
		fmt.Fprintf(w, "%d keys flow again; %d events were settled\n", r.Keys, r.Events)
		for _, s := range r.Stuck {
			fmt.Fprintln(w, "still parked:", s)
		}
	}); err != nil {
		return err
	}
	if len(r.Stuck) > 0 {
		return cli.ErrNo
	}
	return nil
}
