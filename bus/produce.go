package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"banyan/event"
)

// MaxRequestBytes is what one batch may take. Brokers refuse 1,048,588 and more
// unless told otherwise.
const MaxRequestBytes = 1_000_000

var batches = sync.Pool{New: func() any { return new([]byte) }}

// Produce appends records to one partition of a topic, in one request that all
// replicas in sync acknowledge, and returns the offset of the first. The
// records must fit into MaxRequestBytes together (see event.Record.Size).
//
// An *Error says by its Kind what the failure leaves behind: after Unknown the
// records may lie in the topic, once, or come to lie there later. Produce
// never sends twice. The first call after a broker was restarted may end so,
// because its connection is dead.
func (c *Cluster) Produce(ctx context.Context, topic string, partition int, records []event.Record) (int64, error) {
	if len(records) == 0 {
		return 0, &Error{Op: "produce to", Topic: topic, Partition: partition, Kind: Permanent, Err: errors.New("no records")}
	}
	buf := batches.Get().(*[]byte)
	b := appendBatch(append((*buf)[:0], 0, 0, 0, 0), records, time.Now())
	// Only an answer says that kafka-go is done with the buffer: after a time
	// out its goroutine may still be writing from it.
	answered := false
	defer func() {
		if answered {
			*buf = b
			batches.Put(buf)
		}
	}()

	if n := len(b) - 4; n > MaxRequestBytes {
		err := error(&TooLarge{Key: string(records[0].Key), Size: n, Limit: MaxRequestBytes})
		if len(records) > 1 {
			err = fmt.Errorf("%d records take %d bytes, more than the %d that one request may have", len(records), n, MaxRequestBytes)
		}
		return 0, &Error{Op: "produce to", Topic: topic, Partition: partition, Kind: Permanent, Err: err}
	}
	// The raw record set carries its own size, which kafka-go does not write.
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))

	within, cancel := context.WithTimeout(ctx, c.request)
	defer cancel()
	res, err := c.client.RawProduce(within, &kafka.RawProduceRequest{
		Addr: c.addr, Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll,
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(b)},
	})
	if err == nil {
		answered = true
		err = res.Error
	}
	if err != nil {
		// Whatever it was, the next call shall not meet the same dead
		// connection or the same old leader.
		if kindOf(err) != Permanent {
			c.forget()
			err = c.reason(ctx, err)
		}
		var timed interface{ Timeout() bool }
		if ctx.Err() == nil && errors.As(err, &timed) && timed.Timeout() && kindOf(err) == Unknown {
			err = fmt.Errorf("no answer within %s: %w", c.request, err)
		}
		return 0, c.failAt(ctx, "produce to", topic, partition, err)
	}
	return res.BaseOffset, nil
}
