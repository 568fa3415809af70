package translate

import (
	"strings"
	"testing"

	"banyan/expression"
)

// TestExpressions runs expressions on a row, NULLs and money included.
func TestExpressions(t *testing.T) {
	table := parseTable(1, "public", "x", strings.Split(`n integer
		big bigint
		none integer
		price numeric(12,3)
		rate numeric
		word text
		yes boolean
		void boolean
		at timestamp
		doc jsonb
		list integer[]`, "\n"))
	rt := &rowType{what: "x", index: map[string]int{}}
	for i := range table.Columns {
		c := column{name: table.Columns[i].Name, typeName: table.Columns[i].TypeName, codec: codecOf(table.Columns[i].TypeName)}
		if c.name == "price" {
			c.codec = codec{kind: kindMoney, scale: 3, unit: "GBP"}
		}
		rt.index[c.name] = i
		rt.cols = append(rt.cols, c)
	}
	texts := map[string]string{"n": "7", "big": "9223372036854775807", "price": "2.550", "rate": "0.1", "word": "Ünï", "yes": "t", "at": "2010-12-01 08:26:00",
		"doc": `{"a":{"b":[1,2.50]},"s":"x"}`, "list": "{3,1,2}"}
	vals := make(row, len(rt.cols))
	for name, text := range texts {
		vals[rt.index[name]] = val{text, valText}
	}
	s := &scope{rows: map[string]*rowType{"new": rt}, many: map[string]*rowType{"rows": rt}}
	run := runner{env: map[string]any{"new": &rowValue{t: rt, vals: vals}, "rows": []any{&rowValue{t: rt, vals: vals}, &rowValue{t: rt, vals: vals}}, "op": "insert", "key": "1"}}
	for source, want := range map[string]string{
		"new.n + 1": "8", "new.big + 1": `"9223372036854775808"`, "new.big * new.big": `"85070591730234615847396907784232501249"`,
		"new.none + 1": "null", "new.none > 0": "false", "new.none == nil": "true", "new.n != nil": "true", "not new.void": "true",
		"new.void or new.yes": "true", "new.void ? 1 : 2": "2", "new.price * 3": `{"amount":7650,"scale":3,"currency":"GBP"}`,
		"new.price > 2.549 and new.price < 2.551": "true", "new.price - new.price == 0": "true", "new.price + new.n": `"9.550"`,
		"new.rate * 3": `"0.3"`, "new.rate + 0.2 == 0.3": "true", "-new.n": "-7", "new.n % 4": "3", "new.n % 0": "null",
		"upper(new.word)": `"ÜNÏ"`, "len(new.word)": "3", `new.word + "!"`: `"Ünï!"`, `new.word startsWith "Ü"`: "true", `new.word in ["a", "Ünï"]`: "true",
		"new.doc.a.b[1]": "2.50", "new.doc.a.nothing.more": "null", "new.doc.a.b[9]": "null", `new.doc.s == "x"`: "true", "new.doc.a": `{"b":[1,2.50]}`,
		"new.list[0]": "3", "max(new.list)": "3", "sum(new.list)": "6", "len(filter(new.list, # > 1))": "2", "new.at": `"2010-12-01T08:26:00Z"`, "new.at < new.at": "false",
		"sum(rows, .price)": `{"amount":5100,"scale":3,"currency":"GBP"}`, "sum(filter(rows, .n > 9), .price)": `{"amount":0,"scale":3,"currency":"GBP"}`,
		"sum(rows, .n)": "14", "map(rows, .n)": "[7,7]", "first(rows).n": "7", "first(filter(rows, .n > 9)).n": "null", "count(rows, .yes)": "2", "all(rows, .void)": "false",
		"any(rows, .n == 7)": "true", "find(rows, .n == 8)": "null", `join(map(rows, .word), ",")`: `"Ünï,Ünï"`, "round(new.rate * 25, 0)": `"3"`, "string(new.price)": `"2.550"`,
		"new.none ?? 5": "5", `op == "insert" ? key : nil`: `"1"`, "abs(-new.price)": `{"amount":2550,"scale":3,"currency":"GBP"}`,
	} {
		e, err := compileExpression(source, s, expression.Any)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got, err := run.appendJSON(nil, e)
		if err != nil || string(got) != want {
			t.Errorf("%s = %s, %v; want %s", source, got, err, want)
		}
	}
	for _, source := range []string{"new.nothing", "old.n", "new.n and true", "new.word - 1", "new.word > 1", "now()", "new.n ** 2", "new.word matches 'x'", "1..9", "new.word[1:2]",
		"$env", "let x = 1; x", "new.at + 1", "rows.n", "filter(rows, .nothing)", "0.1234567890123456789", "nosuch(1)", "new.word.Len()", "sum(rows, .word)"} {
		if _, err := compileExpression(source, s, expression.Any); err == nil {
			t.Errorf("%s is taken", source)
		}
	}
}
