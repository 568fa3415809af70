package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var allReasons = []Reason{Recorded, Released, BeforeStart, Sampled, Timeout, Failed, Refused, Redirect, Oversize, Unparsable, NoAnswer, DuplicateAnswer, Declined,
	Open, SawFuture, Unproven, WrongCurrency, BadPrice, TooFine, TooLarge, Free, NoPrice, NotSold}

var allCauses = []Cause{Same, Rounding, TaxOrder, MissingDiscount, MissingSurcharge, StalePrice, StaleStock, Policy}

// modest are amounts of a shop, wild ones are anything that an int64 holds.
var (
	modest = rapid.Int64Range(0, 500_000)
	wild   = rapid.OneOf(rapid.Int64(), modest, rapid.Int64Range(-3, 3), rapid.Int64Range(math.MaxInt64-3, math.MaxInt64), rapid.Int64Range(math.MinInt64, math.MinInt64+3))
)

// anyOrders makes orders of a few customers, products, days and currencies, as they
// lie in the partitions of a topic.
func anyOrders(t *rapid.T, amount *rapid.Generator[int64]) []Order {
	n := rapid.IntRange(0, 30).Draw(t, "orders")
	next := map[int]int64{}
	var all []Order
	for i := range n {
		part := rapid.IntRange(0, 2).Draw(t, "partition")
		o := Order{Event: fmt.Sprint("shop/Order/", i), Topic: "shop.orders", Partition: part, Offset: next[part],
			Cluster: fmt.Sprint("c", rapid.IntRange(0, 4).Draw(t, "customer")), Day: 15_000 + rapid.Int32Range(0, 70).Draw(t, "day"),
			Segments: []string{"channel=web", rapid.SampledFrom([]string{"country=France", "country=Japan"}).Draw(t, "country")},
			Size:     "size=1 line", Added: rapid.IntRange(0, 4).Draw(t, "added") == 0}
		next[part] += rapid.Int64Range(1, 3).Draw(t, "gap")
		if rapid.IntRange(0, 3).Draw(t, "guest") == 0 {
			o.Guest, o.Cluster = true, fmt.Sprint("guest-", i)
		}
		for range rapid.IntRange(0, 4).Draw(t, "lines") {
			o.Lines = append(o.Lines, anyLine(t, int64(len(o.Lines)+1), amount))
		}
		if len(o.Lines) == 0 { // such a one says why; a line that was added is always there
			o.Added, o.Reason = false, rapid.SampledFrom([]Reason{NoLines, Unreadable}).Draw(t, "empty")
		}
		all = append(all, o)
	}
	return all
}

func anyLine(t *rapid.T, number int64, amount *rapid.Generator[int64]) Line {
	product := rapid.IntRange(0, 3).Draw(t, "product")
	n := Line{Line: number, Product: fmt.Sprint("p", product), Code: fmt.Sprint("code", product), Currency: rapid.SampledFrom([]string{"GBP", "GBP", "JPY", "KWD", "XXX"}).Draw(t, "currency"),
		Quantity: rapid.OneOf(rapid.Int64Range(1, 30), rapid.Int64Range(-2, 0), rapid.Map(amount, func(i int64) int64 { return i })).Draw(t, "quantity"),
		Control:  amount.Draw(t, "control"), Cost: amount.Draw(t, "cost"), CostKnown: rapid.Bool().Draw(t, "costKnown"),
		Stock: rapid.Int64Range(-1, 100).Draw(t, "stock"), StockKnown: rapid.Bool().Draw(t, "stockKnown")}
	var fits bool
	if n.Paid, fits = Times(n.Control, n.Quantity); !fits {
		n.Reason = TooLarge
		return n
	}
	if rapid.IntRange(0, 3).Draw(t, "aside") == 0 {
		n.Reason = rapid.SampledFrom(allReasons).Draw(t, "reason")
		return n
	}
	n.Candidate = amount.Draw(t, "candidate")
	if n.Quoted, fits = Times(n.Candidate, n.Quantity); !fits {
		n.Reason = TooLarge
	}
	n.Cause = rapid.SampledFrom(allCauses).Draw(t, "cause")
	return n
}

