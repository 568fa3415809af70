package translate

import (
	"errors"
	"os"
	"strings"
	"testing"

	"banyan/wal"

	"github.com/google/go-cmp/cmp"
)

// TestFaults holds every fault of a configuration to its line, column, field,
// value and advice: testdata/faults/*.yaml, with what is expected in comments at
// the end.
func TestFaults(t *testing.T) {
	files, err := os.ReadDir("testdata/faults")
	if err != nil || len(files) == 0 {
		t.Fatalf("no faults: %v", err)
	}
	for _, f := range files {
		t.Run(f.Name(), func(t *testing.T) {
			path := "testdata/faults/" + f.Name()
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			yaml, want, _ := strings.Cut(string(b), "# ---- faults ----\n")
			got := ""
			cfg, err := Load("banyan.yaml", []byte(yaml))
			var warnings []Warning
			if err == nil {
				_, warnings, err = Compile(cfg, testTables(t, "world.sql"), 1)
			}
			var faults Faults
			if errors.As(err, &faults) {
				for _, f := range faults {
					got += "# " + f.Error() + "\n"
				}
			} else if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				got += "# warning " + w.Error() + "\n"
			}
			if *update {
				if err := os.WriteFile(path, []byte(yaml+"# ---- faults ----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("other faults (-want +got):\n%s", d)
			}
		})
	}
}

func TestCheckAfterDDL(t *testing.T) {
	rules, tables := loadRules(t, "world.yaml", 1), testTables(t, "world.sql")
	things := *tables[0]
	if err := rules.Check(&things); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	more := things
	more.Columns = append([]wal.Column{{Name: "fresh", TypeName: "text"}}, things.Columns...)
	if err := rules.Check(&more); err != nil {
		t.Errorf("a new column: %v", err)
	}
	if got := rules.Lacks("public.things", []string{"id", "fresh"}); len(got) != 1 || got[0] != "fresh" {
		t.Errorf("Lacks = %v", got)
	}
	gone := things
	gone.Columns = things.Columns[:2]
	other := things
	other.Columns = append([]wal.Column{}, things.Columns...)
	other.Columns[1].TypeName = "jsonb"
	for what, table := range map[string]*wal.Table{"note": &gone, "status": &other} {
		var schema *SchemaError
		if err := rules.Check(table); !errors.As(err, &schema) || schema.Column != what || schema.WayOut == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := rules.Check(&wal.Table{Schema: "public", Name: "neighbour"}); err != nil {
		t.Errorf("a table that is not captured: %v", err)
	}
}

func TestDiffNamesWhatIsMissing(t *testing.T) {
	old := loadRules(t, "world.yaml", 1)
	if d := Diff(old, loadRules(t, "world-strict.yaml", 2)); len(d) != 0 {
		t.Errorf("fewer rules need a new snapshot: %v", d)
	}
	b, err := os.ReadFile("testdata/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load("x", []byte(strings.Replace(string(b), "state: [id, status, note]", "state: [id, status, note, stamp]", 1)))
	if err != nil {
		t.Fatal(err)
	}
	now, _, err := Compile(cfg, testTables(t, "world.sql"), 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []Resnapshot{{"Thing", "column stamp of public.things is new in it"}}
	if d := cmp.Diff(want, Diff(old, now)); d != "" {
		t.Error(d)
	}
	if old.Digest() == now.Digest() || old.Digest() != loadRules(t, "world.yaml", 7).Digest() {
		t.Error("the digest does not follow the rules")
	}
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"testdata/world.yaml", "../scenarios/shop.yaml", "testdata/faults/load.yaml"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	tables := testTables(f, "world.sql")
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg, err := Load("banyan.yaml", b)
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Errorf("not a list of faults: %v", err)
			}
			return
		}
		if _, _, err := Compile(cfg, tables, 1); err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Errorf("not a list of faults: %v", err)
			}
		}
	})
}
