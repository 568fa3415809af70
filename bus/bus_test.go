package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/event"
	"banyan/internal/kafkatest"
)

// start runs a broker and gives it, kfake's handle for faults and a connection.
func start(t testing.TB, extra ...kfake.Opt) (*kfake.Cluster, *Cluster) {
	t.Helper()
	b, c := startBroker(t, Config{}, extra...)
	return b.Control(), c
}

func startBroker(t testing.TB, cfg Config, extra ...kfake.Opt) (*kafkatest.Broker, *Cluster) {
	t.Helper()
	b := kafkatest.New(t, kafkatest.Options{Extra: extra})
	cfg.Brokers, cfg.RequestTimeout = b.Addrs, 5*time.Second
	c, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return b, c
}

func ensure(t testing.TB, c *Cluster, specs ...TopicSpec) {
	t.Helper()
	if warnings, err := c.EnsureTopics(t.Context(), specs); err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
}

func sample(n int) []event.Record {
	records := make([]event.Record, n)
	for i := range records {
		e := event.Event{
			ID:   event.ID{Source: "shop", Aggregate: "Order", Key: fmt.Sprint(i % 7), Position: event.Position{Generation: 1, LSN: uint64(i)}},
			Type: "OrderPlaced", Version: 1, Topic: "t", Time: time.Date(2026, 11, 20, 9, 0, 0, i*1000, time.UTC),
			Position: event.Position{Generation: 1, LSN: uint64(i)}, Rules: 1, Seq: int64(i + 1), Writer: 1,
			Data: fmt.Appendf(nil, `{"state":{"id":%d,"text":%q}}`, i, strings.Repeat("x", 200)),
		}
		records[i] = e.Record()
	}
	return records
}

func collect(t testing.TB, c *Cluster, topic string, partition int, from, until int64) []event.Record {
	t.Helper()
	var got []event.Record
	for r, err := range c.Read(t.Context(), topic, partition, from, until) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	return got
}

// diff says where records that were read are not those that were sent.
func diff(want, got []event.Record) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !want[i].Same(&got[i]) || !want[i].Time.Truncate(time.Millisecond).Equal(got[i].Time) {
			return cmp.Diff(want[i], got[i])
		}
	}
	return ""
}

func TestProduceAndRead(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 6))
	want := sample(2500)
	want = append(want, event.Record{Key: []byte("gone"), Time: time.UnixMilli(5)}, event.Record{Value: []byte{}, Time: time.UnixMilli(6)})
	for i, cut := range [][2]int{{0, 1}, {1, 1000}, {1000, len(want)}} {
		base, err := c.Produce(t.Context(), "t", 3, want[cut[0]:cut[1]])
		if err != nil || base != int64(cut[0]) {
			t.Fatalf("request %d: base %d, %v; want %d", i, base, err, cut[0])
		}
	}
	first, next, err := c.Ends(t.Context(), "t", 3)
	if err != nil || first != 0 || next != int64(len(want)) {
		t.Fatal(first, next, err)
	}
	got := collect(t, c, "t", 3, First, next)
	if d := diff(want, got); d != "" {
		t.Fatal(d)
	}
	for i, r := range got {
		if r.Offset != int64(i) || r.Partition != 3 {
			t.Fatalf("record %d lies at partition %d, offset %d", i, r.Partition, r.Offset)
		}
	}
	if got := collect(t, c, "t", 3, 1234, 1240); len(got) != 6 || got[0].Offset != 1234 {
		t.Fatalf("read %d records from offset %d", len(got), got[0].Offset)
	}
	all, err := c.AllEnds(t.Context(), "t")
	if d := cmp.Diff([]Range{{}, {}, {}, {0, next}, {}, {}}, all); d != "" || err != nil {
		t.Fatal(d, err)
	}
}

