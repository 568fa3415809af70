package compare

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Low and High bound what the candidate's prices would have changed in a return,
// whichever of the product's moves the goods had: exactly, in fractions.
func TestReturnsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewLedger()
		type move struct{ paid, quoted Units }
		amounts := rapid.SampledFrom([]*rapid.Generator[int64]{rapid.Int64Range(1, 3_000_000), rapid.Int64Range(1, 1<<58)}).Draw(t, "amounts")
		moves := map[string][]move{}
		for i := range rapid.IntRange(1, 6).Draw(t, "lines") {
			product := fmt.Sprint("p", rapid.IntRange(0, 2).Draw(t, "product"))
			m := move{paid: amounts.Draw(t, "paid")}
			m.quoted = max(m.paid+rapid.Int64Range(-m.paid/2-1, m.paid/2+1).Draw(t, "change"), 1)
			n := Line{Line: 1, Product: product, Currency: "GBP", Quantity: 1, Control: m.paid, Paid: m.paid, Candidate: m.quoted, Quoted: m.quoted, Cause: Policy}
			o := Order{Offset: int64(i), Cluster: "c", Lines: []Line{n}}
			if l.Take(&o); o.Lines[0].Reason == "" {
				moves[product] = append(moves[product], m)
			}
		}
		product := fmt.Sprint("p", rapid.IntRange(0, 3).Draw(t, "returned"))
		back := -amounts.Draw(t, "credit")
		if l.Book("GBP").Volume > maxVolume+back {
			return // no room: see the next test
		}
		l.TakeReturn([]Return{{Product: product, Currency: "GBP", Quantity: -1, Control: back, Linked: true}})
		r := l.Book("GBP").Returns.Linked
		if len(moves[product]) == 0 {
			if r.Unbounded != back || r.Low != 0 || r.High != 0 {
				t.Fatalf("nothing is known of %s, but %+v", product, r)
			}
			return
		}
		for _, m := range moves[product] {
			effect := new(big.Rat).SetFrac(big.NewInt(m.quoted-m.paid), big.NewInt(m.paid))
			effect.Mul(effect, new(big.Rat).SetInt64(back))
			if r.Unbounded == 0 && (effect.Cmp(new(big.Rat).SetInt64(r.Low)) < 0 || effect.Cmp(new(big.Rat).SetInt64(r.High)) > 0) {
				t.Fatalf("from %d to %d changes %s in a return of %d: not between %d and %d", m.paid, m.quoted, effect.FloatString(4), back, r.Low, r.High)
			}
		}
	})
}

func TestReturnsAreCounted(t *testing.T) {
	l := NewLedger()
	l.Take(&Order{Lines: []Line{{Line: 1, Product: "cup", Currency: "GBP", Quantity: 1, Control: 100, Paid: 100, Candidate: 110, Quoted: 110}}})
	l.TakeReturn([]Return{{"cup", "GBP", -2, -200, true}, {"pot", "GBP", -1, -50, true}})
	l.TakeReturn([]Return{{"cup", "GBP", -1, -101, false}})
	l.TakeReturn(nil)
	want := Returns{Linked: Returned{Events: 1, Lines: 2, Pieces: -3, Control: -250, Low: -20, High: -20, Unbounded: -50},
		Unlinked: Returned{Events: 1, Lines: 1, Pieces: -1, Control: -101, Low: -11, High: -10}}
	if diff := cmp.Diff(want, l.Book("GBP").Returns); diff != "" {
		t.Errorf("returns (-want +got):\n%s", diff)
	}
	// A candidate that changes nothing changes nothing in returns, to the unit.
	l.Take(&Order{Lines: []Line{{Line: 1, Product: "pin", Currency: "JPY", Quantity: 1, Control: 3, Paid: 3, Candidate: 3, Quoted: 3}}})
	l.TakeReturn([]Return{{"pin", "JPY", -1, -7, true}})
	if r := l.Book("JPY").Returns.Linked; r.Low != 0 || r.High != 0 || r.Unbounded != 0 {
		t.Errorf("of the same prices: %+v", r)
	}
}

