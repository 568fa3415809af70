package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The made-up shop has the shape of the real year: a wholesaler and web shop
// with quantity tiers, guests who pay more, quiet Saturdays and a busy autumn,
// returns, fees, damaged goods, and a fifth of its products in short supply.
// What it sends depends on the seed, the first day and the number of days, and
// on nothing else: the shop's answers only decide which steps of a life cycle
// still make sense.

// madeUp is a shop in the making.
type madeUp struct {
	*tally
	rnd      *rand.Rand
	seed     uint64
	start    time.Time
	steps    []*step
	products []*goods
	accounts []*account
	orders   int
	papers   int
	shown    bool // the order that goes all the way is there
}

// goods is a product as its maker knows it.
type goods struct {
	code  string
	name  string
	price amount
	tier  int32
	cheap amount // the price from tier pieces on
	rare  bool   // little stock: some of its orders are rejected
}

// Sizes of the made-up shop. A week has about 2,000 REST calls.
const (
	firstProducts  = 180
	firstCustomers = 40
	ordersADay     = 48
)

// seasons is how busy a month is, January first, in percent.
var seasons = [12]int{70, 75, 90, 85, 95, 95, 90, 95, 120, 130, 160, 140}

// generateShop gives the steps of days days, in business time. Life cycles that
// begin within the days are carried through after them.
func generateShop(t *tally, seed uint64, start time.Time, days int) []*step {
	m := &madeUp{tally: t, rnd: rand.New(rand.NewPCG(seed, 0x5ca1ab1e)), seed: seed, start: start}
	m.open()
	for day := range days {
		m.day(start.AddDate(0, 0, day), day)
	}
	slices.SortStableFunc(m.steps, func(a, b *step) int { return a.when.Compare(b.when) })
	return m.steps
}

func (m *madeUp) add(when time.Time, rows int, do act, subjects ...subject) {
	m.steps = append(m.steps, &step{when: when, rows: rows, subjects: subjects, do: do})
}

// percent is true in p of 100 cases.
func (m *madeUp) percent(p int) bool { return m.rnd.IntN(100) < p }

// between is a whole number from low to high.
func (m *madeUp) between(low, high int) int { return low + m.rnd.IntN(high-low+1) }

func pick[T any](m *madeUp, list []T) T { return list[m.rnd.IntN(len(list))] }

// at is a moment of a day while the shop is open.
func (m *madeUp) at(day time.Time) time.Time {
	return day.Add(8*time.Hour + time.Duration(m.rnd.IntN(11*3600))*time.Second)
}

var (
	adjectives = []string{"WHITE", "RED RETROSPOT", "VINTAGE", "WOODEN", "HANGING", "GLASS", "PINK POLKADOT", "FRENCH", "SILVER", "FELTCRAFT"}
	things     = []string{"HEART T-LIGHT HOLDER", "CAKE TIN", "JUMBO BAG", "ALARM CLOCK", "PICTURE FRAME", "TEA TOWEL", "DOORMAT", "LUNCH BOX", "BUNTING", "NIGHT LIGHT"}
	firstNames = []string{"Anna", "Ben", "Clara", "David", "Ella", "Frank", "Grace", "Henry", "Isla", "Jack", "Kate", "Liam"}
	lastNames  = []string{"Archer", "Baker", "Cooper", "Draper", "Fisher", "Glover", "Mason", "Potter", "Sawyer", "Turner"}
	streets    = []string{"High Street", "Station Road", "Mill Lane", "Church Road", "Park Avenue"}
	cities     = map[string][]string{
		"United Kingdom": {"Leeds", "Bristol", "York", "London"},
		"Germany":        {"Bremen", "Köln"}, "France": {"Lyon", "Nantes"}, "EIRE": {"Cork", "Dublin"},
	}
	countries = []string{"United Kingdom", "United Kingdom", "United Kingdom", "United Kingdom", "United Kingdom", "United Kingdom", "Germany", "France", "EIRE"}
	carriers  = []string{"Royal Mail", "Parcelforce", "DHL"}
)

// open fills the shop before its first day.
func (m *madeUp) open() {
	for part := 0; part < firstProducts; part += 60 {
		m.listProducts(m.start, 60)
	}
	for i := range firstCustomers {
		m.newCustomer(m.start.Add(time.Duration(i) * time.Minute))
	}
}

// listProducts adds n products to the price list in one call.
func (m *madeUp) listProducts(when time.Time, n int) {
	list := make([]productRequest, n)
	subjects := make([]subject, n)
	for i := range list {
		g := m.newGoods()
		stock := m.between(4_000, 9_000)
		if g.rare {
			stock = m.between(15, 90)
		}
		list[i] = productRequest{StockCode: g.code, Description: g.name, Stock: int32(stock), Price: g.price,
			TierQuantity: g.tier, TierPrice: ptr(g.cheap), OccurredAt: at(when)}
		if m.percent(70) {
			cost := g.price * amount(m.between(35, 60)) / 100
			list[i].Cost = &cost
		}
		subjects[i] = productSubject(g.code)
	}
	m.add(when, 0, m.list(list), subjects...)
}

func (m *madeUp) newGoods() *goods {
	n := len(m.products)
	g := &goods{
		code: fmt.Sprintf("%d-%05d%c", m.seed, 20_000+n, 'A'+rune(n%4)),
		name: pick(m, adjectives) + " " + pick(m, things),
		tier: int32(pick(m, []int{12, 24, 48})),
		rare: n%5 == 4,
	}
	// Most things are cheap: pennies up to 29.95, few above 10 pounds.
	g.price = amount(m.between(29, 295)) * amount(pick(m, []int{1, 1, 1, 2, 4, 10})) * 10
	if n%50 == 7 {
		g.price = amount(m.between(35, 95)) // sold by the hundred, a few tenths of a penny matter
	}
	m.tierPrice(g)
	m.products = append(m.products, g)
	return g
}

// tierPrice is 14 % off, cut to the penny where the price has whole pennies.
func (m *madeUp) tierPrice(g *goods) {
	if g.cheap = g.price * 86 / 100; g.price%10 == 0 {
		g.cheap = g.cheap / 10 * 10
	}
}

func (m *madeUp) newCustomer(when time.Time) *account {
	n := len(m.accounts)
	a := &account{no: fmt.Sprintf("%d-%d", m.seed, 12_000+n)}
	name := pick(m, firstNames) + " " + pick(m, lastNames)
	home := m.address(pick(m, countries), "billing", when)
	req := customerRequest{CustomerNo: a.no, Name: name, Country: home.Country, Newsletter: m.percent(40), Addresses: []addressRequest{home}, OccurredAt: at(when)}
	if m.percent(60) {
		req.Email = fmt.Sprintf("%s.%s@shop.example", strings.ToLower(strings.ReplaceAll(name, " ", ".")), a.no)
		req.Phone = fmt.Sprintf("+44 1632 96%04d", m.rnd.IntN(10_000))
		req.Password = fmt.Sprintf("opensesame-%d", m.rnd.IntN(1_000_000))
	}
	if m.percent(30) {
		req.Addresses = append(req.Addresses, m.address(home.Country, "shipping", when))
	}
	m.accounts = append(m.accounts, a)
	m.add(when, 0, m.register(a, req), customerSubject(a.no))
	return a
}

func (m *madeUp) address(country, kind string, when time.Time) addressRequest {
	return addressRequest{Kind: kind, Street: fmt.Sprintf("%d %s", m.between(1, 180), pick(m, streets)), City: pick(m, cities[country]),
		Postcode: fmt.Sprintf("%c%c%d %dXY", 'A'+rune(m.rnd.IntN(20)), 'A'+rune(m.rnd.IntN(20)), m.between(1, 20), m.between(1, 9)),
		Country:  country, OccurredAt: at(when)}
}

// day plays one day. The shop is closed on Saturdays, as the real one was, but
// its first day is always open.
func (m *madeUp) day(day time.Time, n int) {
	if day.Weekday() == time.Saturday && n > 0 {
		return
	}
	for range m.between(2, 5) {
		m.newCustomer(m.at(day).Truncate(time.Hour))
	}
	orders := ordersADay * seasons[day.Month()-1] / 100 * m.between(85, 115) / 100
	for range orders {
		m.order(m.at(day))
	}
	if !m.shown {
		m.wholeStory(day)
	}
	m.staff(day)
	if day.Weekday() == time.Monday {
		m.monday(day)
	}
}