// cloned is a copy that Take may write to.
func cloned(orders []Order) []Order {
	all := slices.Clone(orders)
	for i := range all {
		all[i].Lines = slices.Clone(all[i].Lines)
	}
	return all
}

func ledgerOf(orders []Order) *Ledger {
	l := NewLedger()
	for i := range orders {
		l.Take(&orders[i])
	}
	return l
}

// rows is everything in a ledger.
type rows struct {
	Ledger *Ledger
	Books  map[string]bookRows
}

type bookRows struct {
	Book     *Book
	Clusters map[string]*Cluster
	Products map[string]*Product
	Moves    map[int64]*Move
	Days     map[int32]*Day
}

func whole(t interface{ Fatal(...any) }, l *Ledger) string {
	all := rows{l, map[string]bookRows{}}
	for c, b := range l.Books {
		all.Books[c] = bookRows{b, b.Clusters, b.Products, b.Moves, b.Days}
	}
	raw, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// sum adds up without any bound.
type sum struct{ n big.Int }

func (s *sum) add(u int64)     { s.n.Add(&s.n, big.NewInt(u)) }
func (s *sum) sub(u int64)     { s.n.Sub(&s.n, big.NewInt(u)) }
func (s *sum) is(u int64) bool { return s.n.IsInt64() && s.n.Int64() == u }
func (s *sum) times(u, n int64) {
	s.n.Add(&s.n, new(big.Int).Mul(big.NewInt(u), big.NewInt(n)))
}

// Whatever is consumed is compared or excluded: each order, each line, each penny.
func TestEverythingConsumedIsComparedOrExcluded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := anyOrders(t, rapid.SampledFrom([]*rapid.Generator[int64]{modest, wild}).Draw(t, "amounts"))
		taken := cloned(given)
		l := ledgerOf(taken)
		orders, aside := int64(0), l.Compared
		for i := range given {
			if !given[i].Added {
				orders++
			}
		}
		for _, n := range l.Excluded {
			aside += n
		}
		if l.Consumed != orders || aside != orders {
			t.Fatalf("%d orders were given, %d consumed, %d compared or excluded", orders, l.Consumed, aside)
		}
		type place struct {
			currency string
			part     int
		}
		lines, paid := map[place]int64{}, map[place]*sum{}
		for i := range taken {
			for k := range taken[i].Lines {
				n, was := &taken[i].Lines[k], &given[i].Lines[k]
				at := place{n.Currency, taken[i].Partition}
				if paid[at] == nil {
					paid[at] = &sum{}
				}
				lines[at]++
				paid[at].add(n.Paid)
				if n.Paid != was.Paid && (n.Paid != 0 || n.Reason == "") {
					t.Fatalf("of %d paid %d were counted, with reason %q", was.Paid, n.Paid, n.Reason)
				}
			}
		}
		for at, n := range lines {
			if got := l.Books[at.currency].ByPartition[at.part]; got.Lines != n || !paid[at].is(got.Control) {
				t.Fatalf("%v: %+v is counted of %d lines and %s", at, got, n, &paid[at].n)
			}
		}
		for currency, b := range l.Books {
			var all, parts sum
			all.add(b.Compared.Control)
			count, inParts := b.Compared.Lines, int64(0)
			for _, e := range b.Excluded {
				all.add(e.Control)
				count += e.Lines
			}
			for _, p := range b.ByPartition {
				parts.add(p.Control)
				inParts += p.Lines
			}
			if count != b.Consumed.Lines || inParts != count || !all.is(b.Consumed.Control) || !parts.is(b.Consumed.Control) {
				t.Fatalf("%s: consumed %+v, but compared and excluded are %d lines and %s, in partitions %d and %s", currency, b.Consumed, count, &all.n, inParts, &parts.n)
			}
		}
	})
}

// plainBook adds everything up again, slowly and without bounds.
type plainBook struct {
	candidate, rise, fall, below, controlBelow, knownControl, knownCandidate, knownCost, pairs, volume sum
	clusters, clusterKnown, owed, segments, products, productDiff, days, moves, causes, missing        map[string]*sum
}

