package expression

import (
	"errors"
	"testing"
	"time"
)

// FuzzEval compiles and evaluates: it never panics, it ends, and a document
// gives what the whole value gives.
func FuzzEval(f *testing.F) {
	for _, source := range []string{
		"state.address.city", "sum(filter(state.lines, .quantity > 0), .quantity * .unit_price)", `a ? b : c ?? "x"`, "date(occurredAt) == date(state.placed_at)",
		"map(state.lines, ({id: .product_id, n: #index}))", `lookup("t", state.id).x[0]?.y`, "state?.a?.b.c[1][-1]", "round(state.total * 0.175, 2)", `replace(text(state), "a", channel)`,
		"not (1 < state.id <= 2) and state.id in [1, 2.50, nil]", `amount("1.5", 2, "EUR") - goods`, "max(map(state.lines, .unit_price), 1)", "if state.id > 1 { 1 } else { 2 }; 3",
		"keys(state)[0] + join(changed)", `time("2010-12-01") - duration("5m") * 3 % 2`, "all(state.lines, any(state.lines, # == 1)) || one(changed, true)",
	} {
		f.Add(source, shopEvent)
	}
	f.Fuzz(func(t *testing.T, source, raw string) {
		if len(source) > 2000 || len(raw) > 5000 {
			return
		}
		for _, lenient := range []bool{false, true} {
			env := jsonEnv()
			env.MismatchIsNull = lenient
			env.Functions = map[string]Function{"lookup": {Params: []Kind{Text, Any}, Call: func(_ Input, args []any) (any, error) { return args[1], nil }}}
			p, err := Compile(source, env)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Message == "" {
					t.Fatalf("not an *Error: %v", err)
				}
				continue
			}
			if _, err := Members(source); err != nil {
				t.Fatalf("compiled, but Members says %v", err)
			}
			all, err := FromJSON([]byte(raw))
			vars, ok := all.(map[string]any)
			if err != nil || !ok {
				continue
			}
			begin := time.Now()
			one, err1 := result(p.Eval(Vars(vars)))
			doc := env.NewDocument()
			if err := doc.Read([]byte(raw)); err != nil {
				t.Fatal(err)
			}
			two, err2 := result(p.Eval(doc))
			if one != two || (err1 == nil) != (err2 == nil) {
				t.Fatalf("%s, %v on values; %s, %v on a document", one, err1, two, err2)
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Fatalf("took %s", took)
			}
		}
	})
}