// staff is what the people in the shop do on a day: prices, damages, moves.
func (m *madeUp) staff(day time.Time) {
	for range 3 {
		g, when := pick(m, m.products), m.at(day)
		if g.price = g.price * amount(m.between(90, 112)) / 100; g.price >= 200 {
			g.price = g.price / 10 * 10
		}
		m.tierPrice(g)
		m.add(when, 0, send(http.MethodPut, productPath(g.code, "/price"),
			priceRequest{Price: g.price, TierQuantity: g.tier, TierPrice: ptr(g.cheap), OccurredAt: at(when)}), productSubject(g.code))
	}
	for range m.between(2, 5) {
		g, when := m.products[5*m.rnd.IntN(len(m.products)/5)], m.at(day) // never a rare one
		reason := pick(m, []string{"damaged", "thrown away", "wet", "found", "sold as set", "check"})
		lost := -m.between(1, 20)
		if reason == "found" {
			lost = -lost
		}
		m.add(when, 1, m.adjust(g.code, adjustmentRequest{Quantity: int32(lost), Reason: reason, InvoiceNo: m.paper("A"), OccurredAt: at(when)}), productSubject(g.code))
	}
	a, when := pick(m, m.accounts[:firstCustomers]), m.at(day)
	m.add(when, 0, m.move(a, m.address(pick(m, countries), "billing", when)), customerSubject(a.no))
	a, when = pick(m, m.accounts[:firstCustomers]), m.at(day)
	phone := fmt.Sprintf("+44 1632 96%04d", m.rnd.IntN(10_000))
	m.add(when, 0, func(ctx context.Context, c *client) error {
		return c.call(ctx, http.MethodPatch, fmt.Sprintf("/customers/%d", a.id), "", customerChange{Phone: &phone, OccurredAt: at(when)}, nil)
	}, customerSubject(a.no))
}

// monday brings deliveries, the fees of the week, a new product, and the end of
// one product and one account that nobody used.
func (m *madeUp) monday(day time.Time) {
	morning := day.Add(7 * time.Hour)
	week := day.YearDay() / 7
	for i, g := range m.products {
		pieces := 0
		switch {
		case g.rare && i%2 == 0:
			pieces = m.between(20, 120)
		case !g.rare && (i < firstProducts/5 || i%4 == week%4):
			pieces = m.between(300, 600)
		default:
			continue
		}
		m.add(morning, 1, m.adjust(g.code, adjustmentRequest{Quantity: int32(pieces), Reason: "delivery", InvoiceNo: m.paper("D"), OccurredAt: at(morning)}), productSubject(g.code))
	}
	m.listProducts(morning, 2)
	evening := day.Add(20 * time.Hour)
	for _, f := range []feeLine{
		{Code: "AMAZONFEE", Description: "AMAZON FEE", Quantity: 1, Price: -amount(m.between(5_000, 90_000)) * 10},
		{Code: "BANK CHARGES", Description: "Bank Charges", Quantity: 1, Price: amount(m.between(500, 2_000)) * 10},
		{Code: "M", Description: "Manual", Quantity: -1, Price: amount(m.between(100, 9_000)) * 10},
	} {
		f.OccurredAt = at(evening)
		m.add(evening, 1, m.charge(nil, feeRequest{InvoiceNo: m.paper("F"), Country: "United Kingdom", feeLine: f}))
	}
	m.passing(day)
}

// passing lists a product and registers a customer that are gone by Tuesday.
func (m *madeUp) passing(day time.Time) {
	when, gone := day.Add(9*time.Hour), day.Add(26*time.Hour)
	code := fmt.Sprintf("%d-%05dX", m.seed, 90_000+m.papers)
	m.add(when, 0, m.list([]productRequest{{StockCode: code, Description: "SAMPLE", Price: 950, OccurredAt: at(when)}}), productSubject(code))
	m.add(gone, 0, send(http.MethodDelete, productPath(code, ""), nil), productSubject(code))
	a := &account{no: code}
	m.add(when, 0, m.register(a, customerRequest{CustomerNo: code, Name: "Passing Visitor", Country: "France", OccurredAt: at(when)}), customerSubject(a.no))
	m.add(gone, 0, func(ctx context.Context, c *client) error {
		return c.call(ctx, http.MethodDelete, fmt.Sprintf("/customers/%d", a.id), "", nil, nil)
	}, customerSubject(a.no))
}

// paper is the number of a new piece of paper.
func (m *madeUp) paper(prefix string) string {
	m.papers++
	return fmt.Sprintf("%s%d-%06d", prefix, m.seed, m.papers)
}

func ptr[T any](v T) *T { return &v }

// attributes is the jsonb of an order: whatever somebody once needed.
func (m *madeUp) attributes() json.RawMessage {
	switch m.rnd.IntN(4) {
	case 0:
		return json.RawMessage(`{"source":"newsletter","coupon":null}`)
	case 1:
		return json.RawMessage(fmt.Sprintf(`{"source":"search","giftWrap":%t,"visits":%d}`, m.percent(50), m.between(1, 9)))
	}
	return nil
}
