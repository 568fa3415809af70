package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/outbox"
	"banyan/translate"
)

// whyNot is what `cdc why-not --output json` prints.
type whyNot struct {
	Table   string         `json:"table"`
	Key     string         `json:"key"`
	Since   time.Time      `json:"since,omitzero"` // how far back provenance reaches; absent where there is none
	Changes []whyNotChange `json:"changes"`
	// Parked names the parked chains that the row's changes wait in.
	Parked []string `json:"parked"`
	Note   string   `json:"note,omitempty"`
}

type whyNotChange struct {
	LSN  string    `json:"lsn"`
	XID  uint32    `json:"xid"`
	Time time.Time `json:"time"`
	translate.TraceChange
}

func (a *app) whyNotCommand() *cobra.Command {
	var tableName, key string
	var limit int
	cmd := &cobra.Command{
		Use:   "why-not --table TABLE --key KEY",
		Short: "Why a change made no event",
		Long: `Lists what became of the changes of one row, the newest first: the event that
each one made or went into, the rule that ignores it, or the chain that it is
parked in. KEY are the values of the row's key columns, joined by commas; a
comma inside a value is written %2C.

It knows as much as provenance is kept (24 hours or 1 GiB by default).
--output json prints {table, key, since, changes: [{lsn, xid, time, ordinal,
op, old, new, outcome, rule, parts}], parked, note}. Exit code 1 where nothing
is known of the row.`,
		Example: `  cdc why-not --table orders --key 1234
  cdc why-not --table order_items --key 1234,2 -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withStore(c.Context(), func(cfg *translate.Config, s *outbox.Store) error {
				return a.whyNot(c.Context(), cfg, s, tableName, key, limit)
			})
		},
	}
	cmd.Flags().StringVar(&tableName, "table", "", "a table of the configuration; its schema may be left out")
	cmd.Flags().StringVar(&key, "key", "", "the row's key")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many changes at most")
	_ = cmd.MarkFlagRequired("table")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

func (a *app) whyNot(ctx context.Context, cfg *translate.Config, store *outbox.Store, tableName, key string, limit int) error {
	full, err := findTable(cfg, tableName)
	if err != nil {
		return err
	}
	st, err := store.Status(ctx)
	if err != nil {
		return err
	}
	r := whyNot{Table: full, Key: key, Since: st.Traces.Since, Changes: []whyNotChange{}, Parked: []string{}}
	for t, err := range store.Traces(ctx) {
		if err != nil {
			return err
		}
		tx, err := translate.DecodeTrace(t.Body)
		if err != nil {
			return err
		}
		for _, c := range tx.Changes {
			if c.Table == full && c.Key == key {
				r.Changes = append(r.Changes, whyNotChange{tx.LSN, tx.XID, tx.Time, c})
			}
		}
		if len(r.Changes) >= limit {
			break
		}
	}
	if err := a.parkedOf(ctx, store, &r); err != nil {
		return err
	}
	if len(r.Changes) == 0 && len(r.Parked) == 0 {
		r.Note = a.unknownRow(ctx, cfg, store, &r)
	}
	if err := a.Print.Result(r, func(w io.Writer) { a.writeWhyNot(w, &r) }); err != nil {
		return err
	}
	if len(r.Changes) == 0 && len(r.Parked) == 0 {
		return cli.ErrNo
	}
	return nil
}

// parkedOf names the chains in which changes of the row wait now.
func (a *app) parkedOf(ctx context.Context, store *outbox.Store, r *whyNot) error {
	seen := map[string]bool{}
	for _, c := range r.Changes {
		for _, p := range c.Parts {
			ref := event.Ref{Aggregate: p.Aggregate, Key: p.Key}
			name := ref.Aggregate + "/" + ref.Key
			if p.Outcome != "parked" || seen[name] {
				continue
			}
			seen[name] = true
			chain, err := store.ParkedChain(ctx, ref, 0, 1)
			if err != nil {
				return err
			}
			if len(chain) > 0 {
				r.Parked = append(r.Parked, name)
			}
		}
	}
	return nil
}

// unknownRow guesses what somebody who asks in vain wants to know.
func (a *app) unknownRow(ctx context.Context, cfg *translate.Config, store *outbox.Store, r *whyNot) string {
	since := "since " + r.Since.UTC().Format(time.RFC3339)
	if r.Since.IsZero() {
		since = "yet, because no transaction is kept"
	}
	for _, g := range cfg.Aggregates {
		if g.Table != r.Table {
			continue
		}
		states, err := store.States(ctx, []event.Ref{{Aggregate: g.Name, Key: r.Key}})
		if s, ok := states[event.Ref{Aggregate: g.Name, Key: r.Key}]; err == nil && ok {
			return fmt.Sprintf("no change of it is known %s; its state is, as of event %s", since, s.Event)
		}
	}
	return fmt.Sprintf("no change of this row was seen %s: it was committed before, has not been read yet (cdc status), was rolled back, or its key is another one", since)
}

func (a *app) writeWhyNot(w io.Writer, r *whyNot) {
	if r.Note != "" {
		fmt.Fprintln(w, r.Note)
	}
	for _, c := range r.Changes {
		fmt.Fprintf(w, "%s  %s.%d  %s of %s %s: %s\n", c.Time.UTC().Format("2006-01-02 15:04:05.000"), c.LSN, c.Ordinal, c.Op, c.Table, c.TraceChange.Key, c.Outcome)
		if s := columns(c.TraceChange); s != "" {
			fmt.Fprintf(w, "    %s\n", s)
		}
		if c.Rule != "" {
			fmt.Fprintf(w, "    by %s\n", c.Rule)
		}
		for _, p := range c.Parts {
			fmt.Fprintf(w, "    %s/%s: %s", p.Aggregate, p.Key, p.Outcome)
			if p.Rule != "" {
				fmt.Fprintf(w, " by %s", p.Rule)
			}
			if p.Event != "" {
				fmt.Fprintf(w, " -> %s", p.Event)
			}
			if p.Reason != "" {
				fmt.Fprintf(w, ": %s", p.Reason)
			}
			fmt.Fprintln(w)
		}
	}
	for _, p := range r.Parked {
		fmt.Fprintf(w, "parked now: %s (cdc parked show %s)\n", p, p)
	}
}
