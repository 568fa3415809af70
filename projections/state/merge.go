package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// cursor walks entries in the order of their keys. What entry gives holds until
// the next call of next.
type cursor interface {
	next() (bool, error)
	entry() spilled
}

// memoryCursor walks the entries of one table in memory.
type memoryCursor struct {
	s    *store
	refs []ref
	at   int
}

func (c *memoryCursor) next() (bool, error) {
	c.at++
	return c.at <= len(c.refs), nil
}

func (c *memoryCursor) entry() spilled {
	e := c.s.at(c.refs[c.at-1].slot)
	if e.flags()&flagGone != 0 {
		return spilled{key: e.key()}
	}
	return spilled{e.key(), e.value()}
}

// runCursor walks a run, reading many blocks at once.
type runCursor struct {
	r     *run
	until []byte // the key to stop before; nil is none
	block int    // the next one to read
	buf   []byte
	sizes []int  // of the blocks in buf that were not begun
	later []byte // their bytes
	rest  []byte // of the block that was begun
	now   spilled
	held  bool // next is to give now once more
}

// readAhead is how much of a run is read at once.
const readAhead = 256 << 10

// walk begins at the first key that is not before from.
func (r *run) walk(from, until []byte) (*runCursor, error) {
	c := &runCursor{r: r, until: until, block: max(0, r.blockFor(from))}
	for {
		ok, err := c.next()
		if err != nil {
			return nil, err
		}
		if !ok || bytes.Compare(c.now.key, from) >= 0 {
			c.held = ok
			return c, nil
		}
	}
}

func (c *runCursor) next() (bool, error) {
	if c.held {
		c.held = false
		return true, nil
	}
	for len(c.rest) == 0 {
		if len(c.sizes) == 0 {
			if ok, err := c.fill(); !ok || err != nil {
				return false, err
			}
		}
		n := c.sizes[0]
		c.rest, c.later, c.sizes = c.later[:n-4], c.later[n:], c.sizes[1:]
	}
	var err error
	if c.now, c.rest, err = nextSpilled(c.rest); err != nil {
		return false, err
	}
	if c.until != nil && bytes.Compare(c.now.key, c.until) >= 0 {
		c.block, c.sizes, c.rest = c.r.blocks(), nil, nil
		return false, nil
	}
	return true, nil
}

// fill reads the next blocks.
func (c *runCursor) fill() (bool, error) {
	from := c.block
	if from >= c.r.blocks() {
		return false, nil
	}
	c.sizes = c.sizes[:0]
	for total := 0; c.block < c.r.blocks() && (total == 0 || total < readAhead); c.block++ {
		n := int(c.r.offset[c.block+1] - c.r.offset[c.block])
		c.sizes = append(c.sizes, n)
		total += n
	}
	var err error
	c.buf, err = c.r.read(c.buf, from, c.block)
	c.later = c.buf
	return err == nil, err
}

func (c *runCursor) entry() spilled { return c.now }

// merged walks several cursors as one; of entries with one key the first
// cursor's wins.
type merged struct {
	cursors []cursor
	live    []bool // the cursor stands on an entry
	now     spilled
	begun   bool
	stale   []int // cursors that stand on the entry given last
}

func merge(cursors []cursor) *merged {
	return &merged{cursors: cursors, live: make([]bool, len(cursors))}
}

func (m *merged) next() (bool, error) {
	if !m.begun {
		m.begun = true
		for i := range m.cursors {
			m.stale = append(m.stale, i)
		}
	}
	for _, i := range m.stale {
		var err error
		if m.live[i], err = m.cursors[i].next(); err != nil {
			return false, err
		}
	}
	m.stale = m.stale[:0]
	for i, c := range m.cursors {
		if !m.live[i] {
			continue
		}
		e := c.entry()
		order := -1
		if len(m.stale) > 0 {
			order = bytes.Compare(e.key, m.now.key)
		}
		if order > 0 {
			continue
		}
		if order < 0 {
			m.stale = m.stale[:0]
			m.now = e
		}
		m.stale = append(m.stale, i)
	}
	return len(m.stale) > 0, nil
}

func (m *merged) entry() spilled { return m.now }

// walk goes over the rows of a table, wherever they are, in the order of their
// keys.
func (s *store) walk(table int) (*merged, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	from := binary.BigEndian.AppendUint16(nil, uint16(table))
	until := binary.BigEndian.AppendUint16(nil, uint16(table+1))
	cursors := []cursor{&memoryCursor{s: s, refs: s.sorted(table)}}
	for i := len(s.runs) - 1; i >= 0; i-- {
		c, err := s.runs[i].walk(from, until)
		if err != nil {
			return nil, err
		}
		cursors = append(cursors, c)
	}
	return merge(cursors), nil
}

// spill writes all entries in memory to a new run, and merges runs where there
// are many. After an error the store is of no use.
func (s *store) spill() error {
	size := s.inUse
	if err := s.writeRun(); err != nil {
		s.failed = &DiskError{fmt.Errorf("spill %d MiB of rows to %s: %w", size>>20, s.dir, err)}
		return s.failed
	}
	for n := 1; n < len(s.chunks); n++ {
		if len(s.chunks[n].b) > 0 {
			s.release(n)
		}
	}
	s.tail, s.dead, s.used, s.seen = 0, 0, 0, 0
	clear(s.slots)
	for len(s.runs) >= fanIn && s.runs[len(s.runs)-fanIn].level == s.runs[len(s.runs)-1].level {
		if err := s.mergeRuns(len(s.runs) - fanIn); err != nil {
			s.failed = &DiskError{fmt.Errorf("merge spilled rows in %s: %w", s.dir, err)}
			return s.failed
		}
	}
	return nil
}

func (s *store) writeRun() error {
	w, err := s.newRun(0, s.used)
	if err != nil {
		return err
	}
	for table := range s.counts {
		c := memoryCursor{s: s, refs: s.sorted(table)}
		if err := w.copy(&c, false); err != nil {
			return err
		}
	}
	r, err := w.finish()
	if err != nil {
		return err
	}
	s.runs = append(s.runs, r)
	return nil
}

// copy writes what a cursor gives; the file is closed after an error.
func (w *runWriter) copy(c cursor, dropGone bool) error {
	for {
		ok, err := c.next()
		if err == nil && ok {
			if e := c.entry(); e.value != nil || !dropGone {
				err = w.add(e.key, e.value, e.value == nil)
			}
		}
		if err != nil {
			w.r.f.Close()
			return err
		}
		if !ok {
			return nil
		}
	}
}

// mergeRuns makes one run of those from number from on. What lies above the
// oldest rows hides nothing when it is gone.
func (s *store) mergeRuns(from int) error {
	old := s.runs[from:]
	count := 0
	var cursors []cursor
	for i := len(old) - 1; i >= 0; i-- {
		c, err := old[i].walk(nil, nil)
		if err != nil {
			return err
		}
		cursors = append(cursors, c)
		count += old[i].count
	}
	w, err := s.newRun(old[0].level+1, count)
	if err != nil {
		return err
	}
	if err := w.copy(merge(cursors), from == 0); err != nil {
		return err
	}
	r, err := w.finish()
	if err != nil {
		return err
	}
	for _, o := range old {
		o.close()
	}
	s.runs = append(s.runs[:from:from], r)
	return nil
}
