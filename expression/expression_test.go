package expression

import (
	"testing"
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

func TestOnJSON(t *testing.T) {
	for source, want := range map[string]string{
		"state.address.city":                        `"London"`,
		"state.total":                               `{"amount":46590,"scale":3,"currency":"GBP"}`,
		"state.total.amount":                        "46590",
		"state.nothing.more":                        "null",
		"state.lines[0].line_no + 1":                "2",
		"sum(state.lines, .quantity * .unit_price)": `{"amount":74590,"scale":3,"currency":"GBP"}`,
		"sum(filter(state.lines, .quantity > 0), .quantity * .unit_price)":  `{"amount":77980,"scale":3,"currency":"GBP"}`,
		"sum(filter(state.lines, .quantity > 99), .quantity * .unit_price)": "0",
		"len(state.lines)":                               "5",
		"map(state.lines, .product_id)":                  "[7,8,9,10,11]",
		"filter(state.lines, .line_no == 2)":             `[{"description":"WHITE METAL LANTERN","line_no":2,"product_id":8,"quantity":6,"unit_price":{"amount":3390,"scale":3,"currency":"GBP"}}]`,
		"state.attributes.weight * 2":                    `"3.00"`,
		"date(state.placed_at)":                          `"2010-12-01"`,
		`state.placed_at > time("2010-12-01T08:00:00Z")`: "true",
		`state.placed_at - time("2010-12-01T08:00:00Z")`: "1560",
		`"a" in state.attributes.tags`:                   "true",
		"state.country * 2":                              `state.country * 2: a text * a number; decimal(), int() and time() read texts`,
	} {
		env := jsonEnv()
		p, err := Compile(source, env)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got := both(t, env, p, shopEvent); got != want {
			t.Errorf("%s = %s, want %s", source, got, want)
		}
	}
}
