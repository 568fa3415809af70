package bench_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// results are the rounds of one race.
type results struct {
	workload
	rows   int
	broker string
	rounds []map[string]measure // by contender
}

// of gives the medians of a contender, each number for itself.
func (r *results) of(name string) measure {
	m := func(get func(measure) float64) float64 { return median(r.values(name, get)) }
	return measure{
		wall: m(func(m measure) float64 { return m.wall }), exit: m(func(m measure) float64 { return m.exit }),
		lead: m(func(m measure) float64 { return m.lead }), cpu: m(func(m measure) float64 { return m.cpu }), rss: m(func(m measure) float64 { return m.rss }),
		source: m(func(m measure) float64 { return m.source }), store: m(func(m measure) float64 { return m.store }),
		broker: m(func(m measure) float64 { return m.broker }),
	}
}

func (r *results) values(name string, get func(measure) float64) []float64 {
	var v []float64
	for _, round := range r.rounds {
		v = append(v, get(round[name]))
	}
	return v
}

// ratio is the median of the rounds' own ratios of wall times: what disturbs a
// round disturbs both.
func (r *results) ratio(name, to string) float64 {
	var v []float64
	for _, round := range r.rounds {
		if round[to].wall > 0 {
			v = append(v, round[name].wall/round[to].wall)
		}
	}
	return median(v)
}

func (r *results) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d rows, %s, %s, %d rounds (medians; [lowest-highest])\n", r.name, r.rows, r.what, r.broker, len(r.rounds))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\twall s\t\trows/s\tx recvlogical\tx SQL decoding\tto exit s\tlead s\tCPU-s\tpeak MB\tsource CPU-s\tstore CPU-s\tbroker CPU-s\t\n")
	for _, name := range []string{contenderCDC, contenderRecvlogical, contenderPeek} {
		m := r.of(name)
		if m.wall == 0 {
			fmt.Fprintf(w, "%s\tnot on this machine\t\n", name)
			continue
		}
		walls := r.values(name, func(m measure) float64 { return m.wall })
		fmt.Fprintf(w, "%s\t%.2f\t[%.2f-%.2f]\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.2f\t%.2f\t%.2f\t\n", name, m.wall, slices.Min(walls), slices.Max(walls),
			float64(r.rows)/m.wall, r.ratio(name, contenderRecvlogical), r.ratio(name, contenderPeek), m.exit, m.lead, m.cpu, m.rss, m.source, m.store, m.broker)
	}
	w.Flush()
	return b.String()
}

// median of no values is 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

func TestMedians(t *testing.T) {
	for want, v := range map[float64][]float64{0: nil, 2: {9, 2, 1}, 2.5: {4, 1, 2, 3}} {
		if got := median(v); got != want {
			t.Errorf("median of %v is %v, want %v", v, got, want)
		}
	}
	// A slow round is slow for both: the ratio of medians would be 4/2.
	r := results{rounds: []map[string]measure{
		{contenderCDC: {wall: 1}, contenderRecvlogical: {wall: 2}},
		{contenderCDC: {wall: 5}, contenderRecvlogical: {wall: 10}},
		{contenderCDC: {wall: 4}, contenderRecvlogical: {wall: 2}},
	}}
	if got := r.ratio(contenderCDC, contenderRecvlogical); got != 0.5 {
		t.Errorf("ratio is %v, want the rounds' median, 0.5", got)
	}
}
