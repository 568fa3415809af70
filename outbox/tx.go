package outbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
)

// Tx is one store transaction, inside Owner.Commit. It reads the past as of
// this transaction, its own writes included. It is used by one goroutine and
// is of no use after fn has returned.
type Tx struct {
	o       *Owner
	conn    *pgx.Conn
	from    To
	to      To
	commits int64 // in the source's row once this is committed
	sent    bool  // COMMIT has left
	failure error // of the store; fn may have wrapped or swallowed it

	// What is put waits here until it is flushed.
	states  map[event.Ref]event.State
	links   map[event.Link]bool // with Gone false; true = remove it
	parked  []event.Parked
	waiting map[event.Ref]bool // the keys of parked
	counts  map[string]event.Counts
	buffer  *scratch
	bytes   int // waiting, roughly

	// spilled is set once states have been flushed before the end: from then
	// on only the database knows the states of this transaction.
	spilled      bool
	fetched      map[event.Ref]event.State // read from the database, for the cache
	fetchedBytes int64

	seqs          map[int32]int64 // last seq by partition, where it moved
	flushed       map[int32]int64 // the same, as far as the events are in their slab
	newShelves    []*shelf
	newTopics     map[string][]*shelf
	newAggregates map[string]string
	events        slabTail
	traces        slabTail

	anyParked     bool
	parkedChanged bool
	completed     bool
}

// flushBytes is how much a transaction keeps in memory.
const flushBytes = 8 << 20

func (o *Owner) newTx(from, to To) *Tx {
	o.scratch.reset()
	o.mu.Lock()
	defer o.mu.Unlock()
	return &Tx{
		o: o, conn: o.conn, from: from, to: to, commits: o.commits + 1, buffer: &o.scratch,
		states: map[event.Ref]event.State{}, links: map[event.Link]bool{}, waiting: map[event.Ref]bool{}, counts: map[string]event.Counts{},
		fetched: map[event.Ref]event.State{}, seqs: map[int32]int64{}, flushed: map[int32]int64{},
		newTopics: map[string][]*shelf{}, newAggregates: map[string]string{},
		events: openSlab(o.slabs), traces: openSlab(o.traces), anyParked: o.anyParked,
	}
}

// run is the transaction from BEGIN to COMMIT.
func (tx *Tx) run(ctx context.Context, fn func(*Tx) error) error {
	if err := tx.begin(ctx); err != nil {
		return err
	}
	err := fn(tx)
	if tx.failure != nil && !errors.Is(err, tx.failure) {
		return errors.Join(err, tx.failure) // a store that failed decides, whatever fn made of it
	}
	if err != nil {
		return err
	}
	end, cancel := outlive(ctx, tx.o.grace())
	defer cancel()
	return tx.flush(end, true)
}

// grace is how long a COMMIT may go on after its caller has given up: ending
// it there and then would leave its outcome open. After the lease's expiry a
// successor ends it anyhow.
func (o *Owner) grace() time.Duration { return o.store.opts.Expiry }

// outlive gives a context that ends a while after ctx.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() { stop(); cancel() }
}

// begin opens the transaction with the fence.
func (tx *Tx) begin(ctx context.Context) error {
	b := &pgx.Batch{}
	b.Queue(`begin`)
	b.Queue(`UPDATE banyan.source SET commit_lsn = $1, end_lsn = $2, time = $3, commits = $4
		WHERE epoch = $5 AND commits = $6 AND commit_lsn = $7 AND end_lsn = $8`,
		int64(tx.to.Commit), int64(tx.to.End), tx.to.Time, tx.commits,
		tx.o.epoch, tx.commits-1, int64(tx.from.Commit), int64(tx.from.End))
	br := tx.conn.SendBatch(ctx, b)
	_, err := br.Exec()
	if err == nil {
		tag, e := br.Exec()
		if err = e; err == nil && tag.RowsAffected() != 1 {
			err = ErrFenced
		}
	}
	if e := br.Close(); err == nil {
		err = e
	}
	if err != nil && !errors.Is(err, ErrFenced) {
		err = tx.fail("begin", err)
	}
	return err
}

// rollback ends an open transaction and reports whether the session can be
// used again.
func (tx *Tx) rollback(ctx context.Context) bool {
	if tx.sent && tx.conn.PgConn().TxStatus() == 'I' {
		return false // answered, but not to us
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tx.o.grace())
	defer cancel()
	_, err := tx.conn.Exec(ctx, `rollback`)
	return err == nil
}

// fail remembers that the store failed.
func (tx *Tx) fail(doing string, err error) error {
	err = fmt.Errorf("store: %s: %w", doing, err)
	if tx.failure == nil {
		tx.failure = err
	}
	return err
}

// To is the position that this transaction moves the store to.
func (tx *Tx) To() To { return tx.to }

// Generation is the owner's.
func (tx *Tx) Generation() int { return tx.o.gen }

