package state

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// A store keeps bytes by key for a Bulk: in memory as long as its budget lasts,
// beyond it in sorted runs on disk (see run.go). Keys begin with two bytes that
// number their table.
//
// Memory is a few large chunks without pointers, which the garbage collector
// never looks into, and one hash table of places in them. An entry is changed in
// place where its new value fits; else it is written anew at the end and the old
// one is dead, until its chunk is cleaned.
type store struct {
	budget int64
	dir    string
	seed   maphash.Seed

	chunks []chunk
	free   []int // chunks that are empty
	holes  []int // numbers without a chunk
	tail   int   // the chunk that is written
	inUse  int64 // bytes of the chunks that are not free
	dead   int64 // of them, bytes of entries that are dead
	slots  []slot
	used   int   // slots in use
	counts []int // rows of each table

	runs   []*run // oldest first
	failed error  // of the disk: the store is of no use any more
	// seen is the hash of the key that was last found in a run, so that a put
	// right after a get knows that it changes a row and adds none.
	seen uint64

	noting bool
	notes  []byte
	starts []int // of each note
}

type chunk struct {
	b    []byte // its capacity is fixed
	dead int
}

// A slot of the hash table: 16 bits of the hash, the number of the chunk, the
// place in it in units of 8 bytes. 0 is empty; there is no chunk 0.
type slot = uint64

const (
	chunkBytes = 1 << 20
	placeBits  = 17 // chunkBytes / 8
	tagShift   = 48
	minSlots   = 1 << 10
)

func chunkOf(sl slot) int { return int(sl << 16 >> (16 + placeBits)) }
func placeOf(sl slot) int { return int(sl&(1<<placeBits-1)) * 8 }

// An entry is the length of its key, flags, the length of its value, the room for
// it; then the key and the value.
type entry []byte

const headBytes = 12

const (
	flagGone = 1 << iota // the row is deleted; the entry hides it in the runs
	flagOver             // the runs have a row of this key, which counts
)

func (e entry) keyLen() int   { return int(binary.LittleEndian.Uint16(e)) }
func (e entry) flags() uint16 { return binary.LittleEndian.Uint16(e[2:]) }
func (e entry) valueLen() int { return int(binary.LittleEndian.Uint32(e[4:])) }
func (e entry) room() int     { return int(binary.LittleEndian.Uint32(e[8:])) }
func (e entry) key() []byte   { return e[headBytes : headBytes+e.keyLen()] }
func (e entry) table() uint16 { return binary.BigEndian.Uint16(e[headBytes:]) }
func (e entry) size() int     { return entrySize(e.keyLen(), e.room()) }

func (e entry) value() []byte {
	from := headBytes + e.keyLen()
	return e[from : from+e.valueLen()]
}

func (e entry) set(value []byte, flags uint16) {
	binary.LittleEndian.PutUint16(e[2:], flags)
	binary.LittleEndian.PutUint32(e[4:], uint32(len(value)))
	copy(e[headBytes+e.keyLen():], value)
}

func entrySize(key, room int) int { return (headBytes + key + room + 7) &^ 7 }

// weightOf is what an entry adds to the number of rows, those of the runs being
// counted.
func weightOf(flags uint16) int {
	switch flags {
	case 0:
		return 1
	case flagGone | flagOver:
		return -1
	}
	return 0
}

func newStore(tables int, budget int64, dir string) *store {
	return &store{budget: budget, dir: dir, seed: maphash.MakeSeed(), chunks: make([]chunk, 1),
		slots: make([]slot, minSlots), counts: make([]int, tables)}
}

func (s *store) hash(key []byte) uint64 { return maphash.Bytes(s.seed, key) }

func (s *store) at(sl slot) entry { return entry(s.chunks[chunkOf(sl)].b[placeOf(sl):]) }

