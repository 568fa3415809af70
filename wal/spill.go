package wal

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"sync"
)

// spillPrefix marks our files in the spill directory.
const spillPrefix = "banyan-wal-"

// spillFile holds the records of one transaction, each with its length in
// front. The file has no name any more once it is open, so that it goes with
// the process however that ends.
type spillFile struct {
	f      *os.File
	path   string // set where an open file cannot lose its name
	tables []*Table
	size   int64

	once sync.Once
	err  error
}

// spillError is a disk that does not take what memory cannot hold.
type spillError struct{ err error }

func (e *spillError) Error() string { return "spill a large transaction to disk: " + e.err.Error() }
func (e *spillError) Unwrap() error { return e.err }

// cleanSpillDir makes the directory and removes what a process left that died
// between making a file and taking its name away.
func cleanSpillDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the spill directory: %w", err)
	}
	stale, err := filepath.Glob(filepath.Join(dir, spillPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for old spill files: %w", err)
	}
	for _, name := range stale {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove an old spill file: %w", err)
		}
	}
	return nil
}

func newSpill(dir string) (*spillFile, error) {
	f, err := os.CreateTemp(dir, spillPrefix+"*")
	if err != nil {
		return nil, &spillError{err}
	}
	s := &spillFile{f: f}
	if err := os.Remove(f.Name()); err != nil && !os.IsNotExist(err) {
		s.path = f.Name()
	}
	return s, nil
}

func (s *spillFile) write(b []byte) error {
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return &spillError{err}
	}
	s.size += int64(len(b))
	return nil
}

// all reads the file from its start, each time anew. A Change it yields may be
// kept.
func (s *spillFile) all() iter.Seq2[*Change, error] {
	return func(yield func(*Change, error) bool) {
		r := bufio.NewReaderSize(io.NewSectionReader(s.f, 0, s.size), 256<<10)
		var values slab[Value]
		var changes slab[Change]
		for ordinal := int64(0); ; ordinal++ {
			c, err := s.one(r, &changes, &values)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("read change %d of a spilled transaction: %w", ordinal, err))
				return
			}
			c.Ordinal = ordinal
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (s *spillFile) one(r *bufio.Reader, changes *slab[Change], values *slab[Value]) (*Change, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > uint64(s.size) {
		return nil, errRecord
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	c := &changes.take(1)[0]
	rest, err := decodeRecord(b, c, s.tables, values)
	if err == nil && len(rest) > 0 {
		err = errRecord
	}
	return c, err
}

func (s *spillFile) close() error {
	s.once.Do(func() {
		s.err = s.f.Close()
		if s.path != "" {
			if err := os.Remove(s.path); err != nil && s.err == nil {
				s.err = err
			}
		}
	})
	return s.err
}
