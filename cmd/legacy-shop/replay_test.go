package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// yearFileOr skips the test when the real year is not on this machine: the
// project does not ship it.
func yearFileOr(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("BANYAN_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	file := filepath.Join(dir, "online_retail", name)
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the real year is missing: %v (BANYAN_DATA names the folder that holds online_retail/; source: doi 10.24432/C5BW33)", err)
	}
	return file
}

// replayFile runs `replay --data` and returns what it printed.
func (s *testShop) replayFile(file string, more ...string) (summary, int, string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	args := append([]string{"replay", "--target", s.url, "--data", file, "--output", "json"}, more...)
	code := run(context.Background(), args, noEnvironment, &stdout, &stderr)
	var result summary
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
			s.t.Fatalf("%v in %s", err, stdout.String())
		}
	}
	return result, code, stderr.String()
}

// papersSQL reads every row of the shop as the file had it.
const papersSQL = `
	SELECT o.invoice_no, p.stock_code, coalesce(i.description, ''), i.quantity, (i.unit_price * 1000)::bigint, i.added_at, coalesce(c.customer_no, ''), o.country
	FROM order_items i JOIN orders o ON o.id = i.order_id JOIN products p ON p.id = i.product_id LEFT JOIN customers c ON c.id = o.customer_id
	UNION ALL
	SELECT r.invoice_no, p.stock_code, coalesce(i.description, ''), i.quantity, (i.unit_price * 1000)::bigint, i.added_at, coalesce(c.customer_no, ''), r.country
	FROM return_items i JOIN returns r ON r.id = i.return_id JOIN products p ON p.id = i.product_id LEFT JOIN customers c ON c.id = r.customer_id
	UNION ALL
	SELECT a.invoice_no, p.stock_code, coalesce(a.reason, ''), a.quantity, (a.price * 1000)::bigint, a.adjusted_at, '', a.country
	FROM stock_adjustments a JOIN products p ON p.id = a.product_id
	UNION ALL
	SELECT f.invoice_no, f.code, coalesce(f.description, ''), f.quantity, (f.price * 1000)::bigint, f.charged_at, coalesce(c.customer_no, ''), f.country
	FROM fees f LEFT JOIN customers c ON c.id = f.customer_id`

// checkRows compares every row of the file, in all its columns and as often as
// it stands there, with the rows of the database.
func (s *testShop) checkRows(file string) {
	s.t.Helper()
	f, err := openYear(file)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	papers, read, err := readYear(f)
	if err != nil {
		s.t.Fatal(err)
	}
	balance := map[string]int{}
	line := func(no, code, text string, quantity int32, price amount, when time.Time, customer, country string) string {
		return fmt.Sprintf("%s|%s|%s|%d|%s|%s|%s|%s", no, code, text, quantity, price, when.Format(time.DateTime), customer, country)
	}
	for _, p := range papers {
		for _, r := range p.rows {
			balance[line(p.no, r.code, r.description, r.quantity, r.price, r.at, p.customer, p.country)]++
		}
	}
	rows, err := s.pool.Query(context.Background(), papersSQL)
	if err != nil {
		s.t.Fatal(err)
	}
	var no, code, text, customer, country string
	var quantity int32
	var price amount
	var when time.Time
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&no, &code, &text, &quantity, &price, &when, &customer, &country}, func() error {
		balance[line(no, code, text, quantity, price, when, customer, country)]--
		n++
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	if n != read.Rows {
		s.t.Errorf("the file has %d rows, the shop has %d", read.Rows, n)
	}
	wrong := 0
	for row, left := range balance {
		if left != 0 {
			if wrong++; wrong <= 5 {
				s.t.Errorf("%d more in the file than in the shop: %s", left, row)
			}
		}
	}
	if wrong > 5 {
		s.t.Errorf("%d different rows in all", wrong)
	}
}

// oddYear has every oddity of the real year in a few rows.
const oddYear = `InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER ,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER ,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,85123a,lower case is another product,1,2010-12-01 08:27:00,0.001,17850.0,United Kingdom
536365,POST,POSTAGE,1,2010-12-01 08:27:00,18.0,17850.0,United Kingdom
536366,"GIFT 1","Voucher £10,00",2,2010-12-01 08:30:00,9.9,,France
536366,DOT,DOTCOM POSTAGE,1,2010-12-01 08:30:00,607.49,,France
536367,85123A,,-3,2010-12-01 09:00:00,0.0,,United Kingdom
536368,85123A,found,10,2010-12-01 09:01:00,0.0,,United Kingdom
536369,85123A,a present,1,2010-12-01 09:02:00,0.0,17850.0,France
C536370,85123A,WHITE HANGING HEART T-LIGHT HOLDER ,-4,2010-12-02 10:00:00,2.55,17850.0,France
C536370,M,Manual,-1,2010-12-02 10:00:00,5.5,17850.0,France
C536371,D,Discount,-1,2010-12-02 10:01:00,27.5,14527.0,United Kingdom
A536372,B,Adjust bad debt,1,2010-12-02 10:02:00,-11062.06,,United Kingdom
`

