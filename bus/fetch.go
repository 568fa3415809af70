package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	fetchapi "github.com/segmentio/kafka-go/protocol/fetch"
)

// fetchVersion is the version of the Fetch request that is spoken: Kafka 2.3
// and all later ones know it.
const fetchVersion = 11

// maxResponse guards against a length that no broker means.
const maxResponse = 512 << 20

// fetchRequest asks for the records of one partition. It travels over
// kafka-go's connections, but writes and reads its own bytes.
type fetchRequest struct {
	client    string
	topic     string
	partition int32
	offset    int64
	wait      time.Duration // how long the broker may wait for the first record
	bytes     int32         // how much it may send; at least one batch comes whole
}

// fetchResponse is the answer. records is the raw record set.
type fetchResponse struct {
	code          int16
	highWatermark int64
	logStart      int64
	records       []byte
}

var (
	_ protocol.BrokerMessage = (*fetchRequest)(nil)
	_ protocol.RawExchanger  = (*fetchRequest)(nil)
)

// ApiKey, Broker, Required and RawExchange are how kafka-go's transport knows
// a request: Broker routes it to the partition's leader.
func (r *fetchRequest) ApiKey() protocol.ApiKey { return protocol.Fetch }

func (r *fetchRequest) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	route := fetchapi.Request{Topics: []fetchapi.RequestTopic{{
		Topic: r.topic, Partitions: []fetchapi.RequestPartition{{Partition: r.partition}},
	}}}
	return route.Broker(cluster)
}

func (r *fetchRequest) Required(map[protocol.ApiKey]int16) bool { return true }

func (r *fetchRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if _, err := rw.Write(r.encode()); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxResponse {
		return nil, fmt.Errorf("fetch response of %d bytes: this is no Kafka broker", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(rw, b); err != nil {
		return nil, err
	}
	return decodeFetch(b)
}

func (r *fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

func (r *fetchRequest) encode() []byte {
	be := binary.BigEndian
	text := func(b []byte, s string) []byte { return append(be.AppendUint16(b, uint16(len(s))), s...) }
	b := make([]byte, 4, 128)
	b = be.AppendUint16(b, uint16(protocol.Fetch))
	b = be.AppendUint16(b, fetchVersion)
	b = be.AppendUint32(b, 1) // correlation id; one request is under way per connection
	b = text(b, r.client)
	b = be.AppendUint32(b, ^uint32(0)) // replica id: a consumer
	b = be.AppendUint32(b, uint32(r.wait.Milliseconds()))
	b = be.AppendUint32(b, 1) // at least one byte
	b = be.AppendUint32(b, uint32(r.bytes))
	b = append(b, 0)                   // read uncommitted: we write no transactions
	b = be.AppendUint32(b, 0)          // session id: none
	b = be.AppendUint32(b, ^uint32(0)) // session epoch: none
	b = be.AppendUint32(b, 1)          // one topic
	b = text(b, r.topic)
	b = be.AppendUint32(b, 1) // one partition
	b = be.AppendUint32(b, uint32(r.partition))
	b = be.AppendUint32(b, ^uint32(0)) // leader epoch: any
	b = be.AppendUint64(b, uint64(r.offset))
	b = be.AppendUint64(b, ^uint64(0)) // log start: only followers know it
	b = be.AppendUint32(b, uint32(r.bytes))
	b = be.AppendUint32(b, 0) // no forgotten topics
	b = text(b, "")           // rack
	be.PutUint32(b, uint32(len(b)-4))
	return b
}

var errFetch = errors.New("the fetch response is damaged")

func decodeFetch(b []byte) (*fetchResponse, error) {
	be := binary.BigEndian
	bad := false
	take := func(n int) []byte {
		if n < 0 || n > len(b) {
			bad = true
			return make([]byte, max(n&0xff, 8))
		}
		v := b[:n:n]
		b = b[n:]
		return v
	}
	i32 := func() int { return int(int32(be.Uint32(take(4)))) }
	i64 := func() int64 { return int64(be.Uint64(take(8))) }

	take(8) // correlation id, throttle time
	res := &fetchResponse{code: int16(be.Uint16(take(2)))}
	take(4) // session
	topics := i32()
	if bad || res.code != 0 || topics == 0 {
		return res, nil
	}
	take(int(be.Uint16(take(2)))) // the topic's name
	if i32() != 1 || topics != 1 {
		return nil, errFetch
	}
	take(4) // the partition's number
	res.code = int16(be.Uint16(take(2)))
	res.highWatermark = i64()
	take(8) // last stable offset
	res.logStart = i64()
	for range max(i32(), 0) { // aborted transactions
		take(16)
		if bad {
			break
		}
	}
	take(4) // preferred replica: we read from the leader
	if n := i32(); n > 0 {
		res.records = take(n)
	}
	if bad {
		return nil, errFetch
	}
	return res, nil
}

// fetch asks once for the records of a partition from offset on.
func (c *Cluster) fetch(ctx context.Context, topic string, partition int, offset int64, wait time.Duration, bytes int32) (*fetchResponse, error) {
	within, cancel := context.WithTimeout(ctx, wait+c.request)
	defer cancel()
	m, err := c.transport.RoundTrip(within, c.addr, &fetchRequest{
		client: c.transport.ClientID, topic: topic, partition: int32(partition), offset: offset, wait: wait, bytes: bytes,
	})
	if err != nil {
		return nil, err
	}
	res := m.(*fetchResponse)
	if res.code != 0 {
		return res, kafka.Error(res.code)
	}
	return res, nil
}
