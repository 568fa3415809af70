package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/google/go-cmp/cmp"
)

// message builds pgoutput messages.
type message []byte

func (m message) u8(v byte) message    { return append(m, v) }
func (m message) u16(v int) message    { return binary.BigEndian.AppendUint16(m, uint16(v)) }
func (m message) u32(v uint32) message { return binary.BigEndian.AppendUint32(m, v) }
func (m message) u64(v uint64) message { return binary.BigEndian.AppendUint64(m, v) }
func (m message) text(s string) message {
	return append(append(m, s...), 0)
}

// tuple appends a row; nil is NULL, "\x00u" an unchanged value.
func (m message) tuple(values ...any) message {
	m = m.u16(len(values))
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			m = m.u8('n')
		case string:
			if v == "\x00u" {
				m = m.u8('u')
				continue
			}
			m = append(m.u8('t').u32(uint32(len(v))), v...)
		}
	}
	return m
}

func begin(final LSN, xid uint32) message {
	return message{msgBegin}.u64(uint64(final)).u64(0).u32(xid)
}

func commit(final LSN) message {
	return message{msgCommit}.u8(0).u64(uint64(final)).u64(uint64(final) + 8).u64(0)
}

// relate describes a table whose first column is its key.
func relate(oid uint32, name string, columns ...string) message {
	m := message{msgRelation}.u32(oid).text("public").text(name).u8('d').u16(len(columns))
	for i, c := range columns {
		flag := byte(0)
		if i == 0 {
			flag = 1
		}
		m = m.u8(flag).text(c).u32(25).u32(0xFFFFFFFF)
	}
	return m
}

func newAssembler(dir string, limit int64, capture Capture) (*assembler, *int64) {
	held := new(int64)
	a := &assembler{spillDir: dir, limit: limit, held: func(d int64) { *held += d }}
	a.relations = newRelations(capture, func(facts) (*columnFacts, error) {
		return &columnFacts{types: map[uint32]string{25: "text"}}, nil
	})
	return a, held
}

var testCapture = Capture{"public.a": {"id", "v"}, "public.b": {"id"}}

func script() []message {
	return []message{
		relate(1, "a", "id", "secret", "v"), relate(2, "b", "id"), relate(3, "other", "id"),
		begin(100, 7),
		message{msgInsert}.u32(1).u8('N').tuple("1", "s", "x"),
		message{msgUpdate}.u32(1).u8('N').tuple("1", "s", "\x00u"),
		message{msgUpdate}.u32(1).u8('K').tuple("1", nil, nil).u8('N').tuple("2", "s", nil),
		message{msgUpdate}.u32(1).u8('O').tuple("2", "s", "long").u8('N').tuple("2", "s", "\x00u"),
		message{msgInsert}.u32(3).u8('N').tuple("1"),
		message{msgDelete}.u32(1).u8('K').tuple("2", nil, nil),
		message{msgDelete}.u32(2).u8('O').tuple("9"),
		message{msgType}.u32(9).text("public").text("mood"), message{msgOrigin}.u64(1).text("o"), message{msgLogical, 0},
		message{msgTruncate}.u32(3).u8(0).u32(3).u32(2).u32(1),
		commit(100),
	}
}

// play gives the changes of all transactions as text.
func play(a *assembler, messages iter.Seq[[]byte]) (string, error) {
	var b strings.Builder
	for m := range messages {
		tx, err := a.message(m)
		if err != nil {
			return b.String(), err
		}
		if tx == nil {
			continue
		}
		fmt.Fprintf(&b, "tx %d %s %s %d\n", tx.XID, tx.CommitLSN, tx.EndLSN, tx.Len)
		for c, err := range tx.All() {
			if err != nil {
				return b.String(), fmt.Errorf("read back: %w", err)
			}
			fmt.Fprintf(&b, "%d %s %s %d>%d", c.Ordinal, c.Op, c.Table.Name, len(c.Old), len(c.New))
			for _, row := range []Row{c.Old, c.New} {
				for _, v := range row {
					fmt.Fprintf(&b, " %d%q", v.Kind, v.Bytes)
				}
			}
			b.WriteByte('\n')
		}
		if err := tx.Close(); err != nil {
			return b.String(), err
		}
	}
	return b.String(), nil
}

func each(messages []message) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, m := range messages {
			if !yield(m) {
				return
			}
		}
	}
}

