package state

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
)

// A run is a file of entries in the order of their keys, written once. It is
// removed from its directory as soon as it is open, so that nothing is left behind
// whatever becomes of the process. In memory are the first key of each block and a
// filter that knows most keys that are not there.
//
// It is written here, and by no library, because there is so little to it: rows
// are written in bulk, read by key or from one end to the other, and thrown away.
// An embedded database would bring a log, transactions and recovery; the one that
// suited best adds 24 MB to each binary and ends the process on a full disk.
type run struct {
	f     *os.File
	level int // how often its rows were merged
	count int

	firsts []byte // the first keys of the blocks, one after the other
	ends   []uint32
	offset []int64 // of each block, and the end of the last
	filter filter

	block  []byte // the one read last
	number int    // its number, -1 for none
}

const (
	blockBytes = 4 << 10
	// fanIn is how many runs of one level become one of the next.
	fanIn = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// runWriter writes a run.
type runWriter struct {
	r     *run
	out   *bufio.Writer
	block []byte
	at    int64
	hash  func([]byte) uint64
}

func (s *store) newRun(level, count int) (*runWriter, error) {
	f, err := os.CreateTemp(s.dir, "banyan-rows-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	r := &run{f: f, level: level, filter: newFilter(count), number: -1}
	return &runWriter{r: r, out: bufio.NewWriterSize(f, readAhead), hash: s.hash}, nil
}

// add appends an entry; gone says that its row is deleted.
func (w *runWriter) add(key, value []byte, gone bool) error {
	if len(w.block) == 0 {
		w.r.firsts = append(w.r.firsts, key...)
		w.r.ends = append(w.r.ends, uint32(len(w.r.firsts)))
		w.r.offset = append(w.r.offset, w.at)
	}
	w.r.filter.add(w.hash(key))
	w.r.count++
	w.block = binary.AppendUvarint(w.block, uint64(len(key)))
	w.block = append(w.block, key...)
	if gone {
		w.block = append(w.block, 0)
	} else {
		w.block = binary.AppendUvarint(w.block, uint64(len(value))+1)
		w.block = append(w.block, value...)
	}
	if len(w.block) >= blockBytes {
		return w.endBlock()
	}
	return nil
}

func (w *runWriter) endBlock() error {
	if len(w.block) == 0 {
		return nil
	}
	w.block = binary.BigEndian.AppendUint32(w.block, crc32.Checksum(w.block, castagnoli))
	w.at += int64(len(w.block))
	_, err := w.out.Write(w.block)
	w.block = w.block[:0]
	return err
}

func (w *runWriter) finish() (*run, error) {
	err := w.endBlock()
	if err == nil {
		err = w.out.Flush()
	}
	if err != nil {
		w.r.f.Close()
		return nil, err
	}
	w.r.offset = append(w.r.offset, w.at)
	return w.r, nil
}

func (r *run) blocks() int { return len(r.ends) }

func (r *run) first(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = r.ends[i-1]
	}
	return r.firsts[from:r.ends[i]]
}

// blockFor gives the block that a key lies in if it lies anywhere; -1 is before
// the first.
func (r *run) blockFor(key []byte) int {
	return sort.Search(r.blocks(), func(i int) bool { return bytes.Compare(r.first(i), key) > 0 }) - 1
}

// get finds a key. A row that is deleted here is found and nil.
func (r *run) get(key []byte, hash uint64) (value []byte, found bool, err error) {
	if !r.filter.mayHave(hash) {
		return nil, false, nil
	}
	i := r.blockFor(key)
	if i < 0 {
		return nil, false, nil
	}
	if r.number != i {
		r.number = -1
		if r.block, err = r.read(r.block, i, i+1); err != nil {
			return nil, false, err
		}
		r.number = i
	}
	rest := r.block[:len(r.block)-4]
	for len(rest) > 0 {
		var e spilled
		if e, rest, err = nextSpilled(rest); err != nil {
			return nil, false, err
		}
		switch c := bytes.Compare(e.key, key); {
		case c == 0:
			return e.value, true, nil
		case c > 0:
			return nil, false, nil
		}
	}
	return nil, false, nil
}

// read gets blocks from..until and proves the check sum of each.
func (r *run) read(buf []byte, from, until int) ([]byte, error) {
	n := int(r.offset[until] - r.offset[from])
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := r.f.ReadAt(buf, r.offset[from]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read spilled rows: %w", err)
	}
	for i := from; i < until; i++ {
		b := buf[r.offset[i]-r.offset[from] : r.offset[i+1]-r.offset[from]]
		data, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
		if crc32.Checksum(data, castagnoli) != sum {
			return nil, fmt.Errorf("read spilled rows: the disk gives other bytes than were written")
		}
	}
	return buf, nil
}

func (r *run) size() int64 { return r.offset[len(r.offset)-1] }

func (r *run) memory() int64 {
	return int64(cap(r.firsts) + 4*cap(r.ends) + 8*cap(r.offset) + 8*len(r.filter) + cap(r.block))
}

func (r *run) close() error { return r.f.Close() }

// spilled is an entry of a run; the value of a deleted row is nil.
type spilled struct{ key, value []byte }

func nextSpilled(b []byte) (e spilled, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return e, nil, fmt.Errorf("read spilled rows: an entry ends early")
	}
	e.key, b = b[w:w+int(n)], b[w+int(n):]
	n, w = binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w)+1 {
		return e, nil, fmt.Errorf("read spilled rows: an entry ends early")
	}
	b = b[w:]
	if n > 0 {
		e.value, b = b[:n-1:n-1], b[n-1:]
	}
	return e, b, nil
}

// filter is a Bloom filter with about ten bits for each key: it is wrong about
// one in a hundred keys that are not there.
type filter []uint64

const filterProbes = 7

func newFilter(keys int) filter { return make(filter, (keys*10+127)/64) }

func (f filter) add(hash uint64) {
	step := hash>>33 | 1
	for range filterProbes {
		bit := hash % uint64(len(f)*64)
		f[bit/64] |= 1 << (bit % 64)
		hash += step
		hash ^= hash >> 29
	}
}

func (f filter) mayHave(hash uint64) bool {
	step := hash>>33 | 1
	for range filterProbes {
		bit := hash % uint64(len(f)*64)
		if f[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
		hash += step
		hash ^= hash >> 29
	}
	return true
}