// find gives the slot of a key, or the empty one where it belongs.
func (s *store) find(key []byte, hash uint64) (i uint64, found bool) {
	mask := uint64(len(s.slots) - 1)
	tag := hash >> tagShift
	for i = hash & mask; ; i = (i + 1) & mask {
		sl := s.slots[i]
		if sl == 0 {
			return i, false
		}
		if sl>>tagShift == tag && bytes.Equal(s.at(sl).key(), key) {
			return i, true
		}
	}
}

// get gives the value of a key, which holds until the next call; nil where there
// is none.
func (s *store) get(key []byte) ([]byte, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	hash := s.hash(key)
	if i, ok := s.find(key, hash); ok {
		if e := s.at(s.slots[i]); e.flags()&flagGone == 0 {
			return e.value(), nil
		}
		return nil, nil
	}
	return s.getFromRuns(key, hash)
}

func (s *store) getFromRuns(key []byte, hash uint64) ([]byte, error) {
	for _, r := range slices.Backward(s.runs) {
		value, found, err := r.get(key, hash)
		if err != nil {
			s.failed = &DiskError{err}
			return nil, s.failed
		}
		if found {
			if value != nil {
				s.seen = hash
			}
			return value, nil
		}
	}
	return nil, nil
}

// put sets the value of a key.
func (s *store) put(key, value []byte) error {
	if err := s.ready(); err != nil {
		return err
	}
	hash := s.hash(key)
	i, found := s.find(key, hash)
	var flags uint16
	if found {
		e := s.at(s.slots[i])
		s.note(key, e)
		flags = e.flags() & flagOver
	} else {
		s.note(key, nil)
		if len(s.runs) > 0 && hash == s.seen {
			flags = flagOver
		}
	}
	s.write(i, found, hash, key, value, flags)
	return nil
}

// remove deletes a key.
func (s *store) remove(key []byte) error {
	if err := s.ready(); err != nil {
		return err
	}
	hash := s.hash(key)
	i, found := s.find(key, hash)
	var e entry
	if found {
		if e = s.at(s.slots[i]); e.flags()&flagGone != 0 {
			return nil
		}
	}
	// A row that the runs have must be hidden, and counts no more.
	over := found && e.flags()&flagOver != 0
	if !over {
		below, err := s.getFromRuns(key, hash)
		if err != nil {
			return err
		}
		over = below != nil
	}
	switch {
	case over:
		s.note(key, e)
		s.write(i, found, hash, key, nil, flagGone|flagOver)
	case found:
		s.note(key, e)
		s.erase(i)
	}
	return nil
}

// write puts an entry into slot i, which is its own if found, else the empty one
// where it belongs.
func (s *store) write(i uint64, found bool, hash uint64, key, value []byte, flags uint16) {
	s.counts[binary.BigEndian.Uint16(key)] += weightOf(flags)
	if !found {
		s.insert(i, hash, key, value, 0, flags)
		return
	}
	e := s.at(s.slots[i])
	s.counts[e.table()] -= weightOf(e.flags())
	if len(value) <= e.room() {
		e.set(value, flags)
		return
	}
	s.kill(s.slots[i])
	s.used--
	// What has grown will grow again.
	s.insert(i, hash, key, value, len(value)/8, flags)
}

// insert writes a new entry at the end and puts its place into slot i.
func (s *store) insert(i, hash uint64, key, value []byte, extra int, flags uint16) {
	size := entrySize(len(key), len(value)+extra)
	n := s.tail
	if c := &s.chunks[n]; cap(c.b)-len(c.b) < size {
		n = s.grab(size)
	}
	c := &s.chunks[n]
	place := len(c.b)
	c.b = c.b[:place+size]
	e := entry(c.b[place:])
	binary.LittleEndian.PutUint16(e, uint16(len(key)))
	binary.LittleEndian.PutUint32(e[8:], uint32(size-headBytes-len(key)))
	copy(e[headBytes:], key)
	e.set(value, flags)
	s.slots[i] = hash>>tagShift<<tagShift | uint64(n)<<placeBits | uint64(place/8)
	if s.used++; s.used*4 > len(s.slots)*3 {
		s.rehash(2 * len(s.slots))
	}
}

