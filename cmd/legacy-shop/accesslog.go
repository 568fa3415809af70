package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// hit is one request as the access log keeps it. The path is the route's
// pattern, so that no personal data gets in.
type hit struct {
	at     time.Time
	method string
	path   string
	status int
	took   time.Duration
}

// accessLog writes hits in bundles, beside the requests: a lost hit costs
// nothing, a slow request does.
type accessLog struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	hits chan hit
	quit chan struct{}
	done chan struct{}
}

// keepHits is how long old hits stay in the table.
const keepHits = "30 days"

// openAccessLog starts the writer; close stops it and waits until it has
// written what it has.
func openAccessLog(pool *pgxpool.Pool, log *slog.Logger) *accessLog {
	a := &accessLog{pool: pool, log: log, hits: make(chan hit, 4096), quit: make(chan struct{}), done: make(chan struct{})}
	go a.run()
	return a
}

// add never waits: when the writer is behind, the hit is dropped.
func (a *accessLog) add(h hit) {
	select {
	case a.hits <- h:
	default:
	}
}

func (a *accessLog) run() {
	defer close(a.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var kept []hit
	for {
		select {
		case h := <-a.hits:
			if kept = append(kept, h); len(kept) < 1000 {
				continue
			}
		case <-tick.C:
		case <-a.quit:
			for len(a.hits) > 0 {
				kept = append(kept, <-a.hits)
			}
			a.write(kept)
			return
		}
		a.write(kept)
		kept = kept[:0]
	}
}

func (a *accessLog) write(hits []hit) {
	if len(hits) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	columns := []string{"at", "method", "path", "status", "duration_us"}
	_, err := a.pool.CopyFrom(ctx, pgx.Identifier{"access_log"}, columns, pgx.CopyFromSlice(len(hits), func(i int) ([]any, error) {
		h := hits[i]
		return []any{h.at.UTC(), h.method, h.path, h.status, h.took.Microseconds()}, nil
	}))
	if err != nil {
		a.log.Warn("access log not written", "hits", len(hits), "err", err)
	}
}

func (a *accessLog) close() {
	close(a.quit)
	<-a.done
}