// States returns what the store keeps of the aggregates; one that is unknown
// or gone is not in the map. The bodies must not be changed.
func (tx *Tx) States(ctx context.Context, refs []event.Ref) (map[event.Ref]event.State, error) {
	found := make(map[event.Ref]event.State, len(refs))
	var aggregates, keys []string
	for _, ref := range refs {
		if s, ok := tx.states[ref]; ok {
			if s.Body != nil {
				found[ref] = s
			}
			continue
		}
		if s, ok := tx.remembered(ref); ok {
			if s.Body != nil {
				found[ref] = s
			}
			continue
		}
		aggregates, keys = append(aggregates, ref.Aggregate), append(keys, ref.Key)
	}
	if len(keys) == 0 {
		return found, nil
	}
	rows, err := tx.conn.Query(ctx, `SELECT s.aggregate, s.key, s.body, s.rules, s.event, s.snapshot
		FROM unnest($1::text[], $2::text[]) r(aggregate, key) JOIN banyan.state s USING (aggregate, key)`, aggregates, keys)
	if err != nil {
		return nil, tx.fail("read states", err)
	}
	var s event.State
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&s.Aggregate, &s.Key, &body, &s.Rules, &s.Event, &s.Snapshot}, func() error {
		s.Body = append([]byte{}, body...)
		found[s.Ref] = s
		return nil
	})
	if err != nil {
		return nil, tx.fail("read states", err)
	}
	for i := range keys {
		if tx.spilled || tx.fetchedBytes > flushBytes {
			break
		}
		ref := event.Ref{Aggregate: aggregates[i], Key: keys[i]}
		tx.fetched[ref] = found[ref] // the zero State where there is none
		tx.fetchedBytes += cost(ref, found[ref])
	}
	return found, nil
}

// remembered looks a state up that needs no round trip. Once this transaction
// has spilled, memory is behind the database.
func (tx *Tx) remembered(ref event.Ref) (event.State, bool) {
	if tx.spilled {
		return event.State{}, false
	}
	if s, ok := tx.fetched[ref]; ok {
		return s, true
	}
	return tx.o.states.get(ref)
}

// Roots returns to which aggregates the child rows belong.
func (tx *Tx) Roots(ctx context.Context, children []event.RowRef) (map[event.RowRef][]event.Ref, error) {
	found := make(map[event.RowRef][]event.Ref, len(children))
	if len(children) == 0 {
		return found, nil
	}
	tables, keys := make([]string, len(children)), make([]string, len(children))
	asked := make(map[event.RowRef]bool, len(children))
	for i, c := range children {
		tables[i], keys[i] = c.Table, c.Key
		asked[c] = true
	}
	rows, err := tx.conn.Query(ctx, `SELECT DISTINCT l.tbl, l.row_key, l.aggregate, l.key
		FROM unnest($1::text[], $2::text[]) r(tbl, row_key) JOIN banyan.link l USING (tbl, row_key) ORDER BY 1, 2, 3, 4`, tables, keys)
	if err != nil {
		return nil, tx.fail("read links", err)
	}
	var l event.Link
	_, err = pgx.ForEachRow(rows, []any{&l.Table, &l.RowRef.Key, &l.Aggregate, &l.Ref.Key}, func() error {
		if !tx.links[l] { // not removed since
			found[l.RowRef] = append(found[l.RowRef], l.Ref)
		}
		return nil
	})
	if err != nil {
		return nil, tx.fail("read links", err)
	}
	for l, gone := range tx.links {
		if !gone && asked[l.RowRef] && !contains(found[l.RowRef], l.Ref) {
			found[l.RowRef] = append(found[l.RowRef], l.Ref)
		}
	}
	return found, nil
}

func contains(refs []event.Ref, ref event.Ref) bool {
	for _, r := range refs {
		if r == ref {
			return true
		}
	}
	return false
}

// Keys yields the keys of all living aggregates of one name, and of the parked
// ones, whether they are born yet or not, in byte order. It reads in pages, so
// states may be put meanwhile.
func (tx *Tx) Keys(ctx context.Context, aggregate string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		after, first := "", true
		for {
			if err := tx.spill(ctx); err != nil {
				yield("", err)
				return
			}
			rows, err := tx.conn.Query(ctx, `SELECT key FROM (
					(SELECT key FROM banyan.state WHERE aggregate = $1 AND (key > $2 OR $3) ORDER BY key LIMIT 2000)
					UNION (SELECT DISTINCT key FROM banyan.parked WHERE aggregate = $1 AND (key > $2 OR $3) ORDER BY key LIMIT 2000)) k
				ORDER BY key LIMIT 2000`, aggregate, after, first)
			if err != nil {
				yield("", tx.fail("read keys", err))
				return
			}
			keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				yield("", tx.fail("read keys", err))
				return
			}
			for _, k := range keys {
				if !yield(k, nil) {
					return
				}
			}
			if len(keys) < 2000 {
				return
			}
			after, first = keys[len(keys)-1], false
		}
	}
}

// Parked reports which of the aggregates have a parked chain; others are not
// in the map. It costs nothing while nothing is parked.
func (tx *Tx) Parked(ctx context.Context, refs []event.Ref) (map[event.Ref]bool, error) {
	found := map[event.Ref]bool{}
	if len(refs) == 0 || !tx.anyParked && len(tx.parked) == 0 {
		return found, nil
	}
	var aggregates, keys []string
	for _, ref := range refs {
		if tx.waiting[ref] {
			found[ref] = true
			continue
		}
		aggregates, keys = append(aggregates, ref.Aggregate), append(keys, ref.Key)
	}
	if !tx.anyParked || len(keys) == 0 {
		return found, nil
	}
	rows, err := tx.conn.Query(ctx, `SELECT r.aggregate, r.key FROM unnest($1::text[], $2::text[]) r(aggregate, key)
		WHERE EXISTS (SELECT FROM banyan.parked p WHERE p.aggregate = r.aggregate AND p.key = r.key)`, aggregates, keys)
	if err != nil {
		return nil, tx.fail("read parked keys", err)
	}
	var ref event.Ref
	if _, err := pgx.ForEachRow(rows, []any{&ref.Aggregate, &ref.Key}, func() error {
		found[ref] = true
		return nil
	}); err != nil {
		return nil, tx.fail("read parked keys", err)
	}
	return found, nil
}
