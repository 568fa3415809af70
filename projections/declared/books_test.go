package declared

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/internal/pgtest"
	"banyan/money"
)

// bookLine is a line of the real year (Online Retail, UCI Machine Learning
// Repository, doi 10.24432/C5BW33).
type bookLine struct {
	invoice, code string
	quantity      int64
	at            time.Time
	price         money.Amount
}

// readBooks reads a file of the year; the project does not ship it.
func readBooks(t *testing.T, name string) []bookLine {
	t.Helper()
	dir := os.Getenv("BANYAN_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	f, err := os.Open(filepath.Join(dir, "online_retail", name))
	if err != nil {
		t.Skipf("the real year is missing: %v (BANYAN_DATA names the folder that holds online_retail/)", err)
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all, err := csv.NewReader(plain).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []bookLine
	for _, r := range all[1:] {
		quantity, err1 := strconv.ParseInt(r[3], 10, 64)
		at, err2 := time.Parse(time.DateTime, r[4])
		price, err3 := money.ParseDecimal(r[5], 3, "GBP")
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatalf("%q: %v, %v, %v", r, err1, err2, err3)
		}
		out = append(out, bookLine{r[0], r[1], quantity, at, price})
	}
	return out
}

// books tells the lines as the shop does: lines of orders and returns, some of
// them later than the paper; fees; adjustments of the stock.
func books(lines []bookLine) *history {
	h := newHistory()
	papers := map[string][]bookLine{}
	for _, l := range lines {
		papers[l.invoice] = append(papers[l.invoice], l)
	}
	text := func(l bookLine, no int) string {
		return fmt.Sprintf(`{"line_no":%d,"quantity":%d,"unit_price":%s,"added_at":%q}`, no, l.quantity, l.price.AppendJSON(nil), l.at.Format(time.RFC3339))
	}
	fees, adjustments := 0, 0
	for _, no := range slices.Sorted(maps.Keys(papers)) {
		var goods []bookLine
		for _, l := range papers[no] {
			switch {
			case len(l.code) < 5:
				fees++
				h.add("shop.fees", "FeeCharged", "Fee", fmt.Sprint(fees), fmt.Sprintf(`{"code":%q,"state":{"id":%d,"invoice_no":%q,"quantity":%d,"price":%s,"charged_at":%q}}`,
					l.code, fees, no, l.quantity, l.price.AppendJSON(nil), l.at.Format(time.RFC3339)))
			case l.quantity <= 0 && !strings.HasPrefix(no, "C"):
				adjustments++
				h.add("shop.stock", "StockAdjusted", "Stock", fmt.Sprint(adjustments%100), fmt.Sprintf(`{"by":%d,"adjustments":[{"id":%d,"invoice_no":%q,"quantity":%d,"price":%s,"adjusted_at":%q}],"state":{"stock":0}}`,
					l.quantity, adjustments, no, l.quantity, l.price.AppendJSON(nil), l.at.Format(time.RFC3339)))
			default:
				goods = append(goods, l)
			}
		}
		topic, types, name := "shop.orders", []string{"OrderPlaced", "OrderLineAdded", "OrderPaid", "OrderShipped"}, "Order"
		if strings.HasPrefix(no, "C") {
			topic, types, name = "shop.returns", []string{"ReturnAccepted"}, "Return"
		}
		for i, typ := range types {
			// The last line of an order comes with the second event.
			n := len(goods)
			if i == 0 && len(types) > 1 {
				n = max(n-1, 0)
			}
			if len(goods) == 0 {
				break
			}
			var list []string
			for k, l := range goods[:n] {
				list = append(list, text(l, k+1))
			}
			h.add(topic, typ, name, no, fmt.Sprintf(`{"state":{"id":1,"invoice_no":%q,"lines":[%s]}}`, no, strings.Join(list, ",")))
		}
	}
	return h
}

// dailyBooks is what SQL would say of the file.
func dailyBooks(t *testing.T, lines []bookLine) map[string]string {
	t.Helper()
	type day struct {
		rows                      int
		invoices                  map[string]bool
		gross, cancellations, net money.Amount
	}
	days := map[string]*day{}
	for _, l := range lines {
		name := l.at.Format(time.DateOnly)
		d := days[name]
		if d == nil {
			zero := money.Amount{Scale: 3, Currency: "GBP"}
			d = &day{invoices: map[string]bool{}, gross: zero, cancellations: zero, net: zero}
			days[name] = d
		}
		d.rows++
		d.invoices[l.invoice] = true
		total, err := l.price.Times(l.quantity)
		if err != nil {
			t.Fatal(err)
		}
		add := func(to *money.Amount) {
			if *to, err = to.Add(total); err != nil {
				t.Fatal(err)
			}
		}
		if add(&d.net); l.quantity > 0 && l.price.Amount > 0 {
			add(&d.gross)
		}
		if strings.HasPrefix(l.invoice, "C") {
			add(&d.cancellations)
		}
	}
	out := map[string]string{}
	for name, d := range days {
		out[name] = fmt.Sprintf("%d %d %s %s %s", d.rows, len(d.invoices), d.gross.Number(), d.cancellations.Number(), d.net.Number())
	}
	return out
}

func TestDailySalesAreThoseOfTheBooks(t *testing.T) {
	lines := readBooks(t, "online_retail_slice_20000.csv.gz")
	p := must(t, "daily_sales.yaml", shopFiles(t)["daily_sales"])
	h := books(lines)
	conn, err := pgtest.New(t, pgtest.Options{}).Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	l := makeLive(t, conn.Conn(), "books", p)
	b := bulk(t, p)
	if out := give(t, p, b, shuffled(rand.New(rand.NewPCG(1, 1)), h.all)); len(out.parked) > 0 {
		t.Fatalf("%d events parked: %s", len(out.parked), out.parked[0])
	}
	if err := b.Copy(t.Context(), l.conn, "books", nil); err != nil {
		t.Fatal(err)
	}
	for _, sql := range append([]string{"SET search_path = books"}, viewSQL(p)...) {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	rows, err := conn.Query(t.Context(), "SELECT day::text, concat_ws(' ', rows, invoices, gross, cancellations, net) FROM daily_sales")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for rows.Next() {
		var day, sales string
		if err := rows.Scan(&day, &sales); err != nil {
			t.Fatal(err)
		}
		got[day] = sales
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	want := dailyBooks(t, lines)
	if len(want) < 5 {
		t.Fatalf("the file has %d days", len(want))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
