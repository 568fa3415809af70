package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/event"
	"banyan/internal/randtest"
)

// A topic that was compacted has batches without records and batches without
// their last records. The latest record of each key must come, and the reading
// must end.
func TestReadCompacted(t *testing.T) {
	k, c := start(t)
	ensure(t, c, LatestTopic("t.latest", 1))
	seed := randtest.Seed(t)
	want := fillCompacted(t, c, "t.latest", rand.New(rand.NewPCG(seed, 1)), 200)
	k.Compact()
	checkCompacted(t, c, "t.latest", want)
	if n := k.PartitionInfo("t.latest", 0); n == nil {
		t.Fatal("the topic is gone")
	}
}

// fillCompacted writes batches over few keys, and gives the last value of each.
func fillCompacted(t *testing.T, c *Cluster, topic string, rnd *rand.Rand, n int) map[string]string {
	t.Helper()
	want := make(map[string]string)
	for i := range n {
		records := make([]event.Record, 1+rnd.IntN(20))
		keys := 8
		if i > n/2 {
			keys = 4 // the other keys lie only in old batches
		}
		for j := range records {
			key, value := fmt.Sprintf("k%d", rnd.IntN(keys)), fmt.Sprintf("%d.%d", i, j)
			records[j] = event.Record{Key: []byte(key), Value: []byte(value)}
			want[key] = value
		}
		if _, err := c.Produce(t.Context(), topic, 0, records); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

func checkCompacted(t *testing.T, c *Cluster, topic string, want map[string]string) {
	t.Helper()
	_, next, err := c.Ends(t.Context(), topic, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	last := int64(-1)
	for _, r := range collect(t, c, topic, 0, First, next) {
		if r.Offset <= last {
			t.Fatalf("offset %d after %d", r.Offset, last)
		}
		last = r.Offset
		got[string(r.Key)] = string(r.Value)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

// hollow takes all records with an offset of at least keep out of a batch, as
// a log cleaner does: the batch keeps its range.
func hollow(batch []byte, records []event.Record, keep int) []byte {
	be := binary.BigEndian
	out := appendBatch(nil, append(records[:keep:keep], event.Record{}), time.UnixMilli(1))
	// Take the last, empty, record off again.
	out = out[:len(out)-len(appendBatch(nil, []event.Record{{}}, time.UnixMilli(1)))+batchHeader]
	copy(out, batch[:8])
	be.PutUint32(out[batchLength:], uint32(len(out)-batchLength-4))
	copy(out[batchLastDelta:], batch[batchLastDelta:batchLastDelta+4])
	be.PutUint32(out[batchCount:], uint32(keep))
	be.PutUint32(out[batchCRC:], crc32.Checksum(out[batchAttributes:], castagnoli))
	return out
}

func TestHollowBatches(t *testing.T) {
	records := []event.Record{{Key: []byte("a"), Time: time.UnixMilli(1)}, {Key: []byte("b"), Time: time.UnixMilli(1)}, {Key: []byte("c"), Time: time.UnixMilli(1)}}
	at := func(base int64, b []byte) []byte {
		binary.BigEndian.PutUint64(b, uint64(base))
		return b
	}
	whole := func(base int64) []byte { return at(base, appendBatch(nil, records, time.UnixMilli(1))) }
	var log []byte
	log = append(log, hollow(whole(10), records, 0)...) // empty
	log = append(log, hollow(whole(13), records, 0)...) // empty again: kafka-go's reader panics here
	log = append(log, hollow(whole(16), records, 2)...) // its tail is gone
	control := whole(19)
	control[batchAttributes+1] |= attributeControl
	binary.BigEndian.PutUint32(control[batchCRC:], crc32.Checksum(control[batchAttributes:], castagnoli))
	log = append(log, control...)
	log = append(log, whole(22)...)
	log = append(log, whole(25)[:70]...) // cut off by the size of the response

	for _, c := range []struct {
		from, next int64
		offsets    string
	}{
		{10, 25, "[16 17 22 23 24]"}, {16, 25, "[16 17 22 23 24]"}, {18, 25, "[22 23 24]"}, {24, 25, "[24]"}, {25, 25, "[]"},
	} {
		got, next, err := readBatches(log, 0, c.from, nil)
		var offsets []int64
		for _, r := range got {
			offsets = append(offsets, r.Offset)
		}
		if err != nil || next != c.next || fmt.Sprint(offsets) != c.offsets {
			t.Errorf("from %d: offsets %v, next %d, %v; want %s, %d", c.from, offsets, next, err, c.offsets, c.next)
		}
	}
	// Nothing but an empty batch: the reading goes on behind it.
	if got, next, err := readBatches(hollow(whole(10), records, 0), 0, 11, nil); len(got) != 0 || next != 13 || err != nil {
		t.Error(got, next, err)
	}
	log[batchHeader+200] ^= 1
	if _, _, err := readBatches(log, 0, 10, nil); !errors.Is(err, errBatch) {
		t.Errorf("a flipped bit gives %v", err)
	}
}

// A topic whose times are the broker's has them in the batch, and a batch that
// is damaged stays so: no patience helps.
func TestBrokersTimeAndDamage(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	stamped := appendBatch(nil, sample(3), time.UnixMilli(1))
	stamped[batchAttributes+1] |= attributeLogTime
	binary.BigEndian.PutUint64(stamped[batchMaxTime:], 77)
	binary.BigEndian.PutUint32(stamped[batchCRC:], crc32.Checksum(stamped[batchAttributes:], castagnoli))
	own := appendBatch(nil, []event.Record{{Time: time.UnixMilli(5)}}, time.UnixMilli(1))
	own[7] = 3 // its offset
	got, next, err := readBatches(append(own, stamped...), 0, 2, nil)
	if err != nil || next != 4 || len(got) != 1 || got[0].Time.UnixMilli() != 5 {
		t.Fatal(got, next, err)
	}
	got, next, err = readBatches(append(stamped, own...), 0, 2, nil)
	if err != nil || next != 4 || len(got) != 2 || got[0].Time.UnixMilli() != 77 || got[1].Time.UnixMilli() != 5 {
		t.Fatal(got, next, err)
	}
	stamped[batchHeader+20] ^= 1
	k.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.RecordBatches = 3, stamped
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.Partitions = "t", append(topic.Partitions, p)
		res := req.ResponseKind().(*kmsg.FetchResponse)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	var e *Error
	if err := tail(t, c, "t", 0, 0).ended(t); !errors.As(err, &e) || e.Kind != Permanent || !errors.Is(err, errBatch) {
		t.Error(err)
	}
}

// A broker that announces records and never sends them is not asked for ever.
func TestReadGivesUp(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	if _, err := c.Produce(t.Context(), "t", 0, sample(1)); err != nil {
		t.Fatal(err)
	}
	c.pause = time.Millisecond
	asked := 0
	k.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		asked++
		res := req.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = "t"
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.HighWatermark = 1
		rt.Partitions = append(rt.Partitions, rp)
		res.Topics = append(res.Topics, rt)
		return res, nil, true
	})
	var got error
	for _, err := range c.Read(t.Context(), "t", 0, 0, 1) {
		got = err
	}
	if got == nil || !strings.Contains(got.Error(), "no progress after 20 attempts") || asked != stallLimit {
		t.Fatal(got, asked)
	}
}

func TestFollow(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 3))
	put := func(p, n int) {
		if _, err := c.Produce(t.Context(), "t", p, sample(n)); err != nil {
			t.Fatal(err)
		}
	}
	put(0, 4)
	put(2, 6)
	count := func(opts FollowOptions) string {
		n := make([]int, 3)
		for r, err := range c.Follow(t.Context(), "t", opts) {
			if err != nil {
				t.Fatal(err)
			}
			n[r.Partition]++
		}
		return fmt.Sprint(n)
	}
	if got := count(FollowOptions{From: First, UntilCaughtUp: true}); got != "[4 0 6]" {
		t.Error(got)
	}
	if got := count(FollowOptions{From: Last, UntilCaughtUp: true}); got != "[0 0 0]" {
		t.Error(got)
	}
	if got := count(FollowOptions{From: Last, Offsets: map[int]int64{2: 5}, UntilCaughtUp: true}); got != "[0 0 1]" {
		t.Error(got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	seen, ended := 0, error(nil)
	for r, err := range c.Follow(ctx, "t", FollowOptions{From: First}) {
		if err != nil {
			ended = err
			break
		}
		if seen++; seen == 10 {
			put(1, 1) // arrives while we wait
		}
		if r.Partition == 1 {
			cancel()
		}
	}
	if seen < 11 || !errors.Is(ended, context.Canceled) {
		t.Fatal(seen, ended)
	}
	cancel()
	for _, err := range c.Follow(t.Context(), "t", FollowOptions{Offsets: map[int]int64{3: 0}}) {
		if err == nil || !strings.Contains(err.Error(), "only partitions 0 to 2") {
			t.Fatal(err)
		}
	}
}

func FuzzReadBatches(f *testing.F) {
	f.Add(appendBatch(nil, sample(3), time.UnixMilli(1)), int64(1))
	f.Add(hollow(appendBatch(nil, sample(3), time.UnixMilli(1)), sample(3), 1), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, from int64) {
		if len(b) >= batchHeader { // let most inputs past the checksum
			binary.BigEndian.PutUint32(b[batchCRC:], crc32.Checksum(b[batchAttributes:], castagnoli))
		}
		records, next, err := readBatches(b, 0, from, nil)
		if err == nil && next < from {
			t.Fatalf("from %d back to %d", from, next)
		}
		for _, r := range records {
			if r.Offset < from {
				t.Fatalf("offset %d, asked from %d", r.Offset, from)
			}
		}
	})
}

func BenchmarkProduce(b *testing.B) {
	_, c := start(b, kfake.BlackholeProduce())
	ensure(b, c, BusinessTopic("t", 1))
	records := sample(1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Produce(b.Context(), "t", 0, records); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkRead(b *testing.B) {
	batch := appendBatch(nil, sample(1000), time.UnixMilli(1))
	var records []event.Record
	b.ReportAllocs()
	for b.Loop() {
		records, _, _ = readBatches(batch, 0, 0, records[:0])
		if len(records) != 1000 {
			b.Fatal(len(records))
		}
	}
	b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "events/s")
}
