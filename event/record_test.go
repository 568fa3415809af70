package event

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sample() []Event {
	at := time.Date(2026, 11, 20, 9, 30, 0, 123456000, time.UTC)
	pos := Position{Generation: 1, LSN: 0x1A2B3C8, Ordinal: 0}
	return []Event{
		{
			ID: ID{"shop", "Order", "1234", pos}, Type: "OrderPlaced", Version: 1, Topic: "shop.orders", Time: at,
			Position: pos, Rules: 3, TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			Data:      []byte(`{"occurredAt":"2026-11-20T09:29:59Z","state":{"id":1234},"changed":["id"]}`),
			Partition: 4, Seq: 17, Writer: 2,
		},
		{ // released from a parked chain, whole second, odd key, caused by another
			ID:   ID{"shop", "Stock", JoinKey("A/1", "ä,b"), Position{Generation: 1, LSN: 0xFFFFFFFF00000010, Ordinal: 7}},
			Type: "StockChanged", Version: 12, Topic: "shop.stock", Time: at.Truncate(time.Second).In(time.FixedZone("x", 3600)),
			Position: Position{Generation: 2, LSN: 0x20, Ordinal: 1}, Rules: 4, Cause: "shop/Order/1234@1:0/1A2B3C8.0",
			Data: []byte(`{"state":null,"last":{"n":1}}`), Partition: 0, Seq: 1, Writer: 1,
		},
		{ // recorded by a snapshot
			ID:   ID{"shop", "Customer", "", Position{Generation: 1, LSN: 0x10, Snapshot: 2}},
			Type: "CustomerRecorded", Version: 1, Topic: "shop.customers", Time: at,
			Position: Position{Generation: 1, LSN: 0x10, Snapshot: 2}, Rules: 1,
			Data: []byte(`{"state":{}}`), Partition: 5, Seq: 9007199254740993, Writer: 10,
		},
	}
}

// The bytes of a stored event must never change: a repeat that differs from
// what lies in the topic is taken for somebody else's record.
func TestRecordBytes(t *testing.T) {
	var b strings.Builder
	for _, e := range sample() {
		r := e.Record()
		fmt.Fprintf(&b, "key: %q\ntime: %s\n", r.Key, r.Time.UTC().Format(time.RFC3339Nano))
		for _, h := range r.Headers {
			fmt.Fprintf(&b, "%s: %s\n", h.Key, h.Value)
		}
		fmt.Fprintf(&b, "value: %s\n\n", r.Value)
	}
	const golden = "testdata/record.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Fatalf("the wire form has changed (-want +got):\n%s", d)
	}
}

func TestRecordThereAndBack(t *testing.T) {
	for _, want := range sample() {
		r := want.Record()
		got, err := FromRecord(want.Topic, &r)
		if err != nil {
			t.Fatal(err)
		}
		want.Time = want.Time.UTC()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		again := got.Record()
		if !again.Same(&r) {
			t.Errorf("%s: encoded again it is another record", want.ID.String())
		}
		if seq, ok := r.Seq(); !ok || seq != want.Seq {
			t.Errorf("Seq() = %d, %v; want %d", seq, ok, want.Seq)
		}
	}
}

func TestForeignRecords(t *testing.T) {
	set := func(key, value string) func(*Record) {
		return func(r *Record) {
			for i := range r.Headers {
				if r.Headers[i].Key == key {
					r.Headers[i].Value = []byte(value)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*Record)
		want   string
	}{
		"no headers":    {func(r *Record) { r.Headers = nil }, "no header ce_specversion"},
		"no writer":     {func(r *Record) { r.Headers = r.Headers[:11] }, "no header banyan_writer"},
		"twice":         {func(r *Record) { r.Headers = append(r.Headers, r.Headers[1]) }, "ce_id stands there twice"},
		"other key":     {func(r *Record) { r.Key = []byte("9") }, `key "9"`},
		"bad id":        {set(HeaderID, "1234"), "header ce_id"},
		"bad seq":       {set(HeaderSeq, "-1"), "header banyan_seq"},
		"bad time":      {set(HeaderTime, "yesterday"), "header ce_time"},
		"other schema":  {set(HeaderSchema, "banyan:shop/OrderPaid/1"), "ce_dataschema"},
		"other source":  {set(HeaderSource, "store"), `source "store"`},
		"other subject": {set(HeaderSubject, "Order/1"), `subject "Order/1"`},
		"other spec":    {set(HeaderSpecVersion, "0.3"), "want 1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := sample()[0].Record()
			c.change(&r)
			_, err := FromRecord("shop.orders", &r)
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want ErrForeign that says %q", err, c.want)
			}
		})
	}
}

func FuzzFromRecord(f *testing.F) {
	f.Add("shop/Order/1234@1:0/1A2B3C8.0", "17", "1:0/1.0", "banyan:shop/OrderPlaced/1", "2026-11-20T09:30:00Z")
	f.Fuzz(func(t *testing.T, id, seq, pos, schema, at string) {
		r := sample()[0].Record()
		for key, v := range map[string]string{HeaderID: id, HeaderSeq: seq, HeaderPosition: pos, HeaderSchema: schema, HeaderTime: at} {
			for i := range r.Headers {
				if r.Headers[i].Key == key {
					r.Headers[i].Value = []byte(v)
				}
			}
		}
		if e, err := FromRecord("t", &r); err == nil {
			back := e.Record()
			if again, err := FromRecord("t", &back); err != nil || !cmp.Equal(e, again) {
				t.Fatalf("read, written and read again: %+v, %v; want %+v", again, err, e)
			}
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	e := sample()[0]
	b.ReportAllocs()
	for b.Loop() {
		e.Record()
	}
}

func BenchmarkFromRecord(b *testing.B) {
	e := sample()[0]
	r := e.Record()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromRecord("shop.orders", &r); err != nil {
			b.Fatal(err)
		}
	}
}
