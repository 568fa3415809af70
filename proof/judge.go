package proof

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// judge gives the verdict and its reasons from what was found. unfinished are
// the reasons why not all could be looked at.
func (r *Report) judge(unfinished []string) {
	var differs, parked []string
	say := func(list *[]string, format string, args ...any) { *list = append(*list, fmt.Sprintf(format, args...)) }
	for _, t := range r.Topics {
		for _, f := range []struct {
			n         int64
			one, many string
		}{
			{t.Gaps, "seq is missing", "seqs are missing"},
			{t.OtherBytes, "seq is taken by two different records", "records lie under a seq that another one has"},
			{t.Foreign, "record is not Banyan's, or damaged", "records are not Banyan's, or damaged"},
			{t.DuplicateIDs, "event id is told twice", "event ids are told twice"},
			{t.Disorder, "event is out of the order of its key", "events are out of the order of their keys"},
			{t.Ahead, "event is from beyond the source's end", "events are from beyond the source's end"},
		} {
			if f.n > 0 {
				say(&differs, "topic %s: %s", t.Topic, count(f.n, f.one, f.many))
			}
		}
	}
	for _, a := range r.Aggregates {
		var parts []string
		if a.Missing > 0 {
			parts = append(parts, fmt.Sprintf("%d missing in %s", a.Missing, a.Topic))
		}
		if a.Extra > 0 {
			parts = append(parts, fmt.Sprintf("%d without a row", a.Extra))
		}
		if a.Different > 0 {
			parts = append(parts, fmt.Sprintf("%d with another state", a.Different))
		}
		if len(parts) > 0 {
			say(&differs, "%s: %s, of %s", a.Aggregate, strings.Join(parts, ", "), count(a.Keys, "key", "keys"))
		}
		if a.Parked > 0 {
			say(&parked, "%s: %s parked: cdc parked list", a.Aggregate, count(a.Parked, "key", "keys"))
		}
		if a.Unproven > 0 {
			say(&unfinished, "%s: %s could not be compared", a.Aggregate, count(a.Unproven, "key", "keys"))
		}
	}
	for _, t := range r.Account {
		if !t.Balanced {
			say(&differs, "the account of %s does not add up: %s, of which %d parked, %d discarded, %d used, %d absorbed, %d ignored",
				t.Table, count(t.Changes, "change", "changes"), t.Parked, t.Discarded, t.Used, t.Absorbed, t.Ignored)
		}
	}
	switch {
	case len(differs) > 0:
		r.Verdict = Differs
	case len(parked) > 0:
		r.Verdict = Parked
	case len(unfinished) > 0:
		r.Verdict = Unfinished
	default:
		r.Verdict = Proved
	}
	r.Reasons = slices.Concat(differs, parked, unfinished)
	if r.Reasons == nil {
		r.Reasons = []string{}
	}
}

// count writes "1 key" or "2 keys".
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}
