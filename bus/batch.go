package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/compress"

	"banyan/event"
)

// The record batch of Kafka's message format 2. All numbers are big endian;
// inside a record they are zigzag varints.
const (
	batchLength     = 8  // int32, of what follows it
	batchMagic      = 16 // int8, 2
	batchCRC        = 17 // uint32, Castagnoli, of what follows it
	batchAttributes = 21 // int16
	batchLastDelta  = 23 // int32, offset of the last record, less the first's, as it was before any compaction
	batchFirstTime  = 27 // int64, milliseconds
	batchMaxTime    = 35 // int64
	batchProducer   = 43 // int64 id, int16 epoch, int32 sequence: -1 each, we do not use them
	batchCount      = 57 // int32
	batchHeader     = 61

	attributeCompression = 0x07
	attributeLogTime     = 0x08 // the broker's clock, in batchMaxTime
	attributeControl     = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendBatch appends one batch that holds the records. now stands for the
// time of records that have none.
func appendBatch(b []byte, records []event.Record, now time.Time) []byte {
	start := len(b)
	b = append(b, make([]byte, batchHeader)...)
	milli := func(r *event.Record) int64 {
		if r.Time.IsZero() {
			return now.UnixMilli()
		}
		return r.Time.UnixMilli()
	}
	first := milli(&records[0])
	latest := first
	var body []byte
	for i := range records {
		r := &records[i]
		at := milli(r)
		latest = max(latest, at)
		body = append(body[:0], 0) // attributes
		body = binary.AppendVarint(body, at-first)
		body = binary.AppendVarint(body, int64(i))
		body = appendBytes(body, r.Key)
		body = binary.AppendVarint(body, lengthOf(r.Value))
		tail := headerSize(r.Headers)
		// The value goes straight into the batch: it is most of the record.
		b = binary.AppendVarint(b, int64(len(body)+len(r.Value)+tail))
		b = append(b, body...)
		b = append(b, r.Value...)
		b = binary.AppendVarint(b, int64(len(r.Headers)))
		for _, h := range r.Headers {
			b = binary.AppendVarint(b, int64(len(h.Key)))
			b = append(b, h.Key...)
			b = appendBytes(b, h.Value)
		}
	}
	be := binary.BigEndian
	h := b[start:]
	be.PutUint32(h[batchLength:], uint32(len(h)-batchLength-4))
	be.PutUint32(h[12:], ^uint32(0)) // leader epoch: the broker's
	h[batchMagic] = 2
	be.PutUint32(h[batchLastDelta:], uint32(len(records)-1))
	be.PutUint64(h[batchFirstTime:], uint64(first))
	be.PutUint64(h[batchMaxTime:], uint64(latest))
	for i := batchProducer; i < batchCount; i++ {
		h[i] = 0xff
	}
	be.PutUint32(h[batchCount:], uint32(len(records)))
	be.PutUint32(h[batchCRC:], crc32.Checksum(h[batchAttributes:], castagnoli))
	return b
}

func lengthOf(v []byte) int64 {
	if v == nil {
		return -1
	}
	return int64(len(v))
}

func appendBytes(b, v []byte) []byte {
	b = binary.AppendVarint(b, lengthOf(v))
	return append(b, v...)
}

func varintSize(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func headerSize(headers []event.Header) int {
	n := varintSize(int64(len(headers)))
	for _, h := range headers {
		n += varintSize(int64(len(h.Key))) + len(h.Key) + varintSize(lengthOf(h.Value)) + len(h.Value)
	}
	return n
}

var errBatch = errors.New("the record batch is damaged")

// readBatches gives the records in b, which is what a fetch returned, with an
// offset of at least from, and the offset to go on from. A last batch that was
// cut off by the size of the response is left for the next fetch. Control
// batches, which transactions leave, are passed over. The records share b.
func readBatches(b []byte, partition int, from int64, records []event.Record) ([]event.Record, int64, error) {
	be := binary.BigEndian
	d := decoder{partition: partition, records: slices.Grow(records, countRecords(b))}
	for len(b) >= batchLength+4 {
		n := int(int32(be.Uint32(b[batchLength:]))) + batchLength + 4
		if n < batchLength+4 {
			return d.records, from, errBatch
		}
		if n > len(b) {
			break
		}
		batch := b[:n]
		b = b[n:]
		if n <= batchMagic || batch[batchMagic] != 2 {
			return d.records, from, fmt.Errorf("%w: a message format older than 2, which only a Kafka before 0.11 writes", errBatch)
		}
		if n < batchHeader {
			return d.records, from, errBatch
		}
		if crc32.Checksum(batch[batchAttributes:], castagnoli) != be.Uint32(batch[batchCRC:]) {
			return d.records, from, fmt.Errorf("%w: its checksum differs", errBatch)
		}
		base := int64(be.Uint64(batch))
		last := base + int64(int32(be.Uint32(batch[batchLastDelta:])))
		if last < from {
			continue
		}
		if be.Uint16(batch[batchAttributes:])&attributeControl == 0 {
			if err := d.batch(batch, base, from); err != nil {
				return d.records, from, err
			}
		}
		// Not the last record's offset but the batch's: compaction takes
		// records away and leaves the batch its range.
		from = last + 1
	}
	return d.records, from, nil
}

// countRecords says how many records the batches in b claim to hold, or how
// many there is room for where they claim more.
func countRecords(b []byte) int {
	const smallest = 7 // bytes of a record that holds nothing
	be := binary.BigEndian
	room, count := len(b)/smallest, 0
	for len(b) >= batchHeader {
		count += int(min(be.Uint32(b[batchCount:]), uint32(room)))
		n := int(int32(be.Uint32(b[batchLength:]))) + batchLength + 4
		if n < batchHeader || n > len(b) {
			break
		}
		b = b[n:]
	}
	return min(count, room)
}

// decoder reads the records of the batches of one fetch.
type decoder struct {
	partition int
	records   []event.Record

	b     []byte // of the batch
	at    int    // in b
	bad   bool
	stamp time.Time      // the broker's, which all records of the batch have; zero where they have their own
	free  []event.Header // room for headers, shared by many records
	last  []event.Header // of the record before: the next one mostly has the same names
}

// batch appends the records of a batch from offset from on.
func (d *decoder) batch(batch []byte, base, from int64) error {
	be := binary.BigEndian
	attributes := be.Uint16(batch[batchAttributes:])
	body := batch[batchHeader:]
	if code := compress.Compression(attributes & attributeCompression); code != 0 {
		codec := code.Codec()
		if codec == nil {
			return fmt.Errorf("%w: compression %d is unknown", errBatch, code)
		}
		r := codec.NewReader(bytes.NewReader(body))
		plain, err := io.ReadAll(r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("%w: decompress: %w", errBatch, err)
		}
		body = plain
	}
	first := int64(be.Uint64(batch[batchFirstTime:]))
	d.stamp = time.Time{}
	if attributes&attributeLogTime != 0 {
		d.stamp = time.UnixMilli(int64(be.Uint64(batch[batchMaxTime:]))).UTC()
	}
	d.b, d.at = body, 0
	for left := int(int32(be.Uint32(batch[batchCount:]))); left > 0; left-- {
		if d.record(base, first, from, left); d.bad {
			return errBatch
		}
	}
	return nil
}

func (d *decoder) varint() int64 {
	if d.at < len(d.b) && d.b[d.at] < 0x80 { // most are that small
		v := int64(d.b[d.at])
		d.at++
		return v>>1 ^ -(v & 1)
	}
	v, n := binary.Varint(d.b[d.at:])
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.at += n
	return v
}

func (d *decoder) take(n int64) []byte {
	if n < 0 {
		return nil
	}
	if d.bad || n > int64(len(d.b)-d.at) {
		d.bad = true
		return nil
	}
	end := d.at + int(n)
	v := d.b[d.at:end:end]
	d.at = end
	return v
}

// record appends the next record, if its offset is at least from. left counts
// those that the batch still has.
func (d *decoder) record(base, first, from int64, left int) {
	d.varint() // length
	d.take(1)  // attributes
	at := first + d.varint()
	offset := base + d.varint()
	key := d.take(d.varint())
	value := d.take(d.varint())
	n := int(d.varint())
	// A header takes two bytes at least.
	if room := (len(d.b) - d.at) / 2; d.bad || n < 0 || n > room {
		d.bad = true
		return
	} else if n > len(d.free) {
		d.free = make([]event.Header, min(n*left, room))
	}
	headers := d.free[:n:n]
	d.free = d.free[n:]
	for i := range headers {
		h := &headers[i]
		name := d.take(d.varint())
		if i < len(d.last) && d.last[i].Key == string(name) {
			h.Key = d.last[i].Key
		} else if known, ok := headerNames[string(name)]; ok {
			h.Key = known
		} else {
			h.Key = string(name)
		}
		h.Value = d.take(d.varint())
	}
	if n == 0 {
		headers = nil
	} else {
		d.last = headers
	}
	if offset < from {
		return
	}
	stamp := d.stamp
	if stamp.IsZero() {
		stamp = time.UnixMilli(at).UTC()
	}
	d.records = append(d.records, event.Record{Key: key, Value: value, Headers: headers, Time: stamp, Partition: d.partition, Offset: offset})
}

// headerNames spares one small string per header and record.
var headerNames = func() map[string]string {
	m := make(map[string]string)
	for _, s := range []string{event.HeaderSpecVersion, event.HeaderID, event.HeaderType, event.HeaderSource, event.HeaderSubject,
		event.HeaderTime, event.HeaderSchema, event.HeaderContentType, event.HeaderPosition, event.HeaderSeq, event.HeaderRules,
		event.HeaderWriter, event.HeaderCause, event.HeaderTraceParent} {
		m[s] = s
	}
	return m
}()