func plainly(orders []Order, currency string) *plainBook {
	p := &plainBook{}
	for _, m := range []*map[string]*sum{&p.clusters, &p.clusterKnown, &p.owed, &p.segments, &p.products, &p.productDiff, &p.days, &p.moves, &p.causes, &p.missing} {
		*m = map[string]*sum{}
	}
	at := func(m map[string]*sum, key any) *sum {
		k := fmt.Sprint(key)
		if m[k] == nil {
			m[k] = &sum{}
		}
		return m[k]
	}
	for i := range orders {
		o := &orders[i]
		pairs := map[string]*sum{}
		for k := range o.Lines {
			n := &o.Lines[k]
			if n.Currency != currency {
				continue
			}
			p.volume.n.Add(&p.volume.n, new(big.Int).Abs(big.NewInt(n.Paid)))
			if n.Reason != "" {
				if n.Reason.Missing() && n.Reason != Sampled {
					at(p.owed, o.Cluster).add(n.Paid)
					for _, s := range append([]string{o.Size}, o.Segments...) {
						at(p.missing, s).add(n.Paid)
					}
				}
				continue
			}
			p.volume.n.Add(&p.volume.n, new(big.Int).Abs(big.NewInt(n.Quoted)))
			p.candidate.add(n.Quoted)
			var diff sum
			diff.add(n.Quoted)
			diff.sub(n.Paid)
			change := func(s *sum) { s.n.Add(&s.n, &diff.n) }
			switch diff.n.Sign() {
			case 1:
				change(&p.rise)
			case -1:
				change(&p.fall)
			}
			for _, s := range []*sum{at(p.clusters, o.Cluster), at(p.productDiff, n.Product), at(p.days, o.Day), at(p.moves, binOf(n)), at(p.causes, n.Cause), at(pairs, n.Product)} {
				change(s)
			}
			for _, s := range o.Segments {
				change(at(p.segments, o.Cluster+s))
			}
			at(p.products, n.Product).add(n.Paid)
			if n.CostKnown {
				var cost sum
				cost.times(n.Cost, n.Quantity)
				p.volume.n.Add(&p.volume.n, new(big.Int).Abs(&cost.n))
				p.knownControl.add(n.Paid)
				p.knownCandidate.add(n.Quoted)
				p.knownCost.n.Add(&p.knownCost.n, &cost.n)
				change(at(p.clusterKnown, o.Cluster))
				if big.NewInt(n.Quoted).Cmp(&cost.n) < 0 {
					change(&p.below)
				}
				if big.NewInt(n.Paid).Cmp(&cost.n) < 0 {
					change(&p.controlBelow)
				}
			}
		}
		for _, s := range pairs {
			p.pairs.n.Add(&p.pairs.n, new(big.Int).Mul(&s.n, &s.n))
		}
	}
	return p
}

// binOf says in words of fractions which move a line is.
func binOf(n *Line) int64 {
	if n.Paid <= 0 {
		return 0
	}
	r := new(big.Rat).SetFrac(new(big.Int).Sub(big.NewInt(n.Quoted), big.NewInt(n.Paid)), big.NewInt(n.Paid))
	r.Mul(r, big.NewRat(1_000_000, 1))
	ppm := new(big.Int).Quo(r.Num(), r.Denom()) // cut towards zero
	limit := big.NewInt(1_000_000_000)
	if ppm.CmpAbs(limit) > 0 {
		ppm.Mul(limit, big.NewInt(int64(ppm.Sign())))
	}
	return int64(math.Floor(float64(ppm.Int64()) / BinWidth))
}

