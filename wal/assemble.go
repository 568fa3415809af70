package wal

import (
	"encoding/binary"
	"fmt"
)

// assembler makes whole transactions of pgoutput messages. It holds one open
// transaction; what that needs above limit goes to disk.
type assembler struct {
	relations *relations
	spillDir  string
	limit     int64 // bytes of one transaction in memory, by Change.size
	// skip is the end of what was handed over already: a transaction that
	// committed below it is a repetition after a reconnect.
	skip LSN
	// held tells the owner how the memory in use changes.
	held func(delta int64)

	open     bool
	skipping bool
	begin    beginMessage
	serial   uint64 // counts transactions, for relation.tx
	tables   []*Table
	buf      []byte // records, those of the open transaction from start on
	start    int
	len      int64
	size     int64
	inMemory int64 // part of size that is not on disk
	values   int
	spill    *spillFile

	valueSlab  slab[Value]
	changeSlab slab[Change]
	txSlab     slab[Tx]
}

const (
	bufferLen  = 64 << 10
	spillChunk = 256 << 10
	// Small transactions share allocations, and what shares one lives as long
	// as its neighbours do. A transaction above this many bytes shares nothing,
	// or hundreds of large ones would be kept by the last that is in use.
	shareBytes = 4 << 10
)

// message takes one pgoutput message. It returns a transaction where the
// message is its commit, else nil. An error is final: the stream cannot be
// understood from there on.
func (a *assembler) message(b []byte) (*Tx, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	kind, body := b[0], b[1:]
	if a.skipping && kind != msgCommit && kind != msgRelation {
		return nil, nil
	}
	switch kind {
	case msgInsert, msgUpdate, msgDelete:
		return nil, a.row(Op(kind), body)
	case msgBegin:
		return nil, a.onBegin(body)
	case msgCommit:
		return a.onCommit(body)
	case msgRelation:
		return nil, a.relations.message(body)
	case msgTruncate:
		return nil, a.truncate(body)
	case msgType, msgOrigin, msgLogical:
		// A type's name comes from the catalog; a change that came from another
		// server is a change like any other; a logical message is no row.
		return nil, nil
	}
	return nil, fmt.Errorf("message of unknown type %q (%d bytes)", kind, len(b))
}

func (a *assembler) onBegin(body []byte) error {
	m, err := parseBegin(body)
	if err != nil {
		return fmt.Errorf("begin message: %w", err)
	}
	if a.open {
		return fmt.Errorf("transaction %d begins inside transaction %d", m.xid, a.begin.xid)
	}
	a.begin, a.open, a.skipping = m, true, m.final < a.skip
	a.serial++
	a.tables, a.start = a.tables[:0], len(a.buf)
	a.len, a.size, a.inMemory, a.values = 0, 0, 0, 0
	return nil
}

// relation finds the table of a change and its number in this transaction; nil
// for a table that is not captured.
func (a *assembler) relation(oid uint32) (*relation, error) {
	if !a.open {
		return nil, fmt.Errorf("change of table %d outside a transaction", oid)
	}
	rel := a.relations.known[oid]
	if rel == nil {
		return nil, fmt.Errorf("change of table %d, which was not described before", oid)
	}
	if rel.table != nil && rel.tx != a.serial {
		rel.tx, rel.index = a.serial, len(a.tables)
		a.tables = append(a.tables, rel.table)
	}
	return rel, nil
}

func (a *assembler) row(op Op, body []byte) error {
	w := walker{b: body}
	oid := w.u32()
	if w.short {
		return errShort
	}
	rel, err := a.relation(oid)
	if err != nil || rel.table == nil {
		return err
	}
	a.reserve(len(body) + 16 + lengthRoom)
	at := len(a.buf)
	if a.spill != nil {
		at = a.openLength()
	}
	var size, values int
	if a.buf, size, values, err = appendRow(a.buf, op, &w, rel, rel.index); err != nil {
		return err
	}
	return a.added(at, size, values)
}

func (a *assembler) truncate(body []byte) error {
	oids, err := parseTruncate(body)
	if err != nil {
		return fmt.Errorf("truncate message: %w", err)
	}
	for _, oid := range oids {
		rel, err := a.relation(oid)
		if err != nil {
			return err
		}
		if rel.table == nil {
			continue
		}
		a.reserve(16 + lengthRoom)
		at := len(a.buf)
		if a.spill != nil {
			at = a.openLength()
		}
		a.buf = appendTruncate(a.buf, rel.index)
		if err := a.added(at, changeSize, 0); err != nil {
			return err
		}
	}
	return nil
}

// reserve makes room for n bytes, so that appending moves nothing. The buffer
// is shared by small transactions and only ever written behind what was
// handed out.
func (a *assembler) reserve(n int) {
	if cap(a.buf)-len(a.buf) >= n {
		return
	}
	open := a.buf[a.start:]
	buf := make([]byte, 0, max(bufferLen, 2*(len(open)+n)))
	a.buf, a.start = append(buf, open...), 0
}

