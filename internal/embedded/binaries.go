package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Oldest and newest Postgres that this project is tested with.
const (
	OldestPostgres = 14
	NewestPostgres = 18
)

// ErrNoPostgres says that no usable Postgres server was found on the machine.
var ErrNoPostgres = errors.New("no Postgres 14 to 18 on this machine")

// Binaries is a directory with the programs initdb and postgres, and their
// version.
type Binaries struct {
	Dir     string // holds initdb and postgres
	Version string // as the server says it: "15.18"
	Major   int
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)((?:\.\d+)?\S*)`)

// ReadBinaries asks the postgres program in dir for its version. It fails when
// the programs are missing, do not run, or are too old or too new.
func ReadBinaries(dir string) (Binaries, error) {
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return Binaries{}, fmt.Errorf("look for Postgres in %s: %w", dir, err)
		}
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask %s/postgres for its version: %w", dir, err)
	}
	m := versionPattern.FindStringSubmatch(string(out))
	if m == nil {
		return Binaries{}, fmt.Errorf("read the version of %s/postgres: it says %q", dir, strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return Binaries{}, fmt.Errorf("read the version of %s/postgres: %w", dir, err)
	}
	if major < OldestPostgres || major > NewestPostgres {
		return Binaries{}, fmt.Errorf("%s holds Postgres %s, want %d to %d", dir, m[1]+m[2], OldestPostgres, NewestPostgres)
	}
	return Binaries{Dir: dir, Version: m[1] + m[2], Major: major}, nil
}

// FindPostgres looks where distributions and Homebrew put a Postgres server,
// then on the PATH, and returns the newest usable one; ErrNoPostgres when
// there is none.
func FindPostgres() (Binaries, error) { return findPostgres(0) }

// findPostgres wants the given major version, 0 for any.
func findPostgres(major int) (Binaries, error) {
	var best Binaries
	for _, dir := range candidateDirs() {
		b, err := ReadBinaries(dir)
		if err != nil || (major != 0 && b.Major != major) || ReachableBy(DropRoot(), dir) != nil {
			continue // a wrong version, or no server there: look further
		}
		if b.Major > best.Major {
			best = b
		}
	}
	if best.Dir == "" {
		return best, ErrNoPostgres
	}
	return best, nil
}

func candidateDirs() []string {
	var dirs []string
	for _, glob := range []string{
		"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
		"/usr/pgsql-*/bin",                  // PGDG for Red Hat
		"/usr/libexec/postgresql*",          // Alpine
		"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon
		"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/*/bin",
		"/usr/local/pgsql/bin", // built by hand
	} {
		found, err := filepath.Glob(glob)
		if err == nil {
			dirs = append(dirs, found...)
		}
	}
	sort.Strings(dirs)
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		dirs = append(dirs, filepath.Dir(p))
	}
	kept := dirs[:0]
	for _, d := range dirs {
		if info, err := os.Stat(d); err == nil && info.IsDir() {
			kept = append(kept, d)
		}
	}
	return kept
}
