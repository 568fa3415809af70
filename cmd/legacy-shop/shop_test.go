package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/internal/pgtest"
)

// runAsShop makes the test binary the program itself, for the tests that need
// a process to send signals to.
const runAsShop = "BANYAN_SHOP_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(runAsShop) != "" {
		main()
	}
	os.Exit(m.Run())
}

// testShop is a served shop on a fresh database.
type testShop struct {
	t    testing.TB
	url  string
	pool *pgxpool.Pool
}

func startShop(t testing.TB) *testShop {
	t.Helper()
	db := pgtest.New(t)
	pool := db.Pool(t)
	return &testShop{t: t, url: serveShop(t, db.URL), pool: pool}
}

// serveShop runs `serve` until the test ends and returns its address.
func serveShop(t testing.TB, database string, flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		code := run(ctx, append([]string{"serve", "--database", database, "--listen", "127.0.0.1:0"}, flags...), noEnvironment, in, &stderr)
		in.Close()
		ended <- code
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("serve ended with %d: %s", code, stderr.String())
		}
	})
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("serve said %q (%v)", line, err)
	}
	return url
}

func noEnvironment(string) string { return "" }

// answer is what the shop said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (s *testShop) ask(method, path, body string, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(method, path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *testShop) try(method, path, body string, headers ...string) (answer, error) {
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, got}, err
}

// must asks and wants that status; it decodes the answer into v if that is not nil.
func (s *testShop) must(status int, method, path, body string, v any) {
	s.t.Helper()
	a := s.ask(method, path, body)
	if a.status != status {
		s.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
	}
	if v != nil {
		if err := json.Unmarshal(a.body, v); err != nil {
			s.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
		}
	}
}

// sql reads one value as text.
func (s *testShop) sql(query string, args ...any) string {
	s.t.Helper()
	var v *string
	if err := s.pool.QueryRow(context.Background(), `SELECT (`+query+`)::text`, args...).Scan(&v); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	if v == nil {
		return "NULL"
	}
	return *v
}

func (s *testShop) want(want, query string, args ...any) {
	s.t.Helper()
	if got := s.sql(query, args...); got != want {
		s.t.Errorf("%s\n got %s\nwant %s", query, got, want)
	}
}

// stocked lists two products, HEART (100 pieces, tier 12 at 2.55) and CLOCK (5).
func (s *testShop) stocked() {
	s.t.Helper()
	s.must(201, "POST", "/price-lists", `{"products":[
		{"stockCode":"HEART","description":"WHITE HEART","stock":100,"price":"2.95","tierQuantity":12,"tierPrice":"2.55","cost":"1.1"},
		{"stockCode":"CLOCK","description":"ALARM CLOCK","stock":5,"price":"0.125"}]}`, nil)
}

func (s *testShop) customer() int32 {
	s.t.Helper()
	var c customerRegistered
	s.must(201, "POST", "/customers", `{"name":"Anna","country":"France","addresses":[
		{"kind":"billing","street":"1 Mill Lane","city":"Lyon","postcode":"69001","country":"France"}]}`, &c)
	return c.ID
}

