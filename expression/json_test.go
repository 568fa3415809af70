package expression

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"banyan/money"

	"github.com/google/go-cmp/cmp"
)

func TestFromJSON(t *testing.T) {
	big, err := money.ParseNumber("9223372036854775808")
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]any{
		`null`: nil, ` true `: true, `false`: false, `0`: int64(0), `-0`: int64(0), `-7`: int64(-7),
		`9223372036854775807`: int64(9223372036854775807), `-9223372036854775808`: int64(-9223372036854775808),
		`9223372036854775808`: big, `"9223372036854775808"`: "9223372036854775808",
		`"a \"b\" \\ \n ü é"`: "a \"b\" \\ \n ü é", `"Ünï"`: "Ünï", "\"\xff\"": "\ufffd", `""`: "",
		`{}`: map[string]any{}, `[]`: []any{}, "[ 1 , [ ] ,\n\t{ \"a\" : null } ]": []any{int64(1), []any{}, map[string]any{"a": nil}},
		`{"a":1,"a":2}`: map[string]any{"a": int64(2)},
		`{"amount":2550,"scale":3,"currency":"GBP"}`:                money.Amount{Amount: 2550, Scale: 3, Currency: "GBP"},
		`{ "currency": "GBP", "scale": 0, "amount": -7 }`:           money.Amount{Amount: -7, Currency: "GBP"},
		`{"amount":9223372036854775807,"scale":0,"currency":"GBP"}`: money.Amount{Amount: 9223372036854775807, Currency: "GBP"},
		`{"amount":1,"scale":19,"currency":"GBP"}`:                  map[string]any{"amount": int64(1), "scale": int64(19), "currency": "GBP"},
		`{"amount":1,"scale":2,"currency":"gbp"}`:                   map[string]any{"amount": int64(1), "scale": int64(2), "currency": "gbp"},
		`{"amount":1,"scale":2,"currency":"GBP","note":null}`:       map[string]any{"amount": int64(1), "scale": int64(2), "currency": "GBP", "note": nil},
		`{"amount":"1","scale":2,"currency":"GBP"}`:                 map[string]any{"amount": "1", "scale": int64(2), "currency": "GBP"},
	} {
		got, err := FromJSON([]byte(raw))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %#v, %v; want %#v", raw, got, err, want)
		}
	}
	for raw, want := range map[string]string{"1.50": "1.50", "1e3": "1000", "-2.5E-1": "-0.25", "1e-400": "0." + strings.Repeat("0", 399) + "1", "1E+2": "100"} {
		got, err := FromJSON([]byte(raw))
		if d, ok := got.(money.Decimal); err != nil || !ok || d.String() != want {
			t.Errorf("%s = %v, %v; want %s", raw, got, err, want)
		}
	}
	for raw, want := range map[string]string{
		``: "JSON ends after 0 bytes, want a value", `{"a":1`: "JSON ends after 6 bytes, want a comma or a closing brace", `{"a" 1}`: `JSON at byte 5: '1', want a colon`,
		`{a:1}`: `JSON at byte 1: 'a', want a member's name`, `[1,]`: `JSON at byte 3: ']', want a value`, `[1 2]`: `JSON at byte 3: '2', want a comma or a closing bracket`,
		`"a`: "JSON ends after 2 bytes, want the end of a string", "\"a\n\"": `JSON at byte 2: '\n', want no control character`, `1 2`: `JSON at byte 2: '2', want the end`,
		`nul`: "JSON at byte 0: 'n', want null", `01`: "JSON at byte 0: '0', want a number", `1.`: "JSON at byte 0: '1', want a number", `-`: "JSON at byte 0: '-', want a number",
		`1e999`: `JSON at byte 0: "1e999" is not a decimal number with an exponent up to 400`, `"\x"`: "", strings.Repeat("[", 20_000): "JSON is nested deeper than 10000",
	} {
		if got, err := FromJSON([]byte(raw)); err == nil || want != "" && err.Error() != want {
			t.Errorf("%.40s = %v, %v; want %s", raw, got, err, want)
		}
	}
}

