package proof

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"

	"banyan/event"
)

// Topics is what the proof reads of Kafka; *bus.Cluster gives it.
type Topics interface {
	// Partitions gives the number of partitions of a topic, 0 where there is
	// no such topic.
	Partitions(ctx context.Context, topic string) (int, error)
	// Ends gives the first offset of a partition and the one its next record
	// will get.
	Ends(ctx context.Context, topic string, partition int) (first, next int64, err error)
	// Read yields the records from offset from to until (exclusive), in
	// order. It ends after the first error.
	Read(ctx context.Context, topic string, partition int, from, until int64) iter.Seq2[event.Record, error]
}

// parallel partitions are read at a time.
const parallel = 4

// reach is the longest jump in a sequence that is still taken for a gap. A
// number beyond it was written by nobody of ours.
const reach = 1 << 32

// ledger reads topics, checks that nothing is missing, doubled or foreign in
// them, and puts every event, once, on the shelf.
type ledger struct {
	topics Topics
	source string
	dir    string
	shelf  *shelf
	report *collector
	seed   maphash.Seed
	// late is true once a snapshot of the source was taken: what is read from
	// then on may have committed after it.
	late bool

	names []string // of topics
	parts []*partition
}

// partition is one partition of one topic, read so far.
type partition struct {
	topic  int
	number int
	next   int64 // offset
	end    int64 // offset up to which it is to be read
	last   int64 // highest seq seen
	prints *prints

	events, repeats int64 // since they were last given to the report

	buf   []byte
	canon []byte
}

// open finds the partitions of the topics. A topic that does not exist has
// none; that is for the comparison to find out.
func (l *ledger) open(ctx context.Context, topics []string) error {
	l.seed = maphash.MakeSeed()
	for _, t := range topics {
		n, err := l.topics.Partitions(ctx, t)
		if err != nil {
			return fmt.Errorf("ask for topic %s: %w", t, err)
		}
		l.names = append(l.names, t)
		l.report.topic(t, n)
		for p := range n {
			pr, err := newPrints(l.dir)
			if err != nil {
				return err
			}
			part := &partition{topic: len(l.names) - 1, number: p, prints: pr}
			l.parts = append(l.parts, part)
			first, _, err := l.topics.Ends(ctx, t, p)
			if err != nil {
				return fmt.Errorf("ask for topic %s, partition %d: %w", t, p, err)
			}
			part.next = first
		}
	}
	return nil
}

func (l *ledger) close() {
	for _, p := range l.parts {
		p.prints.close()
	}
	l.parts = nil
}

// extent captures the present end of every partition and returns how many
// records there are to read up to it.
func (l *ledger) extent(ctx context.Context) (records int64, err error) {
	for _, p := range l.parts {
		_, next, err := l.topics.Ends(ctx, l.names[p.topic], p.number)
		if err != nil {
			return 0, fmt.Errorf("ask for topic %s, partition %d: %w", l.names[p.topic], p.number, err)
		}
		p.end = next
		records += max(0, next-p.next)
	}
	return records, nil
}

// read reads every partition to the end captured by extent. read may be called
// again after another extent.
func (l *ledger) read(ctx context.Context, progress func(n int64)) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, p := range l.parts {
		if p.next >= p.end {
			continue
		}
		g.Go(func() error {
			var n int64
			for r, err := range l.topics.Read(ctx, l.names[p.topic], p.number, p.next, p.end) {
				if err == nil {
					err = l.take(p, &r)
				}
				if err != nil {
					return fmt.Errorf("read topic %s, partition %d at offset %d: %w", l.names[p.topic], p.number, p.next, err)
				}
				p.next = r.Offset + 1
				if n++; n%4096 == 0 {
					mu.Lock()
					progress(4096)
					mu.Unlock()
				}
			}
			p.next = p.end
			l.report.count(l.names[p.topic], p.events, p.repeats)
			p.events, p.repeats = 0, 0
			mu.Lock()
			defer mu.Unlock()
			progress(n % 4096)
			return nil
		})
	}
	return g.Wait()
}

