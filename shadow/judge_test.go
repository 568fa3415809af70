package shadow

import (
	"context"
	"math"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/compare"
	"banyan/money"
	"banyan/projections"
	"banyan/quote"
)

// twoLines are two pieces at 10.00 and one at 5.00, committed at 1:0/100. The list
// price of the first is 12.00.
const twoLines = `{"state":{"lines":[
	{"line_no":1,"product_id":"p","quantity":2,"unit_price":{"amount":1000,"scale":2,"currency":"GBP"}},
	{"line_no":2,"product_id":"q","quantity":1,"unit_price":{"amount":500,"scale":2,"currency":"GBP"}}]}}`

// replying answers with what it was given.
type replying struct {
	thrifty
	reply func(a *quote.Answer)
}

func (r replying) Price(_ *quote.Order, into *quote.Answer) error {
	into.Lines = append(into.Lines, quote.Price{Line: 1, Unit: gbp(10_500), Rule: "r"}, quote.Price{Line: 2, Unit: gbp(5_000)})
	r.reply(into)
	return nil
}

func TestEveryReason(t *testing.T) {
	ok := compare.Reason("")
	both := func(r compare.Reason) []compare.Reason { return []compare.Reason{r, r} }
	first := func(r compare.Reason) []compare.Reason { return []compare.Reason{r, ok} }
	unit := func(a money.Amount) func(*quote.Answer) {
		return func(an *quote.Answer) { an.Lines[0].Unit = a }
	}
	total := func(a money.Amount) func(*quote.Answer) {
		return func(an *quote.Answer) { an.Lines[0].Total = a }
	}
	asOf := func(text string) func(*quote.Answer) { return func(a *quote.Answer) { a.AsOf = text } }
	amount := func(n int64, scale int, currency string) money.Amount {
		return money.Amount{Amount: n, Scale: scale, Currency: currency}
	}
	for _, c := range []struct {
		name  string
		reply func(a *quote.Answer)
		want  []compare.Reason
	}{
		{"an answer", func(*quote.Answer) {}, both(ok)},
		{"as of the order itself", asOf("1:0/100"), both(ok)},
		{"as of an older position", asOf("1:0/FF"), both(ok)},
		{"as of an older generation", asOf("1:0/0"), both(ok)},
		{"the same position in other letters", asOf("1:00/0100"), both(ok)},
		{"as of nothing", asOf(""), both(compare.Unproven)},
		{"as of a later position", asOf("1:0/101"), both(compare.SawFuture)},
		{"as of a later file", asOf("1:1/0"), both(compare.SawFuture)},
		{"as of a later generation", asOf("2:0/1"), both(compare.SawFuture)},
		{"as of nonsense", asOf("yesterday"), both(compare.Unparsable)},
		{"declined", func(a *quote.Answer) { a.Declined = "no" }, both(compare.Declined)},
		{"no lines", func(a *quote.Answer) { a.Lines = nil }, both(compare.NoAnswer)},
		{"one line", func(a *quote.Answer) { a.Lines = a.Lines[1:] }, first(compare.NoAnswer)},
		{"in another order", func(a *quote.Answer) { a.Lines[0], a.Lines[1] = a.Lines[1], a.Lines[0] }, both(ok)},
		{"a line that nobody asked for", func(a *quote.Answer) { a.Lines = append(a.Lines, quote.Price{Line: 9, Unit: gbp(1)}) }, both(ok)},
		{"a line twice, the same", func(a *quote.Answer) { a.Lines = append(a.Lines, a.Lines[0]) }, both(ok)},
		{"a line twice, not the same", func(a *quote.Answer) { a.Lines = append(a.Lines, quote.Price{Line: 1, Unit: gbp(10_600)}) }, first(compare.DuplicateAnswer)},
		{"a line twice, by another total", func(a *quote.Answer) {
			a.Lines = append(a.Lines, quote.Price{Line: 1, Unit: gbp(10_500), Total: gbp(21_001)})
		}, first(compare.DuplicateAnswer)},
		{"a line twice, the other missing", func(a *quote.Answer) { a.Lines[1] = a.Lines[0] }, []compare.Reason{ok, compare.NoAnswer}},
		{"another currency", unit(amount(10_500, 3, "EUR")), first(compare.WrongCurrency)},
		{"no currency", unit(amount(10_500, 3, "")), first(compare.WrongCurrency)},
		{"nothing", unit(money.Amount{}), first(compare.WrongCurrency)},
		{"negative", unit(gbp(-1)), first(compare.BadPrice)},
		{"the least there is", unit(amount(math.MinInt64, 3, "GBP")), first(compare.BadPrice)},
		{"for nothing", unit(gbp(0)), first(compare.BadPrice)},
		{"the smallest", unit(amount(1, 4, "GBP")), both(ok)},
		{"too fine", unit(amount(100_001, 5, "GBP")), first(compare.TooFine)},
		{"five decimals of which one is none", unit(amount(1_000_010, 5, "GBP")), both(ok)},
		{"ten times the list price", unit(gbp(120_000)), both(ok)},
		{"more than ten times", unit(gbp(130_000)), first(compare.BadPrice)},
		{"absurd", unit(amount(math.MaxInt64, 4, "GBP")), first(compare.BadPrice)},
		{"absurd, and beyond all units", unit(amount(math.MaxInt64, 0, "GBP")), first(compare.BadPrice)},
		{"the total, as it is anyway", total(gbp(21_000)), both(ok)},
		{"the total, a penny of each away", total(gbp(21_020)), both(ok)},
		{"the total, further away", total(gbp(21_021)), first(compare.BadPrice)},
		{"the total, further below", total(gbp(20_979)), first(compare.BadPrice)},
		{"the total in another currency", total(amount(21_000, 3, "EUR")), first(compare.WrongCurrency)},
		{"the total too fine", total(amount(2_100_001, 5, "GBP")), first(compare.TooFine)},
		{"the total negative", total(gbp(-21_000)), first(compare.BadPrice)},
		{"the total beyond all units", total(amount(math.MaxInt64, 0, "GBP")), first(compare.BadPrice)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := judged(t, replying{reply: c.reply})
			l := s.ledger.Books["GBP"]
			var got []compare.Reason
			for i := range s.one.order.Lines {
				got = append(got, s.one.order.Lines[i].Reason)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			compared := int64(0)
			for _, r := range c.want {
				if r == "" {
					compared++
				}
			}
			if l.Consumed.Lines != 2 || l.Compared.Lines != compared || l.Consumed.Control != 250_000 {
				t.Errorf("consumed %+v, compared %+v", l.Consumed, l.Compared)
			}
		})
	}
}

