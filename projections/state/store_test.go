package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// TestStoreIsAMap compares a store that spills, merges and cleans all the time
// with maps.
func TestStoreIsAMap(t *testing.T) {
	dir := t.TempDir()
	key := func(r *rapid.T) []byte {
		k := binary.BigEndian.AppendUint16(nil, uint16(rapid.IntRange(0, 1).Draw(r, "table")))
		return append(k, rapid.StringMatching(`[ab]{0,3}|.{9}[a-d]`).Draw(r, "key")...)
	}
	rapid.Check(t, func(r *rapid.T) {
		s := newStore(2, 1<<30, dir)
		defer s.close()
		want := map[string][]byte{}
		// A put of a row that only the runs have makes the count too large,
		// unless a get came before.
		blind := rapid.Bool().Draw(r, "blind puts")
		for range rapid.IntRange(1, 120).Draw(r, "events") {
			before := maps.Clone(want)
			s.begin()
			for range rapid.IntRange(1, 3).Draw(r, "steps") {
				k := key(r)
				switch rapid.SampledFrom([]string{"put", "put", "blind put", "remove", "get"}).Draw(r, "do") {
				case "put":
					storeGet(r, s, k, want)
					storePut(r, s, k, want)
				case "blind put":
					if !blind {
						storeGet(r, s, k, want)
					}
					storePut(r, s, k, want)
				case "remove":
					if err := s.remove(k); err != nil {
						r.Fatal(err)
					}
					delete(want, string(k))
				case "get":
					storeGet(r, s, k, want)
				}
			}
			if rapid.IntRange(0, 3).Draw(r, "undo") == 0 {
				s.undo()
				want = before
			}
			s.begin()
			switch rapid.IntRange(0, 5).Draw(r, "housekeeping") {
			case 0:
				if err := s.spill(); err != nil {
					r.Fatal(err)
				}
			case 1:
				s.tail = 0 // so that every chunk may be cleaned
				s.clean()
			}
		}
		checkStore(r, s, want, blind)
	})
}

func storePut(r *rapid.T, s *store, k []byte, want map[string][]byte) {
	size := rapid.SampledFrom([]int{0, 1, 1, 2, 8, 30, 30, 100, 100, 300, 3000, chunkBytes}).Draw(r, "size")
	v := bytes.Repeat([]byte{byte(rapid.IntRange('a', 'z').Draw(r, "value"))}, size)
	if err := s.put(k, v); err != nil {
		r.Fatal(err)
	}
	want[string(k)] = v
}

func storeGet(r *rapid.T, s *store, k []byte, want map[string][]byte) {
	v, err := s.get(k)
	if err != nil {
		r.Fatal(err)
	}
	if w, ok := want[string(k)]; ok != (v != nil) || !bytes.Equal(v, w) {
		r.Fatalf("get %q gives %.40q, want %.40q, %v", k, v, w, ok)
	}
}

// checkBooks counts what the store says it has.
func checkBooks(r *rapid.T, s *store) {
	used, live := 0, 0
	for _, sl := range s.slots {
		if sl != 0 {
			used++
			live += s.at(sl).size()
		}
	}
	inUse, written, dead := 0, 0, 0
	for _, c := range s.chunks {
		written, dead = written+len(c.b), dead+c.dead
		if len(c.b) > 0 {
			inUse += cap(c.b)
		}
	}
	if s.used != used || s.dead != int64(dead) || written-dead != live || s.inUse != int64(inUse) {
		r.Fatalf("the store says %d slots, %d bytes dead, %d in use; there are %d, %d, %d, and %d of %d written live", s.used, s.dead, s.inUse, used, dead, inUse, live, written)
	}
}

func checkStore(r *rapid.T, s *store, want map[string][]byte, blind bool) {
	checkBooks(r, s)
	keys := slices.Sorted(maps.Keys(want))
	var found []string
	for table := range 2 {
		rows, err := s.walk(table)
		if err != nil {
			r.Fatal(err)
		}
		n := 0
		for {
			ok, err := rows.next()
			if err != nil {
				r.Fatal(err)
			}
			if !ok {
				break
			}
			e := rows.entry()
			if e.value == nil {
				continue
			}
			if !bytes.Equal(e.value, want[string(e.key)]) {
				r.Fatalf("walk gives %q = %.40q, want %.40q", e.key, e.value, want[string(e.key)])
			}
			found = append(found, string(e.key))
			n++
		}
		if s.counts[table] < n || !blind && s.counts[table] != n {
			r.Fatalf("table %d counts %d rows, it has %d", table, s.counts[table], n)
		}
	}
	if !slices.Equal(found, keys) {
		r.Fatalf("walk gives the keys\n%q, want\n%q", found, keys)
	}
}

// TestDamagedSpill: a disk that gives other bytes back is found out.
func TestDamagedSpill(t *testing.T) {
	s := newStore(1, 1<<30, t.TempDir())
	defer s.close()
	for i := range 5000 {
		if err := s.put(binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(i)), []byte("a row of some length")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.spill(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.runs[0].f.WriteAt([]byte("x"), s.runs[0].size()/2); err != nil {
		t.Fatal(err)
	}
	rows, err := s.walk(0)
	for err == nil {
		var ok bool
		if ok, err = rows.next(); err == nil && !ok {
			t.Fatal("the damage was not noticed")
		}
	}
	if !strings.Contains(err.Error(), "other bytes than were written") {
		t.Fatal(err)
	}
}

// TestFullDisk gives a process of its own a limit on the size of files, which is
// what a full disk looks like to a writer.
func TestFullDisk(t *testing.T) {
	const role = "BANYAN_STATE_FULL_DISK"
	if dir, child := os.LookupEnv(role); child {
		fillDisk(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), role+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFullDisk") {
		t.Fatalf("%v\n%s", err, out)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

func fillDisk(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ) // the write fails instead
	limit := syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	b, err := NewBulk([]Table{customers}, BulkOptions{Dir: dir, MemoryBytes: leastMemory})
	if err != nil {
		t.Fatal(err)
	}
	rows := b.Rows("customers")
	var failed error
	for i := 0; failed == nil; i++ {
		if i == 10_000_000 {
			t.Fatal("the disk was never full")
		}
		b.Begin()
		failed = rows.Put(Row{fmt.Sprintf("customer-%d", i), "some name", int64(i), nil})
	}
	if !errors.Is(failed, syscall.EFBIG) || !strings.Contains(failed.Error(), "spill 3 MiB of rows to "+dir) {
		t.Fatalf("the error is %v", failed)
	}
	// Nothing half done: all that follows gives the same error.
	k, err := rows.Key("x")
	if err != nil {
		t.Fatal(err)
	}
	_, _, get := rows.Get(k)
	var each error
	for _, each = range b.Each("customers") {
		break
	}
	for _, err := range []error{get, each, rows.Delete(k), rows.Put(Row{"x", nil, int64(1), nil}), b.Copy(t.Context(), nil, "s", nil)} {
		if !errors.Is(err, failed) {
			t.Errorf("after it: %v", err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