// No sum of a book differs from one that is added up without any bound, however large
// the amounts: nothing overflows unseen.
func TestEverySumIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := anyOrders(t, rapid.SampledFrom([]*rapid.Generator[int64]{modest, wild}).Draw(t, "amounts"))
		l := ledgerOf(orders)
		for currency, b := range l.Books {
			p := plainly(orders, currency)
			for _, c := range []struct {
				name string
				want *sum
				got  Units
			}{
				{"candidate", &p.candidate, b.Candidate}, {"rise", &p.rise, b.Rise.Diff}, {"fall", &p.fall, b.Fall.Diff},
				{"below", &p.below, b.Below.Diff}, {"controlBelow", &p.controlBelow, b.ControlBelow.Diff}, {"volume", &p.volume, b.Volume},
				{"known.control", &p.knownControl, b.Known.Control}, {"known.candidate", &p.knownCandidate, b.Known.Candidate}, {"known.cost", &p.knownCost, b.Known.Cost},
			} {
				if !c.want.is(c.got) {
					t.Fatalf("%s, %s: %d, want %s", currency, c.name, c.got, &c.want.n)
				}
			}
			if b.Pairs.big().Cmp(&p.pairs.n) != 0 {
				t.Fatalf("%s, pairs: %s, want %s", currency, b.Pairs.big(), &p.pairs.n)
			}
			all := map[string]map[string]*sum{"cluster": p.clusters, "cluster, known": p.clusterKnown, "owed": p.owed, "segment": p.segments, "product": p.products,
				"product, diff": p.productDiff, "day": p.days, "move": p.moves, "cause": p.causes, "missing": p.missing}
			for _, f := range figuresOf(b) {
				want := all[f.what][f.key]
				if want == nil && f.u != 0 || want != nil && !want.is(f.u) {
					t.Fatalf("%s, %s %s: %d, want %v", currency, f.what, f.key, f.u, want)
				}
				delete(all[f.what], f.key)
			}
			for what, rest := range all {
				for key, s := range rest {
					t.Fatalf("%s, %s %s: is not there, want %s", currency, what, key, &s.n)
				}
			}
		}
	})
}

type figure struct {
	what, key string
	u         Units
}

// figuresOf lists what rows say, by the names that plainly has for them.
func figuresOf(b *Book) []figure {
	var all []figure
	for k, c := range b.Clusters {
		if c.Lines > 0 {
			all = append(all, figure{"cluster", k, c.Diff}, figure{"cluster, known", k, c.Known})
		}
		all = append(all, figure{"owed", k, c.Owed})
		for s, part := range c.Segments {
			all = append(all, figure{"segment", k + s, part.Diff})
		}
	}
	for k, p := range b.Products {
		all = append(all, figure{"product", k, p.Control}, figure{"product, diff", k, p.Diff})
	}
	for k, d := range b.Days {
		all = append(all, figure{"day", fmt.Sprint(k), d.Diff})
	}
	for k, m := range b.Moves {
		all = append(all, figure{"move", fmt.Sprint(k), m.Candidate - m.Control})
	}
	for k, c := range b.Causes {
		all = append(all, figure{"cause", string(k), c.Diff})
	}
	for k, m := range b.MissingBy {
		all = append(all, figure{"missing", k, m.Control})
	}
	return all
}

