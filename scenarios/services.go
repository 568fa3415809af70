package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// shopProjections are the read models of the services beside the shop, one file
// each.
//
//go:embed projections/*.yaml
var shopProjections embed.FS

// addServices starts services that live on the shop's events. Nobody calls them,
// and the shop does not know of them.
func (t *tour) addServices(ctx context.Context) error {
	t.title("Add six services that nobody asked the shop for (projector run)")
	names, err := t.writeProjections()
	if err != nil {
		return err
	}
	took, err := t.follow(ctx, names)
	if err != nil {
		return err
	}
	say(t.out, strings.Join(names[:3], ", ")+",\n"+strings.Join(names[3:], ", "))
	say(t.out, fmt.Sprintf("six YAML files, six databases of their own, ready in %s", round(took)))
	return nil
}

// writeProjections puts the shop's projections into a folder of the story, and
// returns their names.
func (t *tour) writeProjections() ([]string, error) {
	if err := os.Mkdir(filepath.Join(t.dir, "projections"), 0o755); err != nil {
		return nil, err
	}
	files, err := shopProjections.ReadDir("projections")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		text, err := shopProjections.ReadFile("projections/" + f.Name())
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(t.dir, "projections", f.Name()), text, 0o644); err != nil {
			return nil, err
		}
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return names, nil
}

// follow starts one projector for projections, and says how long it took until
// they were at work.
func (t *tour) follow(ctx context.Context, names []string) (time.Duration, error) {
	began := time.Now()
	args := []string{"run", "--listen", "127.0.0.1:0"}
	said := []string{"listening on "}
	for _, name := range names {
		args = append(args, "-f", "projections/"+name+".yaml")
		said = append(said, "running: "+name)
	}
	p, err := t.start("projector", t.projector, args...)
	if err != nil {
		return 0, err
	}
	lines, err := t.waitLines(ctx, p, said...)
	if err != nil {
		return 0, err
	}
	t.reads = lines[0]
	return time.Since(began), nil
}

// verdict is what `projector verify --output json` says of one projection.
type verdict struct {
	Verdict     string  `json:"verdict"`
	Projection  string  `json:"projection"`
	Events      int64   `json:"events"`
	TookSeconds float64 `json:"tookSeconds"`
	Tables      []struct {
		Rows int64 `json:"rows"`
	} `json:"tables"`
}

// proveServices folds the whole history again and compares every row.
func (t *tour) proveServices(ctx context.Context) error {
	t.title("Is any row wrong? (projector verify: rows against the whole history)")
	text, err := t.command(ctx, t.projector, []string{"verify", "-f", "projections", "-o", "json"}, 1)
	if err != nil {
		return err
	}
	all, err := objects[verdict](text)
	if err != nil {
		return fmt.Errorf("read the answer of projector verify: %w", err)
	}
	for _, v := range all {
		var rows int64
		for _, table := range v.Tables {
			rows += table.Rows
		}
		say(t.out, fmt.Sprintf("%-9s  %-18s  %6d rows = the fold of %6d events, %.1f s", v.Verdict, v.Projection, rows, v.Events, v.TookSeconds))
		if v.Verdict != "proved" {
			return &notProved{text}
		}
	}
	return nil
}
