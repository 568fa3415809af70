package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/projections/control"
	"banyan/projections/declared"
	"banyan/proof"
)

// files reads the projections that -f names, or those of the current folder. All
// faults of all files come back together.
func (a *app) files() ([]*declared.File, error) {
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	var files []*declared.File
	var errs []error
	seen := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("read the projection: %w", err))
			continue
		}
		f, faults := declared.Load(path, text)
		if err := faults.Err(); err != nil {
			errs = append(errs, err)
			continue
		}
		if other := seen[f.Name]; other != "" {
			errs = append(errs, fmt.Errorf("%s: projection: %q: %s has this name too", path, f.Name, other))
		}
		seen[f.Name] = path
		files = append(files, f)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, cli.BadInput("%w", err)
	}
	return files, nil
}

// paths are the files that -f names. Without -f they are those *.yaml of the
// current folder that begin like a projection.
func (a *app) paths() ([]string, error) {
	if len(a.flags.files) == 0 {
		return inFolder(".")
	}
	var paths []string
	for _, name := range a.flags.files {
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, cli.BadInput("-f %s: %w", name, err)
		case !info.IsDir():
			paths = append(paths, name)
		default:
			more, err := inFolder(name)
			if err != nil {
				return nil, err
			}
			if len(more) == 0 {
				return nil, cli.BadInput("-f %s: no *.yaml in it has a key `projection`", name)
			}
			paths = append(paths, more...)
		}
	}
	return paths, nil
}

func inFolder(dir string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, cli.BadInput("look for *.yaml in %s: %w", dir, err)
	}
	var paths []string
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, cli.BadInput("read %s: %w", p, err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "projection:") {
				paths = append(paths, p)
				break
			}
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// names are the projections that a command is for: the one that args name, which
// needs no file, or all of -f.
func (a *app) names(args []string) ([]string, error) {
	if len(args) > 0 {
		return args[:1], nil
	}
	files, err := a.files()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	if len(names) == 0 {
		return nil, cli.BadInput("which projection? Give its NAME, or its file with -f; no *.yaml here has a key `projection`")
	}
	return names, nil
}

// opened is a projection's database.
type opened struct {
	name   string
	pool   *pgxpool.Pool
	store  *control.Store
	active control.Version // zero where there is none yet
}

// open connects to the database of a projection and makes the schema banyan in
// it where that is missing or old. The caller closes the pool.
func (a *app) open(ctx context.Context, name string) (*opened, error) {
	url := a.flags.db
	if url == "" {
		var err error
		if url, _, err = a.Servers(ctx, database(name), false); err != nil {
			return nil, err
		}
	}
	pool, err := a.connect(ctx, url, name, a.flags.role)
	if err != nil {
		return nil, err
	}
	if a.flags.role == "" {
		role, err := takeOn(ctx, pool, name)
		if err != nil {
			pool.Close()
			return nil, err
		}
		if role != "" {
			pool.Close()
			if pool, err = a.connect(ctx, url, name, role); err != nil {
				return nil, err
			}
		}
	}
	o := &opened{name: name, pool: pool}
	if err := o.look(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return o, nil
}

// connect opens a pool whose sessions take on a role, "" for the login's own.
func (a *app) connect(ctx context.Context, url, name, role string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, cli.BadInput("--db: %w", err)
	}
	cfg.MaxConns = max(cfg.MaxConns, 24) // leases, watches, requests and batches have connections of their own
	control.Configure(cfg, control.Settings{Application: "projector " + name + " on " + cli.Owner(), Role: role})
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the database of %s: %w", name, err)
	}
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := pool.Ping(limit); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database of %s: %w", name, err)
	}
	return pool, nil
}

func (o *opened) look(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var err error
	if o.store, err = control.Open(limit, o.pool); err != nil {
		return err
	}
	if err := o.store.Migrate(limit); err != nil {
		return err
	}
	if o.active, err = o.store.Active(limit, o.name); errors.Is(err, control.ErrNotFound) {
		return nil
	}
	return err
}

// database is the one of a projection in the embedded Postgres.
func database(projection string) string { return "projection_" + projection }

// eachProjection opens one projection after the other for a command that looks.
func (a *app) eachProjection(ctx context.Context, args []string, do func(context.Context, *opened) error) error {
	names, err := a.names(args)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := a.with(ctx, name, func(ctx context.Context, o *opened) error {
			if o.active.Number == 0 {
				return cli.AnswerNo("there is no projection %s in this database yet: projector run -f %s.yaml makes it", name, name)
			}
			return do(ctx, o)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// withProjection is eachProjection for a command that is for one.
func (a *app) withProjection(ctx context.Context, args []string, do func(context.Context, *opened) error) error {
	names, err := a.names(args)
	if err != nil {
		return err
	}
	if len(names) > 1 {
		return cli.BadInput("which projection? Give one NAME of: %s", strings.Join(names, ", "))
	}
	return a.eachProjection(ctx, names, do)
}

func (a *app) with(ctx context.Context, name string, do func(context.Context, *opened) error) error {
	o, err := a.open(ctx, name)
	if err != nil {
		return err
	}
	defer o.pool.Close()
	return do(ctx, o)
}

// dial connects to Kafka. The caller closes the cluster.
func (a *app) dial(ctx context.Context) (*bus.Cluster, error) {
	k, err := a.Reach(ctx, a.flags.kafka)
	if err != nil {
		return nil, err
	}
	return k.Dial(ctx)
}

// lastWatermark is the latest of a source, nil where there is none.
func lastWatermark(ctx context.Context, log *bus.Cluster, source string) (*event.Watermark, error) {
	m, err := proof.Watermarks(proof.Kafka(log), source)(ctx)
	if err != nil || m == nil {
		return nil, err
	}
	return &m.Watermark, nil
}