// Customers, products, days, moves and causes are the same lines, cut in other ways.
func TestEachViewAddsUpToTheTotals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := ledgerOf(anyOrders(t, modest))
		for currency, b := range l.Books {
			type totals struct {
				Lines, Pieces int64
				Control, Diff Units
			}
			want := totals{b.Compared.Lines, b.Pieces, b.Compared.Control, b.Candidate - b.Compared.Control}
			views := map[string]*totals{"clusters": {Pieces: b.Pieces}, "products": {}, "days": {Pieces: b.Pieces}, "moves": {}, "causes": {Pieces: b.Pieces}, "months": {Lines: want.Lines, Diff: want.Diff}}
			add := func(view string, lines, pieces int64, control, diff Units) {
				v := views[view]
				*v = totals{v.Lines + lines, v.Pieces + pieces, v.Control + control, v.Diff + diff}
			}
			for _, c := range b.Clusters {
				add("clusters", c.Lines, 0, c.Control, c.Diff)
				if c.Rise+c.Fall > c.Lines {
					t.Fatalf("%d lines rise and %d fall of %d", c.Rise, c.Fall, c.Lines)
				}
			}
			for _, p := range b.Products {
				add("products", p.Lines, p.Pieces, p.Control, p.Diff)
				for _, s := range p.Months {
					add("months", 0, s.Pieces, s.Control, 0)
				}
				if p.All.N != p.Lines || p.Registered.N > p.All.N {
					t.Fatalf("moments of %d and %d lines, want %d", p.All.N, p.Registered.N, p.Lines)
				}
			}
			for _, d := range b.Days {
				add("days", d.Lines, 0, d.Control, d.Diff)
			}
			for _, m := range b.Moves {
				add("moves", m.Lines, m.Pieces, m.Control, m.Candidate-m.Control)
			}
			for _, c := range b.Causes {
				add("causes", c.Lines, 0, c.Control, c.Diff)
			}
			for view, got := range views {
				if *got != want {
					t.Fatalf("%s, %s: %+v, want %+v", currency, view, *got, want)
				}
			}
			if n := b.Rise.Diff + b.Fall.Diff; n != want.Diff {
				t.Fatalf("rise and fall make %d, want %d", n, want.Diff)
			}
		}
	})
}

// Sums do not depend on the order in which orders come, and of two examples that
// differ by the same the same one is kept.
func TestShuffledOrdersMakeTheSameLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := anyOrders(t, rapid.SampledFrom([]*rapid.Generator[int64]{modest, rapid.Int64Range(0, 2)}).Draw(t, "amounts"))
		for shift := 10; len(orders) > 0 && len(orders) < 2*MaxWorst; shift *= 2 { // more than are kept as examples
			again := cloned(orders)
			for i := range again {
				again[i].Partition += shift
			}
			orders = append(orders, again...)
		}
		want := whole(t, ledgerOf(cloned(orders)))
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		rng.Shuffle(len(orders), func(i, k int) { orders[i], orders[k] = orders[k], orders[i] })
		if diff := cmp.Diff(want, whole(t, ledgerOf(orders))); diff != "" {
			t.Fatalf("shuffled (-want +got):\n%s", diff)
		}
	})
}

// The worst are those whose orders differ most, as sorting all of them says.
func TestTheWorstAreTheWorst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var orders []Order
		for i := range rapid.IntRange(0, 60).Draw(t, "orders") {
			paid, quoted := rapid.Int64Range(1, 9).Draw(t, "paid"), rapid.Int64Range(1, 9).Draw(t, "quoted")
			orders = append(orders, Order{Topic: "t", Offset: int64(i), Lines: []Line{{Line: 1, Product: "p", Currency: "GBP", Quantity: 1, Control: paid, Paid: paid, Candidate: quoted, Quoted: quoted}}})
		}
		type place struct {
			at   string
			diff Units
		}
		var want []place
		for _, o := range orders {
			if d := o.Lines[0].Diff(); d != 0 {
				want = append(want, place{fmt.Sprint("t/0/", o.Offset), d})
			}
		}
		slices.SortFunc(want, func(a, b place) int {
			if d := magnitude(b.diff) - magnitude(a.diff); d != 0 {
				return int(d)
			}
			if a.at < b.at {
				return -1
			}
			return 1
		})
		want = want[:min(len(want), MaxWorst)]
		var got []place
		for _, e := range ledgerOf(orders).Book("GBP").Worst {
			got = append(got, place{e.At, e.Diff})
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(place{})); diff != "" {
			t.Fatalf("the worst (-want +got):\n%s", diff)
		}
	})
}

