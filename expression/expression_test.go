package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/money"

	"github.com/google/go-cmp/cmp"
)

// shopEvent is an OrderPlaced as the shop tells it.
const shopEvent = `{"occurredAt":"2010-12-01T08:26:00Z","channel":"web","goods":{"amount":46590,"scale":3,"currency":"GBP"},"state":{"id":1234,"invoice_no":"536365","customer_id":17850,"status":"placed","channel":"web","country":"United Kingdom","total":{"amount":46590,"scale":3,"currency":"GBP"},"placed_at":"2010-12-01T08:26:00Z","note":null,"attributes":{"weight":1.50,"tags":["a","b"]},"address":{"city":"London"},"lines":[{"line_no":1,"product_id":7,"description":"WHITE HANGING HEART T-LIGHT HOLDER","quantity":6,"unit_price":{"amount":2550,"scale":3,"currency":"GBP"}},{"line_no":2,"product_id":8,"description":"WHITE METAL LANTERN","quantity":6,"unit_price":{"amount":3390,"scale":3,"currency":"GBP"}},{"line_no":3,"product_id":9,"description":"CREAM CUPID HEARTS COAT HANGER","quantity":8,"unit_price":{"amount":2750,"scale":3,"currency":"GBP"}},{"line_no":4,"product_id":10,"description":"KNITTED UNION FLAG HOT WATER BOTTLE","quantity":6,"unit_price":{"amount":3390,"scale":3,"currency":"GBP"}},{"line_no":5,"product_id":11,"description":"RED WOOLLY HOTTIE WHITE HEART.","quantity":-1,"unit_price":{"amount":3390,"scale":3,"currency":"GBP"}}]},"changed":["id","invoice_no","customer_id","status"]}`

func jsonEnv() *Env {
	return &Env{Vars: map[string]Type{"occurredAt": {Kind: Time}, "channel": {}, "goods": {}, "state": {}, "last": {}, "changed": {}, "key": {Kind: Text}}}
}

