package compare

import (
	"strings"
	"testing"

	"banyan/money"
)

func TestFiguresAreForPeople(t *testing.T) {
	for _, c := range []struct {
		percent, limit float64
		want           string
	}{
		{17.2413, 15, "17.2 %"}, {4158.9743, 15, "4,159 %"}, {65.7143, 25, "65.7 %"}, {0, 1, "0 %"}, {20, 15, "20 %"},
		{15.0004, 15, "15.0004 %"}, {14.96, 15, "14.96 %"}, {15, 15, "15 %"}, {0.0031, 1, "0.003 %"}, {1500.2, 1500, "1,500.2 %"}, {-3.14159, 2, "-3.1 %"},
	} {
		if got := measured(c.percent, c.limit); got != c.want {
			t.Errorf("%v, where the limit is %v: %q, want %q", c.percent, c.limit, got, c.want)
		}
	}
	for number, want := range map[string]string{"0": "0", "-12": "-12", "999": "999", "1000": "1,000", "-123456.7890": "-123,456.7890", "1234567": "1,234,567"} {
		if got := grouped(number); got != want {
			t.Errorf("%s: %q, want %q", number, got, want)
		}
	}
	for amount, want := range map[int64]string{150000: "+1,500.00 GBP", 0: "0.00 GBP", -150000: "-1,500.00 GBP"} {
		if got := signedWords(money.Amount{Amount: amount, Scale: 2, Currency: "GBP"}); got != want {
			t.Errorf("%d: %q, want %q", amount, got, want)
		}
	}
}

// A loss that falls on a small part of the shop is told with its name.
func TestAVerdictSaysOnWhomItFalls(t *testing.T) {
	d := gain()
	d.factor = flat(1)
	d.edit = func(i int, s *sale) {
		s.segment = "customer=registered"
		if i/3%5 == 0 { // three lines each
			s.segment, s.candidate = "customer=guest", s.control*9/10
		}
	}
	v := analysed(t, shop(d.sales()...), facts, nil).Verdict
	if why := strings.Join(v.Why, "\n"); !strings.Contains(why, "Most of it falls on the segment customer=guest: -") {
		t.Errorf("why:\n%s", why)
	}
	if v := analysed(t, shop(gain().sales()...), facts, nil).Verdict; strings.Contains(strings.Join(v.Why, "\n"), "falls on") {
		t.Errorf("a segment that is the whole shop is told:\n%s", strings.Join(v.Why, "\n"))
	}
}

// A candidate that charges everybody the list price is told so, in money.
func TestAVerdictSaysWhatACandidateDoesNotKnow(t *testing.T) {
	d := gain()
	d.edit = func(i int, s *sale) {
		if i%9 == 0 {
			s.candidate, s.cause = s.control/2, MissingSurcharge
		}
	}
	v := analysed(t, shop(d.sales()...), facts, nil).Verdict
	if why := strings.Join(v.Why, "\n"); !strings.Contains(why, "charges the list price where customers paid more") || strings.Contains(why, "paid less") {
		t.Errorf("why:\n%s", why)
	}
	if v := analysed(t, shop(gain().sales()...), facts, nil).Verdict; strings.Contains(strings.Join(v.Why, "\n"), "list price") {
		t.Errorf("told without a reason:\n%s", strings.Join(v.Why, "\n"))
	}
}
