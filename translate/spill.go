package translate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"

	"banyan/event"
	"banyan/wal"
)

// spillFile is a file of records that is written once and read any number of
// times. A record is a uvarint length and its bytes.
type spillFile struct {
	f *os.File
	w *bufio.Writer
	n int64
}

func createSpill(dir, name string) (*spillFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spill: %w", err)
	}
	return &spillFile{f: f, w: bufio.NewWriterSize(f, 32<<10)}, nil
}

func (s *spillFile) write(record []byte) error {
	var head [binary.MaxVarintLen64]byte
	if _, err := s.w.Write(head[:binary.PutUvarint(head[:], uint64(len(record)))]); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	if _, err := s.w.Write(record); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	s.n++
	return nil
}

// read gives every record; the bytes are only good until the next one.
func (s *spillFile) read(each func(record []byte) error) error {
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("spill: %w", err)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(s.f, 0, 1<<62), 64<<10)
	var buf []byte
	for {
		n, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		if uint64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(in, buf); err != nil {
			return fmt.Errorf("spill: %w", err)
		}
		if err := each(buf); err != nil {
			return err
		}
	}
}

// spillSet is one file for each bucket, made when it is first written.
type spillSet struct {
	dir, name string
	files     []*spillFile
}

func newSpillSet(dir, name string, n int) *spillSet {
	return &spillSet{dir: dir, name: name, files: make([]*spillFile, n)}
}

func (s *spillSet) write(bucket int, record []byte) error {
	if s.files[bucket] == nil {
		f, err := createSpill(s.dir, fmt.Sprintf("%s.%d", s.name, bucket))
		if err != nil {
			return err
		}
		s.files[bucket] = f
	}
	return s.files[bucket].write(record)
}

func (s *spillSet) read(bucket int, each func(record []byte) error) error {
	if s.files[bucket] == nil {
		return nil
	}
	return s.files[bucket].read(each)
}

func (s *spillSet) close() {
	for _, f := range s.files {
		if f != nil {
			f.f.Close()
		}
	}
}

// hashSeed is the process's own: buckets do not outlive a call.
var hashSeed = maphash.MakeSeed()

func bucketOf(n int, parts ...string) int {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	return int(h.Sum64() % uint64(n))
}

func appendSpillRow(dst []byte, r row) []byte {
	if r == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	for _, v := range r {
		dst = append(dst, v.kind)
		if v.kind == valText {
			dst = appendText(dst, v.s)
		}
	}
	return dst
}

func (r *reader) byte() byte {
	s := r.take(1)
	if s == "" {
		return 0
	}
	return s[0]
}

func (r *reader) row(n int) row {
	if r.byte() == 0 {
		return nil
	}
	out := make(row, n)
	for i := range out {
		if out[i].kind = r.byte(); out[i].kind == valText {
			out[i].s = r.text()
		}
	}
	return out
}

// appendChange writes a change; readChange reads it.
func (r *Rules) appendChange(dst []byte, c *change) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.seq))
	dst = binary.AppendUvarint(dst, uint64(c.ordinal))
	dst = append(dst, byte(c.op))
	dst = binary.AppendUvarint(dst, uint64(c.t.index))
	return appendSpillRow(appendSpillRow(dst, c.old), c.new)
}

func (r *Rules) readChange(in *reader) *change {
	c := &change{seq: in.uvarint(), ordinal: int64(in.uvarint()), op: wal.Op(in.byte())}
	c.t = r.list[in.uvarint()]
	c.old, c.new = in.row(len(c.t.cols)), in.row(len(c.t.cols))
	return c
}

func appendTarget(dst []byte, g *target) []byte {
	dst = binary.AppendUvarint(dst, uint64(g.t.index))
	dst = append(dst, byte(g.op), byte(g.kind), byte(g.mate+1))
	maybe := byte(0)
	if g.maybe {
		maybe = 1
	}
	return append(appendText(appendText(appendText(dst, g.ref.Aggregate), g.ref.Key), g.lost), maybe)
}

func (r *Rules) readTarget(in *reader) target {
	index := in.uvarint()
	g := target{op: wal.Op(in.byte()), kind: partKind(in.byte()), mate: int(in.byte()) - 1}
	g.ref.Aggregate, g.ref.Key, g.lost = in.text(), in.text(), in.text()
	g.maybe = in.byte() == 1
	g.t = r.byName[g.ref.Aggregate].tables[index]
	return g
}

// groups ties aggregates that must be looked at together, because a row moves
// between them: a union-find over their refs.
type groups map[event.Ref]event.Ref

func (g groups) find(r event.Ref) event.Ref {
	for {
		up, ok := g[r]
		if !ok || up == r {
			return r
		}
		if next, ok := g[up]; ok && next != up {
			g[r] = next // shorten the way
		}
		r = up
	}
}

func (g groups) union(a, b event.Ref) {
	a, b = g.find(a), g.find(b)
	if a != b {
		g[a] = b
	}
}
