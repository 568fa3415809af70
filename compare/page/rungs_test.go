package page

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"banyan/compare"
	"banyan/money"
)

// onRung is a small report of its own for each rung of the ladder.
func onRung(rung compare.Rung) *compare.Report {
	r := sample()
	r.Verdict = compare.Verdict{Rung: rung, Why: []string{"This is why."}, Changes: []string{"This would change it."}}
	m := r.Currencies[0]
	m.Days, m.Examples, m.Gainers, m.Losers = m.Days[:4], m.Examples[:1], m.Gainers[:2], nil
	r.Currencies = []compare.Money{m}
	switch rung {
	case compare.Unhealthy:
		r.Verdict.Sentence, r.Verdict.HideMoney = "The books do not add up, so that no figure can be believed.", true
		r.Reconciliation.OK, r.Reconciliation.Faults = false, []string{"GBP: 88,873 lines were consumed, but 88,871 are accounted for."}
		r.Reconciliation.Projection = compare.ProjectionCheck{State: "differs", Detail: "2 lines fewer there", Rows: r.Reconciliation.Projection.Rows[:1]}
		r.Operations.Breaker = "open"
	case compare.NoData:
		*r = compare.Report{Schema: r.Schema, Candidate: compare.Candidate{Name: "charm-prices", Mode: "in process"}, Inputs: r.Inputs,
			Verdict:        compare.Verdict{Rung: rung, Sentence: "No order was compared.", Why: []string{"Nothing was consumed."}, Changes: []string{"An order."}},
			Reconciliation: compare.Reconciliation{OK: true, Projection: compare.ProjectionCheck{State: "none"}}}
	case compare.Collecting:
		r.Verdict.Sentence, r.Verdict.DaysLeft = "There is not enough yet: 4 of 7 days.", 3
	case compare.DoNot:
		r.Verdict.Sentence = "charm-prices would have lost margin whatever the elasticity."
	case compare.Review:
		r.Verdict.Sentence = "charm-prices gains, but a guardrail is broken."
	case compare.Ready:
		r.Verdict.Sentence = "charm-prices gains margin over the whole plausible band, and holds all guardrails."
		r.Guardrails = brokenFirst(r.Guardrails)[1:]
		r.Verdict.Next = &compare.Experiment{Design: "A/B by customer", Segment: "country=United Kingdom", Share: 20, Days: 28, Power: .8, Detectable: 2.4,
			Why: "Customers come back, and see one price each.", StopIf: "margin falls by more than 3 % for a week."}
	}
	return r
}

// TestRungs writes a report of each rung in all forms.
func TestRungs(t *testing.T) {
	for _, s := range ladder {
		t.Run(string(s.Rung), func(t *testing.T) {
			r := onRung(s.Rung)
			name := strings.ReplaceAll(string(s.Rung), " ", "-")
			for ext, write := range writers {
				var b bytes.Buffer
				if err := write(&b, r); err != nil {
					t.Fatal(err)
				}
				if ext != "json" {
					golden(t, name+"."+ext, b.Bytes())
				}
				if r.Verdict.HideMoney && ext != "json" && ext != "html" && strings.Contains(b.String(), "7,421") {
					t.Errorf("%s shows money that is to be hidden", ext)
				}
				if !strings.Contains(strings.ToLower(b.String()), string(s.Rung)) {
					t.Errorf("%s does not name the rung", ext)
				}
			}
		})
	}
}

// TestHiddenMoney looks for the headline anywhere a reader sees it; the data inside
// stay whole, for those who look for the fault.
func TestHiddenMoney(t *testing.T) {
	page := string(html(t, onRung(compare.Unhealthy)))
	shown, _, _ := strings.Cut(page, `<script type="application/json"`)
	for _, money := range []string{"7,421", "6,862", "13,660"} {
		if strings.Contains(shown, money) {
			t.Errorf("the page shows %s", money)
		}
	}
	if !strings.Contains(shown, "No money is shown.") {
		t.Error("the page does not say that money is hidden")
	}
}

