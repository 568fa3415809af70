package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"banyan/compare"
)

// LiveData is what a live page shows: the report as it stands, and how the run goes.
type LiveData struct {
	Report *compare.Report // nil before there is one
	Status Status
}

// Status is how a run is going at this moment.
type Status struct {
	LagRecords      int64   `json:"lagRecords"` // behind the end of the log
	LagSeconds      float64 `json:"lagSeconds"`
	EventsPerSecond float64 `json:"eventsPerSecond"`
	Position        string  `json:"position"`
	// Paused says why nothing is taken in at the moment; "" while something is.
	Paused string `json:"paused,omitempty"`
	// Breaker is closed, open or half-open; "" where nobody is called.
	Breaker string `json:"breaker,omitempty"`
	// Drops are orders that were not compared, by reason.
	Drops []compare.EventRow `json:"drops"`
	Since time.Time          `json:"since"`
}

//go:embed live.js
var liveScript string

// livePolicy lets the page run its own script, known by its digest, and listen to
// where it came from; nothing else.
var livePolicy = func() string {
	sum := sha256.Sum256([]byte(liveScript))
	return policy + "; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; connect-src 'self'; base-uri 'none'; form-action 'none'"
}()

// noScript is after how many seconds a browser without scripts asks again.
const noScript = "15"

// Live writes the page that follows a run: the sections of HTML under a strip that
// says how the run goes. It is meant to be served by a LiveServer, whose events swap
// its sections; without scripts the browser asks for the page again every 15 seconds.
func Live(w io.Writer, d LiveData, o Options) error {
	f, err := liveFrame(d, o)
	if err != nil {
		return err
	}
	raw, err := f.write()
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

func liveFrame(d LiveData, o Options) (frame, error) {
	c := cuts[0]
	c.Rows = 20
	page := newDoc(orNone(d.Report), c)
	status := d.Status
	page.Status, page.Wall, page.Blank = tidyStatus(&status, c.Text), o.Wall, d.Report == nil
	sections, err := page.render()
	if err != nil {
		return frame{}, err
	}
	return frame{Doc: page, Sections: sections, Policy: livePolicy, Script: template.JS(liveScript), Refresh: noScript}, nil
}

// orNone stands in for a report that is not there yet.
func orNone(r *compare.Report) *compare.Report {
	if r != nil {
		return r
	}
	return &compare.Report{Candidate: compare.Candidate{Name: "the candidate"}, Verdict: compare.Verdict{Rung: compare.NoData, Sentence: "Nothing was compared yet.",
		Why: []string{"The run has just begun, and has no report yet."}, Changes: []string{"The first orders that are compared."}}}
}

func tidyStatus(s *Status, most int) *Status {
	s.Position, s.Paused, s.Breaker = clean(s.Position, most), clean(s.Paused, most), clean(s.Breaker, most)
	drops := make([]compare.EventRow, len(s.Drops))
	for i, d := range s.Drops {
		drops[i] = compare.EventRow{What: clean(d.What, most), Events: d.Events}
	}
	s.Drops = drops
	return s
}

// piece is a part of the live page that is swapped as a whole.
type piece struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// parts are all pieces of a live page that may change.
func (f frame) parts() ([]piece, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, "head", f.Doc); err != nil {
		return nil, fmt.Errorf("write the head of the page: %w", err)
	}
	out := []piece{{"head", b.String()}}
	for _, s := range f.Sections {
		out = append(out, piece{s.ID, string(s.HTML)})
	}
	return out, nil
}

// ids are those of the sections, in order.
func (f frame) ids() []string {
	var out []string
	for _, s := range f.Sections {
		out = append(out, s.ID)
	}
	return out
}

// said is what a screen reader is told when it changes, and only then: the figures
// change too often for that.
func (f frame) said() string {
	text := "Verdict: " + string(f.Doc.R.Verdict.Rung) + "."
	if s := f.Doc.Status; s.Paused != "" {
		text += " Paused: " + strings.TrimSuffix(s.Paused, ".") + "."
	} else if s.Breaker != "" && s.Breaker != "closed" {
		text += " Breaker: " + s.Breaker + "."
	}
	return text
}