// Prices that are k times as high make differences that are k times as large, and
// moves that are the same.
func TestScaledPricesScaleEverySum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := anyOrders(t, modest)
		k := rapid.Int64Range(2, 1000).Draw(t, "times")
		scaled := cloned(orders)
		for i := range scaled {
			for j := range scaled[i].Lines {
				n := &scaled[i].Lines[j]
				n.Control, n.Candidate, n.Paid, n.Quoted, n.Cost = k*n.Control, k*n.Candidate, k*n.Paid, k*n.Quoted, k*n.Cost
			}
		}
		one, other := ledgerOf(orders), ledgerOf(scaled)
		for currency, b := range one.Books {
			s := other.Books[currency]
			got := []Units{s.Consumed.Control, s.Compared.Control, s.Candidate, s.Rise.Diff, s.Fall.Diff, s.Known.Cost, s.Below.Diff, s.Volume}
			for i, u := range []Units{b.Consumed.Control, b.Compared.Control, b.Candidate, b.Rise.Diff, b.Fall.Diff, b.Known.Cost, b.Below.Diff, b.Volume} {
				if got[i] != k*u {
					t.Fatalf("%s, figure %d: %d, want %d times %d", currency, i, got[i], k, u)
				}
			}
			for bin, m := range b.Moves {
				if x := s.Moves[bin]; x == nil || x.Lines != m.Lines || x.Candidate != k*m.Candidate {
					t.Fatalf("%s, move %d: %+v, want that of %+v", currency, bin, x, m)
				}
			}
			for key, c := range b.Clusters {
				if x := s.Clusters[key]; x.Diff != k*c.Diff || x.Highest != c.Highest || x.Orders != c.Orders || x.Owed != k*c.Owed {
					t.Fatalf("%s, customer %s: %+v, want that of %+v", currency, key, x, c)
				}
			}
		}
	})
}

// A candidate that charges what was paid differs nowhere.
func TestTheSameCandidateDiffersNowhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := anyOrders(t, modest)
		for i := range orders {
			for k := range orders[i].Lines {
				n := &orders[i].Lines[k]
				n.Candidate, n.Quoted, n.Cause = n.Control, n.Paid, Same
			}
		}
		for currency, b := range ledgerOf(orders).Books {
			if b.Candidate != b.Compared.Control || b.Rise.Lines != 0 || b.Fall.Lines != 0 || len(b.Worst) != 0 || b.Pairs != (Square{}) || b.Below != b.ControlBelow {
				t.Fatalf("%s: %+v", currency, b)
			}
			for bin, m := range b.Moves {
				if bin != 0 || m.Candidate != m.Control {
					t.Fatalf("%s: a move in bin %d: %+v", currency, bin, m)
				}
			}
			for key, p := range b.Products {
				if p.Lowest != 0 || p.Highest != 0 || p.Diff != 0 {
					t.Fatalf("%s, product %s: %+v", currency, key, p)
				}
			}
		}
	})
}

// rowsOf gives the JSON of each row by its kind, currency and key.
func rowsOf(t *rapid.T, l *Ledger) map[string]string {
	all := map[string]string{}
	put := func(kind, currency string, key, v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprint(kind, "/", currency, "/", key)] = string(raw)
	}
	for currency, b := range l.Books {
		for k, v := range b.Clusters {
			put("cluster", currency, k, v)
		}
		for k, v := range b.Products {
			put("product", currency, k, v)
		}
		for k, v := range b.Moves {
			put("move", currency, k, v)
		}
		for k, v := range b.Days {
			put("day", currency, k, v)
		}
	}
	return all
}

// TakeChanges names each row that has changed since, once, and none that no order has
// touched.
func TestChangesAreWhatHasChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := anyOrders(t, modest)
		l := NewLedger()
		for len(orders) > 0 {
			before := rowsOf(t, l)
			n := rapid.IntRange(1, len(orders)).Draw(t, "batch")
			touched := map[string]bool{}
			for i := range orders[:n] {
				o := &orders[i]
				l.Take(o)
				for _, x := range o.Lines {
					for _, key := range []string{"cluster/" + x.Currency + "/" + o.Cluster, "product/" + x.Currency + "/" + x.Product,
						fmt.Sprint("move/", x.Currency, "/", binOf(&x)), fmt.Sprint("day/", x.Currency, "/", o.Day)} {
						touched[key] = true
					}
				}
			}
			orders = orders[n:]
			told := map[string]bool{}
			tell := func(kind, currency string, key any) {
				k := fmt.Sprint(kind, "/", currency, "/", key)
				if told[k] {
					t.Fatalf("%s is told twice", k)
				}
				if told[k] = true; !touched[k] {
					t.Fatalf("%s is told, and nothing has touched it", k)
				}
			}
			for currency, b := range l.Books {
				c := b.TakeChanges()
				for _, k := range c.Clusters {
					tell("cluster", currency, k)
				}
				for _, k := range c.Products {
					tell("product", currency, k)
				}
				for _, k := range c.Moves {
					tell("move", currency, k)
				}
				for _, k := range c.Days {
					tell("day", currency, k)
				}
				if again := b.TakeChanges(); len(again.Clusters)+len(again.Products)+len(again.Moves)+len(again.Days) > 0 {
					t.Fatalf("told again: %+v", again)
				}
			}
			for k, v := range rowsOf(t, l) {
				if v != before[k] && !told[k] {
					t.Fatalf("%s has changed and is not told", k)
				}
			}
		}
	})
}

