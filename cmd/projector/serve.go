package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/projections/control"
	"banyan/projections/readapi"
	"banyan/projections/state"
)

// taken are paths that a run has for itself.
var taken = []string{"healthz", "readyz", "metrics", "debug"}

// serve answers the read API of all projections, /healthz, /readyz and /metrics
// until ctx is done.
func (r *running) serve(ctx context.Context) error {
	mux := cli.Health(r.notReady, &metrics{r})
	owner := map[string]string{}
	var servers []*readapi.Server
	var faults []error
	for _, h := range r.services {
		resources, err := h.resources()
		if err != nil {
			return err
		}
		api, err := readapi.New(h.pool, progress{h}, resources, readapi.Options{Log: r.Log})
		if err != nil {
			return fmt.Errorf("read API of %s: %w", h.name, err)
		}
		servers = append(servers, api)
		for _, res := range resources {
			switch other := owner[res.Path]; {
			case slices.Contains(taken, res.Path):
				faults = append(faults, fmt.Errorf("%s: api: %q is taken by the run itself; give the table another name under `api`", h.name, res.Path))
			case other != "":
				faults = append(faults, fmt.Errorf("%s: api: %q is served for %s already; give one of them another name under `api`, or run them apart", h.name, res.Path, other))
			default:
				owner[res.Path] = h.name
				mux.Handle("/"+res.Path, api)
				mux.Handle("/"+res.Path+"/", api)
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		return cli.BadInput("%w", err)
	}
	mux.Handle("GET /{$}", readapi.Index(servers...))
	return serveWith(ctx, r, mux, servers)
}

// serveWith runs the servers' watches for as long as they are asked.
func serveWith(ctx context.Context, r *running, mux http.Handler, servers []*readapi.Server) error {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{}, len(servers))
	for _, s := range servers {
		go func() {
			s.Run(watching)
			done <- struct{}{}
		}()
	}
	err := cli.Serve(ctx, r.flags.listen, mux, func(url string) error {
		return r.stage(stage{Stage: "listening", URL: url}, "listening on %s", url)
	})
	stop()
	for range servers {
		<-done
	}
	return err
}

// resources are what the definition says is served.
func (h *hosted) resources() ([]readapi.Resource, error) {
	var list []readapi.Resource
	spec := h.program.Spec()
	for _, e := range h.program.Endpoints() {
		res := readapi.Resource{Path: e.Path, View: pgx.Identifier{spec.Name, e.Relation}}
		for _, t := range spec.AllTables() {
			if t.Name == e.Relation {
				res.Table = t
			}
		}
		res.Table.Key = e.Key
		if len(res.Table.Columns) == 0 {
			for i, k := range e.Key {
				res.Table.Columns = append(res.Table.Columns, state.Column{Name: k, Type: e.Types[i], NotNull: true})
			}
		}
		res.Table.Name = e.Relation
		list = append(list, res)
	}
	return list, nil
}

// progress tells the read API how far readers see.
type progress struct{ *hosted }

// Passed implements readapi.Progress.
func (p progress) Passed(ctx context.Context) (control.Mark, error) {
	return p.store.Passed(ctx, p.name)
}

// Wait implements readapi.Progress.
func (p progress) Wait(ctx context.Context, m control.Mark, r event.Ref) error {
	return p.store.Wait(ctx, p.name, m, control.WaitFor{Ref: r})
}

// notReady says why /readyz does not say ready.
func (r *running) notReady() string {
	var why []string
	for _, h := range r.services {
		for n, st := range h.service.Stats() {
			if st.Stalled != "" && st.State == control.Active {
				why = append(why, fmt.Sprintf("%s, version %d: %s", h.name, n, st.Stalled))
			}
		}
	}
	return cli.Redact(strings.Join(why, "; "))
}

// metrics reads the numbers of a run at each scrape.
type metrics struct{ r *running }

var (
	labels      = []string{"projection", "version", "state"}
	descEvents  = prometheus.NewDesc("banyan_projection_events_total", "Events applied since the start.", labels, nil)
	descBatches = prometheus.NewDesc("banyan_projection_batches_total", "Transactions committed since the start.", labels, nil)
	descRecords = prometheus.NewDesc("banyan_projection_lag_records", "Records in the owned partitions that are not applied.", labels, nil)
	descBytes   = prometheus.NewDesc("banyan_projection_lag_bytes", "Their bytes, estimated.", labels, nil)
	descSeconds = prometheus.NewDesc("banyan_projection_lag_seconds", "How long ago, by the source's clock, the source was where the slowest owned partition is.", labels, nil)
	descParked  = prometheus.NewDesc("banyan_projection_parked_keys", "Keys that are parked in the owned partitions.", labels, nil)
	descStalled = prometheus.NewDesc("banyan_projection_stalled", "Whether nothing moves although there is something to do.", labels, nil)
	descOwned   = prometheus.NewDesc("banyan_projection_partitions", "Partitions owned by this process.", labels, nil)
	descCommit  = prometheus.NewDesc("banyan_projection_commit_seconds", "Mean duration of a transaction.", labels, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, h := range m.r.services {
		for n, st := range h.service.Stats() {
			with := []string{h.name, fmt.Sprint(n), string(st.State)}
			gauge := func(d *prometheus.Desc, v float64) {
				ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, with...)
			}
			var records, bytes int64
			var lag time.Duration
			for _, p := range st.Parts {
				records, bytes, lag = records+p.Records, bytes+p.Bytes, max(lag, p.Lag)
			}
			ch <- prometheus.MustNewConstMetric(descEvents, prometheus.CounterValue, float64(st.Events), with...)
			ch <- prometheus.MustNewConstMetric(descBatches, prometheus.CounterValue, float64(st.Batches), with...)
			gauge(descRecords, float64(records))
			gauge(descBytes, float64(bytes))
			gauge(descSeconds, lag.Seconds())
			gauge(descParked, float64(st.ParkedKeys))
			stalled := 0.0
			if st.Stalled != "" {
				stalled = 1
			}
			gauge(descStalled, stalled)
			gauge(descOwned, float64(len(st.Parts)))
			gauge(descCommit, st.CommitTime.Seconds())
		}
	}
}
