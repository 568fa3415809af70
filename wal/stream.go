package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// StreamConfig says what to read and from where. URL, Slot, Publication,
// Capture, From and SpillDir must be set; zero values of the rest are replaced
// by the defaults that are named here.
type StreamConfig struct {
	URL         string // TLS is decided by its sslmode and its fellows
	Slot        string
	Publication string
	Capture     Capture
	// From is the position that the consumer has stored: the End of its last
	// durable batch, or the slot's consistent point.
	From LSN
	// Expect is the incarnation that From belongs to; the zero value accepts
	// any.
	Expect Incarnation
	// SpillDir holds what a large transaction needs above its share of memory.
	// It is made if it is missing.
	SpillDir string
	// MemoryLimit bounds, in bytes, the changes that are held here: those that
	// wait, the transaction being read, and the batch in the consumer's hands
	// each get a share. One single row is always held. Default 64 MiB.
	MemoryLimit int64
	// StatusInterval is how often the server hears from us at least. Default a
	// quarter of its wal_sender_timeout, at most 10 s.
	StatusInterval time.Duration
	// IdleInterval is how long a move of the position alone, without a
	// transaction, waits at most before it is offered. Default one second. Soon
	// after a transaction it waits less: whoever has just committed may hold a
	// token that lies a little above, where others have written in between.
	IdleInterval time.Duration
	// ActiveWait is how long Open waits for another reader of the slot to go,
	// such as the server's side of a connection of ours that broke. Default
	// five seconds.
	ActiveWait time.Duration
	// WatchInterval is how often the publication is looked at while the stream
	// runs: what it has lost is missing without a sign. Default ten seconds.
	WatchInterval time.Duration
	Log           *slog.Logger // default: nothing is logged
}

const (
	defaultMemory = 64 << 20
	// The wait of a move of the position, first after a transaction and then
	// doubled up to IdleInterval.
	firstIdle = 20 * time.Millisecond
	// An acknowledgement is worth a status of its own, but not each of
	// hundreds in a second.
	ackDelay = 250 * time.Millisecond
	// A broken connection is tried again after this, doubled up to the limit.
	firstBackoff, lastBackoff = 50 * time.Millisecond, 10 * time.Second
	// A server that shuts down waits, without a limit of its own, until we have
	// confirmed all it sent. Where we cannot, perhaps because our store went away
	// with it, we let it go after this long and come back.
	shutdownPatience = 5 * time.Second
	batchTxs         = 4096
	waitingFiles     = 16
	checkEvery       = 64 // messages between looks at the clock
)

// Batch is what has been read and not been handed out yet: whole transactions
// in commit order. It may be empty; then only the position moved, because the
// server wrote what is not captured.
type Batch struct {
	Txs []*Tx
	// End is what to acknowledge: everything that ends at or below it is in
	// this batch or an earlier one.
	End LSN
	// EndTime is the source's time at End: the commit time of the last
	// transaction, or the server's clock when it sent its position. It never
	// goes back.
	EndTime time.Time
}

// Stream reads a slot. One goroutine of its own owns the connection: it reads,
// answers the server, and connects again when the connection breaks. Next and
// Ack are for one consumer; Status may be called by anybody.
type Stream struct {
	cfg    StreamConfig
	log    *slog.Logger
	inc    Incarnation
	asm    *assembler
	cancel context.CancelFunc
	done   chan struct{}
	ready  chan struct{} // something for Next
	room   chan struct{} // something for the reader that waits for room

	held, peak atomic.Int64 // bytes of waiting and open transactions
	acked      atomic.Uint64
	ackPending atomic.Bool // the reader knows that acked has moved
	sender     atomic.Pointer[walsender]
	// unpublished is why the publication does not fit any more; published has,
	// by table, the entries that it had at first.
	unpublished atomic.Pointer[PublicationError]
	published   map[string]uint32

	mu       sync.Mutex
	pending  []*Tx
	waiting  int64 // bytes of pending
	onDisk   int   // how many of pending are spilled
	position LSN   // the end of all that is pending or was handed out
	at       time.Time
	urgent   bool // the server waits for the position, as in a shutdown
	// urgentSince bounds how long a server that shuts down may wait for us.
	urgentSince time.Time
	handed      LSN
	handedAt    time.Time
	lastBatch   time.Time
	idle        time.Duration // from then on, before a move of the position is offered
	spilled     []*Tx         // handed out, not acknowledged
	err         error
	outage      error // why the connection is down, nil while it is up
	reconnects  int
}

