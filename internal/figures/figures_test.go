package figures_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"banyan/internal/figures"
)

func TestFigures(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -999: "-999", -1000: "-1,000",
		-123456: "-123,456", math.MinInt64: "-9,223,372,036,854,775,808"} {
		if got := figures.Thousands(n); got != want {
			t.Errorf("Thousands(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 29: "1.5 GiB", math.MaxInt64: "8192.0 PiB"} {
		if got := figures.Size(n); got != want {
			t.Errorf("Size(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1234567 * time.Nanosecond: "1ms", 1234 * time.Millisecond: "1.2s", 61400 * time.Millisecond: "1m1s"} {
		if got := figures.Round(d).String(); got != want {
			t.Errorf("Round(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	rows := [][]string{{"key", "events", "why"}, {"Käse/1", "1,234", "-"}, {"x", "5", ""}}
	for _, tc := range []struct {
		indent string
		align  figures.Align
		want   string
	}{
		{"", figures.Numbers, "key     events  why\nKäse/1   1,234    -\nx            5\n"},
		{"  ", figures.First, "  key     events  why\n  Käse/1   1,234    -\n  x            5\n"},
	} {
		var b strings.Builder
		if err := figures.Table(&b, tc.indent, tc.align, rows); err != nil || b.String() != tc.want {
			t.Errorf("%d: got\n%swant\n%s%v", tc.align, b.String(), tc.want, err)
		}
	}
	var b strings.Builder
	if err := figures.Table(&b, "", figures.Numbers, nil); err != nil || b.Len() > 0 {
		t.Errorf("no rows write %q, %v", b.String(), err)
	}
	if err := figures.Table(broken{}, "", figures.Numbers, rows); !errors.Is(err, errBroken) {
		t.Errorf("a writer that fails: %v", err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }
