package control

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"banyan/event"
)

// Covers reports whether the event at p ends at or below the mark. A position
// holds the LSN where the commit begins, a mark one where something ends; only a
// snapshot's event lies exactly at its mark.
func (m Mark) Covers(p event.Position) bool {
	if p.Generation != m.Generation {
		return p.Generation < m.Generation
	}
	return p.LSN < m.LSN || p.LSN == m.LSN && p.Snapshot > 0
}

// String writes the mark as a token: "1:0/1A2B3C8".
func (m Mark) String() string {
	return fmt.Sprintf("%d:%X/%X", m.Generation, uint32(m.LSN>>32), uint32(m.LSN))
}

// MarkOf gives the mark of a watermark.
func MarkOf(w *event.Watermark) Mark {
	return Mark{Generation: w.Generation, LSN: w.LSN, Time: w.Time}
}

// MarkAt gives the lowest mark that covers the event at p.
func MarkAt(p event.Position) Mark {
	if p.Snapshot > 0 || p.Generation == 0 {
		return Mark{Generation: p.Generation, LSN: p.LSN}
	}
	return Mark{Generation: p.Generation, LSN: p.LSN + 1}
}

// savedMark is what this process has saved of a version last.
type savedMark struct {
	digest [sha256.Size]byte
	at     time.Time
}

// savedAgain is after how long a digest is compared again: another owner may have
// saved other keys since, and a transaction may have been taken back.
const savedAgain = time.Second

// SaveMark keeps which keys the source holds back, as of a watermark, in the
// transaction that passes it. It writes only what has changed: where nothing has,
// it costs nothing or, about once a second, a round trip. How far the projection
// has come is in the steps of Advance.
func (s *Store) SaveMark(ctx context.Context, tx pgx.Tx, projection string, version int, w *event.Watermark) error {
	bare := *w
	bare.Seqs = nil
	body, err := json.Marshal(bare)
	if err != nil {
		return fmt.Errorf("save a mark: %w", err)
	}
	keys := bare
	keys.LSN, keys.Time, keys.Writer = 0, time.Time{}, 0
	text, err := json.Marshal(keys)
	if err != nil {
		return fmt.Errorf("save a mark: %w", err)
	}
	digest := sha256.Sum256(text)
	key := versionKey{projection, version}
	s.mu.Lock()
	last := s.marks[key]
	s.mu.Unlock()
	if last.digest == digest && time.Since(last.at) < savedAgain {
		return nil
	}
	// The keys go along only where they are not what the row has, as far as we
	// know: a thousand of them make 60 kB.
	known := last.digest == digest
	for {
		var send []byte
		if !known {
			send = body
		}
		var saved bool
		if err := tx.QueryRow(ctx, `SELECT banyan.save_mark($1, $2, $3, $4, $5, $6, $7)`, projection, version, w.Generation, int64(w.LSN),
			digest[:], len(w.Parked) > 0 || w.Filter != nil, send).Scan(&saved); err != nil {
			return fmt.Errorf("save the mark %s of %s: %w", MarkOf(w), projection, err)
		}
		if saved {
			break
		}
		known = false
	}
	s.mu.Lock()
	s.marks[key] = savedMark{digest, time.Now()}
	s.mu.Unlock()
	return nil
}

// ParkedAtSource gives the latest watermark saved for a version: its mark, as of
// the last change of its keys, and the parked keys or their filter, no seqs; nil
// where there is none.
func (s *Store) ParkedAtSource(ctx context.Context, projection string, version int) (*event.Watermark, error) {
	var body []byte
	err := s.pool.QueryRow(ctx, `SELECT body FROM banyan.mark WHERE projection = $1 AND version = $2`, projection, version).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	var w event.Watermark
	if err == nil {
		err = json.Unmarshal(body, &w)
	}
	if err != nil {
		return nil, fmt.Errorf("read the mark of version %d of %s: %w", version, projection, err)
	}
	return &w, nil
}

// progress is what readers need to know of an active version.
type progress struct {
	at        time.Time // when it was read, by our clock
	version   int
	anyParked bool
	parts     map[PartID]Mark
	passed    Mark // by all parts
}

// of is the mark that some partitions have passed, or all where none are named.
func (p *progress) of(ids []PartID) Mark {
	if len(ids) == 0 {
		return p.passed
	}
	least := p.parts[ids[0]]
	for _, id := range ids[1:] {
		if m := p.parts[id]; m.Compare(least) < 0 {
			least = m
		}
	}
	return least
}

