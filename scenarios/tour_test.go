package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// untouched checks that the story leaves no directory and no process behind.
func untouched(t *testing.T) {
	t.Helper()
	tmp := t.TempDir()
	if err := os.Chmod(filepath.Dir(tmp), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	t.Cleanup(func() {
		left, err := os.ReadDir(tmp)
		if err != nil {
			t.Error(err)
		}
		for _, e := range left {
			t.Errorf("left behind: %s", e.Name())
		}
		// Every process of the story has the directory in its command line.
		if out, _ := exec.Command("pgrep", "-fa", tmp).Output(); len(out) > 0 {
			t.Errorf("still running:\n%s", out)
		}
	})
}

func TestTour(t *testing.T) {
	untouched(t)
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"--days", "2", "--seed", "5"}, &out, &errw); code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, &out, &errw)
	}
	text := out.String()
	for _, want := range []string{"OrderPlaced", "OrderShipped", "ReturnAccepted", "rule ", "insert public.orders", "proved  shop at", "nothing is left running"} {
		if !strings.Contains(text, want) {
			t.Errorf("the story does not say %q:\n%s", want, text)
		}
	}
	for _, secret := range []string{"postgres:", "password"} {
		if strings.Contains(text, secret) {
			t.Errorf("the story shows %q:\n%s", secret, text)
		}
	}
}

// stopper ends the story when it has come to a step.
type stopper struct {
	bytes.Buffer
	at   string
	stop context.CancelFunc
}

func (s *stopper) Write(b []byte) (int, error) {
	if strings.Contains(string(b), s.at) {
		s.stop()
	}
	return s.Buffer.Write(b)
}

func TestInterruptedTourLeavesNothingRunning(t *testing.T) {
	for _, at := range []string{"Start a Postgres", "over REST"} {
		t.Run(at, func(t *testing.T) {
			untouched(t)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out := &stopper{at: at, stop: cancel}
			var errw bytes.Buffer
			if code := run(ctx, nil, out, &errw); code != 3 {
				t.Errorf("exit %d, want 3 for a story that was not told to its end\n%s", code, out)
			}
			t.Logf("it says: %s", &errw)
		})
	}
}
