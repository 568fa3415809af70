package expression

import (
	"math"

	"banyan/money"
)

// Sums and products of numbers and money are what most expressions are made of.
// Between the nodes of one they are passed as a number, which needs no memory
// of its own; only what an expression gives in the end becomes an any.

// number is a value, unpacked where it is a whole number or an amount. It has
// four words: larger structs the compiler does not keep in registers.
type number struct {
	form form
	n    int64 // the whole number, or the units of the amount
	// like is an amount of the scale and currency; where the form is packed, the
	// value itself.
	like any
}

type form uint8

const (
	null form = iota
	whole
	sumOfMoney
	packed
)

func unpack(v any) number {
	switch a := v.(type) {
	case nil:
		return number{}
	case int64:
		return number{form: whole, n: a}
	case money.Amount:
		return number{sumOfMoney, a.Amount, v}
	}
	return number{form: packed, like: v}
}

func (x number) amount() money.Amount {
	a, _ := x.like.(money.Amount)
	a.Amount = x.n
	return a
}

func (x number) pack() any {
	switch x.form {
	case null:
		return nil
	case whole:
		return x.n
	case sumOfMoney:
		a := x.amount()
		if was, _ := x.like.(money.Amount); was.Amount == x.n {
			return x.like
		}
		return a
	}
	return x.like
}

// numeric is a node that can give its value unpacked.
type numeric interface {
	number(in Input, at *cursor) (number, error)
}

func numberOf(n node, in Input, at *cursor) (number, error) {
	if n, ok := n.(numeric); ok {
		return n.number(in, at)
	}
	v, err := n.eval(in, at)
	return unpack(v), err
}

// arithNode is + - and *.
type arithNode struct {
	ops         ops
	sign        byte
	left, right node
}

func (n *arithNode) eval(in Input, at *cursor) (any, error) {
	x, err := n.number(in, at)
	if err != nil {
		return nil, err
	}
	return x.pack(), nil
}

func (n *arithNode) number(in Input, at *cursor) (number, error) {
	x, err := numberOf(n.left, in, at)
	if err != nil {
		return number{}, err
	}
	y, err := numberOf(n.right, in, at)
	if err != nil {
		return number{}, err
	}
	return n.ops.arith(n.sign, x, y)
}

// arith gives what add, subtract and times do, and leaves to them all that is
// not plain.
func (o ops) arith(sign byte, x, y number) (number, error) {
	if x.form == null || y.form == null {
		return number{}, nil
	}
	switch {
	case x.form == whole && y.form == whole:
		if n, ok := wholes(sign, x.n, y.n); ok {
			return number{form: whole, n: n}, nil
		}
	case x.form == sumOfMoney && (sign == '*' && y.form == whole || sign != '*' && y.form == sumOfMoney && alike(x, y)):
		// The smallest int64 is left to money, which refuses what has no opposite.
		if n, ok := wholes(sign, x.n, y.n); ok && n != math.MinInt64 && y.n != math.MinInt64 {
			return number{sumOfMoney, n, x.like}, nil
		}
	case sign == '*' && x.form == whole && y.form == sumOfMoney:
		return o.arith('*', y, x)
	}
	var v any
	var err error
	switch sign {
	case '+':
		v, err = o.add(x.pack(), y.pack())
	case '-':
		v, err = o.subtract(x.pack(), y.pack())
	default:
		v, err = o.times(x.pack(), y.pack())
	}
	return unpack(v), err
}

// alike says whether two amounts have one scale and currency.
func alike(x, y number) bool {
	a, _ := x.like.(money.Amount)
	b, _ := y.like.(money.Amount)
	return a.Scale == b.Scale && a.Currency == b.Currency
}

// wholes computes where nothing overflows.
func wholes(sign byte, a, b int64) (int64, bool) {
	switch sign {
	case '+':
		s := a + b
		return s, (s > a) == (b > 0)
	case '-':
		s := a - b
		return s, (s < a) == (b > 0)
	}
	return product(a, b)
}

// sumNode adds up the items of a list, or what each computes of them. NULLs are
// left out; the sum of nothing is zero, of money where the items are known to
// be money.
type sumNode struct {
	ops  ops
	list node
	each node // nil for the items themselves
	zero any
}

func (n *sumNode) eval(in Input, at *cursor) (any, error) {
	x, err := n.number(in, at)
	if err != nil {
		return nil, err
	}
	return x.pack(), nil
}

func (n *sumNode) number(in Input, at *cursor) (number, error) {
	list, err := evalList(n.ops, "sum", n.list, in, at)
	if err != nil {
		return number{}, err
	}
	total := unpack(n.zero)
	c := within(at)
	for i, v := range list {
		var x number
		if n.each == nil {
			x = unpack(v)
		} else {
			if err := c.next(v, i); err != nil {
				return number{}, err
			}
			if x, err = numberOf(n.each, in, c); err != nil {
				return number{}, err
			}
		}
		switch {
		case x.form == null:
			continue
		case total.form == whole && total.n == 0 && x.form == sumOfMoney:
			total = x
			continue
		}
		if total, err = n.ops.arith('+', total, x); err != nil {
			return number{}, err
		}
	}
	return total, nil
}
