package translate

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"slices"
	"sync"
	"time"

	"banyan/event"
	"banyan/wal"

	"github.com/klauspost/compress/zstd"
)

// maxOthers bounds what a transaction's parked entries keep of the changes that
// are not their own, and maxOwn what one entry keeps of its own.
const (
	maxOthers = 64 << 20
	maxOwn    = 256 << 20
)

// ParkedTx is what one entry of a parked chain keeps, read back: the changes of
// one transaction. Masked columns are masked in it.
type ParkedTx struct {
	// Kind is changes, or recorded or absent where a snapshot met a parked key.
	Kind       string        `json:"kind"`
	Generation int           `json:"generation"`
	XID        uint32        `json:"xid,omitempty"`
	LSN        uint64        `json:"lsn"`
	EndLSN     uint64        `json:"endLsn"`
	Time       time.Time     `json:"time"`
	Rules      int           `json:"rules"`
	Snapshot   int           `json:"snapshot,omitempty"`
	Tables     []ParkedTable `json:"tables,omitempty"`
	// Changes are in order. Those of other aggregates are there for people and
	// for rules that reach them.
	Changes []ParkedChange `json:"changes,omitempty"`
	// Left says what was too large to be kept; "" where all is there.
	Left string `json:"left,omitempty"`
	// State is the aggregate as a snapshot has seen it, in its kept encoding.
	State []byte `json:"-"`
}

// ParkedTable is a table as it was when the change was parked.
type ParkedTable struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Masked  []bool   `json:"-"`
}

// ParkedChange is one row change.
type ParkedChange struct {
	Ordinal int64         `json:"ordinal"`
	Op      string        `json:"op"`
	Table   int           `json:"table"` // index in Tables
	Old     []ParkedValue `json:"old,omitempty"`
	New     []ParkedValue `json:"new,omitempty"`
	Own     bool          `json:"own"` // of the parked aggregate
	Counted bool          `json:"counted"`
	// Parts say what an own change is to the aggregate, as it was found when the
	// change was parked: later the links of child rows say something else.
	Parts []ParkedPart `json:"-"`
}

// ParkedPart is what a change is to the parked aggregate.
type ParkedPart struct {
	Path  string // of the table in the aggregate
	Op    byte
	Kind  uint8
	Maybe bool
	Lost  string
}

// ParkedValue is one column.
type ParkedValue struct {
	Kind uint8  `json:"kind"` // 0 NULL, 1 text, 2 not in the log, 3 not in the image
	Text string `json:"text,omitempty"`
}

var (
	compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	})
	decompressor = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<31))
	})
)

func compress(b []byte) ([]byte, error) {
	z, err := compressor()
	if err != nil {
		return nil, err
	}
	return z.EncodeAll(b, make([]byte, 0, len(b)/3+64)), nil
}

func decompress(b []byte) ([]byte, error) {
	z, err := decompressor()
	if err != nil {
		return nil, err
	}
	return z.DecodeAll(b, nil)
}

func (t *ParkedTx) encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte(1) // the version of this encoding
	if err := gob.NewEncoder(&b).Encode(t); err != nil {
		return nil, fmt.Errorf("encode parked changes: %w", err)
	}
	return compress(b.Bytes())
}

