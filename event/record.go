package event

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"time"
)

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is an event as it lies on the bus: a key, headers and a value in the
// CloudEvents 1.0 binary mode for Kafka.
type Record struct {
	Key     []byte
	Value   []byte // nil is a tombstone
	Headers []Header
	Time    time.Time // milliseconds on the bus; the zero time stands for now

	// Partition and Offset say where a record that was read lies.
	Partition int
	Offset    int64
}

// Names of the headers, in the order in which Event.Record writes them.
const (
	HeaderSpecVersion = "ce_specversion"
	HeaderID          = "ce_id"
	HeaderType        = "ce_type"
	HeaderSource      = "ce_source"
	HeaderSubject     = "ce_subject"
	HeaderTime        = "ce_time"
	HeaderSchema      = "ce_dataschema"
	HeaderContentType = "content-type"
	HeaderPosition    = "banyan_position"
	HeaderSeq         = "banyan_seq"
	HeaderRules       = "banyan_rules"
	HeaderWriter      = "banyan_writer"
	HeaderCause       = "ce_causationid"
	HeaderTraceParent = "traceparent"
)

// ContentJSON is the content type of an event whose value is plain JSON.
const ContentJSON = "application/json"

// ErrForeign says that a record was not written by Banyan: it lacks our headers
// or they contradict each other.
var ErrForeign = errors.New("not a record of ours")

// Record gives the event's form on the wire. The same stored event gives the
// same bytes, always and in every later release of the same major version:
// readers tell a repeat from a fault by that.
func (e *Event) Record() Record {
	// One buffer holds all header values; the slices are cut once it has
	// stopped growing.
	buf := make([]byte, 0, 320)
	var cuts [14]int
	names := [14]string{HeaderSpecVersion, HeaderID, HeaderType, HeaderSource, HeaderSubject, HeaderTime, HeaderSchema,
		HeaderContentType, HeaderPosition, HeaderSeq, HeaderRules, HeaderWriter}
	n := 0
	cut := func() { cuts[n] = len(buf); n++ }

	buf = append(buf, "1.0"...)
	cut()
	buf = append(buf, e.ID.String()...)
	cut()
	buf = append(buf, e.Type...)
	cut()
	buf = append(buf, e.ID.Source...)
	cut()
	buf = append(buf, e.ID.Aggregate...)
	buf = append(buf, '/')
	buf = append(buf, e.ID.Key...)
	cut()
	buf = e.Time.UTC().AppendFormat(buf, time.RFC3339Nano)
	cut()
	buf = append(buf, "banyan:"...)
	buf = append(buf, e.ID.Source...)
	buf = append(buf, '/')
	buf = append(buf, e.Type...)
	buf = append(buf, '/')
	buf = strconv.AppendInt(buf, int64(e.Version), 10)
	cut()
	buf = append(buf, ContentJSON...)
	cut()
	buf = append(buf, e.Position.String()...)
	cut()
	buf = strconv.AppendInt(buf, e.Seq, 10)
	cut()
	buf = strconv.AppendInt(buf, int64(e.Rules), 10)
	cut()
	buf = strconv.AppendInt(buf, e.Writer, 10)
	cut()
	if e.Cause != "" {
		names[n] = HeaderCause
		buf = append(buf, e.Cause...)
		cut()
	}
	if e.TraceParent != "" {
		names[n] = HeaderTraceParent
		buf = append(buf, e.TraceParent...)
		cut()
	}

	headers := make([]Header, n)
	from := 0
	for i := range headers {
		headers[i] = Header{Key: names[i], Value: buf[from:cuts[i]:cuts[i]]}
		from = cuts[i]
	}
	return Record{
		Key:     []byte(e.ID.Key),
		Value:   e.Data,
		Headers: headers,
		Time:    e.Time,
		// A record that is sent has no offset yet.
		Partition: e.Partition,
	}
}

// Header gives the value of a header. ok is false where the record lacks it.
func (r *Record) Header(key string) (value []byte, ok bool) {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value, true
		}
	}
	return nil, false
}

// Seq gives the record's sequence number; ok is false where it carries none.
func (r *Record) Seq() (seq int64, ok bool) {
	v, ok := r.Header(HeaderSeq)
	if !ok {
		return 0, false
	}
	seq, err := positive(v, 63)
	return seq, err == nil && seq > 0
}