// A ledger that was written down and read goes on as one that was kept in memory.
func TestALedgerThatWasReadGoesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := anyOrders(t, modest)
		kept, read := NewLedger(), NewLedger()
		for i, o := range cloned(orders) {
			kept.Take(&orders[i])
			read = reread(t, read)
			read.Take(&o)
		}
		if diff := cmp.Diff(whole(t, kept), whole(t, reread(t, read))); diff != "" {
			t.Fatalf("kept and read again (-kept +read):\n%s", diff)
		}
	})
}

// reread is a ledger by way of its rows.
func reread(t *rapid.T, l *Ledger) *Ledger {
	again := &Ledger{}
	pass(t, l, again)
	again.Books = map[string]*Book{}
	for currency, b := range l.Books {
		n := &Book{}
		pass(t, b, n)
		n.Fill()
		copied(t, n.Clusters, b.Clusters)
		copied(t, n.Products, b.Products)
		copied(t, n.Moves, b.Moves)
		copied(t, n.Days, b.Days)
		again.Books[currency] = n
	}
	return again
}

func pass(t *rapid.T, from, to any) {
	raw, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(raw, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func copied[K comparable, V any](t *rapid.T, to, from map[K]*V) {
	for k, v := range from {
		to[k] = new(V)
		pass(t, v, to[k])
	}
}

func TestPPMIsCutToWholeOnes(t *testing.T) {
	for _, c := range []struct {
		candidate, control Units
		want               int64
	}{
		{110, 100, 100_000}, {90, 100, -100_000}, {100, 100, 0}, {0, 100, -1_000_000}, {4, 3, 333_333}, {2, 3, -333_333},
		{1_000_002, 1_000_001, 0}, {1_000_000, 1_000_001, 0}, {5, 0, 0}, {5, -5, 0},
		{math.MaxInt64, 1, farthest}, {math.MaxInt64, math.MaxInt64 - 1, 0}, {math.MinInt64, 1, -farthest}, {1001, 1, 1_000_000_000}, {1000, 1, 999_000_000},
		{math.MinInt64, math.MaxInt64, -2_000_000},
	} {
		if got := PPM(c.candidate, c.control); got != c.want {
			t.Errorf("PPM(%d, %d) = %d, want %d", c.candidate, c.control, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		candidate, control := wild.Draw(t, "candidate"), rapid.Int64Range(1, math.MaxInt64).Draw(t, "control")
		if got, want := PPM(candidate, control)/BinWidth, binOf(&Line{Quoted: candidate, Paid: control}); got != want && got-1 != want {
			t.Fatalf("PPM(%d, %d) lies in bin %d, want %d", candidate, control, got, want)
		}
		low, high := bounds(candidate, control)
		exact := new(big.Rat).SetFrac(new(big.Int).Sub(big.NewInt(candidate), big.NewInt(control)), big.NewInt(control))
		exact.Mul(exact, big.NewRat(1_000_000, 1))
		if low <= -farthest || high >= farthest {
			return // no bound, and known as none
		}
		if exact.Cmp(big.NewRat(low, 1)) < 0 || exact.Cmp(big.NewRat(high, 1)) > 0 || high-low > 1 {
			t.Fatalf("the move from %d to %d is %s ppm, and not between %d and %d", control, candidate, exact.FloatString(3), low, high)
		}
	})
}

func TestTimesIsExactOrSaysSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := wild.Draw(t, "a"), wild.Draw(t, "b")
		want := new(big.Int).Mul(big.NewInt(a), big.NewInt(b))
		got, ok := Times(a, b)
		if fits := want.IsInt64() && want.Int64() != math.MinInt64; ok && (!want.IsInt64() || want.Int64() != got) || !ok && fits && a != math.MinInt64 && b != math.MinInt64 {
			t.Fatalf("%d times %d is %d, %v; want %s", a, b, got, ok, want)
		}
	})
}

