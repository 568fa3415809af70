package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"

	"banyan/event"
	"banyan/wal"
)

// row is one aggregate as its rows tell it, under each version of the rules
// that may be asked for.
type row struct {
	event.Ref
	point    int  // index of the snapshot that it was read under
	main     bool // read as the present rules read it
	tellings []telling
}

// telling is what one version of the rules makes of the rows.
type telling struct {
	rules int
	// mute is true where the rules cannot tell these rows.
	mute  bool
	state stateHash
	marks []mark
	// json is only kept where values are asked for.
	json []byte
}

// mark stands for one member of a state: enough to name the members that
// differ, and nothing that anybody could read.
type mark struct{ name, value uint32 }

func markOf(b []byte) uint32 {
	h := fnv.New32a()
	h.Write(b)
	return h.Sum32()
}

func marksOf(canon []byte) []mark {
	var ms []mark
	for _, f := range fields(canon) {
		ms = append(ms, mark{markOf([]byte(f.name)), markOf(f.value)})
	}
	return ms
}

func (r *row) append(b []byte) []byte {
	b = appendString(b, r.Aggregate)
	b = appendString(b, r.Key)
	b = binary.AppendUvarint(b, uint64(r.point))
	b = append(b, bit(r.main))
	b = binary.AppendUvarint(b, uint64(len(r.tellings)))
	for i := range r.tellings {
		t := &r.tellings[i]
		b = binary.AppendUvarint(b, uint64(t.rules))
		b = append(b, bit(t.mute))
		b = append(b, t.state[:]...)
		b = binary.AppendUvarint(b, uint64(len(t.marks)))
		for _, m := range t.marks {
			b = binary.LittleEndian.AppendUint32(b, m.name)
			b = binary.LittleEndian.AppendUint32(b, m.value)
		}
		b = appendString(b, string(t.json))
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func (d *decoder) row() row {
	var r row
	r.Aggregate, r.Key = d.string(), d.string()
	r.point = int(d.uvarint())
	r.main = d.bytes(1)[0] != 0
	for n := d.uvarint(); n > 0 && !d.broken; n-- {
		t := telling{rules: int(d.uvarint()), mute: d.bytes(1)[0] != 0}
		copy(t.state[:], d.bytes(len(t.state)))
		for m := d.uvarint(); m > 0 && !d.broken; m-- {
			b := d.bytes(8)
			t.marks = append(t.marks, mark{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])})
		}
		t.json = slices.Clone(d.bytes(int(d.uvarint())))
		r.tellings = append(r.tellings, t)
	}
	return r
}

// history is what the topics say of one key: its last event before any
// snapshot was taken, and all later ones.
type history struct {
	last    entry // of those read early; offset -1 where there is none
	late    []entry
	latest  event.Position
	seen    bool // by a row
	settled bool // counted
}

// at gives the last event that had committed, and was told, before a point. An
// id before the point whose position is not was parked at that time.
func (h *history) at(p event.Position) (last entry, ok, parked bool) {
	if h.last.offset >= 0 {
		last, ok = h.last, true
	}
	for _, e := range h.late {
		switch {
		case below(e.pos, p):
			last, ok = e, true
		case below(e.id, p):
			parked = true
		}
	}
	return last, ok, parked
}

// below reports whether what stands at p had committed before the point. Only
// what is strictly below counts.
func below(p, point event.Position) bool {
	return p.Generation < point.Generation || p.Generation == point.Generation && p.LSN < point.LSN
}

// comparison brings the two shelves together.
type comparison struct {
	source     string
	said, rows *shelf
	points     []event.Position // of the snapshots, in order; LSN only
	report     *collector
	aggregates map[string]*AggregateReport
	names      []string // of topics, by entry.topic
	limit      int      // of examples
	// parked holds the keys that are parked for certain at the points; maybe
	// those that were parked some time while the proof ran.
	parked, maybe map[event.Ref]bool
	// filter is that of a watermark with too many parked keys to list, or nil.
	filter *event.Filter
	// covered says which versions of the rules each aggregate was read with.
	covered map[string]map[int]bool
	// retired counts live keys of aggregates that no present rule tells.
	retired map[string]int64
}