func TestAnOrderFromPlacingToReturn(t *testing.T) {
	s := startShop(t)
	s.stocked()
	customer := s.customer()
	var placed orderPlaced
	s.must(201, "POST", "/orders", fmt.Sprintf(`{"customerId":%d,"occurredAt":"2010-12-01T08:26:00","note":"n","attributes":{"gift":true},
		"lines":[{"stockCode":"HEART","quantity":12},{"stockCode":"CLOCK","quantity":3,"unitPrice":"0.111","occurredAt":"2010-12-01T08:27:00Z"}],
		"fees":[{"code":"POST","quantity":1,"price":18}]}`, customer), &placed)
	if placed.Status != statusPlaced || placed.Total.String() != "48.933" || placed.Lines != 2 || placed.Fees != 1 {
		t.Fatalf("placed %+v", placed)
	}
	path := fmt.Sprintf("/orders/%d", placed.ID)
	s.want("88", `SELECT stock FROM products WHERE stock_code = 'HEART'`)
	s.want("2010-12-01 08:27:00", `SELECT added_at FROM order_items WHERE line_no = 2`)
	s.want("France", `SELECT country FROM orders`)
	s.want("details pending, fraud pending, inventory passed", `SELECT string_agg(check_type || ' ' || result, ', ' ORDER BY check_type) FROM order_validations`)

	var st statusAnswer
	s.must(409, "POST", path+"/payment-attempts", `{"cardToken":"tok_1"}`, nil)
	s.must(200, "POST", path+"/validations", `{"checks":[{"type":"details","result":"passed"}]}`, &st)
	if st.Status != statusPlaced {
		t.Errorf("with a check pending the order is %s", st.Status)
	}
	s.must(200, "POST", path+"/validations", `{"checks":[{"type":"fraud","result":"passed"}]}`, &st)
	if st.Status != statusValidated {
		t.Errorf("with all checks passed the order is %s", st.Status)
	}
	s.must(422, "POST", path+"/payment-attempts", `{"cardToken":"tok_1","amount":"48.93"}`, nil)
	s.must(201, "POST", path+"/payment-attempts", `{"cardToken":"tok_declined_1"}`, nil)
	s.must(409, "POST", path+"/shipments", `{"carrier":"DHL"}`, nil)
	s.must(201, "POST", path+"/payment-attempts", `{"cardToken":"tok_1","amount":"48.933"}`, nil)
	s.must(409, "POST", path+"/cancellation", `{}`, nil)
	s.must(201, "POST", path+"/invoices", `{}`, nil)
	s.must(409, "POST", path+"/invoices", `{}`, nil)
	s.must(201, "POST", path+"/shipments", `{"carrier":"DHL","occurredAt":"2010-12-02T09:00:00"}`, nil)

	back := func(clock int) string {
		return fmt.Sprintf(`{"orderId":%d,"invoiceNo":"C1","lines":[{"stockCode":"CLOCK","quantity":%d,"unitPrice":"0.111"}]}`, placed.ID, clock)
	}
	s.must(422, "POST", "/returns", back(-4), nil)
	var returned returnAccepted
	s.must(201, "POST", "/returns", back(-1), &returned)
	if returned.Status != statusShipped {
		t.Errorf("after a part came back the order is %s", returned.Status)
	}
	s.must(422, "POST", "/returns", back(-3), nil)
	s.must(201, "POST", "/returns", back(-2), nil)
	s.must(201, "POST", "/returns", fmt.Sprintf(`{"orderId":%d,"invoiceNo":"C2","lines":[{"stockCode":"HEART","quantity":-12,"unitPrice":"2.55"}]}`, placed.ID), &returned)
	if returned.Status != statusReturned {
		t.Errorf("after all came back the order is %s", returned.Status)
	}
	s.want("100,5", `SELECT string_agg(stock::text, ',' ORDER BY id) FROM products`)

	var whole orderDetail
	s.must(200, "GET", path, "", &whole)
	if len(whole.Lines) != 2 || len(whole.Returns) != 3 || len(whole.Attempts) != 2 || len(whole.Payments) != 1 ||
		len(whole.Invoices) != 1 || len(whole.Shipments) != 1 || len(whole.Fees) != 1 || *whole.InvoiceNo != whole.Invoices[0].InvoiceNo {
		t.Errorf("the whole order is %+v", whole)
	}
	s.want("4", `SELECT count(*) FROM audit_log WHERE table_name = 'orders'`) // validated, paid, shipped, returned
}

