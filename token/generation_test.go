package token_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/token"
)

const goodAnswer = `{"source":"shop","generation":3,"lsn":"0/1","system":"7000","timeline":2,"more":true}`

// cdc stands in for a cdc run: it answers what it is told to.
type cdc struct {
	url    string
	status atomic.Int32
	body   atomic.Pointer[string]
	asked  chan struct{}
}

func newCDC(t *testing.T, body string) *cdc {
	c := &cdc{asked: make(chan struct{}, 1000)}
	c.say(200, body)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/under"+token.Path {
			t.Errorf("cdc was asked for %s", r.URL.Path)
		}
		w.WriteHeader(int(c.status.Load()))
		w.Write([]byte(*c.body.Load()))
		c.asked <- struct{}{}
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL + "/under/"
	return c
}

func (c *cdc) say(status int, body string) {
	c.body.Store(&body)
	c.status.Store(int32(status))
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// asking runs a Generations until the test ends.
func asking(t *testing.T, url string) (*token.Generations, *buffer) {
	t.Helper()
	log := &buffer{}
	g, err := token.NewGenerations(url, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if _, known := g.Known(); known {
			t.Error("the generation is known when nobody asks any more")
		}
	})
	return g, log
}

// until waits for a condition that sends no signal.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never came: %s", what)
		}
	}
}

func TestGenerationIsKnownWhileCDCSaysIt(t *testing.T) {
	t.Parallel()
	c := newCDC(t, goodAnswer)
	g, log := asking(t, c.url)
	known := func() bool { _, ok := g.Known(); return ok }
	until(t, "the generation is known", known)
	want := token.Incarnation{Source: "shop", Generation: 3, LSN: "0/1", System: "7000", Timeline: 2}
	if got, _ := g.Known(); got != want {
		t.Errorf("known is %+v, want %+v", got, want)
	}
	c.say(503, "another cdc has taken over this source\n")
	until(t, "the generation is forgotten", func() bool { return !known() })
	for range 2 { // it goes on asking, and says so once
		<-c.asked
	}
	c.say(200, strings.Replace(goodAnswer, "3", "4", 1))
	until(t, "the next generation is known", known)
	if got, _ := g.Known(); got.Generation != 4 {
		t.Errorf("known is %+v, want generation 4", got)
	}
	until(t, "both generations are in the log", func() bool { return strings.Count(log.String(), "level=INFO") >= 2 })
	text := log.String()
	if strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "taken over") || strings.Count(text, "level=INFO") != 2 {
		t.Errorf("the log says:\n%s", text)
	}
}

func TestAnswersThatAreNoneAreNotBelieved(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "ok\n", "{}", "[]", strings.Replace(goodAnswer, "3", "0", 1), strings.Replace(goodAnswer, "7000", "", 1), strings.Replace(goodAnswer, "2", "0", 1), strings.Replace(goodAnswer, "shop", "", 1),
		goodAnswer[:len(goodAnswer)-1] + strings.Repeat(" ", 70<<10) + "}"} {
		c := newCDC(t, body)
		g, log := asking(t, c.url)
		until(t, "the log says why", func() bool { return strings.Contains(log.String(), "no consistency tokens") })
		if i, ok := g.Known(); ok {
			t.Errorf("%.100q is believed: %+v", body, i)
		}
	}
}

func TestAddressOfCDC(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:9378", "ftp://x", "http://", "http://x:port", "http://me:s3cret@h:port", "http://me:s3cret@h?x=1", "/generation"} {
		_, err := token.NewGenerations(bad, nil)
		if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:9378") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	g, log := asking(t, "http://me:s3cret@127.0.0.1:1")
	until(t, "the log says why", func() bool { return log.String() != "" })
	if _, ok := g.Known(); ok || strings.Contains(log.String(), "s3cret") {
		t.Errorf("of a cdc that is away it says %s", log)
	}
}