func TestReplayOfTheOddRowsOfAYear(t *testing.T) {
	s := startShop(t)
	file := filepath.Join(t.TempDir(), "year.csv")
	if err := os.WriteFile(file, []byte(oddYear), 0o600); err != nil {
		t.Fatal(err)
	}
	got, code, stderr := s.replayFile(file)
	if code != exitDone {
		t.Fatalf("replay ended with %d: %s", code, stderr)
	}
	want := summary{Source: "data", Rows: 13, RowsRead: 13, Sum: -10429369,
		OrderLines: count{5, 50401}, ReturnLines: count{1, -10200}, StockAdjustments: count{2, 0}, FeeLines: count{5, -10469570},
		Customers: 2, Orders: 3, Paid: 3, Shipped: 3, Returns: 1}
	got.Seconds, got.Calls = 0, 0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	s.checkRows(file)
	s.want("3", `SELECT count(*) FROM products`)
	s.want("France", `SELECT country FROM customers WHERE customer_no = '17850'`)
	s.want("2010-12-01 08:26:00", `SELECT placed_at FROM orders WHERE invoice_no = '536365'`)

	_, code, stderr = s.replayFile(file)
	if code != exitAnswerIsNo || !strings.Contains(stderr, "empty shop") {
		t.Errorf("a second replay ended with %d: %s", code, stderr)
	}
}

func TestReplayOfASliceOfTheRealYear(t *testing.T) {
	file := yearFileOr(t, "online_retail_slice_20000.csv.gz")
	s := startShop(t)
	got, code, stderr := s.replayFile(file)
	if code != exitDone {
		t.Fatalf("replay ended with %d: %s", code, stderr)
	}
	if got.RowsRead != 20000 || got.Rows != 20000 || got.Sum.String() != "369832.60" || got.Rejected != 0 {
		t.Errorf("summary: %+v", got)
	}
	s.checkRows(file)
	s.want("20000 369832.600", `SELECT count(*) || ' ' || sum(q * p) FROM (
		SELECT quantity q, unit_price p FROM order_items UNION ALL SELECT quantity, unit_price FROM return_items
		UNION ALL SELECT quantity, price FROM stock_adjustments UNION ALL SELECT quantity, price FROM fees) x`)
	s.want("shipped", `SELECT string_agg(DISTINCT status, ', ') FROM orders`)
	s.want("0", `SELECT count(*) FROM order_items a JOIN orders o ON o.id = a.order_id WHERE o.total <>
		coalesce((SELECT sum(quantity * unit_price) FROM order_items WHERE order_id = o.id), 0) + coalesce((SELECT sum(amount) FROM fees WHERE order_id = o.id), 0)`)
}

// sent is what a generated replay sends, one line a request, in order.
func (s *testShop) sent(seed uint64, workers int) ([]string, summary) {
	s.t.Helper()
	var mu sync.Mutex
	var lines []string
	c := newClient(s.url, workers)
	defer c.close()
	c.watch = func(method, path string, body []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, method+" "+path+" "+string(body))
	}
	tally := &tally{}
	d := &driver{client: c, workers: workers, speed: math.Inf(1), progress: io.Discard, now: time.Now}
	monday := time.Date(2011, 10, 3, 0, 0, 0, 0, time.UTC)
	if err := d.drive(context.Background(), generateShop(tally, seed, monday, 3)); err != nil {
		s.t.Fatal(err)
	}
	return lines, tally.summary()
}

func TestAMadeUpShopIsTheSameForASeed(t *testing.T) {
	one, two := startShop(t), startShop(t)
	first, result := one.sent(7, 1)
	second, _ := two.sent(7, 1)
	if !slices.Equal(first, second) {
		t.Errorf("the same seed sent other requests:\n%s", cmp.Diff(first, second))
	}
	if len(first) < 500 || result.Rejected == 0 || result.Cancelled == 0 || result.Declined == 0 || result.Returns == 0 || result.ExampleOrderID == 0 {
		t.Errorf("%d requests, %+v", len(first), result)
	}
	// Many workers number the orders otherwise, and change nothing else.
	three := startShop(t)
	if _, many := three.sent(7, 8); many.Rows != result.Rows || many.Sum != result.Sum || many.Rejected != result.Rejected {
		t.Errorf("with many workers %+v, with one %+v", many, result)
	}
	for _, query := range []string{
		`SELECT string_agg(stock_code || ' ' || stock || ' ' || price, ', ' ORDER BY stock_code COLLATE "C") FROM products`,
		`SELECT string_agg(k.key || ' ' || o.status || ' ' || o.total, ', ' ORDER BY k.key COLLATE "C")
			FROM idempotency_keys k JOIN orders o ON o.id = (k.answer::jsonb->>'id')::integer WHERE k.key LIKE 'order-%'`,
	} {
		three.want(one.sql(query), query)
	}
	// The same shop takes another seed.
	if lines, other := one.sent(8, 8); other.ExampleOrderID == 0 || slices.Equal(lines, first) {
		t.Errorf("another seed: %+v", other)
	}
}