func TestARejectedOrderKeepsWhatWasWanted(t *testing.T) {
	s := startShop(t)
	s.stocked()
	var placed orderPlaced
	s.must(201, "POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1},{"stockCode":"CLOCK","quantity":3},{"stockCode":"CLOCK","quantity":3}]}`, &placed)
	if placed.Status != statusRejected || len(placed.Rejections) != 3 {
		t.Fatalf("placed %+v", placed)
	}
	s.want("HEART 1/100, CLOCK 3/5, CLOCK 3/5", `SELECT string_agg(p.stock_code || ' ' || r.wanted || '/' || r.available, ', ' ORDER BY r.line_no)
		FROM order_rejections r JOIN products p ON p.id = r.product_id`)
	s.want("rejected", `SELECT status FROM orders`)
	s.want("0", `SELECT count(*) FROM order_items`)
	s.want("100,5", `SELECT string_agg(stock::text, ',' ORDER BY id) FROM products`)
	s.must(409, "POST", fmt.Sprintf("/orders/%d/validations", placed.ID), `{"checks":[{"type":"fraud","result":"passed"}]}`, nil)
}

func TestCancellingGivesTheStockBackAndHidingKeepsTheRow(t *testing.T) {
	s := startShop(t)
	s.stocked()
	var placed orderPlaced
	s.must(201, "POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"CLOCK","quantity":2},{"stockCode":"CLOCK","quantity":3}]}`, &placed)
	s.want("0", `SELECT stock FROM products WHERE stock_code = 'CLOCK'`)
	path := fmt.Sprintf("/orders/%d", placed.ID)
	s.must(409, "DELETE", path, "", nil)
	s.must(200, "POST", path+"/validations", `{"checks":[{"type":"details","result":"passed"},{"type":"fraud","result":"failed"}]}`, nil)
	s.want("validation_failed", `SELECT status FROM orders`)
	s.must(200, "POST", path+"/cancellation", `{"reason":"fraud"}`, nil)
	s.must(409, "POST", path+"/cancellation", `{}`, nil)
	s.want("5", `SELECT stock FROM products WHERE stock_code = 'CLOCK'`)
	s.must(204, "DELETE", path, "", nil)
	s.must(404, "GET", path, "", nil)
	s.want("cancelled fraud true", `SELECT status || ' ' || (attributes->>'cancelReason') || ' ' || (deleted_at IS NOT NULL) FROM orders`)
}

func TestOrdersSideBySideNeverOversell(t *testing.T) {
	s := startShop(t)
	s.stocked()
	var wg sync.WaitGroup
	bodies := []string{
		`{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1},{"stockCode":"CLOCK","quantity":1}]}`,
		`{"country":"EIRE","lines":[{"stockCode":"CLOCK","quantity":1},{"stockCode":"HEART","quantity":1}]}`,
	}
	for i := range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if a, err := s.try("POST", "/orders", bodies[i%2]); err != nil || a.status != 201 {
				t.Errorf("order %d: %d %s %v", i, a.status, a.body, err)
			}
		}()
	}
	wg.Wait()
	s.want("5 placed, 35 rejected", `SELECT string_agg(n || ' ' || status, ', ' ORDER BY status) FROM (SELECT status, count(*) n FROM orders GROUP BY 1) x`)
	s.want("95,0", `SELECT string_agg(stock::text, ',' ORDER BY id) FROM products`)
}

func TestTheSameKeyGivesTheSameAnswer(t *testing.T) {
	s := startShop(t)
	s.stocked()
	body := `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1}]}`
	first := s.ask("POST", "/orders", body, idempotencyHeader, "k1")
	again := s.ask("POST", "/orders", "  "+body+"\n", idempotencyHeader, "k1")
	if first.status != 201 || again.status != 201 || !bytes.Equal(first.body, again.body) || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("first %d %s, again %d %s", first.status, first.body, again.status, again.body)
	}
	other := s.ask("POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":2}]}`, idempotencyHeader, "k1")
	if other.status != 422 || !bytes.Contains(other.body, []byte("idempotency-key-reused")) {
		t.Errorf("another body: %d %s", other.status, other.body)
	}
	// A refused request keeps nothing: its key is free.
	s.must(422, "POST", "/orders", `{"country":"EIRE","lines":[]}`, nil)
	if a := s.ask("POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"NONE","quantity":1}]}`, idempotencyHeader, "k2"); a.status != 422 {
		t.Errorf("unknown product: %d %s", a.status, a.body)
	}
	if a := s.ask("POST", "/orders", body, idempotencyHeader, "k2"); a.status != 201 {
		t.Errorf("the key of a refused request: %d %s", a.status, a.body)
	}
	s.want("2", `SELECT count(*) FROM orders`)

	path := "/orders/1"
	s.must(200, "POST", path+"/validations", `{"checks":[{"type":"details","result":"passed"},{"type":"fraud","result":"passed"}]}`, nil)
	answers := make([]answer, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var err error
			if answers[i], err = s.try("POST", path+"/payment-attempts", `{"cardToken":"tok_1"}`, idempotencyHeader, "p1"); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for _, a := range answers {
		if a.status != 201 || !bytes.Equal(a.body, answers[0].body) {
			t.Errorf("payment: %d %s", a.status, a.body)
		}
	}
	s.want("1", `SELECT count(*) FROM payments`)
	s.want("1", `SELECT count(*) FROM payment_attempts`)
}

