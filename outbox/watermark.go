package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"banyan/event"
)

// sendWatermarks tells how far the source is published. It takes a frontier of
// the store, waits until every partition has reached it, tells it, and takes
// the next one; so a watermark is right whatever the lanes do meanwhile. While
// nothing moves it repeats the last one.
func (r *Relay) sendWatermarks(ctx context.Context) error {
	m := marker{r: r}
	wait := patience{min: r.RetryMin, max: r.RetryMax}
	tick := time.NewTicker(r.MarkEvery)
	defer tick.Stop()
	for {
		due := false
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			due = true
		case <-r.state.flushed:
			// Lanes flush many times a second; readers need no more than one
			// mark for all of them.
			if !r.sleep(ctx, r.MarkGap-time.Since(m.at)) {
				return nil
			}
		}
		for {
			sent, err := m.advance(ctx)
			if err == nil && !sent && due {
				err = m.send(ctx)
			}
			if err == nil {
				wait.reset()
				r.ok(TopicPartition{Topic: r.Watermarks}, 0)
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			if permanent(err) {
				return err
			}
			r.note(TopicPartition{Topic: r.Watermarks}, err)
			if !r.sleep(ctx, wait.next()) {
				return nil
			}
		}
	}
}

// marker is the state of the watermarks; one goroutine uses it.
type marker struct {
	r      *Relay
	at     time.Time // when the last one was sent
	last   *event.Watermark
	next   *event.Watermark // waits for its partitions
	parked []event.ParkedAt
	known  bool  // parked is right for rev
	rev    int64 // Frontier.Parked
}

// advance sends the mark that waits, if everything below it is published, and
// takes up the next.
func (m *marker) advance(ctx context.Context) (sent bool, err error) {
	for range 2 {
		if m.next == nil {
			if m.next, err = m.take(ctx); err != nil || m.next == nil {
				return sent, err
			}
		}
		if !m.r.reached(m.next) {
			return sent, nil
		}
		m.last, m.next = m.next, nil
		if err := m.send(ctx); err != nil {
			return sent, err
		}
		sent = true
	}
	return sent, nil
}

// reached reports whether every partition is published up to what w names.
func (r *Relay) reached(w *event.Watermark) bool {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	for topic, seqs := range w.Seqs {
		for p, seq := range seqs {
			if seq == 0 {
				continue
			}
			l := r.state.lanes[TopicPartition{topic, p}]
			if l == nil {
				return false
			}
			if done, _ := l.bounds(); done < seq || !l.isSettled() {
				return false
			}
		}
	}
	return true
}

func (l *lane) isSettled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settled
}

// take makes the next watermark out of the store's frontier. nil is none: the
// first snapshot is not whole, or nothing has moved.
func (m *marker) take(ctx context.Context) (*event.Watermark, error) {
	f, err := m.r.Backlog.Frontier(ctx)
	if err != nil {
		return nil, err
	}
	if !f.Complete {
		return nil, nil
	}
	if !m.known || f.Parked != m.rev {
		// The revision is the one from before the list was read: a change that
		// comes between the two has the list read again.
		rev := f.Parked
		var keys []event.ParkedAt
		if f, keys, err = m.r.Backlog.Parking(ctx); err != nil {
			return nil, err
		}
		m.parked, m.rev, m.known = keys, rev, true
	}
	w := &event.Watermark{Source: m.r.Source, Generation: f.Generation, LSN: f.LSN, Time: f.Time, Writer: m.r.Backlog.Epoch(), Seqs: seqsOf(f.Assigned)}
	w.SetParked(m.parked)
	if m.last == nil {
		return w, nil
	}
	// The owner's memory learns of a commit a moment after the database: what
	// it says can be older than a frontier read from there.
	if m.last.After(w) || fewer(w.Seqs, m.last.Seqs) {
		return nil, nil
	}
	if w.Time.Before(m.last.Time) {
		w.Time = m.last.Time
	}
	if !w.After(m.last) && !fewer(m.last.Seqs, w.Seqs) && sameParked(w, m.last) {
		return nil, nil
	}
	return w, nil
}

func seqsOf(shelves []Shelf) map[string][]int64 {
	seqs := make(map[string][]int64)
	for _, s := range shelves {
		all := seqs[s.Topic]
		for len(all) <= s.Partition {
			all = append(all, 0)
		}
		all[s.Partition] = s.Assigned
		seqs[s.Topic] = all
	}
	return seqs
}

// fewer reports whether a has a lower seq than b anywhere.
func fewer(a, b map[string][]int64) bool {
	for topic, seqs := range b {
		for p, seq := range seqs {
			if p >= len(a[topic]) && seq > 0 || p < len(a[topic]) && a[topic][p] < seq {
				return true
			}
		}
	}
	return false
}

// sameParked reports whether two marks name the same parked keys.
func sameParked(a, b *event.Watermark) bool {
	if (a.Filter == nil) != (b.Filter == nil) || len(a.Parked) != len(b.Parked) || a.Filter != nil {
		return false
	}
	for i := range a.Parked {
		if a.Parked[i] != b.Parked[i] {
			return false
		}
	}
	return true
}

// send publishes the last mark that is reached.
func (m *marker) send(ctx context.Context) error {
	if m.last == nil {
		return nil
	}
	value, err := json.Marshal(m.last)
	if err != nil {
		return fmt.Errorf("write a watermark: %w", err)
	}
	// No time of the source: the topic keeps an hour by the records' time.
	rec := event.Record{Key: []byte(m.last.Source), Value: value, Headers: []event.Header{
		{Key: event.HeaderContentType, Value: []byte(event.ContentJSON)},
	}}
	if _, err := m.r.Publisher.Produce(ctx, m.r.Watermarks, 0, []event.Record{rec}); err != nil {
		return err
	}
	m.at = time.Now()
	s := m.r.state
	s.mu.Lock()
	s.progress.Watermark, s.progress.WatermarkTime = m.last.LSN, m.last.Time
	s.mu.Unlock()
	return nil
}