// What kafka-go's own client writes and reads agrees with our batches, in every
// compression.
func TestBatchesOfKafkaGo(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	want := sample(20)
	for _, z := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		var rs []kafka.Record
		for _, r := range want {
			var hs []kafka.Header
			for _, h := range r.Headers {
				hs = append(hs, kafka.Header{Key: h.Key, Value: h.Value})
			}
			rs = append(rs, kafka.Record{Time: r.Time, Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value), Headers: hs})
		}
		res, err := c.client.Produce(t.Context(), &kafka.ProduceRequest{Topic: "t", RequiredAcks: kafka.RequireAll, Compression: z, Records: kafka.NewRecordReader(rs...)})
		if err != nil || res.Error != nil {
			t.Fatal(err, res)
		}
		if d := diff(want, collect(t, c, "t", 0, res.BaseOffset, res.BaseOffset+20)); d != "" {
			t.Fatal(z, d)
		}
	}
	base, err := c.Produce(t.Context(), "t", 0, want)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.client.Fetch(t.Context(), &kafka.FetchRequest{Topic: "t", Offset: base, MaxBytes: 1 << 20, MaxWait: time.Second})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	for i := range want {
		r, err := res.Records.ReadRecord()
		if err != nil {
			t.Fatal(err)
		}
		value, _ := protocol.ReadAll(r.Value)
		if string(value) != string(want[i].Value) || r.Offset != base+int64(i) || !r.Time.Equal(want[i].Time.Truncate(time.Millisecond)) {
			t.Fatalf("kafka-go reads %q at %d, %s", value, r.Offset, r.Time)
		}
	}
}

func TestDialSaysWhoDoesNotAnswer(t *testing.T) {
	const gone = "127.0.0.1:1023" // a port that the system gives to nobody who asks for any
	_, err := Dial(t.Context(), Config{Brokers: []string{gone, gone}, RequestTimeout: time.Second})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnreachable) || e.Permanent() || !strings.Contains(err.Error(), gone+", "+gone) {
		t.Fatal(err)
	}
	for _, bad := range [][]string{nil, {"localhost"}} {
		if _, err = Dial(t.Context(), Config{Brokers: bad}); !errors.As(err, &e) || !e.Permanent() {
			t.Fatal(err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	r := event.Record{Key: []byte("1234"), Value: make([]byte, MaxRequestBytes)}
	_, err := c.Produce(t.Context(), "t", 0, []event.Record{r})
	var large *TooLarge
	if !errors.As(err, &large) || large.Key != "1234" || kindOf(err) != Permanent {
		t.Fatal(err)
	}
	// Size is an upper bound: what it lets pass fits.
	r.Value = r.Value[:MaxRequestBytes-r.Size()+len(r.Value)-batchHeader]
	if _, err := c.Produce(t.Context(), "t", 0, []event.Record{r}); err != nil {
		t.Fatal(err)
	}
}

func TestEnsureTopics(t *testing.T) {
	k, c := start(t)
	specs := []TopicSpec{BusinessTopic("t", 6), LatestTopic("t.latest", 6), WatermarkTopic("shop.watermarks")}
	ensure(t, c, specs...)
	ensure(t, c, specs...)
	topics, err := c.Topics(t.Context())
	want := []Topic{{"shop.watermarks", 1, 1}, {"t", 6, 1}, {"t.latest", 6, 1}}
	if d := cmp.Diff(want, topics); d != "" || err != nil {
		t.Fatal(d, err)
	}
	if v := k.TopicInfo("t.latest").Configs["min.compaction.lag.ms"]; v == nil || *v != "3600000" {
		t.Fatal("min.compaction.lag.ms is not set")
	}

	if err := k.CreateTopic("old", 6, map[string]string{"retention.ms": "604800000"}); err != nil {
		t.Fatal(err)
	}
	warnings, err := c.EnsureTopics(t.Context(), []TopicSpec{BusinessTopic("old", 6)})
	if d := cmp.Diff([]string{"topic old: retention.ms is 604800000, should be -1"}, warnings); d != "" || err != nil {
		t.Fatal(d, err)
	}

	_, err = c.EnsureTopics(t.Context(), []TopicSpec{BusinessTopic("old", 3), BusinessTopic("t", 7), BusinessTopic("new", 6)})
	var mismatch *Mismatch
	if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), "old has 6, needs 3; t has 6, needs 7") {
		t.Fatal(err)
	}
	if k.TopicInfo("new") != nil {
		t.Fatal("a topic was made although another one does not fit")
	}

	if err := c.DeleteTopics(t.Context(), "t", "t.latest", "nosuch"); err != nil {
		t.Fatal(err)
	}
	if topics, err := c.Topics(t.Context()); err != nil || len(topics) != 2 {
		t.Fatal(topics, err)
	}
}

