package quote

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Paths that Handler answers at.
const (
	QuotesPath  = "/quotes"
	HealthPath  = "/healthz"
	OpenAPIPath = "/openapi.json"
)

// ShadowHeader marks a request that is asked in the shadow of the real one: nothing
// may come of it but its answer. Handler echoes its value.
const ShadowHeader = "X-Shadow"

// openAPI describes what Handler speaks.
//
//go:embed openapi.json
var openAPI []byte

// OpenAPI gives the description of the HTTP face, an OpenAPI 3.1 document in JSON.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

// Options of Handler.
type Options struct {
	// Log hears what was our own fault; nil is silent.
	Log *slog.Logger
}

// Problem is an error as the caller sees it: an RFC 9457 problem document,
// application/problem+json.
type Problem struct {
	Type   string         `json:"type"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail,omitempty"`
	Errors []FieldProblem `json:"errors,omitempty"`
}

// FieldProblem names one field of the request body, what stands there, and what
// would be right.
type FieldProblem struct {
	Field string `json:"field"`
	Value string `json:"value,omitempty"`
	Want  string `json:"want"`
}

// Handler puts a candidate on HTTP: POST /quotes takes a Request and answers with a
// Response, GET /healthz says that it lives, GET /openapi.json describes both. Every
// error is a Problem: 400 for a body that is not as it should be, 413 for one above
// MaxBody, 500 where the candidate panics. An order that the candidate refuses with
// an error is declined, and the others are answered.
//
// The candidate is asked by one request at a time.
func Handler(c Candidate, opts Options) http.Handler {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	h := &handler{candidate: c, log: opts.Log}
	mux := http.NewServeMux()
	mux.HandleFunc(QuotesPath, only(http.MethodPost, h.quotes))
	mux.HandleFunc(HealthPath, only(http.MethodGet, h.health))
	mux.HandleFunc(OpenAPIPath, only(http.MethodGet, h.openAPI))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		respond(w, problem(http.StatusNotFound, "not-found", "there is nothing at "+cut(r.URL.Path)+"; "+OpenAPIPath+" says what there is"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v := r.Header.Get(ShadowHeader); v != "" {
			w.Header().Set(ShadowHeader, v)
		}
		mux.ServeHTTP(w, r)
	})
}

type handler struct {
	log *slog.Logger

	mu        sync.Mutex // a Candidate is called from one goroutine at a time
	candidate Candidate
}

// only answers one method, and HEAD like GET.
func only(method string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
			w.Header().Set("Allow", method)
			respond(w, problem(http.StatusMethodNotAllowed, "method-not-allowed", r.URL.Path+" takes "+method+" alone, not "+cut(r.Method)))
			return
		}
		h(w, r)
	}
}

func (h *handler) quotes(w http.ResponseWriter, r *http.Request) {
	trail := true
	if text := r.URL.Query().Get("trail"); text != "" {
		var err error
		if trail, err = strconv.ParseBool(text); err != nil {
			respond(w, invalid(Faults{{"trail", text, "want true or false"}}))
			return
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			respond(w, problem(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the body has more than %d bytes; send fewer orders at once", MaxBody)))
			return
		}
		respond(w, problem(http.StatusBadRequest, "unreadable", "the body ended early: "+err.Error()))
		return
	}
	req, err := DecodeRequest(body)
	if err != nil {
		respond(w, invalid(err))
		return
	}
	resp, err := h.price(req, trail)
	if err != nil {
		h.log.Error("the candidate failed", "candidate", h.candidate.Name(), "build", h.candidate.Build(), "error", err)
		respond(w, problem(http.StatusInternalServerError, "candidate-failed", "the candidate failed; its log says why"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	h.write(w, resp)
}

// price asks the candidate for all orders. Its panic is an error of the whole
// request: after it nothing that the candidate says can be relied on.
func (h *handler) price(req Request, trail bool) (resp Response, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	resp = Response{Candidate: h.candidate.Name(), Build: h.candidate.Build(), Answers: make([]Answer, len(req.Orders))}
	for i := range req.Orders {
		o, a := &req.Orders[i], &resp.Answers[i]
		o.WantTrail = trail
		if err := h.candidate.Price(o, a); err != nil {
			*a = Answer{Declined: err.Error()}
		}
		a.ID = o.ID
	}
	return resp, nil
}

func (h *handler) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	h.write(w, map[string]string{"status": "ok", "candidate": h.candidate.Name(), "build": h.candidate.Build()})
}

func (h *handler) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(openAPI); err != nil {
		h.log.Debug("answer not written", "error", err)
	}
}

func (h *handler) write(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.log.Debug("answer not written", "error", err)
	}
}

// problem makes a Problem whose type is a relative URI that openapi.json lists.
func problem(status int, kind, detail string) *Problem {
	return &Problem{Type: "/problems/" + kind, Title: strings.ReplaceAll(kind, "-", " "), Status: status, Detail: detail}
}

// invalid is the Problem of a request that is not as it should be.
func invalid(err error) *Problem {
	p := problem(http.StatusBadRequest, "invalid-request", "the request cannot be read as "+OpenAPIPath+" says it should be; errors names each field")
	var faults Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			p.Errors = append(p.Errors, FieldProblem(f))
		}
	}
	return p
}

func respond(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	body, err := json.Marshal(p)
	if err != nil {
		return // texts and numbers alone: it always can be written
	}
	// Whoever has gone without waiting for the answer is told nothing.
	_, _ = w.Write(body)
}
