package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"banyan/cmd/internal/cli"
	"banyan/event"
	"banyan/projections"
	"banyan/projections/control"
	"banyan/projections/readapi"
	"banyan/projections/state"
)

// taken are paths that a run has for itself.
var taken = []string{"healthz", "readyz", "metrics", "debug", "in"}

// shortPaths gives the projection that answers under each path: the only one that
// has it. All others are reached as /in/{projection}/{path} alone.
func shortPaths(services []*hosted) map[string]string {
	owner := map[string]string{}
	for _, h := range services {
		for _, e := range h.program.Endpoints() {
			if _, twice := owner[e.Path]; twice || slices.Contains(taken, e.Path) {
				owner[e.Path] = ""
				continue
			}
			owner[e.Path] = h.name
		}
	}
	return owner
}

// serve answers the read API of all projections, /healthz, /readyz and /metrics
// until ctx is done.
func (r *running) serve(ctx context.Context) error {
	mux := cli.Health(r.notReady, &metrics{r})
	var servers []*readapi.Server
	short := shortPaths(r.services)
	for _, h := range r.services {
		resources, err := h.patientResources(ctx)
		if err != nil {
			return err
		}
		api, err := readapi.New(h.pool, progress{h}, resources, readapi.Options{Log: r.Log})
		if err != nil {
			return fmt.Errorf("read API of %s: %w", h.name, err)
		}
		servers = append(servers, api)
		mux.Handle("/in/"+h.name+"/", http.StripPrefix("/in/"+h.name, api))
		for _, res := range resources {
			if short[res.Path] == h.name {
				mux.Handle("/"+res.Path, api)
				mux.Handle("/"+res.Path+"/", api)
			}
		}
	}
	mux.Handle("GET /{$}", r.index(short))
	return serveWith(ctx, r, mux, servers)
}

// index lists what is served.
func (r *running) index(short map[string]string) http.Handler {
	paths := []string{}
	for _, h := range r.services {
		for _, e := range h.program.Endpoints() {
			if short[e.Path] == h.name {
				paths = append(paths, "/"+e.Path)
			} else {
				paths = append(paths, "/in/"+h.name+"/"+e.Path)
			}
		}
	}
	return readapi.Index(paths)
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
	err := cli.Serve(ctx, "--listen", r.flags.listen, mux, func(url string) error {
		return r.stage(stage{Stage: "listening", URL: url}, "listening on %s", url)
	})
	stop()
	for range servers {
		<-done
	}
	return err
}

// patientResources waits for a database that has gone since the run began.
func (h *hosted) patientResources(ctx context.Context) ([]readapi.Resource, error) {
	for {
		list, err := h.resources(ctx)
		if err == nil || ctx.Err() != nil || !projections.Passing(err) {
			return list, err
		}
		again := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
	}
}

// resources are what the definition says is served, with the columns that the
// database has: those of a view are known there alone.
func (h *hosted) resources(ctx context.Context) ([]readapi.Resource, error) {
	var list []readapi.Resource
	for _, e := range h.program.Endpoints() {
		view := pgx.Identifier{h.name, e.Relation}
		rows, err := h.pool.Query(ctx, `SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, view.Sanitize())
		if err != nil {
			return nil, fmt.Errorf("read the columns of %s: %w", view.Sanitize(), err)
		}
		table := state.Table{Name: e.Relation, Key: e.Key}
		table.Columns, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (c state.Column, err error) {
			err = r.Scan(&c.Name, &c.Type)
			c.NotNull = slices.Contains(e.Key, c.Name)
			return c, err
		})
		if err != nil {
			return nil, fmt.Errorf("read the columns of %s: %w", view.Sanitize(), err)
		}
		// The aggregate's name stands in the events alone: progress finds it.
		list = append(list, readapi.Resource{Path: e.Path, View: view, Table: table, Aggregate: e.Topic})
	}
	return list, nil
}

// progress tells the read API how far readers see.
type progress struct{ *hosted }

// Passed implements readapi.Progress.
func (p progress) Passed(ctx context.Context) (control.Mark, error) {
	return p.store.Passed(ctx, p.name)
}

// Wait implements readapi.Progress. The reference has a topic for an aggregate.
func (p progress) Wait(ctx context.Context, m control.Mark, r event.Ref) error {
	if r.Aggregate != "" {
		aggregate, err := p.aggregate(ctx, r.Aggregate)
		if err != nil {
			return err
		}
		if r.Aggregate = aggregate; aggregate == "" {
			r = event.Ref{} // no event of the topic was applied yet, so none is parked
		}
	}
	return p.store.Wait(ctx, p.name, m, control.WaitFor{Ref: r})
}

// aggregate names the aggregate of a topic's events, "" as long as none was
// applied.
func (h *hosted) aggregate(ctx context.Context, topic string) (string, error) {
	if name, ok := h.aggregates.Load(topic); ok {
		return name.(string), nil
	}
	active, err := h.store.Active(ctx, h.name)
	if err != nil {
		return "", err
	}
	parts, err := h.store.Parts(ctx, h.pool, h.name, active.Number)
	if err != nil {
		return "", err
	}
	for _, part := range parts {
		if part.Topic != topic || part.Anchor == "" {
			continue
		}
		id, err := event.ParseID(part.Anchor)
		if err != nil {
			return "", fmt.Errorf("the event last applied of %s: %w", part.PartID, err)
		}
		h.aggregates.Store(topic, id.Aggregate)
		return id.Aggregate, nil
	}
	return "", nil
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