// grab begins a chunk; an entry that is larger than one gets a chunk of its own.
func (s *store) grab(size int) int {
	if last := len(s.free) - 1; last >= 0 && size <= chunkBytes {
		s.tail, s.free = s.free[last], s.free[:last]
		s.inUse += chunkBytes
		return s.tail
	}
	n := len(s.chunks)
	if last := len(s.holes) - 1; last >= 0 {
		n, s.holes = s.holes[last], s.holes[:last]
	} else {
		s.chunks = append(s.chunks, chunk{})
	}
	s.chunks[n] = chunk{b: make([]byte, 0, max(size, chunkBytes))}
	s.inUse += int64(max(size, chunkBytes))
	if size <= chunkBytes {
		s.tail = n
	}
	return n
}

// release makes a chunk free.
func (s *store) release(n int) {
	c := &s.chunks[n]
	s.inUse -= int64(cap(c.b))
	s.dead -= int64(c.dead)
	c.dead = 0
	if cap(c.b) == chunkBytes {
		c.b = c.b[:0]
		s.free = append(s.free, n)
	} else {
		c.b = nil
		s.holes = append(s.holes, n)
	}
}

func (s *store) kill(sl slot) {
	size := s.at(sl).size()
	s.chunks[chunkOf(sl)].dead += size
	s.dead += int64(size)
}

// erase removes an entry from memory; those behind it move up, so that no search
// ends too early.
func (s *store) erase(i uint64) {
	e := s.at(s.slots[i])
	s.counts[e.table()] -= weightOf(e.flags())
	s.kill(s.slots[i])
	s.used--
	mask := uint64(len(s.slots) - 1)
	for j := (i + 1) & mask; s.slots[j] != 0; j = (j + 1) & mask {
		home := s.hash(s.at(s.slots[j]).key()) & mask
		if (j-home)&mask >= (j-i)&mask {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = 0
}

func (s *store) rehash(n int) {
	old := s.slots
	s.slots = make([]slot, n)
	mask := uint64(n - 1)
	for _, sl := range old {
		if sl == 0 {
			continue
		}
		i := s.hash(s.at(sl).key()) & mask
		for s.slots[i] != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = sl
	}
}

// begin starts to note what entries were. Between two events is the time to
// spill; whether that failed, the next call says.
func (s *store) begin() {
	s.noting = true
	s.notes, s.starts = s.notes[:0], s.starts[:0]
	s.makeRoom()
}

// note keeps an entry as it is before a change: a byte that says whether there is
// one, then its bytes, or else the key alone.
func (s *store) note(key []byte, e entry) {
	if !s.noting {
		return
	}
	s.starts = append(s.starts, len(s.notes))
	if e == nil {
		s.notes = append(append(s.notes, 0), key...)
		return
	}
	s.notes = append(append(s.notes, 1), e[:headBytes+e.keyLen()+e.valueLen()]...)
}

// undo takes back what was noted.
func (s *store) undo() {
	end := len(s.notes)
	for _, start := range slices.Backward(s.starts) {
		existed, n := s.notes[start] == 1, s.notes[start+1:end]
		end = start
		if existed {
			e := entry(n)
			hash := s.hash(e.key())
			i, found := s.find(e.key(), hash)
			s.write(i, found, hash, e.key(), e.value(), e.flags())
		} else if i, found := s.find(n, s.hash(n)); found {
			s.erase(i)
		}
	}
	s.notes, s.starts = s.notes[:0], s.starts[:0]
}

// close gives everything back.
func (s *store) close() error {
	var first error
	for _, r := range s.runs {
		if err := r.close(); err != nil && first == nil {
			first = err
		}
	}
	*s = store{failed: errClosed, counts: s.counts}
	clear(s.counts)
	s.slots = make([]slot, 1)
	return first
}
