package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/internal/embedded"
	"banyan/internal/pgtest"
)

func TestNewGivesAFreshDatabaseThatDecodesLogically(t *testing.T) {
	var name string
	t.Run("use", func(t *testing.T) {
		db := pgtest.New(t, pgtest.Options{SQL: "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)"})
		name = db.Name
		db.Exec(t, "SELECT pg_create_logical_replication_slot('keeps_the_database', 'pgoutput')")
		for _, url := range []string{db.URL, db.SocketURL} {
			c, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			var n int
			if err := c.QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&n); err != nil || n != 1 {
				t.Errorf("over %s: %d rows, %v; want 1", url, n, err)
			}
			c.Close(context.Background())
		}
		db.Exec(t, "INSERT INTO a VALUES ($1)", 7)
		if got := db.Column(t, "SELECT id::text FROM a WHERE id > $1 ORDER BY id", 0); !slices.Equal(got, []string{"1", "7"}) {
			t.Errorf("the column is %q", got)
		}
	})
	db := pgtest.New(t)
	var left int
	err := db.Pool(t).QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
		+ (SELECT count(*) FROM pg_replication_slots WHERE database = $1)`, name).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("after the test %d databases and slots are left (%v), want none", left, err)
	}
}

func TestServerKeepsURLAndDataOverStopKillAndRestart(t *testing.T) {
	s := pgtest.NewServer(t, pgtest.ServerOptions{Settings: map[string]string{"application_name": "it's", "fsync": "on", "full_page_writes": "on"}})
	db := s.NewDB(t)
	db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
	url := db.URL
	for name, bounce := range map[string]func(){
		"restart":   func() { s.Restart(t) },
		"kill":      func() { s.Kill(t); s.Start(t) },
		"immediate": func() { s.Stop(t, pgtest.Immediate); s.Start(t) },
	} {
		bounce()
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
		var n int
		if err := c.QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&n); err != nil || n != 1 {
			t.Errorf("after %s: %d rows, %v; want 1", name, n, err)
		}
		c.Close(context.Background())
	}
}

// The helper is this test binary again: it starts a server, says where, and
// waits to be killed.
func TestServerDiesWithAKilledTestProcess(t *testing.T) {
	if os.Getenv("PGTEST_HELPER") == "1" {
		s := pgtest.NewServer(t)
		s.NewDB(t)
		fmt.Printf("HELPER %s %d\n", s.Dir, s.Port)
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerDiesWithAKilledTestProcess$")
	cmd.Env = append(os.Environ(), "PGTEST_HELPER=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	var port, pid int
	for sc := bufio.NewScanner(out); dir == "" && sc.Scan(); {
		if line := sc.Text(); strings.HasPrefix(line, "HELPER ") {
			if _, err := fmt.Sscanf(line, "HELPER %s %d", &dir, &port); err != nil {
				t.Fatal(err)
			}
		}
	}
	if dir == "" {
		t.Fatal("the helper did not start a server")
	}
	if b, err := os.ReadFile(dir + "/data/postmaster.pid"); err != nil {
		t.Fatal(err)
	} else if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if !embedded.WaitGone(pid, 20*time.Second) {
		t.Errorf("postgres %d outlived its killed test process", pid)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", dir)
		}
	}
}