// What a thousandfold move does to a return nobody can say, and what does not fit is
// counted without its money.
func TestReturnsOutOfReason(t *testing.T) {
	l := NewLedger()
	l.Take(&Order{Lines: []Line{{Line: 1, Product: "p", Currency: "GBP", Quantity: 1, Control: 1, Paid: 1, Candidate: 5000, Quoted: 5000}}})
	l.TakeReturn([]Return{{"p", "GBP", -1, -10, true}})
	if r := l.Book("GBP").Returns.Linked; r.Unbounded != -10 || r.Low != 0 {
		t.Errorf("after a move by 5000: %+v", r)
	}
	rapid.Check(t, func(t *rapid.T) {
		l := ledgerOf(anyOrders(t, wild))
		var pieces, control sum
		for range rapid.IntRange(0, 10).Draw(t, "returns") {
			n := Return{"p0", "GBP", -magnitude(wild.Draw(t, "quantity")), wild.Draw(t, "control"), true}
			fits := l.Book("GBP").roomFor(n.Control)
			l.TakeReturn([]Return{n})
			if pieces.add(n.Quantity); fits {
				control.add(n.Control)
			}
			l.TakeRefused([]Refusal{{"GBP", magnitude(n.Quantity), magnitude(n.Quantity), magnitude(n.Control)}})
		}
		b := l.Book("GBP")
		r := b.Returns.Linked
		if !control.is(r.Control) || pieces.n.IsInt64() && !pieces.is(r.Pieces) || !pieces.n.IsInt64() && r.Pieces != math.MinInt64 {
			t.Fatalf("%+v, want %s, and %s pieces or the least there are", r, &control.n, &pieces.n)
		}
		if b.Volume < 0 || b.Volume > maxVolume || b.Rejected.Wanted < 0 || b.Rejected.Control < 0 || r.Low > r.High {
			t.Fatalf("volume %d, %+v, %+v", b.Volume, b.Rejected, r)
		}
	})
}

func TestSharesLieBetweenWholeUnits(t *testing.T) {
	for _, c := range []struct {
		u, ppm   int64
		down, up Units
	}{
		{1_000_000, 5, 5, 5}, {1_000_001, 5, 5, 6}, {-1_000_001, 5, -6, -5}, {1_000_001, -5, -6, -5}, {-1_000_001, -5, 5, 6}, {3, 100_000, 0, 1}, {0, 7, 0, 0},
		{maxVolume, 2_000_000, maxVolume, maxVolume}, {-maxVolume, 999_999_999, -maxVolume, -maxVolume},
	} {
		if down, up := share(c.u, c.ppm); down != c.down || up != c.up {
			t.Errorf("share(%d, %d) = %d, %d, want %d, %d", c.u, c.ppm, down, up, c.down, c.up)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		u, ppm := wild.Draw(t, "u"), rapid.Int64Range(-farthest, farthest).Draw(t, "ppm")
		down, up := share(u, ppm)
		exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(u), big.NewInt(ppm)), big.NewInt(1_000_000))
		if limit := new(big.Rat).SetInt64(maxVolume); new(big.Rat).Abs(exact).Cmp(limit) > 0 {
			if magnitude(down) != maxVolume || magnitude(up) != maxVolume {
				t.Fatalf("%d ppm of %d are %d to %d", ppm, u, down, up)
			}
			return
		}
		if exact.Cmp(new(big.Rat).SetInt64(down)) < 0 || exact.Cmp(new(big.Rat).SetInt64(up)) > 0 || up-down > 1 {
			t.Fatalf("%d ppm of %d are %s, not between %d and %d", ppm, u, exact.FloatString(3), down, up)
		}
	})
}

func TestRefusedDemandIsListed(t *testing.T) {
	l := NewLedger()
	l.TakeRefused([]Refusal{{"GBP", 10, 4, 1000}, {"GBP", 3, 3, 300}, {"EUR", 1, 1, 100}})
	l.TakeRefused([]Refusal{{"GBP", 1, 0, 100}})
	if diff := cmp.Diff(Rejected{Events: 2, Lines: 3, Wanted: 14, Short: 7, Control: 1400}, l.Book("GBP").Rejected); diff != "" {
		t.Errorf("in GBP (-want +got):\n%s", diff)
	}
	if got := l.Book("EUR").Rejected; got.Events != 1 || l.Consumed != 0 {
		t.Errorf("in EUR %+v; %d orders consumed", got, l.Consumed)
	}
}
