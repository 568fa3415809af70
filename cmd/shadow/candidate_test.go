package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"banyan/internal/embedded"
	"banyan/quote"
)

// dearer is the candidate whose prices the shop's own books can work out: four percent
// above the list. Prices in thousandths.
func dearer(base int64) int64 { return base + base/25 }

// dearerCandidate is it as a service sees it.
type dearerCandidate struct{}

func (dearerCandidate) Name() string  { return "dearer" }
func (dearerCandidate) Build() string { return "1" }

func (dearerCandidate) Price(o *quote.Order, into *quote.Answer) error {
	into.AsOf = o.AsOf
	for i := range o.Lines {
		l := &o.Lines[i]
		base := l.Known.List
		if base.Currency == "" {
			return errors.New("there is no list price")
		}
		if l.Known.TierQuantity > 0 && l.Quantity >= l.Known.TierQuantity {
			base = l.Known.Tier
		}
		base.Amount = dearer(base.Amount)
		into.Lines = append(into.Lines, quote.Price{Line: l.Line, Unit: base, Rule: "dearer"})
	}
	return nil
}

// trouble is what a service does with a request instead of answering it, or before:
// next answers as it should.
type trouble func(w http.ResponseWriter, r *http.Request, next http.Handler)

// service is a candidate on a real socket, which can be taken down and can misbehave.
type service struct {
	t       *testing.T
	addr    string
	handler http.Handler
	trouble atomic.Pointer[trouble]
	asked   atomic.Int64

	mu  sync.Mutex
	srv *httptest.Server
	// hung ends what hangs.
	hung chan struct{}
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, handler: quote.Handler(dearerCandidate{}, quote.Options{}), hung: make(chan struct{})}
	s.up()
	t.Cleanup(func() {
		close(s.hung)
		s.down()
	})
	return s
}

func (s *service) url() string { return "http://" + s.addr + "/quotes" }

// up listens, at the same address as before.
func (s *service) up() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == "" {
		port, err := embedded.FreePort() // which the system gives to nobody while it is down
		if err != nil {
			s.t.Fatal(err)
		}
		s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.srv = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(s.serve)}}
	s.srv.Start()
}

// down is nobody there at all.
func (s *service) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		s.srv.CloseClientConnections()
		s.srv.Close()
		s.srv = nil
	}
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if do := s.trouble.Load(); do != nil {
		(*do)(w, r, s.handler)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// misbehave begins trouble, nil ends it.
func (s *service) misbehave(do trouble) {
	if do == nil {
		s.trouble.Store(nil)
		return
	}
	s.trouble.Store(&do)
}

// hang answers nothing until the caller has gone or the test ends.
func (s *service) hang(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // without it the server does not see that the caller goes
	select {
	case <-r.Context().Done():
	case <-s.hung:
	}
}

// orderNumber is the shop's own number of an order.
func orderNumber(o *quote.Order) int {
	n, err := strconv.Atoi(o.Order)
	if err != nil {
		return 0
	}
	return n
}

// eachAnswer is trouble in the answers of single orders: f gives what is answered for
// one, which may be nothing, or more than one.
func eachAnswer(f func(o *quote.Order, right quote.Answer) []any) trouble {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		req, err := quote.DecodeRequest(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answers := []any{}
		for i := range req.Orders {
			o := &req.Orders[i]
			right := quote.Answer{ID: o.ID}
			if err := (dearerCandidate{}).Price(o, &right); err != nil {
				right.Declined = err.Error()
			}
			answers = append(answers, f(o, right)...)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT") // its clock is far off
		_ = json.NewEncoder(w).Encode(map[string]any{"candidate": "dearer", "answers": answers})
	}
}

// holding is trouble with each request that has an order which is does pick.
func holding(pick func(n int) bool, do trouble) trouble {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		req, err := quote.DecodeRequest(body)
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(bytes.NewReader(body))
		if err == nil {
			for i := range req.Orders {
				if pick(orderNumber(&req.Orders[i])) {
					do(w, again, next)
					return
				}
			}
		}
		next.ServeHTTP(w, again)
	}
}

// handlerAfter answers as it should, after something else.
func (s *service) handlerAfter(f func()) trouble {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		f()
		next.ServeHTTP(w, r)
	}
}
