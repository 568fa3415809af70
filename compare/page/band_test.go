package page

import (
	"bytes"
	"math"
	"regexp"
	"strings"
	"testing"

	"banyan/compare"
	"banyan/money"

	"github.com/google/go-cmp/cmp"
)

// falling is a report of a shop in which one price falls to a hundredth: under constant
// elasticity it promises more pieces than there are of anything.
func falling() *compare.Report {
	r := onRung(compare.DoNot)
	m := r.Currencies[0]
	m.Headline.Lines, m.Headline.Margin = 527_792, compare.Margin{Control: pounds(0), Candidate: pounds(0), Diff: pounds(0)}
	m.Demand = compare.DemandView{BandLow: -2.62, BandHigh: -.5, CappedLines: 4_540}
	revenue := func(e float64) float64 {
		return 5e8*(math.Pow(1.2, 1+e)-1) + 1e6*(math.Pow(.01, 1+e)-1)
	}
	for _, e := range []float64{-5, -4.5, -4, -3.5, -3, -2.62, -2, -1.76, -1.5, -1, -.5, 0} {
		free := money.Amount{Amount: int64(revenue(e)), Scale: 2, Currency: "GBP"}
		p := compare.CurvePoint{Elasticity: e, Revenue: free, RevenueLinear: pounds(int64(1e8 + 1.2e8*e)), Margin: pounds(0), MarginLinear: pounds(0)}
		if e == -4 || e == -2.62 || e == -1.76 || e == -1 || e == -.5 || e == 0 {
			stock, none := pounds(min(free.Amount, 220_000_000)), pounds(0)
			p.RevenueCapped, p.MarginCapped = &stock, &none
		}
		m.Demand.Curve = append(m.Demand.Curve, p)
	}
	m.Demand.Band = []compare.BandPoint{{Elasticity: -2.62, Source: "a study", Revenue: pounds(int64(revenue(-2.62))), Margin: pounds(0)}}
	r.Currencies = []compare.Money{m}
	return r
}

func TestTheBandEndsWhereStockDoes(t *testing.T) {
	m := falling().Currencies[0]
	b := bandFor(m, "revenue")
	if b == nil || !b.Stock || b.High != pounds(220_000_000) || b.Low.Amount >= 0 {
		t.Fatalf("the band of revenue: %+v; want up to what stock allows", b)
	}
	if got := bandFor(m, "margin"); got != nil {
		t.Errorf("no cost is known, and the band of margin is %+v", got)
	}
	if s := stockFor(m); s == nil || !s.Large() || s.Lines != 4_540 || s.Capped != b.High {
		t.Errorf("what stock takes away: %+v", s)
	}
	for i := range m.Demand.Curve {
		m.Demand.Curve[i].RevenueCapped = nil
	}
	if b := bandFor(m, "revenue"); b == nil || b.Stock || value(b.High) < 1e7 {
		t.Errorf("where stock is not known: %+v; want all that demand asks for", b)
	}
	if s := stockFor(m); s != nil {
		t.Errorf("stock is not known, and takes away %+v", s)
	}
	turned := falling().Currencies[0]
	turned.Demand.Revenue.Holds = "gain"
	if b := bandFor(turned, "revenue"); b.Holds != "" {
		t.Errorf("from %v to %v, and it is called a %s throughout", b.Low, b.High, b.Holds)
	}
	// Linear demand says less than constant elasticity: the least is its.
	one := compare.DemandView{BandLow: -2, BandHigh: -1, Curve: []compare.CurvePoint{
		{Elasticity: -2, Revenue: pounds(500), RevenueLinear: pounds(-100)}, {Elasticity: -1, Revenue: pounds(200), RevenueLinear: pounds(150)}}}
	if diff := cmp.Diff(&bandView{Low: pounds(-100), High: pounds(500)}, bandOf(one, ofRevenue)); diff != "" {
		t.Errorf("the band of both models (-want +got):\n%s", diff)
	}
}

// TestACurveMayLeaveTheChart: what one line promises does not flatten all the others.
func TestACurveMayLeaveTheChart(t *testing.T) {
	m := falling().Currencies[0]
	points := curveOf(m.Demand)
	r := reachOf(points, m)
	if r.high > 3*2_200_000 || r.low > value(points[0].Revenue) {
		t.Errorf("the axis goes from %.0f to %.0f, and stock allows 2,200,000", r.low, r.high)
	}
	page := string(html(t, falling()))
	shown, _, _ := strings.Cut(page, `<script type="application/json"`)
	if n := strings.Count(shown, "goes on ↑"); n != 2 {
		t.Errorf("%d times that the curve goes on, want once on each canvas", n)
	}
	if last := roughSigned(points[len(points)-1].Revenue); !strings.Contains(shown, strings.ReplaceAll(last, "+", "&#43;")) {
		t.Errorf("the table has lost %s", last)
	}
	for _, of := range []string{"margin goes on", "series margin", "capped margin", "Margin, stock"} {
		if strings.Contains(shown, `"`+of) || strings.Contains(shown, ">"+of) {
			t.Errorf("no cost is known, and the page shows %q", of)
		}
	}
}

func TestTraceEndsAtTheEdge(t *testing.T) {
	x, y := axis{Low: 0, High: -4, From: 0, To: 400}, axis{Low: 0, High: 100, From: 100, To: 0}
	var points []compare.CurvePoint
	for i, v := range []int64{5_000, 15_000, -5_000, 5_000} {
		points = append(points, compare.CurvePoint{Elasticity: -float64(i), Revenue: pounds(v)})
	}
	want := "M0 50L50 0M125 0L175 100M250 100L300 50"
	if got := trace(x, y, points, func(p compare.CurvePoint) money.Amount { return p.Revenue }); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestTextCutsNoFigure: whatever the width, a figure of the headline is whole.
func TestTextCutsNoFigure(t *testing.T) {
	r := falling()
	r.Guardrails[1].Name, r.Guardrails[1].Value = strings.Repeat("a very long name ", 8), "4,158.97 %"
	m := &r.Currencies[0]
	m.Projection.Sequence.Low, m.Projection.Sequence.High = pounds(-12_345_678_901_23), pounds(98_765_432_109_87)
	for width := 60; width < 120; width++ {
		var b bytes.Buffer
		if err := Text(&b, r, width); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(b.String(), "\u00a0", " ")
		checkScreen(t, text, width)
		for _, want := range []string{"+7,421.30", "−12,345,678,901 to +98,765,432,110", "to +2,200,000", "4,158.97 % (at most 15 %)", "margin unknown"} {
			if !strings.Contains(text, want) {
				t.Errorf("%d characters wide, %q is not whole:\n%s", width, want, text)
			}
		}
		if at := regexp.MustCompile(`\d…`).FindString(text); at != "" {
			t.Errorf("%d characters wide, a figure is cut at %s:\n%s", width, at, text)
		}
	}
}
