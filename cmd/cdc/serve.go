package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"banyan/wal"
)

// serve answers /healthz, /readyz and /metrics until ctx is done.
func (r *running) serve(ctx context.Context) error {
	if r.flags.listen == "" {
		<-ctx.Done()
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.flags.listen)
	if err != nil {
		return badInput("--listen %s: %w; choose another address, or --listen '' for none", r.flags.listen, err)
	}
	url := "http://" + ln.Addr().String()
	if err := r.stage(stage{Stage: "listening", URL: url}, "listening on %s (/healthz, /readyz, /metrics)", url); err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &metrics{r: r})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", r.ready)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	closed := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		closed <- srv.Shutdown(stop)
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", url, err)
	}
	return <-closed
}

// ready says 200 where changes flow from the source to Kafka, else 503 and why.
func (r *running) ready(w http.ResponseWriter, _ *http.Request) {
	why := ""
	switch st, ok := r.capture.streamStatus(); {
	case !ok:
		why = "no stream yet: a snapshot is running"
	case !st.Connected:
		why = "the source is away: " + redact(fmt.Sprint(st.Outage))
	}
	if p := r.relay.Progress(); p.Error != "" {
		why = "Kafka does not take events: " + p.Error
	}
	if s := r.capture.waiting.Load(); s != nil {
		why = *s
	}
	if why != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, why)
		return
	}
	fmt.Fprintln(w, "ready")
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