// lengthRoom is the largest length prefix of a record on disk.
const lengthRoom = binary.MaxVarintLen64

// openLength leaves room for the length of a record whose size is not known
// yet, and returns where the room begins. The room was reserved.
func (a *assembler) openLength() int {
	at := len(a.buf)
	a.buf = a.buf[:at+lengthRoom]
	return at
}

// added counts the record that begins at a.buf[at:].
func (a *assembler) added(at, size, values int) error {
	a.len++
	a.size += int64(size)
	if a.spill != nil {
		return a.addedOnDisk(at)
	}
	a.inMemory += int64(size)
	a.values += values
	a.held(int64(size))
	if a.inMemory > a.limit {
		return a.toDisk()
	}
	return nil
}

// addedOnDisk closes the length prefix and writes the buffer when it is full.
func (a *assembler) addedOnDisk(at int) error {
	record := a.buf[at+lengthRoom:]
	prefix := binary.AppendUvarint(a.buf[at:at], uint64(len(record)))
	a.buf = a.buf[:at+len(prefix)+copy(a.buf[at+len(prefix):], record)]
	if len(a.buf)-a.start < spillChunk {
		return nil
	}
	return a.flush()
}

func (a *assembler) flush() error {
	if err := a.spill.write(a.buf[a.start:]); err != nil {
		return err
	}
	a.buf, a.start = a.buf[:0], 0
	return nil
}

// toDisk moves the open transaction into a spill file.
func (a *assembler) toDisk() error {
	var err error
	if a.spill, err = newSpill(a.spillDir); err != nil {
		return err
	}
	records := a.buf[a.start:]
	// Behind a.start lie only the records of this transaction; a new buffer
	// leaves those before it to the transactions that own them.
	a.buf, a.start = make([]byte, 0, spillChunk+bufferLen), 0
	var c Change
	var scratch slab[Value]
	for len(records) > 0 {
		c = Change{}
		rest, err := decodeRecord(records, &c, a.tables, &scratch)
		if err != nil {
			return err
		}
		record := records[:len(records)-len(rest)]
		a.reserve(len(record) + lengthRoom)
		a.buf = binary.AppendUvarint(a.buf, uint64(len(record)))
		a.buf = append(a.buf, record...)
		if len(a.buf) >= spillChunk {
			if err := a.flush(); err != nil {
				return err
			}
		}
		records = rest
	}
	a.held(-a.inMemory)
	a.inMemory, a.values = 0, 0
	return nil
}

func (a *assembler) onCommit(body []byte) (*Tx, error) {
	m, err := parseCommit(body)
	if err != nil {
		return nil, fmt.Errorf("commit message: %w", err)
	}
	if !a.open {
		return nil, fmt.Errorf("commit at %s outside a transaction", m.commit)
	}
	if m.commit != a.begin.final {
		return nil, fmt.Errorf("commit at %s ends a transaction that announced %s", m.commit, a.begin.final)
	}
	a.open = false
	if a.skipping {
		a.skipping = false
		return nil, nil
	}
	var tx *Tx
	if a.size > shareBytes {
		tx = new(Tx)
	} else {
		tx = &a.txSlab.take(1)[0]
	}
	tx.XID, tx.CommitLSN, tx.EndLSN, tx.CommitTime = a.begin.xid, m.commit, m.end, m.at
	tx.Len, tx.Bytes = a.len, a.size
	if a.spill != nil {
		if err := a.flush(); err != nil {
			return nil, err
		}
		a.buf = nil // it may have grown with one large row
		a.spill.tables = a.tables
		tx.spill, a.spill, a.tables = a.spill, nil, nil
		return tx, nil
	}
	return tx, a.decode(tx)
}

// decode gives the transaction its changes, whose bytes stay in the buffer.
func (a *assembler) decode(tx *Tx) error {
	if a.len == 0 {
		return nil
	}
	var changes []Change
	values := &a.valueSlab
	if a.size > shareBytes {
		changes, values = make([]Change, a.len), &slab[Value]{free: make([]Value, a.values)}
	} else {
		changes = a.changeSlab.take(int(a.len))
	}
	rest := a.buf[a.start:]
	var err error
	for i := range changes {
		changes[i].Ordinal = int64(i)
		if rest, err = decodeRecord(rest, &changes[i], a.tables, values); err != nil {
			return err
		}
	}
	tx.changes = changes
	if cap(a.buf) > bufferLen {
		a.buf = nil // grown for this one
	}
	return nil
}

// reset drops the open transaction; the next session sends it again.
func (a *assembler) reset() error {
	a.open, a.skipping = false, false
	a.held(-a.inMemory)
	a.inMemory = 0
	a.buf, a.start = a.buf[:len(a.buf):len(a.buf)], len(a.buf)
	a.relations.forget()
	if a.spill == nil {
		return nil
	}
	err := a.spill.close()
	a.spill = nil
	return err
}
