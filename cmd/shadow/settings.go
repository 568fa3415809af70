package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"banyan/cmd/internal/cli"
	"banyan/compare"
	"banyan/shadow"
)

// settingsFlags are what a reader of a report may want to have decided before.
type settingsFlags struct {
	file string
	seed uint64
}

func (f *settingsFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "settings", "", "`file` with guardrails, segments and what a verdict needs; empty: defaults (docs/shadow.md)")
	fl.Uint64Var(&f.seed, "seed", 1, "seed of the bootstrap: the same seed gives the same report")
}

// settings are the defaults with what the file says.
func (f *settingsFlags) settings() (compare.Settings, error) {
	s := compare.Defaults()
	s.Seed = f.seed
	if f.file != "" {
		if err := strictly(f.file, &s); err != nil {
			return s, fmt.Errorf("--settings: %w", err)
		}
	}
	if err := s.Check(); err != nil {
		return s, fmt.Errorf("--settings %s: %w", f.file, err)
	}
	return s, nil
}

// readMapping is the shop's with what the file says.
func readMapping(file string) (shadow.Mapping, error) {
	m := shadow.ShopMapping()
	if file != "" {
		if err := strictly(file, &m); err != nil {
			return m, cli.BadInput("--mapping: %w", err)
		}
	}
	if err := m.Check(); err != nil {
		return m, cli.BadInput("--mapping %s: %w", file, err)
	}
	return m, nil
}

// strictly reads YAML in which nothing is unknown.
func strictly(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// A shadow makes much garbage and keeps little: its heap may grow to a size that any
// machine can spare before garbage is collected.
const (
	growth = 200       // percent of what is alive
	plenty = 208 << 20 // bytes of the whole process from which on memory is saved
)

func (a *app) useMemory() {
	if a.getenv("GOGC") == "" {
		debug.SetGCPercent(growth)
	}
	if a.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(plenty)
	}
}
