package parity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"banyan/shadow/parity"
)

func TestFaultsExclude(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(30 * time.Second):
		}
	}
	problem := func(status int, kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Banyan-Token") == "" {
				t.Error("no token was sent")
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"type":"urn:banyan:%s","detail":"not yet"}`, kind)
		}
	}
	for name, tc := range map[string]struct {
		control, candidate http.HandlerFunc
		want               string
	}{
		"hanging candidate": {nil, hang, "candidate-timeout"},
		"hanging control":   {hang, nil, "control-timeout"},
		"both":              {hang, hang, "control-timeout"},
		"hanging within the body": {nil, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "[")
			w.(http.Flusher).Flush()
			hang(w, r)
		}, "candidate-timeout"},
		"huge":             {nil, func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte(" "), 1<<20+1)) }, "candidate-oversize"},
		"huge without end": {endless, nil, "control-oversize"},
		"hangs up":         {nil, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "candidate-unreachable"},
		"hangs up within the body": {nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "[")
		}, "candidate-broken"},
		"behind":            {nil, problem(503, "behind"), "candidate-behind"},
		"parked":            {nil, problem(409, "parked"), "candidate-parked"},
		"not what it reads": {problem(400, "bad-token"), nil, "control-bad-token"},
	} {
		t.Run(name, func(t *testing.T) {
			side := func(h http.HandlerFunc) string {
				if h == nil {
					h = func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Banyan-Token", "1:0/10")
						says("1")(w, r)
					}
				}
				return serve(t, h)
			}
			// A side that is well has the time of a slow machine to answer; all who wait
			// for one that hangs wait at once.
			c := parity.Config{Control: side(tc.control), Candidate: side(tc.candidate), Timeout: 20 * time.Second, Wait: 10 * time.Millisecond, MaxDiffering: 100}
			if strings.HasSuffix(tc.want, parity.FaultTimeout) {
				t.Parallel()
				c.Timeout = 2 * time.Second
			}
			c.Token.Generation, c.Token.LSN = 1, 5
			r := run(t, c, paths(4))
			if diff := cmp.Diff(map[string]int{tc.want: 4}, excluded(r)); diff != "" || r.Compared != 0 || r.OK || r.Unanswered != 4 {
				t.Errorf("%s\ncompared %d, OK %v, unanswered %d, %+v", diff, r.Compared, r.OK, r.Unanswered, r.Excluded)
			}
		})
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(bytes.Repeat([]byte("[1,"), 10_000)); err != nil {
			return
		}
	}
}

func TestExactlyTheLimitIsCompared(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte(" "), 100)) })
	if r := run(t, parity.Config{Control: u, Candidate: u, Limit: 100}, paths(2)); r.Compared != 2 {
		t.Errorf("at the limit: %+v", r.Excluded)
	}
	if r := run(t, parity.Config{Control: u, Candidate: u, Limit: 99}, paths(2)); r.Compared != 0 {
		t.Errorf("above the limit: %d compared", r.Compared)
	}
}

// What some calls suffer neither hides nor makes differences in others.
func TestFlakyCandidate(t *testing.T) {
	control := serve(t, says(`{"a":1}`))
	candidate := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch n := strings.TrimPrefix(r.URL.Path, "/orders/"); {
		case strings.HasSuffix(n, "3"):
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(n, "7"):
			says(`{"a":2}`)(w, r)
		default:
			says(`{"a":1}`)(w, r)
		}
	})
	c := parity.Config{Control: control, Candidate: candidate, MaxDiffering: 12, MaxUnanswered: 10, Concurrency: 8, GiveUp: 2}
	r := run(t, c, paths(100))
	if r.Compared != 90 || r.Differing != 10 || r.Unanswered != 10 || !r.OK || excluded(r)["candidate-unreachable"] != 10 {
		t.Errorf("%+v", r)
	}
	c.MaxUnanswered = 9
	if r := run(t, c, paths(100)); r.OK || len(r.Why) != 1 || !strings.Contains(r.Why[0], "10.00 % of the asked requests were not answered") {
		t.Errorf("too many unanswered: %v %v", r.OK, r.Why)
	}
	c.MaxUnanswered, c.MaxDiffering = 10, 11
	if r := run(t, c, paths(100)); r.OK || len(r.Why) != 1 || !strings.Contains(r.Why[0], "11.11 % of the compared requests differ") {
		t.Errorf("too many differing: %v %v", r.OK, r.Why)
	}
}

func TestSilentSideIsLeftAlone(t *testing.T) {
	var asked atomic.Int64
	up := serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); says("1")(w, r) })
	gone := httptest.NewServer(nil)
	gone.Close()
	r := run(t, parity.Config{Control: up, Candidate: gone.URL, GiveUp: 10, MaxUnanswered: 100}, paths(1000))
	if r.OK || !strings.Contains(r.Stopped, "candidate did not answer 10 requests in a row") || asked.Load() > 40 {
		t.Errorf("asked %d times, stopped %q", asked.Load(), r.Stopped)
	}
}

func TestNothingComparedIsNotOK(t *testing.T) {
	u := serve(t, says("1"))
	for name, source := range map[string]iter.Seq2[parity.Request, error]{"nothing asked": paths(0), "all refused": parity.List([]parity.Request{{Method: "POST", Path: "/"}})} {
		if r := run(t, parity.Config{Control: u, Candidate: u, MaxDiffering: 100, MaxUnanswered: 100}, source); r.OK || fmt.Sprint(r.Why) != "[nothing was compared]" {
			t.Errorf("%s: OK %v, %v", name, r.OK, r.Why)
		}
	}
}

func TestConnectionsAreClosed(t *testing.T) {
	var open atomic.Int64
	s := httptest.NewUnstartedServer(says("1"))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.Start()
	defer s.Close()
	run(t, parity.Config{Control: s.URL, Candidate: s.URL}, paths(20))
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for open.Load() > 0 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d connections are open after the run", open.Load())
		}
	}
}

func TestInterruptedRun(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	h := func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 20 {
			cancel()
			<-r.Context().Done()
			return
		}
		says("1")(w, r)
	}
	a, b := httptest.NewServer(http.HandlerFunc(h)), httptest.NewServer(http.HandlerFunc(h))
	defer a.Close()
	defer b.Close()
	r, err := parity.Run(ctx, parity.Config{Control: a.URL, Candidate: b.URL, Noise: true}, paths(10_000))
	if !errors.Is(err, context.Canceled) || r == nil || r.OK || r.Stopped == "" || r.Compared == 0 || excluded(r)[parity.ReasonStopped] == 0 || r.Unanswered > 0 {
		t.Fatalf("%v, %+v", err, r)
	}
	checkSums(t, r)
}

func TestSourceThatFails(t *testing.T) {
	u := serve(t, says("1"))
	lost := errors.New("the broker went")
	r, err := parity.Run(t.Context(), parity.Config{Control: u, Candidate: u}, func(yield func(parity.Request, error) bool) {
		_ = yield(parity.Request{Method: "GET", Path: "/a"}, nil) && yield(parity.Request{}, &parity.SkipError{Reason: "removed"}) && yield(parity.Request{}, lost)
	})
	if !errors.Is(err, lost) || r.OK || r.Compared != 1 || excluded(r)["removed"] != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	if _, err := parity.Run(t.Context(), parity.Config{Control: u, Candidate: u}, parity.List([]parity.Request{{Method: "GET", Path: "@other.example/"}})); err == nil {
		t.Error("a path that changes the host is taken")
	}
}
