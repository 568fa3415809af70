package ask_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/internal/embedded"
	"banyan/quote"
	"banyan/shadow/ask"
)

// fault is one thing that a candidate does, to a single order.
type fault struct {
	name      string
	handle    func(s *candidate, w http.ResponseWriter, r *http.Request, o []quote.Order)
	reason    ask.Reason
	says      string
	transient bool
}

func good(o []quote.Order) string {
	b, _ := json.Marshal(answers(o)) //nolint:errcheck // answers have always a form
	return string(b)
}

var faultyConnections = []fault{
	{"never answers", func(s *candidate, _ http.ResponseWriter, r *http.Request, _ []quote.Order) { s.hang(r) },
		ask.Timeout, "no answer within", true},
	{"hangs within the body", func(s *candidate, w http.ResponseWriter, r *http.Request, o []quote.Order) {
		w.Header().Set("Content-Length", "1000")
		text(w, good(o)[:10])
		w.(http.Flusher).Flush()
		s.hang(r)
	}, ask.Timeout, "no whole answer within", true},
	{"drips", func(_ *candidate, w http.ResponseWriter, r *http.Request, o []quote.Order) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				text(w, " ")
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}, ask.Timeout, "no whole answer within", true},
	{"breaks the connection", func(*candidate, http.ResponseWriter, *http.Request, []quote.Order) { panic(http.ErrAbortHandler) },
		ask.Failed, "the connection broke", true},
	{"breaks off in the body", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		w.Header().Set("Content-Length", "1000")
		text(w, good(o)[:10])
	}, ask.Failed, "broke off", true},
	{"no HTTP", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		io.WriteString(conn, "220 mail ready\r\n") //nolint:errcheck // the client may be gone
		conn.Close()                               //nolint:errcheck // a test's end of it
	}, ask.Failed, "connection broke", true},
	{"endless headers", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		w.Header().Set("X-Long", strings.Repeat("x", 256<<10))
		text(w, good(o))
	}, ask.Failed, "connection broke", true},
}

var faultyStatuses = []fault{
	{"500", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) {
		http.Error(w, "a <b>\x00", 500)
	},
		ask.Failed, `status 500: "a <b>\x00"`, true},
	{"503", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) { w.WriteHeader(503) }, ask.Failed, "status 503", true},
	{"400", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) {
		http.Error(w, "orders[0].currency: want GBP", 400)
	}, ask.Refused, `status 400: "orders[0].currency: want GBP"`, true},
	{"404", func(_ *candidate, w http.ResponseWriter, r *http.Request, _ []quote.Order) { http.NotFound(w, r) }, ask.Refused, "status 404", true},
	{"429", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) { w.WriteHeader(429) }, ask.Refused, "status 429", true},
	{"301", func(_ *candidate, w http.ResponseWriter, r *http.Request, _ []quote.Order) {
		http.Redirect(w, r, "https://u:pass@example.test/q?token=1", http.StatusMovedPermanently)
	}, ask.Redirected, "status 301 to https://...@example.test/q: give", true},
	{"307", func(_ *candidate, w http.ResponseWriter, r *http.Request, _ []quote.Order) {
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	},
		ask.Redirected, "status 307 to /other", true},
	{"204", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) { w.WriteHeader(204) }, ask.Unparsable, "want 200", true},
}

var faultyBodies = []fault{
	{"too large, and says so", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		w.Header().Set("Content-Length", fmt.Sprint(1<<40))
		text(w, good(o))
	}, ask.Oversize, "1099511627776 bytes", true},
	{"too large, without an end", func(_ *candidate, w http.ResponseWriter, r *http.Request, _ []quote.Order) {
		for r.Context().Err() == nil {
			text(w, strings.Repeat(" ", 4096))
		}
	}, ask.Oversize, "more than 65536 bytes", true},
	{"HTML", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, good(o)) //nolint:errcheck // the client may be gone
	}, ask.Unparsable, `content type "text/html; charset=utf-8"`, true},
	{"compressed unasked", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "application/json")
		z := gzip.NewWriter(w)
		z.Write(make([]byte, 1<<24)) //nolint:errcheck // the client may be gone
		z.Close()                    //nolint:errcheck // the client may be gone
	}, ask.Unparsable, `content encoding "gzip"`, true},
}

var faultyAnswers = []fault{
	{"truncated JSON", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		text(w, good(o)[:len(good(o))-2])
	},
		ask.Unparsable, "unexpected end", true},
	{"two documents", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) { text(w, good(o)+good(o)) },
		ask.Unparsable, "after top-level value", true},
	{"NaN", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		text(w, strings.Replace(good(o), "12750", "NaN", 1))
	}, ask.Unparsable, "invalid character 'N'", true},
	{"fraction", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		text(w, strings.Replace(good(o), "12750", "12.75", 1))
	}, ask.Unparsable, "amount", true},
	{"no answers", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) { text(w, "{}") }, ask.Unparsable, "answers", true},
	{"nothing for the order", func(_ *candidate, w http.ResponseWriter, _ *http.Request, _ []quote.Order) { text(w, `{"answers":[]}`) },
		ask.NoAnswer, "the order is missing", false},
	{"only lines that nobody asked for", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		r := answers(o)
		r.Answers[0].Lines = r.Answers[0].Lines[:1]
		r.Answers[0].Lines[0].Line = 99
		reply(w, r)
	}, ask.NoAnswer, "none of the order's lines", false},
	{"two different answers", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		r := answers(append(o, o...))
		r.Answers[1].Lines[0].Unit.Amount++
		reply(w, r)
	}, ask.Duplicate, "two different answers", false},
	{"declines", func(_ *candidate, w http.ResponseWriter, _ *http.Request, o []quote.Order) {
		reply(w, quote.Response{Answers: []quote.Answer{{ID: o[0].ID, Declined: "no such product"}}})
	}, ask.Declined, "no such product", false},
}

