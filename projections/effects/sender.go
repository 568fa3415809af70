package effects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"banyan/projections/control"
)

// Sender sends the effects that one projection has promised. Several senders of
// one projection share the work: an effect is claimed by one of them.
type Sender struct {
	Store      *control.Store
	Projection string
	Owner      string // host and process, for people
	Transport  *Transport
	// Retry is the longest pause between two attempts at one effect, which begin
	// at a second and double; 5 minutes where zero.
	Retry time.Duration
	// Attempts is how often an effect is tried that may work later; 50 where
	// zero, about four hours. Then it waits for a person.
	Attempts int
	// Keep is how long sent effects stay in the ledger; 30 days where zero.
	Keep time.Duration
	// Idle is the pause where nothing is due; a promise made meanwhile wakes the
	// sender through Wake. A second where zero.
	Idle time.Duration
	// Wake, where not nil, says that effects were promised.
	Wake <-chan struct{}
	// Log hears of effects that failed, were refused or are in doubt. Nil is
	// silent.
	Log *slog.Logger
	// Now is the clock of retries; time.Now where nil.
	Now func() time.Time

	settled time.Time // when settleDead last looked at all that is in doubt
}

// claimed at once: a sender that dies leaves no more than so many in doubt.
const claimed = 20

// Run sends until ctx is done, which is then its error, or the database fails.
// An effect that was begun is brought to its end first, a few seconds at most.
func (s *Sender) Run(ctx context.Context) error {
	s.defaults()
	lease, err := s.Store.Lease(ctx, s.Projection, 0, control.Sending, s.Owner)
	if err != nil {
		return fmt.Errorf("begin to send effects: %w", err)
	}
	defer lease.Close()
	idle := time.NewTicker(s.Idle)
	defer idle.Stop()
	var pruned time.Time
	for {
		sent, err := s.round(ctx, lease)
		if now := s.Now(); err == nil && sent == 0 && now.Sub(pruned) > time.Hour {
			pruned = now
			_, err = s.Store.PruneEffects(ctx, s.Projection, now.Add(-s.Keep))
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err() // a statement that is cancelled may end with any error of the network
		case err != nil:
			return err
		case sent > 0:
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-idle.C:
		case <-s.Wake:
		}
	}
}

// Drain sends what is due and returns when nothing is: for a job that ends.
func (s *Sender) Drain(ctx context.Context) error {
	s.defaults()
	lease, err := s.Store.Lease(ctx, s.Projection, 0, control.Sending, s.Owner)
	if err != nil {
		return fmt.Errorf("begin to send effects: %w", err)
	}
	defer lease.Close()
	for {
		if sent, err := s.round(ctx, lease); err != nil || sent == 0 {
			return err
		}
	}
}

func (s *Sender) defaults() {
	if s.Retry == 0 {
		s.Retry = 5 * time.Minute
	}
	if s.Attempts == 0 {
		s.Attempts = 50
	}
	if s.Keep == 0 {
		s.Keep = 30 * 24 * time.Hour
	}
	if s.Idle == 0 {
		s.Idle = time.Second
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
}

// round sends what is due now, and gives the number of attempts.
func (s *Sender) round(ctx context.Context, lease *control.Lease) (int, error) {
	// Without a lease that lives, what we take would be in doubt at once.
	if err := lease.Renew(ctx); err != nil {
		return 0, err
	}
	if err := s.settleDead(ctx); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	// A claim whose answer is not waited for would be in doubt.
	take, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	entries, err := s.Store.Claim(take, s.Projection, lease, claimed)
	cancel()
	if err != nil {
		return 0, fmt.Errorf("take effects to send: %w", err)
	}
	for i := range entries {
		if err := s.send(ctx, lease, &entries[i]); err != nil {
			return i, errors.Join(err, s.giveBack(ctx, lease, entries[i+1:]))
		}
	}
	return len(entries), nil
}

// giveBack makes effects that were claimed and not begun due at once, for whoever
// comes next.
func (s *Sender) giveBack(ctx context.Context, lease *control.Lease, entries []control.Entry) error {
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for i := range entries {
		if err := s.note(finish, func() error {
			return s.Store.MarkFailed(finish, lease, entries[i].ID, errors.New("the sender was told to stop"), s.Now())
		}); err != nil {
			return err
		}
	}
	return nil
}

// settleDead looks at what a sender was about when it died. A call goes out again
// under its key; a mail waits for a person.
func (s *Sender) settleDead(ctx context.Context) error {
	n, err := s.Store.Doubt(ctx, s.Projection)
	if err != nil {
		return err
	}
	// Whoever found others in doubt may have died before it sent them again.
	now := s.Now()
	if n == 0 && now.Sub(s.settled) < time.Minute {
		return nil
	}
	doubtful, err := s.Store.Effects(ctx, s.Projection, control.EffectFilter{States: []control.EffectState{control.Doubtful}, Limit: 1000})
	if err != nil {
		return err
	}
	for _, e := range doubtful {
		if e.Kind != KindHTTP {
			if n == 0 && !s.settled.IsZero() {
				continue // told already
			}
			s.Log.Warn("an effect is in doubt: its sender ended while it sent; projector effects shows it", "effect", e.Key(), "kind", e.Kind)
			continue
		}
		if _, err := s.Store.Resend(ctx, s.Projection, e.ID); err != nil {
			return err
		}
	}
	s.settled = now
	return nil
}

// send makes one attempt and writes down what became of it. What was begun is
// not cut short by the end of ctx, but by a limit of its own.
func (s *Sender) send(ctx context.Context, lease *control.Lease, e *control.Entry) error {
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), 60*time.Second)
	defer cancel()
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), s.giveBack(ctx, lease, []control.Entry{*e}))
	}
	outcome, cause := s.Transport.Send(finish, e.Key(), e.Kind, e.Payload)
	log := s.Log.With("effect", e.Key(), "kind", e.Kind, "attempt", e.Attempts)
	switch {
	case outcome == Sent:
		return s.note(finish, func() error { return s.Store.MarkSent(finish, lease, e.ID) })
	case outcome == Doubtful:
		log.Warn("whether an effect was taken is in doubt; projector effects shows it", "error", cause)
		return s.note(finish, func() error { return s.Store.MarkDoubtful(finish, lease, e.ID, cause) })
	case outcome == Again && e.Attempts < s.Attempts:
		log.Info("an effect has to be sent again", "error", cause)
		return s.note(finish, func() error { return s.Store.MarkFailed(finish, lease, e.ID, cause, s.Now().Add(s.pause(e.Attempts))) })
	}
	log.Error("an effect was not sent and will not be tried again by itself; projector effects shows it", "error", cause)
	return s.note(finish, func() error { return s.Store.MarkFailed(finish, lease, e.ID, cause, time.Time{}) })
}

// note writes down what became of an attempt. Nobody else knows it, so a database
// that is away for the moment is waited for.
func (s *Sender) note(ctx context.Context, write func() error) error {
	for {
		err := write()
		if err == nil || ctx.Err() != nil || errors.Is(err, control.ErrFenced) {
			return err
		}
		s.Log.Warn("what became of an effect cannot be written down; trying again", "error", err)
		pause := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// pause before the attempt that follows so many.
func (s *Sender) pause(attempts int) time.Duration {
	if attempts > 20 {
		return s.Retry
	}
	return min(time.Second<<max(0, attempts-1), s.Retry)
}