// take judges one record.
func (l *ledger) take(p *partition, r *event.Record) error {
	topic := l.names[p.topic]
	at := Fault{Topic: topic, Partition: p.number, Offset: r.Offset}
	e, err := event.FromRecord(topic, r)
	if err == nil && e.ID.Source != l.source {
		err = fmt.Errorf("it is of source %q", e.ID.Source)
	}
	if err == nil && e.Seq <= 0 {
		err = fmt.Errorf("its seq is %d", e.Seq)
	}
	if err == nil && e.Seq > p.last+reach {
		err = fmt.Errorf("its seq is %d, out of all proportion", e.Seq)
	}
	if err != nil {
		at.Kind, at.Text = Foreign, err.Error()
		l.report.fault(at)
		return nil
	}
	at.Seq = e.Seq
	print := l.print(r)
	if e.Seq <= p.last {
		before, err := p.prints.get(e.Seq)
		if err != nil {
			return err
		}
		switch before {
		case print:
			p.repeats++
			return nil
		case 0:
			// It fills a gap that is reported already, too late for readers,
			// who have passed its seq. The proof goes on as they do.
			p.repeats++
			return nil
		}
		at.Event = e.ID.String()
		at.Kind, at.Text = OtherBytes, fmt.Sprintf("another record stands before it under seq %d", e.Seq)
		l.report.fault(at)
		return nil
	}
	if e.Seq > p.last+1 {
		at.Event = e.ID.String()
		at.Kind, at.Text = Gap, seqs(p.last+1, e.Seq-1)+" missing before it"
		at.Count = e.Seq - 1 - p.last
		l.report.fault(at)
	}
	p.last = e.Seq
	if err := p.prints.put(e.Seq, print); err != nil {
		return err
	}
	p.events++
	return l.shelve(p, r, &e)
}

// shelve keeps what the comparison needs of an event.
func (l *ledger) shelve(p *partition, r *event.Record, e *event.Event) error {
	en := entry{Ref: event.Ref{Aggregate: e.ID.Aggregate, Key: e.ID.Key}, id: e.ID.Position, pos: e.Position,
		rules: e.Rules, topic: p.topic, partition: p.number, offset: r.Offset, late: l.late}
	state, err := stateOf(e.Data)
	if err == nil && state != nil {
		en.state, p.canon, err = hashState(state, p.canon)
	}
	if err != nil {
		l.report.fault(Fault{Kind: Foreign, Topic: l.names[p.topic], Partition: p.number, Offset: r.Offset, Seq: e.Seq,
			Event: e.ID.String(), Text: "its value cannot be read: " + err.Error()})
		return nil
	}
	en.gone = state == nil
	p.buf = en.append(p.buf[:0])
	return l.shelf.add(en.Ref, p.buf)
}

// short reports partitions that end before the seq that a watermark names.
func (l *ledger) short(w *event.Watermark) {
	for _, p := range l.parts {
		topic := l.names[p.topic]
		var want int64
		if seqs := w.Seqs[topic]; p.number < len(seqs) {
			want = seqs[p.number]
		}
		if p.last < want {
			l.report.fault(Fault{Kind: Gap, Topic: topic, Partition: p.number, Offset: p.end, Seq: want, Count: want - p.last,
				Text: seqs(p.last+1, want) + " missing at its end, though a watermark says otherwise"})
		}
	}
}

func seqs(from, to int64) string {
	if from == to {
		return fmt.Sprintf("seq %d is", from)
	}
	return fmt.Sprintf("seqs %d to %d are", from, to)
}

// print is a fingerprint of a record's bytes, never 0. It is only compared
// with others of the same run.
func (l *ledger) print(r *event.Record) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	var n [8]byte
	add := func(b []byte) {
		binary.LittleEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	add(r.Key)
	add(r.Value)
	for i := range r.Headers {
		h.WriteString(r.Headers[i].Key)
		h.WriteByte(0)
		add(r.Headers[i].Value)
	}
	return max(h.Sum64(), 1)
}

// entry is what is kept of one event.
type entry struct {
	event.Ref
	id, pos          event.Position
	rules            int
	state            stateHash
	gone, late       bool
	topic, partition int
	offset           int64
}

func (e *entry) append(b []byte) []byte {
	b = appendString(b, e.Aggregate)
	b = appendString(b, e.Key)
	b = appendPosition(b, e.id)
	b = appendPosition(b, e.pos)
	b = binary.AppendUvarint(b, uint64(e.rules))
	b = binary.AppendUvarint(b, uint64(e.topic))
	b = binary.AppendUvarint(b, uint64(e.partition))
	b = binary.AppendUvarint(b, uint64(e.offset))
	var flags byte
	if e.gone {
		flags |= 1
	}
	if e.late {
		flags |= 2
	}
	b = append(b, flags)
	return append(b, e.state[:]...)
}

func (d *decoder) entry() entry {
	var e entry
	e.Aggregate, e.Key = d.string(), d.string()
	e.id, e.pos = d.position(), d.position()
	e.rules, e.topic, e.partition, e.offset = int(d.uvarint()), int(d.uvarint()), int(d.uvarint()), int64(d.uvarint())
	flags := d.bytes(1)[0]
	e.gone, e.late = flags&1 != 0, flags&2 != 0
	copy(e.state[:], d.bytes(len(e.state)))
	return e
}
