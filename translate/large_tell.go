package translate

import (
	"encoding/binary"
	"slices"

	"banyan/event"
	"banyan/wal"
)

// answer is what rules of one bucket find in the whole transaction.
type answers struct {
	rows    map[lineKey][]*change
	buckets map[int][]int // of a change's own targets, by its seq
}

// tooMuch are the changes of one aggregate beyond what an entry of its chain
// keeps: they are counted, and not even loaded.
type tooMuch struct {
	size   int
	counts map[string]int64
}

// open loads one bucket and applies its changes. telling is set for the last
// time, when what is decided counts.
func (l *large) open(b int, telling bool) (*work, *answers, error) {
	s := l.s
	s.aggs = map[event.Ref]*agg{}
	var changes []*change
	var targets [][]target
	refs := map[event.Ref]bool{}
	bySeq := map[int]int{}
	l.over = map[event.Ref]*tooMuch{}
	err := l.buckets.read(b, func(record []byte) error {
		in := &reader{s: string(record)}
		c := s.e.Rules.readChange(in)
		c.elsewhere = l.outcome[c.seq] == parked
		var own []target
		lost := false
		for n := in.uvarint(); n > 0 && !in.bad; n-- {
			g := s.e.Rules.readTarget(in)
			if !l.fits(c, &g, telling) {
				lost = true
				continue
			}
			refs[g.ref] = true
			own = append(own, g)
		}
		if len(own) == 0 {
			return nil
		}
		at, seen := bySeq[c.seq]
		if !seen {
			at = len(changes)
			bySeq[c.seq] = at
			changes, targets = append(changes, c), append(targets, nil)
		}
		shift := len(targets[at])
		for _, g := range own {
			if g.mate >= 0 && !lost {
				g.mate += shift
			} else {
				g.mate = -1
			}
			targets[at] = append(targets[at], g)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if err := s.load(refs); err != nil {
		return nil, nil, err
	}
	found := &answers{rows: map[lineKey][]*change{}, buckets: map[int][]int{}}
	err = l.answers.read(b, func(record []byte) error {
		in := &reader{s: string(record)}
		k := lineKey{in.uvarint(), in.text()}
		var own []int
		for n := in.uvarint(); n > 0 && !in.bad; n-- {
			own = append(own, in.uvarint())
		}
		c := s.e.Rules.readChange(in)
		found.buckets[c.seq] = own
		found.rows[k] = append(found.rows[k], c)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	w := &work{e: s.e, meta: l.meta, changes: changes, aggs: map[event.Ref]*aggTx{}, get: s.agg}
	w.reached = func(x *reachIndex, key string) []*change { return found.rows[lineKey{x.index, key}] }
	for i, c := range changes {
		if err := w.addTargets(c, targets[i]); err != nil {
			return nil, nil, err
		}
	}
	return w, found, nil
}

// fits says whether a change of an aggregate is still loaded.
func (l *large) fits(c *change, g *target, telling bool) bool {
	o := l.over[g.ref]
	if o == nil {
		o = &tooMuch{counts: map[string]int64{}}
		l.over[g.ref] = o
	}
	if o.size <= maxOwn {
		o.size += c.old.size() + c.new.size() + 256
		return true
	}
	if telling && l.outcome[c.seq] != parked {
		l.outcome[c.seq] = parked
		o.counts[c.t.name]++
	}
	return false
}

// join looks up what the rules of each bucket reach.
func (l *large) join() error {
	if !slices.ContainsFunc(l.rows.files, func(f *spillFile) bool { return f != nil }) {
		return nil
	}
	var dst []byte
	for b := range l.n {
		w, _, err := l.open(b, false)
		if err != nil {
			return err
		}
		for _, x := range w.order {
			if x.stuck() {
				continue
			}
			for _, p := range x.parts {
				for _, r := range x.a.u.rules {
					if r.table != p.t {
						continue // the op may change when the transaction is settled
					}
					for _, rc := range r.reach {
						for _, tables := range [][][]*arow{x.a.tables, x.start} {
							for _, key := range reachKeys(x, p, rc, tables) {
								dst = appendText(binary.AppendUvarint(dst[:0], uint64(rc.index.index)), key)
								dst = binary.AppendUvarint(dst, uint64(b))
								if err := l.asked.write(bucketOf(l.n, key), dst); err != nil {
									return err
								}
							}
						}
					}
				}
			}
		}
	}
	for i := range l.n {
		if err := l.joinPartition(i); err != nil {
			return err
		}
	}
	return nil
}

func (l *large) joinPartition(i int) error {
	asked := map[lineKey][]int{}
	err := l.asked.read(i, func(record []byte) error {
		in := &reader{s: string(record)}
		k := lineKey{in.uvarint(), in.text()}
		if b := in.uvarint(); !slices.Contains(asked[k], b) {
			asked[k] = append(asked[k], b)
		}
		return nil
	})
	if err != nil || len(asked) == 0 {
		return err
	}
	return l.rows.read(i, func(record []byte) error {
		in := &reader{s: string(record)}
		for _, b := range asked[lineKey{in.uvarint(), in.text()}] {
			if err := l.answers.write(b, record); err != nil {
				return err
			}
		}
		return nil
	})
}

// cause finds which events cause which, and what they take of tables without
// an aggregate: both must be known before the first event is told.
func (l *large) cause() error {
	if !slices.ContainsFunc(l.answers.files, func(f *spillFile) bool { return f != nil }) {
		return nil
	}
	for b := range l.n {
		if l.answers.files[b] == nil {
			continue
		}
		w, found, err := l.open(b, false)
		if err != nil {
			return err
		}
		w.evaluateAll()
		w.edges(func(c *change, id string) {
			dst := appendText(binary.AppendUvarint(nil, uint64(c.ordinal)), id)
			for _, own := range found.buckets[c.seq] {
				if werr := l.causes.write(own, dst); werr != nil && err == nil {
					err = werr
				}
			}
		})
		if err != nil {
			return err
		}
		for _, x := range w.order {
			if x.stuck() || len(x.events) == 0 {
				continue
			}
			for _, c := range x.extra {
				if l.outcome[c.seq] < absorbed {
					l.outcome[c.seq] = absorbed
					if n := l.notes[c.seq]; n != nil {
						n.by = x.events[0].p.by
					}
				}
			}
		}
	}
	return nil
}

// tell puts the events of each bucket.
func (l *large) tell() error {
	s := l.s
	for b := range l.n {
		if l.buckets.files[b] == nil {
			continue
		}
		w, _, err := l.open(b, true)
		if err != nil {
			return err
		}
		w.evaluateAll()
		if err := w.stop(); err != nil {
			return err
		}
		edges := map[int64]string{}
		err = l.causes.read(b, func(record []byte) error {
			in := &reader{s: string(record)}
			ordinal, id := int64(in.uvarint()), in.text()
			if old, ok := edges[ordinal]; !ok || id < old {
				edges[ordinal] = id
			}
			return nil
		})
		if err != nil {
			return err
		}
		w.addCauses(edges)
		s.addEvents(w)
		entries, err := s.parkAll(w, nil)
		if err != nil {
			return err
		}
		for i := range entries {
			for table, n := range l.over[entries[i].Ref].counts {
				entries[i].Counts[table] += n
			}
		}
		s.step.Parked = append(s.step.Parked, entries...)
		for _, c := range w.changes {
			c.decide()
			if c.outcome > l.outcome[c.seq] {
				l.outcome[c.seq] = c.outcome
			}
			l.note(c)
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.aggs = map[event.Ref]*agg{}
	return nil
}

// note keeps what the trace shows of a change.
func (l *large) note(c *change) {
	n := l.notes[c.seq]
	if n == nil {
		if len(l.notes) >= maxTraceChanges || l.noted > 2*maxTraceBytes {
			return
		}
		n = &change{ordinal: c.ordinal, seq: c.seq, op: c.op, t: c.t, old: c.old, new: c.new, by: c.by}
		l.notes[c.seq] = n
		l.noted += c.old.size() + c.new.size()
	}
	for _, p := range c.parts {
		if len(n.noted) < 100 {
			n.noted = append(n.noted, p.trace())
		}
		if n.old == nil && p.old != nil && c.t.roles != nil && len(p.old.vals) == len(c.t.cols) {
			n.old = p.old.vals
		}
	}
}

// rest parks what nobody has taken, counts, and writes the trace.
func (l *large) rest() error {
	s := l.s
	w := &work{e: s.e, meta: l.meta}
	if slices.Contains(l.outcome, undecided) {
		if err := l.parkRest(w); err != nil {
			return err
		}
	}
	for seq, o := range l.outcome {
		s.count(s.e.Rules.list[l.table[seq]].name, o)
	}
	if len(l.outcome) == 0 {
		return s.flush()
	}
	var t tracer
	t.begin(s.e.buf[:0], &l.meta, s.e.Rules.Version, len(l.outcome))
	seqs := keysInOrder(l.notes)
	for _, seq := range seqs {
		n := l.notes[seq]
		n.outcome = l.outcome[seq]
		t.change(n)
	}
	t.left = t.left || len(seqs) < len(l.outcome)
	if err := s.putTrace(&t, &l.meta); err != nil {
		return err
	}
	return s.flush()
}

func keysInOrder(m map[int]*change) []int {
	out := make([]int, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (l *large) parkRest(w *work) error {
	s := l.s
	last := -1
	return l.routed.read(func(record []byte) error {
		c := s.e.Rules.readChange(&reader{s: string(record)})
		if l.outcome[c.seq] != undecided || c.seq == last {
			return nil
		}
		last = c.seq
		if c.op == wal.Truncate {
			l.outcome[c.seq] = ignored // there was nothing to truncate
			return nil
		}
		if s.e.Rules.Config.Unknown == "stop" {
			return &UnknownError{LSN: l.meta.commit, Table: c.t.name, Op: c.op, Aggregate: c.t.name, Key: c.key(), Reason: "no aggregate has the table and no event absorbs the change", WayOut: "add an ignore for the table"}
		}
		entry, err := w.parkChange(c)
		if err != nil {
			return err
		}
		l.outcome[c.seq] = parked
		s.step.Parked = append(s.step.Parked, entry)
		if s.bytes += len(entry.Body); s.bytes > flushBytes {
			return s.flush()
		}
		return nil
	})
}
