package parity

import (
	"fmt"
	"strings"

	"banyan/compare/structure"
	"banyan/token"
)

// ReportVersion is the version of the JSON of a Report: it rises when a field
// changes its meaning or goes.
const ReportVersion = 1

// Report is what a run has found. Its JSON is for machines, WriteText for people.
// Compared plus all of Excluded is Requests.
type Report struct {
	Version int `json:"version"`
	// OK reports whether something was compared, no more than MaxDiffering percent
	// of it differs, no more than MaxUnanswered percent went unanswered, and the
	// run came to its end; Why names what is not so.
	OK  bool     `json:"ok"`
	Why []string `json:"why,omitempty"`
	// Control and Candidate are base URLs, without passwords.
	Control   string `json:"control"`
	Candidate string `json:"candidate"`

	// Requests is how many the source gave, Compared how many were compared, and
	// Differing how many of these differ in anything that counts.
	Requests  int `json:"requests"`
	Compared  int `json:"compared"`
	Differing int `json:"differing"`
	// Unanswered is how many were excluded because a side did not answer.
	Unanswered int         `json:"unanswered"`
	Excluded   []Exclusion `json:"excluded,omitempty"` // by reason
	// Share is Differing in percent of Compared; MaxDiffering what is allowed.
	Share        float64 `json:"sharePercent"`
	MaxDiffering float64 `json:"maxDifferingPercent"`
	// MaxUnanswered is allowed of Unanswered, in percent of Compared and it.
	MaxUnanswered float64 `json:"maxUnansweredPercent"`

	// Fields are the places that differ, those of most requests first.
	Fields []Field `json:"fields,omitempty"`
	// NoiseAsked says whether the control was asked twice; Noisy is how many
	// compared requests it answered differently, and Noise where.
	NoiseAsked bool    `json:"noiseAsked"`
	Noisy      int     `json:"noisy"`
	Noise      []Noise `json:"noise,omitempty"`
	// Rules says what became of each rule of Config.Structure. One that never
	// matched is most likely a typing error.
	Rules []structure.Use `json:"rules,omitempty"`

	// Latency is of calls that were answered, asked once for each request; calls
	// that timed out are in Excluded, and no quantile knows of them.
	Latency struct {
		Control   Latency `json:"control"`
		Candidate Latency `json:"candidate"`
	} `json:"latency"`
	Tokens Tokens  `json:"tokens"`
	Sample float64 `json:"samplePercent"` // of keys
	Seed   uint64  `json:"seed"`          // that drew the sample
	// Stopped says why the run ended early; empty where it did not.
	Stopped string `json:"stopped,omitempty"`
}

// Exclusion counts requests that were not compared, by reason.
type Exclusion struct {
	Reason   string `json:"reason"`
	Requests int    `json:"requests"`
	// Example is the first of them, Detail what was wrong with it.
	Example string `json:"example,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

func (e Exclusion) unanswered() bool {
	return strings.HasPrefix(e.Reason, "control-") || strings.HasPrefix(e.Reason, "candidate-")
}

// Field is a place at which answers differ, for one cause.
type Field struct {
	// Path is general: $.lines[*].price, "status", "header Content-Type", "body".
	Path  string          `json:"path"`
	Cause structure.Cause `json:"cause"`
	// Requests is how many requests differ here, Share that in percent of the
	// compared ones, and Differences how many places: a request may have several.
	Requests    int     `json:"requests"`
	Share       float64 `json:"sharePercent"`
	Differences int     `json:"differences"`
	// Examples are the worst: numbers that are furthest apart, then the first.
	Examples []Example `json:"examples"`

	last int // the last request counted, from 1
}

// Example is one request that differs at a field.
type Example struct {
	Request    string               `json:"request"`
	Difference structure.Difference `json:"difference"`
	// Replay is a command line that asks it again; the other two ask one side.
	Replay        string `json:"replay"`
	CurlControl   string `json:"curlControl"`
	CurlCandidate string `json:"curlCandidate"`

	request Request
	token   token.Token
}

// Noise is a place at which the control differs from itself.
type Noise struct {
	Path     string          `json:"path"`
	Cause    structure.Cause `json:"cause"`
	Requests int             `json:"requests"`
	Share    float64         `json:"sharePercent"` // of the compared ones
	// Differences is how many places it has in them.
	Differences int `json:"differences"`
	// Excused is how many requests differ here between control and candidate too,
	// which does not count.
	Excused int `json:"excused"`
	// Control and Again are the two answers of the first such request.
	Control string `json:"control"`
	Again   string `json:"again"`
}

// Latency is in microseconds.
type Latency struct {
	Calls int   `json:"calls"`
	P50   int64 `json:"p50Micros"`
	P95   int64 `json:"p95Micros"`
	P99   int64 `json:"p99Micros"`
	Max   int64 `json:"maxMicros"`
}

// Tokens says as of which commits the compared pairs were answered.
type Tokens struct {
	Equal          int `json:"equal"`          // both said the same commit
	Apart          int `json:"apart"`          // both said one, and not the same
	ApartDiffering int `json:"apartDiffering"` // of these, still differing
	Unknown        int `json:"unknown"`        // one of them or both said none
	Again          int `json:"again"`          // times that a pair was asked again
	Settled        int `json:"settled"`        // pairs that did not differ any more then
}

// judge sets OK and Why.
func (r *Report) judge() {
	r.Why = nil
	if r.Stopped != "" {
		r.Why = append(r.Why, "the run ended early: "+r.Stopped)
	}
	if r.Compared == 0 {
		r.Why = append(r.Why, "nothing was compared")
	}
	if r.Share > r.MaxDiffering {
		r.Why = append(r.Why, fmt.Sprintf("%s of the compared requests differ, %s allowed", percent(r.Share), percent(r.MaxDiffering)))
	}
	if s := share(r.Unanswered, r.Compared+r.Unanswered); s > r.MaxUnanswered {
		r.Why = append(r.Why, fmt.Sprintf("%s of the asked requests were not answered, %s allowed", percent(s), percent(r.MaxUnanswered)))
	}
	r.OK = len(r.Why) == 0
}
