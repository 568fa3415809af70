package main

import (
	"context"
	"errors"
	"fmt"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/internal/document"
	"banyan/projections"
	"banyan/projections/declared"
)

// compiled is a projection's file, and what was made of it.
type compiled struct {
	file    *declared.File
	program *declared.Program
}

// lenient reports whether what the events of the topics say against a definition
// is a warning: an event that cannot be applied parks there.
type lenient func(ctx context.Context, s projections.Spec) (bool, error)

// inUse is lenient with a definition that readers see the rows of: one bad event
// among those that are looked at must not keep the others from flowing.
func (a *app) inUse(ctx context.Context, s projections.Spec) (use bool, err error) {
	err = a.with(ctx, s.Name, func(_ context.Context, o *opened) error {
		use = o.active.Digest == s.Digest
		return nil
	})
	return use, err
}

// compile checks files against their topics and makes programs of them. All faults
// of all files come back together; warnings are logged. A nil may is never lenient.
func (a *app) compile(ctx context.Context, cluster *bus.Cluster, files []*declared.File, may lenient) ([]compiled, error) {
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
		if faults.Err() != nil && may != nil {
			// What the file alone says is no warning, ever.
			if blind, wrong := declared.Compile(f, nil); wrong.Err() == nil {
				ok, err := may(ctx, blind.Spec())
				if err != nil {
					return nil, err
				}
				if ok {
					p, faults = blind, warnings(faults)
				}
			}
		}
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

// warnings makes warnings of faults.
func warnings(faults document.Faults) document.Faults {
	var all document.Faults
	for _, f := range faults {
		f.Warning = true
		all = append(all, f)
	}
	return all
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
