//go:build slow

package embedded

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// The published Postgres, with its real checksums, starts and answers.
func TestFetchedPostgresRuns(t *testing.T) {
	dir, err := ScratchDir(nil, "banyan-fetch-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := fetch(t.Context(), Options{CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: filepath.Join(dir, "data"), Postgres: true, BinDir: b.Dir}
	defer func() {
		if err := Stop(context.WithoutCancel(t.Context()), o.Dir); err != nil {
			t.Error(err)
		}
	}()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Postgres.Version != "15.18" {
		t.Errorf("version %s, want 15.18", s.Postgres.Version)
	}
	if _, err := CreateDatabase(t.Context(), s, "shop"); err != nil {
		t.Error(err)
	}
}
