package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The messages of pgoutput, protocol version 1. The server reassembles
// transactions, so only committed ones arrive, one after the other.
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgRelation = 'R'
	msgType     = 'Y'
	msgOrigin   = 'O'
	msgInsert   = 'I'
	msgUpdate   = 'U'
	msgDelete   = 'D'
	msgTruncate = 'T'
	msgLogical  = 'M'
)

var errShort = errors.New("message ends too early")

// walker reads a message from the front. After it has run over the end, all
// reads give zero and short is set; one check at the end is enough.
type walker struct {
	b     []byte
	short bool
}

func (w *walker) take(n int) []byte {
	if n < 0 || n > len(w.b) {
		w.b, w.short = nil, true
		return nil
	}
	p := w.b[:n:n]
	w.b = w.b[n:]
	return p
}

func (w *walker) u8() byte {
	if p := w.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (w *walker) u16() int {
	if p := w.take(2); p != nil {
		return int(binary.BigEndian.Uint16(p))
	}
	return 0
}

func (w *walker) u32() uint32 {
	if p := w.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (w *walker) u64() uint64 {
	if p := w.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (w *walker) text() string {
	for i, c := range w.b {
		if c == 0 {
			s := string(w.b[:i])
			w.b = w.b[i+1:]
			return s
		}
	}
	w.b, w.short = nil, true
	return ""
}

// end checks that the message was read exactly.
func (w *walker) end() error {
	if w.short {
		return errShort
	}
	if len(w.b) > 0 {
		return fmt.Errorf("%d bytes too many in the message", len(w.b))
	}
	return nil
}

// postgresEpoch is 2000-01-01 UTC, from which the server counts microseconds.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func postgresTime(us uint64) time.Time {
	// time.Duration holds 292 years in nanoseconds; seconds and the rest apart
	// hold any.
	v := int64(us)
	return time.Unix(postgresEpoch.Unix()+v/1_000_000, v%1_000_000*1000).UTC()
}

type beginMessage struct {
	final LSN
	at    time.Time
	xid   uint32
}

func parseBegin(b []byte) (beginMessage, error) {
	w := walker{b: b}
	m := beginMessage{final: LSN(w.u64()), at: postgresTime(w.u64()), xid: w.u32()}
	return m, w.end()
}

type commitMessage struct {
	commit, end LSN
	at          time.Time
}

func parseCommit(b []byte) (commitMessage, error) {
	w := walker{b: b}
	w.u8() // flags, unused
	m := commitMessage{commit: LSN(w.u64()), end: LSN(w.u64()), at: postgresTime(w.u64())}
	return m, w.end()
}

// relationMessage describes a table as the changes after it were written.
type relationMessage struct {
	oid             uint32
	schema, name    string
	replicaIdentity byte
	columns         []relationColumn
}

type relationColumn struct {
	identity bool
	name     string
	typeOID  uint32
	typMod   int32
}

func parseRelation(b []byte) (*relationMessage, error) {
	w := walker{b: b}
	m := &relationMessage{oid: w.u32(), schema: w.text(), name: w.text(), replicaIdentity: w.u8()}
	if m.schema == "" {
		m.schema = "pg_catalog" // the protocol's way to write it
	}
	n := w.u16()
	for i := 0; i < n && !w.short; i++ {
		m.columns = append(m.columns, relationColumn{
			identity: w.u8()&1 != 0, name: w.text(), typeOID: w.u32(), typMod: int32(w.u32())})
	}
	return m, w.end()
}

// parseTruncate returns the OIDs of the truncated tables.
func parseTruncate(b []byte) ([]uint32, error) {
	w := walker{b: b}
	n := w.u32()
	w.u8() // cascade and restart identity: their effect is in the list
	if int64(n)*4 > int64(len(w.b)) {
		return nil, errShort
	}
	oids := make([]uint32, n)
	for i := range oids {
		oids[i] = w.u32()
	}
	return oids, w.end()
}
