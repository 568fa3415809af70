package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/internal/figures"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// tornDown is what `cdc teardown --output json` prints.
type tornDown struct {
	Applied bool             `json:"applied"`
	Source  planned          `json:"source"` // the owner's part
	Store   []outbox.Dropped `json:"store"`
	Topics  []string         `json:"topics"` // only with --topics
	Kept    []string         `json:"kept"`
}

func (a *app) teardownCommand() *cobra.Command {
	var f ownerFlags
	var topics, force bool
	cmd := &cobra.Command{
		Use:   "teardown",
		Short: "Remove slot, publication, role and store; topics stay unless told",
		Long: `Lists what it would remove, or removes it with --apply: the replication slot, the
publication, the role with its grants, and the store. It refuses while a run
lives. Topics and the events in them stay, unless --topics is given. Embedded
servers go on: cdc embedded stop.

--output json prints {applied, source: {statements, obstacles}, store: [{kind,
name, bytes}], topics, kept}.`,
		Example: `  cdc teardown
  cdc teardown --apply --owner postgres://postgres@db/shop
  cdc teardown --apply --topics`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withStore(c.Context(), func(cfg *translate.Config, s *outbox.Store) error {
				return a.teardown(c.Context(), cfg, s, f, topics, force)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&topics, "topics", false, "delete the topics too, with all history")
	cmd.Flags().BoolVar(&force, "force", false, "also drop a slot that this store has never followed")
	return cmd
}

// foreignSlot refuses to drop a slot that another store may live on.
func foreignSlot(ctx context.Context, cfg *translate.Config, store *outbox.Store, conn *pgx.Conn) error {
	st, err := store.Status(ctx)
	if err != nil || st.Source == cfg.Source.Name {
		return err
	}
	_, err = wal.SlotInfo(ctx, conn, cfg.Source.Slot)
	if cli.Is[*wal.SlotMissingError](err) {
		return nil
	}
	if err != nil {
		return err
	}
	return cli.AnswerNo("slot %q exists, but this store has never followed source %q: another store may live on it; name that one with --store, or give --force. Nothing was removed", cfg.Source.Slot, cfg.Source.Name)
}

func (a *app) teardown(ctx context.Context, cfg *translate.Config, store *outbox.Store, f ownerFlags, topics, force bool) error {
	if h, err := store.Holder(ctx); err != nil {
		return err
	} else if h.Alive {
		return cli.AnswerNo("a run lives: %s; stop it first. Nothing was removed", h)
	}
	conn, err := f.connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if !force {
		if err := foreignSlot(ctx, cfg, store, conn); err != nil {
			return err
		}
	}
	access := f.access(cfg)
	plan, err := access.Teardown(ctx, conn)
	if err != nil {
		return err
	}
	result := tornDown{Applied: f.apply, Source: planned{Applied: f.apply, Role: access.Role, Statements: []statementJSON{}, Obstacles: append([]string{}, plan.Obstacles...)}, Topics: []string{}, Kept: []string{}}
	for _, s := range plan.Statements {
		result.Source.Statements = append(result.Source.Statements, statementJSON(s))
	}
	if result.Store, err = store.Contents(ctx); err != nil {
		return err
	}
	names := topicNames(cfg)
	if topics {
		result.Topics = names
	} else {
		result.Kept = names
	}
	if f.apply {
		if err := a.removeAll(ctx, cfg, conn, plan, store, result.Topics); err != nil {
			return err
		}
	}
	return a.Print.Result(result, func(w io.Writer) { writeTornDown(w, result) })
}

// topicNames are all topics that a run makes.
func topicNames(cfg *translate.Config) []string {
	names := []string{cfg.Source.Name + ".watermarks"}
	seen := map[string]bool{}
	for _, g := range cfg.Aggregates {
		if !seen[g.Topic] {
			seen[g.Topic] = true
			names = append(names, g.Topic, outbox.LatestTwin(g.Topic))
		}
	}
	return names
}

// removeAll removes the source's part first: it is what costs the source.
func (a *app) removeAll(ctx context.Context, cfg *translate.Config, conn *pgx.Conn, plan *wal.Plan, store *outbox.Store, topics []string) error {
	// Dropping a slot cannot be rolled back, so each statement stands alone;
	// what is done already is not in the next plan.
	for _, s := range plan.Statements {
		if _, err := conn.Exec(ctx, s.SQL); err != nil {
			return fmt.Errorf("%s: %w; what comes before it is done, run teardown again for the rest", s.SQL, err)
		}
	}
	if err := store.Drop(ctx); err != nil {
		if _, alive := errors.AsType[*outbox.LeaseError](err); alive {
			return cli.AnswerNo("%w", err)
		}
		return err
	}
	if len(topics) == 0 {
		return nil
	}
	cluster, err := kafka(cfg).Dial(ctx)
	if err != nil {
		return err
	}
	defer cluster.Close()
	return cluster.DeleteTopics(ctx, topics...)
}

func writeTornDown(w io.Writer, r tornDown) {
	verb := "would remove"
	if r.Applied {
		verb = "removed"
	}
	fmt.Fprintf(w, "%s from the source:\n", verb)
	for _, s := range r.Source.Statements {
		fmt.Fprintf(w, "  %s;\n", s.SQL)
	}
	if len(r.Source.Statements) == 0 {
		fmt.Fprintln(w, "  nothing")
	}
	for _, o := range r.Source.Obstacles {
		fmt.Fprintf(w, "  note: %s\n", o)
	}
	if len(r.Store) > 0 {
		fmt.Fprintf(w, "%s the store: schema banyan, %d tables, %s\n", verb, len(r.Store)-1, figures.Size(r.Store[0].Bytes))
	}
	if len(r.Topics) > 0 {
		fmt.Fprintf(w, "%s the topics: %s\n", verb, strings.Join(r.Topics, ", "))
	}
	if len(r.Kept) > 0 {
		fmt.Fprintf(w, "kept: %s (--topics deletes them, with all history)\n", strings.Join(r.Kept, ", "))
	}
	if !r.Applied {
		fmt.Fprintln(w, "nothing was changed; --apply does it")
	}
}
