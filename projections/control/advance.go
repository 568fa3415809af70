package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// FencedError is the ErrFenced of one partition.
type FencedError struct {
	PartID
	Epoch, Found int64 // the caller's epoch and the one that the row has, -1 for no row
	From, Next   int64 // where the caller left off and where the row stands
	// Reason is set where it is no partition's matter: the version is retired.
	Reason string
}

// Error says who is fenced and why.
func (e *FencedError) Error() string {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.Found < 0:
		return fmt.Sprintf("partition %s is not followed by this version", e.PartID)
	case e.Found == e.Epoch:
		return fmt.Sprintf("partition %s stands at offset %d, not at %d, in our own epoch %d: the database has lost its last commits, or somebody has changed the row",
			e.PartID, e.Next, e.From, e.Epoch)
	}
	return fmt.Sprintf("another owner has taken over partition %s: epoch %d, ours is %d", e.PartID, e.Found, e.Epoch)
}

// Is makes errors.Is(err, ErrFenced) true.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// Advance is the fence: the first statement of every batch. It locks the rows of
// all steps in the order of topic and partition, and moves each from exactly
// where the caller left it. Otherwise nothing is moved and the error Is
// ErrFenced, or is a *HeldError; the transaction is then of no more use. It needs
// READ COMMITTED.
func (s *Store) Advance(ctx context.Context, tx pgx.Tx, projection string, version int, steps []Step) error {
	if err := checkSteps(steps); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, advanceSQL(projection, version, steps))
	return advanceError(err)
}

// Begin begins a batch, BEGIN and Advance in one round trip. After an error there
// is no transaction, and the connection it was tried on is given up.
func (s *Store) Begin(ctx context.Context, conn Beginner, projection string, version int, steps []Step) (pgx.Tx, error) {
	if err := checkSteps(steps); err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: "begin isolation level read committed; " + advanceSQL(projection, version, steps)})
	if err != nil {
		return nil, advanceError(err)
	}
	return tx, nil
}

func checkSteps(steps []Step) error {
	seen := make(map[PartID]bool, len(steps))
	for _, st := range steps {
		if seen[st.PartID] || st.To < st.From {
			return fmt.Errorf("advance %s from %d to %d: want each partition once, and no step back", st.PartID, st.From, st.To)
		}
		seen[st.PartID] = true
	}
	return nil
}

// advanceSQL writes the call with its arguments in the text: so it needs no
// round trip to be prepared and can follow BEGIN in one message.
func advanceSQL(projection string, version int, steps []Step) string {
	b := make([]byte, 0, 200+150*len(steps))
	b = append(b, "SELECT banyan.advance("...)
	b = appendQuoted(b, projection)
	b = append(b, ", "...)
	b = strconv.AppendInt(b, int64(version), 10)
	texts := func(of func(*Step) string) {
		b = append(b, ", '{"...)
		for i := range steps {
			b = appendElement(b, i, of(&steps[i]))
		}
		b = append(b, "}'"...)
	}
	ints := func(of func(*Step) int64) {
		b = append(b, ", '{"...)
		for i := range steps {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, of(&steps[i]), 10)
		}
		b = append(b, "}'"...)
	}
	times := func(of func(*Step) time.Time) {
		b = append(b, ", '{"...)
		for i := range steps {
			if i > 0 {
				b = append(b, ',')
			}
			if t := of(&steps[i]); t.IsZero() {
				b = append(b, "NULL"...)
			} else {
				b = t.UTC().AppendFormat(b, "2006-01-02T15:04:05.999999Z07:00")
			}
		}
		b = append(b, "}'"...)
	}
	texts(func(s *Step) string { return s.Topic })
	ints(func(s *Step) int64 { return int64(s.Part) })
	ints(func(s *Step) int64 { return s.Epoch })
	ints(func(s *Step) int64 { return s.From })
	ints(func(s *Step) int64 { return s.To })
	ints(func(s *Step) int64 { return s.Seq })
	ints(func(s *Step) int64 { return s.Writer })
	ints(func(s *Step) int64 { return int64(s.Applied.Generation) })
	ints(func(s *Step) int64 { return int64(s.Applied.LSN) })
	ints(func(s *Step) int64 { return s.Applied.Ordinal })
	ints(func(s *Step) int64 { return int64(s.Applied.Snapshot) })
	ints(func(s *Step) int64 { return int64(s.Passed.Generation) })
	ints(func(s *Step) int64 { return int64(s.Passed.LSN) })
	times(func(s *Step) time.Time { return s.Passed.Time })
	times(func(s *Step) time.Time { return s.Time })
	texts(func(s *Step) string { return s.Anchor })
	ints(func(s *Step) int64 { return s.AnchorAt })
	return string(append(b, ')'))
}

// appendQuoted writes a string as SQL. The text is in UTF-8 and
// standard_conforming_strings is on wherever this is sent; a zero byte, which no
// text of Postgres can hold, is left out.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '\'')
	for i := range len(s) {
		switch s[i] {
		case 0:
		case '\'':
			b = append(b, '\'', '\'')
		default:
			b = append(b, s[i])
		}
	}
	return append(b, '\'')
}

// appendElement writes an element of an array of texts inside a quoted literal.
func appendElement(b []byte, i int, s string) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	b = append(b, '"')
	for j := range len(s) {
		switch c := s[j]; c {
		case 0:
		case '"', '\\':
			b = append(b, '\\', c)
		case '\'':
			b = append(b, '\'', '\'')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// advanceError turns what banyan.advance raises into our errors.
func advanceError(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		if err != nil {
			return fmt.Errorf("advance: %w", err)
		}
		return nil
	}
	switch pg.Code {
	case "BN001":
		var d struct {
			Topic                    string
			Part                     int
			Epoch, Found, From, Next int64
		}
		if pg.Detail == "" {
			return &FencedError{Reason: pg.Message}
		}
		if err := json.Unmarshal([]byte(pg.Detail), &d); err != nil {
			return fmt.Errorf("%w: %s", ErrFenced, pg.Detail)
		}
		return &FencedError{PartID: PartID{d.Topic, d.Part}, Epoch: d.Epoch, Found: d.Found, From: d.From, Next: d.Next}
	case "BN002":
		var d struct {
			Generation  int
			LSN         int64
			Time, Until *time.Time
		}
		if err := json.Unmarshal([]byte(pg.Detail), &d); err != nil {
			return fmt.Errorf("read the hold %q: %w", pg.Detail, err)
		}
		return &HeldError{Hold{At: Mark{d.Generation, uint64(d.LSN), utc(d.Time)}, Until: utc(d.Until)}}
	case "25001", "40001":
		return fmt.Errorf("advance, which needs READ COMMITTED: %w", err)
	}
	return fmt.Errorf("advance: %w", err)
}