// Status is what a Stream is doing.
type Status struct {
	Connected bool
	// Outage is why it is not connected.
	Outage     error
	Reconnects int
	Position   LSN // everything up to here has arrived
	Handed     LSN // everything up to here was returned by Next
	Acked      LSN
	// HeldBytes are in memory for transactions that are read or wait; PeakBytes
	// is the most there ever were.
	HeldBytes, PeakBytes int64
}

// Open checks the slot, the publication and the source's incarnation against
// the configuration, and begins to read. Errors that no retry can help are
// *SlotMissingError, *SlotLostError, *SlotAheadError, *SlotUnfitError,
// *SlotActiveError, *IncarnationError and *PublicationError. ctx bounds the
// opening only. The caller must call Close.
func Open(ctx context.Context, cfg StreamConfig) (*Stream, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := cleanSpillDir(cfg.SpillDir); err != nil {
		return nil, err
	}
	s := &Stream{cfg: cfg, log: cfg.Log, done: make(chan struct{}),
		ready: make(chan struct{}, 1), room: make(chan struct{}, 1),
		position: cfg.From, handed: cfg.From, inc: cfg.Expect}
	s.acked.Store(uint64(cfg.From))
	s.asm = &assembler{spillDir: cfg.SpillDir, limit: cfg.MemoryLimit / 4, skip: cfg.From, held: s.hold}
	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.asm.relations = newRelations(cfg.Capture, func(about facts) (*columnFacts, error) { return s.readFacts(run, about) })
	w, err := s.connectPatiently(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open the stream of slot %q: %w", cfg.Slot, err)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(run)
	}()
	go s.run(run, w, watched)
	return s, nil
}