func TestMonthsAreThoseOfTheCalendar(t *testing.T) {
	for day := int32(-719_162); day < 2_932_897; day += 29 { // from the year 1 to 9999
		at := time.Unix(int64(day)*86_400, 0).UTC()
		if got, want := monthOf(day), int32(at.Year()*12+int(at.Month())-1); got != want {
			t.Fatalf("day %d (%s) is in month %d, want %d", day, at.Format(time.DateOnly), got, want)
		}
	}
}

// Of a price that falls by half at elasticity -1 twice as much is wanted: 20 pieces of
// which 15 were there, so that 5 at half the price were not sold.
func TestCapsCountWhatStockWouldNotAllow(t *testing.T) {
	l := NewLedger()
	l.Take(&Order{Lines: []Line{{Line: 1, Product: "p", Currency: "GBP", Quantity: 10, Control: 2 * Whole, Paid: 20 * Whole, Candidate: Whole, Quoted: 10 * Whole,
		Cost: Whole / 2, CostKnown: true, Stock: 15, StockKnown: true, Cause: Policy}}})
	got := l.Book("GBP").Caps
	at := slices.Index(CapGrid, -1000)
	if want := (Cap{Lines: 1, Revenue: 5 * Whole, Margin: 5 * Whole / 2}); got[at] != want {
		t.Errorf("at elasticity -1: %+v, want %+v", got[at], want)
	}
	if got[0].Lines != 0 {
		t.Errorf("at -0.5 14.1 pieces are wanted of 15, but %+v", got[0])
	}
	// A price cut to nothing asks for more than there is to count.
	for range 3 {
		l.Take(&Order{Lines: []Line{{Line: 1, Product: "p", Currency: "JPY", Quantity: 1, Control: maxVolume / 8, Paid: maxVolume / 8, Candidate: 1, Quoted: 1,
			Cost: maxVolume / 8, CostKnown: true, Stock: 1, StockKnown: true, Cause: Policy}}})
	}
	for i, c := range l.Book("JPY").Caps {
		if c.Lines != 3 || c.Revenue <= 0 || c.margin() >= 0 {
			t.Errorf("at %d thousandths: %+v", CapGrid[i], c)
		}
	}
}

func TestEmptyLedgersAreAlike(t *testing.T) {
	if got := ledgerOf(nil); len(got.Books) != 0 || got.Consumed != 0 || len(got.Currencies()) != 0 {
		t.Errorf("nothing makes %+v", got)
	}
	sold := func() []Line {
		return []Line{{Currency: "GBP", Quantity: 1, Control: 1, Candidate: 1, Paid: 1, Quoted: 1}}
	}
	l := ledgerOf([]Order{{Reason: NoLines, Day: -9}, {Day: 2, Lines: sold()}, {Day: -3, Lines: sold()}, {Reason: Unreadable, Day: 15},
		{Day: 9, Added: true, Lines: []Line{{Currency: "GBP", Reason: Free}}}})
	// What was not compared moves no day: nobody knows when a snapshot's orders were placed.
	if want := map[Reason]int64{NoLines: 1, Unreadable: 1}; !maps.Equal(l.Excluded, want) || l.FirstDay != -3 || l.LastDay != 2 || l.Consumed != 4 {
		t.Errorf("%+v, want %v from day -3 to day 2", l, want)
	}
}
