package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// run is the goroutine that owns the connection, for the life of the Stream.
func (s *Stream) run(ctx context.Context, w *walsender, watched <-chan struct{}) {
	defer func() {
		s.cancel() // ends the watch
		<-watched
		close(s.done)
	}()
	for {
		err := s.receive(ctx, w)
		s.sender.Store(nil)
		if ctx.Err() != nil {
			s.sayGoodbye(w)
			s.fail(errors.Join(ErrClosed, s.asm.reset()))
			return
		}
		closeSoon(w.conn)
		if spillErr := s.asm.reset(); spillErr != nil {
			s.fail(spillErr)
			return
		}
		if !transient(err) {
			s.fail(err)
			return
		}
		s.mu.Lock()
		s.outage = err
		s.asm.skip = s.position
		s.mu.Unlock()
		s.log.Warn("lost the source, connecting again", "slot", s.cfg.Slot, "lsn", s.asm.skip.String(), "error", err)
		if w, err = s.reconnect(ctx); err != nil {
			s.fail(err)
			return
		}
		s.log.Info("connected to the source again", "slot", s.cfg.Slot, "lsn", s.asm.skip.String())
	}
}

// fail makes err what Next returns after the last good transaction.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	signal(s.ready)
}

// sayGoodbye reports the last acknowledgement, so that the next start need not
// read again what is durable.
func (s *Stream) sayGoodbye(w *walsender) {
	if acked := LSN(s.acked.Load()); acked > w.reported && !w.conn.IsClosed() {
		// It may fail: then the server sends again what the store already has.
		_ = w.status(acked, acked, time.Now(), false)
	}
	_ = w.conn.Conn().SetReadDeadline(time.Time{}) // so that closing waits for the server's end
	closeSoon(w.conn)
}

// receive reads until the connection fails, the stream cannot be understood,
// or ctx ends.
func (s *Stream) receive(ctx context.Context, w *walsender) error {
	s.sender.Store(w)
	s.mu.Lock()
	s.urgent = false // what an earlier connection's server wanted
	s.mu.Unlock()
	var src source = w
	for n := 0; ; n++ {
		if n%checkEvery == 0 {
			if err := s.upkeep(ctx, w); err != nil {
				return err
			}
		}
		lsn, message, err := src.next()
		switch {
		case err == errWoken:
			n = -1 // look at the clock
			continue
		case err != nil:
			return err
		case message == nil:
			if !s.asm.open {
				s.moved(lsn, w.serverTime, w.replyAsked)
			}
			n = -1
			continue
		}
		tx, err := s.asm.message(message)
		if err != nil {
			return s.explain(ctx, lsn, err)
		}
		if tx != nil {
			s.completed(tx)
			n = -1
		}
	}
}

// explain tells what could not be understood from what merely failed at our
// side while reading it.
func (s *Stream) explain(ctx context.Context, lsn LSN, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := errors.AsType[*pgconn.PgError](err); ok || transient(err) {
		return err // the side connection that reads the catalog
	}
	if _, ok := errors.AsType[*spillError](err); ok {
		return err
	}
	if s.asm.open {
		err = fmt.Errorf("transaction %d: %w", s.asm.begin.xid, err)
	}
	return &DecodeError{LSN: lsn, Err: err}
}

// upkeep sends what the server must hear, and waits here, still sending, while
// the consumer has enough to do.
func (s *Stream) upkeep(ctx context.Context, w *walsender) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.unpublished.Load(); err != nil {
			return err
		}
		now := time.Now()
		s.mu.Lock()
		full := s.waiting > s.cfg.MemoryLimit/4 || len(s.pending) >= 4*batchTxs || s.onDisk >= waitingFiles
		position, urgent, since := s.position, s.urgent, s.urgentSince
		s.mu.Unlock()
		if urgent && now.Sub(since) > shutdownPatience {
			return errNotWaitedFor
		}

		acked := LSN(s.acked.Load())
		due := w.sent.Add(w.interval)
		if s.cfg.StatusInterval > 0 {
			due = w.sent.Add(min(s.cfg.StatusInterval, w.interval))
		}
		if acked > w.reported {
			due = w.sent.Add(min(ackDelay, w.interval))
			if urgent {
				due = now
			}
		}
		if urgent {
			if limit := since.Add(shutdownPatience + time.Millisecond); limit.Before(due) {
				due = limit
			}
		}
		if w.replyAsked || !due.After(now) {
			// Cleared before acked is read again: an Ack after that wakes us.
			s.ackPending.Store(false)
			acked = LSN(s.acked.Load())
			if err := w.status(position, acked, now, !full); err != nil {
				return err
			}
			s.settled(acked)
			if full && s.shuttingDown(ctx, w.interval) {
				return errNotWaitedFor
			}
			continue
		}
		if !full {
			return w.until(due)
		}
		t := time.NewTimer(due.Sub(now))
		select {
		case <-ctx.Done():
		case <-s.room:
		case <-t.C:
		}
		t.Stop()
	}
}

