package parity

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"banyan/compare/structure"
	"banyan/token"
)

// outcome is what became of one request.
type outcome struct {
	request  Request
	number   int    // among all requests, from 0
	excluded string // the reason; "" where it was compared
	// faults of each side, "" where it answered; detail is of the one that excluded.
	faults [2]string
	detail string
	asked  bool

	differences []structure.Difference // merged: one for each field and cause
	noise       []structure.Difference // the control with itself, merged
	excused     []structure.Difference // of the candidate, taken for noise
	uses        []structure.Use

	took    [2]time.Duration
	tokens  [2]token.Token
	again   int  // how often the pair was asked again
	settled bool // it differed at first, and not any more at last
}

const (
	ofControl = iota
	ofCandidate
)

// askedAgain is how often a pair is asked again that differs as of two commits.
const askedAgain = 2

// pair asks both sides and compares. Odd ones ask the candidate first.
func (a *asker) pair(ctx context.Context, number, odd int, r Request) *outcome {
	o := a.once(ctx, number, odd, r)
	for again := 1; again <= askedAgain && o.excluded == "" && len(o.differences) > 0 && o.apart(); again++ {
		next := a.once(ctx, number, odd, r)
		if next.excluded != "" {
			break // what was seen stands
		}
		next.again, next.took = again, o.took
		next.settled = len(next.differences) == 0
		o = next
	}
	return o
}

func (o *outcome) apart() bool {
	x, y := o.tokens[ofControl], o.tokens[ofCandidate]
	return x != token.Token{} && y != token.Token{} && x != y
}

// once asks control and candidate, and with Noise the control once more after
// them.
func (a *asker) once(ctx context.Context, number, odd int, r Request) *outcome {
	newest := a.config.Token
	if newest.Compare(r.Token) < 0 {
		newest = r.Token
	}
	ask := func(s side) *answer {
		ans := a.ask(ctx, s, r, newest)
		if newest.Compare(ans.token) < 0 {
			newest = ans.token
		}
		return ans
	}
	var control, candidate, second *answer
	if odd%2 == 0 {
		control = ask(a.controlSide())
		candidate = ask(a.candidateSide())
	} else {
		candidate = ask(a.candidateSide())
		control = ask(a.controlSide())
	}
	o := &outcome{request: r, number: number, asked: true}
	o.took = [2]time.Duration{control.took, candidate.took}
	o.tokens = [2]token.Token{control.token, candidate.token}
	o.faults = [2]string{control.fault, candidate.fault}
	if a.config.Noise && control.fault == "" && candidate.fault == "" {
		second = ask(a.controlSide())
		o.faults[ofControl] = second.fault
	}
	if o.exclude(control, candidate, second) {
		return o
	}
	a.compare(o, control, candidate, second)
	return o
}

// exclude reports whether a side has not answered, and notes why.
func (o *outcome) exclude(control, candidate, second *answer) bool {
	switch {
	case control.fault == ReasonStopped || candidate.fault == ReasonStopped || second != nil && second.fault == ReasonStopped:
		o.excluded = ReasonStopped
	case control.fault != "":
		o.excluded, o.detail = "control-"+control.fault, control.detail
	case candidate.fault != "":
		o.excluded, o.detail = "candidate-"+candidate.fault, candidate.detail
	case second != nil && second.fault != "":
		o.excluded, o.detail = "control-"+second.fault, second.detail
	}
	return o.excluded != ""
}

func (a *asker) compare(o *outcome, control, candidate, second *answer) {
	var noise []structure.Difference
	if second != nil {
		noise, _ = a.differences(control, second, a.control)
	}
	all, uses := a.differences(control, candidate, a.candidate)
	o.uses, o.noise = uses, structure.Merge(noise)
	type kind struct {
		general string
		cause   structure.Cause
	}
	own := map[kind]bool{}
	for _, d := range o.noise {
		own[kind{d.General, d.Cause}] = true
	}
	for _, d := range structure.Merge(all) {
		if own[kind{d.General, d.Cause}] {
			o.excused = append(o.excused, d)
			continue
		}
		o.differences = append(o.differences, d)
	}
}

