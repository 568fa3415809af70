package bus

import (
	"context"
	"iter"
	"syscall"
	"testing"
	"time"

	kafka "github.com/segmentio/kafka-go"

	"banyan/event"
)

// The rate at which a partition is read and decoded, against what kafka-go's
// own readers do with the same topic. All of them share the process with the
// broker (kfake), so the CPU-seconds hold its work too, the same for each.

const (
	benchRecords = 200_000
	benchBatch   = 500
)

func benchTopic(b *testing.B) *Cluster {
	_, c := start(b)
	ensure(b, c, BusinessTopic("t", 1))
	records := sample(benchBatch)
	for range benchRecords / benchBatch {
		if _, err := c.Produce(b.Context(), "t", 0, records); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure reads the topic once per round. read calls got for each record, with
// its value and its headers decoded, and ends when that says so.
func measure(b *testing.B, read func(c *Cluster, got func(value []byte, headers int) bool)) {
	c := benchTopic(b)
	b.ReportAllocs()
	b.ResetTimer()
	before, n := cpu(b), 0
	for range b.N {
		left, bytes := benchRecords, 0
		read(c, func(value []byte, headers int) bool {
			bytes += len(value)
			if headers != 12 {
				b.Fatalf("%d headers", headers)
			}
			left--
			n++
			return left > 0
		})
		if left != 0 || bytes < 200*benchRecords {
			b.Fatal(left, bytes)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(n)/(cpu(b)-before).Seconds(), "records/cpu-s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkReadBus(b *testing.B) {
	measure(b, func(c *Cluster, got func([]byte, int) bool) {
		for r, err := range c.Read(b.Context(), "t", 0, First, benchRecords) {
			if err != nil {
				b.Fatal(err)
			}
			got(r.Value, len(r.Headers))
		}
	})
}

func BenchmarkTailBus(b *testing.B) {
	measure(b, func(c *Cluster, got func([]byte, int) bool) {
		tailAll(b, c.Tail(b.Context(), "t", 0, First, nil), got)
	})
}

func tailAll(b *testing.B, tail iter.Seq2[[]event.Record, error], got func([]byte, int) bool) {
	for records, err := range tail {
		if err != nil {
			b.Fatal(err)
		}
		for i := range records {
			if !got(records[i].Value, len(records[i].Headers)) {
				return
			}
		}
	}
}

func BenchmarkReadKafkaGoReader(b *testing.B) {
	measure(b, func(c *Cluster, got func([]byte, int) bool) {
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: c.brokers, Topic: "t", MinBytes: 1, MaxBytes: fetchBytes, QueueCapacity: 10_000, MaxWait: fetchWait})
		defer r.Close()
		for {
			m, err := r.ReadMessage(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if !got(m.Value, len(m.Headers)) {
				return
			}
		}
	})
}

func BenchmarkReadKafkaGoConn(b *testing.B) {
	measure(b, func(c *Cluster, got func([]byte, int) bool) {
		conn, err := kafka.DialLeader(b.Context(), "tcp", c.brokers[0], "t", 0)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		for {
			batch := conn.ReadBatchWith(kafka.ReadBatchConfig{MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait})
			for {
				m, err := batch.ReadMessage()
				if err != nil {
					break // the end of what came
				}
				if !got(m.Value, len(m.Headers)) {
					return
				}
			}
			if err := batch.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReadKafkaGoFetch(b *testing.B) {
	measure(b, func(c *Cluster, got func([]byte, int) bool) {
		for next := int64(0); ; {
			res, err := c.client.Fetch(context.Background(), &kafka.FetchRequest{Topic: "t", Offset: next, MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait})
			if err != nil || res.Error != nil {
				b.Fatal(err, res)
			}
			for {
				r, err := res.Records.ReadRecord()
				if err != nil {
					break // the end of what came
				}
				value, err := kafka.ReadAll(r.Value)
				if err != nil {
					b.Fatal(err)
				}
				next = r.Offset + 1
				if !got(value, len(r.Headers)) {
					return
				}
			}
		}
	})
}
