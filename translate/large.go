package translate

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"

	"banyan/event"
	"banyan/wal"
)

const (
	// chunkChanges is how many changes are routed at a time.
	chunkChanges = 20_000
	bucketBytes  = 16 << 20
	maxBuckets   = 200
)

// large translates a transaction that does not fit into memory, or that
// truncates a table. It is sorted on disk by aggregate (aggregates between
// which rows move together), and then done bucket by bucket as if each were a
// transaction of its own; rows that rules reach in other buckets are joined on
// disk by the values of their key columns. The result is that of the way
// through memory. What stays in memory beside one bucket is two bytes a change,
// the links of child rows that it touches, and the moves between aggregates.
type large struct {
	s       *session
	tx      *wal.Tx
	meta    txMeta
	dir     string
	n       int // of buckets
	tied    groups
	routed  *spillFile
	buckets *spillSet
	rows    *spillSet // reachable rows, by key
	asked   *spillSet // what rules look up, by key
	answers *spillSet // what they find, by bucket
	causes  *spillSet // ordinal and id of the causing event, by bucket
	outcome []outcome
	table   []uint16
	// refs are the aggregates met so far of kinds whose tables are truncated.
	refs      map[event.Ref]bool
	truncated map[*table]bool
	notes     map[int]*change // the first changes, for the trace
	noted     int
}

