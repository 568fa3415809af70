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
	over      map[event.Ref]*tooMuch // of the open bucket
	notes     map[int]*change        // the first changes, for the trace
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
		if err != nil && l.s.e.absorbsAll(l.s.e.Rules.find(c.Table), l.tx.XID) {
			continue
		}
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
		ok, err := l.s.read(in, c, l.tx.XID)
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
