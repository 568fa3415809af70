package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Here daily_sales is held against the file of a real year (Online Retail, UCI
// Machine Learning Repository, doi 10.24432/C5BW33), which knows nothing of the
// shop: its rows go in over REST, through the log, the events and the topics, and
// have to come out as sums that are right to the last thousandth.

// salesOfDay is what the file says of one day; amounts in thousandths of a pound.
type salesOfDay struct {
	rows                      int
	invoices                  map[string]bool
	gross, cancellations, net big.Int
}

// oracle adds the file up, apart from anything that the shop does with it.
type oracle struct {
	rows int
	net  big.Int
	days map[string]*salesOfDay
	// goods are the rows that count as gross and are goods: a shadow compares these.
	goods    int64
	goodsSum big.Int
}

// noGoods are the stock codes of the file that are postage, charges, corrections and
// discounts: what the shop calls fees.
var noGoods = map[string]bool{
	"AMAZONFEE": true, "B": true, "BANK CHARGES": true, "C2": true, "CRUK": true, "D": true,
	"DOT": true, "M": true, "m": true, "POST": true, "S": true,
}

func readOracle(t *testing.T, file string) *oracle {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := csv.NewReader(plain)
	head, err := lines.Read()
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range head {
		column[strings.TrimPrefix(name, "\ufeff")] = i
	}
	o := &oracle{days: map[string]*salesOfDay{}}
	for {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return o
		}
		if err != nil {
			t.Fatal(err)
		}
		field := func(name string) string { return record[column[name]] }
		o.add(t, field("InvoiceDate")[:len(time.DateOnly)], field("InvoiceNo"), field("StockCode"), field("Quantity"), field("UnitPrice"))
	}
}

func (o *oracle) add(t *testing.T, day, invoice, code, quantity, price string) {
	t.Helper()
	pieces, ok1 := new(big.Rat).SetString(quantity)
	each, ok2 := new(big.Rat).SetString(price)
	if !ok1 || !ok2 {
		t.Fatalf("a row of %s has quantity %q and price %q", invoice, quantity, price)
	}
	exact := new(big.Rat).Mul(pieces, each)
	if exact.Mul(exact, big.NewRat(1000, 1)); !exact.IsInt() {
		t.Fatalf("a row of %s is worth no whole thousandths: %s times %s", invoice, quantity, price)
	}
	amount := exact.Num()
	d := o.days[day]
	if d == nil {
		d = &salesOfDay{invoices: map[string]bool{}}
		o.days[day] = d
	}
	d.rows++
	d.invoices[invoice] = true
	if pieces.Sign() > 0 && each.Sign() > 0 {
		d.gross.Add(&d.gross, amount)
		if !noGoods[code] {
			o.goods++
			o.goodsSum.Add(&o.goodsSum, amount)
		}
	}
	if strings.HasPrefix(invoice, "C") {
		d.cancellations.Add(&d.cancellations, amount)
	}
	d.net.Add(&d.net, amount)
	o.rows++
	o.net.Add(&o.net, amount)
}

// pounds writes thousandths as numeric(14,3) does.
func pounds(n *big.Int) string { return new(big.Rat).SetFrac(n, big.NewInt(1000)).FloatString(3) }

// books are the days as serviceBooks gives them.
func (o *oracle) books() [][]string {
	var books [][]string
	for _, day := range slices.Sorted(maps.Keys(o.days)) {
		d := o.days[day]
		books = append(books, []string{day, fmt.Sprint(d.rows), fmt.Sprint(len(d.invoices)), pounds(&d.gross), pounds(&d.cancellations), pounds(&d.net)})
	}
	return books
}

func dataFile(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("BANYAN_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	file, err := filepath.Abs(filepath.Join(dir, "online_retail", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the real year is missing: %v (BANYAN_DATA names the folder that holds online_retail/; source: doi 10.24432/C5BW33)", err)
	}
	return file
}

// year is a story without a listener: the shop, cdc and projector at work, ready
// for a file to be replayed.
type year struct {
	*tour
	t *testing.T
}

