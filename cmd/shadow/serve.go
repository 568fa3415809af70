package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"banyan/cmd/internal/cli"
	"banyan/compare"
	"banyan/compare/page"
)

// serve shows the run at --live: the page, /healthz, /readyz and /metrics.
func (r *running) serve(ctx context.Context) error {
	listen := r.flags.live
	if strings.HasPrefix(listen, ":") {
		listen = "127.0.0.1" + listen // others may look only where somebody has said so
	}
	view := &view{r: r, ctx: ctx, since: time.Now().UTC()}
	live := page.NewLiveServer(view.look, page.LiveOptions{Fault: func(err error) { r.Log.Warn("the page cannot be made", "error", err) }})
	defer live.Close()
	stop := context.AfterFunc(ctx, live.Close)
	defer stop()
	mux := cli.Health(r.notReady, &metrics{r})
	mux.Handle("/", live)
	return cli.Serve(ctx, "--live", listen, mux, func(url string) error {
		return r.stage(stage{Stage: "listening", URL: url}, "listening on %s", url)
	})
}

// view makes what the page shows. A report of a large shop takes its time, so it is
// made anew only when five times that has passed.
type view struct {
	r     *running
	ctx   context.Context
	since time.Time

	mu     sync.Mutex
	report *compare.Report
	made   time.Time
	took   time.Duration
}

func (v *view) look() (page.LiveData, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if began := time.Now(); v.report == nil || began.Sub(v.made) > 5*v.took {
		report, err := v.r.report(v.ctx, v.r.store, v.r.opts.Name, "", v.r.flags.settings)
		if err != nil {
			return page.LiveData{}, err
		}
		v.report, v.made, v.took = report, time.Now(), time.Since(began)
	}
	return page.LiveData{Report: v.report, Status: v.status()}, nil
}

func (v *view) status() page.Status {
	s := page.Status{Since: v.since, Paused: cli.Redact(v.r.waits()), Position: v.report.Inputs.Position}
	for _, st := range v.r.shadow.Stats() {
		s.EventsPerSecond = st.Rate
		for _, p := range st.Parts {
			s.LagRecords += p.Records
			s.LagSeconds = max(s.LagSeconds, p.Lag.Seconds())
		}
	}
	if q := v.r.who.request; q != nil {
		s.Breaker = q.Client.Stats().Breaker.State
	}
	for _, row := range v.report.Reconciliation.Events {
		if row.What != "compared" && row.What != "consumed" {
			s.Drops = append(s.Drops, row)
		}
	}
	return s
}

// notReady says why /readyz does not say ready.
func (r *running) notReady() string {
	if why := r.waits(); why != "" {
		return cli.Redact(why)
	}
	for _, st := range r.shadow.Stats() {
		if st.Stalled != "" {
			return cli.Redact(st.Stalled)
		}
	}
	return ""
}

// metrics reads the numbers of a run at each scrape.
type metrics struct{ r *running }

var (
	descEvents  = prometheus.NewDesc("banyan_shadow_events_total", "Events taken in since the start.", nil, nil)
	descRecords = prometheus.NewDesc("banyan_shadow_lag_records", "Records that are not taken in yet.", nil, nil)
	descSeconds = prometheus.NewDesc("banyan_shadow_lag_seconds", "How long ago, by the source's clock, the source was where the shadow is.", nil, nil)
	descPaused  = prometheus.NewDesc("banyan_shadow_paused", "Whether the shadow waits for its candidate.", nil, nil)
	descSample  = prometheus.NewDesc("banyan_shadow_sample_ratio", "The share of customers that is compared at the moment.", nil, nil)
	descAsked   = prometheus.NewDesc("banyan_shadow_asked_total", "Orders that the candidate was asked for since the start, by what became of it.", []string{"result"}, nil)
	descBreaker = prometheus.NewDesc("banyan_shadow_breaker_open", "Whether the breaker leaves the candidate alone.", nil, nil)
	descLatency = prometheus.NewDesc("banyan_shadow_candidate_seconds", "Duration of a call to the candidate, at the quantile.", []string{"quantile"}, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	one := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, st := range m.r.shadow.Stats() {
		var records int64
		for _, p := range st.Parts {
			records += p.Records
		}
		ch <- prometheus.MustNewConstMetric(descEvents, prometheus.CounterValue, float64(st.Events))
		gauge(descRecords, float64(records))
	}
	gauge(descSeconds, lagOf(m.r.shadow).Seconds())
	gauge(descPaused, one(m.r.waits() != ""))
	gauge(descSample, float64(m.r.pace.sample())/10_000)
	q := m.r.who.request
	if q == nil {
		return
	}
	s := q.Client.Stats()
	ch <- prometheus.MustNewConstMetric(descAsked, prometheus.CounterValue, float64(s.Answered), "answered")
	for reason, n := range s.Reasons {
		ch <- prometheus.MustNewConstMetric(descAsked, prometheus.CounterValue, float64(n), string(reason))
	}
	gauge(descBreaker, one(s.Breaker.State == "open"))
	gauge(descLatency, s.PerRequest.P50.Seconds(), "0.5")
	gauge(descLatency, s.PerRequest.P95.Seconds(), "0.95")
	gauge(descLatency, s.PerRequest.P99.Seconds(), "0.99")
}
