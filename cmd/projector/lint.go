package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/internal/figures"
	"banyan/projections/control"
)

// linted is what `projector lint` found.
type linted struct {
	Projection string     `json:"projection"`
	Writers    []findings `json:"writers"` // of the tables
	Topics     []writers  `json:"topics"`
}

type findings struct {
	Weight string `json:"weight"`
	Object string `json:"object"`
	Role   string `json:"role"`
	What   string `json:"what"`
	Way    string `json:"way"`
}

// writers is who has written to a topic.
type writers struct {
	Topic   string   `json:"topic"`
	Records int64    `json:"records"`
	Sources []string `json:"sources"`
	Epochs  int64    `json:"epochs"` // of the one writer, one after the other
	Foreign int64    `json:"foreign"`
	Back    int64    `json:"back"` // records that a fenced writer has put behind its successor's
	Example string   `json:"example,omitempty"`
}

func (w *writers) good() bool { return len(w.Sources) <= 1 && w.Foreign == 0 && w.Back == 0 }

func (a *app) lintCommand() *cobra.Command {
	var topics bool
	cmd := &cobra.Command{
		Use: "lint [NAME]", Short: "Prove that only the runner can write the tables, and that each topic has one writer", Args: cobra.MaximumNArgs(1),
		Long: `Looks into the database's catalog for anybody but the owner's role who may write
the projection's schemas, and reads its topics from their beginning for records
that are not Banyan's, of another source, or by a writer that had been
succeeded. Superusers and members of the owner's role are told, as info.
--output json prints [{projection, writers: [{weight, object, role, what, way}],
topics: [{topic, records, sources, epochs, foreign, back, example}]}]. Exit code
1 where something is wrong.`,
		Example: "  projector lint shipping\n  projector lint shipping --topics=false",
		RunE: func(c *cobra.Command, args []string) error {
			var all []linted
			bad := false
			err := a.eachProjection(c.Context(), args, func(ctx context.Context, p *opened) error {
				l, wrong, err := a.lint(ctx, p, topics)
				all = append(all, l)
				bad = bad || wrong
				return err
			})
			if err != nil {
				return err
			}
			if err := a.Print.Result(all, func(w io.Writer) { a.writeLint(w, all) }); err != nil {
				return err
			}
			if bad {
				return cli.ErrNo
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&topics, "topics", true, "read the topics too")
	return cmd
}

func (a *app) lint(ctx context.Context, p *opened, topics bool) (l linted, bad bool, err error) {
	l = linted{Projection: p.name, Writers: []findings{}, Topics: []writers{}}
	found, err := p.store.LintWriters(ctx, p.name)
	if err != nil {
		return l, false, err
	}
	for _, f := range found {
		l.Writers = append(l.Writers, findings{string(f.Weight), f.Object, f.Role, f.What, f.Way})
		bad = bad || f.Weight == control.Fault
	}
	if !topics {
		return l, bad, nil
	}
	cluster, err := a.dial(ctx)
	if err != nil {
		return l, bad, err
	}
	defer cluster.Close()
	parts, err := p.store.Parts(ctx, p.pool, p.name, p.active.Number)
	if err != nil {
		return l, bad, err
	}
	by := map[string]*writers{}
	var order []string
	meter := a.Print.Meter("reading topics", "records", 0)
	defer meter.End()
	for _, part := range parts {
		w := by[part.Topic]
		if w == nil {
			w = &writers{Topic: part.Topic, Sources: []string{}}
			by[part.Topic] = w
			order = append(order, part.Topic)
		}
		if err := lintPartition(ctx, cluster, part.PartID, w, meter); err != nil {
			return l, bad, err
		}
	}
	for _, topic := range order {
		l.Topics = append(l.Topics, *by[topic])
		bad = bad || !by[topic].good()
	}
	return l, bad, nil
}

// lintPartition reads one partition. The first record of each seq counts: a
// repeat of a stopped writer can come late, and is known to.
func lintPartition(ctx context.Context, log *bus.Cluster, id control.PartID, w *writers, meter *cli.Meter) error {
	first, next, err := log.Ends(ctx, id.Topic, id.Part)
	if err != nil {
		return err
	}
	var seq, epoch int64
	for r, err := range log.Read(ctx, id.Topic, id.Part, first, next) {
		if err != nil {
			return err
		}
		w.Records++
		meter.Add(1)
		e, err := event.FromRecord(id.Topic, &r)
		if err != nil {
			w.Foreign++
			w.note("%s offset %d: %v", id, r.Offset, err)
			continue
		}
		w.source(e.ID.Source)
		if e.Seq <= seq {
			continue
		}
		seq = e.Seq
		switch {
		case e.Writer < epoch:
			w.Back++
			w.note("%s offset %d: written by epoch %d after epoch %d had begun", id, r.Offset, e.Writer, epoch)
		case e.Writer > epoch:
			epoch = e.Writer
			w.Epochs = max(w.Epochs, epoch)
		}
	}
	return nil
}

func (w *writers) note(format string, args ...any) {
	if w.Example == "" {
		w.Example = fmt.Sprintf(format, args...)
	}
}

func (w *writers) source(s string) {
	for _, have := range w.Sources {
		if have == s {
			return
		}
	}
	w.Sources = append(w.Sources, s)
	if len(w.Sources) > 1 {
		w.note("events of the sources %v", w.Sources)
	}
}

func (a *app) writeLint(w io.Writer, all []linted) {
	for _, l := range all {
		faults := 0
		for _, f := range l.Writers {
			if f.Weight != string(control.Fault) {
				fmt.Fprintln(w, a.Print.Dim(fmt.Sprintf("%s: %s: %s %s", f.Weight, f.Object, f.Role, f.What)))
				continue
			}
			faults++
			fmt.Fprintf(w, "%s: %s: %s %s\n  %s\n", a.Print.Bad(f.Weight), f.Object, f.Role, f.What, f.Way)
		}
		if faults == 0 {
			fmt.Fprintf(w, "%s: %s\n", l.Projection, a.Print.Good("nobody but its owner can write its tables"))
		}
		for _, t := range l.Topics {
			if t.good() {
				fmt.Fprintf(w, "%s: %s\n", t.Topic, a.Print.Good(fmt.Sprintf("one writer (%s records, source %v)", figures.Thousands(t.Records), t.Sources)))
				continue
			}
			fmt.Fprintf(w, "%s: %s: %d foreign records, %d of a writer that had been succeeded, sources %v; %s\n", t.Topic, a.Print.Bad("more than one writer"), t.Foreign, t.Back, t.Sources, t.Example)
		}
	}
}
