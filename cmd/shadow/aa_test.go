package main_test

import (
	"regexp"
	"strings"
	"testing"

	"banyan/compare"
)

// Control against control of no order proves nothing, and that of another candidate
// nothing of this one.
func TestNoiseIsThatOfThisShadow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.caughtUp(0, "--candidate", "builtin:demand")
	if a := h.must(1, "aa"); !strings.Contains(a.Err, "nothing is proved") {
		t.Errorf("control against control of nothing: %s", a)
	}
	h.shop.trade(50)
	h.do("run", "--candidate", "builtin:demand", "--until-caught-up")
	due := func() bool {
		r := h.report(h.do("report").Code, "")
		return r.Noise == nil && strings.Contains(strings.Join(r.Verdict.Why, "\n"), "No noise floor was measured")
	}
	if !due() {
		t.Error("a noise floor of no line is taken for one")
	}
	s := newService(t)
	if a := h.must(2, "aa", "--candidate", s.url()); !strings.Contains(a.Err, "none of this shadow's") {
		t.Errorf("another candidate is asked twice: %s", a)
	}
	if !due() {
		t.Error("the noise floor of another candidate is taken for this one's")
	}
	h.must(0, "aa")
	if r := h.report(h.do("report").Code, ""); r.Noise == nil || r.Noise.Lines == 0 || r.Verdict.Rung == compare.Unhealthy {
		t.Errorf("the noise floor is not known: %+v, %q", r.Noise, r.Verdict.Sentence)
	}
}

// A shadow that was behind has left customers out whom it compares otherwise: to do that
// again is to leave them out again.
func TestReplayOfWhoWasLeftOutWhileBehind(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(50)
	h.do("run", "--candidate", "builtin:demand", "--until-caught-up", "--name", "whole")
	h.do("run", "--candidate", "builtin:demand", "--until-caught-up", "--name", "little", "--sample", "0.01")
	at := h.query(`SELECT off FROM shadow_whole_v1.journal WHERE part = 0 AND convert_from(data, 'UTF8') LIKE '%"rule":%' ORDER BY off LIMIT 1`)[0]
	text := func(name string) string {
		return h.query(`SELECT convert_from(data, 'UTF8') FROM shadow_` + name + `_v1.journal WHERE part = 0 AND off = ` + at)[0]
	}
	cluster := regexp.MustCompile(`"cluster":"[^"]*"`) // by the salt of each
	left := cluster.ReplaceAllString(text("little"), cluster.FindString(text("whole")))
	if !strings.Contains(left, `"reason":"sampled"`) {
		t.Fatalf("it is not left out of the smallest sample: %s", left)
	}
	h.db.Exec(t, `UPDATE shadow_whole_v1.journal SET data = convert_to($1, 'UTF8') WHERE part = 0 AND off = `+at, left)
	h.must(0, "replay", "--name", "whole", "shop.orders/0/"+at)
}

// What causes were told apart by is what the report names, whatever a file says later.
func TestWhatTheFirstRunSettles(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(20)
	first := h.write("first.yaml", "taxRates: [7.5]\nsegments: [country]\n")
	h.do("run", "--candidate", "builtin:demand", "--until-caught-up", "--settings", first)
	later := h.write("later.yaml", "taxRates: [20]\nsegments: [channel]\nminDays: 3\n")
	s := h.report(0, "", "--settings", later).Inputs.Settings
	if len(s.TaxRates) != 1 || s.TaxRates[0] != 7.5 || len(s.Segments) != 1 || s.Segments[0] != "country" || s.MinDays != 3 {
		t.Errorf("the report was made with %+v", s)
	}
}

// What a run has written into the journal since the report was made is none of its lines.
func TestLinesAreThoseOfTheReport(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(20)
	h.do("run", "--candidate", "builtin:demand", "--until-caught-up")
	h.db.Exec(t, `INSERT INTO shadow_demand_v1.journal (part, off, data) SELECT part, off + 100000,
		convert_to(regexp_replace(convert_from(data, 'UTF8'), '/\d+"', '/' || off + 100000 || '"'), 'UTF8') FROM shadow_demand_v1.journal`)
	h.linesAddUp(h.report(0, "", "--out", "out"), "out")
}