// Size is an upper bound, in bytes, of what the record takes in a batch.
func (r *Record) Size() int {
	n := 40 + len(r.Key) + len(r.Value) // lengths, attributes and deltas
	for i := range r.Headers {
		n += 10 + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// Same reports whether two records carry the same key, headers and value.
// Where they lie and the broker's time do not count.
func (r *Record) Same(o *Record) bool {
	if len(r.Headers) != len(o.Headers) || !bytes.Equal(r.Key, o.Key) || !bytes.Equal(r.Value, o.Value) ||
		(r.Value == nil) != (o.Value == nil) {
		return false
	}
	for i := range r.Headers {
		if r.Headers[i].Key != o.Headers[i].Key || !bytes.Equal(r.Headers[i].Value, o.Headers[i].Value) {
			return false
		}
	}
	return true
}

// FromRecord is the inverse of Event.Record, for the given topic. A tombstone,
// as `.latest` topics have them, gives an event without Data. Errors wrap
// ErrForeign and name the header. Headers that Banyan does not know are left
// aside.
func FromRecord(topic string, r *Record) (Event, error) {
	e := Event{Topic: topic, Partition: r.Partition, Data: r.Value}
	if len(r.Value) == 0 {
		e.Data = nil
	}
	var id, source, subject, schema, spec []byte
	var seen uint
	var err error
	for i := range r.Headers {
		h := &r.Headers[i]
		bit := uint(0)
		switch h.Key {
		case HeaderSpecVersion:
			spec, bit = h.Value, 1
		case HeaderID:
			bit, id = 2, h.Value
			e.ID, err = ParseID(string(h.Value))
		case HeaderType:
			e.Type, bit = intern(h.Value), 4
		case HeaderSource:
			source, bit = h.Value, 8
		case HeaderSubject:
			subject, bit = h.Value, 16
		case HeaderTime:
			bit = 32
			err = e.Time.UnmarshalText(h.Value)
			e.Time = e.Time.UTC()
		case HeaderSchema:
			schema, bit = h.Value, 64
		case HeaderPosition:
			bit = 128
			if at := len(id) - len(h.Value); at > 0 && id[at-1] == '@' && bytes.Equal(id[at:], h.Value) {
				e.Position = e.ID.Position // as for all events but released ones
				break
			}
			e.Position, err = ParsePosition(string(h.Value))
		case HeaderSeq:
			bit = 256
			e.Seq, err = positive(h.Value, 63)
		case HeaderRules:
			bit = 512
			var n int64
			n, err = positive(h.Value, 31)
			e.Rules = int(n)
		case HeaderWriter:
			bit = 1024
			e.Writer, err = positive(h.Value, 63)
		case HeaderCause:
			e.Cause = string(h.Value)
		case HeaderTraceParent:
			e.TraceParent = string(h.Value)
		}
		if err != nil {
			return Event{}, fmt.Errorf("%w: header %s: %w", ErrForeign, h.Key, err)
		}
		if seen&bit != 0 {
			return Event{}, fmt.Errorf("%w: header %s stands there twice", ErrForeign, h.Key)
		}
		seen |= bit
	}
	for i, name := range wantedHeaders {
		if seen&(1<<i) == 0 {
			return Event{}, fmt.Errorf("%w: no header %s", ErrForeign, name)
		}
	}
	if err := e.agree(r, spec, source, subject, schema); err != nil {
		return Event{}, err
	}
	return e, nil
}

// wantedHeaders are those that a record must have.
var wantedHeaders = [...]string{HeaderSpecVersion, HeaderID, HeaderType, HeaderSource, HeaderSubject, HeaderTime, HeaderSchema,
	HeaderPosition, HeaderSeq, HeaderRules, HeaderWriter}

// agree checks the headers that say one thing twice, and sets the version.
func (e *Event) agree(r *Record, spec, source, subject, schema []byte) error {
	if string(spec) != "1.0" {
		return fmt.Errorf("%w: %s is %q, want 1.0", ErrForeign, HeaderSpecVersion, spec)
	}
	if string(source) != e.ID.Source || !joins(subject, e.ID.Aggregate, e.ID.Key) || string(r.Key) != e.ID.Key {
		return fmt.Errorf("%w: id %q, but source %q, subject %q, key %q", ErrForeign, e.ID.String(), source, subject, r.Key)
	}
	head, version := cutLast(schema)
	n, err := positive(version, 31)
	if named, ok := bytes.CutPrefix(head, []byte("banyan:")); !ok || err != nil || !joins(named, e.ID.Source, e.Type) {
		return fmt.Errorf("%w: %s is %q, want banyan:%s/%s/<version>", ErrForeign, HeaderSchema, schema, source, e.Type)
	}
	e.Version = int(n)
	return nil
}

// joins reports whether b is a and c with a slash between.
func joins(b []byte, a, c string) bool {
	return len(b) == len(a)+1+len(c) && string(b[:len(a)]) == a && b[len(a)] == '/' && string(b[len(a)+1:]) == c
}

// cutLast cuts at the last slash.
func cutLast(b []byte) (before, after []byte) {
	if i := bytes.LastIndexByte(b, '/'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return nil, b
}

// names are the strings that come again and again: the types of events.
var names atomic.Pointer[map[string]string]

// maxNames bounds names; what comes beyond is allocated anew each time.
const maxNames = 1000

// intern gives b as a string, the same memory for the same few names.
func intern(b []byte) string {
	known := names.Load()
	if known != nil {
		if s, ok := (*known)[string(b)]; ok {
			return s
		}
		if len(*known) >= maxNames {
			return string(b)
		}
	}
	more := map[string]string{}
	if known != nil {
		maps.Copy(more, *known)
	}
	s := string(b)
	more[s] = s
	names.CompareAndSwap(known, &more) // who loses tries again with the next record
	return s
}

// positive reads a number from 0 of at most so many bits, digits only.
func positive(b []byte, bits int) (int64, error) {
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' || n > (1<<63-10)/10 {
			return 0, notPositive(b)
		}
		n = n*10 + uint64(c-'0')
	}
	if len(b) == 0 || n >= 1<<bits {
		return 0, notPositive(b)
	}
	return int64(n), nil
}

func notPositive(b []byte) error { return fmt.Errorf("%q is not a number from 0", b) }
