package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/compare"
)

// sampleLive is sample while it goes on.
func sampleLive() LiveData {
	return LiveData{Report: sample(), Status: Status{LagRecords: 1_204, LagSeconds: 3.4, EventsPerSecond: 812, Position: "1:0/1A2B3C8", Breaker: "closed",
		Drops: []compare.EventRow{{What: "timeout", Events: 17}, {What: "</dd><script>", Events: 2}}, Since: time.Date(2011, 12, 9, 8, 0, 0, 0, time.UTC)}}
}

func TestLive(t *testing.T) {
	for name, tc := range map[string]struct {
		data LiveData
		o    Options
	}{
		"live.html":       {sampleLive(), Options{}},
		"wall.html":       {sampleLive(), Options{Wall: true}},
		"live-empty.html": {LiveData{Status: Status{Paused: "the breaker is open", Breaker: "open"}}, Options{}},
	} {
		var b bytes.Buffer
		if err := Live(&b, tc.data, tc.o); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
		checkPage(t, b.Bytes(), &liveScript)
	}
}

// a test's run: what the source says can be changed while it is asked.
type run struct {
	mu    sync.Mutex
	data  LiveData
	err   error
	asked int
}

func (r *run) source() (LiveData, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return r.data, r.err
}

func (r *run) set(f func(*run)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

// behind serves the live page behind a proxy, under /ops/shadow/, as nginx would.
func behind(t *testing.T, live *LiveServer) string {
	t.Helper()
	back := httptest.NewServer(live)
	t.Cleanup(back.Close)
	t.Cleanup(live.Close) // before the server, which waits for streams
	to, err := url.Parse(back.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/ops/shadow")
	}}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	t.Cleanup(live.Close)
	return front.URL + "/ops/shadow/"
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestLiveServerAnswers(t *testing.T) {
	r := &run{data: sampleLive()}
	base := behind(t, NewLiveServer(r.source, LiveOptions{Every: time.Hour})) // longer than a slow machine takes
	for path, want := range map[string]string{
		"": "text/html; charset=utf-8", "?view=wall": "text/html; charset=utf-8", "report.html": "text/html; charset=utf-8",
		"report.md": "text/markdown; charset=utf-8", "report.json": "application/json",
	} {
		resp, body := get(t, base+path)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != want {
			t.Errorf("%q: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%q: headers %v", path, resp.Header)
		}
		if !strings.Contains(body, "charm") {
			t.Errorf("%q: no report in it", path)
		}
	}
	if resp, _ := get(t, base+"other"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %s", resp.Status)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		req, err := http.NewRequestWithContext(t.Context(), method, base, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	if r.asked != 1 {
		t.Errorf("the source was asked %d times within an hour", r.asked)
	}
}

func TestLiveServerWithoutASource(t *testing.T) {
	var faults atomic.Int64
	r := &run{err: errors.New("password=hunter2")}
	base := behind(t, NewLiveServer(r.source, LiveOptions{Fault: func(error) { faults.Add(1) }}))
	for _, path := range []string{"", "report.json"} {
		resp, body := get(t, base+path)
		if resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "hunter2") {
			t.Errorf("%q: %s %s", path, resp.Status, body)
		}
	}
	if faults.Load() != 2 {
		t.Errorf("%d faults were told, want 2", faults.Load())
	}
}

func TestLiveServerBeforeTheFirstReport(t *testing.T) {
	base := behind(t, NewLiveServer((&run{}).source, LiveOptions{Fault: func(err error) { t.Error(err) }}))
	if resp, body := get(t, base); resp.StatusCode != http.StatusOK || !strings.Contains(body, "Nothing was compared yet.") || strings.Contains(body, "add up") {
		t.Errorf("the page: %s", resp.Status)
	}
	for _, path := range []string{"report.html", "report.md", "report.json"} {
		if resp, body := get(t, base+path); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "no report yet") {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

// listener reads server-sent events.
type listener struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Scanner
}

func listen(t *testing.T, ctx context.Context, url string) *listener {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<22)
	return &listener{t, resp, in}
}

