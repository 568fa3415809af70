package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// To is a position of the source: LSNs as plain numbers, and the source's time.
type To struct {
	Commit uint64    // LSN of the last transaction's commit
	End    uint64    // end LSN: everything that ends at or below it is in the store
	Time   time.Time // of that commit, UTC; never steps back
}

// TopicPartition names one partition.
type TopicPartition struct {
	Topic     string
	Partition int
}

// shelf is what the owner remembers of one partition.
type shelf struct {
	TopicPartition
	id                int32
	seq               int64 // last assigned
	acked, offset     int64
	twinSeq, twinNext int64
}

// Owner is the one process that may change the store. One goroutine commits;
// the other methods are safe for concurrent use.
type Owner struct {
	store  *Store
	source Source
	epoch  int64
	gen    int

	lost     chan struct{}
	loseOnce sync.Once
	stop     context.CancelFunc // of heartbeat and housekeeping
	beats    sync.WaitGroup

	// commitMu is held by a commit from beginning to end, and guards conn,
	// connPID, commits, state cache and the reasons why no more can be made.
	commitMu sync.Mutex
	conn     *pgx.Conn
	connPID  uint32
	commits  int64 // as in the source's row
	states   *stateCache
	scratch  scratch
	over     error // ErrFenced, ErrClosed or ErrUnsettled

	// mu guards what commits publish to readers.
	mu        sync.Mutex
	pos       To
	topics    map[string][]*shelf // by partition
	shelves   []*shelf            // by id, from 1
	aggregate map[string]string   // name -> topic
	slabs     []slab              // of events, in order; the last one is open
	traces    []slab
	complete  bool // a first or repair snapshot of this generation is whole
	anyParked bool
	parkedRev int64
	changed   chan struct{} // closed by the next commit
	room      chan struct{} // closed by the next prune

	pruning sync.Mutex
}

func (s *Store) newOwner(ctx context.Context, src Source, t tenure) (*Owner, error) {
	o := &Owner{
		store: s, source: src, epoch: t.epoch, gen: t.generation, commits: t.commits, pos: t.pos,
		lost: make(chan struct{}), changed: make(chan struct{}), room: make(chan struct{}),
		states: newStateCache(s.opts.CacheBytes),
	}
	beatCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	o.stop = stop
	if err := o.load(ctx); err != nil {
		stop()
		give, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Expiry)
		defer cancel()
		return nil, errors.Join(err, o.release(give))
	}
	o.beats.Go(func() { o.heartbeat(beatCtx) })
	o.beats.Go(func() { o.housekeeping(beatCtx) })
	s.opts.Log.Info("store: owner", "source", src.Name, "epoch", o.epoch, "generation", o.gen)
	return o, nil
}