// both evaluates on a Document and on the whole decoded, which must agree.
func both(t *testing.T, env *Env, p *Program, raw string) string {
	t.Helper()
	doc := env.NewDocument()
	if err := doc.Read([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	all, err := FromJSON([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	one, err1 := result(p.Eval(doc))
	two, err2 := result(p.Eval(Vars(all.(map[string]any))))
	if one != two || (err1 == nil) != (err2 == nil) {
		t.Errorf("%s: %s, %v on a document; %s, %v on values", p.Source(), one, err1, two, err2)
	}
	if err1 != nil {
		return err1.Error()
	}
	return one
}

func result(v any, err error) (string, error) {
	if err != nil {
		return "", err
	}
	b, err := AppendJSON(nil, v)
	return string(b), err
}

// TestOnJSON evaluates on an event, lazily and whole.
func TestOnJSON(t *testing.T) {
	for _, c := range [][2]string{
		// paths and what is not there
		{"state.address.city", `"London"`},
		{"state?.address?.city", `"London"`},
		{`state["address"]["city"]`, `"London"`},
		{"state.total", `{"amount":46590,"scale":3,"currency":"GBP"}`},
		{"state.total.amount", "46590"},
		{"state.nothing.more", "null"},
		{"state.country.city", "null"},
		{"last.id", "null"},
		{"state.lines[0].line_no + 1", "2"},
		{"state.lines[-1].quantity", "-1"},
		{"state.lines[9].quantity", "null"},
		{"state.lines.quantity", "null"},
		{"last ?? state.id", "1234"},
		{"coalesce(last, state.note, channel)", `"web"`},
		// lists
		{"sum(state.lines, .quantity * .unit_price)", `{"amount":74590,"scale":3,"currency":"GBP"}`},
		{"sum(filter(state.lines, .quantity > 0), .quantity * .unit_price)", `{"amount":77980,"scale":3,"currency":"GBP"}`},
		{"sum(filter(state.lines, .quantity > 99), .quantity * .unit_price)", "0"},
		{"sum(state.nothing, .x)", "0"},
		{"sum(map(state.lines, .quantity))", "25"},
		{"sum(state.lines, .unit_price.amount)", "15470"},
		{"len(state.lines) + len(filter(state.lines, .quantity < 0))", "6"},
		{"count(state.lines, .quantity == 6)", "3"},
		{"count(map(state.lines, .quantity == 6))", "3"},
		{"count(state.lines)", "count(state.lines): count() of a list that holds an object, want conditions; len() counts all items"},
		{"any(state.lines, .quantity < 0) and not all(state.lines, .quantity < 0)", "true"},
		{"one(state.lines, .quantity < 0) and none(state.lines, .quantity > 9)", "true"},
		{"find(state.lines, .quantity < 0).description", `"RED WOOLLY HOTTIE WHITE HEART."`},
		{"map(state.lines, .product_id)", "[7,8,9,10,11]"},
		{"map(state.lines, #index)", "[0,1,2,3,4]"},
		{"map(filter(state.lines, .line_no > 3), ({id: .product_id, sum: .quantity * .unit_price}))",
			`[{"id":10,"sum":{"amount":20340,"scale":3,"currency":"GBP"}},{"id":11,"sum":{"amount":-3390,"scale":3,"currency":"GBP"}}]`},
		{"filter(state.lines, .line_no == 2)", `[{"description":"WHITE METAL LANTERN","line_no":2,"product_id":8,"quantity":6,"unit_price":{"amount":3390,"scale":3,"currency":"GBP"}}]`},
		{"max(map(state.lines, .unit_price))", `{"amount":3390,"scale":3,"currency":"GBP"}`},
		{"first(state.lines).line_no + last(state.lines).line_no", "6"},
		{"any(state.lines, any(state.lines, #.quantity == 8))", "true"},
		{`"a" in state.attributes.tags and "status" in changed and "weight" in state.attributes`, "true"},
		{"keys(state.attributes)", `["tags","weight"]`},
		{`join(state.attributes.tags, "-")`, `"a-b"`},
		{"len(state.attributes.tags[0])", "1"},
		// exact numbers and money
		{"state.attributes.weight * 2", `"3.00"`},
		{"0.1 + 0.2 == 0.3", "true"},
		{"9223372036854775807 + 1", `"9223372036854775808"`},
		{"-9223372036854775807 - 2", `"-9223372036854775809"`},
		{"9223372036854775807 * 2", `"18446744073709551614"`},
		{"7 % 4 + 7 % -1", "3"},
		{"state.id % 0", "null"},
		{"goods - state.total + 0", `{"amount":0,"scale":3,"currency":"GBP"}`},
		{"goods * -1", `{"amount":-46590,"scale":3,"currency":"GBP"}`},
		{"goods * 9223372036854775807", "goods * 9223372036854775807: 46.590 GBP * 9223372036854775807: amount is too large"},
		{"goods > 46.5", "true"},
		{"round(goods * 0.175, 2)", `"8.15"`},
		{"number(goods) * 0.5", `"23.2950"`},
		{"currency(goods)", `"GBP"`},
		{`amount(round(number(goods) * 0.175, 3), 3, currency(goods)) + goods`, `{"amount":54743,"scale":3,"currency":"GBP"}`},
		{`amount("2.555", 2, "EUR")`, `amount(): "2.555" is no amount with 2 decimals: it has more decimals (at 1:1)`},
		{`goods + amount("1", 2, "EUR")`, "goods + amount(\"1\", 2, \"EUR\"): 46.590 GBP and 1.00 EUR: amounts are in different currencies"},
		{`min(goods, amount(1, 2, "EUR"))`, "min(goods, amount(1, 2, \"EUR\")): 1.00 EUR and 46.590 GBP: amounts are in different currencies"},
		{"state.none + 1", "null"},
		{"state.none > 1 or state.none < 1", "false"},
		{"abs(goods - goods * 2)", `{"amount":46590,"scale":3,"currency":"GBP"}`},
		// times
		{"date(state.placed_at)", `"2010-12-01"`},
		{"date(occurredAt) == date(state.placed_at)", "true"},
		{`date("2010-12-01 23:59:59.5-01")`, `"2010-12-02"`},
		{`hour("2010-12-01T08:26:31Z")`, `"2010-12-01T08:00:00Z"`},
		{`minute("2010-12-01T08:26:31Z")`, `"2010-12-01T08:26:00Z"`},
		{`day(state.placed_at)`, `"2010-12-01T00:00:00Z"`},
		{`week(state.placed_at)`, `"2010-11-29T00:00:00Z"`},
		{`week(date("2010-12-05"))`, `"2010-11-29T00:00:00Z"`},
		{`month(state.placed_at)`, `"2010-12-01T00:00:00Z"`},
		{`date("infinity") > date("2010-12-01") and date("-infinity") < date("0044-03-15 BC")`, "true"},
		{`[date("infinity"), date("0044-03-15 BC"), time("-infinity"), day("infinity")]`, `["infinity","0044-03-15 BC","-infinity","infinity"]`},
		{`state.placed_at > time("2010-12-01T08:00:00Z")`, "true"},
		{`state.placed_at == time("2010-12-01T09:26:00+01:00")`, "true"},
		{`time("2010-12-01T09:26:00+01:00") in [state.placed_at]`, "true"},
		{`state.placed_at - time("2010-12-01T08:00:00Z")`, "1560"},
		{`time(state.placed_at) + duration("1h30m")`, `"2010-12-01T09:56:00Z"`},
		{`time(state.placed_at) - duration("7d")`, `"2010-11-24T08:26:00Z"`},
		{`time(state.placed_at) - time("2010-12-01") < duration("9h")`, "true"},
		{`duration("5m") * 3`, "900"},
		{`duration("1500ms")`, `"1.500000000"`},
		{`duration("1w") == duration(604800)`, "true"},
		{`time("2010-02-30T00:00:00Z")`, `time(): "2010-02-30T00:00:00Z" is no time, want a form such as 2010-12-01T08:26:00Z or 2010-12-01 (at 1:1)`},
		{`duration("soon")`, "duration(): want a text such as 90s, 5m, 1h30m or 7d (at 1:1)"},
		// texts
		{`upper(trim("  a ")) + lower("B")`, `"Ab"`},
		{`starts_with(channel, "w") and has_prefix(channel, "we") and ends_with(channel, "b") and has_suffix(channel, "eb")`, "true"},
		{`channel startsWith "w" and hasPrefix(channel, "w") and channel contains "e"`, "true"},
		{`split(replace(channel, "e", ","), ",")`, `["w","b"]`},
		{`text(state.id) + text(goods) + text(1.50) + text(true) + text(date("2010-12-01"))`, `"123446.5901.5true2010-12-01"`},
		{`text(state.address)`, `"{\"city\":\"London\"}"`},
		{`int("12") + int(7.00) + int(true)`, "20"},
		{`int("1.5")`, "int(): 1.5 is not a whole number that fits 64 bits; round(x, 0) rounds (at 1:1)"},
		{`int("x")`, `int(): "x" is not a whole number (at 1:1)`},
		{`decimal("1.50") + decimal("1e-2")`, `"1.51"`},
		{`decimal(channel)`, `decimal(channel): decimal(): "web" is not a decimal number`},
		{`[len("Ünï"), len(last), upper(last), int(nil), date(nil)]`, "[3,null,null,null,null]"},
		// what does not go together
		{"state.country * 2", "state.country * 2: a text * a number; decimal(), int() and time() read texts"},
		{"state.country > 2", "state.country > 2: a text > a number; decimal(), int() and time() read texts"},
		{"state.id + channel", "state.id + channel: a number + a text; decimal(), int() and time() read texts"},
		{"state.id == channel", "false"},
		{"upper(state.id)", "upper(state.id): upper() of a number, want a text"},
		{"sum(state.country, .x)", "sum(state.country, .x): sum() of a text, want a list"},
		{"date(state.id)", "date(state.id): date() of a number, want a time or a text that holds one"},
		{"state.id ? 1 : 2", "2"},
		// grammar
		{`state.id > 1000 ? "many" : "few"`, `"many"`},
		{"if state.id > 1 { 1 } else { 2 }", "1"},
		{"1 < 2 < 3", "true"},
	} {
		env := jsonEnv()
		p, err := Compile(c[0], env)
		if err != nil {
			if err.Error() != c[1] {
				t.Errorf("%s: %v, want %s", c[0], err, c[1])
			}
			continue
		}
		if got := both(t, env, p, shopEvent); got != c[1] {
			t.Errorf("%s = %s, want %s", c[0], got, c[1])
		}
	}
}

func TestRefused(t *testing.T) {
	env := &Env{
		Vars: map[string]Type{
			"new":  {Kind: Row, Fields: map[string]Type{"status": {Kind: Text}, "n": {Kind: Int}, "at": {Kind: Time}, "price": {Kind: Amount, Scale: 2, Currency: "EUR"}}},
			"rows": ListOf(Type{Kind: Row, Fields: map[string]Type{"quantity": {Kind: Int}, "word": {Kind: Text}}}),
			"doc":  {},
		},
		Functions: map[string]Function{"lookup": {Params: []Kind{Text, Any}, Call: func(Input, []any) (any, error) { return nil, nil },
			Check: func(args []Argument) error {
				if !args[0].Constant {
					return errors.New("the table must be a text as it stands")
				}
				return nil
			}}},
	}
	for source, want := range map[string]string{
		"new.statsu":                 `new has no column "statsu"; did you mean "status"? (at 1:5)`,
		"new.zzz":                    `new has no column "zzz"; known are at, n, price, status (at 1:5)`,
		"1 +\n new.zzz":              `new has no column "zzz"; known are at, n, price, status (at 2:6)`,
		"nwe.n":                      `there is no nwe here; did you mean "new"? (at 1:1)`,
		"filter(rows, .quantty > 1)": `the row has no column "quantty"; did you mean "quantity"? (at 1:15)`,
		"rows.quantity":              "rows is a list; map(rows, .quantity) and first(rows) go into it (at 1:6)",
		"first(rows).wrd":            `the row has no column "wrd"; did you mean "word"? (at 1:13)`,
		"summ(rows, .quantity)":      `summ() is not part of expressions; did you mean "sum"? (at 1:1)`,
		"lokup(\"a\", 1)":            `lokup() is not part of expressions; did you mean "lookup"? (at 1:1)`,
		"lookup(\"a\")":              "lookup() takes 2 arguments (at 1:1)",
		"lookup(new.status, 1)":      "lookup(): the table must be a text as it stands (at 1:1)",
		"lookup(1, 1)":               "cannot use int as argument (type string) to call lookup  (at 1:8)",
		"round(new.n)":               "round() takes 2 arguments (at 1:1)",
		"join(doc, 1, 2)":            "join() takes 1 to 2 arguments (at 1:1)",
		"coalesce()":                 "coalesce() takes at least 1 argument (at 1:1)",
		"new.n / 2":                  "/ is not exact; publish both values, or use round(x * y, decimals) (at 1:7)",
		"new.n ** 2":                 "** is not exact; publish both values, or use round(x * y, decimals) (at 1:7)",
		"new.status matches \"x\"":   "matches is not part of expressions (at 1:12)",
		"1..9":                       ".. is not part of expressions (at 1:2)",
		"doc[1:2]":                   "slices are not part of expressions (at 1:4)",
		"let x = 1; x":               "let is not part of expressions (at 1:5)",
		"$env":                       "$env is not part of expressions (at 1:1)",
		"doc.Len()":                  "methods are not part of expressions (at 1:5)",
		"now()":                      "now() is not part of expressions; known are all, none, any, one, filter, map, find, count, sum, len, upper, lower, ... (at 1:1)",
		"new.status > 1":             "invalid operation: > (mismatched types string and int) (at 1:12)",
		"new.n and true":             "",
		"new.at + 1":                 "invalid operation: + (mismatched types time and int) (at 1:8)",
		"sum(rows, .word)":           "sum() of a text: want numbers (at 1:1)",
		"0.1234567890123456789":      `a number may have 15 digits; decimal("...") takes more (at 1:1)`,
		"new.n ==":                   "unexpected token EOF (at 1:8)",
		"":                           "unexpected token EOF (at 1:1)",
		"b\"x\"":                     "bytes are not part of expressions (at 1:1)",
		"map(rows, #acc)":            "#acc is not part of expressions (at 1:11)",
		strings.Repeat(" ", 70_000):  "an expression of 70000 bytes; at most 65536 are taken",
		strings.Repeat("(", 60_000):  "unexpected token EOF (at 1:60000)",
		strings.Repeat("-", 60_000):  "",
		strings.Repeat("1+", 9000):   "",
	} {
		_, err := Compile(source, env)
		if len(source) > 40 {
			source = source[:40]
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s is taken: %v", source, err)
			continue
		}
		if want != "" && err.Error() != want {
			t.Errorf("%s: %s, want %s", source, err, want)
		}
	}
	_, err := Compile("new.statsu", env)
	var e *Error
	if !errors.As(err, &e) || e.Unknown != "statsu" || e.Near != "status" || e.Line != 1 || e.Column != 5 || e.Source != "new.statsu" {
		t.Errorf("%+v", e)
	}
	env.Functions["sum"] = env.Functions["lookup"]
	if _, err := Compile("1", env); err == nil {
		t.Error("a function of the language is replaced")
	}
}

// TestProgramTells is what callers learn of a program before it runs.
func TestProgramTells(t *testing.T) {
	elem := Type{Kind: Row, Fields: map[string]Type{"quantity": {Kind: Int}, "price": {Kind: Amount, Scale: 2, Currency: "EUR"}}}
	env := &Env{Vars: map[string]Type{"state": {}, "old": {}, "key": {Kind: Text}, "at": {Kind: Time}, "rows": ListOf(elem), "first_row": elem},
		Functions: map[string]Function{"setting": {Params: []Kind{Text}, Result: Type{Kind: Int}, Call: func(Input, []any) (any, error) { return int64(5), nil }}}}
	for _, c := range []struct {
		source string
		kind   Kind
		paths  string
		calls  string
	}{
		{"state.address.city", Any, "[state.address.city]", "[]"},
		{"state.a + state.b.c * old.a", Any, "[state.a state.b.c old.a]", "[]"},
		{"state.a > 1 and len(state.lines) == 2", Bool, "[state.a state.lines]", "[len]"},
		{"sum(rows, .quantity * .price)", Amount, "[rows]", "[sum]"},
		{"sum(rows, .price) - first_row.price", Amount, "[rows first_row.price]", "[sum]"},
		{"sum(rows, .quantity)", Int, "[rows]", "[sum]"},
		{"first(rows).price", Amount, "[rows]", "[first]"},
		{"max(map(rows, .price))", Amount, "[rows]", "[max map]"},
		{"date(at)", Day, "[at]", "[date]"},
		{"at > date(at) ? date(at) : date(state.x)", Day, "[at state.x]", "[date]"},
		{"hour(at)", Time, "[at]", "[hour]"},
		{"at - at", Int, "[at]", "[]"},
		{"setting(key) + 1", Int, "[key]", "[setting]"},
		{"key + \"x\"", Text, "[key]", "[]"},
		{"decimal(state.x)", Number, "[state.x]", "[decimal]"},
		{"amount(state.x, 2, \"EUR\")", Amount, "[state.x]", "[amount]"},
		{"filter(rows, .quantity > 1)", List, "[rows]", "[filter]"},
		{"{a: 1}", Row, "[]", "[]"},
		{"1 + 1", Int, "[]", "[]"},
		{"upper(\"a\")", Text, "[]", "[upper]"},
	} {
		p, err := Compile(c.source, env)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		if p.Kind() != c.kind || fmt.Sprint(p.Paths()) != c.paths || fmt.Sprint(p.Calls()) != c.calls {
			t.Errorf("%s: %s, paths %v, calls %v", c.source, p.Kind(), p.Paths(), p.Calls())
		}
	}
	p, err := Compile("old.total + state.total", env)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Uses("old") || p.Uses("key") || !slices.Equal(p.Vars(), []string{"old", "state"}) || p.Source() != "old.total + state.total" {
		t.Errorf("variables %v", p.Vars())
	}
	if path, ok := p.Path(); ok {
		t.Errorf("path %v", path)
	}
	if p, err = Compile("state.address.city", env); err != nil {
		t.Fatal(err)
	}
	if path, ok := p.Path(); !ok || path.String() != "state.address.city" {
		t.Errorf("path %v", path)
	}
	if p, err = Compile("2 * 3 + len(\"a\")", env); err != nil {
		t.Fatal(err)
	}
	if v, ok := p.Constant(); !ok || v != int64(7) {
		t.Errorf("constant %v", v)
	}
	if p, err = Compile("sum(rows, .price)", env); err != nil {
		t.Fatal(err)
	}
	if typ := p.Type(); typ.Scale != 2 || typ.Currency != "EUR" {
		t.Errorf("type %+v", typ)
	}
	if v, err := p.Eval(Vars{"rows": []any{}}); err != nil || v != (money.Amount{Scale: 2, Currency: "EUR"}) {
		t.Errorf("the sum of no amounts is %v, %v", v, err)
	}
	for k, fits := range map[Kind]bool{Amount: true, Number: true, Any: true, Text: false, Bool: false} {
		if err := p.Want(k); (err == nil) != fits {
			t.Errorf("wanted %s: %v", k, err)
		}
	}
}

// TestFunctionsOfTheCaller have what they need from the input.
func TestFunctionsOfTheCaller(t *testing.T) {
	type input struct {
		Vars
		tables map[string]map[string]any
	}
	env := &Env{Vars: map[string]Type{"state": {}}, Functions: map[string]Function{
		"lookup": {Params: []Kind{Text, Text}, Call: func(in Input, args []any) (any, error) {
			table, ok := in.(*input).tables[args[0].(string)]
			if !ok {
				return nil, errors.New("no such table")
			}
			return table[args[1].(string)], nil
		}},
		"nth": {Params: []Kind{Int, Any}, Variadic: true, Call: func(_ Input, args []any) (any, error) { return args[1+args[0].(int64)], nil }},
	}}
	in := &input{Vars{"state": map[string]any{"customer": "42", "n": int64(1)}}, map[string]map[string]any{"customers": {"42": map[string]any{"name": "Ann"}}}}
	for source, want := range map[string]string{
		`lookup("customers", state.customer).name`:          `"Ann"`,
		`lookup("customers", "43").name`:                    "null",
		`lookup("nothing", "43")`:                           `lookup("nothing", "43"): lookup(): no such table`,
		`lookup("customers", state.n)`:                      `lookup("customers", state.n): lookup(): argument 2 is a number, want a text`,
		`nth(state.n, "a", "b")`:                            `"b"`,
		`map([0, 1], nth(#, lookup("customers", "42"), 1))`: `[{"name":"Ann"},1]`,
	} {
		p, err := Compile(source, env)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got, err := result(p.Eval(in))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s = %s, want %s", source, got, want)
		}
	}
}

func TestMismatchIsNull(t *testing.T) {
	env := &Env{Vars: map[string]Type{"doc": {}, "at": {Kind: Time}}, MismatchIsNull: true}
	in := Vars{"doc": map[string]any{"s": "x", "n": int64(1), "at": "2010-12-01T08:26:00Z"}, "at": time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)}
	for source, want := range map[string]string{
		"doc.s * 2": "null", "doc.s + 1": "null", "doc.s > 1": "false", "upper(doc.n)": "null", "sum(doc.s, .x)": "0", "doc.at == at": "false",
		"at - doc.n": "null", "doc.n - at": "null", "max(doc.n, doc.s)": "1", "abs(doc.s)": `"x"`, "doc.n in doc.s": "false", "keys(doc.n)": "null",
	} {
		p, err := Compile(source, env)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := result(p.Eval(in)); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", source, got, err, want)
		}
	}
}

// TestManyGoroutines share a program, each with a document of its own, while
// others compile for the same Env.
func TestManyGoroutines(t *testing.T) {
	env := jsonEnv()
	p, err := Compile("sum(filter(state.lines, .quantity > 0), .quantity * .unit_price)", env)
	if err != nil {
		t.Fatal(err)
	}
	want := money.Amount{Amount: 77980, Scale: 3, Currency: "GBP"}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			doc := env.NewDocument()
			for i := range 300 {
				if err := doc.Read([]byte(shopEvent)); err != nil {
					t.Error(err)
				}
				if v, err := p.Eval(doc); err != nil || v != want {
					t.Errorf("%v, %v", v, err)
				}
				if i%50 == 0 {
					if _, err := Compile(fmt.Sprintf("filter(state.lines, .line_no > %d)", g), env); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestNestedLoopsEnd is that nobody waits for an expression for ever.
func TestNestedLoopsEnd(t *testing.T) {
	list := make([]any, 1000)
	env := &Env{Vars: map[string]Type{"list": {}, "text": {}}}
	in := Vars{"list": list, "text": strings.Repeat("x", 1<<20)}
	for source, want := range map[string]string{
		"len(map(list, len(map(list, any(list, any(list, false))))))": "10 million",
		`replace(text, "x", text)`:                                    "16 MiB",
		"join(map(list, text))":                                       "16 MiB",
		strings.Repeat("text + ", 20) + "text":                        "16 MiB",
	} {
		p, err := Compile(source, env)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Eval(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", source, err, want)
		}
	}
}

func TestMembers(t *testing.T) {
	got, err := Members("new.a + sum(state.lines, .b) + old.doc.x")
	if err != nil {
		t.Fatal(err)
	}
	want := []Member{{"new", "a"}, {"state", "lines"}, {"", "b"}, {"old", "doc"}, {"", "x"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := Members("new."); err == nil {
		t.Error("half an expression is taken")
	}
}
