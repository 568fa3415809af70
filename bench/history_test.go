package bench_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"banyan/bus"
	"banyan/event"
	"banyan/outbox"
)

// history is what a topic is filled with, as cdc would: keys drawn at random,
// dense numbers in each partition, positions that grow, and in the end one
// watermark that covers all of it.
type history struct {
	// source names the service; its events lie in <source>.events.
	source       string
	events, keys int
	value        func(b []byte, key, n int) []byte
	// plain leaves out the headers: such records are for programs that know
	// nothing of ours.
	plain bool
}

// told is a history that lies in its topic.
type told struct {
	history
	topic    string
	ends     []int64 // by partition
	distinct int     // keys that have events
	bytes    int64   // of records, about
	mark     event.Watermark
	next     uint64 // LSN of the next event
	random   *rand.Rand
	seen     []bool // by key
}

// epoch is when the histories begin. It does not matter, but is not now.
var epoch = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)

// orderState is an order of about 500 bytes, with the line that makes it so.
func orderState(b []byte, key, n int) []byte {
	b = append(b, `{"occurredAt":"2026-11-01T08:00:00Z","total":{"amount":`...)
	b = strconv.AppendInt(b, int64(n%90_000+1000), 10)
	b = append(b, `,"scale":3,"currency":"GBP"},"state":{"id":`...)
	b = strconv.AppendInt(b, int64(key), 10)
	b = append(b, `,"invoice_no":"`...)
	b = strconv.AppendInt(b, int64(536_365+key), 10)
	b = append(b, `","customer_id":`...)
	b = strconv.AppendInt(b, int64(12_346+key%4372), 10)
	b = append(b, `,"status":"`...)
	b = append(b, [...]string{"placed", "paid", "shipped", "returned"}[n%4]...)
	b = append(b, `","channel":"web","country":"United Kingdom","total":{"amount":`...)
	b = strconv.AppendInt(b, int64(n%90_000+1000), 10)
	b = append(b, `,"scale":3,"currency":"GBP"},"placed_at":"2026-11-01T08:26:00Z","note":null,"lines":[{"line_no":1,"product_id":`...)
	b = strconv.AppendInt(b, int64(n%3684), 10)
	b = append(b, `,"description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":`...)
	b = strconv.AppendInt(b, int64(n%12+1), 10)
	b = append(b, `,"unit_price":{"amount":2550,"scale":3,"currency":"GBP"},"added_at":"2026-11-01T08:26:00Z"}],"shipments":[]},"changed":["status","total"]}`...)
	return b
}

// smallState is a value of 60 bytes, of which a counter needs none.
func smallState(b []byte, key, _ int) []byte {
	return fmt.Appendf(b, `{"occurredAt":"2026-11-01T08:00:00Z","state":{"id":%9d}}`, key)
}

const partitions = 6

// tell makes the topics of a history and fills them.
func (g *ground) tell(h history) *told {
	g.t.Helper()
	d := &told{history: h, topic: h.source + ".events", ends: make([]int64, partitions), next: 0x1000000, seen: make([]bool, h.keys), random: rand.New(rand.NewPCG(4, uint64(h.keys)))}
	specs := []bus.TopicSpec{bus.BusinessTopic(d.topic, partitions), bus.WatermarkTopic(h.source + ".watermarks")}
	if _, err := g.cluster.EnsureTopics(context.Background(), specs); err != nil {
		g.t.Fatal(err)
	}
	start := time.Now()
	g.more(d, h.events)
	g.t.Logf("%s: %d events of %d keys, %d bytes each, in %.1f s", d.topic, h.events, d.distinct, d.bytes/int64(h.events), time.Since(start).Seconds())
	return d
}

// more tells n more events, and a watermark that covers them.
func (g *ground) more(d *told, n int) {
	g.t.Helper()
	full := make([]chan []event.Record, partitions)
	var senders errgroup.Group
	for p := range full {
		full[p] = make(chan []event.Record, 2)
		senders.Go(func() error {
			var first error
			for records := range full[p] {
				if first == nil {
					_, first = g.cluster.Produce(context.Background(), d.topic, p, records)
				}
			}
			return first
		})
	}
	batches, sizes := make([][]event.Record, partitions), make([]int, partitions)
	for range n {
		r := d.record()
		size := r.Size()
		if p := r.Partition; sizes[p]+size > bus.MaxRequestBytes*9/10 {
			full[p] <- batches[p]
			batches[p], sizes[p] = nil, 0
		}
		batches[r.Partition] = append(batches[r.Partition], r)
		sizes[r.Partition] += size
		d.bytes += int64(size)
	}
	for p, records := range batches {
		if len(records) > 0 {
			full[p] <- records
		}
		close(full[p])
	}
	if err := senders.Wait(); err != nil {
		g.t.Fatalf("fill %s: %v", d.topic, err)
	}
	g.mark(d)
}

// record makes the next event.
func (d *told) record() event.Record {
	n := int(d.next-0x1000000) >> 6
	key := d.random.IntN(d.keys)
	if !d.seen[key] {
		d.seen[key] = true
		d.distinct++
	}
	pos := event.Position{Generation: 1, LSN: d.next}
	d.next += 0x40
	e := event.Event{ID: event.ID{Source: d.source, Aggregate: "Order", Key: strconv.Itoa(key), Position: pos}, Type: "OrderPlaced", Version: 1,
		Topic: d.topic, Time: epoch.Add(time.Duration(n) * time.Millisecond), Position: pos, Rules: 1, Writer: 1, Data: d.value(make([]byte, 0, 640), key, n)}
	e.Partition = outbox.PartitionOf(e.Key(), partitions)
	d.ends[e.Partition]++
	if e.Seq = d.ends[e.Partition]; d.plain {
		return event.Record{Key: []byte(e.Key()), Value: e.Data, Time: e.Time, Partition: e.Partition}
	}
	return e.Record()
}

// mark tells a watermark that covers all that was told.
func (g *ground) mark(d *told) {
	g.t.Helper()
	last := d.next - 0x40 // where the last commit begins; the mark is where it ends
	d.mark = event.Watermark{Source: d.source, Generation: 1, LSN: last + 0x30, Writer: 1, Time: epoch.Add(time.Duration(last-0x1000000) >> 6 * time.Millisecond),
		Seqs: map[string][]int64{d.topic: append([]int64(nil), d.ends...)}}
	value, err := d.mark.MarshalJSON()
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.cluster.Produce(context.Background(), d.source+".watermarks", 0, []event.Record{{Key: []byte(d.source), Value: value, Time: time.Now()}}); err != nil {
		g.t.Fatal(err)
	}
}

// total is how many events lie in the topic.
func (d *told) total() int64 {
	var n int64
	for _, e := range d.ends {
		n += e
	}
	return n
}
