package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"banyan/cmd/internal/cli"
	"banyan/token"
	"banyan/wal"
)

// serve answers /healthz, /readyz, /metrics and /generation until ctx is done.
func (r *running) serve(ctx context.Context) error {
	mux := cli.Health(r.notReady, &metrics{r: r})
	mux.HandleFunc("GET "+token.Path, r.generation)
	return cli.Serve(ctx, "--listen", r.flags.listen, mux, func(url string) error {
		return r.stage(stage{Stage: "listening", URL: url}, "listening on %s (/healthz, /readyz, /metrics)", url)
	})
}

// generation says which incarnation of the source this run follows, for those
// who make consistency tokens. An owner that has lost the store must not: its
// successor may have begun another generation.
func (r *running) generation(w http.ResponseWriter, _ *http.Request) {
	select {
	case <-r.owner.Lost():
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "another cdc has taken over this source")
		return
	default:
	}
	i := token.Incarnation{Source: r.cfg.Source.Name, Generation: r.owner.Generation(), System: r.inc.SystemID, Timeline: r.inc.Timeline}
	if end := r.owner.Position().End; end > 0 {
		i.LSN = wal.LSN(end).String()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(i) // the one who asked has gone
}

// notReady says why changes do not flow from the source to Kafka; empty where
// they do.
func (r *running) notReady() (why string) {
	switch st, ok := r.capture.streamStatus(); {
	case !ok:
		why = "no stream yet: a snapshot is running"
	case !st.Connected:
		why = "the source is away: " + cli.Redact(fmt.Sprint(st.Outage))
	}
	if p := r.relay.Progress(); p.Error != "" {
		why = "Kafka does not take events: " + p.Error
	}
	if s := r.capture.waiting.Load(); s != nil {
		why = *s
	}
	return why
}

// metrics reads the numbers of a run at each scrape.
type metrics struct{ r *running }

var (
	labels         = []string{"source"}
	descConnected  = prometheus.NewDesc("banyan_source_connected", "Whether the replication connection to the source stands.", labels, nil)
	descReconnects = prometheus.NewDesc("banyan_source_reconnects_total", "Reconnections to the source since the start.", labels, nil)
	descPosition   = prometheus.NewDesc("banyan_store_position_bytes", "End LSN of what the store holds, in bytes of WAL.", labels, nil)
	descReceived   = prometheus.NewDesc("banyan_source_received_bytes", "LSN up to which the source has been received, in bytes of WAL.", labels, nil)
	descBehind     = prometheus.NewDesc("banyan_capture_lag_bytes", "WAL received and not stored yet.", labels, nil)
	descHeld       = prometheus.NewDesc("banyan_capture_held_bytes", "Memory of transactions received and not stored yet.", labels, nil)
	descLagEvents  = prometheus.NewDesc("banyan_relay_lag_events", "Events stored and not acknowledged by Kafka yet.", labels, nil)
	descLagBytes   = prometheus.NewDesc("banyan_relay_lag_bytes", "Bytes of events stored and not acknowledged by Kafka yet, estimated.", labels, nil)
	descLagSeconds = prometheus.NewDesc("banyan_relay_lag_seconds", "Age of the oldest event that Kafka has not acknowledged.", labels, nil)
	descPublished  = prometheus.NewDesc("banyan_relay_published_events_total", "Events acknowledged by Kafka since the start.", labels, nil)
	descWatermark  = prometheus.NewDesc("banyan_watermark_position_bytes", "LSN of the last watermark, in bytes of WAL.", labels, nil)
	descOutbox     = prometheus.NewDesc("banyan_outbox_used_bytes", "Disk that the outbox takes.", labels, nil)
	descOutboxMax  = prometheus.NewDesc("banyan_outbox_limit_bytes", "Disk budget of the outbox.", labels, nil)
	descEpoch      = prometheus.NewDesc("banyan_owner_epoch", "Epoch of this owner.", labels, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	source := m.r.cfg.Source.Name
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, source)
	}
	counter := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, source)
	}
	pos, st := wal.LSN(m.r.owner.Position().End), wal.Status{}
	if s, ok := m.r.capture.streamStatus(); ok {
		st = s
	}
	p, b := m.r.relay.Progress(), m.r.owner.Budget()
	connected := 0.0
	if st.Connected {
		connected = 1
	}
	gauge(descConnected, connected)
	counter(descReconnects, float64(st.Reconnects))
	gauge(descPosition, float64(pos))
	gauge(descReceived, float64(st.Position))
	gauge(descBehind, float64(max(int64(st.Position)-int64(pos), 0)))
	gauge(descHeld, float64(st.HeldBytes))
	gauge(descLagEvents, float64(p.Events))
	gauge(descLagBytes, float64(p.Bytes))
	gauge(descLagSeconds, p.Seconds)
	counter(descPublished, float64(p.Published))
	gauge(descWatermark, float64(p.Watermark))
	gauge(descOutbox, float64(b.Used))
	gauge(descOutboxMax, float64(b.Max))
	gauge(descEpoch, float64(m.r.owner.Epoch()))
}
