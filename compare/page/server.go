package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"banyan/compare"
)

// LiveOptions are the bounds of a LiveServer; zero values stand for the defaults.
type LiveOptions struct {
	// MaxClients may listen to events at the same time; 20 by default. Others are
	// told to come again.
	MaxClients int
	// Every is how often the source is asked and a client told something, at most;
	// one second by default.
	Every time.Duration
	// Heartbeat is after how long of silence a comment is sent, so that no proxy
	// takes the connection for dead; 15 seconds by default.
	Heartbeat time.Duration
	// Fault is told what went wrong, once for each answer that could not be given;
	// nil for nobody. Clients see that something did, but not what.
	Fault func(error)
}

// LiveServer is an http.Handler that shows a run while it goes on:
//
//	GET /             the page; ?view=wall for a screen across the room
//	GET /events       server-sent events that keep it up to date
//	GET /report.html  the report as HTML, /report.md, /report.json
//
// It only reads, sets no cookies, and uses relative URLs, so that it works behind a
// proxy under any path, be that path taken off or not. It asks for no password:
// whoever listens should do so on loopback. Its methods may be called at the same time.
type LiveServer struct {
	source  func() (LiveData, error)
	options LiveOptions
	clients chan struct{}
	closed  chan struct{}
	close   sync.Once

	mu   sync.Mutex
	at   time.Time // when the source was asked last
	last answerOf
}

// answerOf is what the source said, and what was made of it so far.
type answerOf struct {
	data LiveData
	err  error
	made [2]*pieces // plain, wall
}

// pieces is a live page in pieces.
type pieces struct {
	parts []piece
	ids   []string
	said  string
}

// writeWithin is how long a client may take to read what it is sent.
const writeWithin = 10 * time.Second

// NewLiveServer serves what source gives. It is asked at most once in LiveOptions.Every,
// however many look, and must be quick and safe to be called from any goroutine, one
// call at a time. The caller ends with Close.
func NewLiveServer(source func() (LiveData, error), o LiveOptions) *LiveServer {
	if o.MaxClients <= 0 {
		o.MaxClients = 20
	}
	if o.Every <= 0 {
		o.Every = time.Second
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.Fault == nil {
		o.Fault = func(error) {}
	}
	return &LiveServer{source: source, options: o, clients: make(chan struct{}, o.MaxClients), closed: make(chan struct{})}
}

// Close ends all streams of events: http.Server.Shutdown waits for them, and does not
// end them (give Close to RegisterOnShutdown). It may be called more than once.
func (s *LiveServer) Close() { s.close.Do(func() { close(s.closed) }) }

// ServeHTTP answers by the last part of the path.
func (s *LiveServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this page is to be looked at only", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:] {
	case "":
		s.answer(w, "text/html; charset=utf-8", livePolicy+"; frame-ancestors 'self'", func(b io.Writer, d LiveData) error {
			return Live(b, d, Options{Wall: onWall(r)})
		})
	case "events":
		s.events(w, r)
	case "report.html":
		s.answer(w, "text/html; charset=utf-8", policy, reported(func(b io.Writer, r *compare.Report) error { return HTML(b, r, Options{}) }))
	case "report.md":
		s.answer(w, "text/markdown; charset=utf-8", policy, reported(Markdown))
	case "report.json":
		s.answer(w, "application/json", policy, reported(JSON))
	default:
		http.NotFound(w, r)
	}
}

var errNoReport = errors.New("there is no report yet")

func reported(write func(io.Writer, *compare.Report) error) func(io.Writer, LiveData) error {
	return func(b io.Writer, d LiveData) error {
		if d.Report == nil {
			return errNoReport
		}
		return write(b, d.Report)
	}
}

func onWall(r *http.Request) bool { return r.URL.Query().Get("view") == "wall" }

// answer writes a whole document, or says that there is none.
func (s *LiveServer) answer(w http.ResponseWriter, contentType, policy string, write func(io.Writer, LiveData) error) {
	var b bytes.Buffer
	data, err := s.ask()
	if err == nil {
		err = write(&b, data)
	}
	if err == errNoReport {
		w.Header().Set("Retry-After", "5")
		http.Error(w, errNoReport.Error(), http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		s.options.Fault(fmt.Errorf("answer with the live report: %w", err))
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the report cannot be read at the moment", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Security-Policy", policy)
	// A client that has gone has no use for an error.
	_, _ = w.Write(b.Bytes())
}

// ask gives what the source said last, or asks it again where that is too old.
func (s *LiveServer) ask() (LiveData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.last.data, s.last.err
}

func (s *LiveServer) refresh() {
	// A little less than Every, so that a client's tick does not fall just short of it.
	if now := time.Now(); s.at.IsZero() || now.Sub(s.at) >= s.options.Every*9/10 {
		data, err := s.source()
		s.last, s.at = answerOf{data: data, err: err}, now
	}
}

// inPieces gives the live page as it is now; they are made once for all clients.
func (s *LiveServer) inPieces(wall bool) (*pieces, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	if s.last.err != nil {
		return nil, s.last.err
	}
	i := 0
	if wall {
		i = 1
	}
	if s.last.made[i] == nil {
		f, err := liveFrame(s.last.data, Options{Wall: wall})
		if err != nil {
			return nil, err
		}
		parts, err := f.parts()
		if err != nil {
			return nil, err
		}
		s.last.made[i] = &pieces{parts, f.ids(), f.said()}
	}
	return s.last.made[i], nil
}

// events tells one client what has changed, until it goes or the server ends.
func (s *LiveServer) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.clients <- struct{}{}:
		defer func() { <-s.clients }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many are looking already", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	c := client{w: w, rc: http.NewResponseController(w), sent: map[string]string{}}
	if r.Method == http.MethodHead {
		return
	}
	tick := time.NewTicker(s.options.Every)
	defer tick.Stop()
	c.event("retry: 3000\n\n")
	quiet := time.Now()
	for c.err == nil {
		u, err := s.inPieces(onWall(r))
		if err != nil {
			s.options.Fault(fmt.Errorf("tell a client what has changed: %w", err))
			return // the page says that the connection is lost, and tries again
		}
		if c.tell(u) {
			quiet = time.Now()
		} else if time.Since(quiet) >= s.options.Heartbeat {
			c.event(": still here\n\n")
			c.flush()
			quiet = time.Now()
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.closed:
			return
		case <-tick.C:
		}
	}
}

// client is one that listens, and what it has been told.
type client struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	sent map[string]string
	err  error // of writing: it has gone
}

// tell sends what differs from what was sent before, and reports whether anything did.
func (c *client) tell(u *pieces) bool {
	any := c.send("parts", "parts", u.ids)
	for _, p := range u.parts {
		any = c.send("part", p.ID, p) || any
	}
	any = c.send("say", "say", u.said) || any
	if any {
		c.flush()
	}
	return any
}

// send sends an event, unless its data is what was sent under the key before.
func (c *client) send(event, key string, v any) bool {
	raw, err := json.Marshal(v)
	if err != nil { // texts only: there is nothing that can't be written
		c.err = err
		return false
	}
	if c.sent[key] == string(raw) {
		return false
	}
	c.sent[key] = string(raw)
	c.event("event: " + event + "\ndata: " + string(raw) + "\n\n")
	return true
}

func (c *client) event(text string) {
	if c.err != nil {
		return
	}
	// Where the writer cannot set deadlines, the server's own holds.
	_ = c.rc.SetWriteDeadline(time.Now().Add(writeWithin))
	_, c.err = io.WriteString(c.w, text)
}

func (c *client) flush() {
	if c.err == nil {
		c.err = c.rc.Flush()
	}
}
