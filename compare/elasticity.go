package compare

import (
	"fmt"
	"math"
	"math/big"
	"slices"

	"banyan/compare/stats"
)

const (
	// leastRows and leastSpread are from how many lines, and from which deviation of the
	// logarithm of its price, a product has a slope of its own in the median: of one
	// whose price moves by a penny the slope is an accident.
	leastRows   = 20
	leastSpread = 0.01
)

// slope is how quantity went with price within products: sums of the products of
// deviations from the product's own means.
type slope struct {
	xx, xy float64
	n      int64
}

// within takes the product's own level out of its moments. ok is false where its price
// never moved, which tells nothing.
func (m Moments) within() (s slope, ok bool) {
	if m.N < 2 {
		return slope{}, false
	}
	s = slope{xx: deviations(m.N, m.XX, m.X, m.X), xy: deviations(m.N, m.XY, m.X, m.Y), n: m.N}
	return s, s.xx > 0
}

// deviations is the sum of the products of deviations from two means, of which the
// product's sum and the two sums are known. It is exact up to the last step: as floats
// the two terms would leave nothing but rounding of each other.
func deviations(n, product, one, other int64) float64 {
	d := new(big.Int).Mul(big.NewInt(n), big.NewInt(product))
	d.Sub(d, new(big.Int).Mul(big.NewInt(one), big.NewInt(other)))
	f, _ := new(big.Float).SetInt(d).Float64()
	return f / float64(n)
}

// spread is the deviation of the logarithm of the price.
func (s slope) spread() float64 { return LogUnit * math.Sqrt(s.xx/float64(s.n)) }

// ownElasticity answers, in several ways, how demand in this shop went with price. None
// of them is the answer: prices of the past were not set by lot, and each way is misled
// in its own direction, which its Trap says. Ways that fewer than two products can speak
// for are left out; where no second way is left the list is empty, because one number
// alone would be taken for the truth.
func ownElasticity(b *Book) ([]OwnElasticity, error) {
	keys := sortedKeys(b.Products)
	var all, registered []slope
	for _, k := range keys {
		if s, ok := b.Products[k].All.within(); ok {
			all = append(all, s)
		}
		if s, ok := b.Products[k].Registered.within(); ok {
			registered = append(registered, s)
		}
	}
	list := []OwnElasticity{}
	add := func(e OwnElasticity, ok bool) {
		if ok {
			e.Estimate, e.Error = rounded(e.Estimate, elasticityDecimals), rounded(e.Error, elasticityDecimals)
			list = append(list, e)
		}
	}
	add(pooled(all, "within products, all lines",
		"who buys many gets a lower price, so that the size of an order moves the price and not the other way round: too elastic"))
	add(pooled(registered, "within products, registered customers",
		"as with all lines, and wholesale customers, who have the quantity prices, weigh more"))
	add(median(all))
	changes := monthly(b, keys)
	e, ok, err := changes.fit("changes from month to month", "seasons move demand and price together, and a month out of stock looks like one without demand")
	if err != nil {
		return nil, err
	}
	add(e, ok)
	changes.lessMonths()
	e, ok, err = changes.fit("changes from month to month, less those of all products",
		"the mean price of a month falls when large orders fall into it: part of it is the size of orders again")
	if err != nil {
		return nil, err
	}
	add(e, ok)
	if len(list) < 2 {
		return []OwnElasticity{}, nil
	}
	return list, nil
}

// pooled is one slope for all products, with the sandwich error clustered by product.
func pooled(products []slope, method, trap string) (OwnElasticity, bool) {
	if len(products) < 2 {
		return OwnElasticity{}, false
	}
	e := OwnElasticity{Method: method, Products: len(products), Trap: trap}
	var xx, xy float64
	for _, s := range products {
		xx, xy = xx+s.xx, xy+s.xy
		e.Rows += s.n
	}
	e.Estimate = xy / xx
	var scores float64
	for _, s := range products {
		score := s.xy - e.Estimate*s.xx
		scores += score * score
	}
	g := float64(len(products))
	e.Error = math.Sqrt(g/(g-1)*scores) / xx
	return e, true
}

// median is the middle of the products' own slopes.
func median(products []slope) (OwnElasticity, bool) {
	e := OwnElasticity{Method: fmt.Sprintf("median of the slopes of products with %d lines or more", leastRows),
		Trap: "each slope is noisy, a product of which one is sold a day counts like the best seller, and quantity prices are in it as well"}
	var slopes []float64
	for _, s := range products {
		if s.n >= leastRows && s.spread() >= leastSpread {
			slopes = append(slopes, s.xy/s.xx)
			e.Rows += s.n
		}
	}
	if len(slopes) < 2 {
		return OwnElasticity{}, false
	}
	slices.Sort(slopes)
	half := len(slopes) / 2
	e.Estimate = slopes[half]
	if len(slopes)%2 == 0 {
		e.Estimate = (slopes[half-1] + slopes[half]) / 2
	}
	e.Products = len(slopes)
	return e, true
}

// monthChanges are changes of a product from one month to the next, in logarithms.
type monthChanges struct {
	price, pieces []float64
	product       []int
	month         []int32
}

func monthly(b *Book, keys []string) *monthChanges {
	c := &monthChanges{}
	for i, k := range keys {
		months := b.Products[k].Months
		for _, month := range sortedKeys(months) {
			before, ok := months[month-1]
			now := months[month]
			if !ok || before.Pieces <= 0 || now.Pieces <= 0 || before.Control <= 0 || now.Control <= 0 {
				continue
			}
			pieces := math.Log(float64(now.Pieces) / float64(before.Pieces))
			c.pieces = append(c.pieces, pieces)
			c.price = append(c.price, math.Log(float64(now.Control)/float64(before.Control))-pieces)
			c.product, c.month = append(c.product, i), append(c.month, month)
		}
	}
	return c
}

// lessMonths takes out of each change what all products did in that month.
func (c *monthChanges) lessMonths() {
	price, pieces, count := map[int32]float64{}, map[int32]float64{}, map[int32]float64{}
	for i, m := range c.month {
		price[m] += c.price[i]
		pieces[m] += c.pieces[i]
		count[m]++
	}
	for i, m := range c.month {
		c.price[i] -= price[m] / count[m]
		c.pieces[i] -= pieces[m] / count[m]
	}
}

// fit is the slope of the changes, with errors clustered by product. ok is false where
// prices did not change, or for fewer than two products.
func (c *monthChanges) fit(method, trap string) (e OwnElasticity, ok bool, err error) {
	groups := stats.Group(c.product)
	if groups.Count() < 2 || len(c.price) < 3 || stats.MomentsOf(c.price).Deviation() < LogUnit {
		return OwnElasticity{}, false, nil
	}
	fit, err := stats.OLS(c.pieces, c.price)
	if err != nil {
		return OwnElasticity{}, false, fmt.Errorf("elasticity by %s: %w", method, err)
	}
	errs, err := fit.Clustered(groups)
	if err != nil {
		return OwnElasticity{}, false, fmt.Errorf("errors of the elasticity by %s: %w", method, err)
	}
	return OwnElasticity{Method: method, Estimate: fit.Coefficients[1], Error: errs.SE[1], Products: groups.Count(),
		Rows: int64(len(c.price)), Trap: trap}, true, nil
}