// readProgress asks through the functions that readers may call.
func (s *Store) readProgress(ctx context.Context, projection string) (*progress, error) {
	p := &progress{at: time.Now(), parts: map[PartID]Mark{}}
	rows, err := s.pool.Query(ctx, `SELECT version, any_parked, topic, part, generation, lsn, source_time FROM banyan.passed_parts($1)`, projection)
	if err == nil {
		var id PartID
		var m Mark
		var lsn int64
		var at *time.Time
		first := true
		_, err = pgx.ForEachRow(rows, []any{&p.version, &p.anyParked, &id.Topic, &id.Part, &m.Generation, &lsn, &at}, func() error {
			m.LSN, m.Time = uint64(lsn), utc(at)
			p.parts[id] = m
			if first || m.Compare(p.passed) < 0 {
				p.passed, first = m, false
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read what %s has passed: %w", projection, readerError(err))
	}
	return p, nil
}

// readerError turns what the functions for readers raise into our errors.
func readerError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "BN004" {
		return fmt.Errorf("%w: %s (%s)", ErrNotFound, pg.Message, pg.Hint)
	}
	return err
}

// Passed is the mark that every partition of the active version has passed, or
// those of parts where they are given; the zero Mark where one has passed none
// yet. ErrNotFound where there is no such projection.
func (s *Store) Passed(ctx context.Context, projection string, parts ...PartID) (m Mark, err error) {
	p, err := s.readProgress(ctx, projection)
	if err != nil {
		return m, err
	}
	return p.of(parts), nil
}

// Age is how old the state is that readers see: the time since the source was
// where the projection is now. It is as good as the two clocks agree, and
// negative where no watermark was passed yet.
func (s *Store) Age(ctx context.Context, projection string) (time.Duration, error) {
	var seconds *float64
	if err := s.pool.QueryRow(ctx, `SELECT extract(epoch FROM banyan.age($1))::double precision`, projection).Scan(&seconds); err != nil {
		return 0, fmt.Errorf("read the age of %s: %w", projection, readerError(err))
	}
	if seconds == nil {
		return -1, nil
	}
	return time.Duration(*seconds * float64(time.Second)), nil
}

// Hindrance says that a key is parked, and where.
type Hindrance struct {
	event.Ref
	AtSource bool // parked before it was ever told; else parked by the projection
	// Since is at or just before the first change that is missing; the zero Mark
	// where that is not known.
	Since  Mark
	Reason string // "" AtSource
}

// hinders reports whether a reader that waits for a mark misses something.
func (h *Hindrance) hinders(m Mark) bool {
	return h.Since.Generation == 0 || h.AtSource && h.Since.Generation != m.Generation || h.Since.Compare(m) <= 0
}

// IsParked looks whether changes of a key are missing in the active version: at
// the source, or parked by the projection itself. Nil means no. Where the source
// has more than a thousand parked keys, one other key in a hundred is taken for
// parked too.
func (s *Store) IsParked(ctx context.Context, projection string, ref event.Ref) (*Hindrance, error) {
	all, err := s.missing(ctx, projection, ref)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

func (s *Store) missing(ctx context.Context, projection string, ref event.Ref) ([]Hindrance, error) {
	rows, err := s.pool.Query(ctx, `SELECT m.at_source, m.generation, m.lsn, m.reason
		FROM banyan.passed_mark($1) p, banyan.missing($1, p.version, $2, $3) m`, projection, ref.Aggregate, ref.Key)
	if err == nil {
		var all []Hindrance
		all, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (h Hindrance, err error) {
			var lsn int64
			err = r.Scan(&h.AtSource, &h.Since.Generation, &lsn, &h.Reason)
			h.Ref, h.Since.LSN = ref, uint64(lsn)
			return h, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("look whether %s/%s is parked in %s: %w", ref.Aggregate, ref.Key, projection, readerError(err))
}

// BehindError says that a projection had not passed a mark when the wait ended.
type BehindError struct {
	Projection string
	Want, At   Mark
	Age        time.Duration // of what readers see now; negative before the first watermark
}

// Error says how far behind.
func (e *BehindError) Error() string {
	switch {
	case e.At.Generation == 0:
		return fmt.Sprintf("%s has not passed any watermark yet, so not %s", e.Projection, e.Want)
	case e.At.Generation != e.Want.Generation:
		return fmt.Sprintf("%s is at %s, of an earlier generation than %s", e.Projection, e.At, e.Want)
	}
	return fmt.Sprintf("%s is at %s, %d bytes before %s; what it shows is %s old", e.Projection, e.At, e.Want.LSN-e.At.LSN, e.Want, e.Age.Round(time.Millisecond))
}

// ParkedError says that the changes a wait is for are parked.
type ParkedError struct {
	Projection string
	Hindrance
}

// Error names the key and the reason.
func (e *ParkedError) Error() string {
	if e.AtSource {
		return fmt.Sprintf("%s/%s is parked at the source: its latest changes were not told", e.Aggregate, e.Key)
	}
	reason, _, _ := strings.Cut(e.Reason, "\n")
	return fmt.Sprintf("%s/%s is parked in %s: %s", e.Aggregate, e.Key, e.Projection, reason)
}
