package bench_test

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// yearFile is the real year (Online Retail, UCI Machine Learning Repository, doi
// 10.24432/C5BW33), which is not in this repository.
func yearFile(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("BANYAN_DATA")
	if dir == "" {
		t.Skip("BANYAN_DATA does not name the folder that holds online_retail/ (source: doi 10.24432/C5BW33): the real year is not measured")
	}
	file := filepath.Join(dir, "online_retail", "online_retail_541909.csv.gz")
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the real year is missing: %v", err)
	}
	return file
}

// noGoods are the codes of the file that are postage, charges and corrections.
var noGoods = map[string]bool{"AMAZONFEE": true, "B": true, "BANK CHARGES": true, "C2": true, "CRUK": true, "D": true, "DOT": true, "M": true, "m": true, "POST": true, "S": true}

// yearRow is a line of the file that is a line of an order.
type yearRow struct {
	invoice, code, description string
	quantity, price            int // price in thousandths
	at                         time.Time
	customer, country          string
}

// readYear gives the orders of the file in its order, one after the other. Here they
// go straight to the topics, without a shop that takes them over REST; a scenario does
// it that way.
func readYear(t testing.TB, file string, order func(rows []yearRow)) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := csv.NewReader(plain)
	if _, err := lines.Read(); err != nil {
		t.Fatal(err)
	}
	var rows []yearRow
	for {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		row, ok := yearRowOf(t, record)
		if !ok {
			continue
		}
		if len(rows) > 0 && rows[0].invoice != row.invoice {
			order(rows)
			rows = rows[:0]
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		order(rows)
	}
}

// yearRowOf reads a row; ok is false where it is none of an order of goods.
func yearRowOf(t testing.TB, r []string) (row yearRow, ok bool) {
	t.Helper()
	quantity, err1 := strconv.Atoi(r[3])
	at, err2 := time.Parse(time.DateTime, r[4])
	price, err3 := strconv.ParseFloat(r[5], 64)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatalf("a row of invoice %s cannot be read: %q", r[0], r)
	}
	if strings.HasPrefix(r[0], "C") || noGoods[r[1]] || quantity <= 0 || price < 0 {
		return row, false
	}
	customer, _, _ := strings.Cut(r[6], ".")
	return yearRow{invoice: r[0], code: r[1], description: r[2], quantity: quantity, price: int(math.Round(price * 1000)), at: at, customer: customer, country: r[7]}, true
}

// sell tells an order of the file. A product is listed when it is sold for the first
// time, at the price of then.
func (h *shopHistory) sell(rows []yearRow) {
	s := &sale{at: rows[0].at.Format(time.RFC3339), customer: rows[0].customer, channel: "account", country: rows[0].country}
	for _, r := range rows {
		p, ok := h.codes[r.code]
		if !ok {
			p = h.list(r.price, 10_000)
			h.codes[r.code] = p
		}
		s.items = append(s.items, soldItem{p, r.quantity, r.price, r.description})
	}
	h.place(s)
}