func TestErrorsAreProblems(t *testing.T) {
	s := startShop(t)
	s.stocked()
	for _, c := range []struct {
		method, path, body string
		status             int
		kind               string
	}{
		{"GET", "/nothing", "", 404, "not-found"},
		{"GET", "/orders/7", "", 404, "not-found"},
		{"GET", "/orders/x", "", 404, "not-found"},
		{"GET", "/products/NONE", "", 404, "not-found"},
		{"PUT", "/orders", "", 405, "method-not-allowed"},
		{"POST", "/orders", `{`, 400, "malformed-request"},
		{"POST", "/orders", `{"customer":1}`, 400, "malformed-request"},
		{"POST", "/orders", `{} {}`, 400, "malformed-request"},
		{"POST", "/orders", `null`, 422, "invalid-request"},
		{"POST", "/orders", `{"country":"EIRE","note":"\u0000","lines":[{"stockCode":"HEART","quantity":1}]}`, 422, "invalid-request"},
		{"POST", "/orders", `{"country":"EIRE","attributes":{"a":"\u0000"},"lines":[{"stockCode":"HEART","quantity":1}]}`, 422, "invalid-request"},
		{"POST", "/orders", `{"country":"EIRE","attributes":null,"lines":[{"stockCode":"HEART","quantity":1}]}`, 422, "invalid-request"},
		{"POST", "/orders", `{"customerId":99,"lines":[{"stockCode":"HEART","quantity":1}]}`, 422, "invalid-request"},
		{"POST", "/orders", `{"country":"EIRE","cartId":99,"lines":[{"stockCode":"HEART","quantity":1}]}`, 422, "invalid-request"},
		{"POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1,"unitPrice":"1.2345"}]}`, 400, "malformed-request"},
		{"POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1,"unitPrice":1e3}]}`, 400, "malformed-request"},
		{"POST", "/orders", `{"country":"EIRE","occurredAt":"yesterday","lines":[{"stockCode":"HEART","quantity":1}]}`, 400, "malformed-request"},
		{"POST", "/orders", `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1000000,"unitPrice":"999999999.999"}]}`, 422, "invalid-request"},
		{"POST", "/orders", `{"country":"` + strings.Repeat("x", maxBody) + `"}`, 413, "too-large"},
		{"POST", "/products", `{"stockCode":"HEART","price":"1"}`, 409, "conflict"},
		{"POST", "/products/CLOCK/stock-adjustments", `{"quantity":-6,"price":"0"}`, 409, "conflict"},
		{"POST", "/fees", `{"code":"M","quantity":1,"price":"1","orderId":99}`, 422, "invalid-request"},
		{"GET", "/orders?limit=0", "", 422, "invalid-request"},
		{"GET", "/orders?after=x", "", 422, "invalid-request"},
		{"GET", "/orders?customerId=99999999999", "", 422, "invalid-request"},
	} {
		a := s.ask(c.method, c.path, c.body)
		var p problem
		err := json.Unmarshal(a.body, &p)
		path, _, _ := strings.Cut(c.path, "?")
		if a.status != c.status || err != nil || p.Status != c.status || p.Type != "/problems/"+c.kind || p.Instance != path ||
			a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %.80s: %d %s %s, want %d %s", c.method, c.path, c.body, a.status, a.header.Get("Content-Type"), a.body, c.status, c.kind)
		}
	}
	var p problem
	s.must(422, "POST", "/orders", `{"lines":[{"stockCode":"","quantity":0}]}`, &p)
	if len(p.Errors) != 3 {
		t.Errorf("not all wrong fields are named: %+v", p.Errors)
	}
	s.want("0", `SELECT count(*) FROM orders`)
}

func TestListsComeInPages(t *testing.T) {
	s := startShop(t)
	for range 7 {
		s.customer()
	}
	var seen []int32
	after, pages := "0", 0
	for after != "" {
		var p page[customerAnswer]
		s.must(200, "GET", "/customers?limit=3&after="+after, "", &p)
		for _, c := range p.Items {
			seen = append(seen, c.ID)
		}
		after = p.Next
		pages++
	}
	if pages != 3 || fmt.Sprint(seen) != "[1 2 3 4 5 6 7]" {
		t.Errorf("%d pages: %v", pages, seen)
	}
	for _, path := range []string{"/products", "/orders", "/stock-adjustments", "/payments", "/invoices", "/shipments", "/returns", "/fees"} {
		var p page[json.RawMessage]
		s.must(200, "GET", path, "", &p)
		if p.Items == nil || len(p.Items) != 0 || p.Next != "" {
			t.Errorf("%s of an empty shop: %+v", path, p)
		}
	}
}

func TestCustomersMoveAndKeepTheirSecrets(t *testing.T) {
	s := startShop(t)
	var c customerRegistered
	s.must(201, "POST", "/customers", `{"customerNo":"17850","name":"Ben","country":"EIRE","email":"ben@shop.example","password":"opensesame",
		"addresses":[{"kind":"billing","street":"1","city":"Cork","postcode":"C1","country":"EIRE"}]}`, &c)
	s.must(204, "PUT", fmt.Sprintf("/customers/%d/addresses/%d", c.ID, c.AddressIDs[0]),
		`{"kind":"billing","street":"2","city":"Lyon","postcode":"69001","country":"France","occurredAt":"2011-01-02T03:04:05+01:00"}`, nil)
	s.want("France 2011-01-02 02:04:05", `SELECT country || ' ' || updated_at FROM customers`)
	s.must(204, "PATCH", fmt.Sprintf("/customers/%d", c.ID), `{"phone":"1","password":"another secret"}`, nil)
	s.want("true", `SELECT password_hash LIKE 'pbkdf2-sha256$100000$%' FROM customers`)
	s.want("3 false", `SELECT count(*) || ' ' || bool_or(coalesce(old_row::text, '') || new_row::text LIKE '%pbkdf2%') FROM audit_log`)
	if a := s.ask("GET", "/customers/1", ""); bytes.Contains(a.body, []byte("pbkdf2")) || !bytes.Contains(a.body, []byte("ben@shop.example")) {
		t.Errorf("the customer is shown as %s", a.body)
	}
	s.must(204, "DELETE", "/customers/1", "", nil)
	s.must(404, "GET", "/customers/1", "", nil)
	s.want("1", `SELECT count(*) FROM customers WHERE deleted_at IS NOT NULL`)
}

func TestACartIsOrderedOnce(t *testing.T) {
	s := startShop(t)
	s.stocked()
	s.must(201, "POST", "/carts", `{}`, nil)
	s.must(204, "PUT", "/carts/1/items/HEART", `{"quantity":3}`, nil)
	s.must(204, "PUT", "/carts/1/items/CLOCK", `{"quantity":1}`, nil)
	s.must(204, "DELETE", "/carts/1/items/CLOCK", "", nil)
	var cart cartAnswer
	s.must(200, "GET", "/carts/1", "", &cart)
	if len(cart.Items) != 1 || cart.Items[0].UnitPrice.String() != "5.81" {
		t.Errorf("the cart is %+v", cart) // a guest pays 2.95 * 1.97
	}
	body := `{"cartId":1,"country":"EIRE","lines":[{"stockCode":"HEART","quantity":3}]}`
	s.must(201, "POST", "/orders", body, nil)
	s.must(422, "POST", "/orders", body, nil)
	s.must(404, "PUT", "/carts/1/items/HEART", `{"quantity":1}`, nil)
	s.want("1", `SELECT count(*) FROM orders`)
}

func TestTheShopPricesByTierAndChannel(t *testing.T) {
	s := startShop(t)
	s.stocked()
	for query, want := range map[string]string{"": "2.95", "?quantity=11": "2.95", "?quantity=12": "2.55", "?quantity=12&channel=guest": "5.81"} {
		var q quoteAnswer
		s.must(200, "GET", "/products/HEART/quote"+query, "", &q)
		if q.UnitPrice.String() != want {
			t.Errorf("quote%s: %s, want %s", query, q.UnitPrice, want)
		}
	}
	s.must(204, "PUT", "/products/HEART/price", `{"price":"3.333"}`, nil)
	var q quoteAnswer
	s.must(200, "GET", "/products/HEART/quote?quantity=12", "", &q)
	if q.UnitPrice.String() != "3.333" || q.Total.String() != "39.996" {
		t.Errorf("after a change of price: %+v", q)
	}
	s.must(204, "DELETE", "/products/HEART", "", nil)
	s.must(404, "GET", "/products/HEART/quote", "", nil)
}

func TestTheShopOutlivesItsDatabase(t *testing.T) {
	server := pgtest.NewServer(t)
	db := server.NewDB(t)
	s := &testShop{t: t, url: serveShop(t, db.URL)}
	s.stocked()
	body := `{"country":"EIRE","lines":[{"stockCode":"HEART","quantity":1}]}`
	first := s.ask("POST", "/orders", body, idempotencyHeader, "k1")
	server.Stop(t, pgtest.Fast)
	for _, a := range []answer{s.ask("GET", "/healthz", ""), s.ask("GET", "/products", ""), s.ask("POST", "/orders", body)} {
		if a.status != 503 || a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Retry-After") == "" {
			t.Errorf("without a database the shop says %d %s", a.status, a.body)
		}
	}
	server.Start(t)
	if again := s.ask("POST", "/orders", body, idempotencyHeader, "k1"); again.status != 201 || !bytes.Equal(first.body, again.body) {
		t.Errorf("with its database back the shop says %d %s, before it said %s", again.status, again.body, first.body)
	}
}