func TestBrokerRestart(t *testing.T) {
	b, c := startBroker(t, Config{})
	ensure(t, c, BusinessTopic("t", 1))
	want := sample(10)
	if _, err := c.Produce(t.Context(), "t", 0, want[:5]); err != nil {
		t.Fatal(err)
	}
	b.Stop(t)

	_, err := c.Produce(t.Context(), "t", 0, want[5:])
	if err == nil || kindOf(err) == Permanent {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}

	b.Start(t)
	// Reads are repeated inside; one produce at most meets a dead connection.
	if _, next, err := c.Ends(t.Context(), "t", 0); err != nil || next != 5 {
		t.Fatal(next, err)
	}
	if base, err := c.Produce(t.Context(), "t", 0, want[5:]); err != nil || base != 5 {
		t.Fatal(base, err)
	}
	if d := diff(want, collect(t, c, "t", 0, 0, 10)); d != "" {
		t.Fatal(d)
	}
}

// A broker that has appended the records and whose answer is lost: the error
// is Unknown, and they lie there once.
func TestLostAnswer(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut})
	_, err := c.Produce(t.Context(), "t", 0, sample(3))
	var e *Error
	if !errors.As(err, &e) || e.Kind != Unknown {
		t.Fatal(err)
	}
	if _, next, err := c.Ends(t.Context(), "t", 0); err != nil || next != 3 {
		t.Fatal(next, err)
	}
	// One that never answers.
	c.request = 100 * time.Millisecond
	k.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	_, err = c.Produce(t.Context(), "t", 0, sample(3))
	if !errors.As(err, &e) || e.Kind != Unknown || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Fatal(err)
	}
	// The caller's own end is not the broker's failure.
	ctx, cancel := context.WithCancelCause(t.Context())
	own := errors.New("told to stop")
	cancel(own)
	if _, err = c.Produce(ctx, "t", 0, sample(3)); !errors.Is(err, own) || errors.As(err, &e) {
		t.Fatal(err)
	}
}

func TestErrorKinds(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	for _, x := range []struct {
		err  *kerr.Error
		want Kind
	}{
		{kerr.NotLeaderForPartition, Transient}, {kerr.NotEnoughReplicas, Transient}, {kerr.UnknownTopicOrPartition, Transient},
		{kerr.NotEnoughReplicasAfterAppend, Unknown}, {kerr.UnknownServerError, Unknown},
		{kerr.MessageTooLarge, Permanent}, {kerr.TopicAuthorizationFailed, Permanent}, {kerr.InvalidRecord, Permanent},
	} {
		k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: x.err})
		_, err := c.Produce(t.Context(), "t", 0, sample(1))
		var e *Error
		if !errors.As(err, &e) || e.Kind != x.want {
			t.Errorf("%s: %v", x.err.Message, err)
		}
	}
	var e *Error
	if _, err := c.Produce(t.Context(), "nosuch", 0, sample(1)); !errors.As(err, &e) || e.Kind != Transient {
		t.Error(err)
	}
}

func TestOutOfRange(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	if _, err := c.Produce(t.Context(), "t", 0, sample(4)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Produce(t.Context(), "t", 0, sample(4)); err != nil {
		t.Fatal(err)
	}
	if err := k.DeleteRecords("t", 0, 4); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, 9} {
		var got error
		for _, err := range c.Read(t.Context(), "t", 0, from, 12) {
			got = err
		}
		var out *OutOfRange
		if want := (OutOfRange{Offset: from, First: 4, Next: 8}); !errors.As(got, &out) || *out != want {
			t.Fatalf("from %d: %v", from, got)
		}
	}
	if got := collect(t, c, "t", 0, First, 8); len(got) != 4 {
		t.Fatal(len(got))
	}
}
