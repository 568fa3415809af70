package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/event"
)

// marks is the latest watermark, as its reader hands it over.
type marks struct {
	changed chan struct{}

	mu     sync.Mutex
	latest *event.Watermark
	caught bool // all that lay in the topic at the start was read
	err    error
}

// nextMark waits for a watermark that is later than that of the last round. With
// now there has to be one already.
func (r *reading) nextMark(ctx context.Context, now bool) (*event.Watermark, error) {
	for told := false; ; {
		m := &r.marks
		m.mu.Lock()
		w, caught, err := m.latest, m.caught, m.err
		m.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case caught && w != nil && (r.done == nil || w.After(r.done)):
			return w, nil
		case caught && w == nil && now:
			return nil, cli.Failed("there is no watermark in %s: nobody knows how far the source is told; start cdc run", r.marksTopic())
		case caught && w == nil && !told:
			r.log.Warn("waiting for a watermark: cdc run sends them", "topic", r.marksTopic())
			told = true
		}
		select {
		case <-m.changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// markTail is how many watermarks before the end of their topic are looked at: the
// last one counts, unless a stopped owner sent it.
const markTail = 16

// readMarks follows the watermarks for as long as ctx lives. Those that retention
// has taken while nobody looked are no loss: the latest counts.
func (r *reading) readMarks(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.followMarks(ctx)
		if cli.Is[*bus.OutOfRange](err) || passing(err) {
			r.log.Debug("the watermarks are read anew", "error", err)
			_ = pause(ctx, 200*time.Millisecond) // the loop looks at ctx
			continue
		}
		r.marks.mu.Lock()
		r.marks.err = fmt.Errorf("read the watermarks: %w", err)
		r.marks.mu.Unlock()
		signal(r.marks.changed)
		return
	}
}

func (r *reading) followMarks(ctx context.Context) error {
	first, next, err := r.cluster.Ends(ctx, r.marksTopic(), 0)
	if err != nil {
		return err
	}
	for records, err := range r.cluster.Tail(ctx, r.marksTopic(), 0, max(first, next-markTail), nil) {
		if err == nil {
			err = r.takeMarks(records, next)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// takeMarks keeps the latest of some watermarks; end is where the topic ended at the
// start.
func (r *reading) takeMarks(records []event.Record, end int64) error {
	m := &r.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	m.caught = m.caught || len(records) == 0
	for i := range records {
		m.caught = m.caught || records[i].Offset+1 >= end
		w := new(event.Watermark)
		if err := json.Unmarshal(records[i].Value, w); err != nil {
			return fmt.Errorf("the record at offset %d of %s: %w", records[i].Offset, r.marksTopic(), err)
		}
		if w.Source != r.source {
			return fmt.Errorf("the record at offset %d of %s is of the source %s", records[i].Offset, r.marksTopic(), w.Source)
		}
		if m.latest == nil || w.Writer >= m.latest.Writer && w.After(m.latest) {
			m.latest = w
		}
	}
	signal(m.changed)
	return nil
}
