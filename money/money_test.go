package money

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestParseDecimal(t *testing.T) {
	for _, c := range []struct {
		text  string
		scale int
		want  int64
		fits  bool
	}{
		{"2.55", 3, 2550, true}, {"2.550", 3, 2550, true}, {"2.5500", 3, 2550, true}, {"-0.001", 3, -1, true},
		{"7", 2, 700, true}, {".5", 1, 5, true}, {"9223372036854775807", 0, math.MaxInt64, true},
		{"9223372036854775808", 0, 0, false}, {"92233720368547758.08", 2, 0, false}, {"0.0001", 3, 0, false},
		{"NaN", 2, 0, false}, {"Infinity", 2, 0, false}, {"", 2, 0, false}, {"-", 2, 0, false}, {"1e3", 2, 0, false},
		{"1.2.3", 2, 0, false}, {"1", 19, 0, false}, {"99999999999999999999", 0, 0, false},
	} {
		a, err := ParseDecimal(c.text, c.scale, "GBP")
		var notFit *NotFitError
		if c.fits != (err == nil) || err != nil && !errors.As(err, &notFit) {
			t.Errorf("ParseDecimal(%q, %d): %v", c.text, c.scale, err)
		}
		if err == nil && a.Amount != c.want {
			t.Errorf("ParseDecimal(%q, %d) = %d, want %d", c.text, c.scale, a.Amount, c.want)
		}
	}
}

func TestAmount(t *testing.T) {
	a := Amount{2550, 3, "GBP"}
	b, err := json.Marshal(a)
	if want := `{"amount":2550,"scale":3,"currency":"GBP"}`; err != nil || string(b) != want || string(a.AppendJSON(nil)) != want {
		t.Errorf("JSON = %s, %s, %v, want %s", b, a.AppendJSON(nil), err, want)
	}
	if a.String() != "2.550 GBP" || (Amount{-5, 2, "GBP"}).String() != "-0.05 GBP" || (Amount{7, 0, "JPY"}).String() != "7 JPY" {
		t.Errorf("String = %q", a)
	}
	if _, err := a.Add(Amount{1, 3, "EUR"}); !errors.Is(err, ErrCurrency) {
		t.Errorf("adding currencies: %v", err)
	}
	if sum, err := a.Add(Amount{5, 2, "GBP"}); err != nil || sum != (Amount{2600, 3, "GBP"}) {
		t.Errorf("2.550 + 0.05 = %v, %v", sum, err)
	}
	if _, err := (Amount{math.MaxInt64, 0, "JPY"}).Add(Amount{1, 0, "JPY"}); !errors.Is(err, ErrOverflow) {
		t.Errorf("overflow: %v", err)
	}
	if _, err := (Amount{math.MinInt64, 0, "JPY"}).Times(-1); !errors.Is(err, ErrOverflow) {
		t.Errorf("overflow: %v", err)
	}
	if n, ok := MinorUnit("KWD"); n != 3 || !ok {
		t.Errorf("KWD has %d decimals", n)
	}
	if _, ok := MinorUnit("gbp"); ok {
		t.Error("gbp is a currency")
	}
}

func TestRoundIsHalfAwayFromZero(t *testing.T) {
	for text, want := range map[string]string{"2.5": "3", "-2.5": "-3", "2.49": "2", "-0.4": "0", "0.5": "1", "7": "7"} {
		d, err := ParseNumber(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Round(0).String(); got != want {
			t.Errorf("Round(%s) = %s, want %s", text, got, want)
		}
	}
}

func TestArithmeticIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := rapid.Int64().Draw(t, "x"), rapid.Int64Range(-1e9, 1e9).Draw(t, "y")
		sx, sy := rapid.IntRange(0, 18).Draw(t, "sx"), rapid.IntRange(0, 18).Draw(t, "sy")
		a, b := NewDecimal(x, sx), NewDecimal(y, sy)
		if a.Add(b).Sub(b).Cmp(a) != 0 {
			t.Fatalf("%s + %s - %s is not %s", a, b, b, a)
		}
		back, err := ParseNumber(a.String())
		if err != nil || back.Cmp(a) != 0 {
			t.Fatalf("%s reads back as %s, %v", a, back, err)
		}
		am := Amount{x, sx, "GBP"}
		again, err := ParseDecimal(am.Number(), sx, "GBP")
		if x != math.MinInt64 && (err != nil || again != am) {
			t.Fatalf("%s reads back as %s, %v", am, again, err)
		}
		p, err := am.Times(y)
		if err == nil && p.Decimal().Cmp(a.Mul(NewDecimal(y, 0))) != 0 {
			t.Fatalf("%s * %d = %s", am, y, p)
		}
	})
}
