package outbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// copyBuffer writes rows in Postgres' binary COPY format. It is written by
// hand because an event is the one thing that is stored a hundred thousand
// times a second: no reflection and no allocation per row.
type copyBuffer struct {
	b    []byte
	rows int
}

const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func (c *copyBuffer) reset() {
	c.b = append(c.b[:0], copyHeader...)
	c.rows = 0
}

func (c *copyBuffer) row(columns int) {
	c.b = binary.BigEndian.AppendUint16(c.b, uint16(columns))
	c.rows++
}

func (c *copyBuffer) null() { c.b = append(c.b, 0xff, 0xff, 0xff, 0xff) }

func (c *copyBuffer) int4(v int32) {
	c.b = binary.BigEndian.AppendUint32(c.b, 4)
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(v))
}

func (c *copyBuffer) int8(v int64) {
	c.b = binary.BigEndian.AppendUint32(c.b, 8)
	c.b = binary.BigEndian.AppendUint64(c.b, uint64(v))
}

func (c *copyBuffer) text(s string) {
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(s)))
	c.b = append(c.b, s...)
}

// textOrNull keeps the common empty string out of the row.
func (c *copyBuffer) textOrNull(s string) {
	if s == "" {
		c.null()
		return
	}
	c.text(s)
}

func (c *copyBuffer) bytes(v []byte) {
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(v)))
	c.b = append(c.b, v...)
}

var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func (c *copyBuffer) time(t time.Time) { c.int8(t.UnixMicro() - postgresEpoch) }

// copyTo sends the rows to a table and empties the buffer.
func (c *copyBuffer) copyTo(ctx context.Context, conn *pgconn.PgConn, table string) error {
	c.b = append(c.b, 0xff, 0xff)
	tag, err := conn.CopyFrom(ctx, bytes.NewReader(c.b), "COPY "+table+" FROM STDIN BINARY")
	if err != nil {
		// When a connection breaks, pgx returns while its goroutine may still
		// read these bytes: they are left to it.
		c.b = nil
		return fmt.Errorf("copy %d rows into %s: %w", c.rows, table, err)
	}
	if tag.RowsAffected() != int64(c.rows) {
		return fmt.Errorf("copy into %s: %d rows of %d arrived", table, tag.RowsAffected(), c.rows)
	}
	c.reset()
	return nil
}

// scratch is memory that an owner uses again in every commit.
type scratch struct{ events, traces copyBuffer }

// scratchLimit is what is kept of it between commits, each.
const scratchLimit = 16 << 20

func (s *scratch) reset() {
	for _, c := range []*copyBuffer{&s.events, &s.traces} {
		if cap(c.b) > scratchLimit {
			c.b = nil
		}
		c.reset()
	}
}