const faultsMaxBody = 64 << 10

// Each fault of a candidate, from a real server: its reason, whether it may heal. Those
// that take too long are timed by a clock that waits for the candidate, however slow the
// machine is: what has come of an answer by then is always the same.
func TestFaults(t *testing.T) {
	change := func(c *ask.Config) { c.MaxBody, c.Retries = faultsMaxBody, 0 }
	for _, tc := range slices.Concat(faultyConnections, faultyStatuses, faultyBodies, faultyAnswers) {
		t.Run(tc.name, func(t *testing.T) {
			var s *candidate // known to those that hang, which are timeouts all
			handle := func(w http.ResponseWriter, r *http.Request, o []quote.Order, _ int) { tc.handle(s, w, r, o) }
			if tc.reason == ask.Timeout {
				bubble(t, handle, change, func(t *testing.T, slow *candidate, c *ask.Client) {
					s = slow
					tc.check(t, c)
				})
				return
			}
			_, url := serve(t, handle)
			tc.check(t, client(t, url, change))
		})
	}
}

// check asks for one order, and wants the fault for it.
func (f *fault) check(t *testing.T, c *ask.Client) {
	t.Helper()
	r := c.Ask(t.Context(), orders(1))[0]
	if r.Reason != f.reason || r.Transient() != f.transient {
		t.Fatalf("%s (transient %v): %v; want %s (%v)", r.Reason, r.Transient(), r.Err, f.reason, f.transient)
	}
	if r.Err == nil || !strings.Contains(r.Err.Error(), f.says) || strings.Contains(r.Err.Error(), "pass") {
		t.Errorf("says %q, want %q", r.Err, f.says)
	}
	if (r.Answer != nil) != (f.reason == ask.Declined) {
		t.Errorf("answer %+v", r.Answer)
	}
	st := c.Stats()
	if st.Reasons[f.reason] != 1 || st.Orders != 1 || st.Answered != 0 || st.BytesIn > 2*faultsMaxBody {
		t.Errorf("stats %+v", st)
	}
}

// What nobody asked for, and what is said twice alike, is counted and does no harm.
func TestOddAnswers(t *testing.T) {
	_, url := serve(t, func(w http.ResponseWriter, _ *http.Request, o []quote.Order, _ int) {
		r := answers(o)
		r.Answers = append(r.Answers, answer(order(900)), r.Answers[0])
		more := slices.Clone(r.Answers[1].Lines)
		r.Answers[1].Lines = append([]quote.Price{{Line: 7, Unit: pounds(1)}}, more...)
		reply(w, r)
	})
	c := client(t, url, nil)
	for i, r := range c.Ask(t.Context(), orders(3)) {
		if r.Reason != "" || len(r.Answer.Lines) != 2 || r.Answer.Lines[0].Line != 1 {
			t.Errorf("order %d: %+v", i, r)
		}
	}
	if st := c.Stats(); st.Unasked != 2 || st.Duplicates != 1 {
		t.Errorf("%d unasked, %d duplicates, want 2 and 1", st.Unasked, st.Duplicates)
	}
}

// One answer that cannot be read costs one order, in one call.
func TestOneSpoiltAnswer(t *testing.T) {
	s, url := serve(t, func(w http.ResponseWriter, _ *http.Request, o []quote.Order, _ int) {
		r := answers(o)
		r.Answers[3].Lines[1].Unit.Amount = -1
		reply(w, r)
	})
	c := client(t, url, nil)
	results := c.Ask(t.Context(), orders(8))
	for i, r := range results {
		if (i == 3) != (r.Reason == ask.Unparsable && r.Suspicion == ask.Pinned && !r.Transient()) {
			t.Errorf("order %d: %+v", i, r)
		}
	}
	if got := reasons(results); got[""] != 7 || len(s.calls()) != 1 {
		t.Errorf("%v in calls of %v", got, s.calls())
	}
}

