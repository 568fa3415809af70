package control

import (
	"context"
	"maps"
	"sync"
	"time"

	"banyan/event"
)

// WaitFor narrows a wait down.
type WaitFor struct {
	// Parts, where given, are the only ones that must have passed: those where
	// the key lies.
	Parts []PartID
	// Ref, where set, is looked up among the parked keys.
	Ref event.Ref
}

// seenMark is how far a projection has come, as all waits of this process know
// it. Whoever holds the token of lead asks the database; the others wait for a
// change, or for the token.
type seenMark struct {
	lead chan struct{} // of one

	mu      sync.Mutex
	now     *progress
	looked  chan struct{} // closed when now was read again
	changed chan struct{} // closed when it has got further, too
	nap     time.Duration // before the next look; longer while nothing moves
}

const (
	// fresh is for how long an answer of the database is believed.
	fresh = 20 * time.Millisecond
	// The pause between two looks: short, since most waits are for a commit that
	// is on its way, and longer while nothing comes.
	shortNap, longNap = time.Millisecond, 10 * time.Millisecond
)

func (s *Store) seenOf(projection string) *seenMark {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.seen[projection]
	if e == nil {
		e = &seenMark{lead: make(chan struct{}, 1), looked: make(chan struct{}), changed: make(chan struct{}), now: &progress{}, nap: shortNap}
		e.lead <- struct{}{}
		s.seen[projection] = e
	}
	return e
}

func (e *seenMark) get() (now *progress, looked, changed chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now, e.looked, e.changed
}

func (e *seenMark) set(p *progress) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nap = min(e.nap*3/2, longNap)
	close(e.looked)
	e.looked = make(chan struct{})
	if p.version != e.now.version || p.anyParked != e.now.anyParked || !maps.Equal(p.parts, e.now.parts) {
		close(e.changed)
		e.changed = make(chan struct{})
		e.nap = shortNap
	}
	e.now = p
}

// Wait returns when the active version has passed the mark, nil, or with a
// *BehindError when ctx or its deadline ends first, or with a *ParkedError as
// soon as the key is known to be held back. Many waits at once ask the database
// together. ErrNotFound where there is no such projection.
func (s *Store) Wait(ctx context.Context, projection string, m Mark, w WaitFor) error {
	e := s.seenOf(projection)
	var checked *progress
	for {
		now, next, changed := e.get()
		passed := now.of(w.Parts).Compare(m) >= 0
		if time.Since(now.at) < fresh {
			if w.Ref != (event.Ref{}) && now.anyParked && now != checked {
				checked = now
				if err := s.hindered(ctx, projection, m, w.Ref); err != nil {
					return err
				}
			}
			if passed {
				return nil
			}
		}
		if !passed {
			next = changed // a look that finds nothing new wakes nobody
		}
		select {
		case <-ctx.Done():
			return s.lastLook(ctx, e, projection, m, w)
		case <-next:
		case <-e.lead:
			err := s.look(ctx, e, projection)
			e.lead <- struct{}{}
			if err != nil {
				return err
			}
		}
	}
}

// look asks the database, after a pause where it was asked just now.
func (s *Store) look(ctx context.Context, e *seenMark, projection string) error {
	e.mu.Lock()
	pause := e.nap - time.Since(e.now.at)
	e.mu.Unlock()
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil // Wait says what that means
		case <-timer.C:
		}
	}
	// The end of one wait must not cost a connection, which is what pgx gives up
	// when a query is cancelled: a query that has begun gets a moment more.
	ask, cancel := s.graceful(ctx)
	defer cancel()
	p, err := s.readProgress(ask, projection)
	if err != nil {
		return err
	}
	e.set(p)
	return nil
}

func (s *Store) graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	const grace = time.Second
	left := 10 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, max(time.Until(deadline), 0)+grace)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), left)
}

func (s *Store) hindered(ctx context.Context, projection string, m Mark, ref event.Ref) error {
	ask, cancel := s.graceful(ctx)
	defer cancel()
	all, err := s.missing(ask, projection, ref)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].hinders(m) {
			return &ParkedError{projection, all[i]}
		}
	}
	return nil
}

// lastLook says how far the projection has come when the wait ends. A wait
// without any time left is a question, and gets its answer.
func (s *Store) lastLook(ctx context.Context, e *seenMark, projection string, m Mark, w WaitFor) error {
	now, _, _ := e.get()
	if time.Since(now.at) >= fresh {
		ask, cancel := s.graceful(ctx)
		defer cancel()
		var err error
		if now, err = s.readProgress(ask, projection); err != nil {
			return err
		}
		e.set(now)
		if w.Ref != (event.Ref{}) && now.anyParked {
			if err := s.hindered(ctx, projection, m, w.Ref); err != nil {
				return err
			}
		}
		if now.of(w.Parts).Compare(m) >= 0 {
			return nil
		}
	}
	b := &BehindError{Projection: projection, Want: m, At: now.of(w.Parts), Age: -1}
	if !b.At.Time.IsZero() {
		b.Age = max(time.Since(b.At.Time), 0)
	}
	return b
}
