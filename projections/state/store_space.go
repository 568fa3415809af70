package state

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// memory is what the rows take: the chunks, the hash table, what sorting them
// will take, what finds them in the runs.
func (s *store) memory() int64 {
	n := s.inUse + int64(len(s.slots))*8 + int64(s.used)*refBytes
	for _, r := range s.runs {
		n += r.memory()
	}
	return n
}

// ready is called before each change. Whoever notes changes spills at begin.
func (s *store) ready() error {
	if !s.noting {
		s.makeRoom()
	}
	return s.failed
}

// makeRoom cleans and spills where that is due.
func (s *store) makeRoom() {
	if s.failed != nil {
		return
	}
	if s.dead > 4*chunkBytes && s.dead*3 > s.inUse {
		s.clean()
	}
	if s.dir == "" || s.inUse+int64(len(s.slots))*8 < s.budget/2 || s.memory() <= s.budget {
		return
	}
	s.spill() // the error stays in failed
}

// clean moves what lives in chunks that are mostly dead.
func (s *store) clean() {
	for n := 1; n < len(s.chunks); n++ {
		b := s.chunks[n].b
		if n == s.tail || s.chunks[n].dead*3 < len(b) || len(b) == 0 {
			continue
		}
		for place := 0; place < len(b); {
			e := entry(b[place:])
			hash := s.hash(e.key())
			if i, ok := s.find(e.key(), hash); ok && chunkOf(s.slots[i]) == n && placeOf(s.slots[i]) == place {
				s.used--
				s.insert(i, hash, e.key(), e.value(), 0, e.flags())
			}
			place += e.size()
		}
		s.release(n)
	}
}

// ref is a place of an entry and the beginning of its key, to sort by.
type ref struct {
	prefix uint64
	slot   slot
}

const refBytes = 16

// sorted gives the entries of a table in the order of their keys.
func (s *store) sorted(table int) []ref {
	refs := make([]ref, 0, min(s.used, max(0, s.counts[table])))
	for _, sl := range s.slots {
		if sl == 0 {
			continue
		}
		e := s.at(sl)
		if int(e.table()) != table {
			continue
		}
		var b [8]byte
		copy(b[:], e.key()[2:])
		refs = append(refs, ref{binary.BigEndian.Uint64(b[:]), sl})
	}
	slices.SortFunc(refs, func(x, y ref) int {
		switch {
		case x.prefix < y.prefix:
			return -1
		case x.prefix > y.prefix:
			return 1
		}
		return bytes.Compare(s.at(x.slot).key(), s.at(y.slot).key())
	})
	return refs
}
