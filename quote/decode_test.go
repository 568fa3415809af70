package quote

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const priced = `{"id":"a","asOf":"1:0/400","lines":[{"line":1,"unit":{"amount":2550,"scale":3,"currency":"GBP"},"propensity":"0.25"}]}`

func TestDecodeResponse(t *testing.T) {
	integer := "want a whole number, without fraction or exponent, in 64 bits"
	whole := `want all of an amount: {"amount": 2550, "scale": 3, "currency": "GBP"}`
	for name, tc := range map[string]struct {
		body string
		want Faults
	}{
		"good":              {`{"answers":[` + priced + `]}`, nil},
		"none":              {`{"answers":[]}`, nil},
		"unknown fields":    {`{"answers":[` + strings.Replace(priced, `"line":1`, `"line":1,"vat":0.2,"note":null`, 1) + `],"took":1.5}`, nil},
		"float":             {`{"answers":[` + strings.Replace(priced, "2550", "2550.0", 1) + `]}`, Faults{{"answers[0].lines.unit.amount", "2550.0", integer}}},
		"exponent":          {`{"answers":[` + strings.Replace(priced, "2550", "255E1", 1) + `]}`, Faults{{"answers[0].lines.unit.amount", "255E1", integer}}},
		"line a float":      {`{"answers":[` + strings.Replace(priced, `"line":1`, `"line":1.0`, 1) + `]}`, Faults{{"answers[0].lines.line", "1.0", integer}}},
		"price a text":      {`{"answers":[` + strings.Replace(priced, "2550", `"2550"`, 1) + `]}`, Faults{{"answers[0].lines.unit.amount", "string", integer}}},
		"price a bare nr":   {`{"answers":[` + strings.Replace(priced, `{"amount":2550,"scale":3,"currency":"GBP"}`, "2.55", 1) + `]}`, Faults{{"answers[0].lines.unit", "number", "want an object"}}},
		"NaN":               {`{"answers":[` + strings.Replace(priced, "2550", "NaN", 1) + `]}`, Faults{{"body", "", "want JSON: invalid character 'N' looking for beginning of value"}}},
		"amount null":       {`{"answers":[` + strings.Replace(priced, "2550", "null", 1) + `]}`, Faults{{"answers[0].lines[0].unit", "", whole}, {"answers[0].lines[0].unit", "", "want an amount"}}},
		"no scale":          {`{"answers":[` + strings.Replace(priced, `"scale":3,`, "", 1) + `]}`, Faults{{"answers[0].lines[0].unit", "", whole}, {"answers[0].lines[0].unit", "", "want an amount"}}},
		"no unit":           {`{"answers":[` + strings.Replace(priced, `"unit"`, `"price"`, 1) + `]}`, Faults{{"answers[0].lines[0].unit", "", "want an amount"}}},
		"below zero":        {`{"answers":[` + strings.Replace(priced, "2550", "-1", 1) + `]}`, Faults{{"answers[0].lines[0].unit.amount", "-1", "want 0 or more"}}},
		"position":          {`{"answers":[` + strings.Replace(priced, "1:0/400", "now", 1) + `]}`, Faults{{"answers[0].asOf", "now", "want generation:LSN, such as 1:0/1A2B3C8"}}},
		"propensity":        {`{"answers":[` + strings.Replace(priced, "0.25", "1.01", 1) + `]}`, Faults{{"answers[0].lines[0].propensity", "1.01", `want a decimal above 0 and at most 1, as text: "0.25"`}}},
		"propensity 1e-300": {`{"answers":[` + strings.Replace(priced, "0.25", "1e-300", 1) + `]}`, Faults{{"answers[0].lines[0].propensity", "1e-300", `want a decimal above 0 and at most 1, as text: "0.25"`}}},
		"no answers":        {`{}`, Faults{{"answers", "", "want a list of answers"}}},
		"answers null":      {`{"answers":null}`, Faults{{"answers", "", "want a list of answers"}}},
		"an answer null":    {`{"answers":[null]}`, Faults{{"answers[0].id", "", "want the id of the order, echoed"}}},
		"an answer a text":  {`{"answers":["a"]}`, Faults{{"answers[0]", "string", "want an object"}}},
		"HTML":              {`<html>502</html>`, Faults{{"body", "", "want JSON: invalid character '<' looking for beginning of value"}}},
		"cut off":           {`{"answers":[` + priced, Faults{{"body", "", "want JSON: unexpected end of JSON input"}}},
		"two of them":       {`{"answers":[]}{"answers":[]}`, Faults{{"body", "", "want JSON: invalid character '{' after top-level value"}}},
		"a line twice": {`{"answers":[{"id":"a","lines":[{"line":1,"unit":{"amount":1,"scale":0,"currency":"JPY"}},{"line":1,"unit":{"amount":1,"scale":0,"currency":"JPY"}}]}]}`,
			Faults{{"answers[0].lines[1].line", "1", "want each line of the order once"}}},
		"total in another currency": {`{"answers":[{"id":"a","lines":[{"line":1,"unit":{"amount":1,"scale":0,"currency":"JPY"},"total":{"amount":1,"scale":2,"currency":"GBP"}}]}]}`,
			Faults{{"answers[0].lines[0].total.currency", "GBP", "want that of unit"}}},
		"a step without its price": {`{"answers":[{"id":"a","lines":[{"line":1,"unit":{"amount":1,"scale":0,"currency":"JPY"},"trail":[{"rule":"x","from":{"amount":1,"scale":0,"currency":"JPY"}}]}]}]}`,
			Faults{{"answers[0].lines[0].trail[0].to", "", "want an amount"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeResponse([]byte(tc.body))
			var faults Faults
			if err != nil && !errors.As(err, &faults) {
				t.Fatalf("the error is no Faults: %v", err)
			}
			if diff := cmp.Diff(tc.want, faults); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if (len(got.Answers) > 0) != (name == "good" || name == "unknown fields") {
				t.Errorf("it gives %d answers", len(got.Answers))
			}
		})
	}
}

// TestDecodeResponseKeepsGoodAnswers has one bad answer among three.
func TestDecodeResponseKeepsGoodAnswers(t *testing.T) {
	second := strings.Replace(strings.Replace(priced, `"a"`, `"b"`, 1), "2550", "1.5", 1)
	third := strings.Replace(priced, `"a"`, `"c"`, 1)
	got, err := DecodeResponse([]byte(`{"candidate":"x","answers":[` + priced + `,` + second + `,` + third + `]}`))
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 1 || !strings.HasPrefix(faults[0].Field, "answers[1].") {
		t.Errorf("it says %v", err)
	}
	if len(got.Answers) != 2 || got.Answers[0].ID != "a" || got.Answers[1].ID != "c" || got.Candidate != "x" {
		t.Errorf("it gives %+v", got)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	_, err := DecodeResponse([]byte(`{"answers":[` + strings.Repeat("{},", 500) + `{}]}`))
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != maxFaults {
		t.Errorf("%d faults are told", len(faults))
	}
	if text := faults.Error(); strings.Count(text, "\n") != maxFaults-1 || !strings.Contains(text, "answers[3].id: want the id") {
		t.Errorf("as text: %s", text)
	}
	if got, want := (Fault{"a", "b", "want c"}).Error(), `a: value "b": want c`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAsOf(t *testing.T) {
	for _, text := range []string{"1:0/0", "1:0/1A2B3C8", "2147483647:FFFFFFFF/FFFFFFFF"} {
		g, lsn, err := ParseAsOf(text)
		if err != nil || FormatAsOf(g, lsn) != text {
			t.Errorf("%s is read as %d, %X, %v", text, g, lsn, err)
		}
	}
	for _, text := range []string{"", "1", "1:", "1:0", "1:0/", "1:/0", "0:0/1", "-1:0/1", "+1:0/1", "1:0/1.0", "1:0/1A2B3C8.s1", "1:0/G", "1:0/123456789",
		"2147483648:0/1", " 1:0/1", "1:0/1 ", "1:+0/1", "1:0/-1", "1:0x0/1", strings.Repeat("1", 100_000)} {
		if _, _, err := ParseAsOf(text); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.20s is read with %v", text, err)
		}
	}
	for _, tc := range []struct {
		a, b string
		want int
	}{{"1:0/5", "1:0/5", 0}, {"1:0/4", "1:0/5", -1}, {"1:1/0", "1:0/FFFFFFFF", 1}, {"2:0/0", "1:FFFFFFFF/FFFFFFFF", 1}} {
		if got, err := CompareAsOf(tc.a, tc.b); err != nil || got != tc.want {
			t.Errorf("%s and %s: %d, %v", tc.a, tc.b, got, err)
		}
	}
	for _, bad := range [][2]string{{"x", "1:0/1"}, {"1:0/1", "x"}} {
		if _, err := CompareAsOf(bad[0], bad[1]); err == nil {
			t.Errorf("%v compare", bad)
		}
	}
}

func FuzzDecodeResponse(f *testing.F) {
	for _, s := range []string{"", "null", `{"answers":[` + priced + `]}`, `{"answers":[{"id":"a","declined":"no"}]}`, `{"answers":[{"id":"a","lines":[{"unit":{"amount":1e3}}]}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeResponse(body)
		for i := range r.Answers {
			if err := r.Answers[i].Check(); err != nil {
				t.Fatalf("a wrong answer comes through: %v", err)
			}
		}
		if err != nil {
			if faults := (Faults)(nil); !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("the error is no Faults: %v", err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeResponse(again)
		if err != nil {
			t.Fatalf("it cannot be read back: %v", err)
		}
		if diff := cmp.Diff(r, back, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("it comes back as another: %s", diff)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"orders":[` + orderJSON("a", "account") + `]}`))
	f.Add([]byte(`{"orders":[{"lines":[{}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeRequest(body)
		if (err == nil) != (len(r.Orders) > 0) {
			t.Fatalf("%d orders and %v", len(r.Orders), err)
		}
		for i := range r.Orders {
			if err := r.Orders[i].Check(); err != nil {
				t.Fatalf("a wrong order comes through: %v", err)
			}
		}
	})
}