// A candidate that every third call fails loses nothing for whoever asks again.
func TestFlaky(t *testing.T) {
	_, url := serve(t, func(w http.ResponseWriter, _ *http.Request, o []quote.Order, call int) {
		if call%3 == 0 {
			http.Error(w, "now and then", 500)
			return
		}
		reply(w, answers(o))
	})
	c := client(t, url, func(c *ask.Config) { c.Batch, c.Breaker.FailureRatio = 5, 0.9 })
	left, priced := orders(100), map[string]bool{}
	for round := 0; len(left) > 0; round++ {
		if round > 50 {
			t.Fatalf("%d orders have no price after %d rounds", len(left), round)
		}
		var again []quote.Order
		for i, r := range c.Ask(t.Context(), left) {
			switch {
			case r.Reason == "":
				priced[left[i].ID] = true
			case !r.Transient():
				t.Fatalf("%+v", r)
			default:
				again = append(again, left[i])
			}
		}
		left = again
	}
	if len(priced) != 100 {
		t.Errorf("%d orders have prices", len(priced))
	}
}

// A candidate that is down is called once a batch, and works as soon as it is up.
func TestDownAndUp(t *testing.T) {
	port, err := embedded.FreePort() // which the system gives to nobody meanwhile
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	c := client(t, "http://"+address, func(c *ask.Config) {
		c.Concurrency, c.Batch, c.Breaker.Window = 1, 10, 10*time.Minute
		c.Breaker.Delay, c.Breaker.MaxDelay = 20*time.Millisecond, 20*time.Millisecond
	})
	for _, r := range c.Ask(t.Context(), orders(1000)) {
		if r.Reason != ask.Failed && r.Reason != ask.Open || !r.Transient() || r.Suspicion != ask.Clear {
			t.Fatalf("%+v", r)
		}
	}
	// The breaker opened after 20 of 100 batches; 0.1 retries a call and one more.
	st := c.Stats()
	if st.Splits != 0 || st.Breaker.Openings == 0 || st.Reasons[ask.Failed]%10 != 0 || st.Requests > st.Reasons[ask.Failed]/10*11/10+1 {
		t.Errorf("%+v", st)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: &candidate{handle: func(w http.ResponseWriter, _ *http.Request, o []quote.Order, _ int) { reply(w, answers(o)) }}}
	go server.Serve(listener) //nolint:errcheck // it ends with Close
	defer server.Close()      //nolint:errcheck // the test is over
	left := orders(1000)
	for deadline := time.Now().Add(time.Minute); len(left) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d orders have no price a minute after the candidate came up", len(left))
		}
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		var again []quote.Order
		for i, r := range c.Ask(t.Context(), left) {
			if r.Reason != "" {
				again = append(again, left[i])
			}
		}
		left = again
	}
}

// Retries are bounded by all calls, whatever fails: also where the transport would
// like to repeat them by itself, on connections that were used before.
func TestRetriesAreBounded(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter){
		"503":        func(w http.ResponseWriter) { w.WriteHeader(503) },
		"connection": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s, url := serve(t, func(w http.ResponseWriter, _ *http.Request, o []quote.Order, call int) {
				if call <= 100 {
					reply(w, answers(o))
					return
				}
				fail(w)
			})
			c := client(t, url, func(c *ask.Config) {
				c.Batch, c.Concurrency, c.Breaker.MinCalls, c.Breaker.Window = 1, 8, 1e6, time.Hour*10000
			})
			c.Ask(t.Context(), orders(100))
			before := len(s.calls())
			c.Ask(t.Context(), orders(1000))
			st := c.Stats()
			made := len(s.calls()) - before
			calls := int(st.Requests-st.Retries) - before
			// What the good calls saved up is at most 10, and 1 is the minimum.
			if most := calls + calls/10 + 11; made > most || made != int(st.Requests)-before {
				t.Errorf("%d calls made %d requests, want at most %d; %d are counted", calls, made, most, int(st.Requests)-before)
			}
			// A broken connection is tried again only where it had been used before, and
			// how many of those there are is for the transport and the machine to say.
			if st.Retries < 1 || name == "503" && made < calls+calls/10 {
				t.Errorf("only %d retries of %d calls", st.Retries, calls)
			}
			if st.Splits != 0 || calls > 2000 {
				t.Errorf("%d splits, %d calls for 1000 batches", st.Splits, calls)
			}
		})
	}
}

// After its restart all connections to a candidate are dead. The one retry of a call
// must not meet the next of them.
func TestRetryMeetsNoDeadConnection(t *testing.T) {
	const idle = 8
	var mu sync.Mutex
	seen, here := map[string]bool{}, 0
	all := make(chan struct{})
	_, url := serve(t, func(w http.ResponseWriter, r *http.Request, o []quote.Order, _ int) {
		mu.Lock()
		again := seen[r.RemoteAddr]
		seen[r.RemoteAddr] = true
		if here++; here == idle {
			close(all)
		}
		mu.Unlock()
		if again {
			panic(http.ErrAbortHandler)
		}
		select {
		case <-all: // each has a connection of its own
		case <-r.Context().Done():
		}
		reply(w, answers(o))
	})
	c := client(t, url, func(c *ask.Config) { c.Batch, c.Concurrency = 1, idle })
	if got := reasons(c.Ask(t.Context(), orders(idle))); got[""] != idle {
		t.Fatalf("%v", got)
	}
	if r := c.Ask(t.Context(), orders(1))[0]; r.Reason != "" || r.Attempt != 2 {
		t.Errorf("%+v", r)
	}
}
