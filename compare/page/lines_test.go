package page

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"banyan/compare"
	"banyan/money"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func sampleLine() Line {
	return Line{
		Event: "shop/Order/571001@1:0/1A2B3C8.0", Topic: "shop.orders", Partition: 1, Offset: 1_201, Order: "571001", Day: "2011-11-17", Cluster: "c_8f1b",
		Number: 3, Product: "22423", Code: "22423", Description: "REGENCY CAKESTAND, 3 TIER", Quantity: 24,
		ControlUnit: money.Amount{Amount: 10_950, Scale: 3, Currency: "GBP"}, CandidateUnit: money.Amount{Amount: 1_099, Scale: 2, Currency: "GBP"},
		ControlTotal: pounds(26_280), CandidateTotal: pounds(26_376), Diff: pounds(96), Currency: "GBP", Cause: compare.Policy, Rule: "charm-rounding",
	}
}

func TestLines(t *testing.T) {
	excluded := Line{Event: "e2", Topic: "shop.orders", Offset: 7, Number: 1, Product: "=1+1", Description: "-5 % today, @work", Quantity: -1,
		ControlUnit: pounds(-100), ControlTotal: pounds(100), Currency: "GBP", Excluded: compare.Timeout}
	var b bytes.Buffer
	w, err := NewLinesWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []Line{sampleLine(), excluded} {
		if err := w.Write(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	golden(t, "lines.csv", b.Bytes())
}

func TestHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", "a=b": "a=b", "=1": "'=1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\t=1": "'\t=1", "\r=1": "'\r=1",
		"  =1": "'  =1", "\u00a0+1": "'\u00a0+1", "＝1": "'＝1", "\x00=1": "'=1", "\u2212 1": "'\u2212 1", "ä": "ä",
	} {
		if got := harmless(in); got != want {
			t.Errorf("harmless(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestLinesComeBack: what is written can be read again, whatever is in the texts, and
// no text begins a formula.
func TestLinesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := sampleLine()
		text := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune("=+-@\t\r\n\",' \x00")), rapid.Rune()))
		l.Description, l.Product, l.Rule = text.Draw(t, "description"), text.Draw(t, "product"), text.Draw(t, "rule")
		var b bytes.Buffer
		w, err := NewLinesWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(l), w.Flush()); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&b).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 2 || len(rows[1]) != len(lineColumns) {
			t.Fatalf("%d rows, the last of %d columns", len(rows), len(rows[len(rows)-1]))
		}
		// A reader of CSV turns \r\n within quotes into \n.
		want := strings.ReplaceAll(strings.ReplaceAll(l.Description, "\x00", ""), "\r\n", "\n")
		got := strings.TrimPrefix(rows[1][10], "'")
		if diff := cmp.Diff(strings.TrimPrefix(want, "'"), got); diff != "" {
			t.Fatalf("the description has changed (-want +got):\n%s", diff)
		}
		for _, i := range []int{8, 10, 19} {
			if cell := rows[1][i]; cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				t.Fatalf("a cell begins a formula: %q", cell)
			}
		}
	})
}

