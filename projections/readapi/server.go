package readapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/event"
	"banyan/projections/control"
	"banyan/projections/state"
)

// Resource is one table or view that is served.
type Resource struct {
	// Path is the first segment of the URL: "customers".
	Path string
	// View is the schema and name that readers see: {"shipping", "addresses"}.
	View pgx.Identifier
	// Table has the key and its types. For a declared view it has the columns
	// that are its key.
	Table state.Table
	// Aggregate, where set, is the aggregate whose key the table's key is: a
	// wait on a parked one is answered at once.
	Aggregate string
}

// Progress tells how far the version is that readers see.
type Progress interface {
	// Passed gives what all of its partitions have passed.
	Passed(ctx context.Context) (control.Mark, error)
	// Wait returns when it has passed the mark. Where ctx ends first it is a
	// *control.BehindError, where the changes of the aggregate are held back a
	// *control.ParkedError. The zero Ref is no aggregate.
	Wait(ctx context.Context, m control.Mark, r event.Ref) error
}

// Server answers. Make one with New; it is a http.Handler.
type Server struct {
	pool      *pgxpool.Pool
	resources map[string]*resource
	paths     []string
	seen      *watch
	progress  Progress
	opts      Options
	now       func() time.Time
}

// Options of a Server.
type Options struct {
	// Wait is how long a request with a token waits where it does not say; 5 s
	// where zero. A request can ask for less or more with Banyan-Wait, up to
	// MaxWait, 30 s where zero.
	Wait, MaxWait time.Duration
	// PageSize is how many rows a page has at most; 1,000 where zero.
	PageSize int
	// Log hears of failures of the database, once for each request.
	Log *slog.Logger
	// Now is the clock for ages; time.Now where nil.
	Now func() time.Time
}

// New makes a Server. All faults of the resources are reported together.
func New(pool *pgxpool.Pool, p Progress, resources []Resource, o Options) (*Server, error) {
	if o.Wait == 0 {
		o.Wait = 5 * time.Second
	}
	if o.MaxWait == 0 {
		o.MaxWait = 30 * time.Second
	}
	if o.PageSize == 0 {
		o.PageSize = 1000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{pool: pool, progress: p, resources: map[string]*resource{}, opts: o, now: o.Now, seen: newWatch(p.Passed)}
	if s.now == nil {
		s.now = time.Now
	}
	var errs []error
	for _, r := range resources {
		c, err := compile(r)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("resource %q: %w", r.Path, err))
		case s.resources[r.Path] != nil:
			errs = append(errs, fmt.Errorf("resource %q: two of them have this path", r.Path))
		default:
			s.resources[r.Path] = c
			s.paths = append(s.paths, "/"+r.Path)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Index answers with the paths that there are.
func Index(paths []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"resources": paths})
	})
}

// Run keeps the knowledge of the progress fresh until ctx is done. Requests are
// answered only while it runs.
func (s *Server) Run(ctx context.Context) { s.seen.run(ctx) }

// ServeHTTP answers GET and HEAD of /{path} and /{path}/{key...}.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem(w, http.StatusMethodNotAllowed, "read-only", "a projection is changed by events alone", nil)
		return
	}
	segments := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	res := s.resources[segments[0]]
	if res == nil {
		problem(w, http.StatusNotFound, "no-such-resource", fmt.Sprintf("%q is not served here", segments[0]), map[string]any{"resources": s.paths})
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery) // URL.Query would leave out what it can't read
	var ask *question
	if err == nil {
		ask, err = res.parse(segments[1:], query, s.opts.PageSize)
	}
	if err != nil {
		problem(w, http.StatusBadRequest, "bad-request", err.Error(), nil)
		return
	}
	if !s.consistent(w, r, res, ask) {
		return
	}
	s.answer(w, r, res, ask)
}

// answer reads the rows. What was passed was asked for before, so the answer is
// at least as new as its headers say.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, res *resource, ask *question) {
	var body []byte
	err := s.pool.QueryRow(r.Context(), ask.sql, ask.args...).Scan(&body)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		problem(w, http.StatusNotFound, "no-such-row", fmt.Sprintf("%s has no row %s", res.Path, strings.Join(ask.key, "/")), nil)
	case r.Context().Err() != nil: // nobody listens any more
	case err != nil:
		s.opts.Log.Error("read "+res.Path, "error", err)
		problem(w, http.StatusServiceUnavailable, "database", "the database of this projection does not answer", nil)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
		_, _ = w.Write([]byte("\n"))
	}
}