// judged has the order of twoLines compared.
func judged(t *testing.T, who quote.Candidate) *core {
	t.Helper()
	s := newCore(named("judge"))
	s.candidate = who
	s.world.apply(&change{Kind: priceTold, Product: "p", List: priceOf(gbp(12_000))})
	e := at(s.reader, 0x100, 0, "shop.orders", "OrderPlaced", "1", twoLines)
	if err := s.take(t.Context(), []*projections.Event{e}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestATotalOfItsOwnCounts(t *testing.T) {
	s := judged(t, replying{reply: func(a *quote.Answer) { a.Lines[0].Total = gbp(20_990) }})
	n := s.one.order.Lines[0]
	if n.Candidate != 105_000 || n.Quoted != 209_900 || n.Rule != "r" || n.Cause != compare.Policy {
		t.Errorf("%+v", n)
	}
}

// Where there is no answer at all the reason is that of asking, or no-answer.
func TestNoAnswerAtAll(t *testing.T) {
	for reason, want := range map[compare.Reason]compare.Reason{"": compare.NoAnswer, compare.Timeout: compare.Timeout, compare.Open: compare.Open, compare.Unproven: compare.Unproven} {
		s := newCore(named("nil"))
		s.pricer = fixed{Got{Reason: reason}}
		e := at(s.reader, 0x100, 0, "shop.orders", "OrderPlaced", "1", twoLines)
		if err := s.take(t.Context(), []*projections.Event{e}); err != nil {
			t.Fatal(err)
		}
		if got := s.ledger.Books["GBP"].Excluded[want]; got.Lines != 2 || s.ledger.Excluded[want] != 1 {
			t.Errorf("%q: %+v, %+v", reason, s.ledger.Excluded, s.ledger.Books["GBP"].Excluded)
		}
	}
}

// What an order itself cannot be compared for, nobody is asked about.
func TestLinesThatNobodyIsAskedAbout(t *testing.T) {
	line := func(quantity, price string) string {
		return `{"state":{"customer_id":1,"lines":[{"line_no":1,"product_id":"p","quantity":` + quantity + `,"unit_price":` + price + `}]}}`
	}
	tenner := `{"amount":10,"scale":0,"currency":"GBP"}`
	for _, c := range []struct {
		name, data string
		want       compare.Reason
		currency   string
	}{
		{"free", line("1", `{"amount":0,"scale":2,"currency":"GBP"}`), compare.Free, "GBP"},
		{"no price", line("1", "null"), compare.NoPrice, "XXX"},
		{"a price that is a number", line("1", "9.99"), compare.NoPrice, "XXX"},
		{"a negative price", line("1", `{"amount":-1,"scale":2,"currency":"GBP"}`), compare.NoPrice, "GBP"},
		{"too fine", line("1", `{"amount":1,"scale":5,"currency":"GBP"}`), compare.NoPrice, "GBP"},
		{"given back", line("-1", tenner), compare.NotSold, "GBP"},
		{"none of it", line("0", tenner), compare.NotSold, "GBP"},
		{"more than there is money", line("9000000000000000000", tenner), compare.TooLarge, "GBP"},
		{"a price beyond all units", line("1", `{"amount":9000000000000000000,"scale":0,"currency":"GBP"}`), compare.NoPrice, "GBP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newCore(named("alone"))
			s.candidate = replying{reply: func(*quote.Answer) { t.Error("it was asked") }}
			if err := s.take(t.Context(), []*projections.Event{at(s.reader, 1, 0, "shop.orders", "OrderPlaced", "1", c.data)}); err != nil {
				t.Fatal(err)
			}
			if b := s.ledger.Books[c.currency]; b == nil || b.Excluded[c.want].Lines != 1 || s.ledger.Excluded[c.want] != 1 {
				t.Errorf("%+v", s.ledger.Excluded)
			}
		})
	}
}

func TestPlacesAreWrittenAndRead(t *testing.T) {
	topic, part, offset, err := ParseAt(At("shop/orders", 3, 1234))
	if topic != "shop/orders" || part != 3 || offset != 1234 || err != nil {
		t.Errorf("%s %d %d %v", topic, part, offset, err)
	}
	for _, bad := range []string{"", "a", "a/1", "/1/2", "a/-1/2", "a/1/-2", "a/x/2", "a/1/x", "a/1/" + strconv.Itoa(math.MaxInt64) + "0"} {
		if _, _, _, err := ParseAt(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// fixed gives every order the same.
type fixed struct{ got Got }

func (f fixed) Price(_ context.Context, orders []quote.Order) ([]Got, error) {
	all := make([]Got, len(orders))
	for i := range all {
		all[i] = f.got
	}
	return all, nil
}
