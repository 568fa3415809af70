package structure_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"banyan/compare/structure"
)

func comparer(t testing.TB, o structure.Options) *structure.Comparer {
	t.Helper()
	c, err := structure.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func compare(t testing.TB, o structure.Options, control, candidate string) structure.Result {
	t.Helper()
	r, err := comparer(t, o).JSON([]byte(control), []byte(candidate))
	if err != nil {
		t.Fatalf("%s beside %s: %v", control, candidate, err)
	}
	return r
}

// lines writes differences so that a table can hold them.
func lines(all []structure.Difference) []string {
	var out []string
	for _, d := range all {
		s := fmt.Sprintf("%s %s: %s | %s", d.Path, d.Cause, d.Control, d.Candidate)
		if d.Apart != "" {
			s += " by " + d.Apart
		}
		out = append(out, s)
	}
	return out
}

func TestCauses(t *testing.T) {
	const gbp, eur = `{"amount":2550,"scale":3,"currency":"GBP"}`, `{"amount":2550,"scale":3,"currency":"EUR"}`
	for _, tc := range []struct {
		name, control, candidate string
		want                     []string
	}{
		{"equal", `{"a":[1,{"b":null}],"c":"x"}`, ` {"c":"x", "a":[1,{"b":null}]}`, nil},
		{"missing", `{"a":1,"b":2}`, `{"a":1}`, []string{"$.b missing: 2 | "}},
		{"missing with all below", `{"a":{"b":[1]}}`, `{}`, []string{`$.a missing: {"b":[1]} | `}},
		{"extra", `{"a":1}`, `{"a":1,"b":{"c":2}}`, []string{`$.b extra:  | {"c":2}`}},
		{"the long that became a string", `{"id":17}`, `{"id":"17"}`, []string{`$.id type: 17 | "17"`}},
		{"null where a value was", `{"id":17}`, `{"id":null}`, []string{`$.id type: 17 | null`}},
		{"list that became an object", `[]`, `{}`, []string{`$ type: [] | {}`}},
		{"null in control, absent in candidate", `{"a":null}`, `{}`, []string{`$.a null-absent: null | `}},
		{"absent in control, null in candidate", `{}`, `{"a":null}`, []string{`$.a null-absent:  | null`}},
		{"order", `{"l":[1,2,3]}`, `{"l":[3,1,2]}`, []string{"$.l order: [1,2,3] | [3,1,2]"}},
		{"order and a value", `[1,2,3,4]`, `[2,1,3,5]`, []string{"$ order: [1,2,3,4] | [2,1,3,5]", "$[3] value: 4 | 5 by 1"}},
		{"first one gone", `[{"a":1},{"a":2},{"a":3}]`, `[{"a":2},{"a":3}]`, []string{`$[0] missing: {"a":1} | `}},
		{"one in the middle more", `[1,2]`, `[1,7,2]`, []string{`$[1] extra:  | 7`}},
		{"one changed", `[{"a":1,"b":1},{"a":2,"b":1}]`, `[{"a":1,"b":1},{"a":2,"b":9}]`, []string{`$[1].b value: 1 | 9 by 8`}},
		{"rounding down", `{"p":2.554}`, `{"p":2.55}`, []string{"$.p rounding: 2.554 | 2.55 by 0.004"}},
		{"rounding of a half, either way", `[2.5,2.5]`, `[3,2]`, []string{"$[0] rounding: 2.5 | 3 by 0.5", "$[1] rounding: 2.5 | 2 by 0.5"}},
		{"cut off is not rounded", `{"p":2.559}`, `{"p":2.55}`, []string{"$.p value: 2.559 | 2.55 by 0.009"}},
		{"one unit is not rounding", `{"p":2.55}`, `{"p":2.56}`, []string{"$.p value: 2.55 | 2.56 by 0.01"}},
		{"numbers of one value", `[1.0,100,-0,0.5]`, `[1.00,1e2,0,5E-1]`, nil},
		{"beyond float64", `[9007199254740993]`, `[9007199254740992]`, []string{"$[0] value: 9007199254740993 | 9007199254740992 by 1"}},
		{"an exponent nobody expands", `[1e999999999]`, `[1e999999998]`, []string{"$[0] value: 1e999999999 | 1e999999998"}},
		{"an exponent nobody reads", `[1e99999999999]`, `[1e99999999998]`, []string{"$[0] value: 1e99999999999 | 1e99999999998"}},
		{"money of one value", gbp, `{"currency":"GBP","scale":2,"amount":255}`, nil},
		{"money", `{"p":` + gbp + `}`, `{"p":{"amount":256,"scale":2,"currency":"GBP"}}`,
			[]string{`$.p value: {"amount":2550,"currency":"GBP","scale":3} | {"amount":256,"currency":"GBP","scale":2} by 0.01`}},
		{"money rounded", `{"amount":2554,"scale":3,"currency":"GBP"}`, `{"amount":255,"scale":2,"currency":"GBP"}`,
			[]string{`$ rounding: {"amount":2554,"currency":"GBP","scale":3} | {"amount":255,"currency":"GBP","scale":2} by 0.004`}},
		{"currency", `{"p":` + gbp + `}`, `{"p":` + eur + `}`,
			[]string{`$.p currency: {"amount":2550,"currency":"GBP","scale":3} | {"amount":2550,"currency":"EUR","scale":3}`}},
		{"money that is none", gbp, `{"amount":2550,"scale":3}`, []string{`$.currency missing: "GBP" | `}},
		{"money of half units is none", `{"amount":2.5,"scale":3,"currency":"GBP"}`, `{"amount":2.5,"scale":4,"currency":"GBP"}`, []string{"$.scale value: 3 | 4 by 1"}},
		{"money that became a number", `{"p":` + gbp + `}`, `{"p":2.55}`, []string{`$.p type: {"amount":2550,"currency":"GBP","scale":3} | 2.55`}},
		{"zone", `"2011-01-04T10:00:00Z"`, `"2011-01-04T11:00:00+01:00"`, []string{`$ zone: "2011-01-04T10:00:00Z" | "2011-01-04T11:00:00+01:00"`}},
		{"another instant", `"2011-01-04T10:00:00Z"`, `"2011-01-04T10:00:00+01:00"`, []string{`$ value: "2011-01-04T10:00:00Z" | "2011-01-04T10:00:00+01:00"`}},
		{"digits of a second", `"2011-01-04T10:00:00Z"`, `"2011-01-04T10:00:00.000Z"`, []string{`$ form: "2011-01-04T10:00:00Z" | "2011-01-04T10:00:00.000Z"`}},
		{"white space", `"12  High St "`, `"12 High St"`, []string{`$ form: "12  High St " | "12 High St"`}},
		{"letter case", `"Ærø"`, `"ÆRØ"`, []string{`$ form: "Ærø" | "ÆRØ"`}},
		{"a number in a string, written otherwise", `"2.50"`, `"2.5"`, []string{`$ form: "2.50" | "2.5" by 0`}},
		{"codes are no numbers", `"007"`, `"07"`, []string{`$ value: "007" | "07"`}},
		{"value", `{"s":"a","b":true}`, `{"s":"b","b":false}`, []string{`$.b value: true | false`, `$.s value: "a" | "b"`}},
		{"names that need quotes", `{"a.b":{"":1}}`, `{"a.b":{"":2}}`, []string{`$["a.b"][""] value: 1 | 2 by 1`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := compare(t, structure.Options{}, tc.control, tc.candidate)
			if diff := cmp.Diff(tc.want, lines(r.Differences)); diff != "" {
				t.Error(diff)
			}
			if r.Equal() != (len(tc.want) == 0) {
				t.Errorf("Equal is %v", r.Equal())
			}
		})
	}
}

func TestRules(t *testing.T) {
	for _, tc := range []struct {
		name               string
		options            structure.Options
		control, candidate string
		want, hidden       []string
		uses               []structure.Use
	}{
		{"ignore", structure.Options{Ignore: []string{"$.items[*].updatedAt", "$.itmes[*].etag"}},
			`{"items":[{"id":1,"updatedAt":5},{"id":2,"updatedAt":6},{"id":3}]}`, `{"items":[{"id":1,"updatedAt":7},{"id":2,"updatedAt":6},{"id":4}]}`,
			[]string{"$.items[2].id value: 3 | 4 by 1"}, []string{"$.items[0].updatedAt value: 5 | 7 by 2"},
			[]structure.Use{{"ignore $.items[*].updatedAt", 4, 1}, {"ignore $.itmes[*].etag", 0, 0}}},
		{"ignore on one side", structure.Options{Ignore: []string{"$..etag", `$["a.b"]`, "$.x-*"}},
			`{"o":{"p":{"etag":1}},"a.b":1,"x-one":[1]}`, `{"o":{"p":{}},"x-two":1}`,
			nil, []string{`$["a.b"] missing: 1 | `, `$.o.p.etag missing: 1 | `, `$.x-one missing: [1] | `, `$.x-two extra:  | 1`},
			[]structure.Use{{"ignore $..etag", 1, 1}, {`ignore $["a.b"]`, 1, 1}, {"ignore $.x-*", 2, 2}}},
		{"ignore one element", structure.Options{Ignore: []string{"$[0]"}}, `[1,2]`, `[9,2]`, nil, []string{"$[0] value: 1 | 9 by 8"},
			[]structure.Use{{"ignore $[0]", 2, 1}}},
		{"elements that are ignored do not move", structure.Options{Ignore: []string{"$[*]"}}, `[1,2]`, `[2,1]`, nil,
			[]string{"$[0] value: 1 | 2 by 1", "$[1] value: 2 | 1 by 1"}, []structure.Use{{"ignore $[*]", 4, 2}}},
		{"lists in any order within one that has an order", structure.Options{Lists: []structure.List{{Path: "$[*].tags"}}}, `[{"tags":[1,2]},{"tags":[3]}]`, `[{"tags":[3]},{"tags":[2,1]}]`,
			[]string{`$ order: [{"tags":[1,2]},{"tags":[3]}] | [{"tags":[3]},{"tags":[2,1]}]`}, nil, []structure.Use{{"list $[*].tags", 4, 0}}},
		{"what is ignored on one side does not hide a move", structure.Options{Ignore: []string{"$[*].x"}}, `[{"a":1,"x":1},{"a":2}]`, `[{"a":2},{"a":1}]`,
			[]string{`$ order: [{"a":1,"x":1},{"a":2}] | [{"a":2},{"a":1}]`}, nil, []structure.Use{{"ignore $[*].x", 1, 0}}},
		{"what is ignored moves nothing", structure.Options{Ignore: []string{"$[*].x"}}, `[{"x":1},{"x":2}]`, `[{"x":2},{"x":1}]`, nil,
			[]string{"$[0].x value: 1 | 2 by 1", "$[1].x value: 2 | 1 by 1"}, []structure.Use{{"ignore $[*].x", 4, 2}}},
		{"ignore a part of money", structure.Options{Ignore: []string{"$.p.currency"}},
			`{"p":{"amount":1,"scale":0,"currency":"GBP"}}`, `{"p":{"amount":1,"scale":0,"currency":"EUR"}}`, nil, []string{`$.p.currency value: "GBP" | "EUR"`},
			[]structure.Use{{"ignore $.p.currency", 2, 1}}},
		{"absolute", structure.Options{Tolerances: []structure.Tolerance{{Path: "$[*]", Absolute: "0.01"}}},
			`[1.00,1.00,{"amount":100,"scale":2,"currency":"GBP"},"1.00",{"amount":100,"scale":2,"currency":"GBP"}]`,
			`[1.01,1.011,{"amount":101,"scale":2,"currency":"GBP"},"0.99",{"amount":101,"scale":2,"currency":"EUR"}]`,
			[]string{"$[1] value: 1.00 | 1.011 by 0.011", `$[4] currency: {"amount":100,"currency":"GBP","scale":2} | {"amount":101,"currency":"EUR","scale":2}`},
			[]string{"$[0] value: 1.00 | 1.01 by 0.01", `$[2] value: {"amount":100,"currency":"GBP","scale":2} | {"amount":101,"currency":"GBP","scale":2} by 0.01`,
				`$[3] value: "1.00" | "0.99" by 0.01`},
			[]structure.Use{{"tolerance $[*]", 10, 3}}},
		{"relative", structure.Options{Tolerances: []structure.Tolerance{{Path: "$[*]", Relative: "0.1"}}}, `[100,-100,0]`, `[90,-111.2,0.001]`,
			[]string{"$[1] value: -100 | -111.2 by 11.2", "$[2] rounding: 0 | 0.001 by 0.001"}, []string{"$[0] value: 100 | 90 by 10"},
			[]structure.Use{{"tolerance $[*]", 6, 1}}},
		{"any order", structure.Options{Lists: []structure.List{{Path: "$.tags"}}}, `{"tags":["a","b","c"]}`, `{"tags":["c","d","a"]}`,
			[]string{`$.tags[1] missing: "b" | `, `$.tags[1] extra:  | "d"`}, nil, []structure.Use{{"list $.tags", 2, 0}}},
		{"any order, one changed", structure.Options{Lists: []structure.List{{Path: "$"}}}, `[{"a":1},{"a":2}]`, `[{"a":3},{"a":1}]`,
			[]string{`$[1].a value: 2 | 3 by 1`}, nil, []structure.Use{{"list $", 2, 0}}},
		{"by key", structure.Options{Lists: []structure.List{{Path: "$.l", Key: "sku"}}},
			`{"l":[{"sku":"A","q":1},{"sku":"B","q":1},{"sku":7,"q":1},{"sku":"A","q":2},{"q":5}]}`,
			`{"l":[{"sku":"C"},{"sku":7.0,"q":2},{"sku":"B","q":1},{"sku":"A","q":1},{"sku":"A","q":3},{"q":6}]}`,
			[]string{"$.l[sku=7].q value: 1 | 2 by 1", "$.l[sku=A#2].q value: 2 | 3 by 1", "$.l[without sku].q value: 5 | 6 by 1", `$.l[sku=C] extra:  | {"sku":"C"}`},
			nil, []structure.Use{{"list $.l by sku", 2, 0}}},
		{"equal by key", structure.Options{Lists: []structure.List{{Path: "$", Key: "id"}}}, `[{"id":1},{"id":2}]`, `[{"id":2},{"id":1}]`, nil, nil,
			[]structure.Use{{"list $ by id", 2, 0}}},
		{"strict numbers", structure.Options{StrictNumbers: true}, `[1.0,{"amount":2550,"scale":3,"currency":"GBP"}]`, `[1.00,{"amount":255,"scale":2,"currency":"GBP"}]`,
			[]string{"$[0] form: 1.0 | 1.00 by 0", `$[1] form: {"amount":2550,"currency":"GBP","scale":3} | {"amount":255,"currency":"GBP","scale":2} by 0`}, nil, []structure.Use{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := compare(t, tc.options, tc.control, tc.candidate)
			if diff := cmp.Diff(tc.want, lines(r.Differences)); diff != "" {
				t.Errorf("differences: %s", diff)
			}
			if diff := cmp.Diff(tc.hidden, lines(r.Hidden)); diff != "" {
				t.Errorf("hidden: %s", diff)
			}
			if diff := cmp.Diff(tc.uses, r.Uses); diff != "" {
				t.Errorf("uses: %s", diff)
			}
		})
	}
}

func TestGeneralPath(t *testing.T) {
	o := structure.Options{Lists: []structure.List{{Path: "$.l", Key: "id"}}, Maps: []string{"$.byID"}}
	r := compare(t, o, `{"l":[{"id":1,"p":[1]}],"byID":{"17":{"a":1},"18":{"a":1}}}`, `{"l":[{"id":1,"p":[2]}],"byID":{"17":{"a":2},"18":{"a":4}}}`)
	got := structure.Merge(r.Differences)
	want := []structure.Difference{
		{Path: "$.byID.18.a", General: "$.byID.*.a", Cause: structure.Value, Control: "1", Candidate: "4", Apart: "3", Count: 2},
		{Path: "$.l[id=1].p[0]", General: "$.l[*].p[*]", Cause: structure.Value, Control: "1", Candidate: "2", Apart: "1", Count: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNoDocument(t *testing.T) {
	deep := strings.Repeat("[", 100_000)
	for _, bad := range []string{"", "{", "[1,", "[1 2]", `{"a" 1}`, `{"a":1,}`, "1 2", "nul", "NaN", `{"a":1,"a":1}`, `{"a":{"b":1,"b":2}}`, "\"\xff\"", deep, strings.Repeat("[", 300) + strings.Repeat("]", 300), "<html>"} {
		for _, side := range []string{"control", "candidate"} {
			control, candidate := []byte(bad), []byte("{}")
			if side == "candidate" {
				control, candidate = candidate, control
			}
			_, err := comparer(t, structure.Options{}).JSON(control, candidate)
			if e, ok := errors.AsType[*structure.ParseError](err); !ok || e.Side != side {
				t.Errorf("%.20q as %s: %v", bad, side, err)
			}
		}
	}
	_, err := comparer(t, structure.Options{}).JSON([]byte("x"), []byte("y"))
	if err == nil || !strings.Contains(err.Error(), "control") || !strings.Contains(err.Error(), "candidate") {
		t.Errorf("both broken: %v", err)
	}
}

func TestDocumentsOfAnother(t *testing.T) {
	a, b := comparer(t, structure.Options{}), comparer(t, structure.Options{})
	x, err := a.Parse([]byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Compare(x, x); err == nil {
		t.Error("a document read by other rules is taken")
	}
	if _, err := a.Compare(x, nil); err == nil {
		t.Error("no document is taken")
	}
}

func TestValues(t *testing.T) {
	type line struct {
		SKU      string `json:"sku"`
		Quantity int64  `json:"quantity"`
	}
	type order struct {
		Lines []line `json:"lines"`
	}
	c := comparer(t, structure.Options{})
	r, err := c.Values(order{[]line{{"A", 1 << 60}}}, order{[]line{{"A", 1<<60 + 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"$.lines[0].quantity value: 1152921504606846976 | 1152921504606846977 by 1"}, lines(r.Differences)); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Values(order{}, func() {}); err == nil || !strings.Contains(err.Error(), "candidate") {
		t.Errorf("a func has no JSON: %v", err)
	}
}

func TestFaultsOfOptionsAreToldTogether(t *testing.T) {
	_, err := structure.New(structure.Options{
		Ignore:     []string{"items", "$", "$.a.", "$.a[x]", "$..", "$.a", "$.a", "$[", "$.a]b"},
		Tolerances: []structure.Tolerance{{Path: "$.p"}, {Path: "$.q", Absolute: "-1"}, {Path: "$.r", Relative: "much"}, {Path: "$.s", Absolute: "1e500"}},
		Lists:      []structure.List{{Path: "tags"}},
		Maps:       []string{"$x"},
	})
	if err == nil {
		t.Fatal("all is taken")
	}
	for _, want := range []string{`"items" does not begin with $`, `"$" ignores everything`, `"$.a."`, `"$.a[x]"`, `"$.."`, `"ignore $.a" is there twice`, `"$["`, `"$.a]b"`, `that of "$.p" allows nothing`,
		`Absolute of "$.q" is "-1"`, `Relative of "$.r" is "much"`, `Absolute of "$.s"`, `Lists: "tags"`, `Maps: "$x"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %s:\n%v", want, err)
		}
	}
}

func TestManyDifferencesAreCounted(t *testing.T) {
	var a, b strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&a, ",%d", i)
		fmt.Fprintf(&b, ",%d", -i-1)
	}
	r := compare(t, structure.Options{}, "["+a.String()[1:]+"]", "["+b.String()[1:]+"]")
	if len(r.Differences) != structure.MaxDifferences || len(r.Differences)+r.More != 30_000 {
		t.Errorf("%d differences and %d more, want %d together", len(r.Differences), r.More, 30_000)
	}
}

// Past the limit nothing is looked at, and so nothing is taken for equal.
func TestManyPlacesAreNotLookedAt(t *testing.T) {
	ones := strings.Repeat(",1.1", 25_000)
	o := structure.Options{Tolerances: []structure.Tolerance{{Path: "$[*]", Absolute: "1"}}}
	r := compare(t, o, "[0"+ones+"]", "[0"+strings.ReplaceAll(ones, "1.1", "1.2")+"]")
	if len(r.Differences) != 0 || r.More != 5000 || r.Uses[0].Hid != 20_000 || r.Equal() {
		t.Errorf("%d differences, %d more, %v", len(r.Differences), r.More, r.Uses)
	}
}

// A pattern can follow a path in very many ways, which must not take their time.
func TestPatternOfManyWays(t *testing.T) {
	const depth = 190
	doc := strings.Repeat(`{"a":`, depth) + `{"z":%d}` + strings.Repeat("}", depth)
	o := structure.Options{Ignore: []string{"$" + strings.Repeat("..a", 8) + "..z"}}
	if r := compare(t, o, fmt.Sprintf(doc, 1), fmt.Sprintf(doc, 2)); !r.Equal() || r.Uses[0] != (structure.Use{Rule: "ignore " + o.Ignore[0], Matched: 2, Hid: 1}) {
		t.Errorf("%v %v", lines(r.Differences), r.Uses)
	}
}

func TestWorst(t *testing.T) {
	d := func(apart string) structure.Difference {
		return structure.Difference{General: "$.a", Cause: structure.Value, Apart: apart, Count: 1}
	}
	got := structure.Merge([]structure.Difference{d(""), d("2"), d("10"), d("10.0"), d("9")})
	if want := []structure.Difference{{General: "$.a", Cause: structure.Value, Apart: "10", Count: 5}}; !cmp.Equal(want, got) {
		t.Error(cmp.Diff(want, got))
	}
}

// What differs does not depend on which side is asked about, and one change is
// one difference.
func TestOneChangeIsOneDifference(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 600 {
		n := 1 + rng.IntN(40)
		x := make([]string, n)
		for i := range x {
			x[i] = fmt.Sprintf(`{"id":%d,"n":%d}`, i*(round%2), rng.IntN(5)) // in every other round many are equal
		}
		y := slices.Clone(x)
		at := rng.IntN(n)
		want := structure.Value
		switch rng.IntN(3) {
		case 0:
			y[at] = fmt.Sprintf(`{"id":%d,"n":9}`, at*(round%2))
		case 1:
			y, want = slices.Delete(y, at, at+1), structure.Missing
		case 2:
			y, want = slices.Insert(y, at, `{"id":-1}`), structure.Extra
		}
		r := compare(t, structure.Options{}, "["+strings.Join(x, ",")+"]", "["+strings.Join(y, ",")+"]")
		if len(r.Differences) != 1 || r.Differences[0].Cause != want {
			t.Fatalf("seed %d: want one %s, got %v", seed, want, lines(r.Differences))
		}
	}
}

// What a person would find in lists too long to look through: one gone, one new,
// one changed, far apart.
func TestLongLists(t *testing.T) {
	const n = 30_000
	var x, y []string
	for i := range n {
		x = append(x, fmt.Sprintf(`{"id":%d}`, i))
	}
	y = append(y, x[1:]...)
	y[n/2] = `{"id":-7}`
	y = append(y, `{"id":-8}`)
	began := time.Now()
	r := compare(t, structure.Options{}, "["+strings.Join(x, ",")+"]", "["+strings.Join(y, ",")+"]")
	want := []string{
		`$[0] missing: {"id":0} | `,
		fmt.Sprintf(`$[%d].id value: %d | -7 by %d`, n/2+1, n/2+1, n/2+8),
		fmt.Sprintf(`$[%d] extra:  | {"id":-8}`, n-1),
	}
	if diff := cmp.Diff(want, lines(r.Differences)); diff != "" || r.More != 0 {
		t.Error(diff, r.More)
	}
	t.Log(time.Since(began))
}

// The subsequence that stays is a longest one: the differences of two lists of
// letters are as few as the table of all prefixes says.
func TestFewestDifferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2", "3"}), 0, 12)
		x, y := letters.Draw(t, "x"), letters.Draw(t, "y")
		longest := make([][]int, len(x)+1)
		for i := range longest {
			longest[i] = make([]int, len(y)+1)
		}
		for i := range x {
			for j := range y {
				longest[i+1][j+1] = max(longest[i][j+1], longest[i+1][j])
				if x[i] == y[j] {
					longest[i+1][j+1] = longest[i][j] + 1
				}
			}
		}
		if got := structure.Common(x, y); got != longest[len(x)][len(y)] {
			t.Fatalf("%v and %v have %d in common, want %d", x, y, got, longest[len(x)][len(y)])
		}
	})
}

func FuzzCompare(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.50,{"amount":2550,"scale":3,"currency":"GBP"}]}`, `[{"k":1},{"k":"1"},{}]`, `"2011-01-04T10:00:00Z"`, `[1e999999999,-0,1E-5]`, `{"m":{"x":null},"t":["a","b"]}`, `{"a":1,"a":2}`, "\"\xff\"", "[[[[]]]]", ""} {
		f.Add(s, s)
		f.Add(s, `{"a":[2.5,1],"t":["b","a"],"m":{"y":1}}`)
	}
	plain := comparer(f, structure.Options{})
	ruled := comparer(f, structure.Options{
		Ignore: []string{"$..x", "$.a[0]"}, Lists: []structure.List{{Path: "$.t"}, {Path: "$", Key: "k"}}, Maps: []string{"$.m"},
		Tolerances: []structure.Tolerance{{Path: "$.a[*]", Relative: "0.1", Absolute: "1e-3"}},
	})
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, c := range []*structure.Comparer{plain, ruled} {
			r, err := c.JSON([]byte(a), []byte(b))
			if err != nil {
				if _, ok := errors.AsType[*structure.ParseError](err); !ok {
					t.Fatalf("%q beside %q: %v", a, b, err)
				}
				continue
			}
			back, err := c.JSON([]byte(b), []byte(a))
			if err != nil || back.Equal() != r.Equal() {
				t.Fatalf("%q beside %q: equal %v, and the other way round %v, %v", a, b, r.Equal(), back.Equal(), err)
			}
			again, err := c.JSON([]byte(a), []byte(b))
			if err != nil || !cmp.Equal(r, again, cmpopts.EquateEmpty()) {
				t.Fatalf("%q beside %q: not twice the same: %v", a, b, err)
			}
			if self, err := c.JSON([]byte(a), []byte(a)); err != nil || !self.Equal() || len(self.Hidden) > 0 {
				t.Fatalf("%q beside itself: %v, %v", a, self, err)
			}
		}
	})
}

// BenchmarkLargest is the largest answer that shadow/parity takes, with nothing
// equal in it.
func BenchmarkLargest(b *testing.B) {
	x := []byte("[1" + strings.Repeat(",1", 1<<19-2) + "]")
	y := []byte("[2" + strings.Repeat(",2", 1<<19-2) + "]")
	c := comparer(b, structure.Options{Ignore: []string{"$..updatedAt"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.JSON(x, y); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	const order = `{"id":"1234","customer":17,"lines":[{"sku":"22423","quantity":3,"price":{"amount":%d,"scale":3,"currency":"GBP"}},{"sku":"85123A","quantity":6,"price":{"amount":2550,"scale":3,"currency":"GBP"}}],"placedAt":"2011-01-04T10:00:00Z"}`
	c := comparer(b, structure.Options{Ignore: []string{"$..updatedAt"}})
	for _, amount := range []int{12750, 12751} {
		x, y := fmt.Appendf(nil, order, 12750), fmt.Appendf(nil, order, amount)
		b.Run(fmt.Sprint(amount == 12750), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.JSON(x, y); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
