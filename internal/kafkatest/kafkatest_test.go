package kafkatest_test

import (
	"context"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/internal/kafkatest"
)

func TestBrokerKeepsAddressAndDataOverRestart(t *testing.T) {
	b := kafkatest.New(t)
	keepsData(t, b, func() { b.Restart(t) }, func() { b.Stop(t); b.Start(t) })
}

func TestControlInjectsFaults(t *testing.T) {
	b := kafkatest.New(t)
	b.CreateTopic(t, "orders", 1, nil)
	fault := b.Control().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "orders", Count: -1})
	w := &kafka.Writer{Addr: kafka.TCP(b.Addrs...), Topic: "orders", RequiredAcks: kafka.RequireAll, MaxAttempts: 1, BatchTimeout: time.Millisecond}
	defer w.Close()
	if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err == nil {
		t.Error("the produce under the fault went through")
	}
	if fault.Hits() == 0 {
		t.Error("the fault was not hit")
	}
	fault.Remove()
	if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err != nil {
		t.Errorf("the produce after the fault: %v", err)
	}
	b.Stop(t)
	if b.Control() != nil {
		t.Error("a stopped broker still hands out its cluster")
	}
}

func TestUnknownTopicIsNotCreated(t *testing.T) {
	b := kafkatest.New(t)
	w := &kafka.Writer{Addr: kafka.TCP(b.Addrs...), Topic: "never-made", MaxAttempts: 1, BatchTimeout: time.Millisecond, AllowAutoTopicCreation: true}
	defer w.Close()
	if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err == nil {
		t.Error("a produce to a topic that nobody made went through")
	}
}

// keepsData produces one record before and after each bounce and reads all of
// them back at the end.
func keepsData(t *testing.T, b *kafkatest.Broker, bounces ...func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	addr := b.Addrs[0]
	b.CreateTopic(t, "orders", 1, map[string]string{"retention.ms": "-1"})
	produce(t, ctx, addr)
	for _, bounce := range bounces {
		bounce()
		if b.Addrs[0] != addr {
			t.Fatalf("the address moved from %s to %s", addr, b.Addrs[0])
		}
		produce(t, ctx, addr)
	}
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	c := &kafka.Client{Addr: kafka.TCP(addr), Transport: transport}
	got, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{"orders": {kafka.LastOffsetOf(0), kafka.FirstOffsetOf(0)}}})
	if err != nil {
		t.Fatal(err)
	}
	o := got.Topics["orders"][0]
	if want := int64(1 + len(bounces)); o.FirstOffset != 0 || o.LastOffset != want {
		t.Errorf("offsets %d to %d, want 0 to %d", o.FirstOffset, o.LastOffset, want)
	}
}

func produce(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	transport := &kafka.Transport{} // the default one keeps connections to a broker that went away
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{Addr: kafka.TCP(addr), Topic: "orders", RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond, Transport: transport}
	defer w.Close()
	if err := w.WriteMessages(ctx, kafka.Message{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
}