func (s *session) large(tx *wal.Tx) (err error) {
	dir, err := os.MkdirTemp(s.e.SpillDir, "banyan-translate-")
	if err != nil {
		return fmt.Errorf("make a directory for spilling: %w", err)
	}
	l := &large{s: s, tx: tx, dir: dir, tied: groups{}, refs: map[event.Ref]bool{}, truncated: map[*table]bool{}, notes: map[int]*change{},
		meta: txMeta{xid: tx.XID, commit: tx.CommitLSN, end: tx.EndLSN, at: tx.CommitTime.UTC(), generation: s.e.Generation}}
	l.n = int(min(max(tx.Bytes*2/bucketBytes, 1), maxBuckets))
	if s.e.buckets > 0 {
		l.n = s.e.buckets
	}
	defer func() {
		for _, set := range []*spillSet{l.buckets, l.rows, l.asked, l.answers, l.causes} {
			if set != nil {
				set.close()
			}
		}
		if l.routed != nil {
			l.routed.f.Close()
		}
		if rerr := os.RemoveAll(dir); rerr != nil && err == nil {
			err = fmt.Errorf("remove the spill directory: %w", rerr)
		}
	}()
	for _, step := range []func() error{l.findTruncates, l.route, l.distribute, l.join, l.cause, l.tell, l.rest} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// findTruncates looks which tables the transaction truncates.
func (l *large) findTruncates() error {
	for c, err := range l.tx.All() {
		if err != nil {
			return err
		}
		if c.Op != wal.Truncate {
			continue
		}
		b, err := l.s.e.bind(c.Table)
		if err != nil {
			return err
		}
		if b != nil {
			l.truncated[b.table] = true
		}
	}
	return nil
}

// route writes every change with its targets to disk.
func (l *large) route() (err error) {
	if l.routed, err = createSpill(l.dir, "routed"); err != nil {
		return err
	}
	var chunk []*change
	bytes := 0
	flush := func() error {
		err := l.routeChunk(chunk)
		chunk, bytes = nil, 0
		return err
	}
	seq := 0
	for in, err := range l.tx.All() {
		if err != nil {
			return err
		}
		c := new(change)
		ok, err := l.s.read(in, c)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		c.seq = seq
		seq++
		l.outcome = append(l.outcome, undecided)
		l.table = append(l.table, uint16(c.t.index))
		if c.op == wal.Truncate {
			if err := flush(); err != nil {
				return err
			}
			if err := l.routeTruncate(c); err != nil {
				return err
			}
			continue
		}
		chunk = append(chunk, c)
		bytes += c.old.size() + c.new.size()
		if len(chunk) >= chunkChanges || bytes > bucketBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (l *large) routeChunk(chunk []*change) error {
	s := l.s
	refs, rows := map[event.Ref]bool{}, map[event.RowRef]bool{}
	for _, c := range chunk {
		for _, t := range c.t.roles {
			s.needs(c, t, refs, rows)
		}
	}
	var ask []event.RowRef
	for row := range rows {
		if _, known := s.links.m[row]; !known && !s.links.emptied[row.Table] {
			ask = append(ask, row)
		}
	}
	if len(ask) > 0 {
		roots, err := s.past.Roots(s.ctx, ask)
		if err != nil {
			return fmt.Errorf("ask the store for the aggregates of %d rows: %w", len(ask), err)
		}
		for _, row := range ask {
			s.links.m[row] = roots[row]
		}
	}
	for _, c := range chunk {
		targets, by, err := route(c, &s.links, s.e.targets[:0])
		if err != nil {
			return err
		}
		s.e.targets = targets
		if by != "" {
			c.outcome, c.by = ignored, by
			l.outcome[c.seq] = ignored
			l.note(c)
		}
		if len(c.t.roles) == 0 {
			if c.t.ignored != nil {
				c.outcome, c.by = ignored, c.t.ignoredBy.name+".ignore: "+c.t.ignored.reason
				l.outcome[c.seq] = ignored
			}
			l.note(c)
		}
		if err := l.write(c, targets); err != nil {
			return err
		}
	}
	return nil
}

func (l *large) write(c *change, targets []target) error {
	for i := range targets {
		g := &targets[i]
		if g.mate > i {
			l.tied.union(g.ref, targets[g.mate].ref)
		}
		if len(l.truncated) > 0 {
			l.refs[g.ref] = true
		}
	}
	dst := l.s.e.Rules.appendChange(l.s.e.buf[:0], c)
	dst = binary.AppendUvarint(dst, uint64(len(targets)))
	for i := range targets {
		dst = appendTarget(dst, &targets[i])
	}
	l.s.e.buf = dst
	return l.routed.write(dst)
}

// routeTruncate sends a truncate to every aggregate that is alive or has been
// met in this transaction.
func (l *large) routeTruncate(c *change) error {
	s := l.s
	for _, t := range c.t.roles {
		refs := map[event.Ref]bool{}
		for ref := range l.refs {
			if ref.Aggregate == t.u.name {
				refs[ref] = true
			}
		}
		for key, err := range s.past.Keys(s.ctx, t.u.name) {
			if err != nil {
				return fmt.Errorf("list the keys of %s: %w", t.u.name, err)
			}
			ref := event.Ref{Aggregate: t.u.name, Key: key}
			if !refs[ref] {
				if err := l.write(c, []target{{t: t, op: wal.Truncate, ref: ref, mate: -1}}); err != nil {
					return err
				}
			}
		}
		for _, ref := range sortedRefs(refs) {
			if err := l.write(c, []target{{t: t, op: wal.Truncate, ref: ref, mate: -1}}); err != nil {
				return err
			}
		}
		if t.parent != nil {
			s.links.empty(t)
		}
	}
	l.note(c)
	return nil
}

func sortedRefs(refs map[event.Ref]bool) []event.Ref {
	out := make([]event.Ref, 0, len(refs))
	for ref := range refs {
		out = append(out, ref)
	}
	slices.SortFunc(out, func(a, b event.Ref) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// empty forgets all links of a truncated table.
func (m *linkMap) empty(t *utable) {
	for row := range m.m {
		if row.Table == t.table.name {
			m.set(row, t.u.name, nil)
		}
	}
	if m.emptied == nil {
		m.emptied = map[string]bool{}
	}
	m.emptied[t.table.name] = true
}

// distribute sorts what was routed into buckets, and reachable rows into
// partitions by their keys.
func (l *large) distribute() error {
	rules := l.s.e.Rules
	l.buckets, l.rows = newSpillSet(l.dir, "bucket", l.n), newSpillSet(l.dir, "rows", l.n)
	l.asked, l.answers, l.causes = newSpillSet(l.dir, "asked", l.n), newSpillSet(l.dir, "answers", l.n), newSpillSet(l.dir, "causes", l.n)
	var dst []byte
	lastSeq := -1
	return l.routed.read(func(record []byte) error {
		in := &reader{s: string(record)}
		c := rules.readChange(in)
		byBucket := map[int][]target{}
		var order []int
		for n := in.uvarint(); n > 0 && !in.bad; n-- {
			g := rules.readTarget(in)
			root := l.tied.find(g.ref)
			b := bucketOf(l.n, root.Aggregate, root.Key)
			if byBucket[b] == nil {
				order = append(order, b)
			}
			if g.mate >= 0 {
				// A mate is in the same bucket; its place there is beside it.
				g.mate = len(byBucket[b]) - 1
				if g.kind == rekeyOut || g.kind == moveOut {
					g.mate = len(byBucket[b]) + 1
				}
			}
			byBucket[b] = append(byBucket[b], g)
		}
		for _, b := range order {
			dst = rules.appendChange(dst[:0], c)
			dst = binary.AppendUvarint(dst, uint64(len(byBucket[b])))
			for i := range byBucket[b] {
				dst = appendTarget(dst, &byBucket[b][i])
			}
			if err := l.buckets.write(b, dst); err != nil {
				return err
			}
		}
		if c.seq == lastSeq {
			return nil // a truncate is written once for each aggregate
		}
		lastSeq = c.seq
		for _, x := range c.t.reaches {
			for _, key := range x.keys(c) {
				dst = appendText(binary.AppendUvarint(dst[:0], uint64(x.index)), key)
				dst = binary.AppendUvarint(dst, uint64(len(order)))
				for _, b := range order {
					dst = binary.AppendUvarint(dst, uint64(b))
				}
				dst = rules.appendChange(dst, c)
				if err := l.rows.write(bucketOf(l.n, key), dst); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// answer is what rules of one bucket find in the whole transaction.
type answers struct {
	rows    map[lineKey][]*change
	buckets map[int][]int // of a change's own targets, by its seq
}

// open loads one bucket and applies its changes.
func (l *large) open(b int) (*work, *answers, error) {
	s := l.s
	s.aggs = map[event.Ref]*agg{}
	var changes []*change
	var targets [][]target
	refs := map[event.Ref]bool{}
	bySeq := map[int]int{}
	err := l.buckets.read(b, func(record []byte) error {
		in := &reader{s: string(record)}
		c := s.e.Rules.readChange(in)
		at, seen := bySeq[c.seq]
		if !seen {
			at = len(changes)
			bySeq[c.seq] = at
			changes, targets = append(changes, c), append(targets, nil)
		}
		shift := len(targets[at])
		for n := in.uvarint(); n > 0 && !in.bad; n-- {
			g := s.e.Rules.readTarget(in)
			if g.mate >= 0 {
				g.mate += shift
			}
			refs[g.ref] = true
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

// join looks up what the rules of each bucket reach.
func (l *large) join() error {
	if !slices.ContainsFunc(l.rows.files, func(f *spillFile) bool { return f != nil }) {
		return nil
	}
	var dst []byte
	for b := range l.n {
		w, _, err := l.open(b)
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
		w, found, err := l.open(b)
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
		w, _, err := l.open(b)
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
