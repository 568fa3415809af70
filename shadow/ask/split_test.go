package ask_test

import (
	"math/bits"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"banyan/quote"
	"banyan/shadow/ask"
)

// poison is a candidate that cannot bear some orders, each in a way of its own.
type poison struct {
	bad map[string]string // id -> what happens
}

func (p *poison) handle(w http.ResponseWriter, r *http.Request, all []quote.Order, _ int) {
	for _, o := range all {
		switch p.bad[o.ID] {
		case "hang":
			<-r.Context().Done()
			return
		case "500":
			w.WriteHeader(500)
			return
		case "422":
			w.WriteHeader(422)
			return
		case "break":
			panic(http.ErrAbortHandler)
		case "large":
			text(w, strings.Repeat(" ", 1<<20)+"{}")
			return
		case "NaN":
			text(w, `{"answers":[{"id":NaN}]}`)
			return
		}
	}
	reply(w, answers(all))
}

var ways = map[string]ask.Reason{"hang": ask.Timeout, "500": ask.Failed, "422": ask.Refused, "break": ask.Failed,
	"large": ask.Oversize, "NaN": ask.Unparsable}

// perOrder is the most calls that one guilty order costs its batch.
func perOrder(batch int) int { return 2 + 2*bits.Len(uint(batch-1)) }

// Only the guilty order is lost, is pinned, and costs no more calls than promised.
func TestPoison(t *testing.T) {
	for way, reason := range ways {
		t.Run(way, func(t *testing.T) {
			p := &poison{bad: map[string]string{order(161).ID: way}}
			bubble(t, p.handle, func(c *ask.Config) { c.Concurrency = 4 }, func(t *testing.T, s *candidate, c *ask.Client) {
				results := c.Ask(t.Context(), orders(300))
				for i, r := range results {
					if i != 161 && r.Reason != "" {
						t.Fatalf("order %d: %+v", i, r)
					}
				}
				r := results[161]
				if r.Reason != reason || r.Suspicion != ask.Pinned || r.Attempt > perOrder(100) {
					t.Errorf("%+v", r)
				}
				if want := reason == ask.Timeout || reason == ask.Failed; r.Transient() != want {
					t.Errorf("transient %v", r.Transient())
				}
				st := c.Stats()
				if n := len(s.calls()) - int(st.Retries); n > 2+perOrder(100) {
					t.Errorf("%d calls", n)
				}
				if st.Breaker.State != "closed" || st.Splits == 0 || st.Orders != 300 || st.Answered != 299 || st.Reasons[reason] != 1 {
					t.Errorf("%+v", st)
				}
				// Alone, it is known by the witness.
				again := c.Ask(t.Context(), []quote.Order{order(161)})[0]
				if again.Reason != reason || again.Suspicion != ask.Pinned {
					t.Errorf("asked alone: %+v", again)
				}
			})
		})
	}
}

// However many guilty orders there are and wherever they stand: a good one is either
// answered or can be asked again, none is pinned but the guilty, and the number of
// calls has its bound.
func TestPoisonAnywhere(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 64).Draw(rt, "orders")
		guilty := rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 4).Draw(rt, "guilty")
		known := rapid.Bool().Draw(rt, "a witness")
		p := &poison{bad: map[string]string{}}
		for i, g := range guilty {
			p.bad[order(g).ID] = []string{"hang", "500", "422", "NaN"}[i]
		}
		bubble(t, p.handle, func(c *ask.Config) { c.Batch = 64 }, func(bt *testing.T, s *candidate, c *ask.Client) {
			if known {
				c.Ask(bt.Context(), []quote.Order{order(999)})
			}
			before := len(s.calls())
			results := c.Ask(bt.Context(), orders(n))
			for i, r := range results {
				bad := p.bad[order(i).ID] != ""
				switch {
				case bad && r.Reason == "":
					rt.Errorf("order %d, which is guilty: %+v", i, r)
				case !bad && r.Reason != "" && (r.Suspicion != ask.Shared || !r.Transient()):
					rt.Errorf("order %d is lost: %+v", i, r)
				case len(p.bad) == 1 && known && bad && r.Suspicion != ask.Pinned:
					rt.Errorf("order %d is not found: %+v", i, r)
				}
			}
			calls, most := len(s.calls())-before, max(1, min(len(p.bad), 3)*perOrder(n))
			if calls > most {
				rt.Errorf("%d calls for %d guilty of %d, want at most %d", calls, len(p.bad), n, most)
			}
			if st := c.Stats(); st.Orders != st.Answered+sum(st.Reasons) {
				rt.Errorf("%d results, %d of them answered, %v", st.Orders, st.Answered, st.Reasons)
			}
		})
	})
}

