package page

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"reflect"
	"slices"
	"strings"

	"banyan/compare"
	"banyan/money"
)

// functions are what the templates may call.
var functions = template.FuncMap{
	"exact": exact, "signed": signed, "about": about, "aboutSigned": aboutSigned, "roughSigned": roughSigned, "ranged": ranged,
	"change": change, "share": share, "chance": chance, "millis": millis, "span": span, "moment": moment,
	"decimal": decimal, "trimmed": trimmed, "short": short, "source": sourceOf,
	"count":   func(n any) string { return count(reflect.ValueOf(n).Int()) },
	"plural":  func(n any, one, many string) string { return plural(reflect.ValueOf(n).Int(), one, many) },
	"pct":     func() string { return percents },
	"percent": func(f float64) float64 { return 100 * f },
	"ratio":   ratio, "part": part,
	"first": first, "left": left, "more": more, "ends": ends,
	"ladder": func() []step { return ladder },
	"broken": broken, "brokenFirst": brokenFirst,
	"band": bandFor, "stock": stockFor, "found": foundFor, "costKnown": costKnown, "untold": untold, "reason": reasonOf, "experiment": experiment, "number": signedNumber, "tabled": tabled, "ranking": newRanking, "settings": settingsOf,
	"curve": curveChart, "sure": intervalChart, "moves": movesChart, "moveName": moveName,
	"days": daysChart, "dayBars": dayBars,
	"weekly":      func(days []compare.DayView) bool { return len(days) > maxDays },
	"signatories": func() []string { return []string{"Finance", "Product", "Engineering"} },
}

// first gives at most n elements of a list.
func first(n int, list any) any {
	v := reflect.ValueOf(list)
	return v.Slice(0, min(n, v.Len())).Interface()
}

// left is how many elements first leaves out.
func left(n int, list any) int { return max(0, reflect.ValueOf(list).Len()-n) }

// more says how many elements first leaves out.
func more(n int, list any) string {
	if rest := left(n, list); rest > 0 {
		return "And " + count(rest) + " more, which are in the JSON of this report."
	}
	return ""
}

// ends is first for a list whose last element is its total: that stays.
func ends(n int, list any) any {
	v := reflect.ValueOf(list)
	if v.Len() <= n {
		return list
	}
	return reflect.Append(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, n+1), v.Slice(0, n)), v.Index(v.Len()-1)).Interface()
}

// ratio is a difference relative to a whole, in percent.
func ratio(diff, whole money.Amount) float64 {
	if whole.Amount == 0 {
		return math.NaN()
	}
	return 100 * value(diff) / math.Abs(value(whole))
}

func part(n, of int64) float64 {
	if of == 0 {
		return math.NaN()
	}
	return 100 * float64(n) / float64(of)
}

func broken(gs []compare.Guardrail) int {
	n := 0
	for _, g := range gs {
		if !g.OK {
			n++
		}
	}
	return n
}

// brokenFirst puts what needs eyes before what does not.
func brokenFirst(gs []compare.Guardrail) []compare.Guardrail {
	out := slices.Clone(gs)
	slices.SortStableFunc(out, func(a, b compare.Guardrail) int {
		switch {
		case a.OK == b.OK:
			return 0
		case a.OK:
			return 1
		}
		return -1
	})
	return out
}

// tabled are the points of a curve that go into its table: every half, and those that
// stock was looked at for.
func tabled(d compare.DemandView) []compare.CurvePoint {
	points := slices.Clone(d.Curve)
	slices.SortStableFunc(points, func(a, b compare.CurvePoint) int { return cmp.Compare(b.Elasticity, a.Elasticity) })
	var out []compare.CurvePoint
	for _, p := range points {
		half := 2 * p.Elasticity
		if math.Abs(half-math.Round(half)) < 1e-9 || p.RevenueCapped != nil || p.MarginCapped != nil {
			out = append(out, p)
		}
	}
	const most = 24
	return out[:min(most, len(out))]
}

// ranking is a list of products under a name.
type ranking struct {
	Name, Currency string
	Rows           []compare.ProductView
}

func newRanking(m compare.Money, name string, rows []compare.ProductView) ranking {
	return ranking{name, m.Currency, rows[:min(10, len(rows))]}
}

// setting is one line of the settings.
type setting struct{ Name, Value string }

// settingsOf lists them in the order of their declaration, by the names that they have
// in JSON.
func settingsOf(s compare.Settings) ([]setting, error) {
	v := reflect.ValueOf(s)
	var out []setting
	for i := range v.NumField() {
		raw, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			return nil, fmt.Errorf("write the setting %s: %w", v.Type().Field(i).Name, err)
		}
		name := v.Type().Field(i).Tag.Get("json")
		if name == "" {
			name = v.Type().Field(i).Name
		}
		out = append(out, setting{name, clean(string(raw), 200)})
	}
	return out, nil
}

// untold are the reasons of a verdict that its sentence does not say already.
func untold(v compare.Verdict) []string {
	return slices.DeleteFunc(slices.Clone(v.Why), func(why string) bool { return strings.Contains(v.Sentence, why) })
}
