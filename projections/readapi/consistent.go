package readapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"banyan/projections/control"
	"banyan/token"
)

func mapKeys(q url.Values) iter.Seq[string] { return maps.Keys(q) }

// consistent makes sure that the answer may be given: it waits for the request's
// token, or, without one, only says how old the answer will be. Where it returns
// false, it has answered itself.
func (s *Server) consistent(w http.ResponseWriter, r *http.Request, res *resource, q *question) bool {
	text := r.Header.Get(token.Header)
	if text == "" {
		seen, err := s.seen.now(r.Context())
		if err != nil {
			return s.unready(w, r, err)
		}
		s.stamp(w, seen)
		return true
	}
	want, err := token.Parse(text)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad-token", fmt.Sprintf("%s: %v", token.Header, err), nil)
		return false
	}
	wait, err := s.patience(r)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad-request", err.Error(), nil)
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	err = s.progress.Wait(ctx, control.Mark{Generation: want.Generation, LSN: want.LSN}, q.ref)
	if r.Context().Err() != nil {
		return false // nobody listens any more
	}
	behind, late := errors.AsType[*control.BehindError](err)
	parked, held := errors.AsType[*control.ParkedError](err)
	switch {
	case err == nil:
		// What was passed is at least the token, whatever the last look saw.
		seen, err := s.seen.now(r.Context())
		if err != nil {
			return s.unready(w, r, err)
		}
		if seen.Compare(control.Mark{Generation: want.Generation, LSN: want.LSN}) < 0 {
			seen.Generation, seen.LSN = want.Generation, want.LSN
		}
		s.stamp(w, seen)
		return true
	case late:
		s.tell(w, want, behind)
		return false
	case held:
		problem(w, http.StatusConflict, "parked", parked.Error(), nil)
		return false
	}
	return s.unready(w, r, err)
}

// tell says how far behind the projection is.
func (s *Server) tell(w http.ResponseWriter, want token.Token, e *control.BehindError) {
	s.stamp(w, e.At)
	w.Header().Set("Retry-After", "1")
	more := map[string]any{"token": want.String(), "passed": e.At.String(), "seconds": e.Age.Seconds()}
	if want.Generation == e.At.Generation {
		more["lsnBytes"] = want.LSN - e.At.LSN
	}
	problem(w, http.StatusServiceUnavailable, "behind", fmt.Sprintf("this projection has not passed %s yet; it stands at %s", want, e.At), more)
}

func (s *Server) unready(w http.ResponseWriter, r *http.Request, err error) bool {
	if r.Context().Err() == nil {
		s.opts.Log.Error("ask how far the projection is", "error", err)
		problem(w, http.StatusServiceUnavailable, "database", "the database of this projection does not answer", nil)
	}
	return false
}

// patience is how long the request wants to wait.
func (s *Server) patience(r *http.Request) (time.Duration, error) {
	text := r.Header.Get("Banyan-Wait")
	if text == "" {
		return s.opts.Wait, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > s.opts.MaxWait {
		return 0, fmt.Errorf("Banyan-Wait: %q: want a duration from 0s to %s, such as 500ms", text, s.opts.MaxWait)
	}
	return d, nil
}

// age is how old an answer is at most: how long ago, by the source's clock, the
// source was where the projection is now. A projection that has passed all that
// is known is as old as its last watermark.
func (s *Server) age(seen control.Mark) float64 {
	if seen.Time.IsZero() {
		return -1
	}
	return max(0, s.now().Sub(seen.Time).Seconds())
}

func (s *Server) stamp(w http.ResponseWriter, seen control.Mark) {
	h := w.Header()
	if seen.Generation == 0 {
		h.Set("Banyan-Age", "unknown: no watermark has been seen yet")
		return
	}
	h.Set(token.Header, seen.String())
	h.Set("Banyan-Age", strconv.FormatFloat(s.age(seen), 'f', 3, 64))
}

// problem answers with application/problem+json (RFC 9457).
func problem(w http.ResponseWriter, status int, kind, detail string, more map[string]any) {
	p := map[string]any{"type": "urn:banyan:" + kind, "title": http.StatusText(status), "status": status, "detail": detail}
	maps.Copy(p, more)
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	write(w, status, v)
}

func write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"status":500}`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// watch asks how far the projection is, once for all requests that want to know.
type watch struct {
	ask func(context.Context) (control.Mark, error)

	mu    sync.Mutex
	seen  control.Mark
	err   error
	asked bool
	first chan struct{} // closed after the first look
}

// lookEvery is how old the knowledge of the own age is at most.
const lookEvery = 100 * time.Millisecond

func newWatch(ask func(context.Context) (control.Mark, error)) *watch {
	return &watch{ask: ask, first: make(chan struct{})}
}

// run looks until ctx is done.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		seen, err := w.ask(ctx)
		w.mu.Lock()
		if w.err = err; err == nil {
			w.seen = seen
		}
		if !w.asked {
			w.asked = true
			close(w.first)
		}
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// now gives what was seen last; the first callers wait for the first look.
func (w *watch) now(ctx context.Context) (control.Mark, error) {
	select {
	case <-ctx.Done():
		return control.Mark{}, ctx.Err()
	case <-w.first:
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.seen, w.err
	}
}