func sum(m map[ask.Reason]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// A candidate that fails everything makes no storm: two calls a batch, a few blind
// ones at the very start, and then the breaker.
func TestOutageSplitsNothing(t *testing.T) {
	for _, way := range []string{"hang", "500", "422", "break", "large", "NaN"} {
		for _, fresh := range []bool{true, false} {
			name := way
			if fresh {
				name += " from the start"
			}
			t.Run(name, func(t *testing.T) {
				p := &poison{bad: map[string]string{}}
				bubble(t, p.handle, nil, func(t *testing.T, s *candidate, c *ask.Client) {
					bound := 32 * 2 // every one that is open may fail and ask its witness
					if fresh {
						bound = 20 + 32 // the breaker opens at 20, while others are on their way
					} else {
						c.Ask(t.Context(), orders(100))
					}
					before, splits := len(s.calls()), c.Stats().Splits
					for i := range 10_000 {
						p.bad[order(i).ID] = way
					}
					for i, r := range c.Ask(t.Context(), orders(10_000)) {
						if !r.Transient() || r.Suspicion == ask.Pinned {
							t.Fatalf("order %d: %+v", i, r)
						}
					}
					st := c.Stats()
					if n := len(s.calls()) - before; n > bound || st.Breaker.State != "open" {
						t.Errorf("%d calls, want at most %d: %+v", n, bound, st)
					}
					if !fresh && st.Splits != splits {
						t.Errorf("%d splits", st.Splits-splits)
					}
				})
			})
		}
	}
}

// One batch at a time, from the start, is not halved to the last order either.
func TestBlindSearchGivesUp(t *testing.T) {
	p := &poison{bad: map[string]string{}}
	for i := range 100 {
		p.bad[order(i).ID] = "500"
	}
	bubble(t, p.handle, nil, func(t *testing.T, s *candidate, c *ask.Client) {
		results := c.Ask(t.Context(), orders(100))
		if n := len(s.calls()); n != 9 {
			t.Errorf("%d calls of %v", n, s.calls())
		}
		if slices.ContainsFunc(results, func(r ask.Result) bool { return r.Suspicion == ask.Pinned || !r.Transient() }) {
			t.Errorf("an order is blamed")
		}
	})
}

// The witness is a copy: what the caller does with its orders is its own affair.
func TestWitnessIsACopy(t *testing.T) {
	bubble(t, func(w http.ResponseWriter, _ *http.Request, all []quote.Order, _ int) {
		if all[0].ID == order(5).ID {
			w.WriteHeader(500)
			return
		}
		if l := all[0].Lines[0]; l.Product != "22423" || *l.Known.Stock != 40 {
			t.Errorf("asked of %+v", l)
		}
		reply(w, answers(all))
	}, nil, func(t *testing.T, s *candidate, c *ask.Client) {
		mine := orders(1)
		c.Ask(t.Context(), mine)
		mine[0].Lines[0].Product, *mine[0].Lines[0].Known.Stock = "changed", 0
		if r := c.Ask(t.Context(), []quote.Order{order(5)})[0]; r.Suspicion != ask.Pinned {
			t.Errorf("%+v", r)
		}
		if st := c.Stats(); st.Witnesses != 1 || len(s.calls()) != 3 {
			t.Errorf("%+v", st)
		}
	})
}

// A guilty order in every batch, where it fails most calls, opens no breaker.
func TestPoisonOpensNothing(t *testing.T) {
	p := &poison{bad: map[string]string{}}
	for i := 0; i < 2000; i += 100 {
		p.bad[order(i).ID] = "500"
	}
	bubble(t, p.handle, nil, func(t *testing.T, _ *candidate, c *ask.Client) {
		c.Ask(t.Context(), []quote.Order{order(9999)})
		for i := 0; i < 2000; i += 100 { // one batch after the other: 20 failures are enough
			if got := reasons(c.Ask(t.Context(), orders(2000)[i:i+100])); got[ask.Failed] != 1 {
				t.Fatalf("batch %d: %v", i/100, got)
			}
		}
		if st := c.Stats(); st.Breaker.Openings != 0 || st.Answered != 1+20*99 {
			t.Errorf("%+v", st)
		}
	})
}

// A batch that is full of them costs what three would, and what is left in the dark
// can be asked again.
func TestManyGuiltyHaveABound(t *testing.T) {
	p := &poison{bad: map[string]string{}}
	for i := 0; i < 100; i += 3 {
		p.bad[order(i).ID] = "422"
	}
	bubble(t, p.handle, nil, func(t *testing.T, s *candidate, c *ask.Client) {
		c.Ask(t.Context(), []quote.Order{order(9999)})
		pinned := 0
		for i, r := range c.Ask(t.Context(), orders(100)) {
			if r.Suspicion == ask.Pinned {
				pinned++
			}
			if bad := p.bad[order(i).ID] != ""; !bad && r.Reason != "" && !r.Transient() || bad && r.Reason == "" {
				t.Errorf("order %d: %+v", i, r)
			}
		}
		if n := len(s.calls()) - 1; n > 3*perOrder(100) || pinned < 3 {
			t.Errorf("%d calls, %d pinned", n, pinned)
		}
	})
}

// An order that the candidate dies of: whoever is asked after it gets no answer
// either, until the candidate has come up again.
func TestOrderThatKills(t *testing.T) {
	down := 0
	bubble(t, func(w http.ResponseWriter, r *http.Request, all []quote.Order, _ int) {
		switch {
		case down > 0:
			down--
			w.WriteHeader(503)
		case slices.ContainsFunc(all, func(o quote.Order) bool { return o.ID == order(3).ID }):
			down = 3
			panic(http.ErrAbortHandler)
		default:
			reply(w, answers(all))
		}
	}, func(c *ask.Config) { c.Retries = 0 }, func(t *testing.T, s *candidate, c *ask.Client) {
		c.Ask(t.Context(), orders(1))
		for _, r := range c.Ask(t.Context(), orders(8)) { // 503 for the witness: 2 more of them
			if r.Suspicion != ask.Shared || !r.Transient() {
				t.Fatalf("%+v", r)
			}
		}
		one := []quote.Order{order(3)}
		for i, want := range []ask.Suspicion{ask.Clear, ask.Clear, ask.Alone, ask.Clear, ask.Clear} {
			if r := c.Ask(t.Context(), one)[0]; r.Suspicion != want || r.Reason != ask.Failed || !r.Transient() {
				t.Errorf("%d: %s, want %s: %+v", i, r.Suspicion, want, r)
			}
		}
		if r := c.Ask(t.Context(), one)[0]; r.Suspicion != ask.Pinned {
			t.Errorf("%s: %+v", r.Suspicion, r)
		}
	})
}
