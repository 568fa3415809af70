package compare

import (
	"testing"

	"pgregory.net/rapid"
)

// line is one with these prices of a piece and sums, in units of 10^-4.
func line(quantity int64, control, candidate Units) *Line {
	return &Line{Quantity: quantity, Control: control, Candidate: candidate, Paid: control * quantity, Quoted: candidate * quantity}
}

func TestCauses(t *testing.T) {
	n := func(i int64) *int64 { return &i }
	total := func(l *Line, quoted Units) *Line {
		l.Quoted = quoted
		return l
	}
	gbp := Clues{Minor: 2, Taxes: []int64{200_000}}
	with := func(change func(*Clues)) Clues {
		c := gbp
		change(&c)
		return c
	}
	for _, c := range []struct {
		name  string
		line  *Line
		clues Clues
		want  Cause
	}{
		{"the same", line(3, 10_500, 10_500), gbp, Same},
		{"the same, though the tax is none", line(3, 0, 0), gbp, Same},
		// V20 of the facts: 3 pieces at 0.105 are 0.33 or 0.30 by the piece, 0.32 by the line.
		{"each piece, half up", line(3, 1_050, 1_100), gbp, Rounding},
		{"each piece, half to even", line(3, 1_050, 1_000), gbp, Rounding},
		{"the line", total(line(3, 1_050, 1_050), 3_200), gbp, Rounding},
		{"the line, down to what no rounding gives", total(line(3, 1_050, 1_050), 3_000), gbp, Policy},
		{"a price that is whole pennies is no rounding", line(3, 1_100, 1_050), gbp, Policy},
		{"more than half a penny is no rounding", line(3, 1_040, 1_100), gbp, Policy},
		{"a whole penny is no rounding", line(1, 1_000, 1_100), gbp, Policy},
		{"yen have no decimals", line(1, 1_000_000, 1_010_000), Clues{Minor: 0}, Policy},
		{"yen and a half, rounded", line(2, 15_000, 20_000), Clues{Minor: 0}, Rounding},
		{"yen and a half, cut", line(2, 15_000, 10_000), Clues{Minor: 0}, Rounding},
		{"a dinar has three decimals", line(1, 10_005, 10_010), Clues{Minor: 3}, Rounding},
		{"and a penny of it is ten units", line(1, 10_005, 10_020), Clues{Minor: 3}, Policy},
		{"whole units of four decimals cannot be rounded", line(1, 10_005, 10_006), Clues{Minor: 4}, Policy},
		{"tax on", line(2, 100_000, 120_000), gbp, TaxOrder},
		{"tax on, to the penny", line(1, 9_900, 11_900), gbp, TaxOrder},
		{"tax off", line(2, 120_000, 100_000), gbp, TaxOrder},
		{"the other tax on", line(2, 100_000, 105_500), with(func(c *Clues) { c.Taxes = []int64{200_000, 55_000} }), TaxOrder},
		{"nearly a tax", line(2, 100_000, 120_100), gbp, Policy},
		{"tax on, where none is known", line(2, 100_000, 120_000), Clues{Minor: 2}, Policy},
		{"a discount is missing", line(10, 90_000, 99_000), with(func(c *Clues) { c.List, c.Tier, c.TierQuantity = 99_000, 90_000, 10 }), MissingDiscount},
		{"a surcharge is missing", line(1, 198_000, 99_000), with(func(c *Clues) { c.List = 99_000 }), MissingSurcharge},
		{"a surcharge, and a price that is not of the list", line(1, 198_000, 98_000), with(func(c *Clues) { c.List = 99_000 }), Policy},
		{"a surcharge that is a tax", line(1, 120_000, 100_000), with(func(c *Clues) { c.List = 100_000 }), TaxOrder},
		{"a surcharge, and the list price before", line(1, 198_000, 97_000), with(func(c *Clues) { c.List, c.Previous = 99_000, 97_000 }), StalePrice},
		{"the list price was raised, and is charged", line(1, 99_000, 99_000), with(func(c *Clues) { c.List = 99_000 }), Same},
		{"an old list price", line(1, 99_000, 97_000), with(func(c *Clues) { c.List, c.Previous = 99_000, 97_000 }), StalePrice},
		{"no old list price", line(1, 99_000, 97_000), with(func(c *Clues) { c.List = 99_000 }), Policy},
		{"another stock", line(1, 99_000, 97_000), with(func(c *Clues) { c.Stock, c.SawStock = n(5), n(4) }), StaleStock},
		{"a stock that nobody knows", line(1, 99_000, 97_000), with(func(c *Clues) { c.SawStock = n(4) }), StaleStock},
		{"the same stock", line(1, 99_000, 97_000), with(func(c *Clues) { c.Stock, c.SawStock = n(5), n(5) }), Policy},
		{"it does not say which stock", line(1, 99_000, 97_000), with(func(c *Clues) { c.Stock = n(5) }), Policy},
		{"the same sum by another price of a piece", total(line(3, 99_000, 99_100), 297_000), gbp, Same},
		{"it means it", line(1, 99_000, 97_000), gbp, Policy},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.clues.Cause(c.line); got != c.want {
				t.Errorf("%+v with %+v: %s, want %s", *c.line, c.clues, got, c.want)
			}
		})
	}
}

// Whatever the prices are there is a cause, and it is Same where nothing differs and
// never where the sum does.
func TestSameIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := &Line{Quantity: rapid.Int64().Draw(t, "quantity"), Control: wild.Draw(t, "control"), Candidate: wild.Draw(t, "candidate"), Paid: wild.Draw(t, "paid"), Quoted: wild.Draw(t, "quoted")}
		c := Clues{List: wild.Draw(t, "list"), Previous: wild.Draw(t, "previous"), Minor: rapid.IntRange(0, 4).Draw(t, "minor"), Taxes: []int64{200_000}}
		if got := c.Cause(n); got == Same && n.Paid != n.Quoted {
			t.Fatalf("%+v is the same", *n)
		}
		n.Candidate, n.Quoted = n.Control, n.Paid
		if got := c.Cause(n); got != Same {
			t.Fatalf("%+v is %s", *n, got)
		}
	})
}
