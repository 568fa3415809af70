package declared

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFaults reads testdata/faults/*.yaml, each with what is expected in comments
// at its end: all faults at once, with place, value and way out.
func TestFaults(t *testing.T) {
	paths, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal("no files", err)
	}
	const mark = "# ---- faults ----\n"
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			definition, want, _ := strings.Cut(string(text), mark)
			var got strings.Builder
			f, faults := Load("it.yaml", []byte(definition))
			if f != nil {
				var p *Program
				if p, faults = Compile(f, nil); p != nil {
					t.Error("it compiles")
				}
			}
			for _, one := range faults {
				if one.Line == 0 || one.Field == "" {
					t.Errorf("%s has no place", one)
				}
				got.WriteString("# " + one.Error() + "\n")
			}
			if *update {
				if err := os.WriteFile(path, []byte(definition+mark+got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got.String()); d != "" {
				t.Error(d)
			}
		})
	}
}
