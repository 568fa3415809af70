package translate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The kept state of an aggregate, event.State.Body:
//
//	byte 1                         the version of this encoding
//	uvarint                        number of tables that have rows
//	per table: text path, uvarint columns, text name..., uvarint rows,
//	           per row and column: uvarint 0 NULL, 1 not known, else length+2, bytes
//
// A text is a uvarint length and its bytes. Column names are part of it, so
// that a state written under older rules can be read under newer ones.
const bodyVersion = 1

var errBody = errors.New("the kept state cannot be read")

func appendHeader(dst []byte, t *utable) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.cols)))
	for i := range t.cols {
		dst = appendText(dst, t.cols[i].name)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendVals(dst []byte, r row) []byte {
	for _, v := range r {
		switch v.kind {
		case valNull:
			dst = append(dst, 0)
		case valText:
			dst = binary.AppendUvarint(dst, uint64(len(v.s))+2)
			dst = append(dst, v.s...)
		default:
			dst = append(dst, 1)
		}
	}
	return dst
}

// body encodes the aggregate's rows.
func (a *agg) body() []byte {
	size := 64
	for _, rows := range a.tables {
		for _, r := range rows {
			size += r.size
		}
	}
	dst := append(make([]byte, 0, size), bodyVersion)
	used := 0
	for _, rows := range a.tables {
		if len(rows) > 0 {
			used++
		}
	}
	dst = binary.AppendUvarint(dst, uint64(used))
	for i, rows := range a.tables {
		if len(rows) == 0 {
			continue
		}
		t := a.u.tables[i]
		dst = appendText(dst, t.path())
		dst = append(dst, t.header...)
		dst = binary.AppendUvarint(dst, uint64(len(rows)))
		for _, r := range rows {
			dst = appendVals(dst, r.vals)
		}
	}
	return dst
}

// reader takes uvarints and texts from a string; texts share its memory.
type reader struct {
	s   string
	bad bool
}

func (r *reader) uvarint() int {
	var n uint64
	for i := 0; i < len(r.s) && i < 10; i++ {
		b := r.s[i]
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.s = r.s[i+1:]
			if n > 1<<40 {
				break
			}
			return int(n)
		}
	}
	r.bad = true
	return 0
}

func (r *reader) text() string { return r.take(r.uvarint()) }

func (r *reader) take(n int) string {
	if n > len(r.s) {
		r.bad = true
		return ""
	}
	out := r.s[:n]
	r.s = r.s[n:]
	return out
}

func (r *reader) vals(n int) row {
	out := make(row, n)
	for i := range out {
		switch k := r.uvarint(); k {
		case 0:
		case 1:
			out[i].kind = valMissing
		default:
			out[i] = val{r.take(k - 2), valText}
		}
	}
	return out
}

// readBody fills the aggregate from a kept state. Columns that the rules name
// now and the state lacks are marked as missing.
func (a *agg) readBody(body []byte) error {
	if len(body) == 0 || body[0] != bodyVersion {
		return fmt.Errorf("%s/%s: %w", a.ref.Aggregate, a.ref.Key, errBody)
	}
	r := &reader{s: string(body[1:])}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		path := r.text()
		var t *utable
		for _, candidate := range a.u.tables {
			if candidate.path() == path {
				t = candidate
			}
		}
		take := r.header(t)
		width := len(take)
		for rows := r.uvarint(); rows > 0 && !r.bad; rows-- {
			vals := r.vals(width)
			if t == nil || r.bad {
				continue
			}
			a.tables[t.index] = append(a.tables[t.index], t.newRow(arrange(vals, take, len(t.cols))))
		}
	}
	if r.bad {
		return fmt.Errorf("%s/%s: %w", a.ref.Aggregate, a.ref.Key, errBody)
	}
	for i, t := range a.u.tables {
		// Older rules may have kept the rows in another order.
		if rows := a.tables[i]; !slices.IsSortedFunc(rows, func(x, y *arow) int { return t.compareKeys(x.vals, y.vals) }) {
			t.sort(rows)
		}
	}
	a.resize()
	return nil
}

// header reads column names and says where each goes; -1 for a column that is
// not kept any more. A header that is as the rules would write it is the rule.
func (r *reader) header(t *utable) []int {
	if t != nil && strings.HasPrefix(r.s, string(t.header)) {
		r.s = r.s[len(t.header):]
		return t.straight
	}
	n := r.uvarint()
	if n > 10_000 {
		r.bad = true
		return nil
	}
	take := make([]int, n)
	for i := range take {
		name := r.text()
		take[i] = -1
		if t != nil {
			if at, ok := t.types.index[name]; ok {
				take[i] = at
			}
		}
	}
	return take
}

func arrange(vals row, take []int, width int) row {
	if len(vals) == width {
		straight := true
		for i, at := range take {
			if at != i {
				straight = false
				break
			}
		}
		if straight {
			return vals
		}
	}
	out := make(row, width)
	for i := range out {
		out[i].kind = valMissing
	}
	for i, at := range take {
		if at >= 0 {
			out[at] = vals[i]
		}
	}
	return out
}