// next gives the next event or comment; ok is false at the end of the stream.
func (l *listener) next() (event, data string, ok bool) {
	for l.in.Scan() {
		line := l.in.Text()
		switch {
		case line == "":
			if event != "" || data != "" {
				return event, data, true
			}
		case strings.HasPrefix(line, "event: "):
			event = line[7:]
		case strings.HasPrefix(line, "data: "):
			data = line[6:]
		case strings.HasPrefix(line, ":"):
			event, data = "comment", line
		}
	}
	return "", "", false
}

// until reads on to an event whose data satisfies f.
func (l *listener) until(event string, f func(data string) bool) string {
	l.t.Helper()
	for {
		e, data, ok := l.next()
		if !ok {
			l.t.Fatalf("the stream ended before the event %s", event)
		}
		if e == event && f(data) {
			return data
		}
	}
}

func TestEvents(t *testing.T) {
	r := &run{data: sampleLive()}
	base := behind(t, NewLiveServer(r.source, LiveOptions{Every: 20 * time.Millisecond, Heartbeat: 50 * time.Millisecond}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l := listen(t, ctx, base+"events")
	if h := l.resp.Header; h.Get("Content-Type") != "text/event-stream" || h.Get("X-Accel-Buffering") != "no" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", h)
	}
	l.until("part", func(data string) bool { return strings.Contains(data, `"id":"status"`) })
	l.until("comment", func(string) bool { return true })

	changed := sampleLive()
	changed.Status.LagRecords = 77
	r.set(func(r *run) { r.data = changed })
	event, data, _ := l.next()
	for event == "comment" {
		event, data, _ = l.next()
	}
	var got piece
	if err := json.Unmarshal([]byte(data), &got); err != nil || event != "part" {
		t.Fatalf("%s: %v", event, err)
	}
	if got.ID != "status" || !strings.Contains(got.HTML, "77\u00a0records") {
		t.Errorf("after a change of lag the first to come is %s: %.200s", got.ID, got.HTML)
	}
	// Only what has changed is sent again.
	if event, data, _ = l.next(); event != "comment" {
		t.Errorf("after it comes %s %.80s, want silence", event, data)
	}
	changed.Report = onRung(compare.Unhealthy)
	r.set(func(r *run) { r.data = changed })
	l.until("parts", func(data string) bool { return !strings.Contains(data, "segments") })
	l.until("say", func(data string) bool { return strings.Contains(data, "unhealthy") })
}

func TestEventsEnd(t *testing.T) {
	r := &run{data: sampleLive()}
	live := NewLiveServer(r.source, LiveOptions{Every: 10 * time.Millisecond, MaxClients: 1})
	base := behind(t, live)
	ctx, cancel := context.WithCancel(t.Context())
	one := listen(t, ctx, base+"events")
	one.until("say", func(string) bool { return true })
	if resp, _ := get(t, base+"events"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s", resp.Status)
	}
	cancel() // the client goes, and makes room
	deadline := time.Now().Add(10 * time.Second)
	var two *listener
	for two == nil || two.resp.StatusCode != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the place of a client that has gone stays taken")
		}
		two = listen(t, t.Context(), base+"events")
	}
	two.until("say", func(string) bool { return true })
	live.Close()
	live.Close()
	for {
		if _, _, ok := two.next(); !ok {
			break
		}
	}
}

// TestManyLook: however many look, the source is asked once at a time.
func TestManyLook(t *testing.T) {
	var at, most atomic.Int64
	live := NewLiveServer(func() (LiveData, error) {
		if n := at.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer at.Add(-1)
		return sampleLive(), nil
	}, LiveOptions{Every: time.Microsecond})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				w := httptest.NewRecorder()
				live.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x/?view=wall", nil))
				if w.Code != http.StatusOK {
					t.Errorf("%d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("the source was asked %d times at once", most.Load())
	}
}
