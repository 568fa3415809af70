package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/state"
)

// Install makes the first version of a projection, in one transaction: schemas,
// tables, views, and a row for each partition, which begin at the topics'
// beginnings. Effects begin behind since. Where the projection is there already
// nothing is done; made is false then, and a definition that gives other rows is
// a *control.DigestError.
func Install(ctx context.Context, store *control.Store, log projections.Log, p projections.Program, since control.Mark) (v control.Version, made bool, err error) {
	spec := p.Spec()
	if _, err := projections.NewPreparer(p); err != nil {
		return v, false, err
	}
	starts, err := beginnings(ctx, log, spec.Topics)
	if err != nil {
		return v, false, err
	}
	err = pgx.BeginFunc(ctx, store.Pool(), func(tx pgx.Tx) error {
		v, made, err = store.Declare(ctx, tx, control.Declaration{Projection: spec.Name, Source: spec.Source, Definition: spec.Definition, Digest: spec.Digest})
		if err != nil || !made {
			return err
		}
		if err := makeTables(ctx, tx, v.Schema, spec.AllTables()); err != nil {
			return err
		}
		views := Views(spec)
		if err := store.CreateViews(ctx, tx, v, views); err != nil {
			return err
		}
		if err := store.PointViews(ctx, tx, v, views); err != nil {
			return err
		}
		if err := store.SetSince(ctx, tx, spec.Name, v.Number, since); err != nil {
			return err
		}
		return store.EnsureParts(ctx, tx, spec.Name, v.Number, starts)
	})
	if err != nil {
		return v, false, fmt.Errorf("install %s: %w", spec.Name, err)
	}
	return v, made, checkShape(ctx, store, v, spec)
}

func makeTables(ctx context.Context, tx pgx.Tx, schema string, tables []state.Table) error {
	var all []string
	all = append(all, state.CreateSQL(schema, tables)...)
	all = append(all, state.KeySQL(schema, tables)...)
	all = append(all, state.IndexSQL(schema, tables)...)
	for _, sql := range all {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	return nil
}

// checkShape refuses tables that somebody has altered.
func checkShape(ctx context.Context, store *control.Store, v control.Version, spec projections.Spec) error {
	faults, err := state.CheckShape(ctx, store.Pool(), v.Schema, spec.AllTables())
	if err != nil {
		return fmt.Errorf("look at the tables of %s: %w", v.Schema, err)
	}
	if len(faults) > 0 {
		return fmt.Errorf("the tables of %s are not as the projection left them (a rebuild makes them anew): %w", v.Schema, faults)
	}
	return nil
}

// Views are the relations that readers of a projection see: its tables that are
// not hidden, and its views.
func Views(spec projections.Spec) []control.View {
	var views []control.View
	for _, t := range spec.AllTables() {
		if t.Hidden {
			continue
		}
		v := control.View{Name: t.Name, Comment: t.Comment}
		for _, c := range t.Columns {
			v.Columns = append(v.Columns, c.Name)
		}
		views = append(views, v)
	}
	for _, d := range spec.Views {
		views = append(views, control.View{Name: d.Name, SQL: d.SQL, Comment: d.Comment})
	}
	return views
}

// beginnings are all partitions of the topics, each at its first record.
func beginnings(ctx context.Context, log projections.Log, topics []string) ([]control.Start, error) {
	var starts []control.Start
	for _, topic := range topics {
		n, err := log.Partitions(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", topic, err)
		}
		for i := range n {
			first, _, err := log.Ends(ctx, topic, i)
			if err != nil {
				return nil, fmt.Errorf("topic %s, partition %d: %w", topic, i, err)
			}
			if first > 0 && !projections.IsLatest(topic) {
				return nil, fmt.Errorf("topic %s, partition %d begins at offset %d: its history is gone, and a projection of the rest would be wrong; read %s.latest, or publish anew with cdc repair",
					topic, i, first, topic)
			}
			starts = append(starts, control.Start{PartID: control.PartID{Topic: topic, Part: i}, Offset: first})
		}
	}
	if len(starts) == 0 {
		return nil, errors.New("the projection has no topics")
	}
	return starts, nil
}

// Head is the latest watermark of a source, the zero Mark where there is none:
// the place from which on a new projection's effects are sent.
func Head(ctx context.Context, log projections.Log, source string) (control.Mark, error) {
	topic := source + ".watermarks"
	first, next, err := log.Ends(ctx, topic, 0)
	if err != nil {
		return control.Mark{}, fmt.Errorf("topic %s: %w", topic, err)
	}
	var head control.Mark
	for r, err := range log.Read(ctx, topic, 0, max(first, next-16), next) {
		if err != nil {
			return control.Mark{}, fmt.Errorf("read the watermarks of %s: %w", source, err)
		}
		var w event.Watermark
		if err := w.UnmarshalJSON(r.Value); err != nil {
			return control.Mark{}, fmt.Errorf("topic %s, offset %d: %w", topic, r.Offset, err)
		}
		if m := control.MarkOf(&w); m.Compare(head) > 0 {
			head = m
		}
	}
	return head, nil
}
