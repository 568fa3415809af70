package projectiontest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"banyan/event"
	"banyan/projections"
)

// Log is a broker in memory: projections read it, a Source writes it. It is safe
// for concurrent use. What it hands out is shared and must not be changed.
type Log struct {
	mu      sync.Mutex
	topics  map[string][]*partition
	broken  error
	changed chan struct{} // closed and made anew with each change
}

type partition struct {
	first, next int64
	records     []event.Record // in offset order; compaction leaves holes
}

var _ projections.Log = (*Log)(nil)

// NewLog makes an empty Log. Topics are made with CreateTopic.
func NewLog() *Log {
	return &Log{topics: make(map[string][]*partition), changed: make(chan struct{})}
}

// CreateTopic makes a topic. One that is there is left as it is.
func (l *Log) CreateTopic(name string, partitions int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics[name] != nil {
		return
	}
	for range partitions {
		l.topics[name] = append(l.topics[name], &partition{})
	}
	l.tell()
}

// DeleteTopic deletes a topic and all that is in it.
func (l *Log) DeleteTopic(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, name)
	l.tell()
}

// Break lets every reading and writing fail with err from now on, and tails wait;
// nil mends it.
func (l *Log) Break(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
	l.tell()
}

// Trim deletes the records below an offset, as a retention does.
func (l *Log) Trim(topic string, part int, first int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.at(topic, part)
	if err != nil {
		return
	}
	p.first = max(p.first, min(first, p.next))
	p.records = p.records[p.from(p.first):]
	l.tell()
}

// Compact keeps the last record of each key and, as Kafka does, the last record
// of each partition whatever it is. Offsets stay.
func (l *Log) Compact(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.topics[topic] {
		last := make(map[string]int64)
		for _, r := range p.records {
			last[string(r.Key)] = r.Offset
		}
		var kept []event.Record
		for _, r := range p.records {
			if last[string(r.Key)] == r.Offset || r.Offset == p.next-1 {
				kept = append(kept, r)
			}
		}
		p.records = kept
	}
	l.tell()
}

// Produce appends records to a partition and gives the offset of the first.
func (l *Log) Produce(_ context.Context, topic string, part int, records []event.Record) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.at(topic, part)
	if err != nil {
		return 0, fmt.Errorf("produce: %w", err)
	}
	base := p.next
	for _, r := range records {
		r.Partition, r.Offset = part, p.next
		p.records = append(p.records, r)
		p.next++
	}
	l.tell()
	return base, nil
}

// Partitions counts the partitions of a topic.
func (l *Log) Partitions(_ context.Context, topic string) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.at(topic, 0); err != nil {
		return 0, err
	}
	return len(l.topics[topic]), nil
}

// Ends gives the first offset of a partition and the one its next record will
// get.
func (l *Log) Ends(_ context.Context, topic string, part int) (first, next int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.at(topic, part)
	if err != nil {
		return 0, 0, err
	}
	return p.first, p.next, nil
}

// Read yields the records from offset from to before until and ends. A negative
// from stands for the first one there is.
func (l *Log) Read(ctx context.Context, topic string, part int, from, until int64) iter.Seq2[event.Record, error] {
	return func(yield func(event.Record, error) bool) {
		for from < until {
			batch, next, _, err := l.take(topic, part, from, until)
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(event.Record{}, err)
				return
			}
			for _, r := range batch {
				if !yield(r, nil) {
					return
				}
			}
			if next == from {
				return
			}
			from = next
		}
	}
}

// Tail yields records as they come; an empty slice says that there is nothing
// more at the moment. While the Log is broken it waits and says so to stalled. It
// ends with ctx or an error.
func (l *Log) Tail(ctx context.Context, topic string, part int, from int64, stalled func(error)) iter.Seq2[[]event.Record, error] {
	return func(yield func([]event.Record, error) bool) {
		broken := false
		for {
			batch, next, changed, err := l.take(topic, part, from, 1<<62)
			var off *unplugged
			again := errors.As(err, &off)
			if stalled != nil && again != broken {
				stalled(err)
			}
			broken = again
			if cause := context.Cause(ctx); cause != nil {
				err, again = cause, false
			}
			if !again && (err != nil || !yield(batch, nil)) {
				if err != nil {
					yield(nil, err)
				}
				return
			}
			if len(batch) > 0 || next > from {
				from = next
				continue
			}
			select {
			case <-ctx.Done():
			case <-changed:
			}
		}
	}
}

// chunk is how many records one step of a reader takes at most.
const chunk = 500

// unplugged is the error of a Log that is broken for now.
type unplugged struct{ error }

func (u *unplugged) Unwrap() error { return u.error }

// Permanent is false: it may be mended.
func (u *unplugged) Permanent() bool { return false }

// take copies some records, and says from which offset to go on and what tells
// that there is more.
func (l *Log) take(topic string, part int, from, until int64) ([]event.Record, int64, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.at(topic, part)
	if err != nil {
		return nil, from, l.changed, err
	}
	if from < 0 {
		from = p.first
	}
	if from < p.first || from > p.next {
		return nil, from, nil, fmt.Errorf("%s/%d: offset %d is not there: the log has %d to before %d", topic, part, from, p.first, p.next)
	}
	i := p.from(from)
	n := i
	for n < len(p.records) && n-i < chunk && p.records[n].Offset < until {
		n++
	}
	next := min(until, p.next)
	if n < len(p.records) {
		next = min(until, p.records[n].Offset)
	}
	return append([]event.Record(nil), p.records[i:n]...), next, l.changed, nil
}

func (l *Log) at(topic string, part int) (*partition, error) {
	if l.broken != nil {
		return nil, &unplugged{l.broken}
	}
	parts := l.topics[topic]
	if part < 0 || part >= len(parts) {
		return nil, fmt.Errorf("there is no topic %s with a partition %d", topic, part)
	}
	return parts[part], nil
}

// tell wakes the readers; the caller holds the lock.
func (l *Log) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// from finds the first record at or behind an offset.
func (p *partition) from(offset int64) int {
	lo, hi := 0, len(p.records)
	for lo < hi {
		m := (lo + hi) / 2
		if p.records[m].Offset < offset {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}