func TestAMadeUpWeekHasTheShapeOfTheRealOne(t *testing.T) {
	s := startShop(t)
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), []string{"replay", "--target", s.url, "--generate", "7", "--seed", "1", "--output", "json"}, noEnvironment, &stdout, &stderr)
	var got summary
	if err := json.Unmarshal(stdout.Bytes(), &got); code != exitDone || err != nil {
		t.Fatalf("replay ended with %d, %v: %s", code, err, stderr.String())
	}
	if got.Calls < 1500 || got.Calls > 3000 {
		t.Errorf("a week has %d calls", got.Calls)
	}
	s.want("cancelled, rejected, returned, shipped", `SELECT string_agg(DISTINCT status, ', ' ORDER BY status) FROM orders WHERE deleted_at IS NULL`)
	s.want("account, guest, web", `SELECT string_agg(DISTINCT channel, ', ' ORDER BY channel) FROM orders`)
	s.want("true", `SELECT max(octet_length(note)) > 4000 AND count(*) FILTER (WHERE note IS NULL) > 100 FROM orders`)
	s.want("true", `SELECT count(*) FILTER (WHERE deleted_at IS NOT NULL) > 0 AND count(*) FILTER (WHERE attributes <> '{}') > 50 FROM orders`)
	s.want("true", `SELECT count(*) FILTER (WHERE order_id IS NULL) > 0 AND count(*) FILTER (WHERE order_id IS NOT NULL) > 0 FROM returns`)
	s.want("true", `SELECT count(*) FILTER (WHERE password_hash IS NOT NULL) > 5 AND count(*) FILTER (WHERE deleted_at IS NOT NULL) > 0 FROM customers`)
	s.want("0", `SELECT count(*) FROM products WHERE stock < 0`)
	s.want("approved, declined", `SELECT string_agg(DISTINCT result, ', ' ORDER BY result) FROM payment_attempts`)
	s.want("returned 2 1 1 1 1", `SELECT o.status || ' ' || (SELECT count(*) FROM payment_attempts WHERE order_id = o.id) || ' ' || (SELECT count(*) FROM payments WHERE order_id = o.id)
		|| ' ' || (SELECT count(*) FROM invoices WHERE order_id = o.id) || ' ' || (SELECT count(*) FROM shipments WHERE order_id = o.id)
		|| ' ' || (SELECT count(*) FROM returns WHERE order_id = o.id) FROM orders o WHERE id = $1`, got.ExampleOrderID)
}

// TestStepsOfOneSubjectKeepTheirOrder drives steps that are slow in turn: the
// later step of a subject must see the earlier one finished.
func TestStepsOfOneSubjectKeepTheirOrder(t *testing.T) {
	var mu sync.Mutex
	seen := map[string][]int{}
	var steps []*step
	for i := range 500 {
		a, b := fmt.Sprint(i%3), fmt.Sprint(i%7)
		steps = append(steps, &step{subjects: []subject{productSubject(a), customerSubject(b)}, do: func(context.Context, *client) error {
			mu.Lock()
			defer mu.Unlock()
			seen["p"+a], seen["c"+b] = append(seen["p"+a], i), append(seen["c"+b], i)
			return nil
		}})
	}
	d := &driver{workers: 16, speed: math.Inf(1), progress: io.Discard, now: time.Now}
	if err := d.drive(context.Background(), steps); err != nil {
		t.Fatal(err)
	}
	for name, order := range seen {
		if !slices.IsSorted(order) {
			t.Errorf("%s: %v", name, order)
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d subjects were seen", len(seen))
	}
}

func TestAFailedStepEndsTheReplay(t *testing.T) {
	steps := make([]*step, 100)
	for i := range steps {
		steps[i] = &step{subjects: []subject{productSubject("one")}, do: func(context.Context, *client) error {
			if i == 20 {
				return io.ErrUnexpectedEOF
			}
			if i > 20 {
				t.Errorf("step %d was done after a failed one", i)
			}
			return nil
		}}
	}
	d := &driver{workers: 4, speed: math.Inf(1), progress: io.Discard, now: time.Now}
	if err := d.drive(context.Background(), steps); err != io.ErrUnexpectedEOF {
		t.Errorf("the replay ended with %v", err)
	}
}