// versions finds, for every aggregate, the versions of the rules that its
// keys' last events name. It may be called before all is on the shelf.
func versions(said *shelf) (map[string]map[int]bool, error) {
	all := map[string]map[int]bool{}
	for i := range said.parts {
		last := map[event.Ref]int{}
		err := said.read(i, func(d *decoder) error {
			e := d.entry()
			last[e.Ref] = e.rules
			if e.gone {
				delete(last, e.Ref)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for ref, v := range last {
			if all[ref.Aggregate] == nil {
				all[ref.Aggregate] = map[int]bool{}
			}
			all[ref.Aggregate][v] = true
		}
	}
	return all, nil
}

// run compares everything.
func (c *comparison) run(progress func(done, total int64)) error {
	for i := range c.said.parts {
		progress(int64(i), int64(len(c.said.parts)))
		said, err := c.fold(i)
		if err != nil {
			return err
		}
		err = c.rows.read(i, func(d *decoder) error {
			r := d.row()
			if !d.broken {
				c.row(said, &r)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for ref, h := range said {
			c.rest(ref, h)
		}
	}
	// Parked keys that have neither a row nor an event.
	for ref := range c.parked {
		if a := c.aggregates[ref.Aggregate]; a != nil {
			a.add(c.limit, Example{Kind: KeyParked, Key: ref.Key})
		}
	}
	progress(int64(len(c.said.parts)), int64(len(c.said.parts)))
	return nil
}

// fold reads what the topics say into one history per key, and checks what can
// only be seen with all events of a key at hand.
func (c *comparison) fold(part int) (map[event.Ref]*history, error) {
	said := map[event.Ref]*history{}
	type told struct {
		*history
		id event.Position
	}
	ids := map[told]struct{}{}
	err := c.said.read(part, func(d *decoder) error {
		e := d.entry()
		if d.broken {
			return nil
		}
		h := said[e.Ref]
		if h == nil {
			h = &history{last: entry{offset: -1, partition: e.partition, topic: e.topic}}
			said[e.Ref] = h
		}
		fault := func(kind FaultKind, text string, args ...any) {
			c.report.fault(Fault{Kind: kind, Topic: c.names[e.topic], Partition: e.partition, Offset: e.offset, Event: c.id(&e),
				Text: fmt.Sprintf(text, args...)})
		}
		id := told{h, e.id}
		if _, twice := ids[id]; twice {
			fault(DuplicateID, "this id stands in the topic before, under another seq")
			return nil
		}
		ids[id] = struct{}{}
		first := h.last
		if len(h.late) > 0 {
			first = h.late[0]
		}
		switch {
		case !e.late && !below(e.pos, c.points[0]):
			// It lay there before the slot was made, whose point is above
			// every commit before it.
			fault(Ahead, "its position %s is beyond %s, where the source is: another source, or an old copy of it", e.pos, wal.LSN(c.points[0].LSN))
		case e.topic == first.topic && e.partition != first.partition:
			fault(Disorder, "an event of the same key lies in partition %d", first.partition)
		case e.pos.Compare(h.latest) < 0:
			fault(Disorder, "its position %s is before %s, which the key has reached", e.pos, h.latest)
		default:
			h.latest = e.pos
		}
		if e.late {
			h.late = append(h.late, e)
		} else {
			h.last = e
		}
		return nil
	})
	return said, err
}

// row compares one aggregate's rows with its history.
func (c *comparison) row(said map[event.Ref]*history, r *row) {
	a := c.aggregates[r.Aggregate]
	h := said[r.Ref]
	if h == nil {
		h = &history{last: entry{offset: -1}}
		said[r.Ref] = h
	}
	h.seen = true
	if h.settled {
		return
	}
	last, ok, parked := h.at(c.points[r.point])
	e := Example{Key: r.Key, row: r}
	if ok {
		e.Event, e.Rules, e.last = c.id(&last), last.rules, last
	}
	switch {
	case c.parked[r.Ref] || parked:
		e.Kind = KeyParked
	case !ok || last.gone:
		if !r.main {
			return // the reading by the present rules will say so
		}
		e.Kind = KeyMissing
	default:
		i := slices.IndexFunc(r.tellings, func(t telling) bool { return t.rules == last.rules })
		switch {
		case i < 0 && c.covered[r.Aggregate][last.rules]:
			return // another reading has it
		case i < 0:
			e.Kind = KeyUnproven
			e.Why = fmt.Sprintf("the rules of version %d, which made its last event, were not at hand when the tables were read", last.rules)
		case r.tellings[i].mute:
			e.Kind, e.Why = KeyDifferent, "the rules cannot tell these rows, and yet the key is not parked"
		case r.tellings[i].state == last.state:
			h.settled = true
			delete(c.parked, r.Ref)
			a.prove(proofOf(r.Ref, last.state))
			return
		case last.late && last.id.Snapshot > 0:
			e.Kind, e.Why = KeyUnproven, "it was recorded anew while the proof ran"
		default:
			e.Kind = KeyDifferent
		}
	}
	if c.wasParked(r.Ref) && (e.Kind == KeyMissing || e.Kind == KeyDifferent) {
		e.Kind = KeyParked
	}
	h.settled = true
	delete(c.parked, r.Ref)
	a.add(c.limit, e)
}

// rest settles a key that no row has settled.
func (c *comparison) rest(ref event.Ref, h *history) {
	if h.settled {
		return
	}
	a := c.aggregates[ref.Aggregate]
	var last entry
	live, parked := true, false
	// A key that was born, or went, between two snapshots may have no row in
	// the range that was read under the other one: only one that was live all
	// the time is extra for certain.
	for _, p := range c.points {
		e, ok, pk := h.at(p)
		live = live && ok && !e.gone
		parked = parked || pk
		last = e
	}
	if a == nil {
		if live {
			c.retired[ref.Aggregate]++
		}
		return
	}
	e := Example{Key: ref.Key, last: last, Rules: last.rules}
	if last.offset >= 0 && last.Key != "" {
		e.Event = c.id(&last)
	}
	switch {
	case c.parked[ref] || parked || live && c.wasParked(ref):
		e.Kind = KeyParked
	case !live:
		return
	case h.seen:
		e.Kind, e.Why = KeyUnproven, fmt.Sprintf("the rules of version %d, which made its last event, read other rows than the present ones", last.rules)
	case last.late && last.id.Snapshot > 0:
		e.Kind, e.Why = KeyUnproven, "it was recorded anew while the proof ran"
	default:
		e.Kind = KeyExtra
	}
	delete(c.parked, ref)
	a.add(c.limit, e)
}

// wasParked reports whether a key may have been parked at the points.
func (c *comparison) wasParked(r event.Ref) bool {
	return c.maybe[r] || c.filter != nil && c.filter.Has(r)
}

func (c *comparison) id(e *entry) string {
	return event.ID{Source: c.source, Aggregate: e.Aggregate, Key: e.Key, Position: e.id}.String()
}

// proofOf stands for one proved key and its state.
func proofOf(r event.Ref, s stateHash) stateHash {
	b := appendString(appendString(nil, r.Aggregate), r.Key)
	sum := sha256.Sum256(append(b, s[:]...))
	return stateHash(sum[:16])
}
