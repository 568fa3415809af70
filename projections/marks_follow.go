package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"banyan/event"
)

// markTail is how many marks before the end of their topic are read at the start.
const markTail = 16

// markInbox is what the follower of the watermarks has for the committer.
type markInbox struct {
	mu     sync.Mutex
	marks  []*event.Watermark
	caught bool  // all that lay in the topic at the start has been handed over
	err    error // why the topic cannot be read at the moment
}

func (in *markInbox) put(marks []*event.Watermark, caught bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.marks = append(in.marks, marks...)
	in.caught = in.caught || caught
	in.err = nil
}

func (in *markInbox) stalled(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.err = err
}

func (in *markInbox) take() (marks []*event.Watermark, caught bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	marks, in.marks = in.marks, nil
	return marks, in.caught, in.err
}

// followMarks reads the watermarks of the source for as long as ctx lives. It
// never gives up: without marks rows are right all the same, only nobody knows
// how new they are, and an aligned projection waits.
func (r *run) followMarks(ctx context.Context) {
	topic := r.spec.Source + ".watermarks"
	for ctx.Err() == nil {
		err := r.readMarks(ctx, topic)
		if ctx.Err() != nil {
			return
		}
		r.inbox.stalled(err)
		r.opts.Logger.Warn("watermarks cannot be read", "topic", topic, "error", err)
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

func (r *run) readMarks(ctx context.Context, topic string) error {
	first, next, err := r.opts.Log.Ends(ctx, topic, 0)
	if err != nil {
		return err
	}
	from := max(first, next-markTail)
	if from >= next {
		r.inbox.put(nil, true)
		r.poke()
	}
	for records, err := range r.opts.Log.Tail(ctx, topic, 0, from, r.inbox.stalled) {
		if err != nil {
			return err
		}
		var got []*event.Watermark
		caught := len(records) == 0
		for i := range records {
			caught = caught || records[i].Offset+1 >= next
			w := new(event.Watermark)
			if err := json.Unmarshal(records[i].Value, w); err != nil {
				return fmt.Errorf("the record at offset %d: %w", records[i].Offset, err)
			}
			if w.Source != r.spec.Source {
				return fmt.Errorf("the record at offset %d is a watermark of source %s", records[i].Offset, w.Source)
			}
			got = append(got, w)
		}
		r.inbox.put(got, caught)
		r.poke()
	}
	return ctx.Err()
}

// sleep waits, and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