// writers are all forms of a report.
var writers = map[string]func(*bytes.Buffer, *compare.Report) error{
	"html": func(b *bytes.Buffer, r *compare.Report) error { return HTML(b, r, Options{}) },
	"md":   func(b *bytes.Buffer, r *compare.Report) error { return Markdown(b, r) },
	"txt":  func(b *bytes.Buffer, r *compare.Report) error { return Text(b, r, 80) },
	"json": func(b *bytes.Buffer, r *compare.Report) error { return JSON(b, r) },
}

// TestDeterminism: the same report gives the same bytes, and is left as it was.
func TestDeterminism(t *testing.T) {
	for ext, write := range writers {
		var first bytes.Buffer
		r := sample()
		if err := write(&first, r); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, sample()) {
			t.Errorf("%s changes the report", ext)
		}
		for range 20 {
			var again bytes.Buffer
			if err := write(&again, sample()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Bytes(), again.Bytes()) {
				t.Fatalf("%s differs from one time to the next", ext)
			}
		}
	}
}

// huge fills every field of a report with as much as it takes.
func huge(v reflect.Value, name string, n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat(name+" </td>\u202e|&\"' ", 10_000/(len(name)+12)))
	case reflect.Int, reflect.Int64:
		v.SetInt(1 << 50)
	case reflect.Uint64:
		v.SetUint(1 << 63)
	case reflect.Float64:
		v.SetFloat(-1.23456789e9)
	case reflect.Bool:
		v.SetBool(false)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		huge(v.Elem(), name, n)
	case reflect.Slice:
		one := reflect.New(v.Type().Elem()).Elem()
		huge(one, name, min(n, 60))
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			v.Index(i).Set(one)
		}
	case reflect.Struct:
		if a, ok := v.Addr().Interface().(*money.Amount); ok {
			*a = money.Amount{Amount: -9_223_372_036_854_775_807, Scale: 4, Currency: "GBP"}
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				huge(v.Field(i), f.Name, n)
			}
		}
	}
}

// TestHuge: whatever is in a report, each form keeps to its bound.
func TestHuge(t *testing.T) {
	for _, n := range []int{3, 40, 300} {
		r := &compare.Report{}
		huge(reflect.ValueOf(r).Elem(), "x", n)
		r.Verdict.HideMoney = n == 3
		for i := range r.Currencies {
			for j := range r.Currencies[i].Days {
				r.Currencies[i].Days[j].Day = fmt.Sprint("day ", j)
			}
			for j := range r.Currencies[i].Demand.Curve {
				r.Currencies[i].Demand.Curve[j].Elasticity = -5 * float64(j) / float64(n)
			}
		}
		page := html(t, r)
		if len(page) > MaxBytes {
			t.Errorf("n=%d: the page has %d bytes", n, len(page))
		}
		if !bytes.Contains(page, []byte("more")) {
			t.Errorf("n=%d: the page does not say that it leaves something out", n)
		}
		checkPage(t, page, nil)
		var b bytes.Buffer
		if err := Markdown(&b, r); err != nil {
			t.Error(err)
		} else if b.Len() > MaxMarkdown {
			t.Errorf("n=%d: the Markdown has %d bytes", n, b.Len())
		}
		b.Reset()
		if err := Text(&b, r, 80); err != nil {
			t.Error(err)
		}
		checkScreen(t, b.String(), 80)
	}
}

// TestTextFitsAScreen over all rungs and widths.
func TestTextFitsAScreen(t *testing.T) {
	for _, width := range []int{60, 72, 80, 100, 200} {
		for _, s := range ladder {
			var b bytes.Buffer
			if err := Text(&b, onRung(s.Rung), width); err != nil {
				t.Fatal(err)
			}
			checkScreen(t, b.String(), width)
		}
	}
}

func checkScreen(t *testing.T, text string, width int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > textLines {
		t.Errorf("%d lines, want at most %d:\n%s", len(lines), textLines, text)
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > width {
			t.Errorf("a line of %d characters, want at most %d: %s", n, width, l)
		}
	}
}
