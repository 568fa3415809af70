package rebuild_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"banyan/event"
	"banyan/outbox"
	"banyan/projections"
)

// flood is a log of many events that takes no memory: every record is made when
// it is read. Account k has its events at steps k, k+keys, k+2*keys, ...
type flood struct {
	events, keys, parts int
	// of each partition, which keys are its own
	own [][]int
	at  time.Time
}

func newFlood(events, keys, parts int) *flood {
	f := &flood{events: events, keys: keys, parts: parts, own: make([][]int, parts), at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for k := range keys {
		p := outbox.PartitionOf(strconv.Itoa(k), parts)
		f.own[p] = append(f.own[p], k)
	}
	return f
}

var _ projections.Log = (*flood)(nil)

func (f *flood) Partitions(context.Context, string) (int, error) { return f.parts, nil }

func (f *flood) Ends(_ context.Context, topic string, part int) (int64, int64, error) {
	if topic == "shop.watermarks" {
		return 0, 1, nil
	}
	if topic != accounts {
		return 0, 0, fmt.Errorf("no topic %s", topic)
	}
	return 0, int64(len(f.own[part])) * int64(f.events/f.keys), nil
}

func (f *flood) Read(ctx context.Context, topic string, part int, from, until int64) iter.Seq2[event.Record, error] {
	return func(yield func(event.Record, error) bool) {
		if topic == "shop.watermarks" {
			yield(f.mark(), nil)
			return
		}
		for o := max(from, 0); o < until; o++ {
			if !yield(f.record(part, o), nil) {
				return
			}
		}
	}
}

func (f *flood) Tail(ctx context.Context, topic string, part int, from int64, _ func(error)) iter.Seq2[[]event.Record, error] {
	return func(yield func([]event.Record, error) bool) {
		_, next, _ := f.Ends(ctx, topic, part)
		for from < next {
			n := min(next-from, 500)
			recs := make([]event.Record, n)
			for i := range recs {
				recs[i] = f.record(part, from+int64(i))
			}
			if !yield(recs, nil) {
				return
			}
			from += n
		}
		for ctx.Err() == nil {
			if !yield(nil, nil) {
				return
			}
			<-ctx.Done()
		}
		yield(nil, ctx.Err())
	}
}

func (f *flood) record(part int, offset int64) event.Record {
	own := f.own[part]
	round, key := offset/int64(len(own)), own[offset%int64(len(own))]
	step := round*int64(f.keys) + int64(key)
	pos := event.Position{Generation: 1, LSN: uint64(0x1000000 + step*0x40)}
	e := event.Event{
		ID:   event.ID{Source: "shop", Aggregate: "Account", Key: strconv.Itoa(key), Position: pos},
		Type: "AccountMoved", Version: 1, Topic: accounts, Time: f.at.Add(time.Duration(step) * time.Millisecond), Position: pos, Rules: 1,
		Data:      fmt.Appendf(nil, `{"occurredAt":"2026-01-01T00:00:00Z","state":{"id":%d,"amount":%d},"changed":["amount"]}`, key, step%1000),
		Partition: part, Seq: offset + 1, Writer: 1,
	}
	r := e.Record()
	r.Offset = offset
	return r
}

// mark is the watermark of all of it.
func (f *flood) mark() event.Record {
	w := event.Watermark{Source: "shop", Generation: 1, LSN: uint64(0x1000000 + f.events*0x40), Time: f.at.Add(time.Duration(f.events) * time.Millisecond), Writer: 1,
		Seqs: map[string][]int64{accounts: make([]int64, f.parts)}}
	for p := range f.own {
		w.Seqs[accounts][p] = int64(len(f.own[p])) * int64(f.events/f.keys)
	}
	value, _ := json.Marshal(w) // numbers and names: it cannot fail
	return event.Record{Key: []byte("shop"), Value: value}
}