// DecodeParked reads event.Parked.Body.
func DecodeParked(body []byte) (*ParkedTx, error) {
	b, err := decompress(body)
	if err != nil || len(b) == 0 || b[0] != 1 {
		return nil, fmt.Errorf("read parked changes: %w", cmpErr(err, errBody))
	}
	var t ParkedTx
	if err := gob.NewDecoder(bytes.NewReader(b[1:])).Decode(&t); err != nil {
		return nil, fmt.Errorf("read parked changes: %w", err)
	}
	return &t, nil
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func parkedRow(r row) []ParkedValue {
	if r == nil {
		return nil
	}
	out := make([]ParkedValue, len(r))
	for i, v := range r {
		out[i] = ParkedValue{v.kind, v.s}
	}
	return out
}

func (r row) size() int {
	n := 0
	for i := range r {
		n += len(r[i].s) + 8
	}
	return n
}

// parkAll makes the entries of all parked aggregates of the work. all are the
// changes of the whole transaction, where they are at hand.
func (s *session) parkAll(w *work, all []*change) ([]event.Parked, error) {
	var stuck []*aggTx
	for _, x := range w.order {
		if x.stuck() && (len(x.parts) > 0 || len(x.extra) > 0) {
			stuck = append(stuck, x)
		}
	}
	if len(stuck) == 0 {
		return nil, nil
	}
	size := 0
	for _, c := range all {
		size += c.old.size() + c.new.size()
	}
	left := ""
	if size*len(stuck) > maxOthers || all == nil {
		left = fmt.Sprintf("the other changes of the transaction were not kept: more than %d MiB for %d parked keys", maxOthers>>20, len(stuck))
	}
	counted := map[*change]bool{}
	var out []event.Parked
	for _, x := range stuck {
		if x.reason == "" {
			x.reason, x.detail = "the key is parked already", "release or discard the chain in order"
		}
		x.revert()
		entry, err := w.entry(x, all, left, counted)
		if err != nil {
			return nil, err
		}
		x.a.parked = true
		out = append(out, entry)
	}
	return out, nil
}

// entry makes one link of a chain.
func (w *work) entry(x *aggTx, all []*change, left string, counted map[*change]bool) (event.Parked, error) {
	own := map[*change]bool{}
	size := 0
	var mine []*change
	add := func(c *change) {
		if !own[c] {
			own[c] = true
			mine = append(mine, c)
			size += c.old.size() + c.new.size()
		}
	}
	for _, p := range x.parts {
		add(p.c)
	}
	for _, c := range x.extra {
		if c.claimed {
			add(c)
		}
	}
	slices.SortFunc(mine, func(a, b *change) int { return a.seq - b.seq })
	list := all
	if left != "" {
		list = slices.Clone(mine)
		for _, c := range all {
			if !own[c] && x.a.u.reachesFor(c.t) {
				list = append(list, c)
			}
		}
		slices.SortFunc(list, func(a, b *change) int { return a.seq - b.seq })
	}
	out := event.Parked{Ref: x.a.ref, EndLSN: uint64(w.meta.end), Reason: x.reason, Detail: x.detail, Counts: map[string]int64{},
		Position: event.Position{Generation: w.meta.generation, LSN: uint64(w.meta.commit), Ordinal: mine[0].ordinal}}
	t := &ParkedTx{Kind: "changes", Generation: w.meta.generation, XID: w.meta.xid, LSN: uint64(w.meta.commit), EndLSN: uint64(w.meta.end),
		Time: w.meta.at, Rules: w.e.Rules.Version, Left: left}
	if size+256*len(mine) > maxOwn {
		t.Left = fmt.Sprintf("nothing was kept: %d MiB of changes of one key; discard it, so that the aggregate is recorded anew", size>>20)
		list = nil
	}
	for _, c := range mine {
		if !counted[c] && !c.elsewhere {
			counted[c] = true
			out.Counts[c.t.name]++
		} else {
			own[c] = false // kept, counted by another entry
		}
	}
	for _, c := range list {
		_, isOwn := own[c]
		t.add(c, isOwn, own[c])
		for _, p := range c.parts {
			if p.x == x {
				last := &t.Changes[len(t.Changes)-1]
				last.Parts = append(last.Parts, ParkedPart{Path: p.t.path(), Op: byte(p.routed), Kind: uint8(p.kind), Maybe: p.maybe, Lost: p.lost})
			}
		}
	}
	var err error
	out.Body, err = t.encode()
	return out, err
}

func (u *unit) reachesFor(t *table) bool {
	for _, r := range u.rules {
		for _, rc := range r.reach {
			if rc.index.table == t {
				return true
			}
		}
	}
	return false
}

func (t *ParkedTx) add(c *change, own, counted bool) {
	i := slices.IndexFunc(t.Tables, func(p ParkedTable) bool { return p.Name == c.t.name })
	if i < 0 {
		i = len(t.Tables)
		p := ParkedTable{Name: c.t.name, Columns: c.t.names, Masked: make([]bool, len(c.t.cols))}
		for j := range c.t.cols {
			p.Masked[j] = c.t.cols[j].mask != ""
		}
		t.Tables = append(t.Tables, p)
	}
	t.Changes = append(t.Changes, ParkedChange{Ordinal: c.ordinal, Op: c.op.String(), Table: i, Old: parkedRow(c.old), New: parkedRow(c.new), Own: own, Counted: counted})
}

// parkChange parks a change that no aggregate sees, under its table's name.
func (w *work) parkChange(c *change) (event.Parked, error) {
	c.outcome = parked
	key := fmt.Sprintf("%s.%d", w.meta.commit, c.ordinal)
	for _, r := range []row{c.new, c.old} {
		if r != nil && len(c.t.key) > 0 {
			parts := make([]string, len(c.t.key))
			for i, k := range c.t.key {
				parts[i] = r[k].s
			}
			key = event.JoinKey(parts...)
			break
		}
	}
	t := &ParkedTx{Kind: "changes", Generation: w.meta.generation, XID: w.meta.xid, LSN: uint64(w.meta.commit), EndLSN: uint64(w.meta.end), Time: w.meta.at, Rules: w.e.Rules.Version}
	t.add(c, true, true)
	body, err := t.encode()
	return event.Parked{Ref: event.Ref{Aggregate: c.t.name, Key: key}, EndLSN: uint64(w.meta.end),
		Position: event.Position{Generation: w.meta.generation, LSN: uint64(w.meta.commit), Ordinal: c.ordinal},
		Reason:   fmt.Sprintf("no aggregate has %s and no event of the transaction absorbs this %s", c.t.name, c.op),
		Detail:   "add an ignore for the table, or a rule that reaches and absorbs it; discard this one", Body: body,
		Counts: map[string]int64{c.t.name: 1}}, err
}

var opNames = map[string]wal.Op{"insert": wal.Insert, "update": wal.Update, "delete": wal.Delete, "truncate": wal.Truncate}
