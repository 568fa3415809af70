package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/internal/figures"
	"banyan/translate"
	"banyan/wal"
)

// previewed is one event as `cdc preview --output json` prints it, one per line:
// it lies in no topic yet.
type previewed struct {
	Topic    string          `json:"topic"`
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Key      string          `json:"key"`
	Time     time.Time       `json:"time"`
	Position string          `json:"position"`
	Rules    int             `json:"rules"`
	Data     json.RawMessage `json:"data"`
}

func (a *app) previewCommand() *cobra.Command {
	var tableName string
	var limit int
	cmd := &cobra.Command{
		Use:   "preview --table TABLE",
		Short: "The events that today's rows would give; no slot, no topic, no store",
		Long: `Reads some rows in one read-only transaction and prints the events that a
snapshot would record of them. Below stand the rules, so that one sees which
changes will give which events. It makes nothing, anywhere.

--output json prints one object per line: {topic, id, type, key, time, position,
rules, data}.`,
		Example: `  cdc preview --table orders
  cdc preview --table public.customers --limit 3 -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.preview(c.Context(), tableName, limit) },
	}
	cmd.Flags().StringVar(&tableName, "table", "", "a table of the configuration; its schema may be left out")
	cmd.Flags().IntVar(&limit, "limit", 5, "how many aggregates of each kind")
	_ = cmd.MarkFlagRequired("table")
	return cmd
}

// errEnough ends a reading early.
var errEnough = errors.New("enough")

func (a *app) preview(ctx context.Context, tableName string, limit int) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	full, err := findTable(cfg, tableName)
	if err != nil {
		return err
	}
	_, rules, err := a.compile(ctx, cfg)
	if err != nil {
		return err
	}
	snap, err := wal.LiveSnapshot(ctx, cfg.Source.URL)
	if err != nil {
		return err
	}
	defer snap.Close()
	at, err := snap.Time(ctx)
	if err != nil {
		return err
	}
	engine := &translate.Engine{Rules: rules, Source: cfg.Source.Name, Generation: 1}
	for _, u := range rules.Units() {
		if !unitHas(&u.Root, full) {
			continue
		}
		point := translate.SnapshotPoint{Number: 1, LSN: snap.LSN, Time: at}
		if err := a.previewUnit(ctx, engine, snap, u, point, limit); err != nil {
			return err
		}
	}
	a.Print.Text(func(w io.Writer) { writeRules(w, cfg, full) })
	return nil
}

// findTable finds a captured table by its full or its bare name.
func findTable(cfg *translate.Config, name string) (string, error) {
	var found, all []string
	for _, t := range cfg.Tables {
		_, bare, _ := strings.Cut(t.Name, ".")
		if t.Name == name || bare == name {
			found = append(found, t.Name)
		}
		all = append(all, t.Name)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", cli.BadInput("table %q is not in %s; there are: %s", name, cfg.Path, strings.Join(all, ", "))
	}
	return "", cli.BadInput("table %q could be %s: give the schema too", name, strings.Join(found, " or "))
}

func unitHas(t *wal.UnitTable, full string) bool {
	return t.Table.FullName() == full || slices.ContainsFunc(t.Children, func(c wal.UnitTable) bool { return unitHas(&c, full) })
}

func (a *app) previewUnit(ctx context.Context, engine *translate.Engine, snap *wal.Snapshot, u wal.Unit, at translate.SnapshotPoint, limit int) error {
	put := func(_ context.Context, step *event.Step) error {
		for _, p := range step.Parked {
			fmt.Fprintf(a.Print.Aside(), "%s/%s would be parked: %s; %s\n", p.Aggregate, p.Key, p.Reason, p.Detail)
		}
		for i := range step.Events {
			e := &step.Events[i]
			t := previewed{Topic: e.Topic, ID: e.ID.String(), Type: e.Type, Key: e.Key(), Time: e.Time, Position: e.Position.String(), Rules: e.Rules, Data: e.Data}
			if err := a.Print.Line(t, func(w io.Writer) { a.writePreview(w, &t) }); err != nil {
				return err
			}
		}
		return nil
	}
	r, err := engine.Recorder(translate.NoPast{}, u.Aggregate, at, put)
	if err != nil {
		return err
	}
	seen := 0
	err = snap.Read(ctx, u, wal.Range{}, func(t *wal.Tree) error {
		if seen++; seen > limit {
			return errEnough
		}
		return r.Add(ctx, t)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := r.Close(ctx); err != nil {
		return err
	}
	if seen == 0 {
		a.Print.Text(func(w io.Writer) { fmt.Fprintf(w, "%s: there are no rows\n", u.Aggregate) })
	}
	return nil
}

func (a *app) writePreview(w io.Writer, t *previewed) {
	fmt.Fprintf(w, "%s  %s\n", t.Type, a.Print.Dim(t.ID))
	var pretty any
	if json.Unmarshal(t.Data, &pretty) == nil {
		if b, err := json.MarshalIndent(json.RawMessage(t.Data), "  ", "  "); err == nil {
			fmt.Fprintf(w, "  %s\n", b)
		}
	}
}

// writeRules says which changes of the table will give which events.
func writeRules(w io.Writer, cfg *translate.Config, full string) {
	rows := [][]string{{"change", "when", "event", "topic"}}
	for _, g := range cfg.Aggregates {
		for _, e := range g.Events {
			on := e.On.Table
			if on == "" {
				on = g.Table
			}
			if on != full && !slices.Contains(e.Absorb, full) {
				continue
			}
			when := e.When
			if on != full {
				when = "part of the " + e.On.Op + " of " + on
			}
			rows = append(rows, []string{e.On.Op, when, e.Type, g.Topic})
		}
	}
	if len(rows) > 1 {
		fmt.Fprintln(w)
		_ = figures.Table(w, "", figures.Numbers, rows)
	}
}
