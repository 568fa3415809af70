package main

import (
	"context"
	"errors"
	"fmt"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/projections/declared"
)

// compiled is a projection's file, and what was made of it.
type compiled struct {
	file    *declared.File
	program *declared.Program
}

// compile checks files against their topics and makes programs of them. All faults
// of all files come back together; warnings are logged.
func (a *app) compile(ctx context.Context, cluster *bus.Cluster, files []*declared.File) ([]compiled, error) {
	topics, err := cluster.Topics(ctx)
	if err != nil {
		return nil, err
	}
	names := []string{} // an empty broker knows of no topic; nil would be: who knows
	for _, t := range topics {
		names = append(names, t.Name)
	}
	var all []compiled
	var errs []error
	for _, f := range files {
		known, err := declared.Look(ctx, cluster, f, names)
		if err != nil {
			return nil, fmt.Errorf("look at the topics of %s: %w", f.Path, err)
		}
		p, faults := declared.Compile(f, known)
		for _, w := range faults {
			if w.Warning {
				a.Log.Warn(w.Error())
			}
		}
		errs = append(errs, faults.Err())
		all = append(all, compiled{f, p})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, cli.BadInput("%w", err)
	}
	return all, nil
}

// checkViews makes the declared views in a transaction that is rolled back, so
// that a wrong one is told with its line before anything is made.
func checkViews(ctx context.Context, o *opened, c compiled) error {
	faults, err := declared.CheckViews(ctx, o.pool, c.program)
	if err != nil {
		return err
	}
	if err := faults.Err(); err != nil {
		return cli.BadInput("%w", err)
	}
	return nil
}
