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
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
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
	report := t.TempDir()
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"--days", "2", "--seed", "5", "--report", report}, &out, &errw); code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, &out, &errw)
	}
	text := out.String()
	for _, want := range []string{"OrderPlaced", "OrderShipped", "ReturnAccepted", "rule ", "insert public.orders",
		"six databases of their own", "7 Harbour Lane, Whitby", "503  behind: it stands at 1:", "1 of ", "0 of ", "readers see version 2", "no error, no step back",
		"proved     card_attempts", "proved     customer_360", "proved     daily_sales", "proved     orders_view", "proved     shipping_addresses", "proved     stock_levels",
		"proved  shop at",
		"control against control: zero", "the candidate asked twice: the same", "add up", "orders_view says so too", "report.html", "nothing is left running"} {
		if !strings.Contains(text, want) {
			t.Errorf("the story does not say %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns {
			t.Errorf("a line is %d columns wide:\n%s", n, line)
		}
	}
	for _, secret := range []string{"postgres://postgres", "@127.0.0.1", "password"} {
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
	for _, at := range []string{"Start a Postgres", "over REST", "rebuild    version"} {
		t.Run(at, func(t *testing.T) {
			untouched(t)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out := &stopper{at: at, stop: cancel}
			var errw bytes.Buffer
			if code := run(ctx, []string{"--days", "1"}, out, &errw); code != 3 {
				t.Errorf("exit %d, want 3 for a story that was not told to its end\n%s", code, out)
			}
			t.Logf("it says: %s", &errw)
		})
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{"short", []string{"short"}},
		{"  one two three four", []string{"  one two", "    three", "    four"}},
		{"averylongword and more", []string{"averylongword", "  and more"}},
		{"averylongword", []string{"averylongword"}},
		{"exactly ten", []string{"exactly", "  ten"}},
	} {
		if diff := cmp.Diff(c.want, wrap(c.line, 10)); diff != "" {
			t.Errorf("wrap %q (-want +got):\n%s", c.line, diff)
		}
	}
}
