package bench_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banyan/internal/figures"
)

// trials are the rounds of a measurement, by worker and in the order in which
// workers first came.
type trials struct {
	names  []string
	rounds map[string][]trial
}

func (t *trials) add(name string, one trial) {
	if t.rounds == nil {
		t.rounds = map[string][]trial{}
	}
	if !slices.Contains(t.names, name) {
		t.names = append(t.names, name)
	}
	t.rounds[name] = append(t.rounds[name], one)
}

func (t *trials) values(name string, get func(trial) float64) []float64 {
	var v []float64
	for _, one := range t.rounds[name] {
		v = append(v, get(one))
	}
	return v
}

func (t *trials) median(name string, get func(trial) float64) float64 {
	return median(t.values(name, get))
}

// ratio is the median of the rounds' own ratios of rates: what disturbs a round
// disturbs both.
func (t *trials) ratio(name, to string) float64 {
	var v []float64
	for i, one := range t.rounds[name] {
		if i < len(t.rounds[to]) {
			v = append(v, one.rate()/t.rounds[to][i].rate())
		}
	}
	return median(v)
}

// print writes the medians, with the rates against those of one of them.
func (t *trials) print(title, against string) {
	rows := [][]string{{"", "events/s", "", "x " + against, "from start s", "lead s", "CPU-s", "peak MB", "store CPU-s", "broker CPU-s"}}
	f := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	for _, name := range t.names {
		rates := t.values(name, trial.rate)
		m := func(get func(trial) float64) float64 { return t.median(name, get) }
		rows = append(rows, []string{name, fmt.Sprintf("%.0f", median(rates)), fmt.Sprintf("[%.0f-%.0f]", slices.Min(rates), slices.Max(rates)),
			f(t.ratio(name, against)), f(m(func(t trial) float64 { return t.wall })), f(m(func(t trial) float64 { return t.lead })),
			f(m(func(t trial) float64 { return t.cpu })), fmt.Sprintf("%.0f", m(func(t trial) float64 { return t.rss })),
			f(m(func(t trial) float64 { return t.store })), f(m(func(t trial) float64 { return t.broker }))})
	}
	printTable(fmt.Sprintf("%s, %d rounds (medians; [lowest-highest])", title, len(t.rounds[t.names[0]])), rows)
}

// report gives the medians of one worker to the benchmark.
func (t *trials) report(b *testing.B, name, against string) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(t.median(name, trial.rate), "events/s")
	b.ReportMetric(t.median(name, func(t trial) float64 { return t.rss }), "peak-MB")
	if against != name && len(t.rounds[name]) > 0 && len(t.rounds[against]) > 0 {
		b.ReportMetric(t.ratio(name, against), "x")
	}
}

// printTable writes a table to stdout, with the load of the machine: other work
// on it is part of what was measured.
func printTable(title string, rows [][]string) {
	fmt.Fprintf(os.Stdout, "\n%s; load %s\n", title, load())
	_ = figures.Table(os.Stdout, "", figures.First, rows)
}

// load is the load average of the last one and five minutes, "unknown" where it
// cannot be seen.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return "unknown"
	}
	return fields[0] + " and " + fields[1]
}

// percentile of sorted values, p between 0 and 1; 0 of none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*p), len(sorted)-1)]
}

func TestPercentiles(t *testing.T) {
	var v []float64
	for i := range 1000 {
		v = append(v, float64(i))
	}
	for p, want := range map[float64]float64{0: 0, 0.5: 500, 0.99: 990, 1: 999} {
		if got := percentile(v, p); got != want {
			t.Errorf("percentile %s is %v, want %v", strconv.FormatFloat(p, 'f', -1, 64), got, want)
		}
	}
	var r trials
	for _, wall := range []float64{1, 4, 2} {
		r.add("a", trial{events: 8, wall: wall})
		r.add("b", trial{events: 8, wall: 2 * wall, lead: wall})
	}
	if got := r.ratio("b", "a"); got != 1 {
		t.Errorf("ratio is %v, want 1: what comes before the start does not count", got)
	}
}