// TestLinesFail: an error of the file below comes up, at the latest with Flush.
func TestLinesFail(t *testing.T) {
	full := errors.New("the disk is full")
	w, err := NewLinesWriter(failing{full})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Write(sampleLine())
	if err := w.Flush(); !errors.Is(err, full) {
		t.Errorf("Flush gives %v, want %v", err, full)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func BenchmarkLines(b *testing.B) {
	w, err := NewLinesWriter(io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	l := sampleLine()
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Write(l); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHTML(b *testing.B) {
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		if err := HTML(io.Discard, r, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNumbers(t *testing.T) {
	gbp := func(n int64, scale int) money.Amount { return money.Amount{Amount: n, Scale: scale, Currency: "GBP"} }
	for _, tc := range []struct{ got, want string }{
		{exact(gbp(12_345_600, 4)), "1,234.56 GBP"}, {exact(gbp(12_345_678, 4)), "1,234.5678 GBP"}, {exact(gbp(-1, 4)), "−0.0001 GBP"},
		{exact(gbp(5, 0)), "5.00 GBP"}, {exact(money.Amount{Amount: 1_234_500, Scale: 2, Currency: "JPY"}), "12,345 JPY"},
		{exact(money.Amount{Amount: 1, Scale: 1, Currency: "KWD"}), "0.100 KWD"}, {exact(money.Amount{}), "0.00"},
		{signed(gbp(100, 2)), "+1.00 GBP"}, {signed(gbp(-100, 2)), "−1.00 GBP"}, {signed(gbp(0, 2)), "0.00 GBP"},
		{about(gbp(99_994, 3)), "99.99 GBP"}, {about(gbp(123_456, 2)), "1,235 GBP"}, {aboutSigned(gbp(4, 3)), "0.00 GBP"}, {aboutSigned(gbp(-4, 3)), "0.00 GBP"},
		{aboutSigned(gbp(150_000, 2)), "+1,500 GBP"}, {change(1.049), "+1.05 %"}, {change(-.001), "0.00 %"}, {change(-3.5), "−3.50 %"},
		{share(.01), "< 0.1 %"}, {share(0), "0.0 %"}, {share(100), "100.0 %"}, {chance(.0001), "< 0.001"}, {chance(.5), "0.500"},
		{count(1_234_567), "1,234,567"}, {count(int64(-999)), "−999"}, {count(int64(-1_000)), "−1,000"}, {span(5.2), "5.2 s"}, {span(600), "10 min"}, {span(90_000), "25 h"},
		{plural(1, "line", "lines"), "1 line"}, {plural(2_000, "line", "lines"), "2,000 lines"}, {trimmed(-1.5, 3), "−1.5"}, {trimmed(10, 2), "10"},
	} {
		if got := strings.ReplaceAll(tc.got, noBreak, " "); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// FuzzClean: what is cleaned is short, of one line, and stays as it is when cleaned
// again.
func FuzzClean(f *testing.F) {
	for _, s := range nasty {
		f.Add(s, 20)
	}
	f.Add("\xff\xfe\u2066x\u2069", 1)
	f.Fuzz(func(t *testing.T, s string, most int) {
		if most < 1 || most > 1_000 {
			return
		}
		got := clean(s, most)
		if n := len([]rune(got)); n > most+1 {
			t.Errorf("%d characters, want at most %d", n, most+1)
		}
		if strings.ContainsAny(got, "\n\r\t\x00\x1b\u202e\u2066\u200b\u2028") {
			t.Errorf("%q has something in it that cannot be shown", got)
		}
		if again := clean(got, most+1); again != got {
			t.Errorf("cleaned again %q becomes %q", got, again)
		}
	})
}

func ExampleText() {
	var b bytes.Buffer
	if err := Text(&b, onRung(compare.NoData), 80); err != nil {
		fmt.Println(err)
	}
	fmt.Print(strings.SplitAfter(b.String(), "\n")[1])
	// Output:
	// Verdict     NO DATA
}

// TestBare holds the short way of writing an amount against the long one.
func TestBare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := money.Amount{Amount: rapid.Int64().Draw(t, "amount"), Scale: rapid.IntRange(0, money.MaxScale).Draw(t, "scale"), Currency: "GBP"}
		if got, want := bare(a), a.Number(); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
	for _, n := range []int64{0, -1, 1, math.MinInt64, math.MaxInt64, -1_000, 999} {
		for scale := range money.MaxScale + 1 {
			a := money.Amount{Amount: n, Scale: scale, Currency: "GBP"}
			if got, want := bare(a), a.Number(); got != want {
				t.Errorf("%d at %d: %q, want %q", n, scale, got, want)
			}
		}
	}
}

func TestTypeset(t *testing.T) {
	for in, want := range map[string]string{
		"it turns at -2.42 (-0.96)": "it turns at −2.42 (−0.96)", "-5 % of 12 GBP": "−5\u00a0% of 12\u00a0GBP", "2011-12-09": "2011-12-09",
		"shadow replay -n": "shadow replay -n", "well-known": "well-known", "10 GBPX": "10 GBPX",
	} {
		got := in
		if set(&got); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