// shuttingDown asks whether the server wants to go. While the consumer has
// enough to do nothing is read, so the server's own word does not reach us, and
// a server in a fast shutdown would wait for ever.
func (s *Stream) shuttingDown(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := Connect(ctx, s.cfg.URL)
	if err == nil {
		closeSoon(conn.PgConn())
		return false
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "57P03"
}

// settled ends the urgency once the server has heard of all there is.
func (s *Stream) settled(reported LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reported >= s.position {
		s.urgent = false
	}
}

// moved notes that everything that committed below lsn has arrived.
func (s *Stream) moved(lsn LSN, at time.Time, urgent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lsn > s.position {
		s.position = lsn
	}
	if at.After(s.at) && len(s.pending) == 0 {
		s.at = at
	}
	if urgent && !s.urgent && s.position > LSN(s.acked.Load()) {
		s.urgent, s.urgentSince = true, time.Now()
	}
	signal(s.ready)
}

// completed queues a transaction. One without any captured change is only a
// move of the position.
func (s *Stream) completed(tx *Tx) {
	if tx.Len == 0 {
		s.moved(tx.EndLSN, tx.CommitTime, false)
		return
	}
	s.hold(txSize)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, tx)
	if tx.spill == nil {
		s.waiting += inMemory(tx)
	} else {
		s.onDisk++
		s.hold(-txSize)
	}
	s.position, s.at = tx.EndLSN, tx.CommitTime
	signal(s.ready)
}

// reconnect tries until it succeeds, the error is permanent, or ctx ends.
func (s *Stream) reconnect(ctx context.Context) (*walsender, error) {
	for n := 0; ; n++ {
		t := time.NewTimer(backoff(n))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ErrClosed
		case <-t.C:
		}
		w, err := s.connect(ctx, false)
		if err == nil {
			s.mu.Lock()
			s.outage = nil
			s.reconnects++
			s.mu.Unlock()
			return w, nil
		}
		if ctx.Err() != nil {
			return nil, ErrClosed
		}
		if !transient(err) {
			return nil, fmt.Errorf("connect to slot %q again: %w", s.cfg.Slot, err)
		}
		s.mu.Lock()
		s.outage = err
		s.mu.Unlock()
		s.log.Debug("the source is still away", "slot", s.cfg.Slot, "tries", n+1, "error", err)
	}
}

// connectPatiently is the first connect: only a slot that is still in use is
// tried again, for a while.
func (s *Stream) connectPatiently(ctx context.Context) (*walsender, error) {
	until := time.Now().Add(s.cfg.ActiveWait)
	for n := 0; ; n++ {
		w, err := s.connect(ctx, true)
		if err == nil {
			return w, nil
		}
		pg, isPg := errors.AsType[*pgconn.PgError](err)
		_, active := errors.AsType[*SlotActiveError](err)
		if active = active || isPg && pg.Code == "55006"; !active || !time.Now().Before(until) {
			return nil, err
		}
		t := time.NewTimer(min(backoff(n), time.Until(until)))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, err
		case <-t.C:
		}
	}
}

// connect checks that slot, publication and server are those that our position
// belongs to, and starts the walsender where the last message ended.
func (s *Stream) connect(ctx context.Context, first bool) (*walsender, error) {
	s.mu.Lock()
	from := s.position
	s.mu.Unlock()
	conn, err := connectReplication(ctx, s.cfg.URL)
	if err != nil {
		return nil, err
	}
	w, err := s.start(ctx, conn, from, first)
	if err != nil {
		closeSoon(conn)
		return nil, err
	}
	return w, nil
}

func (s *Stream) start(ctx context.Context, conn *pgconn.PgConn, from LSN, first bool) (*walsender, error) {
	got, err := identify(ctx, conn, s.cfg.Slot)
	if err != nil {
		return nil, err
	}
	if (s.inc != Incarnation{}) && got != s.inc {
		return nil, &IncarnationError{Want: s.inc, Got: got}
	}
	if err := s.check(ctx, first); err != nil {
		return nil, err
	}
	w, err := startWalsender(ctx, conn, s.cfg.Slot, s.cfg.Publication, from)
	if err != nil {
		return nil, err
	}
	// What is not acknowledged must stay unconfirmed although we start at what
	// has arrived: it is in memory only.
	w.reported = LSN(s.acked.Load())
	s.mu.Lock()
	s.inc = got
	s.mu.Unlock()
	return w, nil
}

// check looks at slot and publication through a short SQL session, and reads
// the facts about columns while it is there.
func (s *Stream) check(ctx context.Context, first bool) error {
	conn, err := Connect(ctx, s.cfg.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, err := SlotInfo(ctx, conn, s.cfg.Slot)
	if err != nil {
		return err
	}
	if err := slot.usable(conn.Config().Database, LSN(s.acked.Load())); err != nil {
		return err
	}
	if err := s.checkPublished(ctx, conn, first); err != nil {
		return err
	}
	known, err := readColumnFacts(ctx, conn, s.asm.relations.about(&Table{}))
	if err != nil {
		return err
	}
	s.asm.relations.learn(known)
	return nil
}

// readFacts is called in mid-stream, when a table has changed. The server gets
// no status meanwhile, so it must be quick.
func (s *Stream) readFacts(ctx context.Context, about facts) (*columnFacts, error) {
	limit := maxStatusInterval
	if w := s.sender.Load(); w != nil {
		limit = w.interval
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := Connect(ctx, s.cfg.URL)
	if err != nil {
		return nil, err
	}
	defer closeSoon(conn.PgConn())
	return readColumnFacts(ctx, conn, about)
}
