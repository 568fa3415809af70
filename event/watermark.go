package event

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxParkedListed is how many parked keys a watermark names one by one. More
// of them go into a filter.
const MaxParkedListed = 1000

// Watermark says how far a source is told: everything that its transactions
// ending at or below LSN have changed lies in the topics, at a seq of at most
// Seqs[topic][partition], except the events of parked keys.
//
// Of two watermarks the one with the higher generation is the later one, and
// inside a generation the one with the higher LSN. A reader ignores one that is
// not later than what it has, and one of a lower Writer: a stopped owner's can
// arrive late.
type Watermark struct {
	Source     string
	Generation int
	LSN        uint64
	Time       time.Time // of the source, never steps back
	Writer     int64     // epoch of the owner that sent it
	Seqs       map[string][]int64
	// Parked lists the keys that are parked, with the LSN from which on they
	// are not told, if there are at most MaxParkedListed; else Filter has them.
	Parked []ParkedAt
	Filter *Filter
}

// ParkedAt is a parked key and the LSN of the first change that is not told.
type ParkedAt struct {
	Ref
	LSN uint64
}

type watermarkJSON struct {
	Source     string             `json:"source"`
	Generation int                `json:"generation"`
	LSN        lsnText            `json:"lsn"`
	Time       time.Time          `json:"time"`
	Writer     int64              `json:"writer"`
	Seqs       map[string][]int64 `json:"seq"`
	Parked     []parkedJSON       `json:"parked"`
	Filter     *Filter            `json:"parkedFilter,omitempty"`
}

type parkedJSON struct {
	Aggregate string  `json:"aggregate"`
	Key       string  `json:"key"`
	LSN       lsnText `json:"lsn"`
}

// lsnText is an LSN as Postgres prints it.
type lsnText uint64

func (l lsnText) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%X/%X", uint32(l>>32), uint32(l)), nil
}

func (l *lsnText) UnmarshalText(b []byte) error {
	hi, lo, ok := strings.Cut(string(b), "/")
	h, err := strconv.ParseUint(hi, 16, 32)
	low, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err != nil || err2 != nil {
		return fmt.Errorf("LSN %q: want two hexadecimal numbers with a slash", b)
	}
	*l = lsnText(h<<32 | low)
	return nil
}

// MarshalJSON writes {"source", "generation", "lsn": "0/1A2B3C8", "time",
// "writer", "seq": {topic: [by partition]}, "parked": [{"aggregate", "key",
// "lsn"}], "parkedFilter": {"hashes", "bits"}}, with keys in a fixed order.
func (w Watermark) MarshalJSON() ([]byte, error) {
	j := watermarkJSON{Source: w.Source, Generation: w.Generation, LSN: lsnText(w.LSN), Time: w.Time.UTC(), Writer: w.Writer,
		Seqs: w.Seqs, Parked: []parkedJSON{}, Filter: w.Filter}
	if j.Seqs == nil {
		j.Seqs = map[string][]int64{}
	}
	for _, p := range w.Parked {
		j.Parked = append(j.Parked, parkedJSON{p.Aggregate, p.Key, lsnText(p.LSN)})
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (w *Watermark) UnmarshalJSON(b []byte) error {
	var j watermarkJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("read a watermark: %w", err)
	}
	if j.Source == "" || j.Generation < 1 {
		return fmt.Errorf("read a watermark: it has no source or no generation")
	}
	*w = Watermark{Source: j.Source, Generation: j.Generation, LSN: uint64(j.LSN), Time: j.Time.UTC(), Writer: j.Writer, Seqs: j.Seqs, Filter: j.Filter}
	for _, p := range j.Parked {
		w.Parked = append(w.Parked, ParkedAt{Ref{p.Aggregate, p.Key}, uint64(p.LSN)})
	}
	return nil
}

// SetParked lists the keys in order, or, where there are too many, puts them
// into a filter.
func (w *Watermark) SetParked(keys []ParkedAt) {
	w.Parked, w.Filter = nil, nil
	if len(keys) > MaxParkedListed {
		w.Filter = NewFilter(len(keys))
		for _, k := range keys {
			w.Filter.Add(k.Ref)
		}
		return
	}
	w.Parked = slices.Clone(keys)
	slices.SortFunc(w.Parked, func(a, b ParkedAt) int {
		return cmp.Or(cmp.Compare(a.Aggregate, b.Aggregate), cmp.Compare(a.Key, b.Key))
	})
}

// IsParked reports whether the aggregate is parked, so that what it has done
// since is not told. Out of a filter the answer yes is wrong for about one key
// in a hundred; no is always right.
func (w *Watermark) IsParked(r Ref) bool {
	if w.Filter != nil {
		return w.Filter.Has(r)
	}
	return slices.ContainsFunc(w.Parked, func(p ParkedAt) bool { return p.Ref == r })
}

// After reports whether w is later than o.
func (w *Watermark) After(o *Watermark) bool {
	return cmp.Or(cmp.Compare(w.Generation, o.Generation), cmp.Compare(w.LSN, o.LSN)) > 0
}

// Filter is a Bloom filter of keys. Key number i of an aggregate sets the bits
// (h + i*g) mod bits, for i from 0 to hashes-1, where h is the 64-bit FNV-1a of
// "Aggregate/key" and g is h with its halves swapped, made odd. Bit b is bit
// b mod 8, counted from the lowest, of byte b/8.
type Filter struct {
	hashes int
	bits   []byte
}

// NewFilter makes a filter for n keys: ten bits and seven hashes for each.
func NewFilter(n int) *Filter { return &Filter{hashes: 7, bits: make([]byte, (max(n, 1)*10+7)/8)} }

func (f *Filter) each(r Ref, do func(i int, bit byte) bool) {
	sum := fnv.New64a()
	sum.Write([]byte(r.Aggregate + "/" + r.Key))
	h := sum.Sum64()
	g := h>>32 | h<<32 | 1
	n := uint64(len(f.bits)) * 8
	for i := range uint64(f.hashes) {
		b := (h + i*g) % n
		if !do(int(b/8), 1<<(b%8)) {
			return
		}
	}
}

// Add puts a key in.
func (f *Filter) Add(r Ref) {
	f.each(r, func(i int, bit byte) bool { f.bits[i] |= bit; return true })
}

// Has reports whether the key may have been put in.
func (f *Filter) Has(r Ref) bool {
	has := true
	f.each(r, func(i int, bit byte) bool { has = f.bits[i]&bit != 0; return has })
	return has
}

type filterJSON struct {
	Hashes int    `json:"hashes"`
	Bits   string `json:"bits"` // base64
}

// MarshalJSON writes {"hashes": 7, "bits": "<base64>"}.
func (f *Filter) MarshalJSON() ([]byte, error) {
	return json.Marshal(filterJSON{f.hashes, base64.StdEncoding.EncodeToString(f.bits)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Filter) UnmarshalJSON(b []byte) error {
	var j filterJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("read a filter: %w", err)
	}
	bits, err := base64.StdEncoding.DecodeString(j.Bits)
	if err != nil || len(bits) == 0 || j.Hashes < 1 || j.Hashes > 64 {
		return fmt.Errorf("read a filter: it has no bits, or %d hashes", j.Hashes)
	}
	f.hashes, f.bits = j.Hashes, bits
	return nil
}
