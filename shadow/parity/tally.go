package parity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"banyan/compare/structure"
	"banyan/token"
)

// maxFields is how many fields and causes are told apart. Where ids are names of
// members there may be any number: see structure.Options.Maps.
const maxFields = 2000

// otherFields stands for the rest.
const otherFields = "(other fields)"

type fieldKey struct {
	path  string
	cause structure.Cause
}

// tally counts outcomes as they come, in the order of the source.
type tally struct {
	config    Config
	requests  int
	compared  int
	differing int
	excluded  map[string]*Exclusion
	fields    map[fieldKey]*Field
	noise     map[fieldKey]*Noise
	noisy     int // compared requests in which the control differs from itself
	uses      []structure.Use
	took      [2][]time.Duration
	tokens    Tokens
	silent    [2]int // requests in a row that a side left unanswered
	stopped   string // why the run ends early
}

func newTally(c Config) *tally {
	return &tally{config: c, excluded: map[string]*Exclusion{}, fields: map[fieldKey]*Field{}, noise: map[fieldKey]*Noise{}}
}

func (t *tally) add(o *outcome) {
	t.requests++
	if o.asked {
		t.listen(o)
	}
	if o.excluded != "" {
		e := t.excluded[o.excluded]
		if e == nil {
			e = &Exclusion{Reason: o.excluded, Example: o.request.String(), Detail: o.detail}
			t.excluded[o.excluded] = e
		}
		e.Requests++
		return
	}
	t.compared++
	t.uses = structure.Add(t.uses, o.uses)
	t.addTokens(o)
	if len(o.differences) > 0 {
		t.differing++
	}
	for _, d := range o.differences {
		t.addField(o, d)
	}
	if len(o.noise) > 0 {
		t.noisy++
	}
	for _, d := range o.noise {
		n := t.noiseAt(d)
		n.Requests++
		n.Differences += d.Count
	}
	for _, d := range o.excused {
		t.noiseAt(d).Excused++
	}
}

// listen notes how long each side took, and whether one has gone silent.
func (t *tally) listen(o *outcome) {
	for i, name := range []string{"control", "candidate"} {
		if o.faults[i] == ReasonStopped {
			continue
		}
		if o.faults[i] == "" {
			t.took[i] = append(t.took[i], o.took[i])
			t.silent[i] = 0
			continue
		}
		if t.silent[i]++; t.silent[i] >= t.config.GiveUp && t.stopped == "" {
			t.stopped = fmt.Sprintf("%s did not answer %d requests in a row (%s); it is left alone", name, t.silent[i], o.faults[i])
		}
	}
}

func (t *tally) addTokens(o *outcome) {
	t.tokens.Again += o.again
	if o.settled {
		t.tokens.Settled++
	}
	switch {
	case o.tokens[ofControl] == token.Token{} || o.tokens[ofCandidate] == token.Token{}:
		t.tokens.Unknown++
	case o.apart():
		t.tokens.Apart++
		if len(o.differences) > 0 {
			t.tokens.ApartDiffering++
		}
	default:
		t.tokens.Equal++
	}
}

func (t *tally) addField(o *outcome, d structure.Difference) {
	k := fieldKey{d.General, d.Cause}
	f := t.fields[k]
	if f == nil && len(t.fields) >= maxFields {
		k = fieldKey{otherFields, d.Cause}
		f = t.fields[k]
	}
	if f == nil {
		f = &Field{Path: k.path, Cause: k.cause}
		t.fields[k] = f
	}
	// With other fields, one request may come twice.
	if f.last != o.number+1 {
		f.Requests++
		f.last = o.number + 1
	}
	f.Differences += d.Count
	e := Example{Request: o.request.String(), Difference: d, request: o.request, token: o.tokens[ofControl]}
	at := len(f.Examples)
	for at > 0 && d.Worse(f.Examples[at-1].Difference) {
		at--
	}
	f.Examples = slices.Insert(f.Examples, at, e)
	if len(f.Examples) > t.config.Examples {
		f.Examples = f.Examples[:t.config.Examples]
	}
}

func (t *tally) noiseAt(d structure.Difference) *Noise {
	k := fieldKey{d.General, d.Cause}
	if t.noise[k] == nil && len(t.noise) >= maxFields {
		k.path = otherFields
	}
	if t.noise[k] == nil {
		t.noise[k] = &Noise{Path: k.path, Cause: k.cause, Control: d.Control, Again: d.Candidate}
	}
	return t.noise[k]
}

// report makes the report of what was counted.
func (t *tally) report(a *asker) *Report {
	c := t.config
	r := &Report{
		Version: ReportVersion, Control: a.control.Redacted(), Candidate: a.candidate.Redacted(),
		Requests: t.requests, Compared: t.compared, Differing: t.differing, Share: share(t.differing, t.compared),
		MaxDiffering: c.MaxDiffering, MaxUnanswered: c.MaxUnanswered,
		Sample: c.Sample, Seed: c.Seed, NoiseAsked: c.Noise, Noisy: t.noisy, Tokens: t.tokens, Stopped: t.stopped,
		Rules: structure.Add(a.comparer.Rules(), t.uses),
	}
	r.Latency.Control, r.Latency.Candidate = latencyOf(t.took[ofControl]), latencyOf(t.took[ofCandidate])
	for _, reason := range slices.Sorted(maps.Keys(t.excluded)) {
		e := t.excluded[reason]
		if e.unanswered() {
			r.Unanswered += e.Requests
		}
		r.Excluded = append(r.Excluded, *e)
	}
	for _, f := range t.fields {
		f.Share = share(f.Requests, t.compared)
		for i := range f.Examples {
			e := &f.Examples[i]
			e.Replay, e.CurlControl, e.CurlCandidate = a.replay(e.request, e.token)
		}
		r.Fields = append(r.Fields, *f)
	}
	slices.SortFunc(r.Fields, func(x, y Field) int {
		return cmp.Or(cmp.Compare(y.Requests, x.Requests), strings.Compare(x.Path, y.Path), strings.Compare(string(x.Cause), string(y.Cause)))
	})
	for _, n := range t.noise {
		n.Share = share(n.Requests, t.compared)
		r.Noise = append(r.Noise, *n)
	}
	slices.SortFunc(r.Noise, func(x, y Noise) int {
		return cmp.Or(cmp.Compare(y.Requests, x.Requests), strings.Compare(x.Path, y.Path), strings.Compare(string(x.Cause), string(y.Cause)))
	})
	r.judge()
	return r
}

// share is n in percent of all, 0 of nothing.
func share(n, all int) float64 {
	if all == 0 {
		return 0
	}
	return 100 * float64(n) / float64(all)
}

// latencyOf sorts, so its quantiles are exact: the smallest duration that this
// share of calls did not exceed.
func latencyOf(took []time.Duration) Latency {
	if len(took) == 0 {
		return Latency{}
	}
	slices.Sort(took)
	at := func(percent int) int64 {
		return took[(len(took)*percent+99)/100-1].Microseconds()
	}
	return Latency{Calls: len(took), P50: at(50), P95: at(95), P99: at(99), Max: at(100)}
}