// TestNothingOfTheInputIsKept: events are read into buffers that are used again.
func TestNothingOfTheInputIsKept(t *testing.T) {
	raw := []byte(`{"state":{"name":"Ann","unit":{"amount":1,"scale":2,"currency":"GBP"},"list":[{"a":"x"}]}}`)
	v, err := FromJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	e := NewExtractor(Path{"state", "name"}, Path{"state", "unit"}, Path{"state", "list"})
	some, err := e.Extract(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] = '#'
	}
	got, err := AppendJSON(nil, []any{v, some})
	want := `[{"state":{"list":[{"a":"x"}],"name":"Ann","unit":{"amount":1,"scale":2,"currency":"GBP"}}},["Ann",{"amount":1,"scale":2,"currency":"GBP"},[{"a":"x"}]]]`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestExtract(t *testing.T) {
	e := NewExtractor(Path{"a"}, Path{"a", "b"}, Path{"c", "d"}, Path{}, Path{"c", "gone"})
	for raw, want := range map[string]string{
		`{"x":[1,{"y":"}"}],"a":{"b":1},"c":{"e":"\"","d":2}}`: `[{"b":1},1,2,{"a":{"b":1},"c":{"d":2,"e":"\""},"x":[1,{"y":"}"}]},null]`,
		`{"a":7,"c":[1]}`: `[7,null,null,{"a":7,"c":[1]},null]`,
		`{"a":{"b":1},"a":{},"c":{"d":1},"c":null}`: `[{},null,null,{"a":{},"c":null},null]`,
		`[]`: `[null,null,null,[],null]`,
	} {
		values, err := e.Extract([]byte(raw))
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got, err := AppendJSON(nil, values); err != nil || string(got) != want {
			t.Errorf("%s gives %s, %v; want %s", raw, got, err, want)
		}
	}
	twice := NewExtractor(Path{"c", "d"})
	for raw, want := range map[string]any{`{"c":{"d":1},"c":{}}`: nil, `{"c":{"d":1},"\u0063":{"d":2}}`: int64(2)} {
		if got, err := twice.Extract([]byte(raw)); err != nil || got[0] != want {
			t.Errorf("%s gives %v, %v; want %v", raw, got, err, want)
		}
	}
	for _, raw := range []string{``, `{`, `{"x":}`, `{"x":"`, `{"x":[}`, `{"c":{"d":01}}`, `{} {}`} {
		if got, err := twice.Extract([]byte(raw)); err == nil {
			t.Errorf("%s gives %v", raw, got)
		}
	}
}

func TestDocument(t *testing.T) {
	env := &Env{Vars: map[string]Type{"state": {}, "old": {}, "key": {Kind: Text}}}
	compile := func(source string) *Program {
		p, err := Compile(source, env)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	total := compile("sum(state.lines, .n) + sum(old.lines, .n)")
	key := compile("key")
	doc := env.NewDocument()
	eval := func(p *Program) string {
		t.Helper()
		got, err := result(p.Eval(doc))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(doc.Read([]byte(`{"state":{"lines":[{"n":1,"m":"a"},{"n":2},7]},"ignored":[{}]}`)))
	must(doc.Set("key", "42"))
	must(doc.Set("unknown", 1))
	must(doc.SetJSON("old", []byte(`{"lines":[{"n":10}]}`)))
	if total, key := eval(total), eval(key); total != "13" || key != `"42"` {
		t.Errorf("%s, %s", total, key)
	}
	must(doc.Set("old", map[string]any{"lines": []any{map[string]any{"n": int64(5)}}}))
	if got := eval(total); got != "8" {
		t.Errorf("after Set: %s", got)
	}
	must(doc.SetJSON("old", []byte(`{}`)))
	if got := eval(total); got != "3" {
		t.Errorf("after SetJSON: %s", got)
	}
	// What is compiled later is served from the next Read on, and so is what
	// needs more of a list that was cut down.
	all := compile("filter(state.lines, .n == 1)")
	late := compile("state.late")
	if _, err := late.Eval(doc); err == nil {
		t.Error("a program that the document does not know is served")
	}
	must(doc.Read([]byte(`{"state":{"lines":[{"n":1,"m":"a"}],"late":true}}`)))
	if all, late, key := eval(all), eval(late), eval(key); all != `[{"m":"a","n":1}]` || late != "true" || key != "null" {
		t.Errorf("%s, %s, %s", all, late, key)
	}
	doc.Reset()
	if got := eval(late); got != "null" {
		t.Errorf("after Reset: %s", got)
	}
	for raw, want := range map[string][2]bool{
		`{"state":{}}`: {false, true}, `{"state":null}`: {true, true}, `{}`: {false, true}, `{"x":{"state":null}}`: {false, true},
		`{"state":null,"state":1}`: {false, true}, `{"state":1,"state":null}`: {true, true},
	} {
		must(doc.Read([]byte(raw)))
		if null, ok := doc.Null("state"); [2]bool{null, ok} != want {
			t.Errorf("%s: state is null: %v, %v; want %v", raw, null, ok, want)
		}
	}
	if _, ok := doc.Null("unknown"); ok {
		t.Error("the document says that it has looked for what no program names")
	}
}

func TestAppendJSON(t *testing.T) {
	if _, err := AppendJSON(nil, 1.5); err == nil {
		t.Error("a float has a form")
	}
	got, err := AppendJSON(nil, map[string]any{"b": []any{nil, 1, json.Number("1.10")}, "a": "\x01\"\\\n\r\tü"})
	if d := cmp.Diff(`{"a":"\u0001\"\\\n\r\tü","b":[null,1,1.10]}`, string(got)); err != nil || d != "" {
		t.Error(d, err)
	}
}

// plain is a value as encoding/json gives it back, numbers as decimals.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		d, _ := ParseNumber(string(v))
		return d.String()
	case int64:
		return money.NewDecimal(v, 0).String()
	case money.Decimal:
		return v.String()
	case money.Amount:
		return map[string]any{"amount": plain(v.Amount), "scale": plain(int64(v.Scale)), "currency": v.Currency}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = plain(v[k])
		}
		return out
	}
	return v
}

