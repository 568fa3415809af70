package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"banyan/money"
)

// sales draws a shop in which prices are whole pence, of up to two currencies.
func sales(t *rapid.T) []sale {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) sale {
		s := sale{product: fmt.Sprintf("P%d", rapid.IntRange(0, 9).Draw(t, "product")), quantity: rapid.Int64Range(1, 50).Draw(t, "quantity"),
			control: 100 * rapid.Int64Range(1, 20_000).Draw(t, "control"), candidate: 100 * rapid.Int64Range(1, 20_000).Draw(t, "candidate"),
			customer: fmt.Sprintf("c%d", rapid.IntRange(0, 40).Draw(t, "customer")), day: rapid.Int32Range(0, 30).Draw(t, "day"),
			currency: rapid.SampledFrom([]string{"GBP", "GBP", "EUR"}).Draw(t, "currency"),
			segment:  rapid.SampledFrom([]string{"", "country=France", "country=Peru"}).Draw(t, "segment"),
			noCost:   rapid.Bool().Draw(t, "no cost"), stock: rapid.Int64Range(0, 100).Draw(t, "stock"), stockKnown: rapid.Bool().Draw(t, "stock known"),
			reason: rapid.SampledFrom([]Reason{"", "", "", Timeout, Free, Sampled}).Draw(t, "reason"), partition: rapid.IntRange(0, 5).Draw(t, "partition")}
		s.guest = s.customer < "c2" // c0, c1 and c10 to c19
		s.cost = s.control * rapid.Int64Range(0, 120).Draw(t, "cost") / 100
		return s
	}), 1, 120).Draw(t, "sales")
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := sales(t)
		want, err := json.Marshal(analysed(t, shop(drawn...), facts, nil))
		if err != nil {
			t.Fatalf("write the report: %v", err)
		}
		// The orders come in any order: another partition may be ahead.
		l := NewLedger()
		seed := rapid.Uint64().Draw(t, "order of orders")
		for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(drawn)) {
			l.Take(drawn[i].order(int64(i)))
		}
		got, err := json.Marshal(analysed(t, l, facts, nil))
		if err != nil {
			t.Fatalf("write the report: %v", err)
		}
		if !bytes.Equal(want, got) {
			t.Errorf("orders in another order (-want +got):\n%s", cmp.Diff(string(want), string(got)))
		}
	})
}

func TestNamesOfCustomersDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := sales(t)
		want := analysed(t, shop(drawn...), facts, nil)
		for i := range drawn {
			drawn[i].customer = fmt.Sprintf("%x", []byte(drawn[i].customer+" of another salt"))
		}
		got := analysed(t, shop(drawn...), facts, nil)
		if want.Inputs.Digest == got.Inputs.Digest && want.Window.Lines > 0 {
			t.Error("the digest is the same for another ledger")
		}
		got.Inputs.Digest = want.Inputs.Digest
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with other names (-want +got):\n%s", diff)
		}
	})
}

func TestAnIdenticalCandidateIsNeverReady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := gain()
		d.customers, d.factor, d.cost = rapid.IntRange(0, 400).Draw(t, "customers"), flat(1), rapid.Float64Range(0, 1.2).Draw(t, "cost")
		r := analysed(t, shop(d.sales()...), facts, nil)
		if r.Verdict.Rung == Ready || r.Verdict.Rung == DoNot {
			t.Errorf("a candidate with the same prices is %q", r.Verdict.Rung)
		}
		for _, m := range r.Currencies {
			if m.Headline.Diff.Amount != 0 || m.Headline.Margin.Diff.Amount != 0 || m.Demand.Curve[0].Margin.Amount != 0 {
				t.Errorf("the same prices differ: %+v, %+v", m.Headline, m.Demand.Curve[0])
			}
		}
	})
}

func TestScaledPricesScaleTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn, by := sales(t), rapid.Int64Range(2, 90).Draw(t, "factor")
		before := analysed(t, shop(drawn...), facts, nil)
		for i := range drawn {
			drawn[i].control, drawn[i].candidate, drawn[i].cost = by*drawn[i].control, by*drawn[i].candidate, by*drawn[i].cost
		}
		after := analysed(t, shop(drawn...), facts, nil)
		if before.Verdict.Rung != after.Verdict.Rung {
			t.Errorf("rung %q, %d times dearer %q", before.Verdict.Rung, by, after.Verdict.Rung)
		}
		for i, m := range before.Currencies {
			for name, pair := range map[string][2]money.Amount{
				"revenue": {m.Headline.Diff, after.Currencies[i].Headline.Diff},
				"margin":  {m.Headline.Margin.Diff, after.Currencies[i].Headline.Margin.Diff},
			} {
				want, err := pair[0].Times(by)
				if err != nil {
					t.Fatalf("scale the difference: %v", err)
				}
				if order, err := want.Cmp(pair[1]); err != nil || order != 0 {
					t.Errorf("difference of %s %s, %d times dearer %s", name, pair[0], by, pair[1])
				}
			}
		}
	})
}

func TestTheCurveAgreesWithWhatIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, m := range analysed(t, shop(sales(t)...), facts, nil).Currencies {
			last := m.Demand.Curve[len(m.Demand.Curve)-1]
			if last.Elasticity != 0 || last.Revenue != m.Headline.Diff || last.Margin != m.Headline.Margin.Diff || last.MarginLinear != m.Headline.Margin.Diff {
				t.Errorf("at elasticity 0 the curve says %+v, the headline %+v", last, m.Headline)
			}
			for _, p := range m.Demand.Curve {
				if p.Elasticity == -1 && p.Revenue.Amount != 0 {
					t.Errorf("under constant elasticity of -1 revenue moves by %s", p.Revenue)
				}
			}
			if m.Demand.Revenue.Holds != "" {
				t.Errorf("revenue is said to hold a %s over a band that has -1 in it", m.Demand.Revenue.Holds)
			}
		}
	})
}

func TestEveryReportAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := shop(sales(t)...)
		r := analysed(t, l, facts, nil)
		if !r.Reconciliation.OK {
			t.Errorf("a ledger that nobody touched does not add up: %q", r.Reconciliation.Faults)
		}
		for _, m := range r.Currencies {
			var lines int64
			var diff Units
			for _, bar := range m.Moves {
				lines += bar.Lines
				diff += inUnits(bar.Diff)
			}
			if lines != m.Headline.Lines || diff != inUnits(m.Headline.Diff) {
				t.Errorf("the histogram has %d lines that change %d, the headline %d and %s", lines, diff, m.Headline.Lines, m.Headline.Diff)
			}
			diff = 0
			for _, c := range m.Causes {
				diff += inUnits(c.Diff)
			}
			if diff != inUnits(m.Headline.Diff) {
				t.Errorf("causes explain %d, the headline is %s", diff, m.Headline.Diff)
			}
		}
	})
}

func inUnits(a money.Amount) Units {
	b, err := a.Rescale(Scale)
	if err != nil {
		panic(err)
	}
	return b.Amount
}
