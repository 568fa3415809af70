package lint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banyan/internal/lint"
)

func TestHouse(t *testing.T) {
	root, err := lint.FindRoot(".")
	if err != nil {
		t.Fatal(err)
	}
	faults, err := lint.Check(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

const paragraph = "// Package %s is here to be looked at by a rule, and says so in enough words to pass the one about itself.\n"

// Each rule is broken once: a rule that finds nothing here finds nothing in the
// house either.
func TestEachRuleFindsItsFault(t *testing.T) {
	for _, tc := range []struct {
		name, file, source, want string
	}{
		{"good", "event/a.go", "package event\n\nimport _ \"banyan/money\"\n", ""},
		{"good test", "event/a_test.go", "package event\n\nimport (\n_ \"banyan/internal/pgtest\"\n_ \"github.com/segmentio/kafka-go\"\n)\n", ""},
		{"upstairs", "money/a.go", "package money\n\nimport _ \"banyan/event\"\n", "money may not import event"},
		{"command", "bench/a.go", "package main\n\nimport _ \"banyan/cmd/cdc\"\n", "bench may not import cmd/cdc"},
		{"kit", "cmd/x/a.go", "package main\n\nimport _ \"banyan/internal/pgtest\"\n", "internal/pgtest is for tests"},
		{"unlisted", "util/a.go", "package util\n\nimport _ \"banyan/event\"\n", "util is not in the table"},
		{"library", "outbox/a.go", "package outbox\n\nimport _ \"github.com/segmentio/kafka-go/protocol\"\n", "kafka-go lives in bus"},
		{"test library", "wal/a.go", "package wal\n\nimport _ \"pgregory.net/rapid\"\n", "rapid lives in tests"},
		{"environment", "wal/a.go", "package wal\n\nimport \"os\"\n\nvar a = os.Getenv(\"A\")\n", "only commands read the environment"},
		{"sleep", "wal/a_test.go", "package wal\n\nimport \"time\"\n\nfunc init() { time.Sleep(1) }\n", "a test sleeps"},
		{"unfinished", "README.md", "TO" + "DO: more\n", "unfinished work"},
		{"machine", "README.md", "see /wo" + "rk/main\n", "somebody's machine"},
		{"function", "wal/a.go", "package wal\n\nfunc Open() {}\n", "Open has no doc comment"},
		{"method", "wal/a.go", "package wal\n\ntype stream struct{}\n\n// Stream flows.\ntype Stream struct{}\n\nfunc (stream) Close() {}\n\nfunc (*Stream) Close() {}\n", "a.go:11: Close has no doc comment"},
		{"value", "wal/a.go", "package wal\n\nconst Size = 1\n", "Size has no doc comment"},
		{"no paragraph", "wal/b.go", "package wal\n", "wal: the package does not open"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			name := filepath.Join(root, tc.file)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			source := tc.source
			if filepath.Base(name) == "a.go" {
				source = strings.ReplaceAll(paragraph, "%s", filepath.Base(filepath.Dir(name))) + source
			}
			if err := os.WriteFile(name, []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			faults, err := lint.Check(root)
			if err != nil {
				t.Fatal(err)
			}
			switch got := strings.Join(faults, "\n"); {
			case tc.want == "" && got != "":
				t.Errorf("faults where there are none:\n%s", got)
			case tc.want != "" && (len(faults) != 1 || !strings.Contains(got, tc.want)):
				t.Errorf("found %q, want one with %q", got, tc.want)
			}
		})
	}
}