// FuzzFromJSON holds the reader to encoding/json, and the extractor to the
// reader.
func FuzzFromJSON(f *testing.F) {
	for _, s := range []string{shopEvent, `{"a":{"b":[1,{"b":2}]},"a":1e5}`, `[{"b":1.50},{"c":null}]`, `"\ud83d\ude00\ud83d"`, `{"amount":1,"scale":2,"currency":"GBP"}`, `{"a":{"amount":1,"scale":2,"currency":"GBP"},"\u0061":{"b":"\\\""}}`} {
		f.Add([]byte(s))
	}
	paths := []Path{{"a"}, {"a", "b"}, {"a", "amount"}, {"state", "lines"}, {"state", "address", "city"}, {"b", "c", "d"}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := FromJSON(raw)
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		var want any
		if json.Valid(raw) {
			if err := d.Decode(&want); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			if json.Valid(raw) && !strings.Contains(err.Error(), "not a decimal number") {
				t.Fatalf("%s is refused: %v", raw, err)
			}
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("%s is taken", raw)
		}
		if d := cmp.Diff(plain(want), plain(got)); d != "" {
			t.Fatal(d)
		}
		values, err := NewExtractor(paths...).Extract(raw)
		if err != nil {
			t.Fatalf("%s is refused by Extract: %v", raw, err)
		}
		for i, p := range paths {
			whole, err := walk(got, p)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(plain(whole), plain(values[i])); d != "" {
				t.Fatalf("%s: %s", p, d)
			}
		}
		if b, err := AppendJSON(nil, got); err != nil || !json.Valid(b) {
			t.Fatalf("%s is written as %s, %v", raw, b, err)
		}
	})
}

// TestDocumentedExamples evaluates every row of the tables of examples in
// docs/expressions.md on the event that stands there.
func TestDocumentedExamples(t *testing.T) {
	page, err := os.ReadFile("../docs/expressions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	raw, _, _ := strings.Cut(rest, "```")
	env := &Env{Vars: map[string]Type{"state": {}, "occurredAt": {}}}
	rows := regexp.MustCompile("(?m)^\\| `(.*)` \\| `(.*)` \\|$").FindAllStringSubmatch(string(page), -1)
	if len(rows) < 50 {
		t.Fatalf("%d examples", len(rows))
	}
	for _, row := range rows {
		p, err := Compile(row[1], env)
		if err != nil {
			t.Errorf("%s: %v", row[1], err)
			continue
		}
		if got := both(t, env, p, raw); got != row[2] {
			t.Errorf("%s = %s, documented is %s", row[1], got, row[2])
		}
	}
	for _, name := range functionNames {
		if !strings.Contains(string(page), name+"(") && !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("%s() is not documented", name)
		}
	}
}
