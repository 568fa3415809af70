package pricing

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/money"
)

func TestDays(t *testing.T) {
	for _, text := range []string{"2010-12-01", "1969-12-31", "0001-01-01", "9999-12-31", "2012-02-29"} {
		if got := day(t, text); got.String() != text || DayOf(got.Time()) != got || DayOf(got.Time().Add(24*time.Hour-1)) != got {
			t.Errorf("%s is read as %s", text, got)
		}
	}
	for _, text := range []string{"", "2010-12-1", "2010-02-30", "1.12.2010", "2010-12-01T00:00:00Z", "1970-01-01"} {
		if d, err := ParseDay(text); err == nil {
			t.Errorf("%q is read as %s", text, d)
		}
	}
	if Day(0).String() != "" {
		t.Errorf("no day is %q", Day(0))
	}
}

// TestCheckTellsAllFaults has a fault in every rule.
func TestCheckTellsAllFaults(t *testing.T) {
	bands := func(below ...Band) Bands { return Bands{Below: below} }
	_, err := New(Rules{
		{Name: "Tier", Does: Tier{}},
		{Name: "twice", Does: Tier{}},
		{Name: "twice", Does: Tier{}},
		{Name: "list", Does: Tier{}},
		{Name: "back", Since: 10, Until: 9, Does: Tier{}},
		{Name: "nothing"},
		{Name: "pace", Does: Pace{Least: 0, Most: 2001, Cover: bands(Band{0, 1}, Band{3, 2001}, Band{3, 1}), Trend: Bands{Below: []Band{{100, 1}}, Above: []Band{{99, 1}}}}},
		{Name: "step", Does: Round{}},
		{Name: "ending", Does: Round{Step: money.NewDecimal(1, 0), Ending: money.NewDecimal(1, 0)}},
		{Name: "margin", Does: Margin{Least: -1}},
		{Name: "bounds", Does: Bounds{Currency: "GBR", Floor: money.NewDecimal(-1, 0), Ceiling: money.NewDecimal(-2, 0)}},
		{Name: "ceiling", Does: Bounds{Currency: "GBP", Floor: money.NewDecimal(2, 0), Ceiling: money.NewDecimal(1, 0)}},
		{Name: "change", Does: Change{Most: 2001}},
		{Name: "late", Does: Tier{}},
		{Name: "margin2", Does: Margin{}},
	})
	want := `rules[0] (Tier): name "Tier": want a name of lower case letters, digits and underscores
rules[2] (twice): name "twice": want a name that no other rule has; list is what each price begins with
rules[3] (list): name "list": want a name that no other rule has; list is what each price begins with
rules[4] (back): until "1970-01-10": want a day not before since, 1970-01-11
rules[5] (nothing): kind "": want tier, demand, round, margin, bounds or change
rules[6] (pace): least "0": want 1 to 1000000000000 pieces
rules[6] (pace): most "2001": want 1 to 2000 basis points
rules[6] (pace): cover.below "0: 1": want a bound from 1 to 100000
rules[6] (pace): cover.below "3: 2001": want a move from -2000 to 2000 basis points
rules[6] (pace): cover.below "3: 1": want each bound once
rules[6] (pace): trend "below 100, above 99": want below and above not to overlap
rules[7] (step): step "0": want an amount above zero, such as 0.01
rules[8] (ending): ending "1": want an amount from zero to below step
rules[9] (margin): least "-1": want 0 to 100000 basis points
rules[10] (bounds): currency "GBR": want a currency of ISO 4217, such as GBP
rules[10] (bounds): floor "-1": want an amount from zero on
rules[10] (bounds): ceiling "-2": want an amount not below floor, or none
rules[11] (ceiling): ceiling "1": want an amount not below floor, or none
rules[12] (change): most "2001": want 0 to 2000 basis points
rules[13] (late): kind "tier": stands after change; want the order tier, demand, round, and floors and ceilings last`
	if err == nil {
		t.Fatal("such rules are taken")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestParseRules(t *testing.T) {
	rules, err := ParseRules("r.yaml", []byte(`rules:
  - name: tier
    kind: tier
    until: 2011-12-09
  - {name: pace, kind: demand, since: 2010-12-01, least: 5, most: 250, cover: {below: {7: 100, 3: +200}}, trend: {above: {150: 50}, below: {50: -50}}}
  - {name: charm, kind: round, step: 1.00, ending: 0.99}
  - {name: margin, kind: margin, least: 500}
  - {name: change, kind: change, most: 800}
  - {name: bounds, kind: bounds, currency: GBP, floor: 0.01}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Rules{
		{Name: "tier", Until: day(t, "2011-12-09"), Does: Tier{}},
		{Name: "pace", Since: day(t, "2010-12-01"), Does: Pace{Least: 5, Most: 250, Cover: Bands{Below: []Band{{7, 100}, {3, 200}}},
			Trend: Bands{Below: []Band{{50, -50}}, Above: []Band{{150, 50}}}}},
		{Name: "charm", Does: Round{Step: decimal(t, "1.00"), Ending: decimal(t, "0.99")}},
		{Name: "margin", Does: Margin{Least: 500}},
		{Name: "change", Does: Change{Most: 800}},
		{Name: "bounds", Does: Bounds{Currency: "GBP", Floor: decimal(t, "0.01")}},
	}
	same := cmp.Comparer(func(a, b money.Decimal) bool { return a.Cmp(b) == 0 })
	if diff := cmp.Diff(want, rules, same); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if none, err := ParseRules("r.yaml", []byte("rules: []")); err != nil || len(none) != 0 {
		t.Errorf("no rules at all: %v, %v", none, err)
	}
}

// TestParseRulesTellsAllFaults has one fault in each line.
func TestParseRulesTellsAllFaults(t *testing.T) {
	_, err := ParseRules("r.yaml", []byte(`version: 2
rules:
  - {name: tier, kind: teir}
  - {name: tier2, kind: tier, since: 2010-02-30, until: soon}
  - {name: pace, kind: demand, least: many, most: 1.5, cover: {blow: {3: 1}}}
  - {name: pace2, kind: demand, least: 1, most: 1, cover: {below: {soon: 1}}, trend: {above: {3: 1e2}}}
  - {name: charm, kind: round, step: -1}
  - {name: charm2, kind: round, step: 0.0000001, most: 3}
  - {name: bounds, kind: bounds, floor: 0.01, currency: pounds}
  - {name: change, kind: change, most: 2001}
  - {name: Change, kind: change, most: 1}
  - a rule
`))
	want := `r.yaml:1:10: version: value "2": is no key here; want rules, a list
r.yaml:3:24: rules[0].kind: value "teir": want tier, demand, round, margin, bounds or change
r.yaml:4:38: rules[1].since: value "2010-02-30": want a day that is in the calendar
r.yaml:4:57: rules[1].until: value "soon": want a day such as 2010-12-01
r.yaml:5:39: rules[2].least: value "many": want a whole number
r.yaml:5:51: rules[2].most: value "1.5": want a whole number
r.yaml:5:64: rules[2].cover.blow: value "blow": is no key here; did you mean "below"?
r.yaml:6:68: rules[3].cover.below.soon: value "soon": want a whole number
r.yaml:6:98: rules[3].trend.above.3: value "1e2": want basis points, a whole number: 100 is 1 %
r.yaml:7:38: rules[4].step: value "-1": want an amount such as 0.01
r.yaml:8:39: rules[5].step: value "0.0000001": want an amount such as 0.01
r.yaml:8:50: rules[5].most: value "most": is no key here; known are name, kind, since, until, step, ending
r.yaml:9:57: rules[6].currency: value "pounds": want a currency such as GBP
r.yaml:10:40: rules[7].most: value "2001": want 0 to 2000 basis points
r.yaml:11:12: rules[8].name: value "Change": want a name of lower case letters, digits and underscores
r.yaml:12:5: rules[9]: value "a rule": want a rule with a kind: tier, demand, round, margin, bounds or change`
	if err == nil {
		t.Fatal("such a file is taken")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for text, want := range map[string]string{
		"":                     "want one YAML document",
		"rules":                "want rules, a list",
		"rules: all":           "want rules, a list",
		"a: 1\nrules: []":      `a: value "1": is no key here`,
		"rules: []\nrules: []": "twice",
		"rules: [{name: a, kind: demand, cover: {below: {3: 1, 3: 2}}}]": "twice",
		"rules: [\n":            "is not YAML",
		"---\nrules: []\n---\n": "want one YAML document",
	} {
		if _, err := ParseRules("r.yaml", []byte(text)); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "already defined", "twice"), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestDefault(t *testing.T) {
	rules := Default()
	var names []string
	for _, r := range rules {
		names = append(names, r.Name+" "+r.Kind())
	}
	want := []string{"quantity_tier tier", "recent_demand demand", "whole_pennies round", "margin_floor margin", "absolute_bounds bounds", "largest_change change"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	d := candidate(t, rules)
	if d.Name() != "demand" || !strings.HasPrefix(d.Build(), "rules-") || len(d.Build()) != len("rules-")+12 {
		t.Errorf("it is %s, %s", d.Name(), d.Build())
	}
	if diff := cmp.Diff(len(rules), len(d.Rules())); diff != "" {
		t.Error(diff)
	}
}

// TestBuildTellsRulesApart changes the default file in one place at a time.
func TestBuildTellsRulesApart(t *testing.T) {
	seen := map[string]string{candidate(t, Default()).Build(): "the default"}
	for _, change := range [][2]string{
		{"name: quantity_tier", "name: tier"}, {"kind: tier\n    since: 2009-01-01", "kind: tier\n    until: 2009-01-01"}, {"least: 12 ", "least: 13 "},
		{"3: 300", "3: 301"}, {"3: 300", "4: 300"}, {"90: -100", "91: -100"}, {"150: 100", "150: 99"}, {"50: -100}", "50: -99}"}, {"most: 400", "most: 401"},
		{"step: 0.01", "step: 0.05"}, {"step: 0.01", "step: 0.1\n    ending: 0.09"}, {"least: 500", "least: 501"}, {"currency: GBP", "currency: EUR"},
		{"floor: 0.01", "floor: 0.02"}, {"ceiling: 10000.00", "ceiling: 10000.01"}, {"most: 800", "most: 799"},
	} {
		text := strings.Replace(DefaultText, change[0], change[1], 1)
		rules, err := ParseRules("changed", []byte(text))
		if err != nil || text == DefaultText {
			t.Fatalf("%v: %v", change, err)
		}
		build := candidate(t, rules).Build()
		if before, twice := seen[build]; twice {
			t.Errorf("%v and %s have one build", change, before)
		}
		seen[build] = fmt.Sprint(change)
	}
	commented, err := ParseRules("changed", []byte("# another comment\n"+DefaultText))
	if err != nil {
		t.Fatal(err)
	}
	if build := candidate(t, commented).Build(); seen[build] != "the default" {
		t.Errorf("a comment makes another build")
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add([]byte(DefaultText))
	f.Add([]byte("rules: [{name: a, kind: round, step: 0.01}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := ParseRules("fuzz", text)
		if err != nil {
			return
		}
		if _, err := New(rules); err != nil {
			t.Fatalf("the file is taken, and its rules are not: %v", err)
		}
	})
}
