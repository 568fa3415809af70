package shadow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/compare"
	"banyan/projections/control"
)

// Picture is the state of a shadow at one moment, all of it read in one snapshot of
// the database: ledger, offsets and the projection of orders belong together.
type Picture struct {
	Options Options
	Ledger  *compare.Ledger
	Facts   compare.Facts
}

// ErrNoShadow says that there is no shadow of that name in the database.
var ErrNoShadow = errors.New("there is no such shadow")

// Read takes the picture of the shadow of a name. Facts lacks what a process knows of
// itself: Build, Replay, Unhealthy, SignedBy.
func Read(ctx context.Context, store *control.Store, name string) (*Picture, error) {
	v, err := store.Active(ctx, Prefix+name)
	if errors.Is(err, control.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoShadow, name)
	}
	if err != nil {
		return nil, err
	}
	p := &Picture{}
	if err := json.Unmarshal([]byte(v.Definition), &p.Options); err != nil {
		return nil, fmt.Errorf("the definition of shadow %s: %w", name, err)
	}
	err = pgx.BeginTxFunc(ctx, store.Pool(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return p.read(ctx, tx, store, v)
	})
	if err != nil {
		return nil, fmt.Errorf("read shadow %s: %w", name, err)
	}
	return p, nil
}

func (p *Picture) read(ctx context.Context, tx pgx.Tx, store *control.Store, v control.Version) error {
	st, err := readState(ctx, tx, v.Schema)
	if err != nil {
		return err
	}
	parts, err := store.Parts(ctx, tx, v.Projection, v.Number)
	if err != nil {
		return err
	}
	p.Ledger = st.ledger
	f := &p.Facts
	f.Candidate = st.row.Candidate
	f.Operations = st.row.Operations
	f.SampleVaried = st.row.Sample != st.row.Largest
	if n := len(st.row.Builds); n > 1 {
		f.Unhealthy = append(f.Unhealthy, fmt.Sprintf("%d builds of the candidate have answered (%s): what is compared is none of them; forget this shadow and compare one", n, strings.Join(st.row.Builds, ", ")))
	}
	f.Noise = st.noise
	if f.Noise == nil || f.Noise.Lines == 0 { // on nothing, nothing is proved
		f.NoiseDue = "control has not been compared with itself yet: shadow aa does it"
	}
	if st.row.Last.Time != "" {
		if f.AsOf, err = time.Parse(time.RFC3339Nano, st.row.Last.Time); err != nil {
			return err
		}
		f.Position = st.row.Last.Position.String()
	}
	salt := sha256.Sum256([]byte("report\x00" + p.Options.Salt))
	f.Salted = hex.EncodeToString(salt[:6])
	for _, part := range parts {
		f.Topics = append(f.Topics, compare.TopicSpan{Topic: part.Topic, Partition: part.Part, Until: part.Next})
	}
	return p.checkOrders(ctx, tx, parts)
}

func (p *Picture) checkOrders(ctx context.Context, tx pgx.Tx, parts []control.Part) error {
	name := OrdersName(p.Options)
	var number int
	var schema string
	err := tx.QueryRow(ctx, `SELECT number, schema FROM banyan.version WHERE projection = $1 AND state = 'active'`, name).Scan(&number, &schema)
	if errors.Is(err, pgx.ErrNoRows) {
		p.Facts.Projection = compare.ProjectionCheck{State: "none", Detail: "no projection of orders runs beside this shadow"}
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the projection of orders: %w", err)
	}
	theirs, err := partsOf(ctx, tx, name, number)
	if err != nil {
		return err
	}
	p.Facts.Projection, err = CheckOrders(ctx, tx, p.Options, p.Ledger, parts, theirs, schema)
	return err
}

func partsOf(ctx context.Context, tx pgx.Tx, projection string, number int) ([]control.Part, error) {
	rows, err := tx.Query(ctx, `SELECT topic, part, next_offset FROM banyan.part WHERE projection = $1 AND version = $2 ORDER BY topic, part`, projection, number)
	if err != nil {
		return nil, fmt.Errorf("read the offsets of %s: %w", projection, err)
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (q control.Part, err error) {
		err = r.Scan(&q.Topic, &q.Part, &q.Next)
		return q, err
	})
}

// SaveNoise keeps what control against control has found.
func SaveNoise(ctx context.Context, store *control.Store, name string, n compare.Noise) error {
	v, err := store.Active(ctx, Prefix+name)
	if errors.Is(err, control.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNoShadow, name)
	}
	if err != nil {
		return err
	}
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write the noise floor: %w", err)
	}
	if _, err := store.Pool().Exec(ctx, `INSERT INTO `+table(v.Schema, tableState)+` (kind, key, data) VALUES ($1, '', $2)
		ON CONFLICT (kind, key) DO UPDATE SET data = excluded.data`, rowNoise, data); err != nil {
		return fmt.Errorf("write the noise floor of %s: %w", name, err)
	}
	return nil
}

// Journal yields the comparisons of a shadow by partition and offset of their events:
// as bytes, which a replay must give again, and read. The shadow keeps none where it
// was told not to.
func Journal(ctx context.Context, store *control.Store, name string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		v, err := store.Active(ctx, Prefix+name)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		rows, err := store.Pool().Query(ctx, `SELECT data FROM `+table(v.Schema, tableJournal)+` ORDER BY part, off`)
		if err != nil {
			yield(Entry{}, fmt.Errorf("read the journal of %s: %w", name, err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var data []byte
			err := rows.Scan(&data)
			var e Entry
			if err == nil {
				e, err = ParseEntry(data)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(Entry{}, fmt.Errorf("read the journal of %s: %w", name, err))
		}
	}
}

// Recorded gives the bytes that the journal has of one comparison; nil where it has
// none.
func Recorded(ctx context.Context, store *control.Store, name string, partition int, offset int64) ([]byte, error) {
	v, err := store.Active(ctx, Prefix+name)
	if err != nil {
		return nil, err
	}
	var data []byte
	err = store.Pool().QueryRow(ctx, `SELECT data FROM `+table(v.Schema, tableJournal)+` WHERE part = $1 AND off = $2`, partition, offset).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal of %s: %w", name, err)
	}
	return data, nil
}
