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
	"banyan/outbox"
	"banyan/translate"
)

func (a *app) parkedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "Changes that no rule knew, kept in order until somebody decides",
		Long: `A change that no rule knows parks its aggregate: this change and all later ones
of the same key are kept in order, while other keys flow on. Correct the rules,
restart cdc run, and release; or discard, which records the aggregate as it is.

A key is written Aggregate/key, as in cdc parked list.`,
		Example: `  cdc parked list
  cdc parked show Order/1234
  cdc parked release Order/1234
  cdc parked release --all`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.parkedList(), a.parkedShow(),
		a.parkedAsk(outbox.RequestRelease, "release", "Tell the parked changes by the present rules, in order",
			"  cdc parked release Order/1234\n  cdc parked release --all"),
		a.parkedAsk(outbox.RequestDiscard, "discard", "Give the parked changes up and record the aggregate as it is",
			"  cdc parked discard Order/1234"))
	return cmd
}

func (a *app) parkedList() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "list [AGGREGATE]", Short: "List the parked keys and why", Args: cobra.MaximumNArgs(1),
		Long: `Lists the parked keys. --output json prints [{Aggregate, Key, entries, first,
since, reason, detail}]. Exit code 1 where there are any.`,
		Example: "  cdc parked list\n  cdc parked list Order -o json",
		RunE: func(c *cobra.Command, args []string) error {
			aggregate := strings.Join(args, "")
			return a.withStore(c.Context(), func(_ *translate.Config, s *outbox.Store) error {
				chains, err := s.ParkedChains(c.Context(), aggregate, event.Ref{}, limit)
				if err != nil {
					return err
				}
				if chains == nil {
					chains = []outbox.ParkedChain{}
				}
				if err := a.Print.Result(chains, func(w io.Writer) { writeChains(w, chains, limit) }); err != nil {
					return err
				}
				if len(chains) > 0 {
					return cli.ErrNo
				}
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "how many keys at most")
	return cmd
}

func writeChains(w io.Writer, chains []outbox.ParkedChain, limit int) {
	if len(chains) == 0 {
		fmt.Fprintln(w, "nothing is parked")
		return
	}
	rows := [][]string{{"key", "entries", "since", "reason"}}
	for _, c := range chains {
		rows = append(rows, []string{c.Aggregate + "/" + c.Key, fmt.Sprint(c.Entries), c.Since.Format(time.RFC3339), c.Reason})
	}
	_ = figures.Table(w, "", figures.Numbers, rows)
	if len(chains) == limit {
		fmt.Fprintf(w, "there may be more: --limit\n")
	}
	fmt.Fprintln(w, "cdc parked show KEY tells the rows and the way out")
}

// parseRef reads Aggregate/key.
func parseRef(s string) (event.Ref, error) {
	aggregate, key, ok := strings.Cut(s, "/")
	if !ok || aggregate == "" || key == "" {
		return event.Ref{}, cli.BadInput("key %q: want Aggregate/key, such as Order/1234", s)
	}
	return event.Ref{Aggregate: aggregate, Key: key}, nil
}

// shownEntry is one entry of a chain as `cdc parked show` prints it.
type shownEntry struct {
	Position string              `json:"position"`
	Since    time.Time           `json:"since"`
	Reason   string              `json:"reason"`
	Detail   string              `json:"detail"`
	Tx       *translate.ParkedTx `json:"transaction"`
}

func (a *app) parkedShow() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "show KEY", Short: "Show a parked chain: rows, transaction, reason and way out", Args: cobra.ExactArgs(1),
		Long:    "Shows the entries of a chain in order. --output json prints [{position, since, reason, detail, transaction}].",
		Example: "  cdc parked show Order/1234",
		RunE: func(c *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			return a.withStore(c.Context(), func(_ *translate.Config, s *outbox.Store) error {
				entries, err := s.ParkedChain(c.Context(), ref, 0, limit)
				if err != nil {
					return err
				}
				if len(entries) == 0 {
					return cli.AnswerNo("%s/%s is not parked", ref.Aggregate, ref.Key)
				}
				var shown []shownEntry
				for _, e := range entries {
					tx, err := translate.DecodeParked(e.Body)
					if err != nil {
						return err
					}
					shown = append(shown, shownEntry{e.Position.String(), e.Since, e.Reason, e.Detail, tx})
				}
				return a.Print.Result(shown, func(w io.Writer) { writeEntries(w, shown) })
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many entries at most")
	return cmd
}

func writeEntries(w io.Writer, shown []shownEntry) {
	for i, e := range shown {
		fmt.Fprintf(w, "%d. %s: %s\n   %s\n", i+1, e.Position, e.Reason, e.Detail)
		b, err := json.MarshalIndent(e.Tx, "   ", "  ")
		if err == nil {
			fmt.Fprintf(w, "   %s\n", b)
		}
	}
}

// parkedAsk makes the command that leaves a request for the running owner and
// waits for its answer.
func (a *app) parkedAsk(kind, name, short, example string) *cobra.Command {
	var all bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: name + " KEY | --all", Short: short, Args: cobra.MaximumNArgs(1), Example: example,
		Long: short + `.

The running cdc does it between two transactions; the command waits for it.
--output json prints {keys, entries, stuck}. Exit code 1 where a key stays
parked, 3 where no run works.`,
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == all {
				return cli.BadInput("name one KEY, or give --all")
			}
			var ref event.Ref
			if len(args) == 1 {
				var err error
				if ref, err = parseRef(args[0]); err != nil {
					return err
				}
			}
			return a.withStore(c.Context(), func(_ *translate.Config, s *outbox.Store) error {
				return a.ask(c.Context(), s, kind, keyArgs{ref.Aggregate, ref.Key}, wait)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all parked keys")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for the running cdc")
	return cmd
}

func (a *app) ask(ctx context.Context, s *outbox.Store, kind string, args keyArgs, wait time.Duration) error {
	if h, err := s.Holder(ctx); err != nil {
		return err
	} else if !h.Alive {
		return cli.Failed("no cdc run works on this source, and only it can %s: start one", kind)
	}
	id, err := s.Ask(ctx, kind, args)
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	q, err := s.WaitRequest(limit, id)
	if err != nil {
		withdrawn, werr := s.Withdraw(context.WithoutCancel(ctx), id)
		if werr == nil && withdrawn {
			return fmt.Errorf("%w; the request was taken back", err)
		}
		return err
	}
	if q.State == outbox.RequestRefused {
		return cli.AnswerNo("%s", q.Error)
	}
	var r keyResult
	if err := json.Unmarshal(q.Result, &r); err != nil {
		return fmt.Errorf("read the answer of the run: %w", err)
	}
	if err := a.Print.Result(r, func(w io.Writer) {
		fmt.Fprintf(w, "%d keys flow again; %d transactions were settled\n", r.Keys, r.Entries)
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