func openYear(t *testing.T, projections ...string) *year {
	t.Helper()
	untouched(t)
	y := &year{tour: &tour{out: io.Discard}, t: t}
	t.Cleanup(func() {
		if err := y.end(false); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	for _, step := range []func(context.Context) error{y.build, y.servers, y.monolith, y.point, y.giveTokens} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	all, err := y.writeProjections()
	if err != nil {
		t.Fatal(err)
	}
	if len(projections) == 0 {
		projections = all
	}
	if _, err := y.follow(ctx, projections); err != nil {
		t.Fatal(err)
	}
	return y
}

// sell replays the file, and gives the token of its last call.
func (y *year) sell(file string) string {
	y.t.Helper()
	r, err := y.replay(y.t.Context(), "--data", file)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Logf("%d REST calls in %.0f s, %d orders, %d returns", r.Calls, r.Seconds, r.Orders, r.Returns)
	token, err := y.token(y.t.Context())
	if err != nil {
		y.t.Fatal(err)
	}
	return token
}

// compare holds daily_sales, as soon as readers see the token, against the file.
func (y *year) compare(o *oracle, token, when string) {
	y.t.Helper()
	began := time.Now()
	got, err := y.readAt(y.t.Context(), token, "daily_sales", serviceBooks)
	if err != nil {
		y.t.Fatal(err)
	}
	want := o.books()
	differ := unequal(got, want)
	for _, d := range differ[:min(len(differ), 10)] {
		y.t.Errorf("%s: %s", when, d)
	}
	y.t.Logf("%s: %d of %d days differ; they were read %s after the question", when, len(differ), len(want), round(time.Since(began)))
}

// do runs a command of projector on the shop's projections, and logs what it took.
func (y *year) do(args ...string) string {
	y.t.Helper()
	began := time.Now()
	cmd := exec.CommandContext(y.t.Context(), y.projector, append(args, "-f", "projections")...)
	cmd.Dir, cmd.Env = y.dir, y.env()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		y.t.Fatalf("projector %s: %v\n%s\n%s", strings.Join(args, " "), err, text, &stderr)
	}
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	y.t.Logf("projector %s: %s, %s of processor, %d MB at most\n%s", strings.Join(args, " "), round(time.Since(began)),
		round(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()), used.Maxrss>>10, text)
	return string(text)
}

// renew makes a projection anew from history and lets readers see it.
func (y *year) renew(name string) {
	y.t.Helper()
	y.do("rebuild", name, "--wait")
	y.do("diff", name)
	y.do("swap", name)
}

func (y *year) prove(name string) {
	y.t.Helper()
	if text := y.do("verify", name); !strings.Contains(text, ": proved at ") {
		y.t.Errorf("verify does not say that %s is proved", name)
	}
}

// live logs what the processes that worked all the time have taken.
func (y *year) live() {
	y.t.Helper()
	for _, p := range y.running {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			continue // it was stopped
		}
		for line := range strings.Lines(string(status)) {
			if most, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				y.t.Logf("%s had %s of memory at most", p.name, strings.TrimSpace(most))
			}
		}
	}
}

// weigh runs a candidate over all of the file's orders, and holds the control's side of
// the report against the file by the rule of daily_sales' gross.
func (y *year) weigh(o *oracle) {
	y.t.Helper()
	y.report = y.t.TempDir()
	began := time.Now()
	if _, err := y.command(y.t.Context(), y.shadow, []string{"run", "--candidate", "builtin:demand", "--from", "start", "--until-caught-up", "--out", y.report}, 1); err != nil {
		y.t.Fatal(err)
	}
	y.t.Logf("shadow run --until-caught-up, with its report: %s", round(time.Since(began)))
	text, err := y.command(y.t.Context(), y.shadow, []string{"aa"})
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Log(text)
	raw, err := os.ReadFile(filepath.Join(y.report, "report.json"))
	if err != nil {
		y.t.Fatal(err)
	}
	w, err := object[weighed](string(raw))
	if err != nil {
		y.t.Fatal(err)
	}
	if !w.Reconciliation.OK || w.Reconciliation.Projection.State != "equal" || len(w.Reconciliation.Currencies) != 1 {
		y.t.Fatalf("the reconciliation: %+v", w.Reconciliation)
	}
	for _, r := range w.Reconciliation.Currencies[0].Rows {
		if r.What != "compared" {
			continue
		}
		got, err := r.Control.Rescale(3)
		if err != nil {
			y.t.Fatal(err)
		}
		if r.Lines != o.goods || got.Number() != pounds(&o.goodsSum) {
			y.t.Errorf("compared: %d lines for %s; the file has %d for %s", r.Lines, got, o.goods, pounds(&o.goodsSum))
		}
		return
	}
	y.t.Error("the report compares nothing")
}

func TestSalesOfASliceAreThoseOfTheFile(t *testing.T) {
	file := dataFile(t, "online_retail_slice_20000.csv.gz")
	o := readOracle(t, file)
	if o.rows != 20_000 || pounds(&o.net) != "369832.600" {
		t.Fatalf("the file has %d rows and %s pounds, its README says 20,000 and 369,832.60", o.rows, pounds(&o.net))
	}
	y := openYear(t, "daily_sales")
	token := y.sell(file)
	y.compare(o, token, "live")
	y.renew("daily_sales")
	y.compare(o, token, "rebuilt")
	y.prove("daily_sales")
	y.weigh(o)
}