func TestAssembleInMemoryAndOnDisk(t *testing.T) {
	want := `tx 7 0/64 0/6C 8
0 insert a 0>2 1"1" 1"x"
1 update a 0>2 1"1" 2""
2 update a 2>2 1"1" 3"" 1"2" 0""
3 update a 2>2 1"2" 1"long" 1"2" 1"long"
4 delete a 2>0 1"2" 3""
5 delete b 1>0 1"9"
6 truncate b 0>0
7 truncate a 0>0
`
	for _, limit := range []int64{1 << 20, 0, 200, 500} {
		a, _ := newAssembler(t.TempDir(), limit, testCapture)
		twice := append(script(), append([]message{begin(200, 8)}, message{msgInsert}.u32(2).u8('N').tuple("3"), commit(200))...)
		got, err := play(a, each(twice))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want+"tx 8 0/C8 0/D0 1\n0 insert b 0>1 1\"3\"\n", got); diff != "" {
			t.Errorf("limit %d: -want +got:\n%s", limit, diff)
		}
	}
}

// Rows larger than every buffer of ours.
func TestAssembleLargeRows(t *testing.T) {
	ms := []message{relate(2, "b", "id"), begin(100, 7)}
	for i := range 5 {
		ms = append(ms, message{msgInsert}.u32(2).u8('N').tuple(strings.Repeat(string(rune('a'+i)), (i%3)*spillChunk+i)))
	}
	ms = append(ms, commit(100), begin(200, 8), message{msgInsert}.u32(2).u8('N').tuple("small"), commit(200))
	var want string
	for _, limit := range []int64{1 << 40, 1 << 19, 0} {
		a, held := newAssembler(t.TempDir(), limit, testCapture)
		got, err := play(a, each(ms))
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = got
		}
		if got != want || strings.Count(got, "insert") != 6 || limit == 0 && *held != 0 {
			t.Errorf("limit %d: %d bytes of changes, want %d; held %d", limit, len(got), len(want), *held)
		}
	}
}

func TestAssembleSkipsWhatWasHandedOver(t *testing.T) {
	a, held := newAssembler(t.TempDir(), 0, testCapture)
	a.skip = 101
	got, err := play(a, each(append(script(), begin(101, 8), message{msgInsert}.u32(2).u8('N').tuple("3"), commit(101))))
	if err != nil {
		t.Fatal(err)
	}
	if want := "tx 8 0/65 0/6D 1\n0 insert b 0>1 1\"3\"\n"; got != want || *held != 0 {
		t.Errorf("%q, held %d; want %q", got, *held, want)
	}
}

