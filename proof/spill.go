package proof

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"sync"

	"banyan/event"
)

// tempFile makes a file that has no name any more: whatever becomes of this
// process, it leaves nothing behind.
func tempFile(dir string) (*os.File, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make a spill file: %w", err)
		}
	}
	f, err := os.CreateTemp(dir, "banyan-proof-*")
	if err != nil {
		return nil, fmt.Errorf("make a spill file: %w", err)
	}
	// Another process may clean the directory up at this moment.
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("make a spill file: %w", err), f.Close())
	}
	return f, nil
}

// shelf keeps entries on disk, parted by the hash of their key, so that two
// shelves can be compared part by part. Adding is safe for concurrent use;
// reading comes after all adding.
type shelf struct{ parts []*part }

type part struct {
	mu   sync.Mutex
	file *os.File
	w    *bufio.Writer
	n    int64
}

const partBuffer = 32 << 10

func newShelf(dir string, parts int) (*shelf, error) {
	s := &shelf{}
	for range parts {
		f, err := tempFile(dir)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.parts = append(s.parts, &part{file: f, w: bufio.NewWriterSize(f, partBuffer)})
	}
	return s, nil
}

// close frees the disk. It may be called twice, and on nil.
func (s *shelf) close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, p := range s.parts {
		errs = append(errs, p.file.Close())
	}
	s.parts = nil
	return errors.Join(errs...)
}

func (s *shelf) of(r event.Ref) *part {
	h := fnv.New32a()
	io.WriteString(h, r.Aggregate)
	h.Write([]byte{0})
	io.WriteString(h, r.Key)
	return s.parts[h.Sum32()%uint32(len(s.parts))]
}

// add writes one entry, framed by its length.
func (s *shelf) add(r event.Ref, entry []byte) error {
	p := s.of(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	var n [binary.MaxVarintLen64]byte
	_, err := p.w.Write(n[:binary.PutUvarint(n[:], uint64(len(entry)))])
	if err == nil {
		_, err = p.w.Write(entry)
	}
	if err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	return nil
}

// read gives the entries of one part in the order in which they were added.
// The bytes are valid until fn returns.
func (s *shelf) read(i int, fn func(*decoder) error) error {
	p := s.parts[i]
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read what was spilled: %w", err)
	}
	// More may be added after this pass.
	defer p.file.Seek(0, io.SeekEnd)
	r := bufio.NewReaderSize(p.file, partBuffer)
	var buf []byte
	for range p.n {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return fmt.Errorf("read what was spilled: %w", err)
		}
		if uint64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("read what was spilled: %w", err)
		}
		d := &decoder{b: buf}
		if err := fn(d); err != nil {
			return err
		}
		if d.broken {
			return errors.New("read what was spilled: the file is damaged")
		}
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads what the append functions wrote. Past the end it gives zeros
// and remembers.
type decoder struct {
	b      []byte
	broken bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.broken, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.broken, d.b = true, nil
		return make([]byte, max(0, min(n, 64)))
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return string(d.bytes(int(d.uvarint()))) }

func appendPosition(b []byte, p event.Position) []byte {
	b = binary.AppendUvarint(b, uint64(p.Generation))
	b = binary.AppendUvarint(b, p.LSN)
	b = binary.AppendUvarint(b, uint64(p.Ordinal))
	return binary.AppendUvarint(b, uint64(p.Snapshot))
}

func (d *decoder) position() event.Position {
	return event.Position{Generation: int(d.uvarint()), LSN: d.uvarint(), Ordinal: int64(d.uvarint()), Snapshot: int(d.uvarint())}
}

// prints keeps a fingerprint of the record under every seq of one partition on
// disk: eight bytes each, at eight times the seq. Seqs come nearly in order, so
// writing is sequential; a repeat costs one read.
type prints struct {
	file *os.File
	w    *bufio.Writer
	next int64 // seq that the writer stands at
}

func newPrints(dir string) (*prints, error) {
	f, err := tempFile(dir)
	if err != nil {
		return nil, err
	}
	return &prints{file: f, w: bufio.NewWriterSize(f, partBuffer)}, nil
}

// put keeps the print, never 0, of a seq above all before.
func (p *prints) put(seq int64, print uint64) error {
	if seq != p.next {
		if err := p.w.Flush(); err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		// What is skipped reads as zeros: never seen.
		if _, err := p.file.Seek(seq*8, io.SeekStart); err != nil {
			return fmt.Errorf("spill: %w", err)
		}
	}
	p.next = seq + 1
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], print)
	if _, err := p.w.Write(b[:]); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	return nil
}

// get gives the print of a seq below the highest, 0 where there is none.
func (p *prints) get(seq int64) (uint64, error) {
	if err := p.w.Flush(); err != nil {
		return 0, fmt.Errorf("spill: %w", err)
	}
	var b [8]byte
	if _, err := p.file.ReadAt(b[:], seq*8); err != nil {
		return 0, fmt.Errorf("read what was spilled: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

func (p *prints) close() error { return p.file.Close() }
