package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/internal/figures"
	"banyan/projections/control"
)

func (a *app) effectsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "effects",
		Short: "What was promised to leave the house: mails and calls",
		Long: `An effect is promised in the transaction that applies its event, and sent once,
whatever is rebuilt, replayed, swapped or rolled back. One that was being sent
when its sender died is doubtful: nobody knows whether it went out. Calls are
then repeated under the same Idempotency-Key; a mail waits for you.`,
		Example: "  projector effects list mails --state doubtful\n  projector effects resend mails 17",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.effectsList(), a.effectsResend())
	return cmd
}

// effectShown is an effect as `projector effects list` prints it.
type effectShown struct {
	ID         int64           `json:"id"`
	State      string          `json:"state"`
	Name       string          `json:"name"`
	Kind       string          `json:"kind"`
	Source     string          `json:"source"`
	Attempts   int             `json:"attempts"`
	Error      string          `json:"error,omitempty"`
	PromisedAt time.Time       `json:"promisedAt"`
	RetryAt    *time.Time      `json:"retryAt,omitempty"`
	SentAt     *time.Time      `json:"sentAt,omitempty"`
	Payload    json.RawMessage `json:"payload,omitempty"`
}

func (a *app) effectsList() *cobra.Command {
	var states []string
	var limit int
	cmd := &cobra.Command{
		Use: "list [NAME]", Short: "List effects and their states", Args: cobra.MaximumNArgs(1),
		Long: `Lists effects, the oldest first; the states are promised, sending, sent, failed
and doubtful. --output json prints {counts: {state: n}, effects: [{id, state,
name, kind, source, attempts, error, promisedAt, retryAt, sentAt, payload}]}.
Exit code 1 where any is doubtful, or failed and not tried again by itself.`,
		Example: "  projector effects list mails\n  projector effects list mails --state doubtful,failed -o json",
		RunE: func(c *cobra.Command, args []string) error {
			filter := control.EffectFilter{Limit: limit}
			for _, s := range states {
				switch st := control.EffectState(s); st {
				case control.Promised, control.InSend, control.Sent, control.Failed, control.Doubtful:
					filter.States = append(filter.States, st)
				default:
					return cli.BadInput("--state %q: want promised, sending, sent, failed or doubtful", s)
				}
			}
			return a.withProjection(c.Context(), args, func(ctx context.Context, p *opened) error { return a.listEffects(ctx, p, filter) })
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only those in these states")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most")
	return cmd
}

func (a *app) listEffects(ctx context.Context, p *opened, filter control.EffectFilter) error {
	counts, err := p.store.EffectCounts(ctx, p.name)
	if err != nil {
		return err
	}
	entries, err := p.store.Effects(ctx, p.name, filter)
	if err != nil {
		return err
	}
	list := []effectShown{}
	for _, e := range entries {
		s := effectShown{ID: e.ID, State: string(e.State), Name: e.Name, Kind: e.Kind, Source: e.Source, Attempts: e.Attempts,
			Error: cli.Redact(e.Error), PromisedAt: e.PromisedAt, RetryAt: some(e.RetryAt), SentAt: some(e.SentAt)}
		if json.Valid(e.Payload) {
			s.Payload = e.Payload
		}
		list = append(list, s)
	}
	if err := a.Print.Result(map[string]any{"counts": counts, "effects": list}, func(w io.Writer) { writeEffects(w, counts, list) }); err != nil {
		return err
	}
	stuck, err := p.store.Effects(ctx, p.name, control.EffectFilter{States: []control.EffectState{control.Failed, control.Doubtful}, Limit: 1000})
	if err != nil {
		return err
	}
	for _, e := range stuck {
		if e.State == control.Doubtful || e.RetryAt.IsZero() {
			return cli.ErrNo
		}
	}
	return nil
}

func some(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func writeEffects(w io.Writer, counts map[control.EffectState]int64, list []effectShown) {
	if len(counts) == 0 {
		fmt.Fprintln(w, "nothing was promised")
		return
	}
	for _, s := range []control.EffectState{control.Promised, control.InSend, control.Sent, control.Failed, control.Doubtful} {
		if n := counts[s]; n > 0 {
			fmt.Fprintf(w, "%s %s  ", figures.Thousands(n), s)
		}
	}
	fmt.Fprintln(w)
	rows := [][]string{{"id", "state", "name", "kind", "attempts", "promised", "source", "error"}}
	for _, e := range list {
		rows = append(rows, []string{fmt.Sprint(e.ID), e.State, e.Name, e.Kind, fmt.Sprint(e.Attempts), e.PromisedAt.Format(time.RFC3339), e.Source, e.Error})
	}
	_ = figures.Table(w, "", figures.Numbers, rows)
}

func (a *app) effectsResend() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "resend NAME ID... | NAME --all", Short: "Send doubtful and failed effects again", Args: cobra.MinimumNArgs(1),
		Long: `Makes doubtful and failed effects promised again, so that the sender of the
running projector sends them. A doubtful mail may then reach its receiver a
second time, with the same Message-ID. --output json prints {resent}.`,
		Example: "  projector effects resend mails 17 18\n  projector effects resend mails --all",
		RunE: func(c *cobra.Command, args []string) error {
			var ids []int64
			for _, s := range args[1:] {
				id, err := strconv.ParseInt(s, 10, 64)
				if err != nil {
					return cli.BadInput("ID %q: want a number of projector effects list", s)
				}
				ids = append(ids, id)
			}
			if all == (len(ids) > 0) {
				return cli.BadInput("name the IDs of effects, or give --all")
			}
			return a.withProjection(c.Context(), args[:1], func(ctx context.Context, p *opened) error {
				n, err := p.store.Resend(ctx, p.name, ids...)
				if err != nil {
					return err
				}
				return a.Print.Result(map[string]int64{"resent": n}, func(w io.Writer) { fmt.Fprintf(w, "%s effects will be sent\n", figures.Thousands(n)) })
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all that are doubtful or failed")
	return cmd
}