// A connection that breaks inside a transaction leaves nothing of it.
func TestAssembleResetInMidTransaction(t *testing.T) {
	for _, limit := range []int64{1 << 20, 0} {
		dir := t.TempDir()
		a, held := newAssembler(dir, limit, testCapture)
		if _, err := play(a, each(script()[:9])); err != nil {
			t.Fatal(err)
		}
		if err := a.reset(); err != nil {
			t.Fatal(err)
		}
		if *held != 0 {
			t.Errorf("%d bytes still held", *held)
		}
		got, err := play(a, each(script()))
		if err != nil || !strings.HasPrefix(got, "tx 7 0/64 0/6C 8\n0 insert") {
			t.Errorf("limit %d: %v\n%s", limit, err, got)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
	}
}

func TestAssembleRefusesWhatItDoesNotKnow(t *testing.T) {
	prefix := script()[:4]
	for name, m := range map[string]message{
		"an unknown message":         {'Z', 1},
		"no message":                 {},
		"a streamed transaction":     {'S', 0, 0, 0, 1, 1},
		"a table never described":    message{msgInsert}.u32(77).u8('N').tuple("1"),
		"a binary column":            message{msgInsert}.u32(2).u8('N').u16(1).u8('b').u32(1).u8(1),
		"a row with too few columns": message{msgInsert}.u32(1).u8('N').tuple("1"),
		"an insert without a row":    message{msgInsert}.u32(2).u8('K').tuple("1"),
		"a delete without a row":     message{msgDelete}.u32(2).u8('N').tuple("1"),
		"bytes behind the row":       message{msgInsert}.u32(2).u8('N').tuple("1").u8(0),
		"a length beyond the end":    message{msgInsert}.u32(2).u8('N').u16(1).u8('t').u32(1 << 31),
		"a begin inside":             begin(200, 9),
		"another commit":             commit(300),
		"a short commit":             commit(100)[:20],
		"a short relation":           relate(1, "a", "id")[:20],
		"a truncate of too many":     message{msgTruncate}.u32(1 << 30).u8(0).u32(1),
	} {
		a, _ := newAssembler(t.TempDir(), 1<<20, testCapture)
		if _, err := play(a, each(append(prefix[:4:4], m))); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	a, _ := newAssembler(t.TempDir(), 1<<20, testCapture)
	if _, err := play(a, each([]message{relate(2, "b", "id"), message{msgInsert}.u32(2).u8('N').tuple("1")})); err == nil {
		t.Error("a row outside a transaction was taken")
	}
}

func TestSpillDirLosesWhatACrashLeft(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{spillPrefix + "1", "somebody else's"} {
		if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := cleanSpillDir(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "somebody else's" {
		t.Errorf("left: %v, %v", left, err)
	}
	a, _ := newAssembler(dir+"/gone", 0, testCapture)
	_, err = play(a, each(script()))
	if _, ok := errors.AsType[*spillError](err); !ok {
		t.Errorf("a spill without a directory: %v", err)
	}
}

// Whatever bytes come, the assembler refuses or understands them, and a
// transaction reads the same from memory and from disk.
func FuzzAssemble(f *testing.F) {
	frame := func(messages []message) []byte {
		var b []byte
		for _, m := range messages {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
		}
		return b
	}
	f.Add(frame(script()))
	for i := range script() {
		f.Add(frame(append(script()[:4:4], script()[i])))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		messages := func(yield func([]byte) bool) {
			for rest := b; len(rest) > 2; {
				n := min(int(binary.BigEndian.Uint16(rest)), len(rest)-2)
				if !yield(rest[2 : 2+n]) {
					return
				}
				rest = rest[2+n:]
			}
		}
		memory, _ := newAssembler("", 1<<40, testCapture)
		inMemory, err := play(memory, messages)
		if !strings.Contains(inMemory, "\n0 ") {
			return // no change came out; the disk would tell nothing new
		}
		disk, _ := newAssembler(t.TempDir(), 0, testCapture)
		onDisk, diskErr := play(disk, messages)
		if resetErr := disk.reset(); resetErr != nil {
			t.Error(resetErr)
		}
		if inMemory != onDisk || (err == nil) != (diskErr == nil) {
			t.Errorf("in memory %v\n%s\non disk %v\n%s", err, inMemory, diskErr, onDisk)
		}
	})
}

// rowsOf makes transactions of n rows each, with five columns of 60 bytes.
func rowsOf(n int) []message {
	ms := []message{begin(100, 7)}
	for range n {
		ms = append(ms, message{msgInsert}.u32(1).u8('N').tuple("123456", "new", "19.99", "2024-01-01 00:00:00", "a short note"))
	}
	return append(ms, commit(100))
}

var wide = Capture{"public.a": {"id", "status", "total", "at", "note"}}

func assemble(tb testing.TB, a *assembler, ms []message) *Tx {
	var tx *Tx
	for _, m := range ms {
		var err error
		if tx, err = a.message(m); err != nil {
			tb.Fatal(err)
		}
	}
	return tx
}

func wideAssembler(tb testing.TB) *assembler {
	a, _ := newAssembler(tb.TempDir(), 1<<30, wide)
	if _, err := a.message(relate(1, "a", "id", "status", "total", "at", "note")); err != nil {
		tb.Fatal(err)
	}
	return a
}

// The bound is what makes the reader cheap; it needs no database to hold it.
func TestDecodeAllocatesLessThanOncePerRow(t *testing.T) {
	for _, rows := range []int{1, 1000} {
		a, ms := wideAssembler(t), rowsOf(rows)
		per := testing.AllocsPerRun(1000/rows+10, func() {
			for range 100 {
				assemble(t, a, ms)
			}
		}) / float64(100*rows)
		if per > 0.2 {
			t.Errorf("%d rows per transaction: %.3f allocations per row, want at most 0.2", rows, per)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, rows := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d-rows-per-tx", rows), func(b *testing.B) {
			a, ms := wideAssembler(b), rowsOf(rows)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n += int(assemble(b, a, ms).Len)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
		})
	}
}

// A backlog of middling transactions must not be kept in memory as a whole by
// the one that is in use.
func TestLargeTransactionsAreFreedOneByOne(t *testing.T) {
	for _, what := range []struct {
		name string
		rows int
		text string
	}{{"many rows", 100, strings.Repeat("x", 100)}, {"one wide row", 1, strings.Repeat("x", 1<<20)}} {
		t.Run(what.name, func(t *testing.T) {
			a, _ := newAssembler(t.TempDir(), 64<<20, testCapture)
			if _, err := a.message(relate(1, "a", "id", "secret", "v")); err != nil {
				t.Fatal(err)
			}
			one := func(rows int, text string) *Tx {
				messages := []message{begin(100, 7)}
				for range rows {
					messages = append(messages, message{msgInsert}.u32(1).u8('N').tuple("1", "s", text))
				}
				var tx *Tx
				for _, m := range append(messages, commit(100)) {
					var err error
					if tx, err = a.message(m); err != nil {
						t.Fatal(err)
					}
				}
				return tx
			}
			first := weak.Make(&one(what.rows, what.text).changes[0])
			last := []*Tx{one(1, "small"), one(what.rows, what.text), one(1, "small")}
			runtime.GC()
			if first.Value() != nil {
				t.Error("a transaction that nobody uses is kept by its successors")
			}
			runtime.KeepAlive(last)
			runtime.KeepAlive(a)
		})
	}
}
