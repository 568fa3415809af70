package wal

import (
	"encoding/binary"
	"fmt"
)

// A change waits for its commit in a compact record, in memory or in a spill
// file: the kept columns only, with the table named by its number in the
// transaction.
//
//	record = op byte, table uvarint, [old kind byte, [image]], [image]
//	image  = per column of the table: kind byte, for Text uvarint length and bytes
//
// An update has old kind and new image, an insert the new image, a delete the
// old kind and old image, a truncate nothing. Old kinds are those of pgoutput:
// 'K' (key), 'O' (whole row) or 0 (none).

// appendImage copies the kept columns of the tuple at the front of w. For a key
// image the columns outside the replica identity are Absent: the server fills
// them with NULL, which they need not be.
func appendImage(dst []byte, w *walker, rel *relation, keyOnly bool) (_ []byte, size int, err error) {
	n := w.u16()
	if n != len(rel.keep) && !w.short {
		return dst, 0, fmt.Errorf("row of %s has %d columns, its description %d", rel.table.FullName(), n, len(rel.keep))
	}
	for _, to := range rel.keep {
		kind := w.u8()
		var data []byte
		switch kind {
		case 'n', 'u':
		case 't':
			data = w.take(int(w.u32()))
		default:
			if w.short {
				return dst, 0, errShort
			}
			return dst, 0, fmt.Errorf("row of %s has a column of unknown form %q", rel.table.FullName(), kind)
		}
		if to < 0 {
			continue
		}
		size += valueSize + len(data)
		switch {
		case keyOnly && !rel.table.Columns[to].Identity:
			dst = append(dst, byte(Absent))
		case kind == 'n':
			dst = append(dst, byte(Null))
		case kind == 'u':
			dst = append(dst, byte(Unchanged))
		default:
			dst = append(dst, byte(Text))
			dst = binary.AppendUvarint(dst, uint64(len(data)))
			dst = append(dst, data...)
		}
	}
	if w.short {
		return dst, 0, errShort
	}
	return dst, size, nil
}

const (
	changeSize = 64 // as Change.size counts
	valueSize  = 32
)

// appendRow copies one insert, update or delete message, after its type byte
// and OID, as a record. values is the number of Values that it will decode to.
func appendRow(dst []byte, op Op, w *walker, rel *relation, index int) (_ []byte, size, values int, err error) {
	dst = append(dst, byte(op))
	dst = binary.AppendUvarint(dst, uint64(index))
	size = changeSize
	tag := w.u8()
	if op != Insert {
		old := byte(0)
		if tag == 'K' || tag == 'O' {
			old = tag
		} else if op == Delete {
			return dst, 0, 0, fmt.Errorf("delete in %s without an old row (tag %q)", rel.table.FullName(), tag)
		}
		dst = append(dst, old)
		if old != 0 {
			var n int
			if dst, n, err = appendImage(dst, w, rel, old == 'K'); err != nil {
				return dst, 0, 0, err
			}
			size += n
			values += len(rel.table.Columns)
			if op == Update {
				tag = w.u8()
			}
		}
	}
	if op != Delete {
		if tag != 'N' {
			return dst, 0, 0, fmt.Errorf("%s in %s without a new row (tag %q)", op, rel.table.FullName(), tag)
		}
		var n int
		if dst, n, err = appendImage(dst, w, rel, false); err != nil {
			return dst, 0, 0, err
		}
		size += n
		values += len(rel.table.Columns)
	}
	return dst, size, values, w.end()
}

func appendTruncate(dst []byte, index int) []byte {
	return binary.AppendUvarint(append(dst, byte(Truncate)), uint64(index))
}

// slab hands out slices of one large allocation. What it has handed out is
// freed when none of it is used any more.
type slab[T any] struct{ free []T }

const slabLen = 256

func (s *slab[T]) take(n int) []T {
	if n > len(s.free) {
		if n > slabLen/2 {
			return make([]T, n)
		}
		s.free = make([]T, slabLen)
	}
	p := s.free[:n:n]
	s.free = s.free[n:]
	return p
}

var errRecord = fmt.Errorf("broken record")

// decodeRecord reads one record from the front of b into c, whose values point
// into b. It returns what follows.
func decodeRecord(b []byte, c *Change, tables []*Table, values *slab[Value]) ([]byte, error) {
	if len(b) < 2 {
		return nil, errRecord
	}
	c.Op = Op(b[0])
	index, n := binary.Uvarint(b[1:])
	if n <= 0 || index >= uint64(len(tables)) {
		return nil, errRecord
	}
	b = b[1+n:]
	c.Table = tables[index]
	cols := len(c.Table.Columns)
	var err error
	switch c.Op {
	case Truncate:
		return b, nil
	case Update, Delete:
		if len(b) == 0 {
			return nil, errRecord
		}
		old := b[0]
		b = b[1:]
		if old != 0 {
			c.Old = values.take(cols)
			if b, err = decodeImage(b, c.Old); err != nil {
				return nil, err
			}
		}
	case Insert:
	default:
		return nil, errRecord
	}
	if c.Op == Delete {
		return b, nil
	}
	c.New = values.take(cols)
	if b, err = decodeImage(b, c.New); err != nil {
		return nil, err
	}
	// Under REPLICA IDENTITY FULL, or where the column is part of the identity,
	// the old row carries what the new one calls unchanged.
	for i := range c.Old {
		if c.New[i].Kind == Unchanged && c.Old[i].Kind == Text {
			c.New[i] = c.Old[i]
		}
	}
	return b, nil
}

func decodeImage(b []byte, row Row) ([]byte, error) {
	for i := range row {
		if len(b) == 0 {
			return nil, errRecord
		}
		k := Kind(b[0])
		b = b[1:]
		v := Value{Kind: k}
		if k == Text {
			n, used := binary.Uvarint(b)
			if used <= 0 || n > uint64(len(b)-used) {
				return nil, errRecord
			}
			end := used + int(n)
			v.Bytes = b[used:end:end]
			b = b[end:]
		} else if k > Absent {
			return nil, errRecord
		}
		row[i] = v
	}
	return b, nil
}
