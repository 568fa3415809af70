package parity_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"banyan/shadow/parity"
	"banyan/token"
)

// world is a source that moves on with every question, and a service that
// follows it: both answer with the commit that they have seen.
type world struct {
	mu  sync.Mutex
	lsn uint64
	t   *testing.T
	// moves is how many questions there may be in which the source moves.
	moves int
}

func (w *world) answer(rw http.ResponseWriter, r *http.Request, lsn uint64) {
	rw.Header().Set(token.Header, token.Token{Generation: 1, LSN: lsn}.String())
	says(fmt.Sprintf(`{"state":%d}`, lsn))(rw, r)
}

func (w *world) move() uint64 {
	if w.moves > 0 {
		w.moves--
		w.lsn++
	}
	return w.lsn
}

// source commits, and says how new it is when asked.
func (w *world) source(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := r.Header.Get(token.Header); got != token.Wanted {
		w.t.Errorf("the source is sent %q", got)
	}
	w.answer(rw, r, w.move())
}

// follower has seen all that the token asks for, and what came since.
func (w *world) follower(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.move()
	if text := r.Header.Get(token.Header); text != "" {
		want, err := token.Parse(text)
		if err != nil || want.LSN > seen || r.Header.Get("Banyan-Wait") != "5s" {
			w.t.Errorf("the follower is sent %q, %v, with %q", text, err, r.Header.Get("Banyan-Wait"))
		}
	}
	w.answer(rw, r, seen)
}

func TestTokenOfOneGoesToTheOther(t *testing.T) {
	w := &world{t: t, lsn: 100}
	r := run(t, parity.Config{Control: serve(t, w.source), Candidate: serve(t, w.follower)}, paths(10))
	if !r.OK || r.Tokens != (parity.Tokens{Equal: 10}) {
		t.Errorf("a source at rest: %+v", r.Tokens)
	}
}

func TestNewestTokenIsSent(t *testing.T) {
	var got []string
	candidate := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get(token.Header))
		says("1")(w, r)
	})
	control := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(token.Header, "1:0/20")
		says("1")(w, r)
	})
	list := []parity.Request{
		{Method: "GET", Path: "/", Token: token.Token{Generation: 1, LSN: 0x5}}, // control first
		{Method: "GET", Path: "/", Token: token.Token{Generation: 1, LSN: 0x5}}, // candidate first
		{Method: "GET", Path: "/", Token: token.Token{Generation: 2, LSN: 0x1}},
		{Method: "GET", Path: "/", Token: token.Token{Generation: 1, LSN: 0x30}},
	}
	r := run(t, parity.Config{Control: control, Candidate: candidate, Token: token.Token{Generation: 1, LSN: 0x10}, Concurrency: 1}, parity.List(list))
	if fmt.Sprint(got) != "[1:0/20 1:0/10 2:0/1 1:0/30]" || r.Tokens.Unknown != 4 {
		t.Errorf("sent were %v, tokens %+v", got, r.Tokens)
	}
}

// A source that moves makes no difference of two right services, once it rests;
// while it never does, what differs counts, and the report says why it may.
func TestSourceThatMoves(t *testing.T) {
	w := &world{t: t, lsn: 100, moves: 3}
	r := run(t, parity.Config{Control: serve(t, w.source), Candidate: serve(t, w.follower), Concurrency: 1}, paths(10))
	if !r.OK || r.Tokens.Settled == 0 || r.Tokens.Again == 0 || r.Tokens.Equal != 10 {
		t.Errorf("a source that comes to rest: %v %+v", fields(r), r.Tokens)
	}
	w.moves = 1 << 30
	r = run(t, parity.Config{Control: serve(t, w.source), Candidate: serve(t, w.follower), Concurrency: 1}, paths(10))
	if r.Differing != 10 || r.Tokens.Apart != 10 || r.Tokens.ApartDiffering != 10 || r.Tokens.Again != 20 || r.Tokens.Settled != 0 {
		t.Errorf("a source that never rests: %d differ, %+v", r.Differing, r.Tokens)
	}
}

// Without tokens nothing is asked again: a flaky candidate is seen.
func TestNothingIsAskedAgainWithoutTokens(t *testing.T) {
	n := 0
	control := serve(t, says("1"))
	candidate := serve(t, func(w http.ResponseWriter, r *http.Request) { n++; says("2")(w, r) })
	if r := run(t, parity.Config{Control: control, Candidate: candidate, Concurrency: 1, ControlToken: parity.None, CandidateToken: parity.None}, paths(10)); n != 10 || r.Differing != 10 {
		t.Errorf("asked %d times, %d differ", n, r.Differing)
	}
}