// load reads what an owner keeps in memory. Nobody else changes it any more.
func (o *Owner) load(ctx context.Context) error {
	o.topics, o.aggregate = map[string][]*shelf{}, map[string]string{}
	shelves, err := loadShelves(ctx, o.store.pool)
	if err != nil {
		return err
	}
	for _, sh := range shelves {
		o.shelves = append(o.shelves, sh)
		o.topics[sh.Topic] = append(o.topics[sh.Topic], sh)
	}
	rows, err := o.store.pool.Query(ctx, `SELECT name, topic FROM banyan.aggregate`)
	if err != nil {
		return fmt.Errorf("read aggregates: %w", err)
	}
	var name, topic string
	if _, err := pgx.ForEachRow(rows, []any{&name, &topic}, func() error {
		o.aggregate[name] = topic
		return nil
	}); err != nil {
		return fmt.Errorf("read aggregates: %w", err)
	}
	if err := o.store.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM banyan.parked),
		EXISTS (SELECT FROM banyan.snapshot WHERE generation = $1 AND finished IS NOT NULL AND kind IN ('first', 'repair'))`, o.gen).
		Scan(&o.anyParked, &o.complete); err != nil {
		return fmt.Errorf("read parked keys: %w", err)
	}
	if o.slabs, err = loadSlabs(ctx, o.store.pool, "event"); err != nil {
		return err
	}
	o.traces, err = loadSlabs(ctx, o.store.pool, "trace")
	return err
}

// Store returns the store that is owned.
func (o *Owner) Store() *Store { return o.store }

// Epoch is the fencing number of this ownership: the Writer of its events.
func (o *Owner) Epoch() int64 { return o.epoch }

// Generation counts the incarnations of the source, from 1.
func (o *Owner) Generation() int { return o.gen }

// Position is where the store stands: zero before the first commit of a
// generation.
func (o *Owner) Position() To {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pos
}

// Committed returns a channel that is closed by the next commit.
func (o *Owner) Committed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}

// Lost returns a channel that is closed once another owner is known to have
// taken over.
func (o *Owner) Lost() <-chan struct{} { return o.lost }

func (o *Owner) lose() {
	o.loseOnce.Do(func() {
		o.store.opts.Log.Warn("store: another owner has taken over", "epoch", o.epoch)
		close(o.lost)
	})
}

// Close waits for a running commit, releases the lease, so that a successor
// need not wait for its expiry, and ends the owner's session. It may be called
// twice.
func (o *Owner) Close(ctx context.Context) error {
	o.commitMu.Lock()
	defer o.commitMu.Unlock()
	if errors.Is(o.over, ErrClosed) {
		return nil
	}
	o.over = ErrClosed
	o.stop()
	o.beats.Wait()
	if o.conn != nil {
		_ = o.conn.Close(ctx) // the session holds nothing any more
	}
	select {
	case <-o.lost:
		return nil
	default:
	}
	return o.release(ctx)
}

// Commit writes, in one store transaction, what fn puts, and moves the
// position to to. A snapshot range commits with to = Position().
//
// An error of fn rolls everything back and is returned. ErrFenced means that
// another owner has the store: stop. ErrFull means that nothing was done for
// want of room. Where Retryable(err) is true nothing was written and the whole
// batch can be given again; Commit itself waits, with backoff and as long as
// ctx lives, until the store can be reached. Where a COMMIT's answer is lost,
// Commit asks the store what became of it.
//
// fn must not keep tx, nor change the bytes that it has put.
func (o *Owner) Commit(ctx context.Context, to To, fn func(*Tx) error) error {
	o.commitMu.Lock()
	defer o.commitMu.Unlock()
	if o.over != nil {
		return o.over
	}
	to.Time = to.Time.UTC().Truncate(time.Microsecond)
	from := o.Position()
	if to.End < from.End || to.Commit < from.Commit {
		return fmt.Errorf("commit to %X/%X: the store is at %X/%X already", to.End>>32, uint32(to.End), from.End>>32, uint32(from.End))
	}
	if to.Time.Before(from.Time) {
		to.Time = from.Time
	}
	if b := o.Budget(); b.Full {
		return &FullError{Used: b.Used, Max: b.Max}
	}
	return o.commit(ctx, from, to, fn)
}

// commit is Commit without its questions. o.commitMu is held.
func (o *Owner) commit(ctx context.Context, from, to To, fn func(*Tx) error) error {
	if err := o.connect(ctx); err != nil {
		return err
	}
	tx := o.newTx(from, to)
	err := tx.run(ctx, fn)
	if err == nil {
		o.adopt(tx)
		return nil
	}
	return o.fail(ctx, tx, err)
}

// fail ends a transaction that did not answer COMMIT with success.
func (o *Owner) fail(ctx context.Context, tx *Tx, err error) error {
	if errors.Is(err, ErrFenced) {
		o.over = ErrFenced
		o.lose()
		tx.rollback(ctx)
		return err
	}
	if !o.conn.IsClosed() && !tx.rollback(ctx) {
		_ = o.conn.Close(ctx) // errors are of no use: the session is given up
	}
	if o.conn.IsClosed() && tx.sent {
		return o.settle(ctx, tx, err)
	}
	// Nothing was written: the server said so, or COMMIT never left.
	if tx.failure != nil && ctx.Err() == nil && (passing(err) || o.conn.IsClosed()) {
		return &transientError{err}
	}
	return err
}

// settle finds out whether a COMMIT whose answer was lost has happened. It
// never guesses.
func (o *Owner) settle(ctx context.Context, tx *Tx, lost error) error {
	o.store.opts.Log.Warn("store: the answer to a commit was lost, asking", "epoch", o.epoch, "error", lost)
	o.commits++ // if it happened
	ctx, cancel := outlive(ctx, o.grace())
	defer cancel()
	err := o.connect(ctx)
	switch {
	case err == nil:
		o.adopt(tx)
		return nil
	case errors.Is(err, errNotCommitted):
		return &transientError{fmt.Errorf("commit: %w", lost)}
	case errors.Is(err, ErrFenced):
		return err
	}
	o.over = ErrUnsettled
	return fmt.Errorf("%w: %w", ErrUnsettled, err)
}

var errNotCommitted = errors.New("the commit did not happen")

// connect gives the owner a session, waiting with backoff while the store
// cannot be reached. It returns errNotCommitted where the store is one commit
// behind what o.commits hopes for, and ErrFenced where it is not ours.
func (o *Owner) connect(ctx context.Context) error {
	if o.conn != nil && !o.conn.IsClosed() {
		return nil
	}
	retry := newBackoff()
	for {
		err := o.reconnect(ctx)
		if err == nil || errors.Is(err, errNotCommitted) {
			return err
		}
		if errors.Is(err, ErrFenced) {
			o.over = ErrFenced
			o.lose()
			return ErrFenced
		}
		if !passing(err) || ctx.Err() != nil {
			return fmt.Errorf("connect to the store: %w", err)
		}
		wait := retry.next()
		o.store.opts.Log.Warn("store: cannot connect, trying again", "error", err, "in", wait)
		select {
		case <-ctx.Done():
			return fmt.Errorf("connect to the store: %w", context.Cause(ctx))
		case <-o.lost:
			o.over = ErrFenced
			return ErrFenced
		case <-time.After(wait):
		}
	}
}

// reconnect opens a session and makes sure of where the store stands.
func (o *Owner) reconnect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cfg := o.store.config.Copy()
	cfg.RuntimeParams["application_name"] = ownerName(o.epoch)
	// Every statement of an owner looks rows up by key. A plan made when a
	// table was small would read all of it later.
	for _, way := range []string{"enable_hashjoin", "enable_mergejoin", "enable_seqscan", "jit"} {
		cfg.RuntimeParams[way] = "off"
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	// The session before may still run, or wait for a client that is gone.
	// Whatever it was doing ends now; the row lock below waits for that end,
	// so that what is read afterwards is final.
	if o.connPID != 0 {
		if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE pid = $1 AND application_name = $2 AND pid <> pg_backend_pid()`, int32(o.connPID), ownerName(o.epoch)); err != nil {
			conn.Close(ctx)
			return fmt.Errorf("end the lost session: %w", err)
		}
	}
	var epoch, commits int64
	if err := conn.QueryRow(ctx, `SELECT epoch, commits FROM banyan.source FOR UPDATE`).Scan(&epoch, &commits); err != nil {
		conn.Close(ctx)
		return fmt.Errorf("read the position back: %w", err)
	}
	if epoch == o.epoch && commits == o.commits-1 {
		o.commits, o.conn, o.connPID = commits, conn, conn.PgConn().PID()
		return errNotCommitted
	}
	if epoch != o.epoch || commits != o.commits {
		conn.Close(ctx)
		return ErrFenced
	}
	o.conn, o.connPID = conn, conn.PgConn().PID()
	return nil
}