func (c *StreamConfig) complete() error {
	var missing []error
	for _, f := range []struct {
		name string
		ok   bool
	}{{"URL", c.URL != ""}, {"Slot", c.Slot != ""}, {"Publication", c.Publication != ""}, {"Capture", len(c.Capture) > 0},
		{"From", c.From != 0}, {"SpillDir", c.SpillDir != ""}} {
		if !f.ok {
			missing = append(missing, fmt.Errorf("%s is not set", f.name))
		}
	}
	if c.MemoryLimit == 0 {
		c.MemoryLimit = defaultMemory
	}
	if c.IdleInterval == 0 {
		c.IdleInterval = time.Second
	}
	if c.ActiveWait == 0 {
		c.ActiveWait = 5 * time.Second
	}
	if c.WatchInterval == 0 {
		c.WatchInterval = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(missing...); err != nil {
		return fmt.Errorf("configure the stream: %w", err)
	}
	return nil
}

// Next returns what has arrived since the last call, waiting only if there is
// nothing. After an error that no retry can help, and after all that was read
// before it, it returns that error, again and again. It may be called while
// earlier batches are not acknowledged yet.
func (s *Stream) Next(ctx context.Context) (Batch, error) {
	for {
		s.mu.Lock()
		b, wait, err := s.take(time.Now())
		s.mu.Unlock()
		if err != nil {
			return Batch{}, err
		}
		if wait == 0 {
			signal(s.room)
			return b, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return Batch{}, ctx.Err()
		case <-s.ready:
		case <-t.C:
		}
		t.Stop()
	}
}

// take cuts a batch from what waits; s.mu is held. Without a batch it says how
// long at most to wait before asking again.
func (s *Stream) take(now time.Time) (Batch, time.Duration, error) {
	if len(s.pending) == 0 {
		if s.err != nil {
			return Batch{}, 0, s.err
		}
		if s.position == s.handed {
			return Batch{}, time.Hour, nil
		}
		if due := s.lastBatch.Add(s.idle); now.Before(due) && !s.urgent {
			return Batch{}, due.Sub(now), nil
		}
	}
	n, size := 0, int64(0)
	for ; n < len(s.pending) && n < batchTxs && (n == 0 || size+inMemory(s.pending[n]) <= s.cfg.MemoryLimit/4); n++ {
		size += inMemory(s.pending[n])
	}
	b := Batch{Txs: s.pending[:n:n], End: s.position, EndTime: s.at}
	s.pending = s.pending[n:]
	if len(s.pending) > 0 {
		b.End, b.EndTime = b.Txs[n-1].EndLSN, b.Txs[n-1].CommitTime
	} else {
		s.pending = nil
	}
	// Commit times of concurrent transactions need not rise with their order.
	if b.EndTime.Before(s.handedAt) {
		b.EndTime = s.handedAt
	}
	for _, tx := range b.Txs {
		if tx.spill != nil {
			s.spilled = append(s.spilled, tx)
			s.onDisk--
		}
	}
	s.handed, s.handedAt, s.lastBatch = b.End, b.EndTime, now
	if s.idle *= 2; n > 0 || s.idle == 0 {
		s.idle = firstIdle
	}
	s.idle = min(s.idle, s.cfg.IdleInterval)
	s.waiting -= size
	s.hold(-size)
	return b, 0, nil
}

func inMemory(tx *Tx) int64 {
	if tx.spill != nil {
		return 0
	}
	return tx.Bytes + txSize
}

const txSize = 160 // a transaction's own bytes, so that empty ones count too

// Ack says that everything that ends at or below lsn is durable with the
// consumer, so that the server may forget it. Only now the slot moves, within
// a quarter of a second. It also closes the spilled transactions up to lsn. A
// position beyond the last batch counts as the last batch's End; one below an
// earlier Ack does nothing.
func (s *Stream) Ack(lsn LSN) {
	s.mu.Lock()
	lsn = min(lsn, s.handed)
	if lsn <= LSN(s.acked.Load()) {
		s.mu.Unlock()
		return
	}
	s.acked.Store(uint64(lsn))
	var free []*Tx
	for len(s.spilled) > 0 && s.spilled[0].EndLSN <= lsn {
		free = append(free, s.spilled[0])
		s.spilled = s.spilled[1:]
	}
	s.mu.Unlock()
	for _, tx := range free {
		if err := tx.Close(); err != nil {
			s.log.Warn("cannot close a spill file", "slot", s.cfg.Slot, "xid", tx.XID, "error", err)
		}
	}
	if !s.ackPending.Swap(true) {
		signal(s.room)
		if w := s.sender.Load(); w != nil {
			w.wake()
		}
	}
}

// Close ends the stream, reports the last acknowledgement if the connection
// still stands, waits for its goroutine, and removes all spill files. It may
// be called twice.
func (s *Stream) Close() error {
	s.cancel()
	if w := s.sender.Load(); w != nil {
		w.wake()
	}
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, tx := range append(s.spilled, s.pending...) {
		errs = append(errs, tx.Close())
	}
	s.spilled, s.pending = nil, nil
	if s.err == nil {
		s.err = ErrClosed
	}
	return errors.Join(errs...)
}

// Incarnation returns the source that the positions belong to.
func (s *Stream) Incarnation() Incarnation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inc
}

// Status returns what the stream is doing.
func (s *Stream) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		Connected: s.outage == nil && s.err == nil, Outage: errors.Join(s.outage, s.err), Reconnects: s.reconnects,
		Position: s.position, Handed: s.handed, Acked: LSN(s.acked.Load()),
		HeldBytes: s.held.Load(), PeakBytes: s.peak.Load(),
	}
}

func (s *Stream) hold(delta int64) {
	if held := s.held.Add(delta); held > s.peak.Load() {
		s.peak.Store(held)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// backoff is the wait before the n-th try, with some chance in it so that many
// readers of one server do not come back at the same moment.
func backoff(n int) time.Duration {
	d := min(lastBackoff, firstBackoff<<min(n, 20))
	return d/2 + rand.N(d/2)
}