// differences compares two whole answers; the first is the control's, other is
// the base URL of the second.
func (a *asker) differences(x, y *answer, other *url.URL) ([]structure.Difference, []structure.Use) {
	var all []structure.Difference
	if x.status != y.status {
		return append(all, difference("status", Status, fmt.Sprint(x.status), fmt.Sprint(y.status))), nil
	}
	for _, name := range a.config.Headers {
		if strings.EqualFold(name, "Location") && redirects(x.status) {
			continue
		}
		all = appendHeader(all, name, headerValue(x.header, name), headerValue(y.header, name))
	}
	if redirects(x.status) {
		all = appendHeader(all, "Location", location(x.header, a.control), location(y.header, other))
	}
	body, uses := a.bodies(x, y)
	return append(all, body...), uses
}

func redirects(status int) bool {
	return status >= http.StatusMultipleChoices && status < http.StatusBadRequest && status != http.StatusNotModified
}

// bodies compares JSON by its structure and all else by its bytes.
func (a *asker) bodies(x, y *answer) ([]structure.Difference, []structure.Use) {
	if !isJSON(media(x.header)) && !isJSON(media(y.header)) || len(x.body) == 0 && len(y.body) == 0 {
		if bytes.Equal(x.body, y.body) {
			return nil, nil
		}
		return []structure.Difference{difference("body", Bytes, shown(x.body), shown(y.body))}, nil
	}
	dx, errX := x.read(a.comparer)
	dy, errY := y.read(a.comparer)
	if errX != nil || errY != nil {
		if bytes.Equal(x.body, y.body) {
			return nil, nil
		}
		return []structure.Difference{difference("body", NotJSON, unread(x.body, errX), unread(y.body, errY))}, nil
	}
	res, err := a.comparer.Compare(dx, dy)
	if err != nil { // go-cmp gave up; that the bodies are not equal is all we know
		return []structure.Difference{difference("body", Bytes, shown(x.body), shown(y.body)+" ("+err.Error()+")")}, res.Uses
	}
	all := res.Differences
	if res.More > 0 {
		more := difference("more fields of the same answers", structure.Value, "", "")
		more.Count = res.More
		all = append(all, more)
	}
	return all, res.Uses
}

func difference(path string, cause structure.Cause, control, candidate string) structure.Difference {
	return structure.Difference{Path: path, General: path, Cause: cause, Control: control, Candidate: candidate, Count: 1}
}

// appendHeader adds a header that differs.
func appendHeader(all []structure.Difference, name, x, y string) []structure.Difference {
	if x == y {
		return all
	}
	cause := structure.Value
	switch {
	case y == "":
		cause = structure.Missing
	case x == "":
		cause = structure.Extra
	case strings.EqualFold(strings.Join(strings.Fields(x), ""), strings.Join(strings.Fields(y), "")):
		cause = structure.Form
	}
	return append(all, difference("header "+canonical(name), cause, shown([]byte(x)), shown([]byte(y))))
}

// headerValue is all values of a header. The charset of JSON says nothing, and
// that of the rest is written in one way.
func headerValue(h http.Header, name string) string {
	text := strings.Join(h.Values(name), ", ")
	if canonical(name) != "Content-Type" {
		return text
	}
	m, params, err := mime.ParseMediaType(text)
	switch {
	case err != nil:
		return text
	case isJSON(m):
		return m
	}
	for k, v := range params {
		params[k] = strings.ToLower(v)
	}
	return mime.FormatMediaType(m, params)
}

// location is where a redirect leads, without the side's own base URL: each
// names itself.
func location(h http.Header, base *url.URL) string {
	text := h.Get("Location")
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	if u.Host != "" && strings.EqualFold(u.Host, base.Host) {
		u.Scheme, u.Host, u.User = "", "", nil
	}
	if prefix := strings.TrimSuffix(base.Path, "/"); u.Host == "" && prefix != "" && strings.HasPrefix(u.Path, prefix+"/") {
		u.Path, u.RawPath = strings.TrimPrefix(u.Path, prefix), ""
	}
	return u.String()
}

// shown is the beginning of a text as one line of JSON.
func shown(b []byte) string {
	const longest = 200
	if len(b) == 0 {
		return ""
	}
	more := ""
	if len(b) > longest {
		b, more = b[:longest], "..."
		for len(b) > 0 && !utf8.Valid(b) && len(b) > longest-utf8.UTFMax {
			b = b[:len(b)-1]
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(string(b)); err != nil {
		return ""
	}
	return strings.TrimSuffix(out.String(), "\n") + more
}

// unread is shown with why it could not be read.
func unread(b []byte, err error) string {
	switch {
	case err == nil:
		return shown(b)
	case len(b) == 0:
		return "(empty)"
	}
	return shown(b) + " (" + err.Error() + ")"
}