// adopt makes the transaction's outcome the owner's memory.
func (o *Owner) adopt(tx *Tx) {
	o.commits = tx.commits
	o.states.keep(tx)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pos = tx.to
	for _, sh := range tx.newShelves {
		o.shelves = append(o.shelves, sh)
		o.topics[sh.Topic] = append(o.topics[sh.Topic], sh)
	}
	for id, seq := range tx.seqs {
		o.shelves[id-1].seq = seq
	}
	for name, topic := range tx.newAggregates {
		o.aggregate[name] = topic
	}
	if tx.events.touched {
		o.slabs = withTail(o.slabs, tx.events)
	}
	if tx.traces.touched {
		o.traces = withTail(o.traces, tx.traces)
	}
	o.anyParked = tx.anyParked
	if tx.parkedChanged {
		o.parkedRev++
	}
	o.complete = o.complete || tx.completed
	close(o.changed)
	o.changed = make(chan struct{})
}

// backoff doubles from 50 ms to 5 s, with jitter.
type backoff struct{ d time.Duration }

func newBackoff() *backoff { return &backoff{d: 50 * time.Millisecond} }

func (b *backoff) next() time.Duration {
	d := b.d
	b.d = min(2*b.d, 5*time.Second)
	return d/2 + rand.N(d/2)
}
