package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/outbox"
	"banyan/translate"
)

// explained is what `cdc explain --output json` prints.
type explained struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Topic    string          `json:"topic"`
	Record   *recordPlace    `json:"record,omitempty"` // absent while it waits in the outbox
	Seq      int64           `json:"seq"`
	Position string          `json:"position"`
	Rules    int             `json:"rules"`
	Rule     string          `json:"rule,omitempty"` // that made it
	RuleText string          `json:"ruleText,omitempty"`
	Cause    string          `json:"cause,omitempty"`
	Writer   int64           `json:"writer"`
	Time     time.Time       `json:"time"`
	Data     json.RawMessage `json:"data"`
	// Transaction is absent where its provenance is no longer kept, and for
	// events of a snapshot.
	Transaction *translate.TraceTx `json:"transaction,omitempty"`
	Note        string             `json:"note,omitempty"`
}

// recordPlace is where a record lies in Kafka.
type recordPlace struct {
	Partition int   `json:"partition"`
	Offset    int64 `json:"offset"`
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain EVENT-ID",
		Short: "Rows, transaction, rule and rule version that made an event; where it lies in Kafka",
		Long: `Tells why an event exists. Rows and transaction are known as long as provenance
is kept (24 hours or 1 GiB by default); the rest is in the topic for ever.

--output json prints {id, type, topic, record: {partition, offset}, seq,
position, rules, rule, ruleText, cause, writer, time, data, transaction, note}.
Exit code 1 where there is no such event.`,
		Example: `  cdc explain 'shop/Order/1234@1:0/1A2B3C8.0'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := event.ParseID(args[0])
			if err != nil {
				return cli.BadInput("%w", err)
			}
			return a.withStore(c.Context(), func(cfg *translate.Config, s *outbox.Store) error { return a.explain(c.Context(), cfg, s, id) })
		},
	}
}

func (a *app) explain(ctx context.Context, cfg *translate.Config, store *outbox.Store, id event.ID) error {
	if id.Source != cfg.Source.Name {
		return cli.BadInput("event %s is of source %q, %s is about %q", id, id.Source, cfg.Path, cfg.Source.Name)
	}
	g := cfg.Aggregate(id.Aggregate)
	if g == nil {
		return cli.BadInput("event %s: %s has no aggregate %q", id, cfg.Path, id.Aggregate)
	}
	e, place, err := a.findEvent(ctx, cfg, store, g.Topic, id)
	if err != nil {
		return err
	}
	x := explained{ID: id.String(), Type: e.Type, Topic: e.Topic, Record: place, Seq: e.Seq, Position: e.Position.String(), Rules: e.Rules,
		Cause: e.Cause, Writer: e.Writer, Time: e.Time, Data: e.Data}
	if err := a.explainRows(ctx, store, id, &x); err != nil {
		return err
	}
	x.RuleText = a.ruleText(ctx, store, &x, id)
	return a.Print.Result(x, func(w io.Writer) { a.writeExplained(w, &x, id) })
}

// findEvent looks in the topic, and in the outbox for what waits there.
func (a *app) findEvent(ctx context.Context, cfg *translate.Config, store *outbox.Store, topic string, id event.ID) (event.Event, *recordPlace, error) {
	cluster, err := kafka(cfg).Dial(ctx)
	if err != nil {
		return event.Event{}, nil, err
	}
	defer cluster.Close()
	stored, err := store.Event(ctx, id)
	if err != nil && !errors.Is(err, outbox.ErrNotFound) {
		return event.Event{}, nil, err
	}
	inStore := err == nil
	e, place, err := searchTopic(ctx, cluster, topic, id)
	switch {
	case err != nil:
		return e, nil, err
	case place != nil:
		return e, place, nil
	case inStore:
		return stored, nil, nil
	}
	return e, nil, cli.AnswerNo("there is no event %s in topic %s: see cdc why-not for a change that made none", id, topic)
}

// searchTopic reads the partition of the key.
func searchTopic(ctx context.Context, cluster *bus.Cluster, topic string, id event.ID) (event.Event, *recordPlace, error) {
	partition := outbox.PartitionOf(id.Key, bus.Partitions)
	first, next, err := cluster.Ends(ctx, topic, partition)
	if err != nil {
		return event.Event{}, nil, err
	}
	want := id.String()
	for r, err := range cluster.Read(ctx, topic, partition, first, next) {
		if err != nil {
			return event.Event{}, nil, err
		}
		if v, ok := r.Header("ce_id"); !ok || string(v) != want {
			continue
		}
		e, err := event.FromRecord(topic, &r)
		return e, &recordPlace{partition, r.Offset}, err
	}
	return event.Event{}, nil, nil
}

// explainRows adds the transaction and the rule.
func (a *app) explainRows(ctx context.Context, store *outbox.Store, id event.ID, x *explained) error {
	if id.Position.Snapshot > 0 {
		x.Note = fmt.Sprintf("recorded by snapshot %d: the state as it was found, not a change", id.Position.Snapshot)
		return nil
	}
	t, err := store.Trace(ctx, id.Position.Generation, id.Position.LSN)
	if errors.Is(err, outbox.ErrNotFound) {
		x.Note = "the provenance of its transaction is no longer kept (store.provenance in the configuration says how long)"
		return nil
	}
	if err != nil {
		return err
	}
	if x.Transaction, err = translate.DecodeTrace(t.Body); err != nil {
		return err
	}
	for _, c := range x.Transaction.Changes {
		for _, p := range c.Parts {
			if p.Event == x.ID && c.Ordinal == id.Position.Ordinal {
				x.Rule = p.Rule
			}
		}
	}
	if x.Transaction.Left {
		x.Note = fmt.Sprintf("the transaction has %d changes; only the first are kept", x.Transaction.Total)
	}
	return nil
}

// ruleText quotes the rule as the version of then had it.
func (a *app) ruleText(ctx context.Context, store *outbox.Store, x *explained, id event.ID) string {
	set, err := store.RulesVersion(ctx, x.Rules)
	if err != nil {
		return ""
	}
	cfg, err := translate.Load("rule set", []byte(set.YAML))
	if err != nil {
		return ""
	}
	g := cfg.Aggregate(id.Aggregate)
	if g == nil {
		return ""
	}
	for _, e := range g.Events {
		if e.Type != x.Type || !strings.HasSuffix(x.Rule, e.Type) {
			continue
		}
		table := e.On.Table
		if table == "" {
			table = g.Table
		}
		text := fmt.Sprintf("on %s of %s", e.On.Op, table)
		if e.When != "" {
			text += ", when " + e.When
		}
		if len(e.Absorb) > 0 {
			text += ", absorbing " + strings.Join(e.Absorb, ", ")
		}
		return text
	}
	return ""
}

func (a *app) writeExplained(w io.Writer, x *explained, id event.ID) {
	fmt.Fprintf(w, "%s of %s\n", x.Type, id.Subject())
	where := "waits in the outbox"
	if x.Record != nil {
		where = fmt.Sprintf("partition %d, offset %d", x.Record.Partition, x.Record.Offset)
	}
	fmt.Fprintf(w, "  in Kafka     %s, %s, banyan_seq %d\n", x.Topic, where, x.Seq)
	fmt.Fprintf(w, "  committed    %s, position %s\n", x.Time.UTC().Format(time.RFC3339Nano), x.Position)
	if x.Position != id.Position.String() {
		fmt.Fprintf(w, "               released from a parked chain; it happened at %s\n", id.Position)
	}
	fmt.Fprintf(w, "  rule         %s, rule set %d\n", orDash(x.Rule), x.Rules)
	if x.RuleText != "" {
		fmt.Fprintf(w, "               %s\n", x.RuleText)
	}
	if x.Cause != "" {
		fmt.Fprintf(w, "  part of      %s\n", x.Cause)
	}
	if x.Note != "" {
		fmt.Fprintf(w, "  note         %s\n", x.Note)
	}
	if t := x.Transaction; t != nil {
		fmt.Fprintf(w, "  transaction  %s, xid %d, %d changes; those of this event:\n", t.LSN, t.XID, t.Total)
		for _, c := range t.Changes {
			if part := partOf(c, x.ID); part != nil {
				fmt.Fprintf(w, "    %-9s %s %s %s (%s)\n", fmt.Sprintf("%d.", c.Ordinal), c.Op, c.Table, c.Key, part.Outcome)
				fmt.Fprintf(w, "              %s\n", columns(c))
			}
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// partOf is what a change means to the event, or nil.
func partOf(c translate.TraceChange, id string) *translate.TracePart {
	for i := range c.Parts {
		if c.Parts[i].Event == id {
			return &c.Parts[i]
		}
	}
	return nil
}

// columns writes the row of a change, or what an update changed, in one line.
func columns(c translate.TraceChange) string {
	row := c.New
	if row == nil {
		row = c.Old
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(row)) {
		v, old := row[name], c.Old[name]
		if c.Op == "update" && c.Old != nil {
			if _, known := c.Old[name]; known && text(v) == text(old) {
				continue
			} else if known {
				parts = append(parts, fmt.Sprintf("%s %s -> %s", name, text(old), text(v)))
				continue
			}
		}
		parts = append(parts, name+"="+text(v))
	}
	return strings.Join(parts, " ")
}

// text writes a column value, shortened.
func text(v *string) string {
	if v == nil {
		return "null"
	}
	if r := []rune(*v); len(r) > 60 {
		return fmt.Sprintf("%q…", string(r[:60]))
	}
	if strings.ContainsAny(*v, " \t\n\"") || *v == "" {
		return fmt.Sprintf("%q", *v)
	}
	return *v
}
