package shadow

import (
	"log/slog"
	"sync"
	"time"
)

// toldAfter is how long a candidate is waited for before the log hears of it.
const toldAfter = 2 * time.Second

// waiting is why a shadow waits for its candidate, for those who ask: a page, a probe,
// and once for each time that it takes long, the log.
type waiting struct {
	mu     sync.Mutex
	reason string
	since  time.Time
	all    time.Duration // of the times that are over
	told   bool
}

// set notes the reason, "" where the shadow goes on.
func (w *waiting) set(reason string, log *slog.Logger) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	took := now.Sub(w.since)
	switch {
	case w.reason == "":
		w.since = now
	case reason == "":
		w.all += took
		if w.told && log != nil {
			log.Info("the candidate answers again", "waited", took.Round(time.Millisecond))
		}
		w.told = false
	case !w.told && took >= toldAfter:
		w.told = true
		if log != nil {
			log.Warn("waiting for the candidate; nothing is lost", "reason", reason)
		}
	}
	w.reason = reason
}

// get gives the reason, and how long was waited in all.
func (w *waiting) get() (reason string, all time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all = w.all
	if w.reason != "" {
		all += time.Since(w.since)
	}
	return w.reason, all
}
